/* 2^x, softplus and its slope, SiLU and GELU: branch-free, so that a loop over lanes becomes vector instructions; and
   the compiler's hints that all kernels share.

   NaN stays NaN. `real` is float, or double with POSESCALE_DOUBLE, where the C library is exact enough and fast does
   not matter. */

#ifndef POSESCALE_ELEMENTARY_H
#define POSESCALE_ELEMENTARY_H

#include <math.h>
#include <stdint.h>

#ifdef __GNUC__
#define PREFETCH(p) __builtin_prefetch(p)
#define SPECIALISED static inline __attribute__((always_inline)) /* constant arguments make each call its own loop */
#define SEPARATE static __attribute__((noinline)) /* a loop of its own: inside its caller registers run out */
#else
#define PREFETCH(p) ((void)(p))
#define SPECIALISED static inline
#define SEPARATE static
#endif

#define LOG2E 1.4426950408889634
#define LN2 0.6931471805599453
#define SOFTPLUS_IDENTITY 20
#define POWER2_RANGE 126     /* |x| up to which power2_bounded(x) is 2^x */

#ifdef POSESCALE_DOUBLE

typedef double real;

static inline real power2(real x) { return exp2(x); }
static inline real power2_bounded(real x) { return exp2(x); }
static inline real absolute(real x) { return fabs(x); }
static inline real exp_minus_abs(real v) { return exp(-fabs(v)); }
static inline real log1p_unit(real z) { return log1p(z); }
static inline real normal_tails(real a) { return erfc(a * sqrt(0.5)); }

#else

typedef float real;

static inline real absolute(real x) { return fabsf(x); }

typedef union {
    float f;
    uint32_t u;
} Bits;

/* 2^f for |f| <= 1/2, relative error 1.1e-7 at the ends. Exactly 1 at 0 and with slope ln 2 there, where the error
   falls with f^2: slow decays amplify any bias near 1. */
static inline float power2_fraction(float f) {
    return 1.0f + f * (0.69314718f + f * (0.24022282f + f * (0.0555056f + f * (0.00966971f + f * 0.00133003f))));
}

static inline float scaled(float p, float n) { /* p 2^n, n an integer in -127 ... 128 */
    Bits r;
    r.f = p;
    r.u += (uint32_t)(int32_t)n << 23;
    return r.f;
}

static inline float power2_bounded(float x) {
    const float n = rintf(x);
    return scaled(power2_fraction(x - n), n);
}

/* 2^x; 0 below 2^-127, infinity from 2^128: at both clamps the fraction is 0. */
static inline float power2(float x) {
    float low = x < -127.0f ? -127.0f : x;
    return power2_bounded(low > 128.0f ? 128.0f : low);
}

/* e^-|v| with the reduction split in two parts: the argument's rounding would cost digits where softplus is tiny. */
static inline float exp_minus_abs(float v) {
    float t = -fabsf(v) < -87.0f ? -87.0f : -fabsf(v);
    float n = rintf(t * (float)LOG2E);
    float r = (t - n * 0.693359375f) + n * 2.12194440e-4f;
    return scaled(power2_fraction(r * (float)LOG2E), n);
}

/* log(1 + z) for 0 <= z <= 1: z - z^2 q(z), relative error 5e-9 before rounding, so that a tiny z keeps its digits. */
static inline float log1p_unit(float z) {
    float q = 0.49999933f + z * (-0.33330511f + z * (0.24958585f + z * (-0.19695387f + z * (0.15355351f +
              z * (-0.10680474f + z * (0.057663583f + z * (-0.020204098f + z * 0.0033183581f)))))));
    return z - z * z * q;
}

/* erfc(a / sqrt 2) for a >= 0, the normal distribution beyond +-a, as 2^(a q(a)); relative error 2e-7 for a < 2, more
   where little is left. */
static inline float normal_tails(float a) {
    const float t = a > 9.5f ? 9.5f : a;
    float q = -1.1511135f + t * (-0.45914418f + t * (-0.052672856f + t * (0.0072975704f + t * (-0.00029983878f +
              t * (-0.00012737533f + t * (3.0118597e-5f + t * (-2.7876683e-6f + t * 9.661022e-8f)))))));
    return power2_bounded(t * q);
}

#endif

/* max(v, 0) + log1p(z), z = e^-|v|. Above 20 PyTorch and the published kernel take v; in float that is the same. */
static inline real softplus(real v, real z) {
    real s = (v > 0 ? v : 0) + log1p_unit(z);
    return sizeof(real) > sizeof(float) && v > SOFTPLUS_IDENTITY ? v : s;
}

/* d softplus / d v, given z = e^-|v|. */
static inline real softplus_slope(real v, real z) {
    real share = z / (1 + z), s = v < 0 ? share : 1 - share;
    return sizeof(real) > sizeof(float) && v > SOFTPLUS_IDENTITY ? 1 : s;
}

/* v / (1 + e^-v). */
static inline real silu(real v) {
    const real z = exp_minus_abs(v);
    return (v < 0 ? v * z : v) / (1 + z);
}

/* v times the normal distribution below v. */
static inline real gelu(real v) {
    const real beyond = (real)0.5 * normal_tails(absolute(v));
    return v * (v > 0 ? 1 - beyond : beyond);
}

#endif
