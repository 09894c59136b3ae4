// 2048: tiles slide over a board of 4 x 4; two equal ones that meet become one of twice the number.
#ifndef GAME2048_H
#define GAME2048_H

#define OBS_TYPE uint8_t
#define OBS_SHAPE 16, 16 // CELLS, KINDS
#define OBS_RANGE 0, 1
#define REWARD_RANGE 0, 8 // a move makes at most eight tiles, each at most 1
#define ACTION_SIZES 4
#define ACTION_MASK 1
#define AGENTS 1
#define RANDOM_SCORE 800, 1400
#define SOLVED_SCORE 6000
#define RENDER 1

#define SETTINGS(X) \
    X(float, fours, 0.1, 0.0, 1.0, "share of new tiles that are a 4, the others a 2") \
    X(int, max_steps, 20000, 100, 1000000, "moves after which the episode is cut short")

#include "ocean.h"

enum { UP = 0, DOWN = 1, LEFT = 2, RIGHT = 3, SIDE = 4, CELLS = 16, KINDS = 16 };

typedef struct {
    double score; // the game's points: the numbers of all tiles that were made by meeting
    double largest; // tile
    double episode_return;
    double episode_length;
    double n;
} Log;

typedef struct {
    Rng rng;
    Log log;
    uint8_t board[CELLS]; // row by row from the top: 0 empty, k a tile of 2^k
    int32_t points;
    float total;          // of the rewards
    int32_t steps;        // of this episode
} Env;

// Slide towards an edge. Gives the points, and -1 where nothing moves; `reward` is added to.
OCEAN_FN int slide(uint8_t *board, int action, float *reward) {
    int points = 0;
    int moved = 0;
    int along = action == LEFT || action == RIGHT ? 1 : SIDE; // from a cell to the next one of its line
    int across = SIDE + 1 - along;                            // from a line to the next one
    int last = action == DOWN || action == RIGHT;             // towards the end of the line
    for (int line = 0; line < SIDE; line++) {
        int first = line * across + (last ? (SIDE - 1) * along : 0); // cell at the edge
        int step = last ? -along : along;
        int free_place = 0; // next place to fill
        int mergeable = 0;  // the tile before it has not been made by this move
        for (int i = 0; i < SIDE; i++) {
            uint8_t tile = board[first + i * step];
            if (tile == 0) {
                continue;
            }
            board[first + i * step] = 0;
            if (mergeable && board[first + (free_place - 1) * step] == tile) {
                board[first + (free_place - 1) * step]++;
                points += 2 << tile;
                *reward += (float)(tile + 1) * (1.0f / KINDS);
                mergeable = 0;
                moved = 1;
            } else {
                board[first + free_place * step] = tile;
                moved = moved || free_place != i;
                free_place++;
                mergeable = tile < KINDS - 1; // there is no larger tile to make
            }
        }
    }
    return moved ? points : -1;
}

// Can the tiles be slid so? There is a tile with a hole, or an equal one, before it.
OCEAN_FN int movable(const uint8_t *board, int action) {
    int step = action == UP ? -SIDE : action == DOWN ? SIDE : action == LEFT ? -1 : 1;
    for (int y = action == UP; y < SIDE - (action == DOWN); y++) {
        for (int x = action == LEFT; x < SIDE - (action == RIGHT); x++) {
            uint8_t tile = board[y * SIDE + x], before = board[y * SIDE + x + step];
            if (tile != 0 && (before == 0 || (before == tile && tile < KINDS - 1))) {
                return 1;
            }
        }
    }
    return 0;
}

// A 2 or a 4 on an empty cell, of which there is one.
OCEAN_FN void add_tile(Env *env, const Settings *settings) {
    int empty = 0;
    for (int i = 0; i < CELLS; i++) {
        empty += env->board[i] == 0;
    }
    int skip = rng_below(&env->rng, empty);
    for (int i = 0; i < CELLS; i++) {
        if (env->board[i] == 0 && skip-- == 0) {
            env->board[i] = rng_uniform(&env->rng, 0.0f, 1.0f) < settings->fours ? 2 : 1;
            return;
        }
    }
}

// Each cell's tile, one of KINDS.
OCEAN_FN void observe(const Env *env, Obs *obs) {
    for (int i = 0; i < CELLS; i++) {
        for (int kind = 0; kind < KINDS; kind++) {
            obs[i * KINDS + kind] = env->board[i] == kind;
        }
    }
}

OCEAN_FN int allow(const Env *env, uint8_t *mask) {
    int any = 0;
    for (int action = 0; action < SIDE; action++) {
        mask[action] = (uint8_t)movable(env->board, action);
        any = any || mask[action];
    }
    return any;
}

OCEAN_FN void env_reset(Env *env, const Settings *settings, const Io *io) {
    for (int i = 0; i < CELLS; i++) {
        env->board[i] = 0;
    }
    env->points = 0;
    env->total = 0.0f;
    env->steps = 0;
    add_tile(env, settings);
    add_tile(env, settings);
    observe(env, io->obs);
    allow(env, io->action_mask);
}

OCEAN_FN void env_step(Env *env, const Settings *settings, const Io *io) {
    // An action that moves nothing, or is none, becomes the next one that moves something.
    int action = (int)((uint32_t)io->actions[0] % 4);
    while (!movable(env->board, action)) {
        action = (action + 1) % 4;
    }
    float reward = 0.0f;
    env->points += slide(env->board, action, &reward);
    env->total += reward;
    add_tile(env, settings);
    env->steps++;
    int over = !allow(env, io->action_mask);
    int late = !over && env->steps >= settings->max_steps;
    io->rewards[0] = reward;
    io->terminals[0] = over;
    io->truncations[0] = late;

    if (over || late) {
        int largest = 0;
        for (int i = 0; i < CELLS; i++) {
            largest = env->board[i] > largest ? env->board[i] : largest;
        }
        observe(env, io->final_obs);
        env->log.score += env->points;
        env->log.largest += 1 << largest;
        env->log.episode_return += env->total;
        env->log.episode_length += env->steps;
        env->log.n += 1;
        env_reset(env, settings, io);
    } else {
        observe(env, io->obs);
    }
}

static inline void env_render(const Env *env, const Settings *settings, Text *text) {
    (void)settings;
    text_put(text, "points %d\n", env->points);
    for (int i = 0; i < CELLS; i++) {
        if (env->board[i] == 0) {
            text_put(text, "     .");
        } else {
            text_put(text, "%6d", 1 << env->board[i]);
        }
        text_put(text, "%s", i % SIDE == SIDE - 1 ? "\n" : "");
    }
}

#endif
