// The advantage recurrence of trainer/advantage.py on the GPU; `reference` there is its meaning.
// One thread an agent, walking backwards in time: neighbouring threads read neighbouring agents of
// time-major arrays, so every access of a warp is one line of memory. What a step reads does not depend
// on the step after it, so that the loads of several steps are under way at once.
#include "launch.h"

enum { BLOCK = 64 }; // few agents a block: the rows of a rollout are spread over many processors

KERNEL advantage_kernel(int64_t horizon, int64_t agents, const float *__restrict__ rewards,
                        const uint8_t *__restrict__ terminals, const uint8_t *__restrict__ truncations,
                        const float *__restrict__ values, const float *__restrict__ final_values,
                        const float *__restrict__ ratios, float gamma, float lambda, float rho_clip,
                        float c_clip, float *__restrict__ advantages, float *__restrict__ returns) {
    FOR_ONE(agent, agents)
    float later = 0.0f, next_value = values[horizon * agents + agent];
#ifdef __CUDACC__
#pragma unroll 4
#endif
    for (int64_t t = horizon - 1; t >= 0; t--) {
        int64_t i = t * agents + agent;
        int terminal = terminals[i], truncation = truncations[i];
        float ratio = ratios[i], value = values[i];
        float bootstrap = terminal ? 0.0f : truncation ? final_values[i] : next_value;
        float delta = fminf(ratio, rho_clip) * (rewards[i] + gamma * bootstrap - value);
        float carried = terminal || truncation ? 0.0f : gamma * lambda * fminf(ratio, c_clip) * later;
        later = delta + carried;
        advantages[i] = later;
        returns[i] = later + value;
        next_value = value;
    }
}

// Null, or the name of the error. All pointers are on the current device; values is [horizon + 1, agents].
EXPORT const char *advantage_rows(int64_t horizon, int64_t agents, const float *rewards,
                                  const uint8_t *terminals, const uint8_t *truncations, const float *values,
                                  const float *final_values, const float *ratios, double gamma,
                                  double lambda, double rho_clip, double c_clip, float *advantages, float *returns,
                                  void *stream) {
    if (horizon < 1) {
        return "the horizon must be at least 1";
    }
    LAUNCH(advantage_kernel, agents, BLOCK, stream, horizon, agents, rewards, terminals, truncations, values,
           final_values, ratios, (float)gamma, (float)lambda, (float)rho_clip, (float)c_clip, advantages,
           returns);
    return NULL;
}
