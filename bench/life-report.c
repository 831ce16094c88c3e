/* SPDX-License-Identifier: MIT */
/* The figures for people and as JSON (times in ns, memory in bytes, CPU in percent of one). */
#include <stdio.h>

#include "bench/life-ends.h"
#include "bench/life.h"
#include "cli/json.h"
#include "cli/quantity.h"
#include "cli/term.h"

enum { TEXT = QUANTITY_SIZE + 8 };

/* A difference may be negative. */
static const char *format(enum life_unit unit, double value, char storage[TEXT])
{
    char quantity[QUANTITY_SIZE];
    double size = value < 0 ? -value : value;
    const char *sign = value < 0 ? "-" : "";

    if (unit == LIFE_PERCENT)
        (void)snprintf(storage, TEXT, "%.3f %%", value);
    else
        (void)snprintf(storage, TEXT, "%s%s", sign,
                       unit == LIFE_NS ? format_duration(size, quantity) : format_size(size, quantity));
    return storage;
}

static void print_spread(FILE *out, enum life_unit unit, const char *name, const struct ratio *spread)
{
    char median[TEXT], low[TEXT], high[TEXT];

    (void)fprintf(out, "  %-12s %12s  (%s to %s)\n", name, format(unit, spread->median, median),
                  format(unit, spread->low, low), format(unit, spread->high, high));
}

static void print_promise(FILE *out, const struct life_results *results, int which)
{
    static const char *const words[] = {"not measured", "kept", "missed"};
    const struct life_figure *figure = &life_figures[which];
    enum promise promise = life_promise(results, which);
    char limit[TEXT];

    (void)fprintf(out, "  promised     %12s  less than that%s: %s%s%s\n",
                  format(figure->unit, figure->limit, limit),
                  figure->of_difference ? " more than the bare socket" : "",
                  term_style(out, promise == PROMISE_KEPT     ? STYLE_GOOD
                                  : promise == PROMISE_MISSED ? STYLE_NOTE
                                                              : STYLE_PLAIN),
                  words[promise], term_style(out, STYLE_PLAIN));
}

void life_print_text(FILE *out, const struct plan *plan, const struct life_results *results,
                     const struct environment *e)
{
    bench_print_where(out, plan, results->rounds_done, e);
    for (int which = 0; which < LIFE_FIGURES; which++) {
        const struct life_figure *figure = &life_figures[which];

        (void)fprintf(out, "\n%s%s%s: %s\n", term_style(out, STYLE_BOLD), figure->name,
                      term_style(out, STYLE_PLAIN), figure->what);
        for (int way = 0; way < LIFE_WAYS; way++) {
            const struct life_measurement *m = &results->by[which][way];

            if (m->why[0])
                (void)fprintf(out, "  %-12s %s\n", life_ways[way].name, m->why);
            else if (way == LIFE_NARU || figure->bare)
                print_spread(out, figure->unit, life_ways[way].name, &m->all);
        }
        if (results->ratio[which].median > 0) {
            print_spread(out, figure->unit, "difference", &results->difference[which]);
            (void)fprintf(out, "  ratio        %12.2f  (%.2f to %.2f)\n", results->ratio[which].median,
                          results->ratio[which].low, results->ratio[which].high);
        }
        print_promise(out, results, which);
    }
    (void)fputs("\nMedians of the rounds, and their quartiles; differences and ratios within a round.\n"
                "unix: a bare stream socket that does the same.\n",
                out);
}

static void spread_json(struct json *j, const char *key, const struct ratio *spread)
{
    if (key)
        json_object(j, key);
    json_real(j, "median", spread->median);
    json_real(j, "low_quartile", spread->low);
    json_real(j, "high_quartile", spread->high);
    if (key)
        json_end(j);
}

static void measurement_json(struct json *j, const char *key, const struct life_measurement *m, int rounds)
{
    json_object(j, key);
    if (m->why[0]) {
        json_text(j, "reason", m->why);
    } else {
        spread_json(j, NULL, &m->all);
        json_array(j, "rounds");
        for (int i = 0; i < rounds; i++)
            json_real(j, NULL, m->values[i]);
        json_end(j);
    }
    json_end(j);
}

static void figure_json(struct json *j, const struct life_results *results, int which)
{
    static const char *const units[] = {"ns", "bytes", "percent"};
    const struct life_figure *figure = &life_figures[which];
    enum promise promise = life_promise(results, which);

    json_object(j, NULL);
    json_text(j, "figure", figure->name);
    json_text(j, "what", figure->what);
    json_text(j, "unit", units[figure->unit]);
    for (int way = 0; way < LIFE_WAYS; way++)
        if (way == LIFE_NARU || figure->bare)
            measurement_json(j, life_ways[way].name, &results->by[which][way], results->rounds_done);
    if (results->ratio[which].median > 0) {
        spread_json(j, "difference", &results->difference[which]);
        spread_json(j, "ratio", &results->ratio[which]);
    }
    json_object(j, "promise");
    json_text(j, "of", figure->of_difference ? "difference" : "naru");
    json_real(j, "less_than", figure->limit);
    if (promise != PROMISE_NONE)
        json_bool(j, "kept", promise == PROMISE_KEPT);
    json_end(j);
    json_end(j);
}

void life_print_json(FILE *out, const struct plan *plan, const struct life_results *results,
                     const struct environment *e)
{
    struct json j = json_begin(out, JSON_INDENTED);

    json_object(&j, NULL);
    bench_environment_json(&j, e);
    json_object(&j, "settings");
    json_int(&j, "rounds", plan->rounds);
    json_int(&j, "rounds_done", results->rounds_done);
    json_text(&j, "pin", pin_names[plan->pin]);
    json_end(&j);
    json_array(&j, "results");
    for (int which = 0; which < LIFE_FIGURES; which++)
        figure_json(&j, results, which);
    json_end(&j);
    json_end(&j);
}
