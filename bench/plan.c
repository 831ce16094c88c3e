/* SPDX-License-Identifier: MIT */
/* Interleaved rounds, and what they come to. */
#include "bench/plan.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "naru/mechanism.h"

const char *const pattern_names[PATTERNS + 1] = {"pingpong", "stream", "batch", NULL};
const char *const pin_names[] = {"apart", "together", "none", NULL};

static int prepare_measurement(struct measurement *m, const char *name, int rounds)
{
    m->exists = true;
    m->name = name;
    m->rounds = calloc((size_t)rounds, sizeof *m->rounds);
    m->all = calloc(1, sizeof *m->all);
    return m->rounds && m->all ? 0 : -ENOMEM;
}

static int add_reference(struct cell *cell, const struct reference *reference, struct measurement *m,
                         const struct plan *plan)
{
    if (!reference->name ||
        (reference->carrier && reference->carrier->answers && cell->load.pattern != PATTERN_PINGPONG))
        return 0;
    if (reference->carrier) {
        m->carrier = *reference->carrier;
        m->carrier.plain = plan->plain;
    } else {
        m->carrier = cell->by[CANDIDATE_NARU].carrier;
        m->carrier.options = reference->options;
        m->carrier.lending = LENDING_NONE;
    }
    m->size = reference->size ? reference->size : cell->load.size;
    return prepare_measurement(m, reference->name, plan->rounds);
}

static int add_cell(struct results *results, const struct naru_mechanism *row,
                    const struct comparison *comparison, enum pattern pattern, size_t size)
{
    const struct plan *plan = results->plan;
    struct cell *cell = &results->cells[results->count];
    struct measurement *naru = &cell->by[CANDIDATE_NARU];
    int r = 0;

    *cell = (struct cell){
        .row = row, .comparison = comparison, .load = {pattern, size, plan->directory, comparison->fast}};
    if ((comparison->patterns && !(comparison->patterns & 1u << pattern)) ||
        (comparison->fast && plan->pin == DUO_PIN_TOGETHER) || carrier_naru(row, &naru->carrier) < 0)
        return 0;
    results->count++;
    naru->carrier.options = comparison->options;
    naru->carrier.polled = comparison->polled;
    naru->carrier.lending = comparison->lending;
    naru->size = size;
    r = prepare_measurement(naru, "naru", plan->rounds);
    for (int i = 0; i < REFERENCES && r == 0; i++)
        r = add_reference(cell, &comparison->against[i], &cell->by[CANDIDATE_BARE + i], plan);
    return r;
}

/* In each mode. */
static int add_modes(struct results *results, const struct naru_mechanism *row, enum pattern pattern,
                     size_t size)
{
    const struct comparison *table = results->plan->comparisons;
    const struct comparison *comparison = comparison_next(table, row->name, NULL);
    int r = 0;

    if (!comparison)
        return add_cell(results, row, &comparison_alone, pattern, size);
    for (; comparison && r == 0; comparison = comparison_next(table, row->name, comparison))
        r = add_cell(results, row, comparison, pattern, size);
    return r;
}

/* How many cells of one pattern and size a row has at most. */
static size_t count_modes(const struct comparison *table, const struct naru_mechanism *row)
{
    const struct comparison *comparison = NULL;
    size_t modes = 0;

    while ((comparison = comparison_next(table, row->name, comparison)))
        modes++;
    return modes ? modes : 1;
}

/* A mechanism for which every size asked for is too large is measured at its own largest. */
static bool fits_none(const struct plan *plan, const struct naru_mechanism *row)
{
    for (size_t i = 0; i < plan->size_count; i++)
        if (row->max_message == 0 || plan->sizes[i] <= row->max_message)
            return false;
    return true;
}

static int add_cells(struct results *results)
{
    const struct plan *plan = results->plan;
    size_t rows = 0, modes = 0;
    int r = 0;

    for (; plan->rows[rows]; rows++)
        modes += count_modes(plan->comparisons, plan->rows[rows]);
    results->cells = calloc(modes * PATTERNS * plan->size_count + 1, sizeof *results->cells);
    if (!results->cells)
        return -ENOMEM;
    for (int pattern = 0; pattern < PATTERNS; pattern++)
        for (size_t s = 0; plan->patterns[pattern] && s < plan->size_count; s++)
            for (size_t i = 0; i < rows && r == 0; i++) {
                const struct naru_mechanism *row = plan->rows[i];
                bool none = fits_none(plan, row);

                if (!none || s == 0)
                    r = add_modes(results, row, (enum pattern)pattern,
                                  none ? row->max_message : plan->sizes[s]);
            }
    return r;
}

static void note_round(struct measurement *m, const struct load *load, int round,
                       const struct engine_result *result)
{
    double messages = (double)(result->messages ? result->messages : 1);
    struct round *figures = &m->rounds[round];

    figures->done = true;
    figures->ns = result->typical_ns;
    figures->rate = result->elapsed_ns ? messages * 1e9 / (double)result->elapsed_ns : 0;
    if (load->fast && load->pattern != PATTERN_PINGPONG && figures->ns > 0)
        figures->rate = 1e9 / figures->ns;
    figures->cpu_ns = (double)(result->sides[0].cpu_ns + result->sides[1].cpu_ns) / messages;
    figures->switches = (double)(result->sides[0].switches + result->sides[1].switches) / messages;
    histogram_merge(m->all, &result->latency);
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

double plan_quantile(double *values, size_t n, double q)
{
    double at = q * (double)(n - 1);
    size_t low = (size_t)at, high = (double)low < at ? low + 1 : low;

    qsort(values, n, sizeof *values, compare);
    return (values[low] + values[high]) / 2;
}

static void summarise(struct measurement *m, int rounds)
{
    double ns[PLAN_ROUNDS_MAX], rate[PLAN_ROUNDS_MAX], cpu[PLAN_ROUNDS_MAX], switches[PLAN_ROUNDS_MAX];
    size_t n = 0;

    for (int i = 0; m->exists && i < rounds; i++)
        if (m->rounds[i].done) {
            ns[n] = m->rounds[i].ns;
            rate[n] = m->rounds[i].rate;
            cpu[n] = m->rounds[i].cpu_ns;
            switches[n++] = m->rounds[i].switches;
        }
    if (n == 0)
        return;
    m->median = (struct round){true, plan_quantile(ns, n, 0.5), plan_quantile(rate, n, 0.5),
                               plan_quantile(cpu, n, 0.5), plan_quantile(switches, n, 0.5)};
}

static void compare_with(const struct cell *cell, struct measurement *bare, int rounds)
{
    const struct measurement *naru = &cell->by[CANDIDATE_NARU];
    double ratios[PLAN_ROUNDS_MAX];
    size_t n = 0;

    for (int i = 0; bare->exists && i < rounds; i++) {
        const struct round *a = &naru->rounds[i], *b = &bare->rounds[i];

        if (!a->done || !b->done || a->ns <= 0 || b->ns <= 0 || b->rate <= 0)
            continue;
        ratios[n++] = cell->load.pattern == PATTERN_BATCH ? a->rate / b->rate
                      : cell->comparison->times           ? b->ns / a->ns
                                                          : a->ns / b->ns;
    }
    if (n == 0)
        return;
    bare->ratio = (struct ratio){plan_quantile(ratios, n, 0.5), plan_quantile(ratios, n, 0.25),
                                 plan_quantile(ratios, n, 0.75)};
}

/* All candidates of a cell, one after the other. Only -ECANCELED ends the plan. */
static int run_cell(struct engine *engine, const struct plan *plan, struct cell *cell, int round)
{
    for (int i = 0; i < CANDIDATES; i++) {
        struct measurement *m = &cell->by[(i + round) % CANDIDATES];
        const struct engine_result *result;
        struct load load = cell->load;
        int r;

        if (!m->exists || m->why[0])
            continue; /* what failed once is not tried again: its figures would not be comparable */
        load.size = m->size;
        load.fast = load.fast && !m->carrier.slow;
        r = engine_run(engine, &m->carrier, &load, plan->duration_ns, plan->max_messages, &result, m->why);
        if (r == -ECANCELED)
            return r;
        if (r == 0)
            note_round(m, &load, round, result);
    }
    return 0;
}

static int run_rounds(struct results *results)
{
    const struct plan *plan = results->plan;
    int total = (int)results->count * plan->rounds, done = 0;
    struct engine engine;
    int r = engine_init(&engine, plan->pin, plan->stop_fd);

    if (r < 0)
        return r;
    for (int round = 0; round < plan->rounds && r == 0; round++) {
        for (size_t i = 0; i < results->count && r == 0; i++, done++) {
            if (plan->progress)
                plan->progress(plan->progress_context, round, &results->cells[i], done, total);
            r = run_cell(&engine, plan, &results->cells[i], round);
        }
        if (r == 0)
            results->rounds_done++;
    }
    engine_deinit(&engine);
    return r;
}

int plan_run(const struct plan *plan, struct results *ret_results)
{
    struct results results = {.plan = plan};
    int r = add_cells(&results);

    if (r == 0)
        r = run_rounds(&results);
    if (r < 0 && r != -ECANCELED) {
        results_free(&results);
        return r;
    }
    for (size_t i = 0; i < results.count; i++) {
        for (int j = 0; j < CANDIDATES; j++)
            summarise(&results.cells[i].by[j], results.rounds_done);
        for (int j = CANDIDATE_BARE; j < CANDIDATES; j++)
            compare_with(&results.cells[i], &results.cells[i].by[j], results.rounds_done);
    }
    *ret_results = results;
    return r;
}

void results_free(struct results *results)
{
    for (size_t i = 0; i < results->count; i++)
        for (int j = 0; j < CANDIDATES; j++) {
            free(results->cells[i].by[j].rounds);
            free(results->cells[i].by[j].all);
        }
    free(results->cells);
    results->cells = NULL;
    results->count = 0;
}
