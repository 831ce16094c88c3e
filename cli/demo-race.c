/* SPDX-License-Identifier: MIT */
/*
 * A race. "counter = counter + 1" is three steps: read, add, write. Two processes that do it at once read the
 * same value, and one of the two additions is gone. A lock makes the three steps one, at a price.
 */
#include <inttypes.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "cli/demo.h"
#include "cli/now.h"
#include "naru/naru.h"

enum { WORKERS = 2, ROUNDS_MAX = 50 };

struct shared {
    struct naru_event start; /* so that the workers begin together */
    struct naru_mutex mutex;
    struct naru_semaphore semaphore;
    _Atomic uint64_t counter;
    int64_t began[WORKERS], ended[WORKERS];
};

/* Two atomic steps, and yet no atomic addition: between them another process may write. (Plain variables
 * would do the same, but C leaves undefined what then happens.) */
static void add_one(struct shared *s)
{
    uint64_t read = atomic_load_explicit(&s->counter, memory_order_relaxed);

    atomic_store_explicit(&s->counter, read + 1, memory_order_relaxed);
}

static int with_nothing(struct shared *s)
{
    add_one(s);
    return 0;
}

static int with_semaphore(struct shared *s)
{
    int r = naru_semaphore_acquire(&s->semaphore, NARU_FOREVER);

    if (r < 0)
        return r;
    add_one(s);
    return naru_semaphore_release(&s->semaphore);
}

static int with_mutex(struct shared *s)
{
    int r = naru_mutex_lock(&s->mutex, NARU_FOREVER);

    if (r < 0)
        return r;
    add_one(s);
    return naru_mutex_unlock(&s->mutex);
}

/* One instruction instead of three steps: enough for a counter, and for nothing larger. */
static int with_atomic_add(struct shared *s)
{
    atomic_fetch_add_explicit(&s->counter, 1, memory_order_relaxed);
    return 0;
}

struct way {
    const char *name, *key;
    int (*update)(struct shared *s);
    uint64_t updates; /* of each worker */
    bool safe;
};

static const struct way ways[] = {
    {"no lock", "none", with_nothing, 3000000, false},
    {"semaphore", "semaphore", with_semaphore, 50000, true},
    {"mutex", "mutex", with_mutex, 50000, true},
    {"atomic addition", "atomic", with_atomic_add, 3000000, true},
};

struct job {
    struct shared *shared;
    const struct way *way;
    int worker;
};

static int work(void *argument)
{
    const struct job *job = argument;
    struct shared *s = job->shared;
    int r = naru_event_wait(&s->start, DEMO_PATIENCE);

    s->began[job->worker] = now();
    for (uint64_t i = 0; i < job->way->updates && r == 0; i++)
        r = job->way->update(s);
    s->ended[job->worker] = now();
    return r;
}

/* Lets all workers update the counter at once. How long a worker took, in ns. */
static int64_t race(struct demo *d, struct shared *s, const struct way *way)
{
    pid_t pids[WORKERS];
    int64_t time = 0;

    atomic_store(&s->counter, 0);
    (void)naru_event_reset(&s->start); /* an event of our own: cannot fail */
    for (int i = 0; i < WORKERS; i++) {
        struct job job = {s, way, i};

        pids[i] = demo_start(work, &job);
    }
    (void)naru_event_set(&s->start);
    if (!demo_all_end_well(pids, WORKERS))
        demo_check(d, false, "%s: the workers ended well", way->name);
    for (int i = 0; i < WORKERS; i++)
        time += s->ended[i] - s->began[i];
    return time / WORKERS;
}

static void show(struct demo *d, struct shared *s, const struct way *way)
{
    uint64_t expected = WORKERS * way->updates, lost = 0;
    int64_t time = 0;
    char key[48];

    /* On one CPU a round may pass without a switch at the wrong moment: try until one is caught. */
    for (int i = 0; i < ROUNDS_MAX && lost == 0; i++) {
        time = race(d, s, way);
        lost = expected - atomic_load(&s->counter);
        if (way->safe)
            break;
    }
    demo_say(d, "%-16s %9" PRIu64 " %9" PRIu64 " %9" PRIu64 " %7.1f %9.1f", way->name, expected,
             expected - lost, lost, 100.0 * (double)lost / (double)expected,
             (double)time / (double)way->updates);
    (void)snprintf(key, sizeof key, "%s_lost", way->key);
    demo_number(d, key, (double)lost);
    (void)snprintf(key, sizeof key, "%s_updates", way->key);
    demo_number(d, key, (double)expected);
    (void)snprintf(key, sizeof key, "%s_ns", way->key);
    demo_number(d, key, (double)time / (double)way->updates);
    demo_check(d, way->safe ? lost == 0 : lost > 0, "%s: %s", way->name,
               way->safe ? "not one update lost" : "updates were lost");
}

static int prepare(struct shared *s)
{
    int r = naru_event_init(&s->start, NARU_EVENT_MANUAL);

    if (r == 0)
        r = naru_mutex_init(&s->mutex);
    if (r == 0)
        r = naru_semaphore_init(&s->semaphore, 1, 1); /* one unit: binary */
    return r;
}

static int run(struct demo *d)
{
    struct naru_segment *segment;
    struct shared *s;
    int r = naru_segment_open("memfd:", sizeof *s, NULL, &segment);

    if (r < 0)
        return r;
    s = naru_segment_data(segment);
    r = prepare(s);
    if (r == 0) {
        demo_say(d, "%d processes add 1 to a counter in shared memory, again and again, at once.", WORKERS);
        demo_heading(d, "%-16s %9s %9s %9s %7s %9s", "", "updates", "counted", "lost", "%", "ns each");
        for (size_t i = 0; i < sizeof ways / sizeof *ways; i++)
            show(d, s, &ways[i]);
        demo_say(d, "\nA lock costs the more the more it is fought over; here there is one addition to do\n"
                    "under it, the worst case. Both locks come free if their holder is killed, and the\n"
                    "mutex tells the next one that it happened.");
    }
    naru_segment_close(segment);
    return r;
}

const struct demo_kind demo_race = {
    .name = "race",
    .title = "Race condition: what happens to counter = counter + 1",
    .source = "cli/demo-race.c",
    .run = run,
};
