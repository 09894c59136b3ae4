/* As many floats at once as a register holds: 16 with AVX-512, 8 with AVX, 4 with SSE or NEON. Of vectors that
 * are longer than a register GCC keeps the sums in memory, which made Muon ten times as slow. */
#ifndef LANES_H
#define LANES_H

#include <stdint.h>
#ifdef __FMA__
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
#define LANES 16
#elif defined(__AVX__)
#define LANES 8
#else
#define LANES 4
#endif
#define INLINE static inline __attribute__((always_inline))

/* aligned(4): rows of torch tensors start anywhere */
typedef float lanes __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef float quarter __attribute__((vector_size(16), aligned(4), may_alias));
typedef int32_t bits __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

INLINE float sum_lanes(lanes x)
{
    union { lanes all; quarter parts[LANES / 4]; } a = {x};
    for (int half = LANES / 8; half; half /= 2)
        for (int i = 0; i < half; i++)
            a.parts[i] += a.parts[i + half];
    quarter s = a.parts[0];
    return (s[0] + s[2]) + (s[1] + s[3]);
}

INLINE lanes all(float x) { return x - (lanes){0}; }
INLINE lanes choose(bits mask, lanes yes, lanes no) { return (lanes)((mask & (bits)yes) | (~mask & (bits)no)); }
INLINE lanes least(lanes a, lanes b) { return choose(a < b, a, b); }
INLINE lanes most(lanes a, lanes b) { return choose(a > b, a, b); }

/* a * b + c, rounded once where the processor has it. By name: what the compiler would fuse by itself
 * might depend on where in a block a row lies. */
INLINE lanes fused(lanes a, lanes b, lanes c)
{
#if defined(__AVX512F__)
    return (lanes)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(__FMA__)
    return (lanes)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#else
    return a * b + c;
#endif
}

/* e^x to 2 units in the last place; not a number stays one, below -87 it is 0, above 87 it saturates. */
INLINE lanes exp_lanes(lanes x)
{
    lanes y = choose(x < -87.0f, all(-87.0f), choose(x > 87.0f, all(87.0f), x));
    lanes shifted = fused(y, all(1.44269504f), all(12582912.0f)); /* 1.5 * 2^23: rounds to a whole number */
    lanes n = shifted - 12582912.0f;
    lanes r = fused(n, all(2.12194440e-4f), fused(n, all(-0.693359375f), y));
    lanes p = all(1.9875691500e-4f);
    p = fused(p, r, all(1.3981999507e-3f));
    p = fused(p, r, all(8.3334519073e-3f));
    p = fused(p, r, all(4.1665795894e-2f));
    p = fused(p, r, all(1.6666665459e-1f));
    p = fused(p, r, all(5.0000001201e-1f));
    p = fused(p * r, r, r) + 1.0f;
    lanes scaled = (lanes)((bits)p + ((bits)shifted << 23));
    return choose(x == x, choose(x < -87.0f, all(0.0f), scaled), x);
}

INLINE lanes sigmoid(lanes x) { return 1.0f / (1.0f + exp_lanes(-x)); }
INLINE lanes tanh_lanes(lanes x) { return 2.0f * sigmoid(2.0f * x) - 1.0f; }

#endif
