// The minGRU layer on the GPU: everything but its matrix product, which stays with torch. Its meaning is
// `mingru` in trainer/recurrence.py, its C form trainer/recurrence.c. One thread a unit of a row, walking
// through time: neighbouring threads read neighbouring units, and only the state waits from step to step.
//
// Arrays are time-major, [steps, rows, ...]. `fresh` [steps, rows] is 1 where a row's state is cleared
// before the step, because an episode ended; null where it never is.
#include "launch.h"

enum { BLOCK = 128 };

DEVICE float sigmoid(float x) {
    return 1.0f / (1.0f + expf(-x));
}

KERNEL forward_kernel(int64_t steps, int64_t rows, int64_t units, const float *__restrict__ x, float *gates,
                      const float *__restrict__ bias, const float *state, const uint8_t *__restrict__ fresh,
                      float *states, float *__restrict__ out) {
    FOR_ONE(i, rows * units)
    int64_t row = i / units, j = i % units;
    float gate_bias = bias[j], candidate_bias = bias[units + j], open_bias = bias[2 * units + j];
    float h = state[i];
    for (int64_t t = 0; t < steps; t++) {
        int64_t place = t * rows + row, at = place * units + j;
        float *gate = gates + 3 * place * units + j;
        float keep = fresh && fresh[place] ? 0.0f : 1.0f;
        float z = sigmoid(gate[0] + gate_bias), candidate = gate[units] + candidate_bias;
        float open = sigmoid(gate[2 * units] + open_bias);
        h = (1.0f - z) * (keep * h) + z * candidate;
        gate[0] = z;
        gate[units] = candidate;
        gate[2 * units] = open;
        states[at] = h;
        out[at] = open * h + (1.0f - open) * x[at];
    }
}

KERNEL backward_kernel(int64_t steps, int64_t rows, int64_t units, const float *__restrict__ x, float *gates,
                       const float *__restrict__ state, const uint8_t *__restrict__ fresh,
                       const float *__restrict__ states, float *slopes) {
    FOR_ONE(i, rows * units)
    int64_t row = i / units, j = i % units;
    float later = 0.0f; // d loss / d state after the step
    for (int64_t t = steps - 1; t >= 0; t--) {
        int64_t place = t * rows + row, at = place * units + j;
        float *gate = gates + 3 * place * units + j;
        float keep = fresh && fresh[place] ? 0.0f : 1.0f;
        float before = t ? states[at - rows * units] : state[i];
        float z = gate[0], candidate = gate[units], open = gate[2 * units], d = slopes[at];
        float d_h = d * open + later;
        gate[0] = d_h * (candidate - keep * before) * z * (1.0f - z);
        gate[units] = d_h * z;
        gate[2 * units] = d * (states[at] - x[at]) * open * (1.0f - open);
        slopes[at] = d * (1.0f - open);
        later = keep * (1.0f - z) * d_h;
    }
}

// `gates` [steps, rows, 3 units] are products on entry, without bias; gate, candidate and output gate on
// return. `state` [rows, units] is read before the first step; `states` [steps, rows, units] are those
// after each step, and may be `state` itself where there is one step.
EXPORT const char *mingru_forward(int64_t steps, int64_t rows, int64_t units, const float *x, float *gates,
                                  const float *bias, const float *state, const uint8_t *fresh, float *states,
                                  float *out, void *stream) {
    LAUNCH(forward_kernel, rows *units, BLOCK, stream, steps, rows, units, x, gates, bias, state, fresh, states,
           out);
    return NULL;
}

// From `slopes` [steps, rows, units], d loss / d out, to d loss / d products in place of `gates`, and to the
// part of d loss / d x that passes beside the gates in place of `slopes`.
EXPORT const char *mingru_backward(int64_t steps, int64_t rows, int64_t units, const float *x, float *gates,
                                   const float *state, const uint8_t *fresh, const float *states,
                                   float *slopes, void *stream) {
    LAUNCH(backward_kernel, rows *units, BLOCK, stream, steps, rows, units, x, gates, state, fresh, states,
           slopes);
    return NULL;
}
