/* SPDX-License-Identifier: MIT */
#include "cli/table.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cli/escape.h"
#include "cli/json.h"
#include "cli/term.h"

void table_init(struct table *t, size_t columns, const char *const *headings)
{
    *t = (struct table){.columns = columns};
    memcpy(t->headings, headings, columns * sizeof *headings);
}

static void free_row(char **row, size_t columns)
{
    for (size_t i = 0; row && i < columns; i++)
        free(row[i]);
    free(row);
}

void table_deinit(struct table *t)
{
    for (size_t i = 0; i < t->row_count; i++)
        free_row(t->rows[i], t->columns);
    free(t->rows);
    *t = (struct table){0};
}

/* A copy; names come from whoever made the object. */
static char *shown(const char *text)
{
    size_t size = strlen(text) * ESCAPE_GROWTH + 1;
    char *copy = malloc(size);

    if (copy)
        escape_text(text, copy, size);
    return copy;
}

int table_add(struct table *t, const char *const *cells)
{
    char **row;

    if (t->row_count == t->capacity) {
        size_t capacity = t->capacity ? t->capacity * 2 : 16;
        char ***rows = reallocarray(t->rows, capacity, sizeof *rows);

        if (!rows)
            return -ENOMEM;
        t->rows = rows;
        t->capacity = capacity;
    }
    row = calloc(t->columns, sizeof *row);
    for (size_t i = 0; row && i < t->columns; i++) {
        row[i] = shown(cells[i] ? cells[i] : "-");
        if (!row[i]) {
            free_row(row, t->columns);
            row = NULL;
        }
    }
    if (!row)
        return -ENOMEM;
    t->rows[t->row_count++] = row;
    return 0;
}

size_t text_width(const char *text)
{
    size_t width = 0, left = strlen(text);

    while (left > 0) {
        const unsigned char *p = (const unsigned char *)text;
        size_t n = utf8_length(p, left);

        /* The blocks of wide characters begin at U+1100 (Hangul Jamo), and nearly all three-byte sequences of
         * U+2E80 to U+FFDC that we print are wide (Unicode annex 11). */
        width += n == 3 && p[0] >= 0xe3 && p[0] <= 0xed ? 2 : 1;
        n = n ? n : 1;
        text += n;
        left -= n;
    }
    return width;
}

static void print_cell(FILE *out, const char *text, size_t width, char alignment, int last)
{
    size_t used = text_width(text), space = used < width ? width - used : 0;

    (void)fprintf(out, "%*s%s", alignment == '>' ? (int)space : 0, "", text);
    if (!last)
        (void)fprintf(out, "%*s", (alignment == '>' ? 0 : (int)space) + 2, "");
}

void table_print(const struct table *t, FILE *out)
{
    size_t widths[TABLE_COLUMNS_MAX];

    for (size_t c = 0; c < t->columns; c++) {
        widths[c] = text_width(t->headings[c] + 1);
        for (size_t r = 0; r < t->row_count; r++)
            if (text_width(t->rows[r][c]) > widths[c])
                widths[c] = text_width(t->rows[r][c]);
    }
    (void)fputs(term_style(out, STYLE_BOLD), out);
    for (size_t c = 0; c < t->columns; c++)
        print_cell(out, t->headings[c] + 1, widths[c], t->headings[c][0], c + 1 == t->columns);
    (void)fprintf(out, "%s\n", term_style(out, STYLE_PLAIN));
    for (size_t r = 0; r < t->row_count; r++) {
        for (size_t c = 0; c < t->columns; c++)
            print_cell(out, t->rows[r][c], widths[c], t->headings[c][0], c + 1 == t->columns);
        (void)fputc('\n', out);
    }
}
