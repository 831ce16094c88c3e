/* SPDX-License-Identifier: MIT */
#include "cli/wrapped-table.h"

#include <limits.h>
#include <stdbool.h>
#include <string.h>

#include "cli/term.h"

enum { GAP = 2 };

static const char *cell(const struct wrapped_table *t, size_t row, int column)
{
    const char *text = t->cells[row * (size_t)t->columns + (size_t)column];

    return text ? text : "";
}

static int longest_word(const char *text)
{
    int longest = 0;

    while (*text) {
        int length = (int)strcspn(text, " ");

        longest = length > longest ? length : longest;
        text += length;
        text += strspn(text, " ");
    }
    return longest;
}

/* What each column would like, and what it needs at least. */
static void measure(const struct wrapped_table *t, int natural[], int least[])
{
    for (int c = 0; c < t->columns; c++) {
        natural[c] = (int)strlen(t->titles[c]);
        least[c] = longest_word(t->titles[c]);
        for (size_t r = 0; r < t->rows; r++) {
            int length = (int)strlen(cell(t, r, c)), word = longest_word(cell(t, r, c));

            natural[c] = length > natural[c] ? length : natural[c];
            least[c] = word > least[c] ? word : least[c];
        }
    }
    least[0] = natural[0];
}

/* How many bytes of text go on a line of that width; *ret_next: where the rest begins. */
static int line_length(const char *text, int width, int *ret_next)
{
    int length = (int)strlen(text), end;

    if (length > width) {
        end = width;
        while (end > 0 && text[end] != ' ')
            end--;
        if (end == 0)
            end = (int)strcspn(text, " ");
        length = end;
    }
    *ret_next = length + (int)strspn(text + length, " ");
    return length;
}

/* How many lines the text takes in a column of that width. */
static int line_count(const char *text, int width)
{
    int lines = 0, next;

    do {
        (void)line_length(text, width, &next);
        text += next;
        lines++;
    } while (*text);
    return lines;
}

/* Lines of the whole table, and in *ret_cells those of all cells: of two tables equally long, the one with
 * less in it reads better. */
static long table_height(const struct wrapped_table *t, const int widths[], long *ret_cells)
{
    long height = 0;

    *ret_cells = 0;
    for (size_t r = 0; r < t->rows; r++) {
        int tallest = 1;

        for (int c = 0; c < t->columns; c++) {
            int lines = line_count(cell(t, r, c), widths[c]);

            tallest = lines > tallest ? lines : tallest;
            *ret_cells += lines;
        }
        height += tallest;
    }
    return height;
}

/* Takes what is too much from the columns, one place at a time, from that which makes the table the least
 * longer by it. */
static void fit(const struct wrapped_table *t, int width, int widths[])
{
    int least[WRAPPED_COLUMNS_MAX], total = GAP * (t->columns - 1);

    measure(t, widths, least);
    for (int c = 0; c < t->columns; c++)
        total += widths[c];
    for (; total > width; total--) {
        long best_height = LONG_MAX, best_cells = LONG_MAX;
        int best = -1;

        for (int c = 1; c < t->columns; c++) {
            long height, cells;

            if (widths[c] <= least[c])
                continue;
            widths[c]--;
            height = table_height(t, widths, &cells);
            widths[c]++;
            if (height < best_height || (height == best_height && cells < best_cells) ||
                (height == best_height && cells == best_cells && widths[c] > widths[best])) {
                best = c;
                best_height = height;
                best_cells = cells;
            }
        }
        if (best < 0)
            return;
        widths[best]--;
    }
}

static void print_row(FILE *out, const char *texts[], int columns, const int widths[], enum style first)
{
    for (bool more = true, again = false; more; again = true) {
        int owed = 0;

        more = false;
        for (int c = 0; c < columns; c++) {
            int next, length = line_length(texts[c], widths[c], &next);
            if (length > 0) {
                (void)fprintf(out, "%*s", owed, "");
                owed = 0;
            }
            (void)fprintf(out, "%s%.*s%s", c == 0 && !again ? term_style(out, first) : "", length, texts[c],
                          c == 0 && !again ? term_style(out, STYLE_PLAIN) : "");
            owed += widths[c] - length + GAP; /* printed only if something follows on this line */
            texts[c] += next;
            more = more || *texts[c];
        }
        (void)fputc('\n', out);
    }
}

void wrapped_table_print(FILE *out, const struct wrapped_table *t, int width)
{
    const char *texts[WRAPPED_COLUMNS_MAX];
    int widths[WRAPPED_COLUMNS_MAX] = {0};

    fit(t, width, widths);
    for (int c = 0; c < t->columns; c++)
        texts[c] = t->titles[c];
    (void)fputs(term_style(out, STYLE_DIM), out);
    print_row(out, texts, t->columns, widths, STYLE_DIM);
    (void)fputs(term_style(out, STYLE_PLAIN), out);
    for (size_t r = 0; r < t->rows; r++) {
        for (int c = 0; c < t->columns; c++)
            texts[c] = cell(t, r, c);
        print_row(out, texts, t->columns, widths, STYLE_BOLD);
    }
}

void wrapped_text_print(FILE *out, const char *text, int indent, int width)
{
    while (*text) {
        int next, length = line_length(text, width > indent ? width - indent : 1, &next);

        (void)fprintf(out, "%*s%.*s\n", indent, "", length, text);
        text += next;
    }
}
