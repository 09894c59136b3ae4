// Snake: many snakes on one map. They eat, grow, and die on walls and bodies, their own or others'.
// Each sees the window around its head and is an agent of its own: when it dies, it alone begins anew.
#ifndef SNAKE_H
#define SNAKE_H

#define OBS_TYPE uint8_t
#define OBS_SHAPE 4, 11, 11 // KINDS, WINDOW, WINDOW
#define OBS_RANGE 0, 1
#define REWARD_RANGE -1, 1
#define ACTION_SIZES 4
#define AGENTS 64
#define RANDOM_SCORE 0.7, 1.1
#define SOLVED_SCORE 20
#define RENDER 1

#define SETTINGS(X) \
    X(int, food, 128, 1, 512, "pieces of food that lie on the map") \
    X(int, max_length, 48, 2, 48, "cells after which a snake grows no further") \
    X(int, max_steps, 500, 10, 100000, "steps after which a snake's episode is cut short")

#include "ocean.h"

enum {
    UP = 0,
    DOWN = 1,
    LEFT = 2,
    RIGHT = 3,
    SIZE = 64, // of the square map, walls included
    WINDOW = 11,
    SIGHT = WINDOW / 2,
    LONGEST = 48, // all snakes at their longest and all food leave cells of the map free
    KINDS = 4, // that are seen: FOOD, WALL, own body, bodies of others
    EMPTY = 0,
    FOOD = 1,
    WALL = 2,
    BODY = 3 // BODY + i: of snake i
};

typedef struct {
    double score; // pieces of food that a snake ate in its life
    double episode_return;
    double episode_length;
    double n;
} Log;

typedef struct {
    int32_t head, length;  // place of the head in cells, which is a ring; cells in use
    int32_t heading;       // the last move
    int32_t steps, eaten;  // of this episode
    int16_t cells[LONGEST]; // of the map
} Snake;

typedef struct {
    Rng rng;
    Log log[AGENTS];
    Snake snakes[AGENTS];
    uint8_t map[SIZE * SIZE];
} Env;

// An empty cell: there are many more than the snakes and the food can ever cover.
OCEAN_FN int free_cell(Env *env) {
    int cell = rng_below(&env->rng, SIZE * SIZE);
    while (env->map[cell] != EMPTY) {
        cell = (cell + 1) % (SIZE * SIZE);
    }
    return cell;
}

OCEAN_FN void hatch(Env *env, int agent) {
    Snake *snake = &env->snakes[agent];
    int cell = free_cell(env);
    snake->head = 0;
    snake->length = 1;
    snake->heading = rng_below(&env->rng, 4);
    snake->steps = 0;
    snake->eaten = 0;
    snake->cells[0] = (int16_t)cell;
    env->map[cell] = (uint8_t)(BODY + agent);
}

OCEAN_FN void clear_body(Env *env, int agent) {
    const Snake *snake = &env->snakes[agent];
    for (int i = 0; i < snake->length; i++) {
        env->map[snake->cells[(snake->head - i + LONGEST) % LONGEST]] = EMPTY;
    }
}

// One plane for each kind of thing, over the window around the head; beyond the map there is wall.
OCEAN_FN void observe(const Env *env, int agent, Obs *obs) {
    const Snake *snake = &env->snakes[agent];
    int head = snake->cells[snake->head];
    int left = head % SIZE - SIGHT, top = head / SIZE - SIGHT;
    int own = BODY + agent;
    // First what lies in the window; then each plane is one comparison, of many cells at once.
    uint8_t seen[WINDOW * WINDOW];
    for (int row = 0; row < WINDOW; row++) {
        int y = top + row;
        if (y >= 0 && y < SIZE && left >= 0 && left + WINDOW <= SIZE) {
            for (int column = 0; column < WINDOW; column++) {
                seen[row * WINDOW + column] = env->map[y * SIZE + left + column];
            }
        } else {
            for (int column = 0; column < WINDOW; column++) {
                int x = left + column;
                int inside = x >= 0 && x < SIZE && y >= 0 && y < SIZE;
                seen[row * WINDOW + column] = inside ? env->map[y * SIZE + x] : WALL;
            }
        }
    }
    for (int i = 0; i < WINDOW * WINDOW; i++) {
        obs[i] = seen[i] == FOOD;
        obs[WINDOW * WINDOW + i] = seen[i] == WALL;
        obs[2 * WINDOW * WINDOW + i] = seen[i] == own;
        obs[3 * WINDOW * WINDOW + i] = seen[i] >= BODY && seen[i] != own;
    }
}

// Gives 1 for food, -1 for death, else 0.
OCEAN_FN int move(Env *env, const Settings *settings, int agent, int action) {
    Snake *snake = &env->snakes[agent];
    // Nobody turns back into the own neck; an unknown number goes straight on.
    int back = snake->heading ^ 1; // UP and DOWN, LEFT and RIGHT are pairs
    if (action >= 0 && action < 4 && (action != back || snake->length == 1)) {
        snake->heading = action;
    }
    int step = snake->heading == UP ? -SIZE : snake->heading == DOWN ? SIZE : snake->heading == LEFT ? -1 : 1;
    int cell = snake->cells[snake->head] + step;
    int there = env->map[cell];
    if (there >= WALL) {
        return -1;
    }
    int grows = there == FOOD && snake->length < settings->max_length;
    if (!grows) {
        env->map[snake->cells[(snake->head - snake->length + 1 + LONGEST) % LONGEST]] = EMPTY;
    }
    snake->length += grows;
    snake->head = (snake->head + 1) % LONGEST;
    snake->cells[snake->head] = (int16_t)cell;
    env->map[cell] = (uint8_t)(BODY + agent);
    if (there == FOOD) {
        env->map[free_cell(env)] = FOOD;
        snake->eaten++;
    }
    return there == FOOD;
}

OCEAN_FN void env_reset(Env *env, const Settings *settings, const Io *io) {
    for (int i = 0; i < SIZE * SIZE; i++) {
        int x = i % SIZE, y = i / SIZE;
        env->map[i] = x == 0 || x == SIZE - 1 || y == 0 || y == SIZE - 1 ? WALL : EMPTY;
    }
    for (int agent = 0; agent < AGENTS; agent++) {
        hatch(env, agent);
    }
    for (int i = 0; i < settings->food; i++) {
        env->map[free_cell(env)] = FOOD;
    }
    for (int agent = 0; agent < AGENTS; agent++) {
        observe(env, agent, io->obs + agent * OBS_SIZE);
    }
}

OCEAN_FN void env_step(Env *env, const Settings *settings, const Io *io) {
    // All move, one after the other; then those that ended are seen a last time; then they hatch anew.
    for (int agent = 0; agent < AGENTS; agent++) {
        Snake *snake = &env->snakes[agent];
        int met = move(env, settings, agent, io->actions[agent]);
        snake->steps++;
        io->rewards[agent] = (float)met;
        io->terminals[agent] = met < 0;
        io->truncations[agent] = met >= 0 && snake->steps >= settings->max_steps;
    }
    for (int agent = 0; agent < AGENTS; agent++) {
        if (io->terminals[agent] || io->truncations[agent]) {
            const Snake *snake = &env->snakes[agent];
            observe(env, agent, io->final_obs + agent * OBS_SIZE);
            env->log[agent].score += snake->eaten;
            env->log[agent].episode_return += snake->eaten - io->terminals[agent];
            env->log[agent].episode_length += snake->steps;
            env->log[agent].n += 1;
        }
    }
    for (int agent = 0; agent < AGENTS; agent++) {
        if (io->terminals[agent] || io->truncations[agent]) {
            clear_body(env, agent);
            hatch(env, agent);
        }
    }
    for (int agent = 0; agent < AGENTS; agent++) {
        observe(env, agent, io->obs + agent * OBS_SIZE);
    }
}

// The whole map; the first snake has a head @ and a body O, all others are o.
static inline void env_render(const Env *env, const Settings *settings, Text *text) {
    const Snake *first = &env->snakes[0];
    (void)settings;
    text_put(text, "first snake: length %d, ate %d\n", first->length, first->eaten);
    for (int cell = 0; cell < SIZE * SIZE; cell++) {
        int there = env->map[cell];
        char sign = there == EMPTY ? ' ' : there == FOOD ? '*' : there == WALL ? '#' : there == BODY ? 'O' : 'o';
        sign = cell == first->cells[first->head] ? '@' : sign;
        text_put(text, "%c%s", sign, cell % SIZE == SIZE - 1 ? "\n" : "");
    }
}

#endif
