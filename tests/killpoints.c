/* SPDX-License-Identifier: MIT */
/* The sweep over a scenario's kill points: see killpoints.h. */
#include "killpoints.h"

#include <stdio.h>

#include "killpoints-run.h"
#include "runner.h"

enum {
    REPETITIONS = 5, /* of a store that repeats: as many of them are kill points */
    ATTEMPTS = 50    /* to come to a point: on a busy machine some runs in a row may stray */
};

static const char *const phase_names[] = {"before", "during", "after"};

static bool run_to(struct sweep *s, const struct point *point)
{
    const char *where = "never";
    char text[64 + DESCRIPTION], description[DESCRIPTION];

    if (point) {
        snprintf(text, sizeof text, "%s event %zu (%s)", phase_names[point->phase], point->event,
                 sweep_describe(&s->events[point->event].event, description));
        where = text;
        s->verdict->points++;
    }
    s->whole = !point;
    /* A run that goes another way than the one listed says nothing of its point. */
    for (int i = 0; i < ATTEMPTS; i++) {
        s->verdict->complaint[0] = '\0';
        sweep_start(s);
        sweep_walk(s, point);
        if (sweep_finish(s, where))
            return true;
        if (!s->strayed)
            break;
        s->verdict->strays++;
    }
    return false;
}

/* A run to the end that lists the events, and one that goes the same way. */
static bool list(struct sweep *s)
{
    for (int i = 0; i < ATTEMPTS; i++) {
        s->recording = true;
        if (!run_to(s, NULL))
            return false;
        s->recording = false;
        if (run_to(s, NULL))
            return true;
        if (!s->strayed)
            break;
    }
    return false;
}

/* What happens only the first time (symbols are looked up, the heap grows) is over before the events are
 * listed. */
static bool record(struct sweep *s)
{
    s->recording = true;
    if (!run_to(s, NULL) || !list(s))
        return false;
    for (size_t i = 0; i < s->count; i++)
        (*(s->events[i].event.kind == EVENT_STORE ? &s->verdict->stores : &s->verdict->calls))++;
    return true;
}

/* In the middle of the event: asleep, or between repetitions. */
static bool kill_during(struct sweep *s, size_t event)
{
    const struct listed *listed = &s->events[event];
    uint64_t stride = listed->repetitions / REPETITIONS + 1;

    if (listed->sleeps)
        return run_to(s, &(struct point){event, DURING, 0});
    for (uint64_t i = 1; i < listed->repetitions; i += stride)
        if (!run_to(s, &(struct point){event, DURING, i}))
            return false;
    return true;
}

void kill_sweep(const struct kill_scenario *scenario, struct kill_verdict *ret_verdict)
{
    struct sweep s;

    sweep_open(&s, scenario, true, ret_verdict);
    if (!scenario->thorough)
        s.stride = STRIDE;
    if (record(&s))
        for (size_t i = 0; i < s.count; i += s.stride)
            if (!run_to(&s, &(struct point){i, BEFORE, 0}) || !kill_during(&s, i) ||
                !run_to(&s, &(struct point){i, AFTER, 0}))
                break;
    test_note("%zu kill points, about %zu stores to shared memory and %zu system calls; %zu runs strayed",
              ret_verdict->points, ret_verdict->stores, ret_verdict->calls, ret_verdict->strays);
    sweep_close(&s);
}
