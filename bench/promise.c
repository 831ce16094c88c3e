/* SPDX-License-Identifier: MIT */
/* What naru promises of its speed, as ratios to what stands beside it in the same run. */
#include <string.h>

#include "bench/report.h"
#include "naru/mechanism.h"

/* Shared memory's: at most so much of a reference's time. */
struct limit {
    const char *mode, *reference;
    unsigned patterns; /* bits */
    size_t from, to;   /* bytes of a message */
    double at_most;
};

#define PINGPONG (1u << PATTERN_PINGPONG)
#define STREAM   (1u << PATTERN_STREAM)

static const struct limit limits[] = {
    {"spin", "floor", PINGPONG, 0, 8, 1.10},
    {"spin", "floor", PINGPONG, 9, 56, 1.20},
    {"spin", "control", PINGPONG, 0, 56, 0.75},
    {"spin", "control", PINGPONG, 57, 64, 0.95},
    {"spin", "control", STREAM, 64, 64, 0.5},
    {"spin", "ring", STREAM, 0, SIZE_MAX, 1 / 0.9},
    {"adaptive", "spin", PINGPONG | STREAM, 0, SIZE_MAX, 1.2},
    {"sleep", "unix", PINGPONG, 0, 64, 1.15},
    {"sleep", "futex", PINGPONG, 0, 64, 1.15},
    {"epoll", "eventfd", PINGPONG, 0, 64, 1.15},
};

static const struct limit *find_limit(const struct cell *cell, const struct measurement *reference)
{
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
        const struct limit *l = &limits[i];

        if (strcmp(l->mode, cell->comparison->mode) == 0 && strcmp(l->reference, reference->name) == 0 &&
            (l->patterns & 1u << cell->load.pattern) && l->from <= cell->load.size &&
            cell->load.size <= l->to)
            return l;
    }
    return NULL;
}

static enum promise kept(bool is)
{
    return is ? PROMISE_KEPT : PROMISE_MISSED;
}

enum promise bench_promise(const struct cell *cell, const struct measurement *reference)
{
    double ratio = reference->ratio.median;

    if (ratio <= 0)
        return PROMISE_NONE;
    if (cell->comparison->mode) {
        const struct limit *limit = find_limit(cell, reference);

        return limit ? kept(ratio <= limit->at_most) : PROMISE_NONE;
    }
    if (cell->load.pattern != PATTERN_BATCH)
        return kept(ratio <= PROMISE_TIME);
    /* The promise is for small messages over pipe, unix stream and TCP. */
    if (cell->load.size > 64 || !(cell->row->capabilities & NARU_CAN_FRAME) ||
        !(cell->row->capabilities & NARU_CAN_DUPLEX))
        return PROMISE_NONE;
    return kept(ratio >= PROMISE_BATCH);
}
