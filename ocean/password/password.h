// Password, a probe: only the right string of moves, entered whole, is rewarded.
#ifndef PASSWORD_H
#define PASSWORD_H

#define OBS_TYPE float
#define OBS_SHAPE 6 // LENGTH + 1
#define OBS_RANGE -1, 1
#define REWARD_RANGE 0, 1
#define ACTION_SIZES 2
#define AGENTS 1
#define RANDOM_SCORE 0.02, 0.045
#define SOLVED_SCORE 0.97
#define RENDER 1

#define SETTINGS(X) \
    X(int, password, 13, 0, 31, "the string of five bits, its first one the lowest")

#include "ocean.h"

enum { LENGTH = 5 };

typedef struct {
    double score; // 1 where the password was right, else 0
    double episode_return;
    double episode_length;
    double n;
} Log;

typedef struct {
    Rng rng;
    Log log;
    int32_t steps;   // bits entered
    int32_t entered; // the first one the lowest
} Env;

// What was entered so far, and a number that means nothing: whoever reads it looks for luck.
OCEAN_FN void observe(Env *env, Obs *obs) {
    for (int i = 0; i < LENGTH; i++) {
        float bit = (env->entered >> i) & 1 ? 1.0f : -1.0f;
        obs[i] = i < env->steps ? bit : 0.0f;
    }
    obs[LENGTH] = rng_uniform(&env->rng, -1.0f, 1.0f);
}

OCEAN_FN void env_reset(Env *env, const Settings *settings, const Io *io) {
    (void)settings;
    env->steps = 0;
    env->entered = 0;
    observe(env, io->obs);
}

OCEAN_FN void env_step(Env *env, const Settings *settings, const Io *io) {
    env->entered |= (io->actions[0] == 1) << env->steps;
    env->steps++;
    int over = env->steps == LENGTH;
    int right = over && env->entered == settings->password;
    io->rewards[0] = (float)right;
    io->terminals[0] = over;
    io->truncations[0] = 0;

    if (over) {
        observe(env, io->final_obs);
        env->log.score += right;
        env->log.episode_return += right;
        env->log.episode_length += env->steps;
        env->log.n += 1;
        env_reset(env, settings, io);
    } else {
        observe(env, io->obs);
    }
}

// The password, and what was entered of it.
static inline void env_render(const Env *env, const Settings *settings, Text *text) {
    text_put(text, "password");
    for (int i = 0; i < LENGTH; i++) {
        text_put(text, " %d", (settings->password >> i) & 1);
    }
    text_put(text, "\nentered ");
    for (int i = 0; i < LENGTH; i++) {
        text_put(text, " %c", i >= env->steps ? '_' : (env->entered >> i) & 1 ? '1' : '0');
    }
    text_put(text, "\n");
}

#endif
