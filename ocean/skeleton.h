// NAME: one agent on a line of cells; the treasure lies at one end, a pit at the other.
// Change what you like, then `sweep env check PATH`, `sweep play PATH`, `sweep train PATH`.
#ifndef NAME_ENV_H
#define NAME_ENV_H

// ---- Declaration. Required, but for RENDER; read without compiling, and by C. --------------------
#define OBS_TYPE float        // int8_t, uint8_t, int32_t or float
#define OBS_SHAPE 2           // of one agent's observation, up to four numbers
#define OBS_RANGE -1, 1       // smallest and largest value (INFINITY where there is none)
#define REWARD_RANGE -1, 1    // keep rewards between 0.1 and 1 in size
#define ACTION_SIZES 2        // choices of each action; or ACTION_DIM, a number of floats, and their
                              // ACTION_RANGE lowest, highest (for all of them, or a pair for each)
#define RANDOM_SCORE 0.4, 0.6 // where the mean score of a random agent lies
#define SOLVED_SCORE 0.95     // the mean score that means solved
#define RENDER 1              // Recommended: there is an env_render, for `sweep play`

// May be empty: X(int or float, name, default, lowest, highest, "help").
#define SETTINGS(X) \
    X(int, reach, 5, 1, 50, "cells from the middle to either end") \
    X(int, max_steps, 200, 1, 10000, "steps after which the episode is cut short")

#include "ocean.h" // Required, here

enum { LEFT = 0, RIGHT = 1 };

// Required: sums over finished episodes, doubles, `score` among them, their number `n` last.
typedef struct {
    double score;          // 1 for the treasure, else 0
    double episode_return; // Recommended: the sum of the rewards
    double episode_length; // Recommended: steps
    double n;
} Log;

// Required: everything that one environment remembers. No pointers, and nothing in globals.
typedef struct {
    Rng rng;          // Required: the only source of chance; rng_below, rng_uniform draw from it
    Log log;          // Required
    int32_t steps;    // of this episode
    int32_t place;    // cells to the right of the middle
    int32_t treasure; // -1 at the left end, 1 at the right
} Env;

// Recommended: one function that writes a whole observation, every element every time.
OCEAN_FN void observe(const Env *env, const Settings *settings, Obs *obs) {
    obs[0] = (float)env->place / (float)settings->reach;
    obs[1] = (float)env->treasure;
}

// Required: begin an episode and write its first observation.
OCEAN_FN void env_reset(Env *env, const Settings *settings, const Io *io) {
    env->steps = 0;
    env->place = 0;
    env->treasure = rng_below(&env->rng, 2) ? 1 : -1;
    observe(env, settings, io->obs);
}

// Required: one step. Where the episode ends: write final_obs, add to the log, begin the next one.
OCEAN_FN void env_step(Env *env, const Settings *settings, const Io *io) {
    env->steps++;
    env->place += io->actions[0] == RIGHT ? 1 : -1; // any number must be survived

    int over = env->place == settings->reach || env->place == -settings->reach;
    int found = over && env->place * env->treasure > 0;
    int late = !over && env->steps >= settings->max_steps;
    float reward = over ? (found ? 1.0f : -1.0f) : 0.0f;
    io->rewards[0] = reward;   // every step, zeros too; so are the next two
    io->terminals[0] = over;   // ended by the rules
    io->truncations[0] = late; // cut short: the learner estimates what would have come

    if (over || late) {
        observe(env, settings, io->final_obs);
        env->log.score += found;
        env->log.episode_return += reward;
        env->log.episode_length += env->steps;
        env->log.n += 1;
        env_reset(env, settings, io);
    } else {
        observe(env, settings, io->obs);
    }
}

// Recommended, with RENDER: a picture in text, which changes nothing.
static inline void env_render(const Env *env, const Settings *settings, Text *text) {
    for (int place = -settings->reach; place <= settings->reach; place++) {
        int end = place == settings->reach || place == -settings->reach;
        char sign = !end ? '.' : place * env->treasure > 0 ? '$' : 'o';
        text_put(text, "%c", place == env->place ? '@' : sign);
    }
    text_put(text, "\n");
}

#endif
