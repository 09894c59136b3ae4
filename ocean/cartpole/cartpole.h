// Cart-pole: the equations, constants and limits of Gymnasium's CartPole-v1 (Barto, Sutton and
// Anderson 1983), in float instead of double.
#ifndef CARTPOLE_H
#define CARTPOLE_H

#define OBS_TYPE float
#define OBS_SHAPE 4
#define OBS_RANGE -INFINITY, INFINITY
#define REWARD_RANGE 1, 1
#define ACTION_SIZES 2
#define AGENTS 1
#define RANDOM_SCORE 18, 27
#define SOLVED_SCORE 475
#define RENDER 1

#define SETTINGS(X) \
    X(float, gravity, 9.8, 0.1, 100.0, "acceleration of gravity, m/s^2") \
    X(float, cart_mass, 1.0, 0.01, 100.0, "mass of the cart, kg") \
    X(float, pole_mass, 0.1, 0.001, 100.0, "mass of the pole, kg") \
    X(float, half_length, 0.5, 0.01, 10.0, "half the length of the pole, m") \
    X(float, force, 10.0, 0.1, 1000.0, "push of one action, N") \
    X(float, tau, 0.02, 0.0001, 0.1, "seconds between two steps") \
    X(int, max_steps, 500, 1, 1000000, "steps after which the episode is cut short")

#include "ocean.h"

#define X_LIMIT 2.4f // m
// rad: the greatest float below 12 degrees. A float is above it where, as a double, it is above the
// original's limit.
#define THETA_LIMIT 0.209439501f
#define START 0.05f // all four numbers of a first state lie within +-START

typedef struct {
    double score; // the episode's length, which is its return
    double episode_return;
    double episode_length;
    double n;
} Log;

typedef struct {
    Rng rng;
    Log log;
    float x, x_dot;         // m, m/s
    float theta, theta_dot; // rad from upright, rad/s
    int32_t steps;          // of this episode
} Env;

OCEAN_FN void observe(const Env *env, Obs *obs) {
    obs[0] = env->x;
    obs[1] = env->x_dot;
    obs[2] = env->theta;
    obs[3] = env->theta_dot;
}

OCEAN_FN void env_reset(Env *env, const Settings *settings, const Io *io) {
    (void)settings;
    env->steps = 0;
    env->x = rng_uniform(&env->rng, -START, START);
    env->x_dot = rng_uniform(&env->rng, -START, START);
    env->theta = rng_uniform(&env->rng, -START, START);
    env->theta_dot = rng_uniform(&env->rng, -START, START);
    observe(env, io->obs);
}

OCEAN_FN void env_step(Env *env, const Settings *settings, const Io *io) {
    // By a table and not by `if`: the processor would guess half of a random agent's pushes wrong.
    const float pushes[] = {-settings->force, settings->force};
    float force = pushes[io->actions[0] == 1];
    float per_mass = 1.0f / (settings->cart_mass + settings->pole_mass); // of both together
    float pole_moment = settings->pole_mass * settings->half_length;

    // Within +-THETA_LIMIT the series below are exact to float rounding; no angle beyond it is ever
    // stepped from, because the episode has ended.
    float theta = env->theta;
    float theta2 = theta * theta;
    float sine = theta * (1.0f - theta2 * (1.0f / 6.0f - theta2 * (1.0f / 120.0f - theta2 * (1.0f / 5040.0f))));
    float cosine = 1.0f - theta2 * (0.5f - theta2 * (1.0f / 24.0f - theta2 * (1.0f / 720.0f)));

    // Equations of Florian, "Correct equations for the dynamics of the cart-pole system" (2007).
    float push = (force + pole_moment * env->theta_dot * env->theta_dot * sine) * per_mass;
    float theta_acc = (settings->gravity * sine - cosine * push) /
                      (settings->half_length * (4.0f / 3.0f - settings->pole_mass * per_mass * cosine * cosine));
    float x_acc = push - pole_moment * per_mass * theta_acc * cosine;

    // Euler's method: positions move by the old velocities.
    env->x += settings->tau * env->x_dot;
    env->x_dot += settings->tau * x_acc;
    env->theta += settings->tau * env->theta_dot;
    env->theta_dot += settings->tau * theta_acc;
    env->steps++;

    int fell = (fabsf(env->x) > X_LIMIT) | (fabsf(env->theta) > THETA_LIMIT); // `|`: one guess, not two
    int late = !fell && env->steps >= settings->max_steps;
    io->rewards[0] = 1.0f;
    io->terminals[0] = fell;
    io->truncations[0] = late;

    if (fell || late) {
        observe(env, io->final_obs);
        env->log.score += env->steps;
        env->log.episode_return += env->steps;
        env->log.episode_length += env->steps;
        env->log.n += 1;
        env_reset(env, settings, io);
    } else {
        observe(env, io->obs);
    }
}

// A row is as high as two columns are wide: the pole leans as it does, and stands on the cart.
static inline void env_render(const Env *env, const Settings *settings, Text *text) {
    enum { MIDDLE = 24, POLE = 8 };
    int cart = MIDDLE + (int)roundf(env->x / X_LIMIT * MIDDLE);
    (void)settings;
    text_put(text, "cart %+.2f m, pole %+.1f degrees\n", env->x, env->theta * 57.29578f);
    for (int row = POLE; row >= 0; row--) {
        float lean = 2.0f * (float)row * tanf(env->theta);
        int pole = MIDDLE + (int)roundf(env->x / X_LIMIT * MIDDLE + lean);
        for (int i = 0; i <= 2 * MIDDLE; i++) {
            int on_cart = row == 0 && i >= cart - 2 && i <= cart + 2;
            text_put(text, "%c", on_cart ? '#' : row > 0 && i == pole ? 'o' : row == 0 ? '_' : ' ');
        }
        text_put(text, "\n");
    }
}

#endif
