/* Sixteen floats at once: one register with AVX-512, two with AVX2, four with SSE or NEON. */
#ifndef LANES_H
#define LANES_H

#include <stdint.h>

#define LANES 16
#define INLINE static inline __attribute__((always_inline))

/* aligned(4): rows of torch tensors start anywhere */
typedef float lanes __attribute__((vector_size(64), aligned(4), may_alias));
typedef float half __attribute__((vector_size(32), aligned(4), may_alias));
typedef float quarter __attribute__((vector_size(16), aligned(4), may_alias));
typedef int32_t bits __attribute__((vector_size(64), aligned(4), may_alias));

INLINE float sum_lanes(lanes x)
{
    union { lanes all; half parts[2]; } a = {x};
    union { half all; quarter parts[2]; } b = {a.parts[0] + a.parts[1]};
    quarter s = b.parts[0] + b.parts[1];
    return (s[0] + s[2]) + (s[1] + s[3]);
}

INLINE lanes all(float x) { return x - (lanes){0}; }
INLINE lanes choose(bits mask, lanes yes, lanes no) { return (lanes)((mask & (bits)yes) | (~mask & (bits)no)); }
INLINE lanes least(lanes a, lanes b) { return choose(a < b, a, b); }
INLINE lanes most(lanes a, lanes b) { return choose(a > b, a, b); }

/* e^x to 2 units in the last place; not a number stays one, below -87 it is 0, above 87 it saturates. */
INLINE lanes exp_lanes(lanes x)
{
    lanes y = choose(x < -87.0f, all(-87.0f), choose(x > 87.0f, all(87.0f), x));
    lanes shifted = y * 1.44269504f + 12582912.0f; /* 1.5 * 2^23: rounds to a whole number */
    lanes n = shifted - 12582912.0f;
    lanes r = (y - n * 0.693359375f) + n * 2.12194440e-4f;
    lanes p = all(1.9875691500e-4f);
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    lanes scaled = (lanes)((bits)p + ((bits)shifted << 23));
    return choose(x == x, choose(x < -87.0f, all(0.0f), scaled), x);
}

INLINE lanes sigmoid(lanes x) { return 1.0f / (1.0f + exp_lanes(-x)); }
INLINE lanes tanh_lanes(lanes x) { return 2.0f * sigmoid(2.0f * x) - 1.0f; }

#endif
