// A program around the vector layer for sanitizers: buffers of exactly the size that the contract
// says, actions in range and far out of it. Arguments: threads, then for each setting two numbers,
// between which those of the environments lie.
#include <stdio.h>

static Rng actions_rng;

static Action draw_action(int column) {
    uint32_t wild = rng_next(&actions_rng);
#ifdef ACTION_DIM
    // Of the two ends of this float's range, or of all floats' range; now and then from far outside.
    static const float range[] = {ACTION_RANGE};
    enum { ENDS = sizeof(range) / sizeof(range[0]) };
    float low = fmaxf(range[2 * column % ENDS], -1000.0f); // an end may be infinite
    float high = fminf(range[(2 * column + 1) % ENDS], 1000.0f);
    float inside = rng_uniform(&actions_rng, low, high);
    return wild % 16 == 0 ? NAN : wild % 16 == 1 ? -INFINITY : wild % 16 == 2 ? 1e30f * inside : inside;
#else
    if (wild % 16 == 0) {
        return (Action)rng_next(&actions_rng);
    }
    return rng_below(&actions_rng, ocean_action_sizes[column]);
#endif
}

int main(int count, char **arguments) {
    enum { ENVS = AGENTS > 8 ? 3 : 13 };
    size_t rows = ENVS * AGENTS;
    int threads = atoi(arguments[1]);
    int steps = AGENTS > 8 || threads > 1 ? 1000 : 4000; // threads wait for each other at every step
    double ends[2 * SETTING_COUNT + 1];
    for (int i = 2; i < count && i < 2 + 2 * SETTING_COUNT; i++) {
        ends[i - 2] = atof(arguments[i]);
    }
    Obs *obs = (Obs *)malloc(rows * OBS_SIZE * sizeof(Obs));
    Obs *final_obs = (Obs *)malloc(rows * OBS_SIZE * sizeof(Obs));
    Action *actions = (Action *)malloc(rows * ACTION_COUNT * sizeof(Action));
    float *rewards = (float *)malloc(rows * sizeof(float));
    uint8_t *terminals = (uint8_t *)malloc(rows);
    uint8_t *truncations = (uint8_t *)malloc(rows);
    uint8_t *action_mask = (uint8_t *)malloc(MASK_SIZE ? rows * MASK_SIZE : 1);
    double *sums = (double *)malloc(sizeof(Log));
    Vector *vector = ocean_create(ENVS, 1, threads, ends, final_obs, action_mask);
    void *state = malloc((size_t)ocean_state_bytes(vector));
    Call call = {actions, obs, rewards, terminals, truncations, 0, ENVS};
    ocean_reset(vector, obs);
    double episodes = 0;
    for (int step = 0; step < steps; step++) {
        for (size_t i = 0; i < rows * ACTION_COUNT; i++) {
            actions[i] = draw_action((int)(i % ACTION_COUNT));
        }
        ocean_step(vector, &call);
#ifdef RENDER
        if (step % 100 == 0) {
            enum { LONGEST = 1 << 16 };
            int32_t size = step % 200 == 0 ? LONGEST : 10; // too little room is survived as well
            char *text = (char *)malloc((size_t)size);
            ocean_render(vector, step % ENVS, text, size);
            free(text);
        }
#endif
        if (step % (steps / 4) == steps / 4 - 1) {
            ocean_get_state(vector, state);
            ocean_set_state(vector, state);
            ocean_log(vector, NULL, sums);
            episodes += sums[sizeof(Log) / sizeof(double) - 1];
            ocean_reset(vector, obs);
        }
    }
    ocean_destroy(vector);
    free(obs);
    free(final_obs);
    free(actions);
    free(rewards);
    free(terminals);
    free(truncations);
    free(action_mask);
    free(sums);
    free(state);
    printf("%.0f episodes\n", episodes);
    return 0;
}
