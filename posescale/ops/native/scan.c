/* Selective scan over K directions, forward and backward, for CPUs. Plain C99, no dependency but OpenMP if present.

   One direction k of one batch entry b, one channel c, N states n, step p at token i = order[k][p]:

       v     = bias + sum_r W[r] low[i][r]          (or v = delta[i] + bias, when delta is given)
       dt    = softplus(v)                          (or v)
       s[n]  = exp(dt A[n]) s[n] + dt x[i] B[i][n]
       y[i] += sum_n C[i][n] s[n] + D x[i]

   Lanes are channels: every inner loop runs over LANES neighbouring channels, which the compiler turns into vector
   instructions. Steps are taken in chunks of STEPS: a chunk's rows are loaded into tiles, softplus is applied to the
   whole tile, then the recurrence runs from the tiles, GROUP states at a time: these stay in registers from the
   chunk's first step to its last. The backward pass recomputes a chunk from its saved first state. Tensors are
   addressed by strides, so no permuted, transposed or contiguous copy is ever made.

   A task is a range of channels, and each sum is taken in one fixed order, so results do not depend on the threads. */

#include <stdlib.h>
#include <string.h>

#include "elementary.h"

#define LANES 16
#define STEPS 16
#define GROUP 4
#define PAIR 2
#define MAX_WIDTH 8
#define FOR_LANES _Pragma("omp simd") for (int i = 0; i < LANES; i++)
#define FOR_GROUP _Pragma("GCC unroll 4") for (int m = 0; m < group; m++)
#define FOR_PAIR _Pragma("GCC unroll 2") for (int p = 0; p < pair; p++)

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

/* ---- tiles: rows of a view, one per step of a chunk ------------------------------------------------------------- */

/* The common sizes as constants: a call of memcpy costs more than a short row. */
static inline void copy(real *restrict to, const real *restrict from, int64_t count) {
    if (count == 16)
        memcpy(to, from, 16 * sizeof(real));
    else if (count == 8)
        memcpy(to, from, 8 * sizeof(real));
    else if (count == 4)
        memcpy(to, from, 4 * sizeof(real));
    else
        memcpy(to, from, (size_t)count * sizeof(real));
}

/* The first `count` numbers of each step's row; the rest of a tile's row becomes 0. */
static void load(real *restrict tile, int64_t pitch, View v, int64_t at, const int64_t *token, int steps,
                 int64_t count) {
    for (int t = 0; t < steps; t++, tile += pitch) {
        const real *row = v.data + at + token[t] * v.l;
        if (v.c == 1)
            copy(tile, row, count);
        else
            for (int64_t i = 0; i < count; i++) tile[i] = row[i * v.c];
        for (int64_t i = count; i < pitch; i++) tile[i] = 0;
    }
}

/* Ask for the rows of the chunk that comes next while this one is worked on: its tokens may lie far apart. */
static void prefetch(View v, int64_t at, const int64_t *token, int steps) {
    for (int t = 0; t < steps && v.data; t++) PREFETCH(v.data + at + token[t] * v.l);
}

static void store(const real *restrict tile, View v, int64_t at, const int64_t *token, int steps, int64_t count,
                  int add) {
    for (int t = 0; t < steps; t++, tile += LANES) {
        real *restrict row = v.data + at + token[t] * v.l;
        if (v.c == 1 && count == LANES && add)
            FOR_LANES row[i] += tile[i];
        else if (v.c == 1 && !add)
            copy(row, tile, count);
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

typedef struct { /* (STEPS, LANES) each: one block, one chunk */
    real *x, *dt, *dtx, *y;            /* y: the output, or in the backward pass its gradient */
    real *slope, *along_dt, *along_dtx; /* d dt / d v; gradients of dt (by the decay, in units of log 2) and of dt x */
} Tiles;

typedef struct { /* what a block keeps while its task walks along a direction */
    real *A, *W, *bias, *D, *state;             /* A in units of log 2: exp(dt A) = 2^(dt A') */
    real *reach;                                /* max |A'| over the states */
    real *grad_A, *grad_W, *grad_bias, *grad_D; /* sums of the backward pass */
    int64_t channel, lanes;
    int bounded; /* no |dt A'| of the chunk leaves the range of power2_bounded */
    Tiles tile;
} Block;

typedef struct { /* what the blocks of a task share: one chunk */
    int64_t token[STEPS], next[STEPS];
    int steps, ahead;  /* how many tokens this chunk has, and the one that comes next */
    real *low, *B, *C; /* (STEPS, R), (STEPS, N), (STEPS, N) */
    real *rows;        /* (STEPS, columns <= 2 GROUP, LANES): gradients of B and C, or of low, not summed over lanes */
} Chunk;

SPECIALISED real decay(real x, int bounded) { return bounded ? power2_bounded(x) : power2(x); }

/* v of a chunk, in dt's tile, which holds delta if that is given. */
static void step_inputs(const Scan *s, const Block *k, const Chunk *q) {
    const int64_t R = s->delta.data ? 0 : s->rank;
    real *restrict v = k->tile.dt;
    int64_t r = 0;
    for (int t = 0; t < q->steps; t++)
        FOR_LANES v[t * LANES + i] = (s->delta.data ? v[t * LANES + i] : 0) + k->bias[i];
    for (; r + 4 <= R; r += 4)
        for (int t = 0; t < q->steps; t++) {
            const real *restrict W = k->W + r * LANES, *restrict low = q->low + t * R + r;
            FOR_LANES v[t * LANES + i] += (low[0] * W[i] + low[1] * W[i + LANES]) +
                                          (low[2] * W[i + 2 * LANES] + low[3] * W[i + 3 * LANES]);
        }
    for (; r < R; r++)
        for (int t = 0; t < q->steps; t++) FOR_LANES v[t * LANES + i] += q->low[t * R + r] * k->W[r * LANES + i];
}

/* dt, dt x and, if wanted, the slope of dt. One function a loop: a step's whole chain would be too long to overlap. */
static void step_sizes(const Scan *s, Block *k, const Chunk *q, int slopes) {
    real *restrict dt = k->tile.dt, *restrict dtx = k->tile.dtx, *restrict slope = k->tile.slope;
    const real *restrict x = k->tile.x;
    const int count = q->steps * LANES;
    real z[STEPS * LANES], peak[LANES] = {0};
    step_inputs(s, k, q);
    if (s->softplus) {
        for (int j = 0; j < count; j++) z[j] = exp_minus_abs(dt[j]);
        for (int j = 0; slopes && j < count; j++) slope[j] = softplus_slope(dt[j], z[j]);
        for (int j = 0; j < count; j++) dt[j] = softplus(dt[j], z[j]);
    } else if (slopes) {
        for (int j = 0; j < count; j++) slope[j] = 1;
    }
    for (int t = 0; t < q->steps; t++) FOR_LANES {
        const real size = absolute(dt[t * LANES + i]);
        dtx[t * LANES + i] = dt[t * LANES + i] * x[t * LANES + i];
        peak[i] = size > peak[i] ? size : peak[i];
    }
    k->bounded = 1;
    for (int i = 0; i < LANES; i++) k->bounded &= peak[i] * k->reach[i] <= POWER2_RANGE;
}

static void load_block(const Scan *s, Block *k, const Chunk *q, int64_t b, int64_t direction, int slopes) {
    const View x = s->x, delta = s->delta;
    const int64_t c = k->channel, at = b * delta.b + direction * delta.k + c * delta.c;
    const int64_t x_at = b * x.b + s->source[direction] * x.k + c * x.c;
    load(k->tile.x, LANES, x, x_at, q->token, q->steps, k->lanes);
    prefetch(x, x_at, q->next, q->ahead);
    if (delta.data) load(k->tile.dt, LANES, delta, at, q->token, q->steps, k->lanes);
    step_sizes(s, k, q, slopes);
}

/* The recurrence over one chunk for `group` states from n on; adds to the outputs. */
SPECIALISED void forward_group(int64_t N, int64_t n, const int group, const int bounded, const Chunk *q,
                               const Block *k) {
    real h[GROUP][LANES], A[GROUP][LANES];
    memcpy(h, k->state + n * LANES, (size_t)group * LANES * sizeof(real));
    memcpy(A, k->A + n * LANES, (size_t)group * LANES * sizeof(real));
    for (int t = 0; t < q->steps; t++) {
        const real *restrict dt = k->tile.dt + t * LANES, *restrict dtx = k->tile.dtx + t * LANES;
        const real *restrict B = q->B + t * N + n, *restrict C = q->C + t * N + n;
        real *restrict y = k->tile.y + t * LANES;
        FOR_LANES {
            real sum = y[i];
            FOR_GROUP {
                h[m][i] = decay(dt[i] * A[m][i], bounded) * h[m][i] + dtx[i] * B[m];
                sum += h[m][i] * C[m];
            }
            y[i] = sum;
        }
    }
    memcpy(k->state + n * LANES, h, (size_t)group * LANES * sizeof(real));
}

SPECIALISED void forward_states(int64_t N, const int bounded, const Chunk *q, const Block *k) {
    int64_t n = 0;
    for (; n + GROUP <= N; n += GROUP) forward_group(N, n, GROUP, bounded, q, k);
    for (; n < N; n++) forward_group(N, n, 1, bounded, q, k);
}

static void forward_chunk(int64_t N, const Chunk *q, const Block *k) {
    for (int t = 0; t < q->steps; t++)
        FOR_LANES k->tile.y[t * LANES + i] = k->D[i] * k->tile.x[t * LANES + i];
    if (k->bounded)
        forward_states(N, 1, q, k);
    else
        forward_states(N, 0, q, k);
}

typedef struct { /* of one block, one group of states: each step's decay, and the states before and after it */
    real decays[STEPS * GROUP * LANES], states[(STEPS + 1) * GROUP * LANES];
} History;

/* The decays of a chunk for `group` states from n on, and the states before and after each step. */
SPECIALISED void recompute_group(int64_t N, int64_t n, const int group, const int bounded, const Chunk *q,
                                 const Block *k, const real *saved, History *restrict past) {
    real *restrict decays = past->decays, *restrict states = past->states;
    real h[GROUP][LANES], A[GROUP][LANES];
    memcpy(h, saved + n * LANES, (size_t)group * LANES * sizeof(real));
    memcpy(A, k->A + n * LANES, (size_t)group * LANES * sizeof(real));
    memcpy(states, h, (size_t)group * LANES * sizeof(real));
    for (int t = 0; t < q->steps; t++) {
        const real *restrict dt = k->tile.dt + t * LANES, *restrict dtx = k->tile.dtx + t * LANES;
        const real *restrict B = q->B + t * N + n;
        FOR_LANES {
            const real size = dt[i], drive = dtx[i];
            FOR_GROUP {
                const int j = m * LANES + i;
                const real a = decay(size * A[m][i], bounded);
                h[m][i] = a * h[m][i] + drive * B[m];
                decays[t * GROUP * LANES + j] = a;
                states[(t + 1) * GROUP * LANES + j] = h[m][i];
            }
        }
    }
}

/* The adjoint of one chunk for `group` states from n on of `pair` neighbouring blocks, last step first. Their state is
   the gradient that reaches the state from later steps; rows receive (or, unless first, gain) the gradients of B, then
   of C. Two blocks at once halve the traffic of rows, which costs more than the arithmetic. */
SPECIALISED void backward_group(int64_t N, int64_t n, const int group, const int pair, const Chunk *q,
                                const Block *blocks, const History *past, const int first) {
    real g[PAIR][GROUP][LANES], grad_A[PAIR][GROUP][LANES];
    const size_t size = (size_t)group * LANES * sizeof(real);
    FOR_PAIR memcpy(g[p], blocks[p].state + n * LANES, size), memcpy(grad_A[p], blocks[p].grad_A + n * LANES, size);
    for (int t = q->steps - 1; t >= 0; t--) {
        const real *restrict B = q->B + t * N + n, *restrict C = q->C + t * N + n;
        const int at = t * LANES, from = t * GROUP * LANES, to = t * 2 * group * LANES;
        FOR_LANES {
            real dt[PAIR], dtx[PAIR], dy[PAIR], by_dt[PAIR], by_dtx[PAIR]; /* in registers: stores to rows may alias */
            FOR_PAIR {
                const Tiles *tile = &blocks[p].tile;
                dt[p] = tile->dt[at + i], dtx[p] = tile->dtx[at + i], dy[p] = tile->y[at + i];
                by_dt[p] = tile->along_dt[at + i], by_dtx[p] = tile->along_dtx[at + i];
            }
            FOR_GROUP {
                const int j = m * LANES + i, l = (group + m) * LANES + i;
                real row_B = first ? 0 : q->rows[to + j], row_C = first ? 0 : q->rows[to + l];
                FOR_PAIR {
                    const real *a = past[p].decays + from, *before = past[p].states + from;
                    const real here = g[p][m][i] + dy[p] * C[m], e = here * a[j], w = e * before[j];
                    row_B += here * dtx[p];
                    row_C += dy[p] * before[GROUP * LANES + j];
                    grad_A[p][m][i] += w * dt[p];
                    by_dtx[p] += here * B[m];
                    by_dt[p] += w * blocks[p].A[n * LANES + j];
                    g[p][m][i] = e;
                }
                q->rows[to + j] = row_B, q->rows[to + l] = row_C;
            }
            FOR_PAIR blocks[p].tile.along_dt[at + i] = by_dt[p], blocks[p].tile.along_dtx[at + i] = by_dtx[p];
        }
    }
    FOR_PAIR memcpy(blocks[p].state + n * LANES, g[p], size), memcpy(blocks[p].grad_A + n * LANES, grad_A[p], size);
}

/* `group` states of every block of a task. */
SPECIALISED void backward_states(int64_t N, int64_t n, const int group, const Chunk *q, const Block *blocks,
                                 int64_t count, real *const *saved) {
    History past[PAIR];
    for (int64_t j = 0; j < count; j += PAIR) {
        const int pair = count - j < PAIR ? 1 : PAIR;
        for (int p = 0; p < pair; p++) {
            if (blocks[j + p].bounded)
                recompute_group(N, n, group, 1, q, blocks + j + p, saved[j + p], past + p);
            else
                recompute_group(N, n, group, 0, q, blocks + j + p, saved[j + p], past + p);
        }
        if (pair == PAIR && !j)
            backward_group(N, n, group, PAIR, q, blocks, past, 1);
        else if (pair == PAIR)
            backward_group(N, n, group, PAIR, q, blocks + j, past, 0);
        else
            backward_group(N, n, group, 1, q, blocks + j, past, !j);
    }
}

/* From the gradients of dt and dt x to those of x (in dtx's tile) and of v (in along_dt's). */
static void backward_steps(const Chunk *q, const Block *k) {
    for (int t = 0; t < q->steps; t++) {
        const real *restrict dt = k->tile.dt + t * LANES, *restrict x = k->tile.x + t * LANES;
        const real *restrict dy = k->tile.y + t * LANES, *restrict slope = k->tile.slope + t * LANES;
        const real *restrict by_dtx = k->tile.along_dtx + t * LANES;
        real *restrict grad_x = k->tile.dtx + t * LANES, *restrict grad_v = k->tile.along_dt + t * LANES;
        FOR_LANES {
            grad_x[i] = by_dtx[i] * dt[i] + k->D[i] * dy[i];
            grad_v[i] = (grad_v[i] * (real)LN2 + by_dtx[i] * x[i]) * slope[i];
            k->grad_D[i] += x[i] * dy[i];
            k->grad_bias[i] += grad_v[i];
        }
    }
}

/* The adjoint of v = bias + W low for `columns` columns of low from r on. */
static void backward_low(int64_t R, int64_t r, int columns, const Chunk *q, const Block *k, int first) {
    for (int j = 0; j < columns; j++) {
        const real *restrict W = k->W + (r + j) * LANES;
        real sum[LANES] = {0};
        for (int t = 0; t < q->steps; t++) {
            const real *restrict grad_v = k->tile.along_dt + t * LANES;
            real *restrict rows = q->rows + (t * columns + j) * LANES;
            const real low = q->low[t * R + r + j];
            FOR_LANES {
                rows[i] = (first ? 0 : rows[i]) + grad_v[i] * W[i];
                sum[i] += grad_v[i] * low;
            }
        }
        FOR_LANES k->grad_W[(r + j) * LANES + i] += sum[i];
    }
}

/* Sum each of `count` rows over the lanes. */
static void sum_lanes(const real *restrict rows, int count, real *restrict sums) {
    real eight[STEPS * 2 * GROUP * 8], four[STEPS * 2 * GROUP * 4];
    for (int j = 0; j < count; j++)
        for (int i = 0; i < 8; i++) eight[j * 8 + i] = rows[j * LANES + i] + rows[j * LANES + 8 + i];
    for (int j = 0; j < count; j++)
        for (int i = 0; i < 4; i++) four[j * 4 + i] = eight[j * 8 + i] + eight[j * 8 + 4 + i];
    for (int j = 0; j < count; j++) sums[j] = (four[j * 4] + four[j * 4 + 2]) + (four[j * 4 + 1] + four[j * 4 + 3]);
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
        Tiles *tiles = &k->tile;
        k->A = take(&arena, N * LANES), k->W = take(&arena, R * LANES), k->state = take(&arena, N * LANES);
        k->bias = take(&arena, LANES), k->D = take(&arena, LANES), k->reach = take(&arena, LANES);
        *tiles = blocks->tile;
        if (j && !backward) continue; /* blocks that come one after the other share their tiles */
        tiles->x = take(&arena, tile), tiles->dt = take(&arena, tile);
        tiles->dtx = take(&arena, tile), tiles->y = take(&arena, tile);
        if (!backward) continue;
        tiles->slope = take(&arena, tile);
        tiles->along_dt = take(&arena, tile), tiles->along_dtx = take(&arena, tile);
        k->grad_A = take(&arena, N * LANES), k->grad_W = take(&arena, R * LANES);
        k->grad_bias = take(&arena, LANES), k->grad_D = take(&arena, LANES);
    }
    q->low = take(&arena, STEPS * R), q->B = take(&arena, STEPS * N), q->C = take(&arena, STEPS * N);
    q->rows = backward ? take(&arena, 2 * GROUP * tile) : NULL;
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
        for (int64_t i = 0; i < LANES; i++) block->reach[i] = 0;
        for (int64_t i = 0; i < N * LANES; i++) {
            const real size = absolute(block->A[i]);
            if (size > block->reach[i % LANES]) block->reach[i % LANES] = size;
        }
        clear(block->state, N * LANES);
    }
    return count;
}

/* The tokens that a chunk visits, none for one that does not exist; their number. */
static int visit(const Scan *s, int64_t k, int64_t chunk, int64_t *token) {
    const int64_t start = chunk * STEPS;
    const int steps = start < 0 || start > s->length ? 0 : (int)least(STEPS, s->length - start);
    for (int t = 0; t < steps; t++) token[t] = s->order ? s->order[k * s->length + start + t] : start + t;
    return steps;
}

/* Load what the blocks of a task share: which tokens the chunk visits, and their rows of low, B and C. */
static void load_chunk(const Scan *s, Chunk *q, int64_t b, int64_t k, int64_t chunk, int64_t next) {
    const View parts[] = {s->low, s->B, s->C};
    real *const tiles[] = {q->low, q->B, q->C};
    const int64_t sizes[] = {s->rank, s->states, s->states};
    q->steps = visit(s, k, chunk, q->token);
    q->ahead = visit(s, k, next, q->next);
    for (int part = 0; part < 3; part++) {
        const int64_t at = b * parts[part].b + k * parts[part].k;
        if (!parts[part].data) continue;
        load(tiles[part], sizes[part], parts[part], at, q->token, q->steps, sizes[part]);
        prefetch(parts[part], at, q->next, q->ahead);
    }
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
            load_chunk(s, q, b, k, chunk, chunk + 1);
            for (Block *block = blocks; block < blocks + count; block++) {
                const int64_t at = b * s->y.b + k * s->y.k + block->channel * s->y.c;
                if (s->saved)
                    memcpy(saved_state(s, b, k, chunk, block->channel), block->state, (size_t)N * LANES * sizeof(real));
                load_block(s, block, q, b, k, 0);
                prefetch(s->y, at, q->next, q->ahead);
                forward_chunk(N, q, block);
                store(block->tile.y, s->y, at, q->token, q->steps, block->lanes, s->merge && k > 0);
            }
        }
    }
}

/* One chunk of a backward task; `partial` holds the row gradients of the task's channels, one row per token. */
static void backward_chunk(const Scan *s, const Gradients *g, Block *blocks, int64_t count, Chunk *q, int64_t b,
                           int64_t k, int64_t chunk, real *partial) {
    const int64_t N = s->states, R = s->rank, row = R + 2 * N;
    real *saved[MAX_WIDTH], sums[STEPS * 2 * GROUP];
    load_chunk(s, q, b, k, chunk, chunk - 1);
    for (int64_t j = 0; j < count; j++) {
        const int64_t at = b * g->y.b + k * g->y.k + blocks[j].channel * g->y.c;
        saved[j] = saved_state(s, b, k, chunk, blocks[j].channel);
        for (int64_t n = 0; chunk && n < N; n++)
            PREFETCH(saved_state(s, b, k, chunk - 1, blocks[j].channel) + n * LANES);
        load_block(s, blocks + j, q, b, k, 1);
        load(blocks[j].tile.y, LANES, g->y, at, q->token, q->steps, blocks[j].lanes);
        prefetch(g->y, at, q->next, q->ahead);
        clear(blocks[j].tile.along_dt, STEPS * LANES), clear(blocks[j].tile.along_dtx, STEPS * LANES);
    }
    for (int64_t n = 0; n < N; n += n + GROUP <= N ? GROUP : 1) {
        const int64_t group = n + GROUP <= N ? GROUP : 1;
        if (group == GROUP)
            backward_states(N, n, GROUP, q, blocks, count, saved);
        else
            backward_states(N, n, 1, q, blocks, count, saved);
        sum_lanes(q->rows, q->steps * 2 * (int)group, sums);
        for (int t = 0; t < q->steps; t++) {
            real *to = partial + q->token[t] * row + R + n;
            copy(to, sums + t * 2 * group, group);
            copy(to + N, sums + t * 2 * group + group, group);
        }
    }
    for (int64_t j = 0; j < count; j++) backward_steps(q, blocks + j);
    for (int64_t r = 0; r < R; r += 2 * GROUP) {
        const int columns = (int)least(2 * GROUP, R - r);
        for (int64_t j = 0; j < count; j++) backward_low(R, r, columns, q, blocks + j, !j);
        sum_lanes(q->rows, q->steps * columns, sums);
        for (int t = 0; t < q->steps; t++) copy(partial + q->token[t] * row + r, sums + t * columns, columns);
    }
    for (int64_t j = 0; j < count; j++) {
        const Block *block = blocks + j;
        const int64_t c = block->channel, at = b * g->delta.b + k * g->delta.k + c * g->delta.c;
        const int64_t x_at = b * g->x.b + s->source[k] * g->x.k + c * g->x.c;
        store(block->tile.dtx, g->x, x_at, q->token, q->steps, block->lanes, 1);
        prefetch(g->x, x_at, q->next, q->ahead);
        if (g->delta.data) store(block->tile.along_dt, g->delta, at, q->token, q->steps, block->lanes, 0);
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
        real *partial = g->partial + (group * s->batch + b) * s->length * row;
        for (int64_t chunk = ceil_div(s->length, STEPS) - 1; chunk >= 0; chunk--)
            backward_chunk(s, g, blocks, count, q, b, k, chunk, partial);
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
