/* What the selective scan's forward and backward pass share: the problem, tiles of a chunk, blocks of channels, memory.
   Plain C99, no dependency but OpenMP if present.

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

#ifndef POSESCALE_SCAN_H
#define POSESCALE_SCAN_H

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
    int64_t batch_groups;   /* tasks along the batch; in the backward pass each has its own sum of parameter gradients */
    const int32_t *order;   /* (K, L), or NULL for 0, 1, 2 ... */
    const int64_t *source;  /* (K): x.k index of each direction */
    const real *A;          /* (K, D, N) */
    const real *D;          /* (K, D) or NULL */
    const real *W;          /* (K, D, R) or NULL */
    const real *bias;       /* (K, D) or NULL */
    View x, delta, low, B, C, y; /* delta.data NULL: v comes from low and W */
    real *saved;            /* (B, K, chunks, blocks, N, LANES): the state before each chunk, or NULL */
} Scan;

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
SEPARATE void step_inputs(const Scan *s, const Block *k, const Chunk *q) {
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
SEPARATE void step_sizes(const Scan *s, Block *k, const Chunk *q, int slopes) {
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

SEPARATE void load_block(const Scan *s, Block *k, const Chunk *q, int64_t b, int64_t direction, int slopes) {
    const View x = s->x, delta = s->delta;
    const int64_t c = k->channel, at = b * delta.b + direction * delta.k + c * delta.c;
    const int64_t x_at = b * x.b + s->source[direction] * x.k + c * x.c;
    load(k->tile.x, LANES, x, x_at, q->token, q->steps, k->lanes);
    prefetch(x, x_at, q->next, q->ahead);
    if (delta.data) load(k->tile.dt, LANES, delta, at, q->token, q->steps, k->lanes);
    step_sizes(s, k, q, slopes);
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

enum { DONE, NO_MEMORY, BAD_ORDER };

/* Callers check their tables, but a table changed since must not become a stray write. */
static int bad_order(const Scan *s) {
    int bad = 0;
    for (int64_t p = 0; s->order && p < s->directions * s->length; p++)
        bad |= s->order[p] < 0 || s->order[p] >= s->length;
    return bad;
}

#endif
