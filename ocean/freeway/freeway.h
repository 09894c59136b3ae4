// Freeway: a hen crosses a road of eight lanes, again and again; a car that hits her throws her back.
// Lengths in shares of the road's visible width; lanes are numbered from the one next to the start.
#ifndef FREEWAY_H
#define FREEWAY_H

#define OBS_TYPE float
#define OBS_SHAPE 18 // 3 + 3 * SEEN
#define OBS_RANGE -1, 1
#define REWARD_RANGE 0, 1
#define ACTION_SIZES 3
#define AGENTS 1
#define RANDOM_SCORE 0, 0.5
#define SOLVED_SCORE 14
#define RENDER 1

#define SETTINGS(X) \
    X(float, traffic, 1.0, 0.0, 2.0, "times the usual speed of the cars") \
    X(float, hen_speed, 0.25, 0.05, 1.0, "lanes a step") \
    X(int, thrown_back, 8, 0, 8, "lanes that the hen is thrown back when she is hit") \
    X(int, max_steps, 1000, 10, 1000000, "steps of an episode, which is then cut short")

#include "ocean.h"

enum { STAY = 0, UP = 1, DOWN = 2, LANES = 8, SEEN = 5 };

#define CAR 0.08f     // half the length of a car
#define HEN_X 0.5f    // where the hen walks
#define HEN 0.015f    // half the width of the hen
#define SLOWEST 0.01f // of the lanes at usual traffic, road widths a step
#define FASTEST 0.04f

typedef struct {
    double score; // crossings
    double episode_return;
    double episode_length;
    double n;
} Log;

typedef struct {
    Rng rng;
    Log log;
    float hen_y;         // 0 the start, lane k from k + 0.5 to k + 1.5, LANES + 1 the other side
    float car_x[LANES];  // middle of the car of each lane, in [0, 1)
    float car_v[LANES];  // road widths a step; every other lane runs the other way
    int32_t furthest;         // lane reached since the last crossing
    int32_t steps, crossings; // of this episode
    float total;              // of the rewards
} Env;

OCEAN_FN void observe(const Env *env, const Settings *settings, Obs *obs) {
    float fastest = FASTEST * fmaxf(settings->traffic, 1.0f);
    obs[0] = env->hen_y * (2.0f / (LANES + 1)) - 1.0f;
    obs[1] = 2.0f * (float)env->steps / (float)settings->max_steps - 1.0f;
    // The lane behind her, her own, and the three to come.
    int own = (int)(env->hen_y + 0.5f) - 1;
    obs[2] = 2.0f * (env->hen_y - (float)(own + 1)); // where in her lane she is
    for (int i = 0; i < SEEN; i++) {
        int lane = own - 1 + i;
        int there = lane >= 0 && lane < LANES;
        obs[3 + 3 * i] = there ? 1.0f : 0.0f;
        obs[4 + 3 * i] = there ? 2.0f * (env->car_x[lane] - HEN_X) : 0.0f; // the road is a ring
        obs[5 + 3 * i] = there ? env->car_v[lane] / fastest : 0.0f;
    }
}

OCEAN_FN void env_reset(Env *env, const Settings *settings, const Io *io) {
    env->hen_y = 0.0f;
    env->steps = 0;
    env->crossings = 0;
    env->furthest = 0;
    env->total = 0.0f;
    for (int lane = 0; lane < LANES; lane++) {
        float speed = settings->traffic * rng_uniform(&env->rng, SLOWEST, FASTEST);
        env->car_x[lane] = rng_uniform(&env->rng, 0.0f, 1.0f);
        env->car_v[lane] = lane % 2 ? -speed : speed;
    }
    observe(env, settings, io->obs);
}

OCEAN_FN void env_step(Env *env, const Settings *settings, const Io *io) {
    int action = io->actions[0]; // an unknown number is as good as STAY
    float move = settings->hen_speed * (float)((action == UP) - (action == DOWN));
    env->hen_y = fmaxf(0.0f, env->hen_y + move);
    env->steps++;

    int hit = 0;
    for (int lane = 0; lane < LANES; lane++) {
        float x = env->car_x[lane] + env->car_v[lane];
        env->car_x[lane] = x - floorf(x);
        int in_lane = fabsf(env->hen_y - (float)(lane + 1)) < 0.5f;
        hit = hit || (in_lane && fabsf(env->car_x[lane] - HEN_X) < CAR + HEN);
    }
    float reward = 0.0f;
    if (hit) {
        env->hen_y = fmaxf(0.0f, env->hen_y - (float)settings->thrown_back);
    } else if (env->hen_y >= LANES + 1) {
        reward = 1.0f - 0.1f * (float)env->furthest;
        env->crossings++;
        env->hen_y = 0.0f;
        env->furthest = 0;
    } else if ((int)env->hen_y > env->furthest) {
        reward = 0.1f * (float)((int)env->hen_y - env->furthest);
        env->furthest = (int)env->hen_y;
    }
    env->total += reward;
    int late = env->steps >= settings->max_steps;
    io->rewards[0] = reward;
    io->terminals[0] = 0;
    io->truncations[0] = late;

    if (late) {
        observe(env, settings, io->final_obs);
        env->log.score += env->crossings;
        env->log.episode_return += env->total;
        env->log.episode_length += env->steps;
        env->log.n += 1;
        env_reset(env, settings, io);
    } else {
        observe(env, settings, io->obs);
    }
}

// The start below, the other side above; > and < are the fronts of the cars.
static inline void env_render(const Env *env, const Settings *settings, Text *text) {
    enum { ACROSS = 60 };
    text_put(text, "step %d of %d, crossings %d\n", env->steps, settings->max_steps, env->crossings);
    for (int row = LANES + 1; row >= 0; row--) {
        int road = row >= 1 && row <= LANES;
        for (int column = 0; column < ACROSS; column++) {
            float x = ((float)column + 0.5f) / ACROSS;
            char sign = road ? ' ' : '_';
            if (road) {
                float ahead = x - env->car_x[row - 1]; // of the car's middle; the road is a ring
                ahead -= floorf(ahead + 0.5f);
                ahead = env->car_v[row - 1] < 0.0f ? -ahead : ahead;
                sign = fabsf(ahead) >= CAR ? ' ' : ahead < CAR - 1.0f / ACROSS ? '#'
                       : env->car_v[row - 1] < 0.0f ? '<' : '>';
            }
            if (row == (int)(env->hen_y + 0.5f) && column == ACROSS / 2) {
                sign = '@';
            }
            text_put(text, "%c", sign);
        }
        text_put(text, "\n");
    }
}

#endif
