// The advantage recurrence of trainer/advantage.py on the GPU; `reference` there is its meaning.
// One thread an agent, walking backwards in time: neighbouring threads read neighbouring agents of
// time-major arrays, so every access of a warp is one line of memory.
#include <cstdint>
#include <cuda_runtime.h>

__global__ void advantage_kernel(int64_t horizon, int64_t agents, const float *__restrict__ rewards,
                                 const uint8_t *__restrict__ terminals, const uint8_t *__restrict__ truncations,
                                 const float *__restrict__ values, const float *__restrict__ final_values,
                                 const float *__restrict__ ratios, float gamma, float lambda, float rho_clip,
                                 float c_clip, float *__restrict__ advantages, float *__restrict__ returns)
{
    int64_t agent = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (agent >= agents)
        return;
    float later = 0.0f, next_value = values[horizon * agents + agent];
    for (int64_t t = horizon - 1; t >= 0; t--) {
        int64_t i = t * agents + agent;
        bool terminal = terminals[i], truncation = truncations[i];
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
extern "C" const char *advantage_rows_cuda(int64_t horizon, int64_t agents, const float *rewards,
                                           const uint8_t *terminals, const uint8_t *truncations,
                                           const float *values, const float *final_values, const float *ratios,
                                           float gamma, float lambda, float rho_clip, float c_clip,
                                           float *advantages, float *returns, void *stream)
{
    const int threads = 64; // few agents a block: the rows of a rollout are spread over many processors
    if (horizon < 1 || agents < 1)
        return "horizon and agents must be at least 1";
    int64_t blocks = (agents + threads - 1) / threads;
    if (blocks > INT32_MAX)
        return "too many agents";
    advantage_kernel<<<(unsigned)blocks, threads, 0, (cudaStream_t)stream>>>(
        horizon, agents, rewards, terminals, truncations, values, final_values, ratios, gamma, lambda, rho_clip,
        c_clip, advantages, returns);
    cudaError_t error = cudaGetLastError();
    return error == cudaSuccess ? nullptr : cudaGetErrorString(error);
}
