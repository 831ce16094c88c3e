/* SPDX-License-Identifier: MIT */
/* One run of one figure by one way: what its two processes share, and the bodies that they run. */
#ifndef BENCH_LIFE_RUN_H
#define BENCH_LIFE_RUN_H

#include <stdint.h>
#include <sys/types.h>

#include "bench/life-ends.h"
#include "bench/meeting.h"

/* Each field has one writer, and is read by others once a meeting or the writer's end says it is there. */
struct life_shared {
    pid_t sender;          /* killed: who waits in its send call */
    int64_t began, ended;  /* ns of CLOCK_MONOTONIC */
    int64_t elapsed_ns[2]; /* idle: of each side */
    int64_t cpu_ns[2];
    int64_t bytes[2]; /* memory: what each side's share grew by */
};

struct life_run {
    const struct life_way *way;
    struct life_end end; /* each child has its own copy */
    struct meeting meeting;
    struct life_shared *shared;
};

#define LIFE_SPINS "?wait=spin"

enum { LIFE_PAIRS = 16 }; /* memory: so many are opened and share what they need once */

int life_first_message(void *run, enum duo_side side);
int life_killed(void *run, enum duo_side side);
int life_memory(void *run, enum duo_side side);
int life_idle(void *run, enum duo_side side);

#endif
