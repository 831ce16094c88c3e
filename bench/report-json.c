/* SPDX-License-Identifier: MIT */
/* The results with every round, as JSON (durations in ns, sizes in bytes), and as CSV with the medians. */
#include "bench/report.h"

#include "cli/json.h"
#include "naru/mechanism.h"

void bench_environment_json(struct json *j, const struct environment *e)
{
    json_object(j, "environment");
    json_text(j, "time", e->time);
    json_text(j, "kernel", e->kernel);
    json_text(j, "cpu", e->cpu);
    json_int(j, "cpus", e->cpus);
    json_text(j, "hypervisor", e->hypervisor);
    json_text(j, "clocksource", e->clocksource);
    json_real(j, "load", e->load);
    json_text(j, "libc", e->libc);
    json_text(j, "compiler", e->compiler);
    json_text(j, "build", e->build);
    json_end(j);
}

static void settings_json(struct json *j, const struct results *results)
{
    json_object(j, "settings");
    json_int(j, "rounds", results->plan->rounds);
    json_int(j, "rounds_done", results->rounds_done);
    json_int(j, "duration_ns", results->plan->duration_ns);
    json_uint(j, "max_messages", results->plan->max_messages);
    json_text(j, "pin", pin_names[results->plan->pin]);
    json_bool(j, "plain", results->plan->plain);
    json_end(j);
}

static void latency_json(struct json *j, const struct histogram *h)
{
    json_object(j, "latency_ns");
    json_uint(j, "count", h->count);
    json_uint(j, "min", h->minimum);
    json_real(j, "mean", histogram_mean(h));
    json_uint(j, "p50", histogram_quantile(h, 0.5));
    json_uint(j, "p90", histogram_quantile(h, 0.9));
    json_uint(j, "p99", histogram_quantile(h, 0.99));
    json_uint(j, "p99_9", histogram_quantile(h, 0.999));
    json_uint(j, "max", h->maximum);
    json_end(j);
}

static void round_json(struct json *j, const char *key, const struct measurement *m,
                       const struct round *round)
{
    json_object(j, key);
    json_real(j, "ns", round->ns);
    json_real(j, "messages_per_second", round->rate);
    json_real(j, "megabytes_per_second", bench_megabytes(m, round));
    json_real(j, "cpu_ns", round->cpu_ns);
    json_real(j, "sleeps", round->switches);
    json_end(j);
}

/* naru's over this one's, if it does not say otherwise. */
static void ratio_json(struct json *j, const struct cell *cell, const struct ratio *ratio)
{
    json_object(j, "ratio");
    json_text(j, "of",
              cell->load.pattern == PATTERN_BATCH ? "rate"
              : cell->comparison->times           ? "its time per message, over naru's"
                                                  : "time per message");
    json_real(j, "median", ratio->median);
    json_real(j, "low_quartile", ratio->low);
    json_real(j, "high_quartile", ratio->high);
    json_end(j);
}

static void measurement_json(struct json *j, const char *key, const struct cell *cell,
                             const struct measurement *m, int rounds)
{
    if (!m->exists)
        return;
    json_object(j, key);
    if (m->carrier.about)
        json_text(j, "about", m->carrier.about);
    if (m->size != cell->load.size)
        json_uint(j, "size", m->size);
    if (m->median.done) {
        round_json(j, "median", m, &m->median);
        latency_json(j, m->all);
        json_array(j, "rounds");
        for (int i = 0; i < rounds; i++)
            if (m->rounds[i].done)
                round_json(j, NULL, m, &m->rounds[i]);
        json_end(j);
    }
    if (m->ratio.median > 0)
        ratio_json(j, cell, &m->ratio);
    if (m->why[0])
        json_text(j, "reason", m->why);
    json_end(j);
}

static void cell_json(struct json *j, const struct cell *cell, int rounds)
{
    const struct ratio *first = &cell->by[CANDIDATE_BARE].ratio;

    json_object(j, NULL);
    json_text(j, "mechanism", cell->row->name);
    if (cell->comparison->mode)
        json_text(j, "mode", cell->comparison->mode);
    json_text(j, "pattern", pattern_names[cell->load.pattern]);
    json_uint(j, "size", cell->load.size);
    if (first->median > 0)
        ratio_json(j, cell, first); /* to the first, which is often the only one */
    for (int i = 0; i < CANDIDATES; i++)
        measurement_json(j, cell->by[i].name, cell, &cell->by[i], rounds);
    json_end(j);
}

void bench_print_json(FILE *out, const struct results *results, const struct environment *e)
{
    struct json j = json_begin(out, JSON_INDENTED);

    json_object(&j, NULL);
    bench_environment_json(&j, e);
    settings_json(&j, results);
    json_array(&j, "results");
    for (size_t i = 0; i < results->count; i++)
        cell_json(&j, &results->cells[i], results->rounds_done);
    json_end(&j);
    json_end(&j);
}

/* RFC 4180: quotes doubled. */
static void quoted(FILE *out, const char *text)
{
    (void)fputc('"', out);
    for (; *text; text++) {
        if (*text == '"')
            (void)fputc('"', out);
        (void)fputc(*text, out);
    }
    (void)fputc('"', out);
}

static void measurement_csv(FILE *out, const struct cell *cell, const struct measurement *m)
{
    const struct round *median = &m->median;
    /* naru's line holds the ratio to the first, which is often the only one */
    const struct ratio *ratio = m == cell->by ? &cell->by[CANDIDATE_BARE].ratio : &m->ratio;

    if (!m->exists)
        return;
    (void)fprintf(out, "%s,%s,%s,%zu,%s,", cell->row->name,
                  cell->comparison->mode ? cell->comparison->mode : "", pattern_names[cell->load.pattern],
                  m->size, m->name);
    if (median->done)
        (void)fprintf(out, "%.1f,%.1f,%.3f,%.1f,%.3f,%llu,%llu,%llu,%llu,", median->ns, median->rate,
                      bench_megabytes(m, median), median->cpu_ns, median->switches,
                      (unsigned long long)histogram_quantile(m->all, 0.5),
                      (unsigned long long)histogram_quantile(m->all, 0.99),
                      (unsigned long long)histogram_quantile(m->all, 0.999),
                      (unsigned long long)m->all->maximum);
    else
        (void)fputs(",,,,,,,,,", out);
    if (ratio->median > 0)
        (void)fprintf(out, "%.4f,%.4f,%.4f,", ratio->median, ratio->low, ratio->high);
    else
        (void)fputs(",,,", out);
    quoted(out, m->why);
    (void)fputs("\r\n", out);
}

void bench_print_csv(FILE *out, const struct results *results)
{
    (void)fputs(
        "mechanism,mode,pattern,size,candidate,ns_per_message,messages_per_second,megabytes_per_second,"
        "cpu_ns_per_message,sleeps_per_message,latency_p50_ns,latency_p99_ns,latency_p99_9_ns,latency_max_ns,"
        "ratio,ratio_low_quartile,ratio_high_quartile,reason\r\n",
        out);
    for (size_t i = 0; i < results->count; i++)
        for (int j = 0; j < CANDIDATES; j++)
            measurement_csv(out, &results->cells[i], &results->cells[i].by[j]);
}
