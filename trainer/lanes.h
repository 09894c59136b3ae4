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

#endif
