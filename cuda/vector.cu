// The vector layer on the GPU: one thread steps one environment, by the same header that the processor
// runs (ocean/vector.c is that form). Compiled once for each environment, whose header the compiler
// reads before this file (-include). Nothing is allocated here: environments are bytes of the caller's.
#include "launch.h"

// Names begin with `vector_`, so that no header's own are met.
enum { VECTOR_BLOCK = 64, VECTOR_FIELDS = sizeof(Log) / sizeof(double), VECTOR_LANES = 1024 };

// What the kernels read and write. Rows are agents, the agents of an environment next to each other.
typedef struct {
    Env *envs;               // [num_envs]
    int64_t num_envs;
    const Action *actions;   // [rows, ACTION_COUNT]
    Obs *obs;                // [rows, OBS_SIZE]
    float *rewards;          // [rows]
    uint8_t *terminals;      // [rows]
    uint8_t *truncations;    // [rows]
    Obs *final_obs;          // [rows, OBS_SIZE]
    uint8_t *action_mask;    // [rows, MASK_SIZE]; null without masks
    unsigned long long *fault; // the least (time << 32 | environment) of a number that should not be
    int64_t time;            // of this step, for `fault`
    const Settings *own;     // [num_envs] each environment's; null where all have the same
} VectorCall;

DEVICE Io vector_io(const VectorCall *call, int64_t i) {
    int64_t row = i * AGENTS;
    Io io;
    io.obs = call->obs + row * OBS_SIZE;
    io.actions = call->actions ? call->actions + row * ACTION_COUNT : NULL; // none of these in a reset
    io.rewards = call->rewards ? call->rewards + row : NULL;
    io.terminals = call->terminals ? call->terminals + row : NULL;
    io.truncations = call->truncations ? call->truncations + row : NULL;
    io.final_obs = call->final_obs ? call->final_obs + row * OBS_SIZE : NULL;
    io.action_mask = MASK_SIZE ? call->action_mask + row * MASK_SIZE : NULL;
    return io;
}

// Is there a number that is none, or an observation outside its declared range?
DEVICE int vector_unsound(const Io *io, int stepped) {
    const float range[] = {OBS_RANGE};
    for (int i = 0; i < AGENTS * OBS_SIZE; i++) {
        float seen = (float)io->obs[i];
        if (!(seen >= range[0] && seen <= range[1])) {
            return 1;
        }
    }
    for (int i = 0; stepped && i < AGENTS; i++) {
        if (!isfinite(io->rewards[i])) {
            return 1;
        }
    }
    return 0;
}

DEVICE void vector_report(const VectorCall *call, int64_t i, int unsound) {
    if (unsound) {
        atomicMin(call->fault, (unsigned long long)call->time << 32 | (unsigned long long)i);
    }
}

KERNEL vector_seed_kernel(Env *envs, int64_t num_envs, uint64_t seed) {
    FOR_ONE(i, num_envs)
    rng_seed(&envs[i].rng, seed, (uint64_t)i);
}

KERNEL vector_reset_kernel(VectorCall call, Settings settings) {
    FOR_ONE(i, call.num_envs)
    Io io = vector_io(&call, i);
    env_reset(&call.envs[i], call.own ? &call.own[i] : &settings, &io);
    vector_report(&call, i, vector_unsound(&io, 0));
}

KERNEL vector_step_kernel(VectorCall call, Settings settings) {
    FOR_ONE(i, call.num_envs)
    Io io = vector_io(&call, i);
    env_step(&call.envs[i], call.own ? &call.own[i] : &settings, &io);
    vector_report(&call, i, vector_unsound(&io, 1));
}

// A thread sums every VECTOR_LANES-th environment, always in the same order, and clears what it summed.
KERNEL vector_log_kernel(Env *envs, int64_t num_envs, double *partial) { // [VECTOR_LANES, VECTOR_FIELDS]
    FOR_ONE(lane, VECTOR_LANES)
    double sums[VECTOR_FIELDS] = {0};
    for (int64_t i = lane; i < num_envs; i += VECTOR_LANES) {
        double *log = (double *)&envs[i].log;
        for (int f = 0; f < AGENTS * VECTOR_FIELDS; f++) {
            sums[f % VECTOR_FIELDS] += log[f];
            log[f] = 0.0;
        }
    }
    for (int f = 0; f < VECTOR_FIELDS; f++) {
        partial[lane * VECTOR_FIELDS + f] = sums[f];
    }
}

KERNEL vector_log_sum_kernel(const double *partial, double *sums) { // [VECTOR_FIELDS]
    FOR_ONE(f, VECTOR_FIELDS)
    double sum = 0.0;
    for (int64_t lane = 0; lane < VECTOR_LANES; lane++) {
        sum += partial[lane * VECTOR_FIELDS + f];
    }
    sums[f] = sum;
}

EXPORT int64_t vector_state_bytes(void) {
    return (int64_t)sizeof(Env);
}

EXPORT int64_t vector_settings_bytes(void) {
    return (int64_t)sizeof(Settings);
}

// Each environment's settings, as the processor draws them; both arrays are in the computer's memory.
EXPORT const char *vector_settings(const double *ends, int64_t num_envs, int64_t seed, Settings *own,
                                   void *stream) {
    (void)stream;
    for (int64_t i = 0; i < num_envs; i++) {
        own[i] = ocean_settings(ends, (uint64_t)seed, (uint64_t)i);
    }
    return NULL;
}

EXPORT int64_t vector_log_lanes(void) {
    return VECTOR_LANES;
}

EXPORT const char *vector_seed(Env *envs, int64_t num_envs, int64_t seed, void *stream) {
    LAUNCH(vector_seed_kernel, num_envs, VECTOR_BLOCK, stream, envs, num_envs, (uint64_t)seed);
    return NULL;
}

// `ends` holds two numbers for each line of SETTINGS, in the computer's memory; where `own` is null, they
// are the same.
EXPORT const char *vector_reset(Env *envs, int64_t num_envs, const double *ends, const Settings *own,
                                Obs *obs, uint8_t *action_mask, unsigned long long *fault, void *stream) {
    VectorCall call = {envs, num_envs, NULL, obs, NULL, NULL, NULL, NULL, action_mask, fault, 0, own};
    Settings settings = ocean_settings(ends, 0, 0);
    LAUNCH(vector_reset_kernel, num_envs, VECTOR_BLOCK, stream, call, settings);
    return NULL;
}

EXPORT const char *vector_step(Env *envs, int64_t num_envs, const double *ends, const Settings *own,
                               const Action *actions, Obs *obs, float *rewards, uint8_t *terminals, uint8_t *truncations,
                               Obs *final_obs, uint8_t *action_mask, unsigned long long *fault, int64_t time,
                               void *stream) {
    VectorCall call = {envs,        num_envs,  actions,     obs,   rewards, terminals,
                       truncations, final_obs, action_mask, fault, time, own};
    Settings settings = ocean_settings(ends, 0, 0);
    LAUNCH(vector_step_kernel, num_envs, VECTOR_BLOCK, stream, call, settings);
    return NULL;
}

EXPORT const char *vector_log(Env *envs, int64_t num_envs, double *partial, double *sums, void *stream) {
    LAUNCH(vector_log_kernel, VECTOR_LANES, VECTOR_BLOCK, stream, envs, num_envs, partial);
    LAUNCH(vector_log_sum_kernel, VECTOR_FIELDS, VECTOR_FIELDS, stream, partial, sums);
    return NULL;
}
