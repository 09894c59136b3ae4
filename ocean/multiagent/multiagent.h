// Multiagent, a probe: four agents beside each other, to each of whom another answer is right.
#ifndef MULTIAGENT_H
#define MULTIAGENT_H

#define OBS_TYPE float
#define OBS_SHAPE 8 // AGENTS + ANSWERS
#define OBS_RANGE 0, 1
#define REWARD_RANGE 0, 1
#define ACTION_SIZES 4 // ANSWERS
#define AGENTS 4
#define RANDOM_SCORE 0.23, 0.27
#define SOLVED_SCORE 0.97
#define RENDER 1

#define SETTINGS(X) \
    X(int, questions, 8, 1, 1000, "questions of an episode")

#include "ocean.h"

enum { ANSWERS = 4 };

typedef struct {
    double score; // share of right answers of one agent
    double episode_return;
    double episode_length;
    double n;
} Log;

typedef struct {
    Rng rng;
    Log log[AGENTS];
    int32_t steps; // of this episode
    int32_t cue[AGENTS];
    int32_t right[AGENTS];
} Env;

// Who one is, and a cue; the right answer is their sum.
OCEAN_FN void ask(Env *env, Obs *obs) {
    for (int agent = 0; agent < AGENTS; agent++) {
        Obs *own = obs + agent * OBS_SIZE;
        env->cue[agent] = rng_below(&env->rng, ANSWERS);
        for (int i = 0; i < AGENTS; i++) {
            own[i] = i == agent ? 1.0f : 0.0f;
        }
        for (int i = 0; i < ANSWERS; i++) {
            own[AGENTS + i] = i == env->cue[agent] ? 1.0f : 0.0f;
        }
    }
}

OCEAN_FN void env_reset(Env *env, const Settings *settings, const Io *io) {
    (void)settings;
    env->steps = 0;
    for (int agent = 0; agent < AGENTS; agent++) {
        env->right[agent] = 0;
    }
    ask(env, io->obs);
}

OCEAN_FN void env_step(Env *env, const Settings *settings, const Io *io) {
    env->steps++;
    int over = env->steps == settings->questions;
    for (int agent = 0; agent < AGENTS; agent++) {
        int right = io->actions[agent] == (agent + env->cue[agent]) % ANSWERS;
        env->right[agent] += right;
        io->rewards[agent] = (float)right;
        io->terminals[agent] = over;
        io->truncations[agent] = 0;
        if (over) {
            env->log[agent].score += (double)env->right[agent] / env->steps;
            env->log[agent].episode_return += env->right[agent];
            env->log[agent].episode_length += env->steps;
            env->log[agent].n += 1;
        }
    }
    if (over) {
        ask(env, io->final_obs);
        env_reset(env, settings, io);
    } else {
        ask(env, io->obs);
    }
}

// Every agent's cue, the answer that is right, and how often it was given.
static inline void env_render(const Env *env, const Settings *settings, Text *text) {
    text_put(text, "question %d of %d\n", env->steps + 1, settings->questions);
    for (int agent = 0; agent < AGENTS; agent++) {
        text_put(text, "agent %d: cue %d, wanted %d, right so far ", agent, env->cue[agent],
                 (agent + env->cue[agent]) % ANSWERS);
        for (int i = 0; i < env->steps && i < 40; i++) {
            text_put(text, "%c", i < env->right[agent] ? '#' : '.');
        }
        text_put(text, "\n");
    }
}

#endif
