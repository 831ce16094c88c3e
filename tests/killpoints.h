/* SPDX-License-Identifier: MIT */
/*
 * Killed at every point that matters. A death can be observed by others only through what the process stored
 * to shared memory or told the kernel. So a victim is run once through a scenario, and its stores to shared
 * memory and its system calls are listed (tracee.h); then it is run afresh for each of them, and killed just
 * before it and just after it (and while it sleeps in a call, and between the repetitions of a store that
 * repeats), and what the survivor finds is judged. Fresh runs, never a forked copy of a running one: that
 * would share its sockets and its memory.
 *
 * Runs are alike, step by step, because nothing of the survivor's is left to chance: while the victim runs,
 * the survivor sleeps, and the other way round. A run whose events are others than those listed fails.
 */
#ifndef TESTS_KILLPOINTS_H
#define TESTS_KILLPOINTS_H

#include <stdatomic.h>

#include "naru/channel.h"
#include "tracee.h"

/* What tester, victim and survivor share. */
struct kill_run {
    _Atomic uint64_t begun, done; /* the victim's: messages that it began to send, or to receive; has */
    _Atomic uint64_t arrived;     /* the survivor's: messages that it received, or sent */
    _Atomic bool listening;       /* of a scenario's own: the one that comes next is there */
    _Atomic bool complained;
    char complaint[256];
    int gate[2];        /* tells the survivor that the victim sleeps; its end, that it is dead */
    size_t descriptors; /* that were open before */
    const struct kill_scenario *scenario;
};

struct kill_scenario {
    const char *name;
    const char *url; /* of a pair; NULL: they meet by themselves, and are given none */
    /* Each gets its end of the pair. The survivor closes its own. */
    void (*victim)(struct kill_run *run, struct naru_channel *ch);
    void (*survivor)(struct kill_run *run, struct naru_channel *ch);
    /* NULL, or a third process, which comes when the victim is dead. */
    void (*next)(struct kill_run *run);
    /* Whether the survivor runs along, as far as it can, instead of waiting at the gate. */
    bool eager;
    /* Whether the victim is the one that sends: what it has sent arrives, and the later it dies, the more. */
    bool sends;
    int messages;   /* of the victim */
    uint64_t first; /* the number of the first */
    int batch;      /* so many of them become visible at once; 0: each by itself */
    bool thorough;  /* every event is a kill point even under a sanitizer, where others are sampled */
};

struct kill_verdict {
    size_t points, stores, calls; /* kills; what they were before and after of */
    size_t strays;                /* runs that went another way than the one listed, and were begun anew */
    char complaint[512];          /* the first, with its point; then the sweep has ended */
};

/* The survivor's: says what is wrong, the first time. */
void kill_complain(struct kill_run *run, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The survivor's: waits until the victim sleeps (true) or is dead. */
bool kill_may_act(struct kill_run *run);

/* Descriptors of this process; that a survivor which is done holds none of the channel's, nor its memory. */
size_t kill_count_descriptors(void);
void kill_check_leaks(struct kill_run *run);

/* Kills at every point. Skips the test where processes cannot be traced. */
void kill_sweep(const struct kill_scenario *scenario, struct kill_verdict *ret_verdict);

/* Kills between two events, where nobody can notice any difference: before about so many instructions,
 * spread over the whole, or (SIZE_MAX) before every single one, with as many victims at a time as there are
 * CPUs. See killpoints-instructions.c for how a victim gets to its point. */
void kill_sweep_instructions(const struct kill_scenario *scenario, size_t points,
                             struct kill_verdict *ret_verdict);

#endif
