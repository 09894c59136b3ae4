// Connect four: seven columns, six rows, and an opponent that at times looks one move ahead.
#ifndef CONNECT4_H
#define CONNECT4_H

#define OBS_TYPE int8_t
#define OBS_SHAPE 2, 6, 7 // own pieces and the opponent's, row by row from the bottom
#define OBS_RANGE 0, 1
#define REWARD_RANGE -1, 1
#define ACTION_SIZES 7 // COLUMNS
#define ACTION_MASK 1
#define AGENTS 1
#define RANDOM_SCORE 0.1, 0.3
#define SOLVED_SCORE 0.94
#define RENDER 1

#define SETTINGS(X) \
    X(float, skill, 0.5, 0.0, 1.0, "how often the opponent looks: it then wins where it can and blocks where it must") \
    X(int, self_play, 0, 0, 1, "1: no opponent; the agent plays both sides, and sees each board as the side to move")

#include "ocean.h"

enum { COLUMNS = 7, ROWS = 6, CELLS = COLUMNS * ROWS, OPENING = 15, EMPTY = 0, OWN = 1, OTHER = 2 };

typedef struct {
    double score; // 1 for a game won, 0.5 for a draw, 0 for one lost
    double episode_return;
    double episode_length; // own moves
    double n;
} Log;

typedef struct {
    Rng rng;
    Log log;
    int32_t steps;           // of this episode
    uint8_t height[COLUMNS]; // pieces in each column
    uint8_t board[CELLS];    // row by row from the bottom
} Env;

// Pieces of one colour in a row from a cell on, the cell itself not counted.
OCEAN_FN int count(const Env *env, int column, int row, int dx, int dy, int who) {
    int pieces = 0;
    for (int i = 1; i < 4; i++) {
        int x = column + i * dx, y = row + i * dy;
        if (x < 0 || x >= COLUMNS || y < 0 || y >= ROWS || env->board[y * COLUMNS + x] != who) {
            break;
        }
        pieces++;
    }
    return pieces;
}

// Would a piece of `who` in this column make four?
OCEAN_FN int wins(const Env *env, int column, int who) {
    int row = env->height[column];
    int across = count(env, column, row, -1, 0, who) + count(env, column, row, 1, 0, who);
    int rising = count(env, column, row, -1, -1, who) + count(env, column, row, 1, 1, who);
    int falling = count(env, column, row, -1, 1, who) + count(env, column, row, 1, -1, who);
    int down = count(env, column, row, 0, -1, who);
    return across >= 3 || rising >= 3 || falling >= 3 || down >= 3;
}

OCEAN_FN void drop(Env *env, int column, int who) {
    env->board[env->height[column] * COLUMNS + column] = (uint8_t)who;
    env->height[column]++;
}

OCEAN_FN int is_full(const Env *env) {
    int room = 0;
    for (int column = 0; column < COLUMNS; column++) {
        room += ROWS - env->height[column];
    }
    return room == 0;
}

// The opponent's column, on a board with room: its win, else what keeps us from ours, else any.
OCEAN_FN int opponents_move(Env *env, const Settings *settings) {
    int open[COLUMNS];
    int choices = 0;
    for (int column = 0; column < COLUMNS; column++) {
        if (env->height[column] < ROWS) {
            open[choices++] = column;
        }
    }
    int move = open[rng_below(&env->rng, choices)];
    if (rng_uniform(&env->rng, 0.0f, 1.0f) < settings->skill) {
        for (int i = 0; i < choices; i++) {
            if (wins(env, open[i], OWN)) {
                move = open[i];
            }
        }
        for (int i = 0; i < choices; i++) {
            if (wins(env, open[i], OTHER)) {
                move = open[i];
            }
        }
    }
    return move;
}

// The board as the other side sees it.
OCEAN_FN void change_sides(Env *env) {
    for (int i = 0; i < CELLS; i++) {
        env->board[i] = (uint8_t)((OWN + OTHER - env->board[i]) % (OWN + OTHER)); // empty stays empty
    }
}

OCEAN_FN void observe(const Env *env, Obs *obs) {
    for (int i = 0; i < CELLS; i++) {
        obs[i] = env->board[i] == OWN;
        obs[CELLS + i] = env->board[i] == OTHER;
    }
}

// Some moves at random, none that wins: else a policy that plays itself would soon see few boards only.
OCEAN_FN void open_at_random(Env *env) {
    for (int left = rng_below(&env->rng, OPENING + 1); left > 0; left--) {
        int column = rng_below(&env->rng, COLUMNS);
        if (env->height[column] == ROWS || wins(env, column, OWN)) {
            break;
        }
        drop(env, column, OWN);
        change_sides(env);
    }
}

OCEAN_FN void observe_mask(const Env *env, uint8_t *action_mask) {
    for (int i = 0; i < COLUMNS; i++) {
        action_mask[i] = env->height[i] < ROWS;
    }
}

// The first move is anybody's.
OCEAN_FN void env_reset(Env *env, const Settings *settings, const Io *io) {
    env->steps = 0;
    for (int column = 0; column < COLUMNS; column++) {
        env->height[column] = 0;
    }
    for (int i = 0; i < CELLS; i++) {
        env->board[i] = EMPTY;
    }
    if (settings->self_play) {
        open_at_random(env);
    } else if (rng_below(&env->rng, 2)) {
        drop(env, opponents_move(env, settings), OTHER);
    }
    observe(env, io->obs);
    observe_mask(env, io->action_mask);
}

OCEAN_FN void env_step(Env *env, const Settings *settings, const Io *io) {
    // A full column, or none at all, becomes the next one with room.
    int column = (int)((uint32_t)io->actions[0] % COLUMNS);
    while (env->height[column] == ROWS) {
        column = (column + 1) % COLUMNS;
    }
    int won = wins(env, column, OWN);
    int lost = 0;
    drop(env, column, OWN);
    env->steps++;
    int goes_on = !won && !is_full(env);
    if (goes_on && settings->self_play) {
        change_sides(env);
    } else if (goes_on) {
        int move = opponents_move(env, settings);
        lost = wins(env, move, OTHER);
        drop(env, move, OTHER);
    }
    int over = won || lost || is_full(env);
    float reward = (float)(won - lost);
    io->rewards[0] = reward;
    io->terminals[0] = over;
    io->truncations[0] = 0;

    if (over) {
        observe(env, io->final_obs);
        env->log.score += 0.5 + 0.5 * reward;
        env->log.episode_return += reward;
        env->log.episode_length += env->steps;
        env->log.n += 1;
        env_reset(env, settings, io);
    } else {
        observe(env, io->obs);
        observe_mask(env, io->action_mask);
    }
}

// X are own pieces, O the opponent's; below, the columns as actions name them.
static inline void env_render(const Env *env, const Settings *settings, Text *text) {
    (void)settings;
    for (int row = ROWS - 1; row >= 0; row--) {
        for (int column = 0; column < COLUMNS; column++) {
            int piece = env->board[row * COLUMNS + column];
            text_put(text, " %c", piece == OWN ? 'X' : piece == OTHER ? 'O' : '.');
        }
        text_put(text, "\n");
    }
    text_put(text, " 0 1 2 3 4 5 6\n");
}

#endif
