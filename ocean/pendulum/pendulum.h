// Pendulum: the equations, constants and limits of Gymnasium's Pendulum-v1, in float instead of double.
// A torque too weak to lift the rod at once must swing it up and hold it there. The actions are floats.
#ifndef PENDULUM_H
#define PENDULUM_H

#define OBS_TYPE float
#define OBS_SHAPE 3
#define OBS_RANGE -8, 8
#define REWARD_RANGE -1.0001, 0 // a little more than what is promised: sums are rounded
#define ACTION_DIM 1            // floats in an action
#define ACTION_RANGE -2, 2      // lowest, highest: of all floats, or a pair for each of them
#define AGENTS 1
#define RANDOM_SCORE -1350, -1100
#define SOLVED_SCORE -180
#define RENDER 1

#define SETTINGS(X) \
    X(float, gravity, 10.0, 0.0, 100.0, "acceleration of gravity, m/s^2") \
    X(float, mass, 1.0, 0.01, 100.0, "mass of the rod, kg") \
    X(float, length, 1.0, 0.01, 10.0, "length of the rod, m") \
    X(float, torque, 2.0, 0.01, 100.0, "strongest torque, N m: what an action of 2 or more gives") \
    X(float, tau, 0.05, 0.0001, 0.1, "seconds between two steps") \
    X(int, max_steps, 200, 1, 1000000, "steps after which the episode is cut short")

#include "ocean.h"

#define PI 3.14159265358979f
#define MAX_SPEED 8.0f  // rad/s
#define MAX_ACTION 2.0f
#define MOST_COST (PI * PI + 0.1f * MAX_SPEED * MAX_SPEED + 0.001f * MAX_ACTION * MAX_ACTION)

typedef struct {
    double score; // the sum of the costs' negatives: Gymnasium's return
    double episode_return;
    double episode_length;
    double n;
} Log;

typedef struct {
    Rng rng;
    Log log;
    float angle;        // rad from upright, in [-pi, pi)
    float speed;        // rad/s
    float torque;       // N m, of the last step: for the picture
    double total;       // rewards of this episode so far
    int32_t steps;      // of this episode
} Env;

OCEAN_FN void observe(const Env *env, Obs *obs) {
    obs[0] = cosf(env->angle);
    obs[1] = sinf(env->angle);
    obs[2] = env->speed;
}

OCEAN_FN void env_reset(Env *env, const Settings *settings, const Io *io) {
    (void)settings;
    env->steps = 0;
    env->total = 0.0;
    env->torque = 0.0f;
    env->angle = rng_uniform(&env->rng, -PI, PI);
    env->speed = rng_uniform(&env->rng, -1.0f, 1.0f);
    observe(env, io->obs);
}

OCEAN_FN void env_step(Env *env, const Settings *settings, const Io *io) {
    // What is no number fails both comparisons and is taken for the lowest.
    float action = io->actions[0];
    action = action > MAX_ACTION ? MAX_ACTION : action > -MAX_ACTION ? action : -MAX_ACTION;
    float torque = action / MAX_ACTION * settings->torque;

    // What the state and the action cost, before they change it.
    float cost = env->angle * env->angle + 0.1f * env->speed * env->speed + 0.001f * action * action;
    float reward = -cost / MOST_COST;

    // A rod that turns around its end, its moment of inertia m l^2 / 3; half-implicit Euler.
    float push = 1.5f * settings->gravity / settings->length * sinf(env->angle);
    push += 3.0f / (settings->mass * settings->length * settings->length) * torque;
    float speed = env->speed + push * settings->tau;
    env->speed = speed > MAX_SPEED ? MAX_SPEED : speed < -MAX_SPEED ? -MAX_SPEED : speed;
    env->angle += env->speed * settings->tau;
    if (env->angle >= PI) { // one turn is the most that a step can be out
        env->angle -= 2.0f * PI;
    } else if (env->angle < -PI) {
        env->angle += 2.0f * PI;
    }
    env->torque = torque;
    env->total += reward;
    env->steps++;

    int late = env->steps >= settings->max_steps;
    io->rewards[0] = reward;
    io->terminals[0] = 0; // it never ends by the rules
    io->truncations[0] = late;

    if (late) {
        observe(env, io->final_obs);
        env->log.score += env->total * MOST_COST;
        env->log.episode_return += env->total;
        env->log.episode_length += env->steps;
        env->log.n += 1;
        env_reset(env, settings, io);
    } else {
        observe(env, io->obs);
    }
}

// The rod around its pivot, in a square of cells that are twice as high as wide.
static inline void env_render(const Env *env, const Settings *settings, Text *text) {
    enum { REACH = 5 };
    char cells[2 * REACH + 1][4 * REACH + 1];
    (void)settings;
    for (int y = 0; y <= 2 * REACH; y++) {
        for (int x = 0; x <= 4 * REACH; x++) {
            cells[y][x] = ' ';
        }
    }
    cells[REACH][2 * REACH] = '+';
    for (int part = 1; part <= REACH; part++) {
        int x = 2 * REACH + (int)roundf(2.0f * (float)part * sinf(-env->angle));
        int y = REACH - (int)roundf((float)part * cosf(env->angle));
        cells[y][x] = part == REACH ? '@' : '*';
    }
    for (int y = 0; y <= 2 * REACH; y++) {
        text_put(text, "|%.*s|\n", 4 * REACH + 1, cells[y]);
    }
    text_put(text, "%+.0f degrees, %+.1f rad/s, torque %+.2f\n", env->angle * 57.29578f, env->speed, env->torque);
}

#endif
