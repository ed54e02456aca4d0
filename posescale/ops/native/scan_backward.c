/* The selective scan's backward pass: every gradient, by recomputation; equations and terms at the head of scan.h. */

#include "scan.h"

typedef struct {
    View y;                 /* given */
    View x;                 /* added to */
    View delta, low, B, C;  /* written */
    real *A, *D, *W, *bias; /* written, one slice per batch group: (G, K, D, .) */
    real *partial;          /* (tasks along channels, B, L, R + 2N): scratch, reused by each direction */
} Gradients;

static void store_parameter(real *to, const real *restrict from, int64_t lanes, int64_t columns, real scale) {
    for (int64_t i = 0; to && i < lanes; i++)
        for (int64_t n = 0; n < columns; n++) to[i * columns + n] = from[n * LANES + i] * scale;
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

/* ---- tasks ----------------------------------------------------------------------------------------------------- */

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
