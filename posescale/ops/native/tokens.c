/* What stands around a scan, on tokens that are rows: dense layers together with the norm, gate, activation and residual
   next to them, and the depth-wise convolution over frames and joints. Forward only. Plain C99 as scan.h.

   A dense layer takes TILE rows at a time: they are normalised and gated into a tile that stays in cache, multiplied by
   the weights, ROWS rows and LANES output columns at once, and finished while still in cache. Sums run over the inputs
   in their order and no sum is split, so results do not depend on the threads. */

#include <stdlib.h>
#include <string.h>

#include "elementary.h"

#if defined(__AVX512F__)
#define VECTOR 64 /* bytes of a vector register */
#elif defined(__AVX__)
#define VECTOR 32
#else
#define VECTOR 16
#endif
#define LANES ((int)(VECTOR / sizeof(real))) /* columns whose sums are one vector */
#define ROWS 12                              /* of so many rows those sums stay in registers */
#define TILE 48
#define AHEAD 3                         /* rows of the next tile asked for with each product of this one */
#define LINE ((int)(64 / sizeof(real))) /* numbers of a cache line */
#define SIMD _Pragma("omp simd")

/* y = after(residual + gelu(weight (before(x) silu(gate)) + bias)); every part but the product may be absent. */

typedef struct {
    const real *weight, *bias; /* (width), or NULL: no norm */
    double eps;
} Norm;

typedef struct {
    real *data;  /* NULL: absent */
    int64_t row; /* numbers from one row to the next */
} Rows;

typedef struct {
    int64_t rows, in, out;
    int64_t gelu, threads;
    int64_t group, group_step; /* columns of y come in groups of so many, so far apart */
    Rows x, gate, residual;    /* (rows, in), (rows, in), (rows, out) */
    const real *weight, *bias; /* (out, in), (out) or NULL */
    Norm before, after;        /* over in; over out */
    Rows y;                    /* (rows, out), written; may be the residual */
} Dense;

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

/* Ask for a row that will be read soon. */
static void prefetch(Rows v, int64_t row, int64_t count) {
    for (int64_t i = 0; v.data && i < count; i += LINE) PREFETCH(v.data + row * v.row + i);
}

/* Layer norm of at most TILE rows. Step by step for all of them, since one row is a chain too long to overlap others. */
static void normalise(const Norm *norm, int64_t rows, int64_t count, Rows x, Rows y) {
    real mean[TILE], scale[TILE];
    for (int64_t r = 0; r < rows; r++) {
        const real *from = x.data + r * x.row;
        real sum = 0;
        _Pragma("omp simd reduction(+ : sum)") for (int64_t i = 0; i < count; i++) sum += from[i];
        mean[r] = sum / (real)count;
    }
    for (int64_t r = 0; r < rows; r++) {
        const real *from = x.data + r * x.row, m = mean[r];
        real sum = 0;
        _Pragma("omp simd reduction(+ : sum)") for (int64_t i = 0; i < count; i++) sum += (from[i] - m) * (from[i] - m);
        scale[r] = sum / (real)count;
    }
    SIMD for (int64_t r = 0; r < rows; r++) scale[r] = (real)(1 / sqrt((double)scale[r] + norm->eps));
    for (int64_t r = 0; r < rows; r++) {
        const real *from = x.data + r * x.row, m = mean[r], s = scale[r];
        real *to = y.data + r * y.row;
        SIMD for (int64_t i = 0; i < count; i++) to[i] = (from[i] - m) * s * norm->weight[i] + norm->bias[i];
    }
}

/* LANES rows of the weights from n on, transposed to (in, LANES), and of the bias; zero beyond the last column. */
static void pack(const Dense *d, int64_t n, real *restrict weight, real *restrict bias) {
    for (int64_t i = 0; i < LANES; i++) {
        const int inside = n + i < d->out;
        const real *from = d->weight + (n + i) * d->in;
        bias[i] = inside && d->bias ? d->bias[n + i] : 0;
        for (int64_t k = 0; k < d->in; k++) weight[k * LANES + i] = inside ? from[k] : 0;
    }
}

/* sums (ROWS, LANES) = bias + x (ROWS, in) weight (in, LANES). */
static void multiply(int64_t in, const real *restrict x, const real *restrict weight, const real *restrict bias,
                     real *restrict sums) {
    real s[ROWS][LANES];
    for (int r = 0; r < ROWS; r++) SIMD for (int i = 0; i < LANES; i++) s[r][i] = bias[i];
    for (int64_t k = 0; k < in; k++)
        _Pragma("GCC unroll 12") for (int r = 0; r < ROWS; r++)
            SIMD for (int i = 0; i < LANES; i++) s[r][i] += x[r * in + k] * weight[k * LANES + i];
    memcpy(sums, s, sizeof s);
}

/* What comes after the product: `rows` rows from `row` on, LANES columns from n on. */
static void finish(const Dense *d, int64_t row, int64_t rows, int64_t n, real *restrict sums) {
    const int64_t count = least(LANES, d->out - n);
    if (d->gelu) SIMD for (int64_t i = 0; i < rows * LANES; i++) sums[i] = gelu(sums[i]);
    for (int64_t r = 0; d->residual.data && r < rows; r++) {
        const real *residual = d->residual.data + (row + r) * d->residual.row + n;
        for (int64_t i = 0; i < count; i++) sums[r * LANES + i] += residual[i];
    }
    for (int64_t i = 0, width; i < count; i += width) {
        const int64_t column = (n + i) % d->group;
        real *y = d->y.data + row * d->y.row + (n + i) / d->group * d->group_step + column;
        width = least(d->group - column, count - i);
        for (int64_t r = 0; r < rows; r++)
            if (width == LANES)
                memcpy(y + r * d->y.row, sums + r * LANES, LANES * sizeof(real));
            else
                memcpy(y + r * d->y.row, sums + r * LANES + i, (size_t)width * sizeof(real));
    }
}

/* The rows of v from `first` on. */
static Rows skip(Rows v, int64_t first) { return (Rows){v.data + first * v.row, v.row}; }

static void dense_tile(const Dense *d, int64_t first, const real *weight, const real *bias, real *tile) {
    const int64_t rows = least(TILE, d->rows - first), in = d->in, end = least(first + 2 * TILE, d->rows);
    const Rows x = skip(d->x, first), y = skip(d->y, first), gated = {tile, in};
    int64_t next = first + TILE;
    if (d->before.weight) normalise(&d->before, rows, in, x, gated);
    for (int64_t r = 0; !d->before.weight && r < rows; r++)
        memcpy(tile + r * in, x.data + r * x.row, (size_t)in * sizeof(real));
    for (int64_t r = 0; d->gate.data && r < rows; r++) {
        const real *gate = d->gate.data + (first + r) * d->gate.row;
        SIMD for (int64_t i = 0; i < in; i++) tile[r * in + i] *= silu(gate[i]);
    }
    for (int64_t n = 0; n < d->out; n += LANES)
        for (int64_t r = 0; r < rows; r += ROWS) {
            real sums[ROWS * LANES];
            for (int64_t stop = least(next + AHEAD, end); next < stop; next++) {
                prefetch(d->x, next, in), prefetch(d->gate, next, in), prefetch(d->residual, next, d->out);
            }
            multiply(in, tile + r * in, weight + n * in, bias + n, sums);
            finish(d, first + r, least(ROWS, rows - r), n, sums);
        }
    if (d->after.weight) normalise(&d->after, rows, d->out, y, y);
}

enum { DONE, NO_MEMORY };

int posescale_dense(const Dense *d) {
    const int64_t out = (d->out + LANES - 1) / LANES * LANES;
    void *memory = malloc((size_t)(out * (d->in + 1)) * sizeof(real) + 64);
    real *weight = (real *)(((uintptr_t)memory + 63) / 64 * 64), *bias = weight + out * d->in;
    int failed = !memory;
    if (failed) return NO_MEMORY;
#pragma omp parallel num_threads((int)d->threads) reduction(| : failed)
    {
        real *tile = calloc((size_t)(TILE * d->in), sizeof(real));
        failed |= !tile;
#pragma omp for
        for (int64_t n = 0; n < out; n += LANES) pack(d, n, weight + n * d->in, bias + n);
#pragma omp for schedule(dynamic)
        for (int64_t row = 0; row < d->rows; row += TILE)
            if (tile) dense_tile(d, row, weight, bias, tile);
        free(tile);
    }
    free(memory);
    return failed ? NO_MEMORY : DONE;
}

/* u[1] = silu(3 x 3 depth-wise convolution of x over the (frames, joints) plane, zero beyond its edges), and
   u[0][t][j] = u[1][t][j] + u[1][t][limb[j]]; without limbs u has only the one source. */

typedef struct {
    int64_t batch, frames, joints, channels, threads;
    Rows x;                    /* (batch frames joints, channels) */
    const real *weight, *bias; /* (9, channels), (channels) */
    const int64_t *limb;       /* (joints), or NULL */
    real *u;                   /* (1 or 2 sources, batch frames joints, channels) */
} Conv;

/* One token from the nine around it. */
static void convolve(int64_t D, const real *const *x, const real *restrict weight, const real *restrict bias,
                     real *restrict y) {
    SIMD for (int64_t c = 0; c < D; c++) {
        real sum = bias[c];
        _Pragma("GCC unroll 9") for (int q = 0; q < 9; q++) sum += x[q][c] * weight[q * D + c];
        y[c] = silu(sum);
    }
}

static void frame(const Conv *s, int64_t b, int64_t t, const real *zeros) {
    const int64_t J = s->joints, D = s->channels, first = b * s->frames * J, here = first + t * J;
    real *sum = s->u + here * D, *y = s->limb ? sum + s->batch * s->frames * J * D : sum;
    for (int64_t j = 0; j < J; j++) {
        const real *x[9];
        for (int q = 0; q < 9; q++) {
            const int64_t at = t + q / 3 - 1, joint = j + q % 3 - 1;
            const int inside = at >= 0 && at < s->frames && joint >= 0 && joint < J;
            x[q] = inside ? s->x.data + (first + at * J + joint) * s->x.row : zeros;
        }
        if (t + 2 < s->frames) prefetch(s->x, here + 2 * J + j, D); /* read first by the next frame */
        convolve(D, x, s->weight, s->bias, y + j * D);
    }
    for (int64_t j = 0; s->limb && j < J; j++)
        SIMD for (int64_t c = 0; c < D; c++) sum[j * D + c] = y[j * D + c] + y[s->limb[j] * D + c];
}

int posescale_conv(const Conv *s) {
    real *zeros = calloc((size_t)s->channels, sizeof(real));
    if (!zeros) return NO_MEMORY;
#pragma omp parallel for num_threads((int)s->threads) schedule(static)
    for (int64_t i = 0; i < s->batch * s->frames; i++) frame(s, i / s->frames, i % s->frames, zeros);
    free(zeros);
    return DONE;
}
