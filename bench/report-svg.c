/* SPDX-License-Identifier: MIT */
/*
 * The picture: for each size of ping-pong the round trip against the percentile (both axes logarithmic
 * towards the tail, where the trouble is), for each size of the others the rates as bars. The ground is
 * transparent and the inks are of middle brightness, so that it can lie on a light page or a dark one.
 */
#include "bench/report.h"

#include <string.h>

#include "cli/quantity.h"
#include "naru/mechanism.h"

enum { WIDTH = 960, MARGIN = 24, PLOT_HEIGHT = 300, BAR = 13, GAP = 2, LEGEND = 290, NAMES = 130 };

/* Ten inks that stay apart for colour-blind readers on both grounds (after Tableau 10, brightened). */
static const char *const inks[] = {"#4e8ac8", "#e8852e", "#45a35a", "#d6545a", "#9a78c6",
                                   "#a8785f", "#dd79b5", "#8c8c8c", "#b5a92c", "#2fb0bf"};

/* log10 without libm, which naru does not link: the exponent, and a series for the mantissa. */
static double log10_of(double x)
{
    double result = 0, y, power, sum = 0;

    if (x <= 0)
        return -300;
    for (; x >= 10; x /= 10)
        result++;
    for (; x < 1; x *= 10)
        result--;
    for (int i = 0; i < 3 && x > 2; i++, x /= 2)
        result += 0.30102999566398119521; /* log10(2) */
    y = (x - 1) / (x + 1);                /* ln x = 2 (y + y^3/3 + y^5/5 ...), |y| <= 1/3 */
    power = y;
    for (int i = 1; i < 40; i += 2, power *= y * y)
        sum += power / i;
    return result + 2 * sum * 0.43429448190325182765; /* 1 / ln(10) */
}

/* First, and one past the last, of the cells that share pattern and size with cells[from]. */
static size_t group_end(const struct results *results, size_t from)
{
    const struct load *load = &results->cells[from].load;
    size_t end = from;

    while (end < results->count && results->cells[end].load.pattern == load->pattern &&
           results->cells[end].load.size == load->size)
        end++;
    return end;
}

static bool has_figures(const struct cell *cell)
{
    for (int j = 0; j < CANDIDATES; j++)
        if (cell->by[j].median.done)
            return true;
    return false;
}

static size_t count_figures(const struct results *results, size_t from, size_t end)
{
    size_t n = 0;

    for (size_t i = from; i < end; i++)
        n += has_figures(&results->cells[i]);
    return n;
}

/* Of a cell's bars, with some air. */
static int bars_height(const struct cell *cell)
{
    int height = 10;

    for (int j = 0; j < CANDIDATES; j++)
        height += cell->by[j].exists ? BAR + GAP : 0;
    return height;
}

static int group_height(const struct results *results, size_t from, size_t end)
{
    int n = (int)count_figures(results, from, end), height = 56 + 16;

    if (n == 0)
        return 0;
    if (results->cells[from].load.pattern == PATTERN_PINGPONG)
        return 56 + (PLOT_HEIGHT > n * 20 ? PLOT_HEIGHT : n * 20) + 40;
    for (size_t i = from; i < end; i++)
        height += has_figures(&results->cells[i]) ? bars_height(&results->cells[i]) : 0;
    return height;
}

/* --- ping-pong: percentile plot --- */

struct axes {
    double left, right, top, bottom; /* of the plot, in the picture's units */
    double low, high;                /* log10 of ns */
    double nines;                    /* the right end: 2 is 99 % */
};

static double plot_x(const struct axes *a, double nines)
{
    return a->left + (a->right - a->left) * nines / a->nines;
}

static double plot_y(const struct axes *a, double ns)
{
    return a->bottom - (a->bottom - a->top) * (log10_of(ns) - a->low) / (a->high - a->low);
}

/* The range of the values from the median to the 99.9th percentile, with some air. */
static struct axes make_axes(const struct results *results, size_t from, size_t end, double top)
{
    struct axes a = {.left = MARGIN + 64,
                     .right = WIDTH - LEGEND - 24,
                     .top = top,
                     .bottom = top + PLOT_HEIGHT,
                     .low = 300,
                     .high = -300,
                     .nines = 3};

    for (size_t i = from; i < end; i++)
        for (int j = 0; j < CANDIDATES; j++) {
            const struct measurement *m = &results->cells[i].by[j];
            double low, high;

            if (!m->median.done)
                continue;
            low = log10_of((double)histogram_quantile(m->all, 0.02));
            high = log10_of((double)histogram_quantile(m->all, 0.999));
            a.low = low < a.low ? low : a.low;
            a.high = high > a.high ? high : a.high;
        }
    a.low -= 0.05;
    a.high += 0.05;
    if (a.high - a.low < 0.3)
        a.high = a.low + 0.3;
    return a;
}

static void print_grid(FILE *out, const struct axes *a)
{
    static const struct {
        double nines;
        const char *label;
    } ticks[] = {{0.30103, "50 %"}, {1, "90 %"}, {2, "99 %"}, {3, "99.9 %"}};
    static const int steps[] = {1, 2, 5};
    char label[QUANTITY_SIZE];

    for (size_t i = 0; i < sizeof ticks / sizeof *ticks; i++)
        (void)fprintf(out,
                      "<path class='grid' d='M%.1f %.1fV%.1f'/><text x='%.1f' y='%.1f' "
                      "text-anchor='middle'>%s</text>\n",
                      plot_x(a, ticks[i].nines), a->top, a->bottom, plot_x(a, ticks[i].nines), a->bottom + 18,
                      ticks[i].label);
    for (double decade = 1; decade < 1e12; decade *= 10)
        for (int i = 0; i < 3; i++) {
            double ns = decade * steps[i], y;

            if (log10_of(ns) < a->low || log10_of(ns) > a->high)
                continue;
            y = plot_y(a, ns);
            (void)fprintf(out,
                          "<path class='grid' d='M%.1f %.1fH%.1f'/><text x='%.1f' y='%.1f' "
                          "text-anchor='end'>%s</text>\n",
                          a->left, y, a->right, a->left - 8, y + 4, format_duration(ns, label));
        }
}

static void print_line(FILE *out, const struct axes *a, const struct measurement *m, const char *ink,
                       bool dashed)
{
    bool first = true;

    (void)fprintf(out, "<path fill='none' stroke='%s' stroke-width='%s'%s d='", ink, dashed ? "1.4" : "2.2",
                  dashed ? " stroke-dasharray='5 4'" : "");
    for (double nines = 0; nines <= a->nines + 1e-9; nines += 0.05, first = false) {
        double rest = 1, y;

        for (double left = nines; left > 1e-9; left -= 0.05)
            rest *= 0.89125093813374552995; /* 10^-0.05 */
        y = plot_y(a, (double)histogram_quantile(m->all, 1 - rest));
        y = y < a->top ? a->top : y > a->bottom ? a->bottom : y;
        (void)fprintf(out, "%s%.1f %.1f", first ? "M" : "L", plot_x(a, nines), y);
    }
    (void)fputs("'/>\n", out);
}

static void print_legend(FILE *out, double x, double y, const struct cell *cell, const char *ink)
{
    char text[CANDIDATES][QUANTITY_SIZE], name[BENCH_NAME];

    for (int j = 0; j < CANDIDATES; j++) {
        if (cell->by[j].median.done)
            (void)format_duration(cell->load.fast ? cell->by[j].median.ns
                                                  : (double)histogram_quantile(cell->by[j].all, 0.5),
                                  text[j]);
        else
            (void)snprintf(text[j], QUANTITY_SIZE, "-");
    }
    (void)fprintf(out,
                  "<path stroke='%s' stroke-width='3' d='M%.1f %.1fh18'/><text x='%.1f' y='%.1f'>%s</text>"
                  "<text class='strong' x='%.1f' y='%.1f' text-anchor='end'>%s</text>"
                  "<text x='%.1f' y='%.1f' text-anchor='end'>%s</text>\n",
                  ink, x, y - 4, x + 26, y, bench_name(cell, name), x + 190, y, text[CANDIDATE_NARU], x + 254,
                  y, text[CANDIDATE_BARE]);
}

static void print_percentiles(FILE *out, const struct results *results, size_t from, size_t end, double top)
{
    struct axes a = make_axes(results, from, end, top + 40);
    double x = WIDTH - LEGEND, y = top + 64;
    size_t ink = 0;

    print_grid(out, &a);
    (void)fprintf(out,
                  "<text x='%.1f' y='%.1f' text-anchor='middle'>percentile of round trips</text>\n"
                  "<text class='strong' x='%.1f' y='%.1f' text-anchor='end'>naru</text>"
                  "<text x='%.1f' y='%.1f' text-anchor='end'>bare</text>"
                  "<text x='%.1f' y='%.1f'>median</text>\n",
                  (a.left + a.right) / 2, a.bottom + 38, x + 190, y - 20, x + 254, y - 20, x + 26, y - 20);
    for (size_t i = from; i < end; i++) {
        const struct cell *cell = &results->cells[i];

        if (!has_figures(cell))
            continue;
        for (int j = CANDIDATES - 1; j >= 0; j--)
            if (cell->by[j].median.done)
                print_line(out, &a, &cell->by[j], inks[ink % 10], j != CANDIDATE_NARU);
        print_legend(out, x, y, cell, inks[ink % 10]);
        y += 20;
        ink++;
    }
}

/* --- stream and batch: bars --- */

static double largest_rate(const struct results *results, size_t from, size_t end)
{
    double largest = 1;

    for (size_t i = from; i < end; i++)
        for (int j = 0; j < CANDIDATES; j++)
            if (results->cells[i].by[j].median.rate > largest)
                largest = results->cells[i].by[j].median.rate;
    return largest;
}

static void print_bar(FILE *out, double y, double share, const struct cell *cell, int which, const char *ink)
{
    const struct round *median = &cell->by[which].median;
    double left = MARGIN + NAMES, width = share * (WIDTH - LEGEND + 40 - left);
    char rate[QUANTITY_SIZE];

    if (!median->done)
        return;
    (void)fprintf(out,
                  "<rect x='%.1f' y='%.1f' width='%.1f' height='%d' rx='2' fill='%s'%s/>"
                  "<text class='%s' x='%.1f' y='%.1f'>%s/s, %.0f MB/s%s%s</text>\n",
                  left, y, width < 1 ? 1 : width, BAR, ink,
                  which == CANDIDATE_NARU ? "" : " fill-opacity='0.4'",
                  which == CANDIDATE_NARU ? "strong" : "plain", left + width + 8, y + BAR - 2,
                  format_count(median->rate, rate), bench_megabytes(&cell->by[which], median),
                  which == CANDIDATE_NARU ? "" : ", ", which == CANDIDATE_NARU ? "" : cell->by[which].name);
}

static void print_bars(FILE *out, const struct results *results, size_t from, size_t end, double top)
{
    double largest = largest_rate(results, from, end), y = top + 44;
    char name[BENCH_NAME];
    size_t ink = 0;

    for (size_t i = from; i < end; i++) {
        const struct cell *cell = &results->cells[i];
        const struct ratio *ratio = &cell->by[CANDIDATE_BARE].ratio;

        if (!has_figures(cell))
            continue;
        (void)fprintf(out, "<text x='%d' y='%.1f' text-anchor='end'>%s</text>\n", MARGIN + NAMES - 10,
                      y + BAR + 6, bench_name(cell, name));
        for (int j = 0; j < CANDIDATES; j++)
            print_bar(out, y + j * (BAR + GAP), cell->by[j].median.rate / largest, cell, j, inks[ink % 10]);
        if (ratio->median > 0)
            (void)fprintf(out, "<text class='strong' x='%d' y='%.1f' text-anchor='end'>%.2f</text>\n",
                          WIDTH - MARGIN, y + BAR + 6, ratio->median);
        y += bars_height(cell);
        ink++;
    }
    (void)fprintf(out, "<text x='%d' y='%.1f' text-anchor='end'>naru / bare, %s</text>\n", WIDTH - MARGIN,
                  top + 30, results->cells[from].load.pattern == PATTERN_BATCH ? "rate" : "time");
}

static int total_height(const struct results *results)
{
    int height = 76;

    for (size_t from = 0; from < results->count; from = group_end(results, from))
        height += group_height(results, from, group_end(results, from));
    return height + 16;
}

static void print_escaped(FILE *out, const char *text)
{
    for (; *text; text++) {
        if (*text == '&')
            (void)fputs("&amp;", out);
        else if (*text == '<')
            (void)fputs("&lt;", out);
        else
            (void)fputc(*text, out);
    }
}

void bench_print_svg(FILE *out, const struct results *results, const struct environment *e)
{
    int height = total_height(results);
    double top = 76;

    (void)fprintf(
        out,
        "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 %d %d' width='%d' height='%d'>\n"
        "<style>text{font:13px system-ui,'DejaVu Sans',sans-serif;fill:#7a828c}"
        ".strong{font-weight:600;fill:#6a727c}.title{font-size:17px;font-weight:600}"
        ".grid{stroke:#7a828c;stroke-opacity:.28;fill:none}"
        "@media(prefers-color-scheme:light){text{fill:#57606a}.strong,.title{fill:#24292f}}"
        "@media(prefers-color-scheme:dark){text{fill:#9aa4af}.strong,.title{fill:#d6dde5}}</style>\n"
        "<text class='title' x='%d' y='32'>naru and bare system calls</text>\n"
        "<text x='%d' y='54'>",
        WIDTH, height, WIDTH, height, MARGIN, MARGIN);
    print_escaped(out, e->kernel);
    (void)fputs(", ", out);
    print_escaped(out, e->cpu);
    (void)fprintf(out, ", %d CPUs, %s; %d rounds; solid: naru, dashed or pale: bare</text>\n", e->cpus,
                  e->time, results->rounds_done);
    for (size_t from = 0; from < results->count;) {
        size_t end = group_end(results, from);
        const struct cell *cell = &results->cells[from];
        char title[BENCH_TITLE];

        if (count_figures(results, from, end)) {
            (void)fprintf(out, "<text class='title' x='%d' y='%.1f'>%s</text>\n", MARGIN, top + 28,
                          bench_title(cell, title));
            if (cell->load.pattern == PATTERN_PINGPONG)
                print_percentiles(out, results, from, end, top);
            else
                print_bars(out, results, from, end, top);
        }
        top += group_height(results, from, end);
        from = end;
    }
    (void)fputs("</svg>\n", out);
}
