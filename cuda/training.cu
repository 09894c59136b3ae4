// What else an iteration needs that must not wait for the host: random numbers that depend on a counter
// in the GPU's memory (a graph that is replayed draws new ones each time), and Adam, whose learning rate
// and step count are numbers in that memory too.
#include "launch.h"

enum { BLOCK = 128, ROUNDS = 6 };

// SplitMix64's mixing function (Steele, Lea, Flood 2014).
DEVICE uint64_t mix(uint64_t z) {
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    return z ^ (z >> 31);
}

// Of one draw: `seed` of the run, `counter` of the draws so far.
DEVICE uint64_t key_of(int64_t seed, const int64_t *counter) {
    return mix(mix((uint64_t)seed + 0x9E3779B97F4A7C15ull) + (uint64_t)*counter * 0xD1342543DE82EF95ull);
}

KERNEL uniform_kernel(int64_t count, int64_t seed, const int64_t *__restrict__ counter,
                      float *__restrict__ out) {
    FOR_ONE(i, count)
    uint64_t bits = mix(key_of(seed, counter) + ((uint64_t)i + 1) * 0x9E3779B97F4A7C15ull);
    out[i] = (float)(bits >> 40) * (1.0f / 16777216.0f);
}

// A Feistel network permutes [0, 4^half); what falls outside [0, count) is sent through again until it
// falls inside, which makes a permutation of [0, count) without any sorting (Black and Rogaway 2002).
KERNEL permutation_kernel(int64_t count, int half, int64_t seed, const int64_t *__restrict__ counter,
                          int64_t *__restrict__ out) {
    FOR_ONE(i, count)
    uint64_t key = key_of(seed, counter), low_bits = (1ull << half) - 1, x = (uint64_t)i;
    do {
        uint64_t left = x >> half, right = x & low_bits;
        for (int round = 0; round < ROUNDS; round++) {
            uint64_t next = left ^ (mix(key + (right + 1) * 0x9E3779B97F4A7C15ull + (uint64_t)round) & low_bits);
            left = right;
            right = next;
        }
        x = left << half | right;
    } while (x >= (uint64_t)count);
    out[i] = (int64_t)x;
}

KERNEL adam_kernel(int64_t count, float *__restrict__ weight, const float *__restrict__ grad,
                   float *__restrict__ mean, float *__restrict__ square, const int64_t *__restrict__ steps,
                   const float *__restrict__ rate, float factor, double momentum, double beta2,
                   float epsilon) {
    FOR_ONE(i, count)
    float g = grad[i], m = mean[i], s = square[i];
    float mean_scale = (float)(1.0 / (1.0 - pow(momentum, (double)*steps)));
    float square_scale = (float)(1.0 / (1.0 - pow(beta2, (double)*steps)));
    m += (float)(1.0 - momentum) * (g - m);
    s = (float)beta2 * s + (float)(1.0 - beta2) * g * g;
    mean[i] = m;
    square[i] = s;
    weight[i] -= *rate * factor * mean_scale * m / (sqrtf(square_scale * s) + epsilon);
}

// `out` [count] floats in [0, 1), of 2^24 equally likely values.
EXPORT const char *uniform(int64_t count, int64_t seed, const int64_t *counter, float *out, void *stream) {
    LAUNCH(uniform_kernel, count, BLOCK, stream, count, seed, counter, out);
    return NULL;
}

// `out` [count]: the numbers from 0 on, in random order.
EXPORT const char *permutation(int64_t count, int64_t seed, const int64_t *counter, int64_t *out, void *stream) {
    int half = 1;
    while (((int64_t)1 << 2 * half) < count) {
        half++;
    }
    LAUNCH(permutation_kernel, count, BLOCK, stream, count, half, seed, counter, out);
    return NULL;
}

// One step of Adam in place, as `adam_reference` in trainer/optimizer.py: `steps` [1] counts from 1, the
// learning rate is `rate` [1] times `factor`.
EXPORT const char *adam(int64_t count, float *weight, const float *grad, float *mean, float *square,
                        const int64_t *steps, const float *rate, double factor, double momentum, double beta2,
                        double epsilon, void *stream) {
    LAUNCH(adam_kernel, count, BLOCK, stream, count, weight, grad, mean, square, steps, rate, (float)factor,
           momentum, beta2, (float)epsilon);
    return NULL;
}
