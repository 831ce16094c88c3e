/* SPDX-License-Identifier: MIT */
/*
 * One run: two processes, one carrier, one pattern, one size, for a while. Everything that is compared is
 * measured by these same loops.
 *
 * The payload is written and checked: each 64-byte line of a message holds the message's number and the
 * line's, so the payload passes through both processes' caches as a real one would, and a lost, doubled,
 * mixed-up or damaged message ends the run as failed.
 */
#ifndef BENCH_ENGINE_H
#define BENCH_ENGINE_H

#include <stdint.h>

#include "bench/carrier.h"
#include "bench/histogram.h"

enum { ENGINE_SIZE_MIN = 4, ENGINE_BATCH = 64 };

#define ENGINE_STOP UINT32_MAX /* the number of the last message */

struct engine_side {
    uint64_t cpu_ns;   /* user and system, without the warm-up */
    uint64_t switches; /* voluntary context switches: how often it slept */
};

struct engine_result {
    uint64_t messages;   /* after the warm-up; a round trip counts as one */
    uint64_t elapsed_ns; /* that they took */
    struct engine_side sides[2];
    /* In ns, what a message (round trip) usually takes. Ping-pong: the median. Of a fast load: the median of
     * means over groups of messages, which neither a clock nor a process that takes the CPU for a while is
     * part of. Else the mean. */
    double typical_ns;
    /* Ping-pong: round trips (of a fast load one of each group, a reading of the clock included). Otherwise:
     * how long every 64th message (first of every batch; of a fast load the first of every group) took from
     * its send call to being checked, queueing included. */
    struct histogram latency;
};

struct engine {
    struct duo duo;
    struct engine_shared *shared;
};

/* 0 or -errno. */
int engine_init(struct engine *engine, enum duo_pin pin, int stop_fd);
void engine_deinit(struct engine *engine);

/*
 * Runs for duration_ns, or until max_messages if that is not 0. 0 with *ret_result (the engine's, until the
 * next run); -ECANCELED if the user ended it; -errno with a sentence in ret_why.
 */
int engine_run(struct engine *engine, const struct carrier *carrier, const struct load *load,
               int64_t duration_ns, uint64_t max_messages, const struct engine_result **ret_result,
               char ret_why[DUO_WHY_MAX]);

int64_t engine_now(void); /* ns of CLOCK_MONOTONIC, by the vdso */

#endif
