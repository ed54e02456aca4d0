/* Selective scan over K directions, forward and backward, for CPUs. Plain C99, no dependency but OpenMP if present.

   One direction k of one batch entry b, one channel c, N states n, step p at token i = order[k][p]:

       v     = bias + sum_r W[r] low[i][r]          (or v = delta[i] + bias, when delta is given)
       dt    = softplus(v)                          (or v)
       s[n]  = exp(dt A[n]) s[n] + dt x[i] B[i][n]
       y[i] += sum_n C[i][n] s[n] + D x[i]

   Lanes are channels: every inner loop runs over LANES neighbouring channels, which the compiler turns into vector
   instructions. Steps are taken in chunks of STEPS: a chunk's rows are loaded into tiles, softplus is applied to the
   whole tile, then the recurrence runs from the tiles. The backward pass recomputes a chunk from its saved first
   state. Tensors are addressed by strides, so no permuted, transposed or contiguous copy is ever made.

   A task is a range of channels, and each sum is taken in one fixed order, so results do not depend on the threads. */

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define LANES 16
#define STEPS 16
#define LOG2E 1.4426950408889634
#define LN2 0.6931471805599453
#define SOFTPLUS_IDENTITY 20 /* softplus(v) = v above, as in PyTorch and in the published kernel */
#define FOR_LANES _Pragma("omp simd") for (int i = 0; i < LANES; i++)

#ifdef POSESCALE_DOUBLE
typedef double real;
#else
typedef float real;
#endif

/* A tensor addressed by batch entry, direction (or source), token and channel (or state, or rank). */
typedef struct {
    real *data;
    int64_t b, k, l, c;
} View;

typedef struct {
    int64_t batch, directions, length, channels, states, rank; /* B K L D N R */
    int64_t softplus, merge, threads;
    int64_t width;          /* blocks of LANES channels per task */
    int64_t batch_groups;   /* tasks along the batch, each with its own sum of parameter gradients */
    const int32_t *order;   /* (K, L), or NULL for 0, 1, 2 ... */
    const int64_t *source;  /* (K): x.k index of each direction */
    const real *A;          /* (K, D, N) */
    const real *D;          /* (K, D) or NULL */
    const real *W;          /* (K, D, R) or NULL */
    const real *bias;       /* (K, D) or NULL */
    View x, delta, low, B, C, y; /* delta.data NULL: v comes from low and W */
    real *saved;            /* (B, K, chunks, blocks, N, LANES): the state before each chunk, or NULL */
} Scan;

typedef struct {
    View y;                 /* given */
    View x;                 /* added to */
    View delta, low, B, C;  /* written */
    real *A, *D, *W, *bias; /* written, one slice per batch group: (G, K, D, .) */
    real *partial;          /* (tasks along channels, B, L, R + 2N): scratch, reused by each direction */
} Gradients;

/* ---- elementary functions -------------------------------------------------------------------------------------- */

#ifdef POSESCALE_DOUBLE

static inline real power2(real x) { return exp2(x); }
static inline real softplus(real v) { return v > SOFTPLUS_IDENTITY ? v : log1p(exp(v)); }
static inline real softplus_slope(real v) { return v > SOFTPLUS_IDENTITY ? 1 : 1 / (1 + exp(-v)); }

#else

typedef union {
    float f;
    uint32_t u;
} Bits;

/* 2^f for |f| <= 1/2, error 3e-9. Exactly 1 at 0 and with slope ln 2 there: slow decays amplify any bias near 1. */
static inline float power2_fraction(float f) {
    return 1.0f + f * (0.69314718f + f * (0.24022648f + f * (0.055503622f + f * (0.0096185263f +
           f * (0.0013390162f + f * 0.00015321154f)))));
}

/* Adding MAGIC rounds to an integer and leaves it in the low bits of the sum. */
#define MAGIC 12582912.0f

static inline float scaled(float p, float shifted) { /* p 2^n, shifted = MAGIC + n */
    Bits n, r;
    n.f = shifted;
    r.f = p;
    r.u += n.u << 23;
    return r.f;
}

/* 2^x; 0 below 2^-127, infinity from 2^128: at both clamps the fraction is 0. NaN stays NaN. */
static inline float power2(float x) {
    float low = x < -127.0f ? -127.0f : x, t = low > 128.0f ? 128.0f : low;
    float shifted = t + MAGIC;
    return scaled(power2_fraction(t - (shifted - MAGIC)), shifted);
}

/* e^-|v| with the reduction split in two parts: the argument's rounding would cost digits where softplus is tiny. */
static inline float exp_minus_abs(float v) {
    float x = v < 0 ? v : -v;
    float t = x < -87.0f ? -87.0f : x;
    float shifted = t * (float)LOG2E + MAGIC;
    float n = shifted - MAGIC;
    float r = (t - n * 0.693359375f) + n * 2.12194440e-4f;
    return scaled(power2_fraction(r * (float)LOG2E), shifted);
}

/* max(v, 0) + log1p(z), z = e^-|v|, by log1p(z) = 2 artanh(q), q = z / (2 + z) <= 1/3. */
static inline float softplus(float v) {
    float z = exp_minus_abs(v);
    float q = z / (2.0f + z), w = q * q;
    float series = 1.0f + w * (1.0f / 3 + w * (1.0f / 5 + w * (1.0f / 7 + w * (1.0f / 9 + w * (1.0f / 11 + w / 13)))));
    float s = (v > 0 ? v : 0) + 2.0f * q * series;
    return v <= SOFTPLUS_IDENTITY ? s : v;
}

static inline float softplus_slope(float v) {
    float z = exp_minus_abs(v);
    float s = (v < 0 ? z : 1.0f) / (1.0f + z);
    return v <= SOFTPLUS_IDENTITY ? s : v > SOFTPLUS_IDENTITY ? 1.0f : v;
}

#endif

/* ---- tiles: rows of a view, one per step of a chunk ------------------------------------------------------------- */

/* The first `count` numbers of each step's row; the rest of a tile's row becomes 0. */
static void load(real *restrict tile, int64_t pitch, View v, int64_t at, const int64_t *token, int steps,
                 int64_t count) {
    for (int t = 0; t < steps; t++, tile += pitch) {
        const real *row = v.data + at + token[t] * v.l;
        if (v.c == 1)
            memcpy(tile, row, (size_t)count * sizeof(real));
        else
            for (int64_t i = 0; i < count; i++) tile[i] = row[i * v.c];
        for (int64_t i = count; i < pitch; i++) tile[i] = 0;
    }
}

static void store(const real *restrict tile, View v, int64_t at, const int64_t *token, int steps, int64_t count,
                  int add) {
    for (int t = 0; t < steps; t++, tile += LANES) {
        real *row = v.data + at + token[t] * v.l;
        if (v.c == 1 && !add)
            memcpy(row, tile, (size_t)count * sizeof(real));
        else
            for (int64_t i = 0; i < count; i++) row[i * v.c] = add ? row[i * v.c] + tile[i] : tile[i];
    }
}

/* rows x columns of a parameter (one row per channel) to columns x LANES, zero beyond the last channel. */
static void load_parameter(real *restrict to, const real *from, int64_t lanes, int64_t columns, real scale) {
    for (int64_t n = 0; n < columns; n++)
        FOR_LANES to[n * LANES + i] = from && i < lanes ? from[i * columns + n] * scale : 0;
}

static void store_parameter(real *to, const real *restrict from, int64_t lanes, int64_t columns, real scale) {
    for (int64_t i = 0; to && i < lanes; i++)
        for (int64_t n = 0; n < columns; n++) to[i * columns + n] = from[n * LANES + i] * scale;
}

/* ---- one block of LANES channels ------------------------------------------------------------------------------- */

typedef struct { /* what a block keeps while its task walks along a direction */
    real *A, *W, *bias, *D, *state;             /* A in units of log 2: exp(dt A) = 2^(dt A') */
    real *grad_A, *grad_W, *grad_bias, *grad_D; /* sums of the backward pass */
    int64_t channel, lanes;
} Block;

typedef struct { /* one chunk: rows shared by the task's blocks, then tiles of one block */
    int64_t token[STEPS];
    int steps;
    real *low, *B, *C;                           /* (STEPS, R), (STEPS, N), (STEPS, N) */
    real *x, *v, *dt, *y;                        /* (STEPS, LANES) */
    real *decay, *history;                       /* (STEPS, N, LANES): exp(dt A) and the state after each step */
    real *slope, *grad_x, *grad_v;               /* (STEPS, LANES) */
    real *rows;                                  /* (STEPS, R + 2N, LANES): row gradients, not yet summed over lanes */
} Chunk;

static void step_sizes(const Scan *s, const Block *k, const Chunk *q) {
    for (int t = 0; t < q->steps; t++) {
        real *restrict v = q->v + t * LANES, *restrict dt = q->dt + t * LANES;
        FOR_LANES v[i] = (s->delta.data ? v[i] : 0) + k->bias[i];
        for (int64_t r = 0; !s->delta.data && r < s->rank; r++) {
            const real *restrict w = k->W + r * LANES, low = q->low[t * s->rank + r];
            FOR_LANES v[i] += low * w[i];
        }
        if (s->softplus)
            FOR_LANES dt[i] = softplus(v[i]);
        else
            FOR_LANES dt[i] = v[i];
    }
}

static void load_block(const Scan *s, const Block *k, const Chunk *q, int64_t b, int64_t direction) {
    const View x = s->x, delta = s->delta;
    const int64_t c = k->channel, at = b * delta.b + direction * delta.k + c * delta.c;
    load(q->x, LANES, x, b * x.b + s->source[direction] * x.k + c * x.c, q->token, q->steps, k->lanes);
    if (delta.data) load(q->v, LANES, delta, at, q->token, q->steps, k->lanes);
    step_sizes(s, k, q);
}

/* The recurrence over one chunk. State n of all lanes at once; four states per pass keep the output in registers. */
static void forward_chunk(int64_t N, int steps, const Chunk *q, const Block *k) {
    for (int t = 0; t < steps; t++) {
        const real *restrict dt = q->dt + t * LANES, *restrict x = q->x + t * LANES, *restrict A = k->A;
        const real *restrict B = q->B + t * N, *restrict C = q->C + t * N, *restrict D = k->D;
        real *restrict y = q->y + t * LANES, *restrict h = k->state;
        int64_t n = 0;
        FOR_LANES y[i] = D[i] * x[i];
#define STATE(m)                                                                                          \
    const real h##m = power2(dt[i] * A[(n + m) * LANES + i]) * h[(n + m) * LANES + i] + dtx * B[n + m]; \
    h[(n + m) * LANES + i] = h##m;
        for (; n + 4 <= N; n += 4) FOR_LANES {
            const real dtx = dt[i] * x[i];
            STATE(0) STATE(1) STATE(2) STATE(3)
            y[i] += (h0 * C[n] + h1 * C[n + 1]) + (h2 * C[n + 2] + h3 * C[n + 3]);
        }
        for (; n < N; n++) FOR_LANES {
            const real dtx = dt[i] * x[i];
            STATE(0)
            y[i] += h0 * C[n];
        }
#undef STATE
    }
}

/* As forward_chunk, but keeps every decay and state instead of the output. */
static void recompute_chunk(int64_t N, int steps, const Chunk *q, const Block *k, const real *restrict first) {
    const real *restrict A = k->A;
    for (int t = 0; t < steps; t++) {
        const real *restrict dt = q->dt + t * LANES, *restrict x = q->x + t * LANES, *restrict B = q->B + t * N;
        const real *before = t ? q->history + (t - 1) * N * LANES : first;
        real *restrict decay = q->decay + t * N * LANES, *restrict h = q->history + t * N * LANES;
        for (int64_t n = 0; n < N; n++) FOR_LANES {
            const int64_t j = n * LANES + i;
            decay[j] = power2(dt[i] * A[j]);
            h[j] = decay[j] * before[j] + dt[i] * x[i] * B[n];
        }
    }
}

/* The adjoint of one chunk, last step first. k->state is the gradient that reaches the state from later steps. */
static void backward_chunk(int64_t N, int64_t R, int steps, const Chunk *q, const Block *k, const real *first) {
    const int64_t row = R + 2 * N;
    for (int t = steps - 1; t >= 0; t--) {
        const real *restrict dt = q->dt + t * LANES, *restrict x = q->x + t * LANES, *restrict dy = q->y + t * LANES;
        const real *restrict B = q->B + t * N, *restrict C = q->C + t * N, *restrict A = k->A, *restrict D = k->D;
        const real *restrict decay = q->decay + t * N * LANES, *restrict after = q->history + t * N * LANES;
        const real *restrict before = t ? q->history + (t - 1) * N * LANES : first;
        real *restrict g = k->state, *restrict grad_A = k->grad_A;
        real *restrict grad_B = q->rows + (t * row + R) * LANES, *restrict grad_C = grad_B + N * LANES;
        real along_dt[LANES] = {0}, along_dtx[LANES] = {0};
        int64_t n = 0;
#define STATE(m)                                                                                   \
    const int64_t j##m = (n + m) * LANES + i;                                                      \
    const real g##m = g[j##m] + dy[i] * C[n + m], e##m = g##m * decay[j##m], w##m = e##m * before[j##m]; \
    grad_C[j##m] += dy[i] * after[j##m];                                                           \
    grad_B[j##m] += g##m * dtx;                                                                    \
    grad_A[j##m] += w##m * dt[i];                                                                  \
    g[j##m] = e##m;
        for (; n + 4 <= N; n += 4) FOR_LANES {
            const real dtx = dt[i] * x[i];
            STATE(0) STATE(1) STATE(2) STATE(3)
            along_dtx[i] += (g0 * B[n] + g1 * B[n + 1]) + (g2 * B[n + 2] + g3 * B[n + 3]);
            along_dt[i] += (w0 * A[j0] + w1 * A[j1]) + (w2 * A[j2] + w3 * A[j3]);
        }
        for (; n < N; n++) FOR_LANES {
            const real dtx = dt[i] * x[i];
            STATE(0)
            along_dtx[i] += g0 * B[n];
            along_dt[i] += w0 * A[j0];
        }
#undef STATE
        real *restrict grad_x = q->grad_x + t * LANES, *restrict grad_v = q->grad_v + t * LANES;
        const real *restrict slope = q->slope + t * LANES;
        FOR_LANES {
            grad_x[i] = along_dtx[i] * dt[i] + D[i] * dy[i];
            grad_v[i] = (along_dt[i] * (real)LN2 + along_dtx[i] * x[i]) * slope[i];
            k->grad_D[i] += x[i] * dy[i];
            k->grad_bias[i] += grad_v[i];
        }
    }
}

/* The adjoint of v = bias + W low. */
static void backward_low_rank(int64_t N, int64_t R, const Chunk *q, const Block *k) {
    for (int t = 0; t < q->steps; t++)
        for (int64_t r = 0; r < R; r++) {
            const real *restrict grad_v = q->grad_v + t * LANES, *restrict W = k->W + r * LANES;
            real *restrict rows = q->rows + (t * (R + 2 * N) + r) * LANES, *restrict grad_W = k->grad_W + r * LANES;
            const real low = q->low[t * R + r];
            FOR_LANES {
                rows[i] += grad_v[i] * W[i];
                grad_W[i] += grad_v[i] * low;
            }
        }
}

/* ---- memory of one task ---------------------------------------------------------------------------------------- */

typedef struct {
    real *base; /* NULL while the size is being learnt */
    int64_t used;
} Arena;

static real *take(Arena *arena, int64_t count) {
    real *p = arena->base ? arena->base + arena->used : NULL;
    arena->used += (count + LANES - 1) / LANES * LANES;
    return p;
}

static int64_t lay_out(const Scan *s, int backward, Arena arena, Block *blocks, Chunk *q) {
    const int64_t N = s->states, R = s->rank, tile = STEPS * LANES;
    for (int64_t j = 0; j < s->width; j++) {
        Block *k = blocks + j;
        k->A = take(&arena, N * LANES), k->W = take(&arena, R * LANES), k->state = take(&arena, N * LANES);
        k->bias = take(&arena, LANES), k->D = take(&arena, LANES);
        if (!backward) continue;
        k->grad_A = take(&arena, N * LANES), k->grad_W = take(&arena, R * LANES);
        k->grad_bias = take(&arena, LANES), k->grad_D = take(&arena, LANES);
    }
    q->low = take(&arena, STEPS * R), q->B = take(&arena, STEPS * N), q->C = take(&arena, STEPS * N);
    q->x = take(&arena, tile), q->v = take(&arena, tile), q->dt = take(&arena, tile), q->y = take(&arena, tile);
    if (backward) {
        q->slope = take(&arena, tile), q->grad_x = take(&arena, tile), q->grad_v = take(&arena, tile);
        q->decay = take(&arena, N * tile), q->history = take(&arena, N * tile);
        q->rows = take(&arena, (R + 2 * N) * tile);
    }
    return arena.used;
}

/* A thread's blocks and tiles, on a cache line; the pointer to free, or NULL if there is no memory. */
static void *allocate(const Scan *s, int backward, Block *blocks, Chunk *q) {
    const Arena none = {NULL, 0};
    void *memory = malloc((size_t)lay_out(s, backward, none, blocks, q) * sizeof(real) + 64);
    const Arena arena = {(real *)(((uintptr_t)memory + 63) / 64 * 64), 0};
    if (memory) lay_out(s, backward, arena, blocks, q);
    return memory;
}

/* ---- tasks ----------------------------------------------------------------------------------------------------- */

static int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
static void clear(real *p, int64_t count) { memset(p, 0, (size_t)count * sizeof(real)); }

/* Load the parameters of direction k for the blocks of one task; the number of blocks that hold channels. */
static int64_t begin_direction(const Scan *s, int64_t k, int64_t group, Block *blocks) {
    const int64_t D = s->channels, N = s->states, R = s->rank;
    int64_t count = 0;
    for (int64_t c = group * s->width * LANES; c < D && count < s->width; c += LANES, count++) {
        Block *block = blocks + count;
        const int64_t at = k * D + c;
        block->channel = c, block->lanes = least(LANES, D - c);
        load_parameter(block->A, s->A + at * N, block->lanes, N, (real)LOG2E);
        load_parameter(block->W, s->W ? s->W + at * R : NULL, block->lanes, R, 1);
        load_parameter(block->bias, s->bias ? s->bias + at : NULL, block->lanes, 1, 1);
        load_parameter(block->D, s->D ? s->D + at : NULL, block->lanes, 1, 1);
        clear(block->state, N * LANES);
    }
    return count;
}

/* Load what the blocks of a task share: which tokens the chunk visits, and their rows of low, B and C. */
static void load_chunk(const Scan *s, Chunk *q, int64_t b, int64_t k, int64_t chunk) {
    const int64_t start = chunk * STEPS, N = s->states;
    q->steps = (int)least(STEPS, s->length - start);
    for (int t = 0; t < q->steps; t++) q->token[t] = s->order ? s->order[k * s->length + start + t] : start + t;
    if (s->low.data) load(q->low, s->rank, s->low, b * s->low.b + k * s->low.k, q->token, q->steps, s->rank);
    load(q->B, N, s->B, b * s->B.b + k * s->B.k, q->token, q->steps, N);
    load(q->C, N, s->C, b * s->C.b + k * s->C.k, q->token, q->steps, N);
}

static real *saved_state(const Scan *s, int64_t b, int64_t k, int64_t chunk, int64_t channel) {
    const int64_t chunks = ceil_div(s->length, STEPS), blocks = ceil_div(s->channels, LANES);
    return s->saved + (((b * s->directions + k) * chunks + chunk) * blocks + channel / LANES) * s->states * LANES;
}

static void forward_task(const Scan *s, Block *blocks, Chunk *q, int64_t b, int64_t group) {
    const int64_t N = s->states;
    for (int64_t k = 0; k < s->directions; k++) {
        const int64_t count = begin_direction(s, k, group, blocks);
        for (int64_t chunk = 0; chunk * STEPS < s->length; chunk++) {
            load_chunk(s, q, b, k, chunk);
            for (const Block *block = blocks; block < blocks + count; block++) {
                const int64_t at = b * s->y.b + k * s->y.k + block->channel * s->y.c;
                if (s->saved)
                    memcpy(saved_state(s, b, k, chunk, block->channel), block->state, (size_t)N * LANES * sizeof(real));
                load_block(s, block, q, b, k);
                forward_chunk(N, q->steps, q, block);
                store(q->y, s->y, at, q->token, q->steps, block->lanes, s->merge && k > 0);
            }
        }
    }
}

static void backward_block(const Scan *s, const Gradients *g, const Block *block, const Chunk *q, int64_t b, int64_t k,
                           const real *first) {
    const int64_t c = block->channel, N = s->states, R = s->rank;
    load_block(s, block, q, b, k);
    load(q->y, LANES, g->y, b * g->y.b + k * g->y.k + c * g->y.c, q->token, q->steps, block->lanes);
    for (int t = 0; t < q->steps * LANES; t++) q->slope[t] = s->softplus ? softplus_slope(q->v[t]) : 1;
    recompute_chunk(N, q->steps, q, block, first);
    backward_chunk(N, R, q->steps, q, block, first);
    backward_low_rank(N, R, q, block);
    store(q->grad_x, g->x, b * g->x.b + s->source[k] * g->x.k + c * g->x.c, q->token, q->steps, block->lanes, 1);
    if (g->delta.data) {
        const int64_t at = b * g->delta.b + k * g->delta.k + c * g->delta.c;
        store(q->grad_v, g->delta, at, q->token, q->steps, block->lanes, 0);
    }
}

/* Sum the row gradients of a chunk over the lanes, and so over the channels of the task. */
static void sum_lanes(const Scan *s, const Chunk *q, real *partial) {
    const int64_t row = s->rank + 2 * s->states;
    for (int t = 0; t < q->steps; t++)
        for (int64_t j = 0; j < row; j++) {
            const real *restrict lane = q->rows + (t * row + j) * LANES;
            real eight[8], four[4];
            for (int i = 0; i < 8; i++) eight[i] = lane[i] + lane[i + 8];
            for (int i = 0; i < 4; i++) four[i] = eight[i] + eight[i + 4];
            partial[q->token[t] * row + j] = (four[0] + four[2]) + (four[1] + four[3]);
        }
}

static void store_parameters(const Scan *s, const Gradients *g, const Block *block, int64_t slice, int64_t k) {
    const int64_t at = (slice * s->directions + k) * s->channels + block->channel, N = s->states, R = s->rank;
    store_parameter(g->A + at * N, block->grad_A, block->lanes, N, 1);
    store_parameter(g->W ? g->W + at * R : NULL, block->grad_W, block->lanes, R, 1);
    store_parameter(g->bias ? g->bias + at : NULL, block->grad_bias, block->lanes, 1, 1);
    store_parameter(g->D ? g->D + at : NULL, block->grad_D, block->lanes, 1, 1);
}

/* Direction k of one slice of the batch and one group of channels. */
static void backward_task(const Scan *s, const Gradients *g, Block *blocks, Chunk *q, int64_t k, int64_t slice,
                          int64_t group) {
    const int64_t N = s->states, R = s->rank, row = R + 2 * N;
    const int64_t count = begin_direction(s, k, group, blocks);
    for (int64_t j = 0; j < count; j++) {
        clear(blocks[j].grad_A, N * LANES), clear(blocks[j].grad_W, R * LANES);
        clear(blocks[j].grad_bias, LANES), clear(blocks[j].grad_D, LANES);
    }
    const int64_t end = (slice + 1) * s->batch / s->batch_groups;
    for (int64_t b = slice * s->batch / s->batch_groups; b < end; b++) {
        for (int64_t j = 0; j < count; j++) clear(blocks[j].state, N * LANES);
        for (int64_t chunk = ceil_div(s->length, STEPS) - 1; chunk >= 0; chunk--) {
            load_chunk(s, q, b, k, chunk);
            clear(q->rows, q->steps * row * LANES);
            for (int64_t j = 0; j < count; j++)
                backward_block(s, g, blocks + j, q, b, k, saved_state(s, b, k, chunk, blocks[j].channel));
            sum_lanes(s, q, g->partial + (group * s->batch + b) * s->length * row);
        }
    }
    for (int64_t j = 0; j < count; j++) store_parameters(s, g, blocks + j, slice, k);
}

static void store_row(View v, int64_t at, const real *row, int64_t count) {
    for (int64_t j = 0; j < count; j++) v.data[at + j * v.c] = row[j];
}

/* Sum one token's row gradients over the tasks along the channels, always in the same order. */
static void sum_tasks(const Scan *s, const Gradients *g, int64_t k, int64_t b, int64_t l, int64_t groups) {
    const int64_t N = s->states, R = s->rank, row = R + 2 * N;
    real *sum = g->partial + (b * s->length + l) * row;
    for (int64_t group = 1; group < groups; group++) {
        const real *restrict next = sum + group * s->batch * s->length * row;
        for (int64_t j = 0; j < row; j++) sum[j] += next[j];
    }
    store_row(g->low, b * g->low.b + k * g->low.k + l * g->low.l, sum, R);
    store_row(g->B, b * g->B.b + k * g->B.k + l * g->B.l, sum + R, N);
    store_row(g->C, b * g->C.b + k * g->C.k + l * g->C.l, sum + R + N, N);
}

/* ---- entry points ----------------------------------------------------------------------------------------------- */

#define MAX_WIDTH 4
enum { DONE, NO_MEMORY, BAD_ORDER };

/* Callers check their tables, but a table changed since must not become a stray write. */
static int bad_order(const Scan *s) {
    int bad = 0;
    for (int64_t p = 0; s->order && p < s->directions * s->length; p++)
        bad |= s->order[p] < 0 || s->order[p] >= s->length;
    return bad;
}

int posescale_scan_forward(const Scan *s) {
    const int64_t groups = ceil_div(s->channels, s->width * LANES);
    int failed = 0;
    if (bad_order(s)) return BAD_ORDER;
#pragma omp parallel num_threads((int)s->threads) reduction(| : failed)
    {
        Block blocks[MAX_WIDTH];
        Chunk q;
        void *memory = allocate(s, 0, blocks, &q);
        failed |= !memory;
#pragma omp for schedule(dynamic)
        for (int64_t task = 0; task < s->batch * groups; task++)
            if (memory) forward_task(s, blocks, &q, task / groups, task % groups);
        free(memory);
    }
    return failed ? NO_MEMORY : DONE;
}

int posescale_scan_backward(const Scan *s, const Gradients *g) {
    const int64_t groups = ceil_div(s->channels, s->width * LANES);
    int failed = 0;
    if (bad_order(s)) return BAD_ORDER;
#pragma omp parallel num_threads((int)s->threads) reduction(| : failed)
    {
        Block blocks[MAX_WIDTH];
        Chunk q;
        void *memory = allocate(s, 1, blocks, &q);
        failed |= !memory;
        for (int64_t k = 0; k < s->directions; k++) { /* one after the other: directions may add to the same x */
#pragma omp for schedule(dynamic)
            for (int64_t task = 0; task < s->batch_groups * groups; task++)
                if (memory) backward_task(s, g, blocks, &q, k, task / groups, task % groups);
#pragma omp for schedule(static)
            for (int64_t i = 0; i < s->batch * s->length; i++) sum_tasks(s, g, k, i / s->length, i % s->length, groups);
        }
        free(memory);
    }
    return failed ? NO_MEMORY : DONE;
}
