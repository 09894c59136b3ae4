// What follows from the heads' outputs: drawing actions (`sample`), and the PPO loss with its gradient
// (`loss`). The meaning of both is the plain torch in trainer/policy.py and trainer/network.py, the C
// form trainer/network.c. One thread a row; a row's outputs stay in its cache lines from pass to pass.
#include "launch.h"

enum { BLOCK = 128 };

#define HALF_LOG_TWO_PI 0.918938533f
#define FORBIDDEN (-1e9f) // the logit of an action that a mask forbids: its probability is 0

// The outputs of a row: the logits of all action components beside each other, or the means of continuous
// ones (log_sd); then the value, a number (bins 0) or the logits of a distribution over bins that divide
// [-value_limit, value_limit].
typedef struct {
    int64_t components, logits, bins;
    const int32_t *sizes; // [components] actions of each
    const float *log_sd;  // [components] logarithms of the deviations; null where actions are discrete
    float value_limit;
} Heads;

DEVICE int64_t outputs_of(const Heads *heads) {
    return heads->logits + (heads->bins ? heads->bins : 1);
}

// A logit as the mask leaves it.
DEVICE float logit_of(const float *logits, const uint8_t *allowed, int64_t a) {
    return allowed && !allowed[a] ? FORBIDDEN : logits[a];
}

// What log-probabilities are less than their logits; 0 of none.
DEVICE float log_sum(const float *logits, const uint8_t *allowed, int64_t size) {
    if (size == 0) {
        return 0.0f;
    }
    float top = logit_of(logits, allowed, 0), sum = 0.0f;
    for (int64_t a = 1; a < size; a++) {
        float logit = logit_of(logits, allowed, a);
        top = logit > top ? logit : top;
    }
    for (int64_t a = 0; a < size; a++) {
        sum += expf(logit_of(logits, allowed, a) - top);
    }
    return top + logf(sum);
}

// The value of a row. `shift` is the bins' log_sum.
DEVICE float value_of(const Heads *heads, const float *out, float shift) {
    if (!heads->bins) {
        return out[0];
    }
    float width = 2.0f * heads->value_limit / (float)heads->bins, mean = 0.0f;
    for (int64_t k = 0; k < heads->bins; k++) {
        mean += expf(out[k] - shift) * (((float)k + 0.5f) * width - heads->value_limit);
    }
    return mean;
}

// The logarithm of a Gaussian's density, so many deviations off its mean.
DEVICE float density_of(float off, float log_sd) {
    return -0.5f * off * off - (log_sd + HALF_LOG_TWO_PI);
}

// ---- rollout ----

DEVICE float draw_discrete(const Heads *heads, const float *out, const float *draw, const uint8_t *allowed,
                           int32_t *actions) {
    float logprob = 0.0f;
    for (int64_t c = 0; c < heads->components; c++) {
        int64_t size = heads->sizes[c], action = 0;
        float shift = log_sum(out, allowed, size), below = 0.0f; // probability of all actions before this one
        for (int64_t a = 1; a < size; a++) {
            float logit = logit_of(out, allowed, a);
            below += expf(logit_of(out, allowed, a - 1) - shift);
            int further = draw ? draw[c] >= below && expf(logit - shift) > 0.0f
                               : logit > logit_of(out, allowed, action);
            action = further ? a : action;
        }
        logprob += logit_of(out, allowed, action) - shift;
        actions[c] = (int32_t)action;
        out += size;
        allowed = allowed ? allowed + size : NULL;
    }
    return logprob;
}

DEVICE float draw_continuous(const Heads *heads, const float *out, const float *draw, float *actions) {
    float logprob = 0.0f;
    for (int64_t c = 0; c < heads->components; c++) {
        float off = draw ? draw[c] : 0.0f;
        actions[c] = out[c] + expf(heads->log_sd[c]) * off;
        logprob += density_of(off, heads->log_sd[c]);
    }
    return logprob;
}

KERNEL sample_kernel(Heads heads, int64_t rows, const float *__restrict__ outs, const float *__restrict__ draws,
                     const uint8_t *__restrict__ mask, void *actions, float *__restrict__ logprobs,
                     float *__restrict__ values) {
    FOR_ONE(row, rows)
    const float *out = outs + row * outputs_of(&heads), *value_out = out + heads.logits;
    values[row] = value_of(&heads, value_out, log_sum(value_out, NULL, heads.bins));
    if (!actions) {
        return;
    }
    const float *draw = draws ? draws + row * heads.components : NULL;
    if (heads.log_sd) {
        logprobs[row] = draw_continuous(&heads, out, draw, (float *)actions + row * heads.components);
    } else {
        const uint8_t *allowed = mask ? mask + row * heads.logits : NULL;
        logprobs[row] = draw_discrete(&heads, out, draw, allowed, (int32_t *)actions + row * heads.components);
    }
}

// Values of all rows; and, unless `actions` is null, actions with the logarithm of their probability
// (density). `outs` [rows, outputs]. Discrete ones (int32) are drawn by inverting the distribution function
// at `draws` [rows, components], uniform in [0, 1), or are the most probable ones where it is null; `mask`
// [rows, logits] is 0 where an action is forbidden, or null. Continuous ones (float) are means and deviations
// times `draws`, or the means.
EXPORT const char *sample(int64_t rows, int64_t components, int64_t logits, int64_t bins, const int32_t *sizes,
                          const float *log_sd, double value_limit, const float *outs, const float *draws,
                          const uint8_t *mask, void *actions, float *logprobs, float *values, void *stream) {
    Heads heads = {components, logits, bins, sizes, log_sd, (float)value_limit};
    LAUNCH(sample_kernel, rows, BLOCK, stream, heads, rows, outs, draws, mask, actions, logprobs, values);
    return NULL;
}

// ---- update ----

// A minibatch: all steps of some segments, row i being step i / count of segment segments[i % count].
// Buffers are [horizon, columns].
typedef struct {
    int64_t columns, count, rows;
    const int64_t *segments;   // [count]
    const float *weights;      // [columns] importance weights
    const uint8_t *mask;       // [horizon, columns, logits] or null
    const void *actions;       // [horizon, columns, components] int32, or float where they are continuous
    const float *logprobs, *advantages, *returns;
    const float *old_values;   // a copy of values: a segment may be in a minibatch more than once
    float *values, *ratios;    // written
    const float *moments;      // [2] deviation, not 0, and mean of the minibatch's advantages; null: as they are
    const float *ent_coef;     // [1]
    float clip, vf_clip, vf_coef;
} Batch;

enum { POLICY_LOSS, VALUE_LOSS, ENTROPY, KL, CLIPPED }; // rows of `terms` [5, rows]

// Cross-entropy between the value's distribution (the logits `out`, which become the slopes times `factor`;
// `shift` is their log_sum) and a Gaussian around `target`, as `hl_gauss` in policy.py has it.
DEVICE float histogram_loss(const Heads *heads, float target, float factor, float shift, float *out) {
    float limit = heads->value_limit, width = 2.0f * limit / (float)heads->bins;
    float scale = 1.0f / (0.75f * 1.41421356f * width), loss = 0.0f;
    float near = target > limit ? limit : target < -limit ? -limit : target;
    float below = erff((-limit - near) * scale), whole = erff((limit - near) * scale) - below;
    for (int64_t k = 0; k < heads->bins; k++) {
        float above = erff(((float)(k + 1) * width - limit - near) * scale);
        float share = (above - below) / whole;
        float logprob = out[k] - shift;
        loss -= share * logprob;
        out[k] = (expf(logprob) - share) * factor;
        below = above;
    }
    return loss;
}

// Log-probability of the actions taken and the entropy; the logits become log-probabilities.
DEVICE float look_back_discrete(const Heads *heads, float *out, const int32_t *taken, const uint8_t *allowed,
                                float *entropy) {
    float logprob = 0.0f;
    for (int64_t c = 0; c < heads->components; c++) {
        int64_t size = heads->sizes[c];
        float shift = log_sum(out, allowed, size);
        for (int64_t a = 0; a < size; a++) {
            out[a] = logit_of(out, allowed, a) - shift;
            *entropy -= expf(out[a]) * out[a];
        }
        logprob += out[taken[c]];
        out += size;
        allowed = allowed ? allowed + size : NULL;
    }
    return logprob;
}

// From d loss / d logprob (`slope`) and the entropy's weight (`bonus`) to d loss / d logits in their place.
DEVICE void slopes_discrete(const Heads *heads, float *out, const int32_t *taken, float slope, float bonus) {
    for (int64_t c = 0; c < heads->components; c++) {
        int64_t size = heads->sizes[c];
        float own_entropy = 0.0f;
        for (int64_t a = 0; a < size; a++) {
            own_entropy -= expf(out[a]) * out[a];
        }
        for (int64_t a = 0; a < size; a++) {
            float p = expf(out[a]);
            out[a] = p * (bonus * (out[a] + own_entropy) - slope) + (a == taken[c] ? slope : 0.0f);
        }
        out += size;
    }
}

// The same of Gaussians, whose entropy is log_sd and a constant; the means become deviations off them.
DEVICE float look_back_continuous(const Heads *heads, float *out, const float *taken, float *entropy) {
    float logprob = 0.0f;
    for (int64_t c = 0; c < heads->components; c++) {
        out[c] = (taken[c] - out[c]) * expf(-heads->log_sd[c]);
        logprob += density_of(out[c], heads->log_sd[c]);
        *entropy += heads->log_sd[c] + (HALF_LOG_TWO_PI + 0.5f);
    }
    return logprob;
}

DEVICE void slopes_continuous(const Heads *heads, float *out, float *sd_slopes, int64_t rows, float slope,
                              float bonus) {
    for (int64_t c = 0; c < heads->components; c++) {
        float off = out[c];
        sd_slopes[c * rows] = slope * (off * off - 1.0f) - bonus;
        out[c] = slope * off * expf(-heads->log_sd[c]);
    }
}

KERNEL loss_kernel(Heads heads, Batch batch, float *outs, float *__restrict__ terms, float *sd_slopes) {
    FOR_ONE(row, batch.rows)
    int64_t segment = batch.segments[row % batch.count];
    int64_t place = row / batch.count * batch.columns + segment;
    float *out = outs + row * outputs_of(&heads);
    const int32_t *taken = (const int32_t *)batch.actions + place * heads.components;
    const float *taken_floats = (const float *)batch.actions + place * heads.components;
    const uint8_t *allowed = batch.mask ? batch.mask + place * heads.logits : NULL;
    float entropy = 0.0f;
    float logprob = heads.log_sd ? look_back_continuous(&heads, out, taken_floats, &entropy)
                                 : look_back_discrete(&heads, out, taken, allowed, &entropy);

    float scale = batch.weights[segment] / (float)batch.rows;
    float log_ratio = logprob - batch.logprobs[place], ratio = expf(log_ratio);
    float advantage = batch.advantages[place];
    if (batch.moments) {
        advantage = (advantage - batch.moments[1]) / batch.moments[0];
    }
    float low = 1.0f - batch.clip, high = 1.0f + batch.clip;
    float clipped = ratio < low ? low : ratio > high ? high : ratio;
    float gain = ratio * advantage, clipped_gain = clipped * advantage;
    // d loss / d logprob: nothing where the clipped gain is the smaller one
    float slope = gain <= clipped_gain ? -gain * scale : 0.0f;

    float *value_out = out + heads.logits, value_shift = log_sum(value_out, NULL, heads.bins);
    float value = value_of(&heads, value_out, value_shift);
    float target = batch.returns[place], old_value = batch.old_values[place];
    float error = value - target, moved = value - old_value, value_loss;
    if (heads.bins) {
        value_loss = histogram_loss(&heads, target, scale * batch.vf_coef, value_shift, value_out);
    } else {
        float near = moved < -batch.vf_clip ? -batch.vf_clip : moved > batch.vf_clip ? batch.vf_clip : moved;
        float near_error = old_value + near - target;
        int plain = error * error >= near_error * near_error;
        float worst = plain ? error : near_error;
        value_loss = 0.5f * worst * worst;
        value_out[0] = plain || moved == near ? error * scale * batch.vf_coef : 0.0f;
    }

    terms[POLICY_LOSS * batch.rows + row] = -scale * (gain < clipped_gain ? gain : clipped_gain);
    terms[VALUE_LOSS * batch.rows + row] = scale * value_loss;
    terms[ENTROPY * batch.rows + row] = entropy / (float)batch.rows; // the policy's, whatever the row's weight
    terms[KL * batch.rows + row] = (ratio - 1.0f - log_ratio) / (float)batch.rows;
    terms[CLIPPED * batch.rows + row] = ratio < low || ratio > high ? 1.0f / (float)batch.rows : 0.0f;
    batch.ratios[place] = ratio;
    batch.values[place] = value;

    float bonus = scale * *batch.ent_coef;
    if (heads.log_sd) {
        slopes_continuous(&heads, out, sd_slopes + row, batch.rows, slope, bonus);
    } else {
        slopes_discrete(&heads, out, taken, slope, bonus);
    }
}

// From the heads' outputs `outs` [rows, outputs] to d loss / d outputs in their place, each row's shares
// of the five means in `terms` [5, rows] and of d loss / d log_sd in `sd_slopes` [components, rows] (where
// actions are continuous), and new values and ratios in their buffers.
EXPORT const char *loss(int64_t columns, int64_t count, int64_t horizon, int64_t components, int64_t logits,
                        int64_t bins, const int32_t *sizes, const float *log_sd, double value_limit,
                        const int64_t *segments, const float *weights, const uint8_t *mask,
                        const void *actions, const float *logprobs, const float *advantages,
                        const float *returns, const float *old_values, float *values, float *ratios,
                        const float *moments, const float *ent_coef, double clip, double vf_clip,
                        double vf_coef, float *outs, float *terms, float *sd_slopes, void *stream) {
    Heads heads = {components, logits, bins, sizes, log_sd, (float)value_limit};
    Batch batch = {columns,    count,   horizon * count, segments, weights, mask,    actions,
                   logprobs,   advantages, returns,      old_values, values, ratios, moments,
                   ent_coef,   (float)clip, (float)vf_clip, (float)vf_coef};
    LAUNCH(loss_kernel, batch.rows, BLOCK, stream, heads, batch, outs, terms, sd_slopes);
    return NULL;
}
