/* SPDX-License-Identifier: MIT */
/*
 * What a shared-memory connection costs outside of its messages: until the first one is there, when the
 * receiver is killed, and while nothing is sent. Times, bytes and shares of a CPU, one a round; a bare unix
 * socket does the same in the same round where that says something.
 */
#ifndef BENCH_LIFE_H
#define BENCH_LIFE_H

#include <stdio.h>

#include "bench/report.h"

struct life_run;

enum life_unit { LIFE_NS, LIFE_BYTES, LIFE_PERCENT };
enum { LIFE_NARU, LIFE_BARE, LIFE_WAYS };

/* What is measured; a table that ends with an element without a name. */
struct life_figure {
    const char *name; /* "first message" */
    const char *what; /* a sentence for people */
    enum life_unit unit;
    bool bare;           /* a bare unix socket stands beside it */
    bool of_difference;  /* the limit is for what naru takes more than that */
    double limit;        /* promised: less than so much */
    const char *options; /* of naru's connector */
    /* In both children of a round; leaves in its run what value() reads afterwards. */
    int (*body)(void *run, enum duo_side side);
    double (*value)(const struct life_run *run);
};

extern const struct life_figure life_figures[];
enum { LIFE_FIGURES = 6 };

struct life_measurement {
    double values[PLAN_ROUNDS_MAX];
    bool done[PLAN_ROUNDS_MAX];
    struct ratio all;      /* the median of the rounds, and their quartiles */
    char why[DUO_WHY_MAX]; /* why there are no figures, "" if there are */
};

struct life_results {
    struct life_measurement by[LIFE_FIGURES][LIFE_WAYS];
    struct ratio difference[LIFE_FIGURES]; /* naru's less the bare one's, within a round */
    struct ratio ratio[LIFE_FIGURES];      /* naru's over the bare one's, within a round */
    int rounds_done;
};

/* Of a plan: rounds, pin, directory and stop_fd count. 0 with *ret_results (large: not for the stack);
 * -ECANCELED: the user ended it, the complete rounds are in it; -errno: it could not begin. */
int life_measure(const struct plan *plan, struct life_results *ret_results);

enum promise life_promise(const struct life_results *results, int figure);

/* Write errors stay in the stream (ferror). */
void life_print_text(FILE *out, const struct plan *plan, const struct life_results *results,
                     const struct environment *e);
void life_print_json(FILE *out, const struct plan *plan, const struct life_results *results,
                     const struct environment *e);

#endif
