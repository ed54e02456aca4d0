/* How fast this machine multiplies and adds: 16 independent sums of 16 lanes, all in registers. */
#include <stdint.h>

float multiply_adds(int64_t rounds, float x) {
    float sums[16][16] = {{0}}, total = 0;
    for (int64_t r = 0; r < rounds; r++)
        _Pragma("GCC unroll 16") for (int j = 0; j < 16; j++)
            _Pragma("omp simd") for (int i = 0; i < 16; i++) sums[j][i] = sums[j][i] * x + 1.0f;
    for (int j = 0; j < 16; j++)
        for (int i = 0; i < 16; i++) total += sums[j][i];
    return total;
}
