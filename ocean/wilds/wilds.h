// Wilds: many agents on one map, who gather food and water, fight, and live for as long as they can.
// Each sees the window around itself and has episodes of its own: when it dies, it alone begins anew.
#ifndef WILDS_H
#define WILDS_H

#define OBS_TYPE uint8_t
#define OBS_SHAPE 435 // KINDS * WINDOW * WINDOW + 3 * LEVELS
#define OBS_RANGE 0, 1
#define REWARD_RANGE -1, 5
#define ACTION_SIZES 6
#define AGENTS 64
#define RANDOM_SCORE 50, 75
#define SOLVED_SCORE 300
#define RENDER 1

#define SETTINGS(X) \
    X(int, plants, 128, 1, 512, "plants to eat that stand on the map") \
    X(int, ponds, 48, 1, 64, "ponds on the map, some of which may touch") \
    X(int, store, 60, 10, 1000, "steps for which a full stomach lasts, and a full bottle") \
    X(int, damage, 4, 0, 10, "that a blow does, where HEALTH is 10") \
    X(int, effort, 2, 0, 100, "steps' worth of food and water that a blow costs") \
    X(int, max_steps, 500, 10, 100000, "steps after which an agent's episode is cut short")

#include "ocean.h"

#include <assert.h>

enum {
    STAY = 0,
    UP = 1,
    DOWN = 2,
    LEFT = 3,
    RIGHT = 4,
    STRIKE = 5,
    SIZE = 64, // of the square map, the stones around it included
    POND = 3,  // cells a side
    WINDOW = 9,
    SIGHT = WINDOW / 2,
    KINDS = 5, // that are seen: PLANT, STONE, WATER, others, those of the others who are weaker
    LEVELS = 10,
    HEALTH = LEVELS, // of who is well
    HEALING = 4,     // steps for one of HEALTH
    GRASS = 0,
    PLANT = 1,
    STONE = 2,
    WATER = 3,
    AGENT = 4 // AGENT + i: where agent i stands
};
static_assert(OBS_SIZE == KINDS * WINDOW * WINDOW + 3 * LEVELS, "OBS_SHAPE follows the window");

typedef struct {
    double score; // steps that an agent lived
    double meals;
    double kills;
    double episode_return;
    double episode_length;
    double n;
} Log;

typedef struct {
    int32_t cell;        // of the map
    int32_t health;      // HEALTH at best; dead at 0
    int32_t food, water; // steps for which they last
    int32_t steps, meals, kills; // of this episode
    float total;         // of the rewards
} Agent;

typedef struct {
    Rng rng;
    Log log[AGENTS];
    Agent agents[AGENTS];
    uint8_t map[SIZE * SIZE];
} Env;

// A cell of grass: there is always much more than agents and plants can cover.
OCEAN_FN int free_cell(Env *env) {
    int cell = rng_below(&env->rng, SIZE * SIZE);
    while (env->map[cell] != GRASS) {
        cell = (cell + 1) % (SIZE * SIZE);
    }
    return cell;
}

OCEAN_FN void begin(Env *env, const Settings *settings, int i) {
    Agent *agent = &env->agents[i];
    agent->cell = free_cell(env);
    agent->health = HEALTH;
    agent->food = settings->store;
    agent->water = settings->store;
    agent->steps = 0;
    agent->meals = 0;
    agent->kills = 0;
    agent->total = 0.0f;
    env->map[agent->cell] = (uint8_t)(AGENT + i);
}

// The way to a neighbouring cell, by the action that leads there.
OCEAN_FN int way(int action) {
    return action == UP ? -SIZE : action == DOWN ? SIZE : action == LEFT ? -1 : action == RIGHT ? 1 : 0;
}

// A plane for each kind of thing in the window; then health, food and water, each as so many ones of LEVELS.
OCEAN_FN void observe(const Env *env, const Settings *settings, int i, Obs *obs) {
    const Agent *agent = &env->agents[i];
    int left = agent->cell % SIZE - SIGHT, top = agent->cell / SIZE - SIGHT;
    for (int place = 0; place < WINDOW * WINDOW; place++) {
        int x = left + place % WINDOW, y = top + place / WINDOW;
        int inside = x >= 0 && x < SIZE && y >= 0 && y < SIZE;
        int seen = inside ? env->map[y * SIZE + x] : STONE;
        int other = seen >= AGENT && seen != AGENT + i;
        obs[place] = seen == PLANT;
        obs[WINDOW * WINDOW + place] = seen == STONE;
        obs[2 * WINDOW * WINDOW + place] = seen == WATER;
        obs[3 * WINDOW * WINDOW + place] = (Obs)other;
        obs[4 * WINDOW * WINDOW + place] = other && env->agents[seen - AGENT].health < agent->health;
    }
    obs += KINDS * WINDOW * WINDOW;
    for (int level = 0; level < LEVELS; level++) {
        obs[level] = agent->health > level;
        obs[LEVELS + level] = agent->food * LEVELS > level * settings->store;
        obs[2 * LEVELS + level] = agent->water * LEVELS > level * settings->store;
    }
}

// Food and water that come in, as far as there is room. Gives the shares of the stores that they fill.
OCEAN_FN float take(Agent *agent, const Settings *settings, int food, int water) {
    int room_food = settings->store - agent->food, room_water = settings->store - agent->water;
    int eaten = food < room_food ? food : room_food, drunk = water < room_water ? water : room_water;
    agent->food += eaten;
    agent->water += drunk;
    return (float)(eaten + drunk) / (float)settings->store;
}

// A blow at all who stand next to the agent. Who dies of it leaves what he had.
OCEAN_FN float strike(Env *env, const Settings *settings, int i) {
    Agent *agent = &env->agents[i];
    float taken = 0.0f;
    agent->food = agent->food > settings->effort ? agent->food - settings->effort : 0;
    agent->water = agent->water > settings->effort ? agent->water - settings->effort : 0;
    for (int side = UP; side <= RIGHT; side++) {
        int there = env->map[agent->cell + way(side)];
        if (there < AGENT || env->agents[there - AGENT].health <= 0) {
            continue;
        }
        Agent *other = &env->agents[there - AGENT];
        other->health -= settings->damage;
        if (other->health <= 0) {
            taken += take(agent, settings, other->food, other->water);
            agent->kills++;
        }
    }
    return taken;
}

// One agent's action. Gives what it gathered: shares of its stores.
OCEAN_FN float act(Env *env, const Settings *settings, int i, int action) {
    Agent *agent = &env->agents[i];
    float gathered = 0.0f;
    if (action == STRIKE) {
        gathered += strike(env, settings, i);
    } else {
        int cell = agent->cell + way(action); // an unknown number is as good as STAY
        int there = env->map[cell];
        if (there == GRASS || there == PLANT) {
            env->map[agent->cell] = GRASS;
            env->map[cell] = (uint8_t)(AGENT + i);
            agent->cell = cell;
        }
        if (there == PLANT) {
            gathered += take(agent, settings, settings->store, 0);
            agent->meals++;
            env->map[free_cell(env)] = PLANT; // another one grows elsewhere
        }
    }
    int thirsty = 1;
    for (int side = UP; side <= RIGHT && thirsty; side++) {
        if (env->map[agent->cell + way(side)] == WATER) {
            gathered += take(agent, settings, 0, settings->store);
            thirsty = 0;
        }
    }
    return gathered;
}

// A step's worth of food and water; who lacks either grows weak, who has both recovers.
OCEAN_FN void live(Agent *agent) {
    agent->steps++;
    agent->food -= agent->food > 0;
    agent->water -= agent->water > 0;
    if (agent->food == 0 || agent->water == 0) {
        agent->health--;
    } else if (agent->steps % HEALING == 0 && agent->health > 0 && agent->health < HEALTH) { // the dead stay dead
        agent->health++;
    }
}

OCEAN_FN void env_reset(Env *env, const Settings *settings, const Io *io) {
    for (int i = 0; i < SIZE * SIZE; i++) {
        int x = i % SIZE, y = i / SIZE;
        env->map[i] = x == 0 || x == SIZE - 1 || y == 0 || y == SIZE - 1 ? STONE : GRASS;
    }
    for (int pond = 0; pond < settings->ponds; pond++) {
        int x = 2 + rng_below(&env->rng, SIZE - 3 - POND), y = 2 + rng_below(&env->rng, SIZE - 3 - POND);
        for (int i = 0; i < POND * POND; i++) {
            env->map[(y + i / POND) * SIZE + x + i % POND] = WATER;
        }
    }
    for (int i = 0; i < AGENTS; i++) {
        begin(env, settings, i);
    }
    for (int i = 0; i < settings->plants; i++) {
        env->map[free_cell(env)] = PLANT;
    }
    for (int i = 0; i < AGENTS; i++) {
        observe(env, settings, i, io->obs + i * OBS_SIZE);
    }
}

OCEAN_FN void env_step(Env *env, const Settings *settings, const Io *io) {
    // All act, one after the other; then all grow older; then those that ended are seen a last time and
    // leave the map; then they begin anew.
    for (int i = 0; i < AGENTS; i++) {
        Agent *agent = &env->agents[i];
        io->rewards[i] = agent->health > 0 ? act(env, settings, i, io->actions[i]) : 0.0f;
    }
    for (int i = 0; i < AGENTS; i++) {
        Agent *agent = &env->agents[i];
        live(agent);
        io->terminals[i] = agent->health <= 0;
        io->truncations[i] = agent->health > 0 && agent->steps >= settings->max_steps;
        io->rewards[i] = agent->health > 0 ? io->rewards[i] : -1.0f;
        agent->total += io->rewards[i];
    }
    for (int i = 0; i < AGENTS; i++) {
        const Agent *agent = &env->agents[i];
        if (io->terminals[i] || io->truncations[i]) {
            observe(env, settings, i, io->final_obs + i * OBS_SIZE);
            env->log[i].score += agent->steps;
            env->log[i].meals += agent->meals;
            env->log[i].kills += agent->kills;
            env->log[i].episode_return += agent->total;
            env->log[i].episode_length += agent->steps;
            env->log[i].n += 1;
        }
    }
    for (int i = 0; i < AGENTS; i++) {
        if (io->terminals[i] || io->truncations[i]) {
            env->map[env->agents[i].cell] = GRASS;
            begin(env, settings, i);
        }
    }
    for (int i = 0; i < AGENTS; i++) {
        observe(env, settings, i, io->obs + i * OBS_SIZE);
    }
}

// The whole map: @ is the first agent, o the others, * plants, ~ water.
static inline void env_render(const Env *env, const Settings *settings, Text *text) {
    const Agent *first = &env->agents[0];
    text_put(text, "first agent: health %d of %d, food %d, water %d of %d, kills %d\n", first->health, HEALTH,
             first->food, first->water, settings->store, first->kills);
    for (int cell = 0; cell < SIZE * SIZE; cell++) {
        int there = env->map[cell];
        char sign = there == GRASS ? ' ' : there == PLANT ? '*' : there == STONE ? '#' : there == WATER ? '~' : 'o';
        sign = there == AGENT ? '@' : sign;
        text_put(text, "%c%s", sign, cell % SIZE == SIZE - 1 ? "\n" : "");
    }
}

#endif
