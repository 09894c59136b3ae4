// What every source here includes. Each of them is CUDA for a GPU and, where no CUDA compiler reads it,
// plain C for the processor: a kernel is then called for one thread after the other, so that its very
// body is tested on machines without a GPU. What such a loop cannot do (shared memory, barriers, warps)
// the kernels leave alone: each thread works by itself.
//
// Entry points take pointers, int64_t and double, the stream last, and return null or what went wrong.
#ifndef LAUNCH_H
#define LAUNCH_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>

// Every kernel begins with this: `i` is its thread's place, and threads beyond the data do nothing.
#define FOR_ONE(i, count)                                            \
    int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;      \
    if (i >= (count))                                                \
        return;

#define TOO_MANY "the number of threads lies outside [1, 2^31 blocks)"

#ifdef __CUDACC__

#include <cuda_runtime.h>
#define KERNEL static __global__ void
#define DEVICE static __device__ inline
#define EXPORT extern "C"

// `count` threads, `block` of them together; returns from the entry point where the launch failed.
#define LAUNCH(kernel, count, block, stream, ...)                                            \
    do {                                                                                     \
        int64_t blocks_ = ((count) + (block) - 1) / (block);                                 \
        if (blocks_ < 1 || blocks_ > INT32_MAX)                                              \
            return TOO_MANY;                                                                 \
        kernel<<<(unsigned)blocks_, (block), 0, (cudaStream_t)(stream)>>>(__VA_ARGS__);      \
        cudaError_t error_ = cudaGetLastError();                                             \
        if (error_ != cudaSuccess)                                                           \
            return cudaGetErrorString(error_);                                               \
    } while (0)

#else

#define KERNEL static void
#define DEVICE static inline
#define EXPORT

typedef struct {
    unsigned x;
} Place;
static _Thread_local Place threadIdx, blockIdx, blockDim;

// With BACKWARDS the last thread comes first: a kernel whose threads need each other gives itself away.
#ifdef BACKWARDS
#define LAUNCH_TURN(i, count) ((count) - 1 - (i))
#else
#define LAUNCH_TURN(i, count) (i)
#endif

#define LAUNCH(kernel, count, block, stream, ...)                                            \
    do {                                                                                     \
        int64_t blocks_ = ((count) + (block) - 1) / (block);                                 \
        if (blocks_ < 1 || blocks_ > INT32_MAX)                                              \
            return TOO_MANY;                                                                 \
        (void)(stream);                                                                      \
        blockDim.x = (block);                                                                \
        for (int64_t i_ = 0; i_ < blocks_ * (block); i_++) {                                 \
            int64_t at_ = LAUNCH_TURN(i_, blocks_ * (block));                                       \
            blockIdx.x = (unsigned)(at_ / (block));                                          \
            threadIdx.x = (unsigned)(at_ % (block));                                         \
            kernel(__VA_ARGS__);                                                             \
        }                                                                                    \
    } while (0)

static inline unsigned long long atomicMin(unsigned long long *least, unsigned long long value) {
    unsigned long long before = *least;
    *least = value < before ? value : before;
    return before;
}

#endif
#endif
