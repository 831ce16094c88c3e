/* SPDX-License-Identifier: MIT */
/* What a benchmark's results look like: for people, for programs, for spreadsheets, as a picture. */
#ifndef BENCH_REPORT_H
#define BENCH_REPORT_H

#include <stdio.h>

#include "bench/environment.h"
#include "bench/plan.h"

/* The promises that a run is held against (the text says which are kept); shared memory's are in promise.c.
 */
#define PROMISE_TIME 1.05 /* ping-pong and stream: naru's time per message over the floor's, at most */
#define PROMISE_BATCH                                                                                        \
    5.0 /* small batches over byte streams: naru's rate over one call a message, at least                    \
         */

/* Write errors stay in the stream (ferror). */
void bench_print_text(FILE *out, int width, const struct results *results, const struct environment *e);
void bench_print_json(FILE *out, const struct results *results, const struct environment *e);
void bench_print_csv(FILE *out, const struct results *results);
void bench_print_svg(FILE *out, const struct results *results, const struct environment *e);

/* The same for all benchmarks: where it was measured. */
struct json;
void bench_print_where(FILE *out, const struct plan *plan, int rounds_done, const struct environment *e);
void bench_environment_json(struct json *j, const struct environment *e);

/* "ping-pong, 64 B" */
enum { BENCH_TITLE = 64 };
const char *bench_title(const struct cell *cell, char storage[BENCH_TITLE]);

/* Megabytes (10^6 bytes) a second in one direction. */
double bench_megabytes(const struct measurement *m, const struct round *round);

/* Whether a promise is made for naru in this cell beside that reference, and whether it is kept. */
enum promise { PROMISE_NONE, PROMISE_KEPT, PROMISE_MISSED };
enum promise bench_promise(const struct cell *cell, const struct measurement *reference);

/* "shm spin", "pipe" */
enum { BENCH_NAME = 32 };
const char *bench_name(const struct cell *cell, char storage[BENCH_NAME]);

#endif
