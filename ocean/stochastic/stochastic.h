// Stochastic, a probe: the best policy that sees nothing and remembers nothing draws its actions.
#ifndef STOCHASTIC_H
#define STOCHASTIC_H

#define OBS_TYPE float
#define OBS_SHAPE 1
#define OBS_RANGE 1, 1
#define REWARD_RANGE 0, 1
#define ACTION_SIZES 2
#define AGENTS 1
#define RANDOM_SCORE 0.6, 0.75
#define SOLVED_SCORE 0.92
#define RENDER 1

#define SETTINGS(X) \
    X(float, share, 0.75, 0.0, 1.0, "of the actions should be 1, the others 0") \
    X(int, steps, 50, 10, 1000, "steps of an episode, more or less: it lasts 0.8 to 1.2 times as many")

#include "ocean.h"

typedef struct {
    double score; // 1 for exactly the right share, 0 for the worst there is
    double episode_return;
    double episode_length;
    double n;
} Log;

typedef struct {
    Rng rng;
    Log log;
    int32_t steps, length; // of this episode
    int32_t ones;          // actions that were 1
} Env;

OCEAN_FN void env_reset(Env *env, const Settings *settings, const Io *io) {
    int shortest = settings->steps * 4 / 5;
    env->steps = 0;
    env->ones = 0;
    // Of unknown length: who cannot count cannot play the zeros at a fixed time either.
    env->length = shortest + rng_below(&env->rng, settings->steps * 6 / 5 - shortest + 1);
    io->obs[0] = 1.0f;
}

OCEAN_FN void env_step(Env *env, const Settings *settings, const Io *io) {
    env->ones += io->actions[0] == 1;
    env->steps++;
    int over = env->steps == env->length;
    float reward = 0.0f;
    if (over) {
        float off = fabsf((float)env->ones / (float)env->length - settings->share);
        reward = 1.0f - off / fmaxf(settings->share, 1.0f - settings->share);
    }
    io->rewards[0] = reward;
    io->terminals[0] = over;
    io->truncations[0] = 0;
    io->obs[0] = 1.0f;

    if (over) {
        io->final_obs[0] = 1.0f;
        env->log.score += reward;
        env->log.episode_return += reward;
        env->log.episode_length += env->steps;
        env->log.n += 1;
        env_reset(env, settings, io);
    }
}

// The share of ones so far and the share that is wanted.
static inline void env_render(const Env *env, const Settings *settings, Text *text) {
    enum { ACROSS = 50 };
    int wanted = (int)(settings->share * (ACROSS - 1));
    text_put(text, "step %d of %d, %d of them ones\n[", env->steps, env->length, env->ones);
    for (int i = 0; i < ACROSS; i++) {
        int reached = env->steps > 0 && i * env->steps < env->ones * ACROSS;
        text_put(text, "%c", i == wanted ? '|' : reached ? '#' : '.');
    }
    text_put(text, "] the share of ones; | is wanted\n");
}

#endif
