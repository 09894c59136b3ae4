// Memory, a probe: a string of bits is shown one a step, then asked for one a step.
#ifndef MEMORY_H
#define MEMORY_H

#define OBS_TYPE float
#define OBS_SHAPE 18 // 2 + LONGEST
#define OBS_RANGE -1, 1
#define REWARD_RANGE 0, 1
#define ACTION_SIZES 2
#define AGENTS 1
#define RANDOM_SCORE 0.45, 0.55
#define SOLVED_SCORE 0.98
#define RENDER 1

#define SETTINGS(X) \
    X(int, length, 4, 1, 16, "bits of the string") \
    X(int, pause, 2, 0, 100, "empty steps between the last bit and the first question")

#include "ocean.h"

enum { LONGEST = 16 };

typedef struct {
    double score; // share of the bits that were given back
    double episode_return;
    double episode_length;
    double n;
} Log;

typedef struct {
    Rng rng;
    Log log;
    int32_t bits;  // the string, its first bit the lowest
    int32_t steps; // of this episode
    int32_t right; // bits given back so far
} Env;

OCEAN_FN void observe(const Env *env, const Settings *settings, Obs *obs) {
    int asked = env->steps - settings->length - settings->pause; // which bit is asked for; below 0 none yet
    for (int i = 0; i < OBS_SIZE; i++) {
        obs[i] = 0.0f;
    }
    if (env->steps < settings->length) {
        obs[0] = (env->bits >> env->steps) & 1 ? 1.0f : -1.0f;
        obs[2 + env->steps] = 1.0f;
    } else if (asked >= 0 && asked < settings->length) {
        obs[1] = 1.0f;
        obs[2 + asked] = 1.0f;
    }
}

OCEAN_FN void env_reset(Env *env, const Settings *settings, const Io *io) {
    env->bits = rng_below(&env->rng, 1 << settings->length);
    env->steps = 0;
    env->right = 0;
    observe(env, settings, io->obs);
}

OCEAN_FN void env_step(Env *env, const Settings *settings, const Io *io) {
    int asked = env->steps - settings->length - settings->pause;
    int right = asked >= 0 && io->actions[0] == ((env->bits >> asked) & 1);
    env->right += right;
    env->steps++;
    int over = asked == settings->length - 1;
    io->rewards[0] = (float)right;
    io->terminals[0] = over;
    io->truncations[0] = 0;

    if (over) {
        observe(env, settings, io->final_obs);
        env->log.score += (double)env->right / settings->length;
        env->log.episode_return += env->right;
        env->log.episode_length += env->steps;
        env->log.n += 1;
        env_reset(env, settings, io);
    } else {
        observe(env, settings, io->obs);
    }
}

// The string, and below it the place that is shown (^) or asked for (?).
static inline void env_render(const Env *env, const Settings *settings, Text *text) {
    int asked = env->steps - settings->length - settings->pause;
    int place = asked >= 0 ? asked : env->steps < settings->length ? env->steps : -1;
    text_put(text, "%s, right so far %d\n", asked >= 0 ? "asked for" : place >= 0 ? "shown" : "pause", env->right);
    for (int i = 0; i < settings->length; i++) {
        text_put(text, " %d", (env->bits >> i) & 1);
    }
    text_put(text, "\n");
    for (int i = 0; i < settings->length; i++) {
        text_put(text, " %c", i != place ? ' ' : asked >= 0 ? '?' : '^');
    }
    text_put(text, "\n");
}

#endif
