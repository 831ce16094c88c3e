/* SPDX-License-Identifier: MIT */
/* What naru promises of its speed, as ratios to what stands beside it in the same run. */
#include <string.h>

#include "bench/report.h"
#include "naru/mechanism.h"

/* Shared memory's: at most so much of a reference's time. Beside other libraries: that they take so many
 * times naru's at least. */
struct limit {
    const char *mode, *reference;
    unsigned patterns;        /* bits */
    size_t from, to;          /* bytes of a message */
    double at_most, at_least; /* one of them */
};

#define PINGPONG (1u << PATTERN_PINGPONG)
#define STREAM   (1u << PATTERN_STREAM)

static const struct limit limits[] = {
    {"spin", "floor", PINGPONG, 0, 8, 1.10, 0},
    {"spin", "floor", PINGPONG, 9, 56, 1.20, 0},
    {"spin", "control", PINGPONG, 0, 56, 0.75, 0},
    {"spin", "control", PINGPONG, 57, 64, 0.95, 0},
    {"spin", "control", STREAM, 64, 64, 0.5, 0},
    {"spin", "ring", STREAM, 0, SIZE_MAX, 1 / 0.9, 0},
    {"adaptive", "spin", PINGPONG | STREAM, 0, SIZE_MAX, 1.2, 0},
    {"sleep", "unix", PINGPONG, 0, 64, 1.15, 0},
    {"sleep", "futex", PINGPONG, 0, 64, 1.15, 0},
    {"epoll", "eventfd", PINGPONG, 0, 64, 1.15, 0},
    {"lent", "64 B", PINGPONG, 1024 * 1024, SIZE_MAX, 1.3, 0},
    /* as many as descriptors, as nearly as streams are promised */
    {"lent", "16 B", STREAM, 1024 * 1024, SIZE_MAX, 1 / 0.9, 0},
    {"lent", "bare", STREAM, 1024 * 1024, SIZE_MAX, 1 / 0.9, 0},
    {"touched", "control", STREAM, 1024 * 1024, SIZE_MAX, 1 / 0.95, 0},
    {"touched 4M", "control", STREAM, 1024 * 1024, SIZE_MAX, 1 / 0.95, 0},
    {"spin", "nng", PINGPONG, 0, 64, 0, 40},
    {"spin", "zmq", PINGPONG, 0, 64, 0, 40},
    {"sleep", "nng", PINGPONG, 0, 64, 0, 2.5},
    {"sleep", "zmq", PINGPONG, 0, 64, 0, 2.5},
    {"spin", "nng", STREAM, 64, 64, 0, 500},
    {"spin", "zmq", STREAM, 64, 64, 0, 10},
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

        if (!limit)
            return PROMISE_NONE;
        return kept(limit->at_least > 0 ? ratio >= limit->at_least : ratio <= limit->at_most);
    }
    if (cell->load.pattern != PATTERN_BATCH)
        return kept(ratio <= PROMISE_TIME);
    /* The promise is for small messages over pipe, unix stream and TCP. */
    if (cell->load.size > 64 || !(cell->row->capabilities & NARU_CAN_FRAME) ||
        !(cell->row->capabilities & NARU_CAN_DUPLEX))
        return PROMISE_NONE;
    return kept(ratio >= PROMISE_BATCH);
}
