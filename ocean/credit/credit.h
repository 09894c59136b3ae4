// Credit, a probe: the first action of an episode decides, and is rewarded at its end.
#ifndef CREDIT_H
#define CREDIT_H

#define OBS_TYPE float
#define OBS_SHAPE 6 // CHOICES + 2
#define OBS_RANGE -1, 1
#define REWARD_RANGE 0, 1
#define ACTION_SIZES 4 // CHOICES
#define AGENTS 1
#define RANDOM_SCORE 0.22, 0.28
#define SOLVED_SCORE 0.97
#define RENDER 1

#define SETTINGS(X) \
    X(int, delay, 16, 0, 1000, "steps between the action and its reward")

#include "ocean.h"

enum { CHOICES = 4 };

typedef struct {
    double score; // 1 where the first action was the right one, else 0
    double episode_return;
    double episode_length;
    double n;
} Log;

typedef struct {
    Rng rng;
    Log log;
    int32_t steps; // of this episode
    int32_t cue;   // the right action
    int32_t right; // was the first action the right one?
} Env;

// The cue, on the first step only; time; and a number that means nothing.
OCEAN_FN void observe(Env *env, const Settings *settings, Obs *obs) {
    for (int i = 0; i < CHOICES; i++) {
        obs[i] = env->steps == 0 && i == env->cue ? 1.0f : 0.0f;
    }
    obs[CHOICES] = (float)env->steps / (float)(settings->delay + 1);
    obs[CHOICES + 1] = rng_uniform(&env->rng, -1.0f, 1.0f);
}

OCEAN_FN void env_reset(Env *env, const Settings *settings, const Io *io) {
    env->steps = 0;
    env->cue = rng_below(&env->rng, CHOICES);
    observe(env, settings, io->obs);
}

OCEAN_FN void env_step(Env *env, const Settings *settings, const Io *io) {
    if (env->steps == 0) {
        env->right = io->actions[0] == env->cue;
    }
    env->steps++;
    int over = env->steps > settings->delay;
    float reward = over && env->right ? 1.0f : 0.0f;
    io->rewards[0] = reward;
    io->terminals[0] = over;
    io->truncations[0] = 0;

    if (over) {
        observe(env, settings, io->final_obs);
        env->log.score += reward;
        env->log.episode_return += reward;
        env->log.episode_length += env->steps;
        env->log.n += 1;
        env_reset(env, settings, io);
    } else {
        observe(env, settings, io->obs);
    }
}

// The cue, how the first action answered it, and the way to the reward.
static inline void env_render(const Env *env, const Settings *settings, Text *text) {
    text_put(text, "cue %d, first action %s\n", env->cue,
             env->steps == 0 ? "yet to come" : env->right ? "right" : "wrong");
    for (int step = 0; step <= settings->delay && step < 100; step++) {
        text_put(text, "%c", step == env->steps ? '@' : step == settings->delay ? '$' : '.');
    }
    text_put(text, "\n");
}

#endif
