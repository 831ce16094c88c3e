/* SPDX-License-Identifier: MIT */
/*
 * A whole benchmark: mechanisms x patterns x sizes, each by naru and, where there is a floor, by bare system
 * calls. Rounds are the outermost loop and the order of the two alternates, so that whatever drifts on the
 * machine hits each alike; ratios are taken within a round, and their median counts.
 */
#ifndef BENCH_PLAN_H
#define BENCH_PLAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bench/comparison.h"
#include "bench/engine.h"

enum { PLAN_ROUNDS_MAX = 101, PLAN_SIZES_MAX = 8, CANDIDATES = 1 + REFERENCES };
enum candidate { CANDIDATE_NARU, CANDIDATE_BARE /* the first of the references */ };

extern const char *const pattern_names[PATTERNS + 1]; /* NULL-terminated */
extern const char *const pin_names[];                 /* of enum duo_pin, NULL-terminated */

/* One round's figures of one candidate. */
struct round {
    bool done;
    double ns;       /* per message (round trip): what the engine calls typical */
    double rate;     /* messages (round trips) a second */
    double cpu_ns;   /* of both processes, per message (round trip) */
    double switches; /* voluntary context switches of both, per message (round trip) */
};

/* What naru gives for what a reference gives: time per message naru/reference (ping-pong, stream), or rate
 * naru/reference (batch), or, if the comparison says so, time per message reference/naru; the median of the
 * rounds, and the two quartiles. 0: none. */
struct ratio {
    double median, low, high;
};

struct measurement {
    const char *name; /* "naru", "bare" */
    struct carrier carrier;
    size_t size;           /* bytes of its messages: mostly the cell's */
    bool exists;           /* there is such a candidate */
    char why[DUO_WHY_MAX]; /* why there are no figures, "" if there are */
    struct round *rounds;  /* [plan.rounds] */
    struct histogram *all; /* of all rounds together */
    struct round median;   /* each field's */
    struct ratio ratio;    /* a reference's */
};

/* Mechanism, mode, pattern, size. */
struct cell {
    const struct naru_mechanism *row;
    const struct comparison *comparison;
    struct load load;
    struct measurement by[CANDIDATES];
};

struct plan {
    const struct naru_mechanism **rows;   /* NULL-terminated; the caller's */
    const struct comparison *comparisons; /* a table */
    bool patterns[PATTERNS];
    size_t sizes[PLAN_SIZES_MAX];
    size_t size_count;
    int rounds;
    int64_t duration_ns;   /* of each run; 0: it ends by itself */
    uint64_t max_messages; /* of each run; 0: no limit */
    enum duo_pin pin;
    bool plain; /* compare with the plainest bare programs: see floor.h */
    int stop_fd;
    const char *directory; /* for names; exists; the caller's */
    void (*progress)(void *context, int round, const struct cell *cell, int done, int total);
    void *progress_context;
};

struct results {
    const struct plan *plan;
    struct cell *cells;
    size_t count;
    int rounds_done; /* complete ones */
};

/* Runs it all. 0 with *ret_results, which is to be ended with results_free(); -ECANCELED: the user ended it,
 * *ret_results holds the complete rounds. -errno: it could not begin; nothing to free. */
int plan_run(const struct plan *plan, struct results *ret_results);
void results_free(struct results *results);

/* The quantile of values, which it sorts; between two of them the mean. */
double plan_quantile(double *values, size_t n, double q);

#endif
