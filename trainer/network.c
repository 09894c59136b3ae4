/* The network on the CPU in one pass: bias and ReLU of the last hidden layer, the action and value
 * heads, and what follows from them: drawing actions (`act`), or the PPO loss with its gradient
 * (`loss`). A first layer of few inputs is computed here too; larger matrix products stay with
 * torch, which hands over the last layer before its bias (`pre`). The meaning of both functions is
 * the plain torch in policy.py and network.py, against which the tests hold them.
 *
 * Rows are taken 16 at a time; what concerns one number a row (softmax, loss) is done for these 16
 * in the lanes of one vector. */
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "lanes.h"

#define MAX_OUTPUTS 512 /* at most 256 logits of all action components, and the value's, at most 256 */

/* ReLU; what is not a number passes, so that a network that has diverged shows it */
INLINE lanes rectify(lanes a) { return choose(a < 0.0f, all(0.0f), a); }

/* Natural logarithm of a positive, normal x. */
INLINE lanes log_lanes(lanes x)
{
    bits exponent = ((bits)x - 0x3f3504f3) >> 23; /* the mantissa below lies in [sqrt(1/2), sqrt(2)) */
    lanes f = (lanes)((bits)x - (exponent << 23)) - 1.0f;
    lanes e = __builtin_convertvector(exponent, lanes);
    lanes p = all(7.0376836292e-2f);
    p = fused(p, f, all(-1.1514610310e-1f));
    p = fused(p, f, all(1.1676998740e-1f));
    p = fused(p, f, all(-1.2420140846e-1f));
    p = fused(p, f, all(1.4249322787e-1f));
    p = fused(p, f, all(-1.6668057665e-1f));
    p = fused(p, f, all(2.0000714765e-1f));
    p = fused(p, f, all(-2.4999993993e-1f));
    p = fused(p, f, all(3.3333331174e-1f));
    lanes square = f * f;
    return f + (p * f * square - 0.5f * square + e * -2.12194440e-4f) + e * 0.693359375f;
}

/* ---- layers ---- */

struct network {
    int64_t inputs, hidden, components;
    int64_t bins;                 /* the value is a number (0), or the mean of a distribution over bins */
    const int32_t *sizes;         /* [components] actions of each; 1 each where actions are continuous */
    const float *weight, *bias;   /* [inputs, hidden] or null where torch multiplies; [hidden] or null where
                                   * the heads read `pre` as it is */
    const float *head, *head_bias; /* [outputs, hidden], a row for every logit, then the value's; [outputs] */
    const float *log_sd;          /* [components] of continuous actions, whose means are the outputs; or null */
    float *grad_weight, *grad_bias, *grad_head, *grad_head_bias, *grad_log_sd;
    float *scratch;               /* [16, hidden], with `weight` only */
    float value_limit;            /* the bins divide [-value_limit, value_limit] */
};

static int count_logits(const struct network *net)
{
    int logits = 0;
    for (int64_t c = 0; c < net->components; c++)
        logits += net->sizes[c];
    return logits;
}

/* Adds bias, applies ReLU in place. */
INLINE void relu(int rows, int64_t hidden, float *pre, const float *bias)
{
    if (!bias)
        return;
    for (int64_t j = 0; j < hidden; j += LANES) {
        lanes b = *(const lanes *)(bias + j);
        for (int r = 0; r < rows; r++) {
            lanes *h = (lanes *)(pre + r * hidden + j);
            *h = rectify(*h + b);
        }
    }
}

/* h[row] = relu(obs[row] . weight + bias) for few inputs */
INLINE void first_layer_rows(int rows, const struct network *net, const float *const *obs, float *h)
{
    int64_t inputs = net->inputs, hidden = net->hidden;
    for (int64_t j = 0; j < hidden; j += LANES) {
        lanes sums[LANES];
        for (int r = 0; r < rows; r++)
            sums[r] = *(const lanes *)(net->bias + j);
        for (int64_t i = 0; i < inputs; i++) {
            lanes w = *(const lanes *)(net->weight + i * hidden + j);
            for (int r = 0; r < rows; r++)
                sums[r] = fused(all(obs[r][i]), w, sums[r]);
        }
        for (int r = 0; r < rows; r++)
            *(lanes *)(h + r * hidden + j) = rectify(sums[r]);
    }
}

INLINE void first_layer_backward_rows(int rows, const struct network *net, const float *const *obs,
                                      const float *grad)
{
    int64_t inputs = net->inputs, hidden = net->hidden;
    for (int64_t j = 0; j < hidden; j += LANES)
        for (int64_t i = 0; i < inputs; i += 4) {
            int width = inputs - i < 4 ? (int)(inputs - i) : 4; /* sums that do not wait for each other */
            lanes sums[4] = {{0}};
            for (int r = 0; r < rows; r++)
                for (int k = 0; k < width; k++)
                    sums[k] = fused(all(obs[r][i + k]), *(const lanes *)(grad + r * hidden + j), sums[k]);
            for (int k = 0; k < width; k++)
                *(lanes *)(net->grad_weight + (i + k) * hidden + j) += sums[k];
        }
}

/* Nearly all blocks are whole: for them the compiler knows the number of rows, and keeps what
 * belongs to a row in a register. */
#define WHOLE_OR_NOT(function, rows, ...)                                                                    \
    do {                                                                                                     \
        if ((rows) == LANES)                                                                                 \
            function(LANES, __VA_ARGS__);                                                                    \
        else                                                                                                 \
            function(rows, __VA_ARGS__);                                                                     \
    } while (0)

static void first_layer(int rows, const struct network *net, const float *const *obs, float *h)
{
    WHOLE_OR_NOT(first_layer_rows, rows, net, obs, h);
}

static void first_layer_backward(int rows, const struct network *net, const float *const *obs, const float *grad)
{
    WHOLE_OR_NOT(first_layer_backward_rows, rows, net, obs, grad);
}

/* out[o][row] for `width` outputs and `rows` rows, both known when compiled and at most 4. */
INLINE void dot(int rows, int width, int64_t hidden, const float *h, const float *head,
                const float *head_bias, lanes *out, int row)
{
    lanes sums[4][4] = {{{0}}};
    for (int64_t j = 0; j < hidden; j += LANES)
        for (int o = 0; o < width; o++) {
            lanes w = *(const lanes *)(head + o * hidden + j);
            for (int r = 0; r < rows; r++)
                sums[r][o] = fused(*(const lanes *)(h + r * hidden + j), w, sums[r][o]);
        }
    for (int r = 0; r < rows; r++)
        for (int o = 0; o < width; o++)
            ((float *)&out[o])[row + r] = sum_lanes(sums[r][o]) + head_bias[o];
}

INLINE void dot_rows(int rows, int width, int64_t hidden, const float *h, const float *head,
                     const float *head_bias, lanes *out)
{
    int row = 0;
    for (; row + 4 <= rows; row += 4)
        dot(4, width, hidden, h + row * hidden, head, head_bias, out, row);
    for (; row < rows; row++)
        dot(1, width, hidden, h + row * hidden, head, head_bias, out, row);
}

/* out[o][row] = head[o] . h[row] + head_bias[o]; lanes past `rows` are left alone. */
static void heads(int rows, int64_t hidden, int outputs, const float *h, const float *head,
                  const float *head_bias, lanes *out)
{
    for (int o = 0; o < outputs; o += 4) {
        const float *w = head + o * hidden, *b = head_bias + o;
        switch (outputs - o) {
        case 1: dot_rows(rows, 1, hidden, h, w, b, out + o); break;
        case 2: dot_rows(rows, 2, hidden, h, w, b, out + o); break;
        case 3: dot_rows(rows, 3, hidden, h, w, b, out + o); break;
        default: dot_rows(rows, 4, hidden, h, w, b, out + o); break;
        }
    }
}

/* One group of at most 4 outputs, one column of 16 hidden units, all rows of the block:
 * adds to the hidden units' gradient and to the head's. */
INLINE void pull(int width, int rows, int64_t hidden, const float *h, const float *head,
                 const lanes *slopes, lanes *back, float *grad_head)
{
    lanes w[4], grad[4];
    for (int o = 0; o < width; o++) {
        w[o] = *(const lanes *)(head + o * hidden);
        grad[o] = *(const lanes *)(grad_head + o * hidden);
    }
    for (int r = 0; r < rows; r++) {
        lanes unit = *(const lanes *)(h + r * hidden);
        for (int o = 0; o < width; o++) {
            lanes slope = all(((const float *)&slopes[o])[r]);
            back[r] = fused(slope, w[o], back[r]);
            grad[o] = fused(slope, unit, grad[o]);
        }
    }
    for (int o = 0; o < width; o++)
        *(lanes *)(grad_head + o * hidden) = grad[o];
}

/* From d loss / d outputs (`slopes`) to the gradients of head, its bias, the hidden bias, and of
 * `pre`, which takes the place of the hidden units. */
static void heads_backward(int rows, const struct network *net, int outputs, float *h, const lanes *slopes)
{
    int64_t hidden = net->hidden;
    for (int o = 0; o < outputs; o++)
        for (int r = 0; r < rows; r++)
            net->grad_head_bias[o] += ((const float *)&slopes[o])[r];
    for (int64_t j = 0; j < hidden; j += LANES) {
        lanes back[LANES] = {{0}};
        for (int o = 0; o < outputs; o += 4) {
            const float *w = net->head + o * hidden + j;
            float *grad = net->grad_head + o * hidden + j;
            switch (outputs - o) {
            case 1: pull(1, rows, hidden, h + j, w, slopes + o, back, grad); break;
            case 2: pull(2, rows, hidden, h + j, w, slopes + o, back, grad); break;
            case 3: pull(3, rows, hidden, h + j, w, slopes + o, back, grad); break;
            default: pull(4, rows, hidden, h + j, w, slopes + o, back, grad); break;
            }
        }
        if (!net->bias) {
            for (int r = 0; r < rows; r++)
                *(lanes *)(h + r * hidden + j) = back[r];
            continue;
        }
        lanes bias = *(const lanes *)(net->grad_bias + j);
        for (int r = 0; r < rows; r++) {
            lanes *unit = (lanes *)(h + r * hidden + j);
            lanes alive = choose(*unit > 0.0f, back[r], all(0.0f));
            bias += alive;
            *unit = alive;
        }
        *(lanes *)(net->grad_bias + j) = bias;
    }
}

/* Logits to log-probabilities in place, and to probabilities beside. */
INLINE void log_softmax(int size, lanes *logits, lanes *probs)
{
    lanes top = logits[0], sum = {0};
    for (int a = 1; a < size; a++)
        top = most(logits[a], top);
    for (int a = 0; a < size; a++) {
        logits[a] -= top;
        probs[a] = exp_lanes(logits[a]);
        sum += probs[a];
    }
    lanes log_sum = log_lanes(sum), scale = 1.0f / sum;
    for (int a = 0; a < size; a++) {
        logits[a] -= log_sum;
        probs[a] *= scale;
    }
}

/* Logits of forbidden actions fall so low that their probability is 0. */
INLINE void forbid(int row, int size, const uint8_t *allowed, lanes *logits)
{
    for (int a = 0; a < size; a++)
        if (!allowed[a])
            ((float *)&logits[a])[row] = -1e9f;
}

/* The mean of the distribution over bins; their logits become log-probabilities, `probs` beside. */
static lanes mean_value(const struct network *net, lanes *logits, lanes *probs)
{
    float width = 2.0f * net->value_limit / (float)net->bins;
    lanes mean = {0};
    log_softmax((int)net->bins, logits, probs);
    for (int64_t k = 0; k < net->bins; k++)
        mean += probs[k] * (((float)k + 0.5f) * width - net->value_limit);
    return mean;
}

/* ---- continuous actions: a Gaussian for each component, apart from the others ---- */

#define HALF_LOG_TWO_PI 0.918938533f

/* Actions of `n` rows, mean + deviation * draw, or the means where `draw` is null; gives the logarithm of
 * their density. */
static lanes act_gaussian(int n, const struct network *net, const lanes *mean, const float *draw,
                          float *actions)
{
    int components = (int)net->components;
    lanes logprob = {0};
    for (int c = 0; c < components; c++) {
        float sd = expf(net->log_sd[c]);
        lanes off = {0};
        if (draw)
            for (int r = 0; r < n; r++)
                ((float *)&off)[r] = draw[r * components + c];
        lanes action = mean[c] + sd * off;
        logprob -= 0.5f * off * off + (net->log_sd[c] + HALF_LOG_TWO_PI);
        for (int r = 0; r < n; r++)
            actions[r * components + c] = ((const float *)&action)[r];
    }
    return logprob;
}

/* The logarithm of the density of the actions at `place`; how many deviations each is off goes to `off`. */
static lanes gaussian_logprob(int n, const struct network *net, const lanes *mean, const float *actions,
                              const int64_t *place, lanes *off)
{
    int components = (int)net->components;
    lanes logprob = {0};
    for (int c = 0; c < components; c++) {
        lanes action = {0};
        for (int r = 0; r < n; r++)
            ((float *)&action)[r] = actions[place[r] * components + c];
        off[c] = (action - mean[c]) * expf(-net->log_sd[c]);
        logprob -= 0.5f * off[c] * off[c] + (net->log_sd[c] + HALF_LOG_TWO_PI);
    }
    return logprob;
}

/* From d loss / d logprob (`slope`) and the entropy's weight (`bonus`): d loss / d mean into `mean`, and the
 * deviations' gradients. The entropy is log_sd and a constant. */
static void gaussian_backward(int n, const struct network *net, lanes slope, lanes bonus, const lanes *off,
                              lanes *mean)
{
    for (int64_t c = 0; c < net->components; c++) {
        lanes grad = slope * (off[c] * off[c] - 1.0f) - bonus;
        mean[c] = slope * off[c] * expf(-net->log_sd[c]);
        for (int r = 0; r < n; r++)
            net->grad_log_sd[c] += ((const float *)&grad)[r];
    }
}

static lanes gaussian_entropy(const struct network *net)
{
    float entropy = 0.0f;
    for (int64_t c = 0; c < net->components; c++)
        entropy += net->log_sd[c] + (HALF_LOG_TWO_PI + 0.5f);
    return all(entropy);
}

/* ---- between products of torch ---- */

/* relu(pre + bias) in place of pre [rows, units] */
void hidden_forward(int64_t rows, int64_t units, float *pre, const float *bias)
{
    for (int64_t row = 0; row < rows; row++)
        relu(1, units, pre + row * units, bias);
}

/* From d loss / d hidden to d loss / d pre in place of `grad` [rows, units]; adds to the bias's gradient. */
void hidden_backward(int64_t rows, int64_t units, const float *hidden, float *grad, float *grad_bias)
{
    for (int64_t row = 0; row < rows; row++)
        for (int64_t j = 0; j < units; j += LANES) {
            lanes *g = (lanes *)(grad + row * units + j);
            *g = choose(*(const lanes *)(hidden + row * units + j) > 0.0f, *g, all(0.0f));
            *(lanes *)(grad_bias + j) += *g;
        }
}

/* ---- rollout ---- */

/* Values of all rows; and, unless `actions` is null, actions with the logarithm of their
 * probability: drawn by inverting the distribution function at `draw` in [0, 1),
 * or the most probable ones where `draw` is null. An action of probability 0 is never drawn.
 * With net->log_sd the actions are floats, see above. */
void act(const struct network *net, int64_t rows, const float *obs, /* [rows, inputs], with net->weight */
         float *pre,           /* [rows, hidden], without net->weight; overwritten */
         const float *draw,    /* [rows, components] */
         const uint8_t *mask,  /* [rows, logits], 0 where an action is forbidden; or null */
         void *taken,          /* [rows, components] int32, or float32 with net->log_sd */
         float *logprobs, float *values)
{
    const int32_t *sizes = net->sizes;
    int32_t *actions = taken;
    int all_logits = count_logits(net), outputs = all_logits + (net->bins ? (int)net->bins : 1);
    int components = (int)net->components;
    int64_t hidden = net->hidden;
    for (int64_t start = 0; start < rows; start += LANES) {
        int n = rows - start < LANES ? (int)(rows - start) : LANES;
        lanes out[MAX_OUTPUTS], probs[MAX_OUTPUTS], logprob = {0};
        float *h = net->weight ? net->scratch : pre + start * hidden;
        if (net->weight) {
            const float *rows_obs[LANES];
            for (int r = 0; r < n; r++)
                rows_obs[r] = obs + (start + r) * net->inputs;
            first_layer(n, net, rows_obs, h);
        } else {
            relu(n, hidden, h, net->bias);
        }
        memset(out, 0, outputs * sizeof(lanes));
        heads(n, hidden, outputs, h, net->head, net->head_bias, out);
        lanes value = net->bins ? mean_value(net, out + all_logits, probs) : out[all_logits];
        memcpy(values + start, &value, n * sizeof(float));
        if (!actions)
            continue;
        if (net->log_sd) {
            int64_t first = start * components;
            lanes logprobs_here = act_gaussian(n, net, out, draw ? draw + first : NULL, (float *)taken + first);
            memcpy(logprobs + start, &logprobs_here, n * sizeof(float));
            continue;
        }
        lanes *logits = out;
        for (int c = 0; c < components; logits += sizes[c], c++) {
            if (mask)
                for (int r = 0; r < n; r++)
                    forbid(r, sizes[c], mask + (start + r) * all_logits + (logits - out), logits);
            log_softmax(sizes[c], logits, probs);
            lanes at = {0}, below = {0}, best = logits[0], chosen = logits[0];
            bits action = {0};
            if (draw)
                for (int r = 0; r < n; r++)
                    ((float *)&at)[r] = draw[(start + r) * components + c];
            for (int a = 1; a < sizes[c]; a++) {
                below += probs[a - 1];
                bits further = draw ? (at >= below) & (probs[a] > 0.0f) : logits[a] > best;
                best = choose(further, logits[a], best);
                chosen = choose(further, logits[a], chosen);
                action = (further & a) | (~further & action);
            }
            logprob += chosen;
            for (int r = 0; r < n; r++)
                actions[(start + r) * components + c] = ((const int32_t *)&action)[r];
        }
        memcpy(logprobs + start, &logprob, n * sizeof(float));
    }
}

/* ---- update ---- */

/* Some rows of a minibatch: of its horizon * count rows, those from `first` on. Row i is step
 * i / count of segment segments[i % count]. Buffers are [horizon, agents]. */
struct batch {
    int64_t agents, count;
    const int64_t *segments;      /* [count] */
    const float *weights;         /* [agents] importance weights */
    const float *obs;             /* [horizon * agents, inputs], with net->weight */
    const uint8_t *mask;          /* [horizon * agents, logits], 0 where an action was forbidden; or null */
    const void *actions;          /* [horizon * agents, components] int32, or float32 with net->log_sd */
    const float *logprobs, *advantages, *returns;
    const float *old_values;      /* a copy of values: a segment may be in a minibatch more than once */
    float *values, *ratios;       /* written */
    float advantage_mean, advantage_scale; /* normalisation: (A - mean) * scale */
    float clip, vf_clip, vf_coef, ent_coef;
    float row_scale;              /* 1 / rows of the whole minibatch */
};

/* Mean and standard deviation of the advantages of a minibatch. */
void moments(const struct batch *batch, int64_t horizon, double *mean_and_deviation)
{
    double sum = 0.0, squares = 0.0, rows = (double)(horizon * batch->count);
    for (int64_t t = 0; t < horizon; t++)
        for (int64_t s = 0; s < batch->count; s++)
            sum += batch->advantages[t * batch->agents + batch->segments[s]];
    for (int64_t t = 0; t < horizon; t++)
        for (int64_t s = 0; s < batch->count; s++) {
            double off = batch->advantages[t * batch->agents + batch->segments[s]] - sum / rows;
            squares += off * off;
        }
    mean_and_deviation[0] = sum / rows;
    mean_and_deviation[1] = sqrt(squares / rows);
}

enum { POLICY_LOSS, VALUE_LOSS, ENTROPY, KL, CLIPPED }; /* places in `sums` */

/* The error function to 2e-7 (Abramowitz and Stegun 1964, 7.1.26). */
INLINE lanes erf_lanes(lanes x)
{
    lanes size = choose(x < 0.0f, -x, x), t = 1.0f / (1.0f + 0.3275911f * size);
    lanes p = 1.061405429f * t - 1.453152027f;
    p = p * t + 1.421413741f;
    p = p * t - 0.284496736f;
    p = p * t + 0.254829592f;
    lanes y = 1.0f - p * t * exp_lanes(-size * size);
    return choose(x < 0.0f, -y, y);
}

/* Cross-entropy between the value's distribution and a Gaussian around `target`, whose deviation is
 * 0.75 of a bin (HL-Gauss of Farebrother et al. 2024; see `hl_gauss` in policy.py). From the bins'
 * log-probabilities, which become the loss's slopes times `factor`. */
static lanes histogram_loss(const struct network *net, lanes target, lanes factor, const lanes *probs,
                            lanes *logprobs)
{
    float width = 2.0f * net->value_limit / (float)net->bins, scale = 1.0f / (0.75f * 1.41421356f * width);
    lanes near = least(most(target, all(-net->value_limit)), all(net->value_limit)), loss = {0};
    near = choose(target == target, near, target); /* what has diverged shows it */
    lanes below = erf_lanes((-net->value_limit - near) * scale);
    lanes whole = erf_lanes((net->value_limit - near) * scale) - below;
    for (int64_t k = 0; k < net->bins; k++) {
        lanes above = erf_lanes(((float)(k + 1) * width - net->value_limit - near) * scale);
        lanes share = (above - below) / whole;
        loss -= share * logprobs[k];
        logprobs[k] = (probs[k] - share) * factor;
        below = above;
    }
    return loss;
}

/* The PPO loss of `rows` rows of a minibatch, summed into `sums`, and its gradients, added to the
 * network's and, without net->weight, left in `pre`. New ratios and values are written back. */
void loss(const struct network *net, const struct batch *batch, int64_t first, int64_t rows, float *pre,
          double *sums)
{
    struct batch s = *batch;
    const int32_t *sizes = net->sizes, *actions = s.actions;
    int all_logits = count_logits(net), outputs = all_logits + (net->bins ? (int)net->bins : 1);
    int components = (int)net->components, choosing = net->log_sd ? 0 : components;
    int64_t hidden = net->hidden;
    int64_t step = first / s.count, at = first % s.count; /* of the next row: step, place in segments */
    for (int64_t start = 0; start < rows; start += LANES) {
        int n = rows - start < LANES ? (int)(rows - start) : LANES;
        int64_t place[LANES];
        float weights[LANES];
        const float *obs[LANES];
        for (int r = 0; r < n; r++) {
            int64_t segment = s.segments[at];
            place[r] = step * s.agents + segment;
            weights[r] = s.weights[segment];
            obs[r] = s.obs + place[r] * net->inputs;
            if (++at == s.count)
                at = 0, step++;
        }
        float *h = net->weight ? net->scratch : pre + start * hidden;
        if (net->weight)
            first_layer(n, net, obs, h);
        else
            relu(n, hidden, h, net->bias);
        lanes out[MAX_OUTPUTS], probs[MAX_OUTPUTS];
        memset(out, 0, outputs * sizeof(lanes));
        heads(n, hidden, outputs, h, net->head, net->head_bias, out);

        lanes logprob = {0}, entropy = {0}, old_logprob = {0}, advantage = {0}, target = {0};
        lanes old_value = {0}, weight = {0};
        for (int r = 0; r < n; r++) {
            ((float *)&old_logprob)[r] = s.logprobs[place[r]];
            ((float *)&advantage)[r] = s.advantages[place[r]];
            ((float *)&target)[r] = s.returns[place[r]];
            ((float *)&old_value)[r] = s.old_values[place[r]];
            ((float *)&weight)[r] = weights[r];
        }
        lanes *logits = out, *p = probs;
        if (net->log_sd) {
            logprob = gaussian_logprob(n, net, out, s.actions, place, probs);
            entropy = gaussian_entropy(net);
        }
        for (int c = 0; c < choosing; logits += sizes[c], p += sizes[c], c++) {
            if (s.mask)
                for (int r = 0; r < n; r++)
                    forbid(r, sizes[c], s.mask + place[r] * all_logits + (logits - out), logits);
            log_softmax(sizes[c], logits, p);
            for (int a = 0; a < sizes[c]; a++)
                entropy -= p[a] * logits[a];
            for (int r = 0; r < n; r++) {
                int32_t taken = actions[place[r] * components + c];
                ((float *)&logprob)[r] += ((const float *)&logits[taken])[r];
            }
        }

        lanes log_ratio = logprob - old_logprob, ratio = exp_lanes(log_ratio);
        advantage = (advantage - s.advantage_mean) * s.advantage_scale;
        lanes clipped = least(most(ratio, all(1.0f - s.clip)), all(1.0f + s.clip));
        lanes gain = ratio * advantage, clipped_gain = clipped * advantage;
        lanes scale = weight * s.row_scale;
        /* d loss / d logprob: nothing where the clipped gain is the smaller one */
        lanes slope = choose(gain <= clipped_gain, -gain * scale, all(0.0f));

        lanes *value_out = &out[all_logits];
        lanes value = net->bins ? mean_value(net, value_out, probs + all_logits) : *value_out;
        lanes error = value - target, moved = value - old_value;
        lanes clipped_move = least(most(moved, all(-s.vf_clip)), all(s.vf_clip));
        lanes clipped_error = old_value + clipped_move - target;
        bits plain = error * error >= clipped_error * clipped_error;
        bits free = (moved == clipped_move);
        lanes worst = choose(plain, error, clipped_error), value_loss = 0.5f * worst * worst;
        if (net->bins)
            value_loss = histogram_loss(net, target, scale * s.vf_coef, probs + all_logits, value_out);
        else
            *value_out = choose(plain | free, error * scale * s.vf_coef, all(0.0f));

        for (int r = 0; r < n; r++) {
            float w = ((const float *)&scale)[r];
            float q = ((const float *)&ratio)[r];
            float g = ((const float *)&gain)[r], cg = ((const float *)&clipped_gain)[r];
            sums[POLICY_LOSS] -= w * (g < cg ? g : cg);
            sums[VALUE_LOSS] += w * ((const float *)&value_loss)[r];
            sums[ENTROPY] += s.row_scale * ((const float *)&entropy)[r]; /* the policy's, whatever a row's weight */
            sums[KL] += s.row_scale * ((q - 1.0f) - ((const float *)&log_ratio)[r]);
            sums[CLIPPED] += q < 1.0f - s.clip || q > 1.0f + s.clip ? s.row_scale : 0.0f;
            s.ratios[place[r]] = q;
            s.values[place[r]] = ((const float *)&value)[r];
        }

        logits = out, p = probs;
        if (net->log_sd)
            gaussian_backward(n, net, slope, scale * s.ent_coef, probs, out);
        for (int c = 0; c < choosing; logits += sizes[c], p += sizes[c], c++) {
            lanes own_entropy = {0};
            for (int a = 0; a < sizes[c]; a++)
                own_entropy -= p[a] * logits[a];
            lanes bonus = scale * s.ent_coef;
            for (int a = 0; a < sizes[c]; a++)
                logits[a] = p[a] * (bonus * (logits[a] + own_entropy) - slope);
            for (int r = 0; r < n; r++) {
                int32_t taken = actions[place[r] * components + c];
                ((float *)&logits[taken])[r] += ((const float *)&slope)[r];
            }
        }
        heads_backward(n, net, outputs, h, out);
        if (net->weight)
            first_layer_backward(n, net, obs, h);
    }
}
