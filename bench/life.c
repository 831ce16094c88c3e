/* SPDX-License-Identifier: MIT */
/* The figures, and their rounds: naru and the bare socket in turn, whose order alternates. */
#include "bench/life.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "bench/life-run.h"

static double took(const struct life_run *run)
{
    return (double)(run->shared->ended - run->shared->began);
}

/* Of both sides, for one of the connections. */
static double bytes(const struct life_run *run)
{
    return (double)(run->shared->bytes[DUO_NEAR] + run->shared->bytes[DUO_FAR]) / LIFE_PAIRS;
}

/* Of one CPU, by both sides together. */
static double percent(const struct life_run *run)
{
    double sum = 0;

    for (int side = DUO_NEAR; side <= DUO_FAR; side++)
        sum += 100.0 * (double)run->shared->cpu_ns[side] / (double)run->shared->elapsed_ns[side];
    return sum;
}

const struct life_figure life_figures[LIFE_FIGURES + 1] = {
    {"first message", "from the connect call until the first message has been received", LIFE_NS, true, false,
     1e6, "", life_first_message, took},
    {"killed receiver", "SIGKILL for the only receiver, until the send call that waits for room returns",
     LIFE_NS, true, true, 1e6, "", life_killed, took},
    {"killed receiver, spinning", "the same with ?wait=spin: the sender sleeps in no call of the kernel",
     LIFE_NS, true, true, 1e6, LIFE_SPINS, life_killed, took},
    {"killed receiver, sleeping", "the same with ?wait=sleep", LIFE_NS, true, true, 1e6, "?wait=sleep",
     life_killed, took},
    {"idle memory", "of both sides for a connection, its rings and what is touched of its pools included",
     LIFE_BYTES, false, false, 1024 * 1024, "", life_memory, bytes},
    {"idle CPU", "of one CPU, both sides waiting (adaptive) for messages that do not come", LIFE_PERCENT,
     false, false, 1, "", life_idle, percent},
    {0},
};

static void after_fork(void *context)
{
    struct life_run *run = context;

    meeting_close(&run->meeting);
}

static int run_once(struct duo *duo, const struct plan *plan, const struct life_figure *figure,
                    struct life_run *run, char why[DUO_WHY_MAX])
{
    int r = meeting_open(&run->meeting);

    if (r < 0) {
        (void)snprintf(why, DUO_WHY_MAX, "%s", duo_sentence());
        return r;
    }
    memset(run->shared, 0, sizeof *run->shared);
    run->way->prepare(&run->end, plan->directory);
    run->end.options = figure->options;
    r = duo_run(duo, figure->body, after_fork, run, why);
    run->way->remove(&run->end);
    return r;
}

/* One figure by both ways. Only -ECANCELED ends the plan. */
static int run_figure(struct duo *duo, const struct plan *plan, struct life_shared *shared, int which,
                      int round, struct life_results *results)
{
    const struct life_figure *figure = &life_figures[which];

    for (int i = 0; i < LIFE_WAYS; i++) {
        int way = (i + round) % LIFE_WAYS, r;
        struct life_measurement *m = &results->by[which][way];
        struct life_run run = {.way = &life_ways[way], .shared = shared};

        if ((way == LIFE_BARE && !figure->bare) || m->why[0])
            continue; /* what failed once is not tried again: its figures would not be comparable */
        r = run_once(duo, plan, figure, &run, m->why);
        if (r == -ECANCELED)
            return r;
        m->done[round] = r == 0;
        m->values[round] = r == 0 ? figure->value(&run) : 0;
    }
    return 0;
}

static struct ratio spread(double *values, size_t n)
{
    if (n == 0)
        return (struct ratio){0};
    return (struct ratio){plan_quantile(values, n, 0.5), plan_quantile(values, n, 0.25),
                          plan_quantile(values, n, 0.75)};
}

static void summarise(struct life_results *results, int which)
{
    double values[PLAN_ROUNDS_MAX], ratios[PLAN_ROUNDS_MAX];
    const struct life_measurement *naru = &results->by[which][LIFE_NARU],
                                  *bare = &results->by[which][LIFE_BARE];
    size_t n;

    for (int way = 0; way < LIFE_WAYS; way++) {
        struct life_measurement *m = &results->by[which][way];

        n = 0;
        for (int i = 0; i < results->rounds_done; i++)
            if (m->done[i])
                values[n++] = m->values[i];
        m->all = spread(values, n);
    }
    n = 0;
    for (int i = 0; i < results->rounds_done; i++)
        if (naru->done[i] && bare->done[i] && bare->values[i] > 0) {
            ratios[n] = naru->values[i] / bare->values[i];
            values[n++] = naru->values[i] - bare->values[i];
        }
    results->difference[which] = spread(values, n);
    results->ratio[which] = spread(ratios, n);
}

int life_measure(const struct plan *plan, struct life_results *ret_results)
{
    struct life_shared *shared = duo_share(sizeof *shared);
    struct duo duo;
    int r = shared ? duo_init(&duo, plan->pin, (int64_t)10 * 1000000000, plan->stop_fd) : -errno;

    if (r < 0) {
        duo_unshare(shared, sizeof *shared);
        return r;
    }
    memset(ret_results, 0, sizeof *ret_results);
    for (int round = 0; round < plan->rounds && r == 0; round++) {
        for (int which = 0; which < LIFE_FIGURES && r == 0; which++)
            r = run_figure(&duo, plan, shared, which, round, ret_results);
        if (r == 0)
            ret_results->rounds_done++;
    }
    for (int which = 0; which < LIFE_FIGURES; which++)
        summarise(ret_results, which);
    duo_deinit(&duo);
    duo_unshare(shared, sizeof *shared);
    return r;
}

enum promise life_promise(const struct life_results *results, int which)
{
    const struct life_figure *figure = &life_figures[which];
    const struct life_measurement *naru = &results->by[which][LIFE_NARU],
                                  *bare = &results->by[which][LIFE_BARE];

    if (naru->why[0] || (figure->of_difference && bare->why[0]) || results->rounds_done == 0)
        return PROMISE_NONE;
    return (figure->of_difference ? results->difference[which] : naru->all).median < figure->limit
               ? PROMISE_KEPT
               : PROMISE_MISSED;
}
