// Bandit, a probe: of eight arms one pays more often. No state, no delay: the simplest thing to learn.
#ifndef BANDIT_H
#define BANDIT_H

#define OBS_TYPE float
#define OBS_SHAPE 1
#define OBS_RANGE 1, 1
#define REWARD_RANGE 0, 1
#define ACTION_SIZES 8 // ARMS
#define AGENTS 1
#define RANDOM_SCORE 0.43, 0.47
#define SOLVED_SCORE 0.79
#define RENDER 1

#define SETTINGS(X) \
    X(int, best_arm, 5, 0, 7, "the arm that pays more often") \
    X(float, best_pay, 0.8, 0.0, 1.0, "how often it pays") \
    X(float, other_pay, 0.4, 0.0, 1.0, "how often any other arm pays")

#include "ocean.h"

enum { ARMS = 8 };

typedef struct {
    double score; // how often the arm that was chosen pays: its luck is not in it
    double episode_return;
    double episode_length;
    double n;
} Log;

typedef struct {
    Rng rng;
    Log log;
    int32_t arm, paid; // of the last step, for the picture; arm -1 before the first
} Env;

OCEAN_FN void env_reset(Env *env, const Settings *settings, const Io *io) {
    (void)settings;
    env->arm = -1;
    env->paid = 0;
    io->obs[0] = 1.0f;
}

OCEAN_FN void env_step(Env *env, const Settings *settings, const Io *io) {
    float pay = io->actions[0] == settings->best_arm ? settings->best_pay : settings->other_pay;
    float reward = rng_uniform(&env->rng, 0.0f, 1.0f) < pay ? 1.0f : 0.0f;
    io->rewards[0] = reward;
    io->terminals[0] = 1;
    io->truncations[0] = 0;
    io->final_obs[0] = 1.0f;
    env->log.score += pay;
    env->log.episode_return += reward;
    env->log.episode_length += 1;
    env->log.n += 1;
    env_reset(env, settings, io);
    env->arm = io->actions[0];
    env->paid = reward > 0.0f;
}

// The arms, how often each pays, and the one that was pulled last: $ where it paid.
static inline void env_render(const Env *env, const Settings *settings, Text *text) {
    text_put(text, "arm ");
    for (int arm = 0; arm < ARMS; arm++) {
        text_put(text, " %5d", arm);
    }
    text_put(text, "\npays");
    for (int arm = 0; arm < ARMS; arm++) {
        text_put(text, " %5.2f", (double)(arm == settings->best_arm ? settings->best_pay : settings->other_pay));
    }
    text_put(text, "\n    ");
    for (int arm = 0; arm < ARMS; arm++) {
        text_put(text, " %5c", arm != env->arm ? ' ' : env->paid ? '$' : '^');
    }
    text_put(text, "\n");
}

#endif
