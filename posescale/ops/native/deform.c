/* Modulated deformable convolution (DCNv2), forward and backward, for CPUs. Plain C99, OpenMP if present.

   Image n, pixel p, tap k, channels c of a group, outputs o of that group, column j = (c, k):

       place     = p + p_k + offset[n][p][k]
       column[j] = mask[n][p][k] x[n][c](place)          (bilinear, zero outside the image)
       y[n][p][o] = sum_j weight[o][j] column[j]

   Tensors are token-major: a corner of a bilinear read is a row of neighbouring channels, so reads are vectors over the
   channels. PIXELS pixels are read at once, each tap's rows are turned into columns, and the products are vectors over
   the pixels, whatever the groups. The columns of all pixels never exist; the backward pass makes them again.

   Forward, every output is one sum. Backward, images are split into slices that do not depend on the threads, each with
   its own sum of weight gradients. So results do not depend on the threads. */

#include <stdlib.h>
#include <string.h>

#include "elementary.h"

#define LANES 16
#define PIXELS 32
#define TILE (LANES * LANES)
#define OUTPUTS 4
#define FOR_LANES _Pragma("omp simd") for (int i = 0; i < LANES; i++)
#define FOR_PIXELS _Pragma("omp simd") for (int i = 0; i < PIXELS; i++)
#define FOR_OUTPUTS _Pragma("GCC unroll 4") for (int m = 0; m < count; m++)

typedef struct {
    int64_t images, height, width, pitch;          /* N, H, W; channels padded with zeros to a multiple of LANES */
    int64_t groups, inputs, outputs;               /* channels and outputs of one group */
    int64_t down, right;                           /* taps of the kernel */
    int64_t threads, slices;                       /* slices: of the images, backward */
    const real *x, *offset, *mask, *weight;        /* (N, H, W, pitch), (N, H, W, K, 2), (N, H, W, K), (O, inputs, K) */
    real *y;                                       /* (N, H, W, O): written forward, read backward as its gradient */
    real *grad_x, *grad_offset, *grad_mask;        /* as x, zero; as offset; as mask */
    real *grad_weight;                             /* (slices, O, inputs, K), zero */
} Deform;

typedef struct { /* one bilinear read */
    int64_t at[4];      /* rows of the image: top left, top right, bottom left, bottom right; -1 is outside */
    real part[4], mask; /* of each corner */
    real below, after;  /* fractions of a pixel below the top and right of the left corner */
} Read;

typedef struct { /* what a thread works in */
    Read *reads;    /* (K, PIXELS) */
    real *rows;     /* (PIXELS, pitch): one tap */
    real *columns;  /* (pitch, K, PIXELS) */
    real *lines;    /* (O, PIXELS): y or its gradient */
    real *nothing;  /* (pitch): zero, the row of a corner outside the image */
    real *lost;     /* (pitch): where the gradient of such a row goes */
} Work;

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t padded(int64_t n) { return (n + LANES - 1) / LANES * LANES; }
static int64_t area(const Deform *d) { return d->height * d->width; }
static int64_t blocks(const Deform *d) { return (area(d) + PIXELS - 1) / PIXELS; }
static int64_t taps(const Deform *d) { return d->down * d->right; }

/* One step of four that transpose a tile: the index's eight bits turn by one. */
static inline void shuffle(const real *restrict from, real *restrict to) {
    for (int i = 0; i < TILE / 2; i++) to[2 * i] = from[i], to[2 * i + 1] = from[i + TILE / 2];
}

static void transpose(const real *restrict from, int64_t from_pitch, real *restrict to, int64_t to_pitch) {
    real a[TILE], b[TILE];
    for (int r = 0; r < LANES; r++) memcpy(a + r * LANES, from + r * from_pitch, LANES * sizeof(real));
    shuffle(a, b), shuffle(b, a), shuffle(a, b), shuffle(b, a);
    for (int r = 0; r < LANES; r++) memcpy(to + r * to_pitch, a + r * LANES, LANES * sizeof(real));
}

/* Where tap k of pixel p reads. Comparisons come before the conversion to an integer: a place may be far away or NaN. */
static void place(const Deform *d, int64_t n, int64_t p, int64_t k, Read *r) {
    const int64_t H = d->height, W = d->width, token = (n * area(d) + p) * taps(d) + k;
    const real y = d->offset[2 * token] + (real)(p / W) + (real)(k / d->right - d->down / 2);
    const real x = d->offset[2 * token + 1] + (real)(p % W) + (real)(k % d->right - d->right / 2);
    const real top = (real)floor(y), left = (real)floor(x), below = y - top, after = x - left;
    const int rows[2] = {top >= 0 && top < H, top >= -1 && top < H - 1};
    const int columns[2] = {left >= 0 && left < W, left >= -1 && left < W - 1};
    const int64_t row = rows[0] || rows[1] ? (int64_t)top : 0, column = columns[0] || columns[1] ? (int64_t)left : 0;
    for (int i = 0; i < 4; i++) {
        r->at[i] = rows[i / 2] && columns[i % 2] ? (row + i / 2) * W + column + i % 2 : -1;
        r->part[i] = (i / 2 ? below : 1 - below) * (i % 2 ? after : 1 - after);
    }
    r->mask = d->mask[token], r->below = below, r->after = after;
}

static const real *corner(const Deform *d, const Work *w, int64_t n, int64_t at) {
    return at < 0 ? w->nothing : d->x + (n * area(d) + at) * d->pitch;
}

/* The columns of `count` pixels from p on; those of missing pixels are 0. */
static void read_columns(const Deform *d, const Work *w, int64_t n, int64_t p, int64_t count) {
    const int64_t K = taps(d);
    for (int64_t k = 0; k < K; k++) {
        for (int64_t i = 0; i < count; i++) place(d, n, p + i, k, w->reads + k * PIXELS + i);
        for (int64_t j = 0; j < count; j++) {
            const Read *r = w->reads + k * PIXELS + j;
            const real *a = corner(d, w, n, r->at[0]), *b = corner(d, w, n, r->at[1]);
            const real *e = corner(d, w, n, r->at[2]), *f = corner(d, w, n, r->at[3]);
            for (int64_t c = 0; c < d->pitch; c += LANES) {
                real *restrict row = w->rows + j * d->pitch + c;
                FOR_LANES row[i] = (a[c + i] * r->part[0] + b[c + i] * r->part[1] + e[c + i] * r->part[2] +
                                    f[c + i] * r->part[3]) * r->mask;
            }
        }
        memset(w->rows + count * d->pitch, 0, (size_t)((PIXELS - count) * d->pitch) * sizeof(real));
        for (int64_t j = 0; j < PIXELS; j += LANES)
            for (int64_t c = 0; c < d->pitch; c += LANES)
                transpose(w->rows + j * d->pitch + c, d->pitch, w->columns + (c * K + k) * PIXELS + j, K * PIXELS);
    }
}

/* out[m] = sum_j weight[m across + j along] in[j] for `count` rows of PIXELS numbers. */
SPECIALISED void combine_some(real *restrict out, const int count, const real *restrict in, int64_t terms,
                              const real *restrict weight, int64_t across, int64_t along) {
    real sum[OUTPUTS][PIXELS] = {{0}};
    for (int64_t j = 0; j < terms; j++)
        FOR_PIXELS FOR_OUTPUTS sum[m][i] += weight[m * across + j * along] * in[j * PIXELS + i];
    memcpy(out, sum, (size_t)count * PIXELS * sizeof(real));
}

static void combine(real *out, int64_t count, const real *in, int64_t terms, const real *weight, int64_t across,
                    int64_t along) {
    int64_t m = 0;
    for (; m + OUTPUTS <= count; m += OUTPUTS)
        combine_some(out + m * PIXELS, OUTPUTS, in, terms, weight + m * across, across, along);
    for (; m < count; m++) combine_some(out + m * PIXELS, 1, in, terms, weight + m * across, across, along);
}

static void forward_block(const Deform *d, const Work *w, int64_t task) {
    const int64_t n = task / blocks(d), p = task % blocks(d) * PIXELS;
    const int64_t count = least(PIXELS, area(d) - p), J = d->inputs * taps(d), O = d->groups * d->outputs;
    real *y = d->y + (n * area(d) + p) * O, tile[TILE];
    read_columns(d, w, n, p, count);
    for (int64_t g = 0; g < d->groups; g++)
        combine(w->lines + g * d->outputs * PIXELS, d->outputs, w->columns + g * J * PIXELS, J,
                d->weight + g * d->outputs * J, J, 1);
    for (int64_t o = 0; o < O; o += LANES)
        for (int64_t j = 0; j < count; j += LANES) {
            transpose(w->lines + o * PIXELS + j, PIXELS, tile, LANES);
            for (int64_t i = 0; i < least(LANES, count - j); i++)
                memcpy(y + (j + i) * O + o, tile + i * LANES, (size_t)least(LANES, O - o) * sizeof(real));
        }
}

/* ---- backward ---------------------------------------------------------------------------------------------------- */

static void load_lines(const Deform *d, const Work *w, int64_t n, int64_t p, int64_t count) {
    const int64_t O = d->groups * d->outputs;
    const real *y = d->y + (n * area(d) + p) * O;
    for (int64_t o = 0; o < O; o += LANES)
        for (int64_t j = 0; j < PIXELS; j += LANES) {
            real tile[TILE] = {0};
            for (int64_t i = 0; i < least(LANES, count - j); i++)
                memcpy(tile + i * LANES, y + (j + i) * O + o, (size_t)least(LANES, O - o) * sizeof(real));
            transpose(tile, LANES, w->lines + o * PIXELS + j, PIXELS);
        }
}

/* Sums of `count` rows of LANES numbers: neighbours are added, four times. */
SPECIALISED void sum_rows(const int count, const real *restrict rows, real *restrict sums) {
    real a[TILE / 2], b[TILE / 4];
    for (int i = 0; i < count * 8; i++) a[i] = rows[2 * i] + rows[2 * i + 1];
    for (int i = 0; i < count * 4; i++) b[i] = a[2 * i] + a[2 * i + 1];
    for (int i = 0; i < count * 2; i++) a[i] = b[2 * i] + b[2 * i + 1];
    for (int i = 0; i < count; i++) sums[i] = a[2 * i] + a[2 * i + 1];
}

static void add_weights(const Deform *d, const Work *w, real *restrict grad) {
    const int64_t J = d->inputs * taps(d), O = d->groups * d->outputs;
    for (int64_t o = 0; o < O; o++) {
        const real *restrict line = w->lines + o * PIXELS, *restrict columns = w->columns + o / d->outputs * J * PIXELS;
        for (int64_t j = 0; j < J; j += LANES) {
            const int64_t count = least(LANES, J - j);
            real rows[TILE] = {0}, sums[LANES];
            for (int64_t m = 0; m < count; m++) {
                const real *restrict column = columns + (j + m) * PIXELS;
                FOR_LANES rows[m * LANES + i] = line[i] * column[i] + line[i + LANES] * column[i + LANES];
            }
            sum_rows(LANES, rows, sums);
            for (int64_t m = 0; m < count; m++) grad[o * J + j + m] += sums[m];
        }
    }
}

/* The adjoint of one read, given the gradient of its column: of the mask, the offset and the corners' rows. */
static void backward_read(const Deform *d, const Work *w, int64_t n, const Read *r, const real *row, int64_t token) {
    const real *v[4];
    real *to[4], dot[4 * LANES] = {0}, s[4];
    for (int m = 0; m < 4; m++) {
        v[m] = corner(d, w, n, r->at[m]);
        to[m] = r->at[m] < 0 ? w->lost : d->grad_x + (n * area(d) + r->at[m]) * d->pitch;
    }
    const real parts[4] = {r->part[0] * r->mask, r->part[1] * r->mask, r->part[2] * r->mask, r->part[3] * r->mask};
    for (int64_t c = 0; c < d->pitch; c += LANES)
        for (int m = 0; m < 4; m++) {
            const real *restrict g = row + c, *restrict value = v[m] + c;
            real *restrict sink = to[m] + c;
            FOR_LANES dot[m * LANES + i] += g[i] * value[i];
            FOR_LANES sink[i] += g[i] * parts[m];
        }
    sum_rows(4, dot, s);
    d->grad_mask[token] = s[0] * r->part[0] + s[1] * r->part[1] + s[2] * r->part[2] + s[3] * r->part[3];
    d->grad_offset[2 * token] = r->mask * ((1 - r->after) * (s[2] - s[0]) + r->after * (s[3] - s[1]));
    d->grad_offset[2 * token + 1] = r->mask * ((1 - r->below) * (s[1] - s[0]) + r->below * (s[3] - s[2]));
}

static void backward_block(const Deform *d, const Work *w, int64_t n, int64_t p, real *grad_weight) {
    const int64_t count = least(PIXELS, area(d) - p), K = taps(d), J = d->inputs * K;
    read_columns(d, w, n, p, count);
    load_lines(d, w, n, p, count);
    add_weights(d, w, grad_weight);
    /* From here on the columns are gradients, those of the padding zero. */
    memset(w->columns + d->groups * J * PIXELS, 0, (size_t)((d->pitch * K - d->groups * J) * PIXELS) * sizeof(real));
    for (int64_t g = 0; g < d->groups; g++)
        combine(w->columns + g * J * PIXELS, J, w->lines + g * d->outputs * PIXELS, d->outputs,
                d->weight + g * d->outputs * J, 1, J);
    for (int64_t k = 0; k < K; k++) {
        for (int64_t j = 0; j < count; j += LANES)
            for (int64_t c = 0; c < d->pitch; c += LANES)
                transpose(w->columns + (c * K + k) * PIXELS + j, K * PIXELS, w->rows + j * d->pitch + c, d->pitch);
        for (int64_t j = 0; j < count; j++)
            backward_read(d, w, n, w->reads + k * PIXELS + j, w->rows + j * d->pitch, (n * area(d) + p + j) * K + k);
    }
}

static void backward_slice(const Deform *d, const Work *w, int64_t slice) {
    real *grad_weight = d->grad_weight + slice * d->groups * d->outputs * d->inputs * taps(d);
    for (int64_t n = slice * d->images / d->slices; n < (slice + 1) * d->images / d->slices; n++)
        for (int64_t p = 0; p < area(d); p += PIXELS) backward_block(d, w, n, p, grad_weight);
}

/* ---- entry points ------------------------------------------------------------------------------------------------ */

/* A thread's buffers; the pointer to free, or NULL if there is no memory. */
static void *allocate(const Deform *d, Work *w) {
    const int64_t K = taps(d), lines = padded(d->groups * d->outputs) * PIXELS;
    const int64_t numbers = d->pitch * (PIXELS + K * PIXELS + 2) + lines;
    char *memory = calloc(1, (size_t)numbers * sizeof(real) + (size_t)(K * PIXELS) * sizeof(Read) + 64);
    if (!memory) return NULL;
    w->rows = (real *)(((uintptr_t)memory + 63) / 64 * 64);
    w->columns = w->rows + PIXELS * d->pitch;
    w->lines = w->columns + d->pitch * K * PIXELS;
    w->nothing = w->lines + lines;
    w->lost = w->nothing + d->pitch;
    w->reads = (Read *)(w->lost + d->pitch);
    return memory;
}

/* Run the tasks on the threads; 1 if there was no memory. */
static int run(const Deform *d, int64_t tasks, void (*work_on)(const Deform *, const Work *, int64_t)) {
    int failed = 0;
#pragma omp parallel num_threads((int)d->threads) reduction(| : failed)
    {
        Work w;
        void *memory = allocate(d, &w);
        failed |= !memory;
#pragma omp for schedule(dynamic)
        for (int64_t task = 0; task < tasks; task++)
            if (memory) work_on(d, &w, task);
        free(memory);
    }
    return failed;
}

int posescale_deform_forward(const Deform *d) { return run(d, d->images * blocks(d), forward_block); }
int posescale_deform_backward(const Deform *d) { return run(d, d->slices, backward_slice); }
