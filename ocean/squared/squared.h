// Squared, the tutorial: an agent in the middle of a small grid walks to a target.
// `sweep env new` begins one of your own; ocean.Vector("path/to/yours.h") runs it by its path.
#ifndef SQUARED_H
#define SQUARED_H

// ---- Declaration. Required: read by Python without compiling, and by C. --------------------------
#define OBS_TYPE int8_t        // Required: int8_t, uint8_t, int32_t or float
#define OBS_SHAPE 11, 11       // Required: one agent's observation, up to four numbers
#define OBS_RANGE -1, 1        // Required: smallest and largest value (INFINITY where there is none)
#define REWARD_RANGE -1, 1     // Required: keep rewards between 0.1 and 1 in size
#define ACTION_SIZES 5         // Required: choices of each action; or ACTION_DIM and ACTION_RANGE, see pendulum
#define AGENTS 1               // Recommended: agents in one environment (1 where it is left out)
#define RANDOM_SCORE 0.05, 0.2 // Required: where the mean score of a random agent lies
#define SOLVED_SCORE 0.95      // Required: the mean score that means solved
#define RENDER 1               // Recommended: there is an env_render, for `sweep play`

// Required, may be empty: X(int or float, name, default, lowest, highest, "help").
#define SETTINGS(X) \
    X(int, max_steps, 33, 1, 10000, "steps after which the episode is cut short") \
    X(float, fall_penalty, 1.0, 0.0, 1.0, "punishment for leaving the grid")

#include "ocean.h" // Required, here: turns the declaration into Obs, Action, Settings, Io and Rng

// ---- The environment -----------------------------------------------------------------------------
enum { SIZE = 11, STAY = 0, UP = 1, DOWN = 2, LEFT = 3, RIGHT = 4 };

// Required: sums over finished episodes, doubles only, the number of episodes `n` last.
typedef struct {
    double score;          // Required: what "solved" speaks of. Here 1 where the target was reached
    double episode_return; // Recommended: the sum of the rewards
    double episode_length; // Recommended: steps
    double n;              // Required
} Log;

// Required: everything one environment remembers. Fixed size, no pointers: its bytes are its state.
typedef struct {
    Rng rng;  // Required: seeded by the vector layer, never by the environment
    Log log;  // Required; `Log log[AGENTS]` where there is more than one agent
    int32_t steps;              // of this episode
    int32_t agent_x, agent_y;   // cells, from the upper left corner
    int32_t target_x, target_y;
} Env;

// Recommended: one function that writes a whole observation. Buffers change from step to step, so
// every element must be written every time.
OCEAN_FN void observe(const Env *env, Obs *obs) {
    // Read before obs is written: for C, a byte that is written may be one of env.
    int x = env->agent_x, y = env->agent_y, target = env->target_y * SIZE + env->target_x;
    for (int i = 0; i < OBS_SIZE; i++) {
        obs[i] = 0;
    }
    obs[target] = 1;
    // An agent that fell off the grid is not seen.
    if (x >= 0 && x < SIZE && y >= 0 && y < SIZE) {
        obs[y * SIZE + x] = -1;
    }
}

// Required: begin an episode and write its first observation.
OCEAN_FN void env_reset(Env *env, const Settings *settings, const Io *io) {
    (void)settings;
    env->steps = 0;
    env->agent_x = SIZE / 2;
    env->agent_y = SIZE / 2;
    // Any cell but the middle one: skip it by counting on.
    int cell = rng_below(&env->rng, SIZE * SIZE - 1);
    if (cell >= SIZE * SIZE / 2) {
        cell++;
    }
    env->target_x = cell % SIZE;
    env->target_y = cell / SIZE;
    observe(env, io->obs);
}

// Required: one step. Where the episode ends, write its last observation to final_obs, add to the
// log, and begin the next one at once: obs is then the first observation of the next episode.
OCEAN_FN void env_step(Env *env, const Settings *settings, const Io *io) {
    int action = io->actions[0]; // an unknown number is as good as STAY
    env->steps++;
    env->agent_x += (action == RIGHT) - (action == LEFT);
    env->agent_y += (action == DOWN) - (action == UP);

    int fell = env->agent_x < 0 || env->agent_x >= SIZE || env->agent_y < 0 || env->agent_y >= SIZE;
    int reached = (env->agent_x == env->target_x) & (env->agent_y == env->target_y);
    int ended = fell | reached; // `|` and `&` are faster than `||` and `&&` where both sides are cheap
    int late = !ended & (env->steps >= settings->max_steps);
    float reward = reached ? 1.0f : fell ? -settings->fall_penalty : 0.0f;
    io->rewards[0] = reward;
    io->terminals[0] = ended;  // by the rules: nothing comes after
    io->truncations[0] = late; // cut short: the learner estimates what would have come

    if (ended || late) {
        observe(env, io->final_obs);
        env->log.score += reached;
        env->log.episode_return += reward;
        env->log.episode_length += env->steps;
        env->log.n += 1;
        env_reset(env, settings, io);
    } else {
        observe(env, io->obs);
    }
}

// Recommended, with RENDER: the environment as lines of text. It is called between steps and changes
// nothing.
static inline void env_render(const Env *env, const Settings *settings, Text *text) {
    text_put(text, "step %d of %d\n", env->steps, settings->max_steps);
    for (int cell = 0; cell < SIZE * SIZE; cell++) {
        int agent = cell == env->agent_y * SIZE + env->agent_x;
        int target = cell == env->target_y * SIZE + env->target_x;
        text_put(text, " %c%s", agent ? '@' : target ? 'x' : '.', cell % SIZE == SIZE - 1 ? "\n" : "");
    }
}

#endif
