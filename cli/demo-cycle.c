/* SPDX-License-Identifier: MIT */
/*
 * Write, signal, read: the cycle of two processes over shared memory.
 *
 *   T1 the reader waits    T2 the writer writes a value and the time    T3 the writer signals
 *   T4 the reader wakes    T5 the reader reads                          T6 the reader waits again
 *
 * Shared memory carries the data and says nothing; something else must say "now". Three things can: an event,
 * a semaphore, a signal. All processes share one CLOCK_MONOTONIC, so their times make one line.
 */
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "cli/demo.h"
#include "cli/now.h"
#include "naru/naru.h"

enum { ROUNDS = 101, SHOWN = ROUNDS / 2 };

struct times {
    int64_t waits, wakes, reads, waits_again; /* the reader's */
    int64_t writes, signals;                  /* the writer's */
    int value;                                /* as read, */
    int64_t written;                          /* with the time that stood beside it */
};

struct shared {
    struct naru_event event;
    struct naru_semaphore semaphore;
    int value;       /* what is carried, */
    int64_t written; /* and when it was written */
    struct times rounds[ROUNDS];
};

/* A way to say "now". */
struct way {
    const char *name, *key, *does;
    int (*wait)(struct shared *s);
    int (*signal)(struct shared *s, int reader_pidfd);
};

static int wait_event(struct shared *s)
{
    return naru_event_wait(&s->event, DEMO_PATIENCE);
}

static int set_event(struct shared *s, int reader_pidfd)
{
    (void)reader_pidfd;
    return naru_event_set(&s->event);
}

static int wait_semaphore(struct shared *s)
{
    return naru_semaphore_wait(&s->semaphore, DEMO_PATIENCE);
}

static int post_semaphore(struct shared *s, int reader_pidfd)
{
    (void)reader_pidfd;
    return naru_semaphore_post(&s->semaphore, 1);
}

static int wait_signal(struct shared *s)
{
    (void)s;
    return naru_signal_wait(naru_signal_bit(SIGUSR1), DEMO_PATIENCE, NULL);
}

static int send_signal(struct shared *s, int reader_pidfd)
{
    (void)s;
    return naru_signal_send_to(reader_pidfd, SIGUSR1);
}

static const struct way ways[] = {
    {"event", "event", "sets the event", wait_event, set_event},
    {"semaphore", "semaphore", "posts the semaphore", wait_semaphore, post_semaphore},
    {"signal", "signal", "sends SIGUSR1", wait_signal, send_signal},
};

struct job {
    struct shared *shared;
    const struct way *way;
    struct naru_channel *to_writer;
};

static int reader(void *argument)
{
    const struct job *job = argument;
    int r = naru_signal_block(naru_signal_bit(SIGUSR1), NULL); /* it would kill us otherwise */

    for (int i = 0; i < ROUNDS && r == 0; i++) {
        struct times *t = &job->shared->rounds[i];

        r = naru_send(job->to_writer, "", 1, DEMO_PATIENCE); /* about to wait */
        if (r < 0)
            break;
        t->waits = now();
        if (i > 0)
            t[-1].waits_again = t->waits;
        r = job->way->wait(job->shared);
        t->wakes = now();
        t->value = job->shared->value;
        t->written = job->shared->written;
        t->reads = now();
    }
    return r;
}

static int writer(const struct job *job, struct naru_channel *from_reader, pid_t pid, int pidfd)
{
    struct shared *s = job->shared;
    int r = 0;

    for (int i = 0; i < ROUNDS && r == 0; i++) {
        char ignored;
        ssize_t heard = naru_recv(from_reader, &ignored, 1, DEMO_PATIENCE);

        if (heard < 0)
            return (int)heard;
        (void)demo_wait_asleep(
            pid); /* T1 is over: it sleeps; if it has ended, demo_all_end_well() will tell */
        s->rounds[i].writes = now();
        s->value = 3 + i;
        s->written = s->rounds[i].writes;
        s->rounds[i].signals = now();
        r = job->way->signal(s, pidfd);
    }
    return r;
}

static void show(struct demo *d, const struct way *way, const struct times *t)
{
    const double us = 1e-3;
    int64_t zero = t->waits;

    demo_say(d, "  T1  %9.1f us  reader  waits", 0.0);
    demo_say(d, "  T2  %9.1f us  writer  writes %d and the time", (double)(t->writes - zero) * us, t->value);
    demo_say(d, "  T3  %9.1f us  writer  %s", (double)(t->signals - zero) * us, way->does);
    demo_say(d, "  T4  %9.1f us  reader  wakes up, %.1f us after T3", (double)(t->wakes - zero) * us,
             (double)(t->wakes - t->signals) * us);
    demo_say(d, "  T5  %9.1f us  reader  reads %d, written %.1f us ago", (double)(t->reads - zero) * us,
             t->value, (double)(t->reads - t->written) * us);
    demo_say(d, "  T6  %9.1f us  reader  waits again", (double)(t->waits_again - zero) * us);
}

static void check(struct demo *d, const struct shared *s, const struct way *way)
{
    bool ordered = true, right = true;

    for (int i = 0; i < ROUNDS; i++) {
        const struct times *t = &s->rounds[i];

        ordered &= t->waits <= t->writes && t->writes <= t->signals && t->signals <= t->wakes &&
                   t->wakes <= t->reads;
        ordered &= i == ROUNDS - 1 || t->reads <= t->waits_again;
        right &= t->value == 3 + i && t->written == t->writes;
    }
    demo_check(d, ordered, "%s: T1 to T6 in this order, %d times", way->name, ROUNDS);
    demo_check(d, right, "%s: each time it read what had just been written", way->name);
}

static int compare(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

    return (x > y) - (x < y);
}

/* From T3 to T4, in us: the median of all rounds. */
static double median_hand_over(const struct shared *s)
{
    int64_t ns[ROUNDS];

    for (int i = 0; i < ROUNDS; i++)
        ns[i] = s->rounds[i].wakes - s->rounds[i].signals;
    qsort(ns, ROUNDS, sizeof *ns, compare);
    return (double)ns[ROUNDS / 2] / 1000;
}

static int run_way(struct demo *d, struct shared *s, const struct way *way)
{
    struct naru_channel *ends[2];
    struct job job = {s, way, NULL};
    int r = naru_channel_pair("pipe:", NULL, ends), pidfd;
    char key[48];
    pid_t pid;

    if (r < 0)
        return r;
    job.to_writer = ends[0];
    pid = demo_start(reader, &job);
    naru_channel_close(ends[0]);
    pidfd = pid < 0 ? pid : naru_signal_pidfd(pid);
    r = pidfd < 0 ? pidfd : writer(&job, ends[1], pid, pidfd);
    naru_channel_close(ends[1]);
    if (pidfd >= 0)
        (void)close(pidfd);
    demo_heading(d, "By %s", way->name);
    if (!demo_check(d, demo_all_end_well(&pid, 1), "%s: the reader ended well", way->name) || r < 0)
        return r;
    show(d, way, &s->rounds[SHOWN]);
    check(d, s, way);
    (void)snprintf(key, sizeof key, "%s_wake_us", way->key);
    demo_number(d, key, median_hand_over(s));
    demo_say(d, "  from T3 to T4, median of %d: %.1f us", ROUNDS, median_hand_over(s));
    return 0;
}

static int run(struct demo *d)
{
    struct naru_segment *segment;
    struct shared *s;
    int r = naru_segment_open("memfd:", sizeof *s, NULL, &segment);

    if (r < 0)
        return r;
    s = naru_segment_data(segment);
    demo_say(d, "A reader sleeps until told, a writer writes into shared memory and tells it.");
    r = naru_event_init(&s->event, NARU_EVENT_AUTO);
    if (r == 0)
        r = naru_semaphore_init(&s->semaphore, 0, 0); /* no unit yet: the first wait sleeps */
    for (size_t i = 0; i < sizeof ways / sizeof *ways && r == 0; i++)
        r = run_way(d, s, &ways[i]);
    naru_segment_close(segment);
    return r;
}

const struct demo_kind demo_cycle = {
    .name = "cycle",
    .title = "Write, signal, read: one cycle of two processes, as a time line",
    .source = "cli/demo-cycle.c",
    .run = run,
};
