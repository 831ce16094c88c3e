/* SPDX-License-Identifier: MIT */
/*
 * What the tour shows. The table of a textbook has thirteen columns and a terminal eighty places, so it is
 * printed as several: what was measured, line by line as it happens, and the texts, in as many tables as fit
 * side by side into the width.
 */
#include "cli/tour-print.h"

#include <stddef.h>
#include <string.h>

#include "cli/json.h"
#include "cli/quantity.h"
#include "cli/wrapped-table.h"
#include "cli/term.h"

enum { ROWS_MAX = 64 };

static const char *const outcome_names[] = {"whole",       "part",   "handed over",
                                            "unavailable", "failed", "interrupted"};

static double rate(const struct tour_result *r)
{
    return r->seconds > 0 ? (double)r->carried / r->seconds / 1e6 : 0;
}

void tour_print_heading(FILE *out)
{
    (void)fprintf(out, "%s%-18s %8s %8s %7s  %s%s\n", term_style(out, STYLE_DIM), "mechanism", "median",
                  "p99", "MB/s", "verified at the far end", term_style(out, STYLE_PLAIN));
}

static void print_duration(FILE *out, uint64_t ns)
{
    char text[QUANTITY_SIZE];

    (void)fprintf(out, " %8s", ns ? format_duration((double)ns, text) : "-");
}

static void print_verdict(FILE *out, const struct tour_file *file, const struct tour_result *r)
{
    char size[QUANTITY_SIZE];

    switch (r->outcome) {
    case TOUR_WHOLE:
        (void)fprintf(out, "%syes%s, %s", term_style(out, STYLE_GOOD), term_style(out, STYLE_PLAIN),
                      format_size((double)r->carried, size));
        if (r->carried > file->size)
            (void)fprintf(out, " in %llu copies", (unsigned long long)(r->carried / file->size));
        break;
    case TOUR_PART:
        (void)fprintf(out, "%syes%s, the first %s in %.0f s", term_style(out, STYLE_GOOD),
                      term_style(out, STYLE_PLAIN), format_size((double)r->carried, size), r->seconds);
        break;
    case TOUR_HANDED_OVER:
        (void)fputs("carries no data: hand-off time", out);
        break;
    case TOUR_UNAVAILABLE:
        (void)fprintf(out, "%snot allowed here%s", term_style(out, STYLE_NOTE), term_style(out, STYLE_PLAIN));
        break;
    case TOUR_FAILED:
    case TOUR_INTERRUPTED:
        (void)fprintf(out, "%s%s%s", term_style(out, STYLE_BAD), outcome_names[r->outcome],
                      term_style(out, STYLE_PLAIN));
        break;
    }
}

void tour_print_result(FILE *out, const struct tour_file *file, const char *name, const struct tour_result *r)
{
    (void)fprintf(out, "%s%-18s%s", term_style(out, STYLE_BOLD), name, term_style(out, STYLE_PLAIN));
    print_duration(out, r->p50);
    print_duration(out, r->p99);
    if (r->seconds > 0)
        (void)fprintf(out, " %7.*f  ", rate(r) < 10 ? 2 : 0, rate(r));
    else
        (void)fprintf(out, " %7s  ", "-");
    print_verdict(out, file, r);
    (void)fputc('\n', out);
    wrapped_text_print(out, r->note, 4, term_width(out));
    (void)fflush(out);
}

/* The textbook's columns. */
static const struct {
    const char *title;
    size_t offset;
} columns[] = {
    {"mechanism", offsetof(struct tour_row, name)},
    {"use it when", offsetof(struct tour_row, use_when)},
    {"direction", offsetof(struct tour_row, direction)},
    {"unit", offsetof(struct tour_row, unit)},
    {"scope", offsetof(struct tour_row, scope)},
    {"persistence", offsetof(struct tour_row, persistence)},
    {"medium", offsetof(struct tour_row, medium)},
    {"limit", offsetof(struct tour_row, limit)},
    {"how a waiter waits", offsetof(struct tour_row, wait)},
};
enum { COLUMNS = sizeof columns / sizeof *columns };

/* The mechanism's name and the columns [from, to). */
static void print_columns(FILE *out, int width, const struct tour_row *rows, size_t count, int from, int to)
{
    const char *titles[COLUMNS] = {columns[0].title}, *cells[ROWS_MAX * COLUMNS];
    struct wrapped_table table = {titles, to - from + 1, cells, count < ROWS_MAX ? count : ROWS_MAX};

    for (int c = from; c < to; c++)
        titles[c - from + 1] = columns[c].title;
    for (size_t r = 0; r < table.rows; r++)
        for (int c = from - 1; c < to; c++) {
            size_t offset = c < from ? columns[0].offset : columns[c].offset;

            cells[r * (size_t)table.columns + (size_t)(c - from + 1)] =
                *(const char *const *)(const void *)((const char *)&rows[r] + offset);
        }
    (void)fputc('\n', out);
    wrapped_table_print(out, &table, width);
}

void tour_print_textbook(FILE *out, int width, const struct tour_row *rows, size_t count)
{
    int tables = width < 110 ? 3 : width < 200 ? 2 : 1, from = 1;

    for (int i = tables; i > 0; i--) {
        int to = from + (COLUMNS - from + i - 1) / i;

        print_columns(out, width, rows, count, from, to);
        from = to;
    }
}

static void row_json(struct json *j, const struct tour_row *row)
{
    const struct tour_result *r = &row->result;

    json_object(j, NULL);
    json_text(j, "mechanism", row->name);
    json_text(j, "title", row->title);
    json_text(j, "use_when", row->use_when);
    json_text(j, "medium", row->medium);
    json_text(j, "direction", row->direction);
    json_text(j, "unit", row->unit);
    json_text(j, "scope", row->scope);
    json_text(j, "persistence", row->persistence);
    json_text(j, "limit", row->limit);
    json_text(j, "wait", row->wait);
    json_text(j, "outcome", outcome_names[r->outcome]);
    json_bool(j, "verified", r->outcome == TOUR_WHOLE || r->outcome == TOUR_PART);
    if (r->p50) {
        json_uint(j, row->synchronises ? "hand_off_p50_ns" : "round_trip_p50_ns", r->p50);
        json_uint(j, row->synchronises ? "hand_off_p99_ns" : "round_trip_p99_ns", r->p99);
    }
    if (r->seconds > 0) {
        json_uint(j, "carried_bytes", r->carried);
        json_real(j, "megabytes_per_second", rate(r));
    }
    if (r->note[0])
        json_text(j, "note", r->note);
    json_end(j);
}

void tour_print_json(FILE *out, const struct tour_file *file, const struct tour_row *rows, size_t count)
{
    struct json j = json_begin(out, JSON_INDENTED);
    struct environment e = environment_read();
    uint8_t digest[SHA256_SIZE];
    char text[SHA256_TEXT];
    struct sha256 hash;

    sha256_init(&hash);
    sha256_update(&hash, file->data, file->size);
    sha256_final(&hash, digest);
    json_object(&j, NULL);
    json_object(&j, "file");
    json_text(&j, "path", file->path);
    json_uint(&j, "bytes", file->size);
    json_bool(&j, "beginning_only", file->cut);
    json_text(&j, "sha256", sha256_text(digest, text));
    json_end(&j);
    json_object(&j, "environment");
    json_text(&j, "time", e.time);
    json_text(&j, "kernel", e.kernel);
    json_text(&j, "cpu", e.cpu);
    json_int(&j, "cpus", e.cpus);
    json_end(&j);
    json_array(&j, "rows");
    for (size_t i = 0; i < count; i++)
        row_json(&j, &rows[i]);
    json_end(&j);
    json_end(&j);
}
