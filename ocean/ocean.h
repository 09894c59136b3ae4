// What every environment's header includes, after it has declared itself (see squared/squared.h):
// types that follow from the declaration, a random generator of its own for each environment, clamp.
// Plain C that a CUDA compiler takes as well: no allocation, no globals, nothing of libc but math (and,
// for env_render alone, printf's formats).
#ifndef OCEAN_H
#define OCEAN_H

#include <math.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>

#ifdef __CUDACC__
#define OCEAN_FN static __host__ __device__ inline
#else
#define OCEAN_FN static inline
#endif

#ifndef AGENTS
#define AGENTS 1
#endif

// ---- Types that follow from the declaration -----------------------------------------------------

typedef OBS_TYPE Obs;

#ifdef ACTION_DIM  // continuous: ACTION_DIM floats an agent, in ACTION_RANGE if they come from a policy
typedef float Action;
enum { ACTION_COUNT = ACTION_DIM };
#else  // discrete: for each entry of ACTION_SIZES one integer in [0, entry)
typedef int32_t Action;
static const int32_t ocean_action_sizes[] = {ACTION_SIZES};
enum { ACTION_COUNT = sizeof(ocean_action_sizes) / sizeof(ocean_action_sizes[0]) };
#endif

// MASK_SIZE: choices of all actions together, where the header defines ACTION_MASK; else nothing.
#ifdef ACTION_MASK
#define OCEAN_SUM(a, b, c, d, e, f, g, h, ...) ((a) + (b) + (c) + (d) + (e) + (f) + (g) + (h))
#define OCEAN_CHOICES(...) OCEAN_SUM(__VA_ARGS__, 0, 0, 0, 0, 0, 0, 0, 0)
enum { MASK_SIZE = OCEAN_CHOICES(ACTION_SIZES) };
#else
enum { MASK_SIZE = 0 };
#endif

// OBS_SIZE: elements of one agent's observation, the product of up to four entries of OBS_SHAPE.
#define OCEAN_PRODUCT(a, b, c, d, ...) ((a) * (b) * (c) * (d))
#define OCEAN_SIZE(...) OCEAN_PRODUCT(__VA_ARGS__, 1, 1, 1, 1)
enum { OBS_SIZE = OCEAN_SIZE(OBS_SHAPE) };

// Settings: one field for each line of SETTINGS, in that order. All environments have the same ones, unless
// some are spread (see vector.py): then each has its own for life.
#define OCEAN_FIELD(kind, name, standard, low, high, help) kind name;
typedef struct {
    SETTINGS(OCEAN_FIELD)
} Settings;

// One environment's share of the caller's buffers: AGENTS rows of each.
typedef struct {
    Obs *obs;              // [AGENTS, OBS_SIZE] written by every reset and step
    const Action *actions; // [AGENTS, ACTION_COUNT] read by step; any value must be survived
    float *rewards;        // [AGENTS] written by every step
    uint8_t *terminals;    // [AGENTS] 1 where the episode ended by the rules, else 0
    uint8_t *truncations;  // [AGENTS] 1 where it was cut short (time), else 0; never both
    Obs *final_obs;        // [AGENTS, OBS_SIZE] last observation of an episode, written where one ended
    uint8_t *action_mask;  // [AGENTS, MASK_SIZE] with ACTION_MASK: 1 where the next action may be taken, 0
                           // where it is forbidden; written by every reset and step
} Io;

// ---- Random numbers -----------------------------------------------------------------------------
// SplitMix64 (Steele, Lea, Flood 2014): a counter and a mixing function. Eight bytes of state.

typedef struct {
    uint64_t state;
} Rng;

OCEAN_FN uint64_t rng_mix(uint64_t z) {
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    return z ^ (z >> 31);
}

// The generator of environment `index` depends on (seed, index) and on nothing else.
OCEAN_FN void rng_seed(Rng *rng, uint64_t seed, uint64_t index) {
    rng->state = rng_mix(rng_mix(seed + 0x9E3779B97F4A7C15ull) + (index + 1) * 0xD1342543DE82EF95ull);
}

OCEAN_FN uint32_t rng_next(Rng *rng) {
    rng->state += 0x9E3779B97F4A7C15ull;
    return (uint32_t)(rng_mix(rng->state) >> 32);
}

// An integer in [0, count). Its bias is count / 2^32: nothing for the counts of a game.
OCEAN_FN int32_t rng_below(Rng *rng, int32_t count) {
    return (int32_t)(((uint64_t)rng_next(rng) * (uint64_t)count) >> 32);
}

// A float in [low, high), of 2^24 equally likely values.
OCEAN_FN float rng_uniform(Rng *rng, float low, float high) {
    return low + (high - low) * ((float)(rng_next(rng) >> 8) * (1.0f / 16777216.0f));
}

// The settings of environment `index`: each lies between its two `ends`, which are mostly the same number.
// Drawn from a generator of their own, so that spreading one leaves the episodes and the others as they are.
OCEAN_FN Settings ocean_settings(const double *ends, uint64_t seed, uint64_t index) {
    Settings settings;
    Rng rng;
    rng_seed(&rng, ~seed, index);
#define OCEAN_DRAW(kind, name, standard, low, high, help)                                     \
    {                                                                                         \
        double share = rng_next(&rng) * (1.0 / 4294967296.0), width = ends[1] - ends[0];      \
        int whole = (kind)0.5 == (kind)0;                                                     \
        settings.name = (kind)(ends[0] + (whole ? floor(share * (width + 1)) : share * width)); \
        ends += 2;                                                                            \
    }
    SETTINGS(OCEAN_DRAW)
    (void)ends;
    return settings;
}

// ---- Numbers ------------------------------------------------------------------------------------

// x, or the end of [low, high] that is nearest. In a hot path it is worth many of fminf and fmaxf, which
// the compiler has to call: what they do with NaN is no single instruction.
OCEAN_FN float clamp(float x, float low, float high) {
    return x < low ? low : x > high ? high : x;
}

// ---- Text ---------------------------------------------------------------------------------------
// A header that defines RENDER has a function env_render(env, settings, text), which puts a picture of
// the environment into `text`, line by line, for people who watch.

typedef struct {
    char *chars;   // [size], a zero at the end
    int32_t size;
    int32_t used;  // without the zero
} Text;

// Append as printf does; what is beyond the end is left out.
__attribute__((format(printf, 2, 3))) static inline void text_put(Text *text, const char *format, ...) {
    va_list values;
    va_start(values, format);
    int32_t room = text->size - text->used;
    int32_t length = vsnprintf(text->chars + text->used, (size_t)room, format, values);
    va_end(values);
    text->used += length < 0 ? 0 : length < room ? length : room - 1;
}

#endif
