// What else an iteration needs that must not wait for the host: random numbers that depend on a counter
// in the GPU's memory (a graph that is replayed draws new ones each time), and Adam, whose learning rate
// and step count are numbers in that memory too. What all threads share is computed before, by one.
#include "launch.h"

enum { BLOCK = 128, ROUNDS = 6 };

// SplitMix64's mixing function (Steele, Lea, Flood 2014).
DEVICE uint64_t mix(uint64_t z) {
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    return z ^ (z >> 31);
}

KERNEL next_draw_kernel(int64_t seed, int64_t *state) {
    FOR_ONE(i, 1)
    state[0]++;
    uint64_t count = (uint64_t)state[0] * 0xD1342543DE82EF95ull;
    state[1] = (int64_t)mix(mix((uint64_t)seed + 0x9E3779B97F4A7C15ull) + count + (uint64_t)i);
}

// Two numbers a thread, of 24 bits each, half the array apart so that neighbours write neighbours.
KERNEL uniform_kernel(int64_t count, const int64_t *__restrict__ state, float *__restrict__ out) {
    FOR_ONE(i, (count + 1) / 2)
    uint64_t bits = mix((uint64_t)state[1] + ((uint64_t)i + 1) * 0x9E3779B97F4A7C15ull);
    int64_t other = i + (count + 1) / 2;
    out[i] = (float)(bits >> 40) * (1.0f / 16777216.0f);
    if (other < count) {
        out[other] = (float)(bits & 0xFFFFFF) * (1.0f / 16777216.0f);
    }
}

// Of two uniform numbers, two normal ones (Box and Muller 1958), half the array apart.
KERNEL normal_kernel(int64_t count, const int64_t *__restrict__ state, float *__restrict__ out) {
    FOR_ONE(i, (count + 1) / 2)
    uint64_t bits = mix((uint64_t)state[1] + ((uint64_t)i + 1) * 0x9E3779B97F4A7C15ull);
    int64_t other = i + (count + 1) / 2;
    float above = ((float)(bits >> 40) + 1.0f) * (1.0f / 16777216.0f); // in (0, 1]: it has a logarithm
    float turn = 6.28318531f * (float)(bits & 0xFFFFFF) * (1.0f / 16777216.0f);
    float length = sqrtf(-2.0f * logf(above));
    out[i] = length * cosf(turn);
    if (other < count) {
        out[other] = length * sinf(turn);
    }
}

// A Feistel network permutes [0, 4^half); what falls outside [0, count) is sent through again until it
// falls inside, which makes a permutation of [0, count) without any sorting (Black and Rogaway 2002).
KERNEL permutation_kernel(int64_t count, int half, const int64_t *__restrict__ state,
                          int64_t *__restrict__ out) {
    FOR_ONE(i, count)
    uint64_t key = (uint64_t)state[1], low_bits = (1ull << half) - 1, x = (uint64_t)i;
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

KERNEL next_step_kernel(int64_t *steps, double momentum, double beta2, float *scales) {
    FOR_ONE(i, 1)
    steps[i]++;
    scales[0] = (float)(1.0 / (1.0 - pow(momentum, (double)*steps)));
    scales[1] = (float)(1.0 / (1.0 - pow(beta2, (double)*steps)));
}

KERNEL adam_kernel(int64_t count, float *__restrict__ weight, const float *__restrict__ grad,
                   float *__restrict__ mean, float *__restrict__ square, const float *__restrict__ scales,
                   const float *__restrict__ rate, float factor, float fresh_mean, float fresh_square,
                   float epsilon) {
    FOR_ONE(i, count)
    float g = grad[i], m = mean[i], s = square[i];
    m += fresh_mean * (g - m);
    s += fresh_square * (g * g - s);
    mean[i] = m;
    square[i] = s;
    weight[i] -= *rate * factor * scales[0] * m / (sqrtf(scales[1] * s) + epsilon);
}

// Begin a draw: `state` [2] holds the number of draws of this run and the key of the last one.
EXPORT const char *next_draw(int64_t seed, int64_t *state, void *stream) {
    LAUNCH(next_draw_kernel, 1, 1, stream, seed, state);
    return NULL;
}

// `out` [count] floats in [0, 1), of 2^24 equally likely values.
EXPORT const char *uniform(int64_t count, const int64_t *state, float *out, void *stream) {
    LAUNCH(uniform_kernel, (count + 1) / 2, BLOCK, stream, count, state, out);
    return NULL;
}

// `out` [count] floats of the normal distribution.
EXPORT const char *normal(int64_t count, const int64_t *state, float *out, void *stream) {
    LAUNCH(normal_kernel, (count + 1) / 2, BLOCK, stream, count, state, out);
    return NULL;
}

// `out` [count]: the numbers from 0 on, in random order.
EXPORT const char *permutation(int64_t count, const int64_t *state, int64_t *out, void *stream) {
    int half = 1;
    while (((int64_t)1 << 2 * half) < count) {
        half++;
    }
    LAUNCH(permutation_kernel, count, BLOCK, stream, count, half, state, out);
    return NULL;
}

// Begin a step of Adam: `steps` [1] counts them, `scales` [2] are what the moments' beginning at 0 asks for.
EXPORT const char *next_step(int64_t *steps, double momentum, double beta2, float *scales, void *stream) {
    LAUNCH(next_step_kernel, 1, 1, stream, steps, momentum, beta2, scales);
    return NULL;
}

// The step, in place, as `adam_reference` in trainer/optimizer.py; the learning rate is `rate` [1] times
// `factor`.
EXPORT const char *adam(int64_t count, float *weight, const float *grad, float *mean, float *square,
                        const float *scales, const float *rate, double factor, double momentum, double beta2,
                        double epsilon, void *stream) {
    LAUNCH(adam_kernel, count, BLOCK, stream, count, weight, grad, mean, square, scales, rate, (float)factor,
           (float)(1.0 - momentum), (float)(1.0 - beta2), (float)epsilon);
    return NULL;
}
