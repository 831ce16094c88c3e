/* SPDX-License-Identifier: MIT */
/* The tables for people: one for each pattern and size, naru and bare one above the other. */
#include "bench/report.h"

#include <string.h>

#include "cli/quantity.h"
#include "cli/term.h"
#include "naru/mechanism.h"

const char *bench_title(const struct cell *cell, char storage[BENCH_TITLE])
{
    static const char *const titles[PATTERNS] = {"ping-pong", "stream, one call a message",
                                                 "batch, naru_send_batch() of 64"};
    char size[QUANTITY_SIZE];

    (void)snprintf(storage, BENCH_TITLE, "%s, %s", titles[cell->load.pattern],
                   format_size((double)cell->load.size, size));
    return storage;
}

const char *bench_name(const struct cell *cell, char storage[BENCH_NAME])
{
    const char *mode = cell->comparison->mode;

    (void)snprintf(storage, BENCH_NAME, mode ? "%s %s" : "%s", cell->row->name, mode);
    return storage;
}

double bench_megabytes(const struct measurement *m, const struct round *round)
{
    return round->rate * (double)m->size / 1e6;
}

/* Three significant places at least and four at most, so that columns stay narrow: 0.987, 9.87, 98.7, 987,
 * 9870. */
static void print_number(FILE *out, int width, double value)
{
    (void)fprintf(out, "%*.*f", width, value < 0.9995 ? 3 : value < 9.995 ? 2 : value < 99.95 ? 1 : 0, value);
}

static void print_count(FILE *out, int width, double value)
{
    char storage[QUANTITY_SIZE];

    (void)fprintf(out, "%*s", width, format_count(value, storage));
}

/* One reference's ratio stands beside naru, as there is but one; several have each their own. */
static void print_ratio(FILE *out, int width, const struct cell *cell, int which)
{
    bool several = cell->by[CANDIDATE_BARE + 1].exists;
    const struct measurement *reference = &cell->by[several ? which : CANDIDATE_BARE];
    const struct ratio *ratio = &reference->ratio;
    int places = ratio->median < 9.95 ? 2 : ratio->median < 99.5 ? 1 : 0;
    enum promise promise = bench_promise(cell, reference);
    enum style style = promise == PROMISE_KEPT     ? STYLE_GOOD
                       : promise == PROMISE_MISSED ? STYLE_NOTE
                                                   : STYLE_PLAIN;

    if (several == (which == CANDIDATE_NARU))
        return;
    if (ratio->median <= 0) {
        (void)fprintf(out, "%8s", "-");
        return;
    }
    (void)fprintf(out, "%s%8.*f%s", term_style(out, style), places, ratio->median,
                  term_style(out, STYLE_PLAIN));
    if (width >= 96)
        (void)fprintf(out, "  %.*f to %.*f", places, ratio->low, places, ratio->high);
}

static void print_measurement(FILE *out, int width, const struct cell *cell, int which)
{
    const struct measurement *m = &cell->by[which];
    const struct histogram *h = m->all;
    char name[BENCH_NAME];

    if (!m->exists)
        return;
    (void)fprintf(out, "%-14s %-7s", which == CANDIDATE_NARU ? bench_name(cell, name) : "", m->name);
    if (!m->median.done) {
        (void)fprintf(out, "  %s\n", m->why[0] ? m->why : "not run");
        return;
    }
    if (cell->load.pattern == PATTERN_PINGPONG) {
        print_number(out, 8, cell->load.fast ? m->median.ns / 1e3 : (double)histogram_quantile(h, 0.5) / 1e3);
        print_number(out, 8, (double)histogram_quantile(h, 0.99) / 1e3);
        print_number(out, 8, (double)histogram_quantile(h, 0.999) / 1e3);
        print_number(out, 9, (double)h->maximum / 1e3);
        print_count(out, 9, m->median.rate);
        print_number(out, 8, m->median.cpu_ns / 1e3);
    } else {
        print_count(out, 9, m->median.rate);
        print_number(out, 8, bench_megabytes(m, &m->median));
        print_number(out, 8, m->median.ns / 1e3);
        print_number(out, 8, m->median.cpu_ns / 1e3);
        print_number(out, 9, (double)histogram_quantile(h, 0.5) / 1e3);
        print_number(out, 8, (double)histogram_quantile(h, 0.99) / 1e3);
    }
    print_ratio(out, width, cell, which);
    (void)fputc('\n', out);
}

static void print_heading(FILE *out, int width, const struct cell *cell)
{
    const char *quartiles = width >= 96 ? "  quartiles" : "";
    const char *ratio = cell->comparison->times ? "times" : "ratio";
    char title[BENCH_TITLE];

    (void)fprintf(out, "\n%s%s%s\n%s", term_style(out, STYLE_BOLD), bench_title(cell, title),
                  term_style(out, STYLE_PLAIN), term_style(out, STYLE_DIM));
    if (cell->load.pattern == PATTERN_PINGPONG)
        (void)fprintf(out, "%-22s%8s%8s%8s%9s%9s%8s%8s%s", "round trip, us", "p50", "p99", "p99.9", "max",
                      "trips/s", "CPU us", ratio, quartiles);
    else
        (void)fprintf(out, "%-22s%9s%8s%8s%8s%9s%8s%8s%s", "", "msg/s", "MB/s", "us/msg", "CPU us",
                      "queue us", "p99", ratio, quartiles);
    (void)fprintf(out, "%s\n", term_style(out, STYLE_PLAIN));
}

void bench_print_where(FILE *out, const struct plan *plan, int rounds_done, const struct environment *e)
{
    static const char *const pins[] = {"each process on a CPU of its own", "both processes on one CPU",
                                       "unpinned"};
    char duration[QUANTITY_SIZE];

    (void)fprintf(out, "%s, %s, %d CPU%s, %s; %s build by %s\n", e->kernel, e->cpu, e->cpus,
                  e->cpus == 1 ? "" : "s", e->libc, e->build, e->compiler);
    (void)fprintf(out, "%d interleaved rounds", rounds_done);
    if (plan->duration_ns)
        (void)fprintf(out, " of %s each", format_duration((double)plan->duration_ns, duration));
    (void)fprintf(out, ", %s\n", pins[plan->pin]);
    if (environment_is_busy(e))
        (void)fprintf(out, "%sThe machine is busy (load %.1f on %d CPUs): trust ratios, not times.%s\n",
                      term_style(out, STYLE_NOTE), e->load, e->cpus, term_style(out, STYLE_PLAIN));
}

enum kind { KIND_TIME, KIND_BATCH, KIND_MODES };

static enum kind kind_of(const struct cell *cell)
{
    return cell->comparison->mode ? KIND_MODES : cell->load.pattern == PATTERN_BATCH ? KIND_BATCH : KIND_TIME;
}

static void print_promise(FILE *out, const struct results *results, enum kind kind, const char *text)
{
    int kept = 0, made = 0;

    for (size_t i = 0; i < results->count * CANDIDATES; i++) {
        const struct cell *cell = &results->cells[i / CANDIDATES];
        enum promise promise = bench_promise(cell, &cell->by[i % CANDIDATES]);

        if (promise == PROMISE_NONE || kind_of(cell) != kind)
            continue;
        made++;
        kept += promise == PROMISE_KEPT;
    }
    if (made)
        (void)fprintf(out, "%s: kept in %d of %d\n", text, kept, made);
}

/* What the other libraries are, each once: all of them are in the first table. */
static void print_abouts(FILE *out, const struct results *results)
{
    for (int which = CANDIDATE_BARE; which < CANDIDATES; which++) {
        const char *printed = NULL;

        for (size_t i = 0; i < results->count; i++) {
            const struct cell *cell = &results->cells[i];
            const struct measurement *m = &cell->by[which];

            if (cell->load.pattern != results->cells->load.pattern ||
                cell->load.size != results->cells->load.size)
                break;
            if (!m->exists || !m->carrier.about || m->carrier.about == printed)
                continue;
            printed = m->carrier.about;
            (void)fprintf(out, "%s: %s\n", m->name, printed);
        }
    }
}

static void print_legend(FILE *out, const struct results *results)
{
    bool times = results->count > 0 && results->cells->comparison->times;

    (void)fprintf(
        out, times
                 ? "\ntimes: how many times naru's time per message the other takes, median of the rounds.\n"
                   "CPU: both processes, all their threads. queue: from the send call until received.\n"
                 : "\nratio: naru's time per message over the bare program's (batch: naru's rate over its),\n"
                   "median of the rounds. CPU: both processes. queue: from the send call until received.\n");
    print_abouts(out, results);
}

void bench_print_text(FILE *out, int width, const struct results *results, const struct environment *e)
{
    bench_print_where(out, results->plan, results->rounds_done, e);
    for (size_t i = 0; i < results->count; i++) {
        const struct cell *cell = &results->cells[i], *before = i ? cell - 1 : NULL;

        if (!before || before->load.pattern != cell->load.pattern || before->load.size != cell->load.size)
            print_heading(out, width, cell);
        for (int which = 0; which < CANDIDATES; which++)
            print_measurement(out, width, cell, which);
    }
    print_legend(out, results);
    print_promise(out, results, KIND_TIME, "Promise: ping-pong and stream take at most 1.05 of bare");
    print_promise(out, results, KIND_BATCH,
                  "Promise: small batches over pipe, unix stream and TCP run at 5 times one call a message");
    print_promise(out, results, KIND_MODES, "Promises of shared memory (docs/performance.md)");
}
