// Pong: two paddles and a ball, 21 points win. The left paddle is the agent's; the right one follows
// the ball, but slower than a steep ball flies.
// Lengths in pixels of a 320 x 240 field, x grows to the right, y downwards; 60 ticks are one second.
#ifndef PONG_H
#define PONG_H

#define OBS_TYPE float
#define OBS_SHAPE 8
#define OBS_RANGE -1, 1
#define REWARD_RANGE -1, 1 // at most one point a step: a ball flies for longer
#define ACTION_SIZES 3
#define AGENTS 1
#define RANDOM_SCORE -18, -15
#define SOLVED_SCORE 20
#define RENDER 1

#define SETTINGS(X) \
    X(int, frame_skip, 2, 1, 8, "ticks for which one action is held: the ticks of one step") \
    X(float, ball_speed, 240.0, 60.0, 400.0, "speed of a served ball, pixels a second") \
    X(float, speed_up, 1.05, 1.0, 1.2, "times faster after each stroke, up to twice the speed of the serve") \
    X(float, paddle_speed, 240.0, 30.0, 1000.0, "of the agent, pixels a second") \
    X(float, opponent_speed, 100.0, 0.0, 1000.0, "of the other paddle, pixels a second") \
    X(float, paddle_height, 40.0, 10.0, 120.0, "of both paddles, pixels") \
    X(int, points, 21, 1, 1000, "points that win the game") \
    X(int, max_ticks, 60000, 60, 10000000, "ticks after which the episode is cut short")

#include "ocean.h"

enum { STAY = 0, UP = 1, DOWN = 2 };

#define WIDTH 320.0f
#define HEIGHT 240.0f
#define RADIUS 3.0f  // of the ball
#define PADDLE 12.0f // distance of a paddle's front from its wall
#define TICK (1.0f / 60.0f)
#define STEEPEST 0.8f // |vy| / speed of a ball that was struck with a paddle's edge

typedef struct {
    double score; // own points less the opponent's: 21 at best, -21 at worst
    double episode_return;
    double episode_length; // steps, each of frame_skip ticks
    double n;
} Log;

typedef struct {
    Rng rng;
    Log log;
    float paddle_y, opponent_y; // middles of the paddles
    float ball_x, ball_y;       // middle of the ball
    float vx, vy;               // pixels a second
    float speed;                // length of (vx, vy)
    int32_t won, lost;          // points
    int32_t ticks, steps;       // of this episode
} Env;

OCEAN_FN void observe(const Env *env, const Settings *settings, Obs *obs) {
    float per_speed = 0.5f / settings->ball_speed, per_point = 1.0f / (float)settings->points;
    obs[0] = env->paddle_y * (2.0f / HEIGHT) - 1.0f;
    obs[1] = env->opponent_y * (2.0f / HEIGHT) - 1.0f;
    obs[2] = clamp(env->ball_x * (2.0f / WIDTH) - 1.0f, -1.0f, 1.0f);
    obs[3] = env->ball_y * (2.0f / HEIGHT) - 1.0f;
    obs[4] = clamp(env->vx * per_speed, -1.0f, 1.0f);
    obs[5] = clamp(env->vy * per_speed, -1.0f, 1.0f);
    obs[6] = (float)env->won * per_point;
    obs[7] = (float)env->lost * per_point;
}

// A new ball starts in the middle, towards whoever won the last point (or anybody).
OCEAN_FN void serve(Env *env, const Settings *settings, float direction) {
    env->speed = settings->ball_speed;
    env->ball_x = WIDTH / 2.0f;
    env->ball_y = rng_uniform(&env->rng, HEIGHT * 0.25f, HEIGHT * 0.75f);
    env->vy = env->speed * rng_uniform(&env->rng, -0.5f, 0.5f);
    env->vx = direction * sqrtf(env->speed * env->speed - env->vy * env->vy);
}

// The ball leaves a paddle: where it was struck decides where it goes.
OCEAN_FN void strike(Env *env, const Settings *settings, float offset, float direction) {
    env->speed = fminf(env->speed * settings->speed_up, 2.0f * settings->ball_speed);
    env->vy = env->speed * STEEPEST * offset;
    env->vx = direction * sqrtf(env->speed * env->speed - env->vy * env->vy);
}

OCEAN_FN float within(const Settings *settings, float paddle_y) {
    float half = settings->paddle_height / 2.0f;
    return clamp(paddle_y, half, HEIGHT - half);
}

// One sixtieth of a second. Gives 1 for a point won, -1 for one lost, else 0.
OCEAN_FN int tick(Env *env, const Settings *settings, int action) {
    float reach = settings->paddle_height / 2.0f + RADIUS;
    env->ticks++;
    env->paddle_y += settings->paddle_speed * TICK * (float)((action == DOWN) - (action == UP));
    env->paddle_y = within(settings, env->paddle_y);
    // The opponent follows a ball that comes, and walks back to the middle from one that goes.
    float wanted = env->vx > 0.0f ? env->ball_y : HEIGHT / 2.0f;
    float most = settings->opponent_speed * TICK;
    env->opponent_y += clamp(wanted - env->opponent_y, -most, most);
    env->opponent_y = within(settings, env->opponent_y);

    float before = env->ball_x;
    env->ball_x += env->vx * TICK;
    env->ball_y += env->vy * TICK;
    if (env->ball_y < RADIUS) {
        env->ball_y = 2.0f * RADIUS - env->ball_y;
        env->vy = -env->vy;
    } else if (env->ball_y > HEIGHT - RADIUS) {
        env->ball_y = 2.0f * (HEIGHT - RADIUS) - env->ball_y;
        env->vy = -env->vy;
    }
    float left = PADDLE + RADIUS, right = WIDTH - PADDLE - RADIUS;
    if (before >= left && env->ball_x < left) {
        float offset = (env->ball_y - env->paddle_y) / reach;
        if (fabsf(offset) <= 1.0f) {
            env->ball_x = left;
            strike(env, settings, offset, 1.0f);
        }
    } else if (before <= right && env->ball_x > right) {
        float offset = (env->ball_y - env->opponent_y) / reach;
        if (fabsf(offset) <= 1.0f) {
            env->ball_x = right;
            strike(env, settings, offset, -1.0f);
        }
    }
    if (env->ball_x > WIDTH) {
        env->won++;
        serve(env, settings, -1.0f);
        return 1;
    }
    if (env->ball_x < 0.0f) {
        env->lost++;
        serve(env, settings, 1.0f);
        return -1;
    }
    return 0;
}

OCEAN_FN void env_reset(Env *env, const Settings *settings, const Io *io) {
    env->paddle_y = HEIGHT / 2.0f;
    env->opponent_y = HEIGHT / 2.0f;
    env->won = 0;
    env->lost = 0;
    env->ticks = 0;
    env->steps = 0;
    serve(env, settings, rng_below(&env->rng, 2) ? 1.0f : -1.0f);
    observe(env, settings, io->obs);
}

OCEAN_FN void env_step(Env *env, const Settings *settings, const Io *io) {
    int action = io->actions[0]; // an unknown number is as good as STAY
    int points = 0;
    int over = 0;
    int late = 0;
    env->steps++;
    for (int i = 0; i < settings->frame_skip && !over && !late; i++) {
        points += tick(env, settings, action);
        over = env->won == settings->points || env->lost == settings->points;
        late = !over && env->ticks >= settings->max_ticks;
    }
    io->rewards[0] = (float)points;
    io->terminals[0] = over;
    io->truncations[0] = late;

    if (over || late) {
        observe(env, settings, io->final_obs);
        env->log.score += env->won - env->lost;
        env->log.episode_return += env->won - env->lost;
        env->log.episode_length += env->steps;
        env->log.n += 1;
        env_reset(env, settings, io);
    } else {
        observe(env, settings, io->obs);
    }
}

// Five pixels to a column, ten to a row.
static inline void env_render(const Env *env, const Settings *settings, Text *text) {
    enum { ACROSS = 64, DOWN_ROWS = 24 };
    float half = settings->paddle_height / 2.0f;
    text_put(text, "%d : %d\n", env->won, env->lost);
    for (int row = 0; row < DOWN_ROWS; row++) {
        float y = ((float)row + 0.5f) * 10.0f; // middle of the row
        for (int column = 0; column < ACROSS; column++) {
            float paddle_y = column < ACROSS / 2 ? env->paddle_y : env->opponent_y;
            char sign = column == ACROSS / 2 && row % 2 ? ':' : ' ';
            if (row == (int)(env->ball_y / 10.0f) && column == (int)(env->ball_x / 5.0f)) {
                sign = 'o';
            } else if ((column == 1 || column == ACROSS - 2) && fabsf(y - paddle_y) < half) {
                sign = '#';
            }
            text_put(text, "%s%c%s", column == 0 ? "|" : "", sign, column == ACROSS - 1 ? "|\n" : "");
        }
    }
}

#endif
