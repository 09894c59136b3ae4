// Tetris, a piece a step: pieces of four cells are dropped into a well; a row that is full goes away.
// The well is 10 cells wide and 20 high; rows are counted from the top.
#ifndef TETRIS_H
#define TETRIS_H

#define OBS_TYPE float
#define OBS_SHAPE 154 // 2 * COLUMNS + 2 * PIECES + 3 * PLACES
#define OBS_RANGE 0, 1
#define REWARD_RANGE -1, 1
#define ACTION_SIZES 40 // PLACES
#define ACTION_MASK 1
#define AGENTS 1
#define RANDOM_SCORE 0.05, 0.3
#define SOLVED_SCORE 150
#define RENDER 1

#define SETTINGS(X) \
    X(float, hole_penalty, 0.1, 0.0, 0.2, "for every cell that a piece covers and leaves empty, up to five") \
    X(int, max_pieces, 500, 1, 1000000, "pieces after which the episode is cut short")

#include "ocean.h"

#include <assert.h>

enum {
    COLUMNS = 10,
    ROWS = 20,
    PIECES = 7,
    TURNS = 4,
    PLACES = TURNS * COLUMNS,
    MOST_HOLES = 5,           // that are seen, and punished
    BOX = 4,                  // a piece fits into BOX x BOX cells
    FULL = (1 << COLUMNS) - 1 // a row without a hole
};
static_assert(OBS_SIZE == 2 * COLUMNS + 2 * PIECES + 3 * PLACES, "OBS_SHAPE follows the size of the well");

typedef struct {
    double score; // rows that went away
    double episode_return;
    double episode_length; // pieces
    double n;
} Log;

typedef struct {
    Rng rng;
    Log log;
    uint16_t rows[ROWS];    // bit c is the cell in column c
    int32_t piece, next;    // of PIECES
    int32_t cleared, steps; // of this episode
    float total;            // of the rewards
} Env;

// The cells of a piece as four rows of four bits, the uppermost row in the lowest bits: pushed into the
// upper left corner, whichever way it is turned.
OCEAN_FN int shape(int piece, int turn) {
    const uint16_t shapes[PIECES * TURNS] = {
        0x000F, 0x1111, 0x000F, 0x1111, // I
        0x0033, 0x0033, 0x0033, 0x0033, // O
        0x0027, 0x0232, 0x0072, 0x0131, // T
        0x0036, 0x0231, 0x0036, 0x0231, // S
        0x0063, 0x0132, 0x0063, 0x0132, // Z
        0x0071, 0x0113, 0x0047, 0x0322, // J
        0x0074, 0x0311, 0x0017, 0x0223, // L
    };
    return shapes[piece * TURNS + turn];
}

// For each column the row of its uppermost cell, ROWS where it is empty.
OCEAN_FN void find_tops(const Env *env, int *tops) {
    for (int column = 0; column < COLUMNS; column++) {
        tops[column] = 0;
        while (tops[column] < ROWS && !((env->rows[tops[column]] >> column) & 1)) {
            tops[column]++;
        }
    }
}

// The row in which a piece that is dropped in this column comes to rest; -1 where it has no room.
// `holes` becomes the number of empty cells right below it, which it covers.
OCEAN_FN int landing(const int *tops, int cells, int column, int *holes) {
    int row = ROWS;
    int below[BOX]; // from the piece's upper edge to below its lowest cell in this column; 0 without any
    *holes = 0;
    for (int x = 0; x < BOX; x++) {
        below[x] = 0;
        for (int y = 0; y < BOX; y++) {
            below[x] = (cells >> (BOX * y + x)) & 1 ? y + 1 : below[x];
        }
        if (below[x] > 0 && column + x >= COLUMNS) {
            return -1;
        }
        if (below[x] > 0 && tops[column + x] - below[x] < row) {
            row = tops[column + x] - below[x];
        }
    }
    if (row < 0) {
        return -1;
    }
    for (int x = 0; x < BOX; x++) {
        *holes += below[x] > 0 ? tops[column + x] - below[x] - row : 0;
    }
    return row;
}

// A turn in which the piece looks as in an earlier one?
OCEAN_FN int is_twin(int piece, int turn) {
    int cells = shape(piece, turn);
    return (turn >= 1 && cells == shape(piece, 0)) || (turn == 3 && cells == shape(piece, 1));
}

// Rows that a piece at rest in this row fills.
OCEAN_FN int filled(const Env *env, int cells, int column, int row) {
    int full = 0;
    for (int y = 0; y < BOX && row + y < ROWS; y++) {
        full += (env->rows[row + y] | (((cells >> (BOX * y)) & 15) << column)) == FULL;
    }
    return full;
}

// The outline of the well, the two pieces, and what would come of every place; the mask says which places
// there are. Gives whether there is any.
OCEAN_FN int observe(const Env *env, Obs *obs, uint8_t *mask) {
    Obs *pieces = obs + 2 * COLUMNS, *depths = pieces + 2 * PIECES;
    Obs *holes_made = depths + PLACES, *rows_made = holes_made + PLACES;
    int tops[COLUMNS];
    int any = 0;
    find_tops(env, tops);
    for (int column = 0; column < COLUMNS; column++) {
        int buried = 0; // empty cells below the uppermost one
        for (int row = tops[column]; row < ROWS; row++) {
            buried += !((env->rows[row] >> column) & 1);
        }
        obs[column] = (float)(ROWS - tops[column]) / ROWS;
        obs[COLUMNS + column] = (float)buried / ROWS;
    }
    for (int piece = 0; piece < PIECES; piece++) {
        pieces[piece] = piece == env->piece ? 1.0f : 0.0f;
        pieces[PIECES + piece] = piece == env->next ? 1.0f : 0.0f;
    }
    for (int place = 0; place < PLACES; place++) {
        int cells = shape(env->piece, place / COLUMNS), column = place % COLUMNS;
        int holes;
        int row = landing(tops, cells, column, &holes);
        int free = row >= 0 && !is_twin(env->piece, place / COLUMNS);
        mask[place] = (uint8_t)free;
        any = any || free;
        depths[place] = free ? (float)(row + 1) / ROWS : 0.0f;
        holes_made[place] = free ? fminf((float)holes / MOST_HOLES, 1.0f) : 0.0f;
        rows_made[place] = free ? (float)filled(env, cells, column, row) / BOX : 0.0f;
    }
    return any;
}

// The piece stays where it is; full rows go away. Gives their number.
OCEAN_FN int settle(Env *env, int cells, int column, int row) {
    for (int i = 0; i < BOX && row + i < ROWS; i++) {
        env->rows[row + i] |= (uint16_t)(((cells >> (BOX * i)) & 15) << column);
    }
    int to = ROWS - 1; // where the next row from below that stays comes to lie
    for (int from = ROWS - 1; from >= 0; from--) {
        if (env->rows[from] != FULL) {
            env->rows[to--] = env->rows[from];
        }
    }
    int cleared = to + 1;
    while (to >= 0) {
        env->rows[to--] = 0;
    }
    return cleared;
}

OCEAN_FN void env_reset(Env *env, const Settings *settings, const Io *io) {
    (void)settings;
    for (int row = 0; row < ROWS; row++) {
        env->rows[row] = 0;
    }
    env->cleared = 0;
    env->steps = 0;
    env->total = 0.0f;
    env->piece = rng_below(&env->rng, PIECES);
    env->next = rng_below(&env->rng, PIECES);
    observe(env, io->obs, io->action_mask);
}

OCEAN_FN void env_step(Env *env, const Settings *settings, const Io *io) {
    // A place where the piece does not fit, or none at all, becomes the next one where it does.
    int place = (int)((uint32_t)io->actions[0] % PLACES);
    int tops[COLUMNS];
    int holes;
    find_tops(env, tops);
    int row = landing(tops, shape(env->piece, place / COLUMNS), place % COLUMNS, &holes);
    while (row < 0) {
        place = (place + 1) % PLACES;
        row = landing(tops, shape(env->piece, place / COLUMNS), place % COLUMNS, &holes);
    }
    int cleared = settle(env, shape(env->piece, place / COLUMNS), place % COLUMNS, row);
    env->cleared += cleared;
    env->steps++;
    env->piece = env->next;
    env->next = rng_below(&env->rng, PIECES);
    int over = !observe(env, io->obs, io->action_mask);
    int late = !over && env->steps >= settings->max_pieces;
    float penalty = settings->hole_penalty * fminf((float)holes, MOST_HOLES);
    float reward = over ? -1.0f : (float)cleared / BOX - penalty;
    env->total += reward;
    io->rewards[0] = reward;
    io->terminals[0] = over;
    io->truncations[0] = late;

    if (over || late) {
        for (int i = 0; i < OBS_SIZE; i++) {
            io->final_obs[i] = io->obs[i];
        }
        env->log.score += env->cleared;
        env->log.episode_return += env->total;
        env->log.episode_length += env->steps;
        env->log.n += 1;
        env_reset(env, settings, io);
    }
}

// The well, two signs a cell; above it the piece to place, beside it the next one.
static inline void env_render(const Env *env, const Settings *settings, Text *text) {
    int cells = shape(env->piece, 0), next = shape(env->next, 0);
    text_put(text, "rows %d, piece %d of %d\n", env->cleared, env->steps + 1, settings->max_pieces);
    for (int y = 0; y < 2; y++) {
        text_put(text, "       ");
        for (int x = 0; x < 2 * BOX; x++) {
            int bits = (x < BOX ? cells : next) >> (BOX * y + x % BOX);
            text_put(text, "%s%s", x != BOX ? "" : y == 0 ? "    next " : "         ", bits & 1 ? "OO" : "  ");
        }
        text_put(text, "\n");
    }
    for (int row = 0; row < ROWS; row++) {
        for (int column = 0; column < COLUMNS; column++) {
            int lies = (env->rows[row] >> column) & 1;
            text_put(text, "%s%s", column == 0 ? "|" : "", lies ? "##" : " .");
        }
        text_put(text, "|\n");
    }
}

#endif
