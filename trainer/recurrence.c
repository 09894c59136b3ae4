/* The recurrent layers on the CPU: everything but their matrix products, which stay with torch. The
 * meaning of these functions is the plain torch in recurrence.py, against which the tests hold them.
 *
 * Arrays are time-major, [steps, rows, ...]. `fresh` [steps, rows] is 1 where a row's state is cleared
 * before the step, because an episode ended; null where it never is. */
#include <stdint.h>

#include "lanes.h"

/* `gates` [steps, rows, 3 units] are products on entry, without bias; gate, candidate and output gate
 * on return. `state` [rows, units] is read before the first step; `states` [steps, rows, units] are
 * those after each step, and may be `state` itself where there is one step. */
void mingru_forward(int64_t steps, int64_t rows, int64_t units, const float *x, float *gates, const float *bias,
                    const float *state, const uint8_t *fresh, float *states, float *out)
{
    for (int64_t place = 0; place < steps * rows; place++) {
        const float *before = place < rows ? state + place * units : states + (place - rows) * units;
        const float *in = x + place * units;
        float *gate = gates + 3 * place * units, *after = states + place * units, *o = out + place * units;
        float keep = fresh && fresh[place] ? 0.0f : 1.0f;
        for (int64_t j = 0; j < units; j += LANES) {
            lanes z = sigmoid(*(lanes *)(gate + j) + *(const lanes *)(bias + j));
            lanes candidate = *(lanes *)(gate + units + j) + *(const lanes *)(bias + units + j);
            lanes open = sigmoid(*(lanes *)(gate + 2 * units + j) + *(const lanes *)(bias + 2 * units + j));
            lanes h = (1.0f - z) * (keep * *(const lanes *)(before + j)) + z * candidate;
            *(lanes *)(gate + j) = z;
            *(lanes *)(gate + units + j) = candidate;
            *(lanes *)(gate + 2 * units + j) = open;
            *(lanes *)(after + j) = h;
            *(lanes *)(o + j) = open * h + (1.0f - open) * *(const lanes *)(in + j);
        }
    }
}

/* From `slopes` [steps, rows, units], d loss / d out, to d loss / d products in place of `gates`, and to
 * the part of d loss / d x that passes beside the gates in place of `slopes`. `carry` [rows, units]
 * comes in as zeros. */
void mingru_backward(int64_t steps, int64_t rows, int64_t units, const float *x, float *gates,
                     const float *state, const uint8_t *fresh, const float *states, float *slopes, float *carry)
{
    for (int64_t place = steps * rows - 1; place >= 0; place--) {
        const float *before = place < rows ? state + place * units : states + (place - rows) * units;
        const float *in = x + place * units, *after = states + place * units;
        float *gate = gates + 3 * place * units, *slope = slopes + place * units;
        float *later = carry + place % rows * units;
        float keep = fresh && fresh[place] ? 0.0f : 1.0f;
        for (int64_t j = 0; j < units; j += LANES) {
            lanes z = *(lanes *)(gate + j), candidate = *(lanes *)(gate + units + j);
            lanes open = *(lanes *)(gate + 2 * units + j), d = *(lanes *)(slope + j);
            lanes d_open = d * (*(const lanes *)(after + j) - *(const lanes *)(in + j));
            lanes d_h = d * open + *(lanes *)(later + j);
            lanes d_z = d_h * (candidate - keep * *(const lanes *)(before + j));
            *(lanes *)(gate + j) = d_z * z * (1.0f - z);
            *(lanes *)(gate + units + j) = d_h * z;
            *(lanes *)(gate + 2 * units + j) = d_open * open * (1.0f - open);
            *(lanes *)(slope + j) = d * (1.0f - open);
            *(lanes *)(later + j) = keep * (1.0f - z) * d_h;
        }
    }
}

/* One step of all rows. `gates` [rows, 4 units] are products on entry, without bias; input gate, forget
 * gate, candidate and output gate on return. States [rows, 2 units] are output and cell; `after` is
 * cleared where `fresh_next` [rows] says so, and may be `before`. */
void lstm_forward(int64_t rows, int64_t units, float *gates, const float *bias, const float *before,
                  const uint8_t *fresh_next, float *after, float *out)
{
    for (int64_t row = 0; row < rows; row++) {
        float *gate = gates + 4 * row * units, *o = out + row * units;
        const float *cell = before + (2 * row + 1) * units;
        float *h_after = after + 2 * row * units, *cell_after = h_after + units;
        float keep = fresh_next && fresh_next[row] ? 0.0f : 1.0f;
        for (int64_t j = 0; j < units; j += LANES) {
            lanes input = sigmoid(*(lanes *)(gate + j) + *(const lanes *)(bias + j));
            lanes forget = sigmoid(*(lanes *)(gate + units + j) + *(const lanes *)(bias + units + j));
            lanes candidate =
                tanh_lanes(*(lanes *)(gate + 2 * units + j) + *(const lanes *)(bias + 2 * units + j));
            lanes open = sigmoid(*(lanes *)(gate + 3 * units + j) + *(const lanes *)(bias + 3 * units + j));
            lanes c = forget * *(const lanes *)(cell + j) + input * candidate, h = open * tanh_lanes(c);
            *(lanes *)(gate + j) = input;
            *(lanes *)(gate + units + j) = forget;
            *(lanes *)(gate + 2 * units + j) = candidate;
            *(lanes *)(gate + 3 * units + j) = open;
            *(lanes *)(h_after + j) = keep * h;
            *(lanes *)(cell_after + j) = keep * c;
            *(lanes *)(o + j) = h;
        }
    }
}

/* One step backwards: from `slopes` [rows, units], d loss / d out, to d loss / d products in place of
 * `gates`. `carry_h` and `carry_c` [rows, units] hold d loss / d state after this step, which counts where
 * the state was not cleared; on return `carry_c` is that before the step. */
void lstm_backward(int64_t rows, int64_t units, float *gates, const float *before, const uint8_t *fresh_next,
                   const float *slopes, const float *carry_h, float *carry_c)
{
    for (int64_t row = 0; row < rows; row++) {
        float *gate = gates + 4 * row * units;
        const float *cell = before + (2 * row + 1) * units, *slope = slopes + row * units;
        const float *later_h = carry_h + row * units;
        float *later_c = carry_c + row * units;
        float keep = fresh_next && fresh_next[row] ? 0.0f : 1.0f;
        for (int64_t j = 0; j < units; j += LANES) {
            lanes input = *(lanes *)(gate + j), forget = *(lanes *)(gate + units + j);
            lanes candidate = *(lanes *)(gate + 2 * units + j), open = *(lanes *)(gate + 3 * units + j);
            lanes c_before = *(const lanes *)(cell + j);
            lanes squashed = tanh_lanes(forget * c_before + input * candidate);
            lanes d_h = *(const lanes *)(slope + j) + keep * *(const lanes *)(later_h + j);
            lanes d_c = d_h * open * (1.0f - squashed * squashed) + keep * *(lanes *)(later_c + j);
            *(lanes *)(gate + j) = d_c * candidate * input * (1.0f - input);
            *(lanes *)(gate + units + j) = d_c * c_before * forget * (1.0f - forget);
            *(lanes *)(gate + 2 * units + j) = d_c * input * (1.0f - candidate * candidate);
            *(lanes *)(gate + 3 * units + j) = d_h * squashed * open * (1.0f - open);
            *(lanes *)(later_c + j) = d_c * forget;
        }
    }
}
