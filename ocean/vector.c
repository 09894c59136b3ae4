// The vector layer: one call steps all environments. It is compiled once for each environment, whose
// header the compiler reads before this file (-include). No allocation after ocean_create.
#include <assert.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

// To wake a sleeping thread takes longer than many a step: who waits looks for so long before sleeping.
#define LOOKING_NS 100000

// The compilers' own, since C++ has no <stdatomic.h>.
#define LOAD(place) __atomic_load_n(&(place), __ATOMIC_SEQ_CST)
#define ADD(place, number) __atomic_add_fetch(&(place), number, __ATOMIC_SEQ_CST)

// What all threads are asked to do in one call.
typedef struct {
    const Action *actions; // NULL: reset instead of step
    Obs *obs;
    float *rewards;
    uint8_t *terminals;
    uint8_t *truncations;
    int32_t first, last; // the environments [first, last), the rows of all others are left alone
} Call;

typedef struct Vector Vector;

#define OCEAN_ONE(kind, name, standard, low, high, help) +1
enum { SETTING_COUNT = 0 SETTINGS(OCEAN_ONE) };

typedef struct {
    Vector *vector;
    int32_t first, last; // the environments [first, last) of this thread
    pthread_t thread;
} Worker;

struct Vector {
    Env *envs;        // [num_envs]
    int32_t num_envs;
    Settings settings; // of all environments, unless
    Settings *own;     // [num_envs] each has its own; else NULL
    double ends[2 * SETTING_COUNT + 1]; // between which each lies
    Obs *final_obs;   // [num_envs * AGENTS, OBS_SIZE], the caller's
    uint8_t *action_mask; // [num_envs * AGENTS, MASK_SIZE], the caller's; NULL without masks
    Call call;
    // The pool: worker 0 is the calling thread, so that one thread costs nothing.
    int32_t threads;
    Worker *workers;  // [threads]
    // Read and written by LOAD and ADD alone:
    uint32_t calls;         // begun, modulo 2^32; a worker waits until it moves
    int32_t busy;           // workers that have not finished this call
    int32_t asleep;         // threads that wait for `moved`
    int32_t closing;
    pthread_mutex_t mutex;  // held between a last look and falling asleep
    pthread_cond_t moved;   // one of these numbers
};

// `own` is a constant where this is called: the compiler makes two of it.
static inline __attribute__((always_inline)) void run_with(Vector *vector, int32_t first, int32_t last,
                                                           const Settings *own) {
    const Settings settings = vector->settings; // a local copy: no store below can change it
    const Call call = vector->call;
    Obs *final_obs = vector->final_obs;
    uint8_t *action_mask = vector->action_mask;
    Env *envs = vector->envs;
    if (call.actions == NULL) {
        for (int64_t i = first; i < last; i++) {
            int64_t row = i * AGENTS;
            Io io = {.obs = call.obs + row * OBS_SIZE,
                     .final_obs = final_obs + row * OBS_SIZE,
                     .action_mask = MASK_SIZE ? action_mask + row * MASK_SIZE : NULL};
            env_reset(&envs[i], own ? &own[i] : &settings, &io);
        }
        return;
    }
    for (int64_t i = first; i < last; i++) {
        int64_t row = i * AGENTS;
        Io io = {.obs = call.obs + row * OBS_SIZE,
                 .actions = call.actions + row * ACTION_COUNT,
                 .rewards = call.rewards + row,
                 .terminals = call.terminals + row,
                 .truncations = call.truncations + row,
                 .final_obs = final_obs + row * OBS_SIZE,
                 .action_mask = MASK_SIZE ? action_mask + row * MASK_SIZE : NULL};
        env_step(&envs[i], own ? &own[i] : &settings, &io);
    }
}

// [first, last) is a worker's share of all environments: it does as large a share of the call's.
static void run_range(Vector *vector, int32_t first, int32_t last) {
    int64_t count = vector->call.last - vector->call.first;
    first = vector->call.first + (int32_t)(count * first / vector->num_envs);
    last = vector->call.first + (int32_t)(count * last / vector->num_envs);
    if (vector->own == NULL) {
        run_with(vector, first, last, NULL);
    } else {
        run_with(vector, first, last, vector->own);
    }
}

static int begun(Vector *vector, uint32_t done) { return LOAD(vector->calls) != done || LOAD(vector->closing); }

static int finished(Vector *vector, uint32_t unused) {
    (void)unused;
    return LOAD(vector->busy) == 0;
}

static int64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void wait_until(Vector *vector, int (*happened)(Vector *, uint32_t), uint32_t done) {
    for (int64_t end = now_ns() + LOOKING_NS; now_ns() < end;) {
        if (happened(vector, done)) {
            return;
        }
    }
    pthread_mutex_lock(&vector->mutex);
    ADD(vector->asleep, 1); // before the last look, as `wake` reads it after the change: one of both sees the other
    while (!happened(vector, done)) {
        pthread_cond_wait(&vector->moved, &vector->mutex);
    }
    ADD(vector->asleep, -1);
    pthread_mutex_unlock(&vector->mutex);
}

static void wake(Vector *vector) {
    if (LOAD(vector->asleep) > 0) {
        pthread_mutex_lock(&vector->mutex);
        pthread_cond_broadcast(&vector->moved);
        pthread_mutex_unlock(&vector->mutex);
    }
}

static void *work(void *argument) {
    Worker *worker = (Worker *)argument;
    Vector *vector = worker->vector;
    for (uint32_t done = 0;; done++) {
        wait_until(vector, begun, done);
        if (LOAD(vector->closing)) {
            return NULL;
        }
        run_range(vector, worker->first, worker->last);
        if (ADD(vector->busy, -1) == 0) {
            wake(vector);
        }
    }
}

static void run_all(Vector *vector) {
    if (vector->threads == 1) {
        run_range(vector, 0, vector->num_envs);
        return;
    }
    ADD(vector->busy, vector->threads - 1);
    ADD(vector->calls, 1);
    wake(vector);
    run_range(vector, vector->workers[0].first, vector->workers[0].last);
    wait_until(vector, finished, 0);
}

void ocean_destroy(Vector *vector) {
    ADD(vector->closing, 1);
    wake(vector);
    for (int32_t t = 1; t < vector->threads; t++) {
        pthread_join(vector->workers[t].thread, NULL);
    }
    pthread_cond_destroy(&vector->moved);
    pthread_mutex_destroy(&vector->mutex);
    free(vector->workers);
    free(vector->own);
    free(vector->envs);
    free(vector);
}

void ocean_seed(Vector *vector, uint64_t seed) {
    vector->settings = ocean_settings(vector->ends, seed, 0);
    for (int32_t i = 0; i < vector->num_envs; i++) {
        rng_seed(&vector->envs[i].rng, seed, (uint64_t)i);
        if (vector->own != NULL) {
            vector->own[i] = ocean_settings(vector->ends, seed, (uint64_t)i);
        }
    }
}

// `ends` holds two numbers for each line of SETTINGS, between which an environment's own lies. NULL is
// returned where memory or threads are not to be had.
Vector *ocean_create(int32_t num_envs, uint64_t seed, int32_t threads, const double *ends,
                     Obs *final_obs, uint8_t *action_mask) {
    Vector *vector = (Vector *)calloc(1, sizeof(Vector));
    if (vector == NULL) {
        return NULL;
    }
    // Rounded up to whole cache lines, which is what aligned_alloc asks for.
    size_t bytes = ((size_t)num_envs * sizeof(Env) + 63) / 64 * 64;
    vector->envs = (Env *)aligned_alloc(64, bytes);
    vector->workers = (Worker *)calloc((size_t)threads, sizeof(Worker));
    int spread = 0;
    for (int i = 0; i < SETTING_COUNT; i++) {
        vector->ends[2 * i] = ends[2 * i];
        vector->ends[2 * i + 1] = ends[2 * i + 1];
        spread |= ends[2 * i] < ends[2 * i + 1];
    }
    vector->own = spread ? (Settings *)calloc((size_t)num_envs, sizeof(Settings)) : NULL;
    if (vector->envs == NULL || vector->workers == NULL || (spread && vector->own == NULL)) {
        free(vector->own);
        free(vector->envs);
        free(vector->workers);
        free(vector);
        return NULL;
    }
    memset(vector->envs, 0, bytes);
    vector->num_envs = num_envs;
    vector->final_obs = final_obs;
    vector->action_mask = action_mask;
    ocean_seed(vector, seed);

    pthread_mutex_init(&vector->mutex, NULL);
    pthread_cond_init(&vector->moved, NULL);
    // Signals belong to the program's own threads: Ctrl-C must never land in a worker.
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    for (int32_t t = 0; t < threads; t++) {
        Worker *worker = &vector->workers[t];
        worker->vector = vector;
        worker->first = (int32_t)((int64_t)num_envs * t / threads);
        worker->last = (int32_t)((int64_t)num_envs * (t + 1) / threads);
        if (t > 0 && pthread_create(&worker->thread, NULL, work, worker) != 0) {
            pthread_sigmask(SIG_SETMASK, &before, NULL);
            ocean_destroy(vector); // joins the workers that did start
            return NULL;
        }
        vector->threads = t + 1;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return vector;
}

void ocean_reset(Vector *vector, Obs *obs) {
    Call call = {NULL, obs, NULL, NULL, NULL, 0, vector->num_envs};
    vector->call = call;
    run_all(vector);
}

void ocean_step(Vector *vector, const Call *call) {
    vector->call = *call;
    run_all(vector);
}

static_assert(sizeof(((Env *)0)->log) == AGENTS * sizeof(Log), "every agent has a log: Log log[AGENTS]");

// The sums of all agents (or of those for which `only` is not 0) since they were last asked for, field
// by field as in Log, then cleared. Always added in the agents' order: the threads change no rounding.
void ocean_log(Vector *vector, const uint8_t *only, double *sums) {
    enum { FIELDS = sizeof(Log) / sizeof(double) };
    memset(sums, 0, sizeof(Log));
    for (int64_t row = 0; row < (int64_t)vector->num_envs * AGENTS; row++) {
        if (only != NULL && !only[row]) {
            continue;
        }
        Log *log = (Log *)&vector->envs[row / AGENTS].log + row % AGENTS;
        double fields[FIELDS];
        memcpy(fields, log, sizeof(Log));
        for (int f = 0; f < FIELDS; f++) {
            sums[f] += fields[f];
        }
        memset(log, 0, sizeof(Log));
    }
}

#ifdef RENDER
// Environment i as text with a zero at its end. Gives its length, size - 1 where it did not fit.
int32_t ocean_render(const Vector *vector, int32_t i, char *chars, int32_t size) {
    Text text = {chars, size, 0};
    chars[0] = 0;
    env_render(&vector->envs[i], vector->own ? &vector->own[i] : &vector->settings, &text);
    return text.used;
}
#endif

// What the compiler made of the declaration, for Python, which reads the header's own lines alone.
void ocean_sizes(int64_t *sizes) {
    const int64_t made[] = {AGENTS,    OBS_SIZE,      sizeof(Obs), ACTION_COUNT,
                            MASK_SIZE, SETTING_COUNT, sizeof(Log) / sizeof(double)};
    memcpy(sizes, made, sizeof(made));
}

int64_t ocean_state_bytes(const Vector *vector) {
    return (int64_t)vector->num_envs * (int64_t)sizeof(Env);
}

void ocean_get_state(const Vector *vector, void *state) {
    memcpy(state, vector->envs, (size_t)ocean_state_bytes(vector));
}

void ocean_set_state(Vector *vector, const void *state) {
    memcpy(vector->envs, state, (size_t)ocean_state_bytes(vector));
}
