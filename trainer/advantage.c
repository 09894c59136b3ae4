/* The advantage recurrence of advantage.py on the CPU; `advantage_reference` there is its meaning.
 * Arrays are time-major, [horizon, agents]: the inner loop runs over neighbouring agents. */
#include <stdint.h>

void advantage_rows(int64_t horizon, int64_t agents, const float *rewards, const uint8_t *terminals,
                    const uint8_t *truncations, const float *values, /* [horizon + 1, agents] */
                    const float *final_values, const float *ratios, float gamma, float lambda,
                    float rho_clip, float c_clip, float *restrict advantages, float *restrict returns)
{
    for (int64_t t = horizon - 1; t >= 0; t--) {
        const float *reward = rewards + t * agents, *value = values + t * agents;
        const float *next_value = value + agents, *final_value = final_values + t * agents;
        const float *ratio = ratios + t * agents;
        const uint8_t *terminal = terminals + t * agents, *truncation = truncations + t * agents;
        const float *later = t + 1 < horizon ? advantages + (t + 1) * agents : 0;
        float *advantage = advantages + t * agents, *ret = returns + t * agents;
#pragma GCC ivdep
        for (int64_t i = 0; i < agents; i++) {
            float rho = ratio[i] < rho_clip ? ratio[i] : rho_clip;
            float c = ratio[i] < c_clip ? ratio[i] : c_clip;
            float alive = terminal[i] ? 0.0f : 1.0f;
            float unbroken = truncation[i] ? 0.0f : alive;
            float bootstrap = truncation[i] ? final_value[i] : next_value[i];
            float delta = rho * (reward[i] + gamma * alive * bootstrap - value[i]);
            float carried = later ? gamma * lambda * c * unbroken * later[i] : 0.0f;
            advantage[i] = delta + carried;
            ret[i] = advantage[i] + value[i];
        }
    }
}
