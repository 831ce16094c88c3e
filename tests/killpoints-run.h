/* SPDX-License-Identifier: MIT */
/*
 * One run of a victim and its survivor, up to a point or to the end, and the verdict on it: what all sweeps
 * over kill points (killpoints.h) are made of.
 */
#ifndef TESTS_KILLPOINTS_RUN_H
#define TESTS_KILLPOINTS_RUN_H

#include <sched.h>

#include "killpoints.h"

/* Under a sanitizer, where a fork costs ten times as much, only every so many-th event is a kill point. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { STRIDE = 9 };
#else
enum { STRIDE = 1 };
#endif

enum phase { BEFORE, DURING, AFTER };

struct point {
    size_t event;
    enum phase phase;
    uint64_t repetition; /* DURING a store: so many are done */
};

struct listed {
    struct event event;
    bool sleeps;
    uint64_t repetitions;
};

/* One scenario's sweep. */
struct sweep {
    const struct kill_scenario *scenario;
    struct kill_verdict *verdict;
    struct kill_run *run;
    bool stores; /* are events, as system calls are */
    struct listed *events;
    size_t count;
    bool recording;
    bool whole;       /* nobody is killed in this run */
    uint64_t arrived; /* in the run before */
    uint64_t stride;  /* that many points further on, at most so many more arrive */
    struct tracee tracee;
    bool ended;   /* the victim, by itself */
    bool strayed; /* it went another way than was listed */
    int survivor;
    cpu_set_t cpus; /* of all three, to begin with */
};

/* Skips the test where processes cannot be traced. Closing says nothing and judges nothing. */
void sweep_open(struct sweep *s, const struct kill_scenario *scenario, bool stores,
                struct kill_verdict *verdict);
void sweep_close(struct sweep *s);

/* A fresh run: a victim that stands before its first instruction, and a survivor that sleeps. */
void sweep_start(struct sweep *s);

/* Lists the event, or compares it with the one listed; false: it is another, and complained of. */
bool sweep_agrees(struct sweep *s, size_t index, const struct event *event);

/* Makes the system call that the victim stands before. false: it is to be killed in it, has ended, or cannot
 * go on. */
bool sweep_pass_call(struct sweep *s, size_t index, const struct point *point);

/* Runs the victim up to the point, or (NULL) to its end. */
void sweep_walk(struct sweep *s, const struct point *point);

/* The victim has got to its point, which is described by words: kills it, and judges. false: there was a
 * complaint, which is the verdict's then. */
bool sweep_finish(struct sweep *s, const char *where);

/* Words for an event. */
enum { DESCRIPTION = 96 };
const char *sweep_describe(const struct event *event, char text[DESCRIPTION]);

#endif
