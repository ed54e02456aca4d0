/* The selective scan's forward pass; equations and terms at the head of scan.h. */

#include "scan.h"

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

/* Direction k of one batch entry, for the blocks of one task. */
static void forward_entry(const Scan *s, Block *blocks, int64_t count, Chunk *q, int64_t b, int64_t k) {
    const int64_t N = s->states;
    for (int64_t j = 0; j < count; j++) clear(blocks[j].state, N * LANES);
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

/* One slice of the batch and one group of channels; a direction's parameters are loaded once for all its entries. */
static void forward_task(const Scan *s, Block *blocks, Chunk *q, int64_t slice, int64_t group) {
    const int64_t start = slice * s->batch / s->batch_groups, end = (slice + 1) * s->batch / s->batch_groups;
    for (int64_t k = 0; k < s->directions; k++) {
        const int64_t count = begin_direction(s, k, group, blocks);
        for (int64_t b = start; b < end; b++) forward_entry(s, blocks, count, q, b, k);
    }
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
        for (int64_t task = 0; task < s->batch_groups * groups; task++)
            if (memory) forward_task(s, blocks, &q, task / groups, task % groups);
        free(memory);
    }
    return failed ? NO_MEMORY : DONE;
}
