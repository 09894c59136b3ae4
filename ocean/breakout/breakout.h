// Breakout: a paddle, five balls and two walls of 6 x 18 bricks; 432 points a wall, 864 in all.
// Lengths in pixels of a 576 x 330 field, y grows downwards; 60 ticks are one second.
#ifndef BREAKOUT_H
#define BREAKOUT_H

#define OBS_TYPE float
#define OBS_SHAPE 118 // FEATURES + BRICKS
#define OBS_RANGE -1, 1
#define REWARD_RANGE 0, 16 // one brick a tick, at most 1 a brick, at most 16 ticks a step
#define ACTION_SIZES 3
#define AGENTS 1
#define RANDOM_SCORE 0.5, 2
#define SOLVED_SCORE 800
#define RENDER 1

#define SETTINGS(X) \
    X(int, frame_skip, 4, 1, 16, "ticks for which one action is held: the ticks of one step") \
    X(float, ball_speed, 256.0, 32.0, 400.0, "speed of a new ball, pixels a second") \
    X(float, speed_up, 1.75, 1.0, 1.8, "times faster once the two upper rows were hit; middle rows: half way") \
    X(float, paddle_width, 62.0, 16.0, 288.0, "pixels") \
    X(float, paddle_speed, 620.0, 60.0, 2000.0, "pixels a second") \
    X(int, balls, 5, 1, 100, "balls of an episode") \
    X(int, max_ticks, 40000, 60, 10000000, "ticks after which the episode is cut short")

#include "ocean.h"

#include <assert.h>

enum {
    STAY = 0,
    LEFT = 1,
    RIGHT = 2,
    ROWS = 6,
    COLUMNS = 18,
    BRICKS = ROWS * COLUMNS,
    FEATURES = 10,
    WALL_POINTS = COLUMNS * 2 * (7 + 4 + 1),
    WALLS = 2
};
static_assert(OBS_SIZE == FEATURES + BRICKS, "OBS_SHAPE follows the numbers of features and bricks");

#define WIDTH 576.0f
#define HEIGHT 330.0f
#define BRICK_WIDTH 32.0f  // COLUMNS of them fill the WIDTH
#define BRICK_HEIGHT 12.0f // more than the fastest ball moves in a tick: 400 * 1.8 / 60
#define WALL_TOP 50.0f     // y of the uppermost row's upper edge
#define RADIUS 4.0f        // of the ball
#define PADDLE_Y 310.0f    // upper edge of the paddle
#define SERVE_Y 160.0f     // where a new ball appears
#define TICK (1.0f / 60.0f)
#define STEEPEST 0.86f     // |vx| / speed when the ball leaves the paddle's edge, about 60 degrees

typedef struct {
    double score;          // points of the game, 864 at best
    double episode_return; // a seventh of the points
    double episode_length; // steps, each of frame_skip ticks
    double n;
} Log;

typedef struct {
    Rng rng;
    Log log;
    float paddle_x;       // middle of the paddle
    float ball_x, ball_y; // middle of the ball
    float vx, vy;         // pixels a second
    float speed;          // length of (vx, vy)
    int32_t balls;        // left, the one in play included
    int32_t score;
    int32_t wall;         // 0 the first, 1 the second
    int32_t bricks_left;  // of this wall
    int32_t ticks, steps; // of this episode
    uint8_t bricks[BRICKS]; // 1 where a brick stands, row by row from the top
} Env;

OCEAN_FN void observe(const Env *env, const Settings *settings, Obs *obs) {
    float fastest = settings->ball_speed * settings->speed_up;
    obs[0] = env->paddle_x * (2.0f / WIDTH) - 1.0f;
    obs[1] = env->ball_x * (2.0f / WIDTH) - 1.0f;
    obs[2] = clamp(env->ball_y * (2.0f / HEIGHT) - 1.0f, -1.0f, 1.0f);
    obs[3] = clamp(env->vx / fastest, -1.0f, 1.0f);
    obs[4] = clamp(env->vy / fastest, -1.0f, 1.0f);
    obs[5] = clamp(env->speed / fastest, 0.0f, 1.0f);
    obs[6] = (float)env->balls / (float)settings->balls;
    obs[7] = (float)env->score / (float)(WALLS * WALL_POINTS);
    obs[8] = (float)env->wall;
    obs[9] = settings->paddle_width / WIDTH;
    for (int i = 0; i < BRICKS; i++) {
        obs[FEATURES + i] = (float)env->bricks[i];
    }
}

// Send the ball off: `side` is vx as a share of the speed, `down` 1 or -1.
OCEAN_FN void launch(Env *env, float side, float down) {
    env->vx = env->speed * side;
    env->vy = down * sqrtf(env->speed * env->speed - env->vx * env->vx);
}

// A new ball falls from below the wall; the paddle waits in the middle.
OCEAN_FN void serve(Env *env, const Settings *settings) {
    env->paddle_x = WIDTH / 2.0f;
    env->speed = settings->ball_speed;
    env->ball_x = rng_uniform(&env->rng, WIDTH * 0.25f, WIDTH * 0.75f);
    env->ball_y = SERVE_Y;
    launch(env, rng_uniform(&env->rng, -0.7f, 0.7f), 1.0f);
}

OCEAN_FN void build_wall(Env *env) {
    env->bricks_left = BRICKS;
    for (int i = 0; i < BRICKS; i++) {
        env->bricks[i] = 1;
    }
}

// The brick that covers a place, or -1.
OCEAN_FN int brick_at(const Env *env, float x, float y) {
    int column = (int)(x / BRICK_WIDTH);
    int row = (int)((y - WALL_TOP) / BRICK_HEIGHT);
    if (y < WALL_TOP || row >= ROWS || x < 0.0f || column >= COLUMNS) {
        return -1;
    }
    int brick = row * COLUMNS + column;
    return env->bricks[brick] ? brick : -1;
}

// Take a brick away. Gives its points: 7 in the two upper rows, 4 in the middle, 1 below.
OCEAN_FN int break_brick(Env *env, const Settings *settings, int brick) {
    int pair = brick / COLUMNS / 2; // 0 upper, 1 middle, 2 lower
    int points = 7 - 3 * pair;
    env->bricks[brick] = 0;
    env->bricks_left--;
    env->score += points;
    float speed = settings->ball_speed * (1.0f + (settings->speed_up - 1.0f) * (1.0f - 0.5f * (float)pair));
    if (speed > env->speed) {
        env->vx *= speed / env->speed;
        env->vy *= speed / env->speed;
        env->speed = speed;
    }
    return points;
}

// One sixtieth of a second. Gives the points made: at most one brick breaks in a tick.
OCEAN_FN int tick(Env *env, const Settings *settings, int action) {
    float half_paddle = settings->paddle_width / 2.0f;
    float move = settings->paddle_speed * TICK * (float)((action == RIGHT) - (action == LEFT));
    env->paddle_x = clamp(env->paddle_x + move, half_paddle, WIDTH - half_paddle);
    env->ticks++;

    // First sideways, then up or down: whichever way the ball meets something is the way it turns.
    int points = 0;
    float x = env->ball_x + env->vx * TICK;
    float y = env->ball_y;
    if (x < RADIUS) {
        x = RADIUS;
        env->vx = -env->vx;
    } else if (x > WIDTH - RADIUS) {
        x = WIDTH - RADIUS;
        env->vx = -env->vx;
    } else if (y < WALL_TOP + ROWS * BRICK_HEIGHT) {
        int brick = brick_at(env, env->vx > 0.0f ? x + RADIUS : x - RADIUS, y);
        if (brick >= 0) {
            points = break_brick(env, settings, brick);
            x = env->ball_x;
            env->vx = -env->vx;
        }
    }

    float before = y;
    y += env->vy * TICK;
    if (y < RADIUS) {
        y = RADIUS;
        env->vy = -env->vy;
    } else if (y < WALL_TOP + ROWS * BRICK_HEIGHT + RADIUS && points == 0) {
        int brick = brick_at(env, x, env->vy > 0.0f ? y + RADIUS : y - RADIUS);
        if (brick >= 0) {
            points = break_brick(env, settings, brick);
            y = before;
            env->vy = -env->vy;
        }
    } else if (before + RADIUS <= PADDLE_Y && y + RADIUS > PADDLE_Y) {
        // The place on the paddle decides where the ball goes: that is how the player aims.
        float offset = (x - env->paddle_x) / (half_paddle + RADIUS);
        if (offset >= -1.0f && offset <= 1.0f) {
            y = PADDLE_Y - RADIUS;
            launch(env, offset * STEEPEST, -1.0f);
            if (env->bricks_left == 0) {
                env->wall++;
                build_wall(env);
            }
        }
    }
    env->ball_x = x;
    env->ball_y = y;
    return points;
}

OCEAN_FN void env_reset(Env *env, const Settings *settings, const Io *io) {
    env->balls = settings->balls;
    env->score = 0;
    env->wall = 0;
    env->ticks = 0;
    env->steps = 0;
    build_wall(env);
    serve(env, settings);
    observe(env, settings, io->obs);
}

OCEAN_FN void env_step(Env *env, const Settings *settings, const Io *io) {
    int action = io->actions[0]; // an unknown number is as good as STAY
    int points = 0;
    int over = 0; // all balls lost, or both walls gone
    int late = 0;
    env->steps++;
    for (int i = 0; i < settings->frame_skip && !over && !late; i++) {
        points += tick(env, settings, action);
        if (env->ball_y > HEIGHT) {
            env->balls--;
            over = env->balls == 0;
            if (!over) {
                serve(env, settings);
            }
        }
        over = over || (env->bricks_left == 0 && env->wall == WALLS - 1);
        late = !over && env->ticks >= settings->max_ticks;
    }
    float reward = (float)points / 7.0f;
    io->rewards[0] = reward;
    io->terminals[0] = over;
    io->truncations[0] = late;

    if (over || late) {
        observe(env, settings, io->final_obs);
        env->log.score += env->score;
        env->log.episode_return += env->score / 7.0;
        env->log.episode_length += env->steps;
        env->log.n += 1;
        env_reset(env, settings, io);
    } else {
        observe(env, settings, io->obs);
    }
}

// Eight pixels to a column and a brick's height to a row, so that bricks are whole.
static inline void env_render(const Env *env, const Settings *settings, Text *text) {
    enum { ACROSS = 72, DOWN = 28 };
    int ball_column = (int)(env->ball_x / 8.0f), ball_row = (int)((env->ball_y - 2.0f) / BRICK_HEIGHT);
    int paddle_row = (int)((PADDLE_Y - 2.0f) / BRICK_HEIGHT);
    text_put(text, "points %d, balls %d of %d\n", env->score, env->balls, settings->balls);
    for (int row = 0; row < DOWN; row++) {
        float y = 2.0f + ((float)row + 0.5f) * BRICK_HEIGHT; // middle of the row
        for (int column = 0; column < ACROSS; column++) {
            float x = ((float)column + 0.5f) * 8.0f;
            char sign = ' ';
            if (row == ball_row && column == ball_column) {
                sign = 'o';
            } else if (y < WALL_TOP + ROWS * BRICK_HEIGHT && brick_at(env, x, y) >= 0) {
                sign = column % 4 == 3 ? '|' : '#';
            } else if (row == paddle_row && fabsf(x - env->paddle_x) < settings->paddle_width / 2.0f) {
                sign = '=';
            }
            text_put(text, "%s%c%s", column == 0 ? "|" : "", sign, column == ACROSS - 1 ? "|\n" : "");
        }
    }
}

#endif
