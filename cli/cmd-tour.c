/* SPDX-License-Identifier: MIT */
/* naru tour [FILE]: the comparison table of an operating-systems textbook, measured on this machine. */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/arguments.h"
#include "cli/exit.h"
#include "cli/interrupt.h"
#include "cli/quantity.h"
#include "cli/report.h"
#include "cli/scratch.h"
#include "cli/term.h"
#include "cli/tour-extra.h"
#include "cli/tour.h"
#include "cli/verb.h"
#include "cli/wrapped-table.h"

enum { ROWS_MAX = 64 };

struct options {
    struct texts only;
    bool json;
};

/* Where this program lies, or, where /proc is not mounted, what was given to execve(2). */
static const char *own_path(char storage[PATH_MAX])
{
    ssize_t n = readlink("/proc/self/exe", storage, PATH_MAX - 1);

    if (n <= 0)
        return (const char *)getauxval(AT_EXECFN);
    storage[n] = '\0';
    return storage;
}

/* The library beside this program (a build) or in the lib beside its bin (an installation); else itself. */
static const char *default_file(char storage[PATH_MAX])
{
    static const char *const places[] = {"libnaru.so", "../lib/libnaru.so.0",
                                         "../lib/x86_64-linux-gnu/libnaru.so.0",
                                         "../lib/aarch64-linux-gnu/libnaru.so.0"};
    char own[PATH_MAX], directory[PATH_MAX];
    const char *self = own_path(own);

    (void)snprintf(directory, sizeof directory, "%s", self);
    (void)dirname(directory);
    for (size_t i = 0; i < sizeof places / sizeof *places; i++)
        if (snprintf(storage, PATH_MAX, "%s/%s", directory, places[i]) < PATH_MAX &&
            access(storage, R_OK) == 0)
            return storage;
    (void)snprintf(storage, PATH_MAX, "%s", self);
    return storage;
}

/* Reads up to TOUR_FILE_MAX bytes into memory that both processes will have. */
static int read_all(int fd, struct tour_file *file)
{
    while (file->size < TOUR_FILE_MAX) {
        ssize_t n = read(fd, file->data + file->size, TOUR_FILE_MAX - file->size);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return report_errno(errno, "%s", file->path);
        if (n == 0)
            break;
        file->size += (size_t)n;
    }
    return NARU_EXIT_OK;
}

static int load_file(const char *path, struct tour_file *file)
{
    struct stat status;
    int fd = open(path, O_RDONLY | O_CLOEXEC), code;

    if (fd < 0)
        return report_errno(errno, "%s", path);
    *file = (struct tour_file){.path = path, .data = malloc(TOUR_FILE_MAX + TOUR_CHUNK)};
    code = file->data ? read_all(fd, file) : report(NARU_EXIT_FAILED, "out of memory");
    if (code == NARU_EXIT_OK && file->size == 0)
        code = report(NARU_EXIT_FAILED, "%s is empty: there is nothing to carry", path);
    for (size_t i = 0; code == NARU_EXIT_OK && i < TOUR_CHUNK; i++)
        file->data[file->size + i] = file->data[i];
    if (fstat(fd, &status) == 0 && status.st_size > TOUR_FILE_MAX)
        file->cut = true;
    (void)close(fd);
    return code;
}

static void print_introduction(struct tour *tour)
{
    struct environment e = environment_read();
    char size[QUANTITY_SIZE], text[SHA256_TEXT], where[2 * ENVIRONMENT_TEXT + 2];

    (void)snprintf(where, sizeof where, "%s, %s", e.kernel, e.cpu);

    (void)printf("Two processes carry %s%s (%s)\n", tour->file.cut ? "the beginning of " : "",
                 tour->file.path, format_size((double)tour->file.size, size));
    (void)printf("through every mechanism that naru has; the far one hashes what arrives.\n");
    (void)printf("sha256 %s\n%.70s, %d CPU%s\n\n", sha256_text(tour_digest(tour, tour->file.size), text),
                 where, e.cpus, e.cpus == 1 ? "" : "s");
    tour_print_heading(stdout);
    (void)fflush(stdout);
}

static void print_conclusion(const struct tour_row *rows, size_t count)
{
    static const char *const remarks[] = {
        "median and p99: the round trip of a small message, or the hand-off of a lock; who waits sleeps, and "
        "each process has a CPU of its own if there are two. MB/s: the file in messages of up to 64 KiB, "
        "from "
        "the first send to the last receive.",
        "`naru bench` holds naru against bare system calls; `naru help` lists all that it can do. Run it as",
    };
    int width = term_width(stdout);
    char own[PATH_MAX];

    tour_print_textbook(stdout, width, rows, count);
    for (size_t i = 0; i < sizeof remarks / sizeof *remarks; i++) {
        (void)putchar('\n');
        wrapped_text_print(stdout, remarks[i], 0, width < 100 ? width : 100);
    }
    (void)printf("  %s\nor install it with `./dev install`.\n", own_path(own));
}

static struct tour_row row_of(const struct naru_mechanism *m)
{
    return (struct tour_row){.name = m->name,
                             .title = m->title,
                             .use_when = m->use_when,
                             .medium = m->medium,
                             .direction = m->direction,
                             .unit = m->unit,
                             .scope = m->scope,
                             .persistence = m->persistence,
                             .limit = m->limit,
                             .wait = m->wait};
}

static bool is_wanted(const struct options *o, const char *name)
{
    for (size_t i = 0; i < o->only.count; i++)
        if (strcmp(o->only.items[i], name) == 0)
            return true;
    return o->only.count == 0;
}

struct rows {
    struct tour_row items[ROWS_MAX];
    size_t count;
};

/* Whether each name given to --only is that of a row. */
static int check_names(const struct options *o)
{
    for (size_t i = 0; i < o->only.count; i++) {
        const char *name = o->only.items[i], *nearest = NULL;
        const struct naru_mechanism *m = NULL;
        int distance = INT_MAX;
        bool known = false;

        while ((m = naru_mechanism_next(m))) {
            known = known || strcmp(name, m->name) == 0;
            suggest(name, m->name, &distance, &nearest);
        }
        for (const struct tour_extra *extra = tour_extras; extra->measure; extra++) {
            known = known || strcmp(name, extra->row.name) == 0;
            suggest(name, extra->row.name, &distance, &nearest);
        }
        if (!known)
            return report_usage("there is no mechanism '%s'%s%s%s", name, nearest ? "; did you mean " : "",
                                nearest ? nearest : "", nearest ? "?" : "");
    }
    return NARU_EXIT_OK;
}

/* Adds a row, measured by one of the two. false: the user ended it. */
static bool add_row(struct tour *tour, const struct options *o, struct rows *rows,
                    const struct tour_row *texts, const struct naru_mechanism *m,
                    void (*measure)(struct tour *, struct tour_result *))
{
    struct tour_row *row = &rows->items[rows->count];

    if (!is_wanted(o, texts->name) || rows->count == ROWS_MAX)
        return true;
    *row = *texts;
    if (measure)
        measure(tour, &row->result);
    else
        tour_channel(tour, m, &row->result);
    if (row->result.outcome == TOUR_INTERRUPTED)
        return false;
    rows->count++;
    if (!o->json)
        tour_print_result(stdout, &tour->file, row->name, &row->result);
    return true;
}

static void visit(struct tour *tour, const struct options *o, struct rows *rows)
{
    const struct naru_mechanism *m = NULL;
    bool going = true;

    while (going && (m = naru_mechanism_next(m))) {
        struct tour_row texts = row_of(m);

        going = add_row(tour, o, rows, &texts, m, strcmp(m->scheme, "exec") == 0 ? tour_exec : NULL);
    }
    for (const struct tour_extra *extra = tour_extras; going && extra->measure; extra++)
        going = add_row(tour, o, rows, &extra->row, NULL, extra->measure);
}

static int conclude(const struct tour *tour, bool json, const struct tour_row *rows, size_t count)
{
    int failures = 0;

    for (size_t i = 0; i < count; i++)
        failures += rows[i].result.outcome == TOUR_FAILED;
    if (json)
        tour_print_json(stdout, &tour->file, rows, count);
    else if (!interrupt_signal())
        print_conclusion(rows, count);
    if (interrupt_signal())
        return interrupt_exit_code();
    return failures ? report(NARU_EXIT_FAILED, "%d of %zu mechanisms failed", failures, count) : NARU_EXIT_OK;
}

static int go(struct tour *tour, const struct options *o)
{
    struct rows rows = {.count = 0};

    if (!o->json)
        print_introduction(tour);
    visit(tour, o, &rows);
    return conclude(tour, o->json, rows.items, rows.count);
}

static int run(const struct invocation *in)
{
    const struct options *o = in->options;
    struct tour tour = {.budget_ns = NARU_S(2), .trip_ns = NARU_MS(150)};
    enum duo_pin pin = duo_cpu_count() > 1 ? DUO_PIN_APART : DUO_PIN_TOGETHER;
    char path[PATH_MAX];
    int code = check_names(o), r;

    if (code == NARU_EXIT_OK)
        code = load_file(in->operand_count ? in->operands[0] : default_file(path), &tour.file);

    if (code == NARU_EXIT_OK && (interrupt_graceful() < 0 || !(tour.directory = scratch_make())))
        code = NARU_EXIT_FAILED;
    if (code == NARU_EXIT_OK) {
        tour.stop_fd = interrupt_fd();
        tour.shared = duo_share(sizeof *tour.shared);
        r = tour.shared ? engine_init(&tour.engine, pin, tour.stop_fd) : -errno;
        code = r < 0 ? report_errno(-r, "shared memory") : go(&tour, o);
        engine_deinit(&tour.engine);
        duo_unshare(tour.shared, sizeof *tour.shared);
        code = scratch_remove() || code != NARU_EXIT_OK ? code : NARU_EXIT_FAILED;
    }
    free(tour.file.data);
    return code;
}

static const struct verb_option options[] = {
    {OPTION_TEXTS, 'o', "only", "MECHANISM", "visit this one; may be repeated (all)",
     offsetof(struct options, only), NULL, 0, 0},
    {OPTION_FLAG, 'j', "json", NULL, "print the table as JSON", offsetof(struct options, json), NULL, 0, 0},
    {0},
};

const struct verb verb_tour = {
    .name = "tour",
    .group = GROUP_MEASURE,
    .summary = "carry a file through every mechanism of naru and compare them",
    .operands = "[FILE]",
    .details = "Two real processes carry a file (naru's own library if none is named) through every\n"
               "mechanism that naru has; the receiving one hashes what it got. Prints the comparison\n"
               "table of an operating-systems textbook, measured on this machine. What would take\n"
               "longer than two seconds carries what fits in that; what this machine forbids is a row\n"
               "with the reason. Leaves nothing behind.\n"
               "\n"
               "  naru tour\n"
               "  naru tour /bin/bash --json",
    .options = options,
    .options_size = sizeof(struct options),
    .operands_max = 1,
    .operand = OPERAND_FILE,
    .run = run,
};
