/* SPDX-License-Identifier: MIT */
/* naru bench: every mechanism by naru and by bare system calls, in the same run. */
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench/life.h"
#include "bench/report.h"
#include "cli/arguments.h"
#include "cli/exit.h"
#include "cli/interrupt.h"
#include "cli/quantity.h"
#include "cli/report.h"
#include "cli/scratch.h"
#include "cli/term.h"
#include "cli/verb.h"
#include "naru/naru.h"

enum { ROWS_MAX = 64, DEFAULT_ROUNDS = 25, SIZE_MAX_BYTES = 16 * 1024 * 1024 };

struct options {
    struct texts patterns;
    const char *sizes;
    int64_t rounds;
    int64_t duration;
    int64_t count;
    int pin;
    bool plain, json, csv;
    const char *svg;
};

static const struct options defaults = {
    .sizes = "64,1k,64k", .rounds = DEFAULT_ROUNDS, .duration = NARU_MS(10)};

static int choose_patterns(const struct texts *names, bool patterns[PATTERNS])
{
    for (int i = 0; i < PATTERNS; i++)
        patterns[i] = names->count == 0;
    for (size_t i = 0; i < names->count; i++) {
        int pattern = 0;

        while (pattern < PATTERNS && strcmp(names->items[i], pattern_names[pattern]) != 0)
            pattern++;
        if (pattern == PATTERNS)
            return report_usage("there is no pattern %s; there are pingpong, stream and batch",
                                names->items[i]);
        patterns[pattern] = true;
    }
    return NARU_EXIT_OK;
}

static int choose_sizes(const char *text, struct plan *plan)
{
    char *copy = strdup(text), *rest = copy;

    for (char *word; copy && (word = strsep(&rest, ","));) {
        int64_t size;

        if (!parse_size(word, &size) || size < ENGINE_SIZE_MIN || size > SIZE_MAX_BYTES ||
            plan->size_count == PLAN_SIZES_MAX) {
            int code =
                plan->size_count == PLAN_SIZES_MAX
                    ? report_usage("--size takes at most %d sizes", PLAN_SIZES_MAX)
                    : report_usage("\"%s\" is not a message size; expected 4 to 16M bytes, as in 64,1k,64k",
                                   word);

            free(copy);
            return code;
        }
        plan->sizes[plan->size_count++] = (size_t)size;
    }
    free(copy);
    return plan->size_count ? NARU_EXIT_OK : report(NARU_EXIT_FAILED, "out of memory");
}

/* A row's name, or a scheme for all its rows. */
static int choose_row(const char *name, const struct naru_mechanism *rows[ROWS_MAX], size_t *count)
{
    const struct naru_mechanism *row = NULL;
    const char *nearest = NULL;
    int distance = 1 << 20;
    bool known = false;

    while ((row = naru_mechanism_next(row))) {
        struct carrier carrier;

        suggest(name, row->name, &distance, &nearest);
        if (strcmp(name, row->name) != 0 && strcmp(name, row->scheme) != 0)
            continue;
        known = true;
        if (carrier_naru(row, &carrier) == 0 && *count < ROWS_MAX - 1)
            rows[(*count)++] = row;
        else if (strcmp(name, row->name) == 0)
            return report_usage("%s cannot be measured: naru cannot make both ends of it", name);
    }
    if (known)
        return NARU_EXIT_OK;
    if (strcmp(name, "peers") == 0)
        return report_usage("peers are measured by themselves: bench peers");
    if (strcmp(name, "life") == 0 || strcmp(name, "loan") == 0)
        return report_usage("%s is measured by itself: bench %s", name, name);
    return nearest ? report_usage("there is no mechanism '%s'; did you mean %s?", name, nearest)
                   : report_usage("there is no mechanism '%s'", name);
}

/* Other libraries are compared with one mechanism, and a program is linked with them or not. */
static int choose_peers(const struct naru_mechanism *rows[ROWS_MAX])
{
    if (!comparisons_peers->mechanism)
        return report(NARU_EXIT_NOT_FOUND,
                      "this naru is not linked with other libraries, so that nobody needs "
                      "them; where its sources are, `./dev bench peers` compares");
    rows[0] = naru_mechanism_find(comparisons_peers->mechanism);
    rows[1] = NULL;
    return NARU_EXIT_OK;
}

/* Figures of another kind: times, bytes, shares of a CPU. */
static bool wants_life(const struct invocation *in)
{
    return in->operand_count == 1 && strcmp(in->operands[0], "life") == 0;
}

static bool wants_peers(const struct invocation *in)
{
    return in->operand_count == 1 && strcmp(in->operands[0], "peers") == 0;
}

/* Large messages that are lent, of one mechanism as well. */
static bool wants_loan(const struct invocation *in)
{
    return in->operand_count == 1 && strcmp(in->operands[0], "loan") == 0;
}

static const struct comparison *choose_table(const struct invocation *in)
{
    return wants_peers(in) ? comparisons_peers : wants_loan(in) ? comparisons_loan : comparisons_bare;
}

static int choose_rows(const struct invocation *in, const struct naru_mechanism *rows[ROWS_MAX])
{
    const struct naru_mechanism *row = NULL;
    size_t count = 0;

    if (wants_peers(in))
        return choose_peers(rows);
    if (wants_loan(in)) {
        rows[0] = naru_mechanism_find(comparisons_loan->mechanism);
        rows[1] = NULL;
        return NARU_EXIT_OK;
    }
    for (int i = 0; i < in->operand_count; i++) {
        int code = choose_row(in->operands[i], rows, &count);

        if (code != NARU_EXIT_OK)
            return code;
    }
    while (in->operand_count == 0 && (row = naru_mechanism_next(row)) && count < ROWS_MAX - 1) {
        struct carrier carrier;

        if (comparison_next(comparisons_bare, row->name, NULL) && carrier_naru(row, &carrier) == 0)
            rows[count++] = row;
    }
    rows[count] = NULL;
    return NARU_EXIT_OK;
}

static void show_progress(void *context, int round, const struct cell *cell, int done, int total)
{
    const struct plan *plan = context;
    char title[BENCH_TITLE], name[BENCH_NAME];

    (void)fprintf(stderr, "\r\033[K%3d %%  round %d of %d: %s, %s", 100 * done / total, round + 1,
                  plan->rounds, bench_name(cell, name), bench_title(cell, title));
    (void)fflush(stderr);
}

static void clear_progress(const struct plan *plan)
{
    if (plan->progress)
        (void)fputs("\r\033[K", stderr);
}

/* Before the minute that measuring takes: whether the file can be written at the end of it. */
static int check_svg(const char *path)
{
    const char *slash = strrchr(path, '/');
    char *directory;
    int r;

    if (access(path, F_OK) == 0)
        return access(path, W_OK) == 0 ? NARU_EXIT_OK : report_errno(errno, "%s", path);
    directory = slash ? strndup(path, (size_t)(slash - path) + 1) : strdup(".");
    if (!directory)
        return report_errno(ENOMEM, "%s", path);
    r = access(directory, W_OK | X_OK) == 0 ? NARU_EXIT_OK : report_errno(errno, "%s", path);
    free(directory);
    return r;
}

static int write_svg(const char *path, const struct results *results, const struct environment *e)
{
    FILE *file = fopen(path, "we");
    bool failed;

    if (!file)
        return report_errno(errno, "%s", path);
    bench_print_svg(file, results, e);
    failed = ferror(file) != 0;
    if (fclose(file) != 0 || failed)
        return report_errno(errno ? errno : EIO, "%s", path);
    return NARU_EXIT_OK;
}

static int print_results(const struct options *o, const struct results *results, const struct environment *e)
{
    if (o->json)
        bench_print_json(stdout, results, e);
    else if (o->csv)
        bench_print_csv(stdout, results);
    else
        bench_print_text(stdout, term_width(stdout), results, e);
    return o->svg ? write_svg(o->svg, results, e) : NARU_EXIT_OK;
}

static int nothing_to_measure(const struct plan *plan)
{
    if (plan->pin == DUO_PIN_TOGETHER)
        return report(NARU_EXIT_FAILED, "both sides spin there, which takes a CPU for each: %s",
                      duo_cpu_count() < 2 ? "there is only one" : "leave out --pin together");
    return report(NARU_EXIT_FAILED, "that is not measured by such a pattern");
}

static int measure(const struct options *o, struct plan *plan)
{
    struct environment environment = environment_read();
    struct results results;
    int r, code = NARU_EXIT_OK;

    r = plan_run(plan, &results);
    clear_progress(plan);
    if (r < 0 && r != -ECANCELED)
        return report_errno(-r, "it could not begin");
    if (results.count && results.rounds_done)
        code = print_results(o, &results, &environment);
    else if (!results.count)
        code = nothing_to_measure(plan);
    results_free(&results);
    return r == -ECANCELED ? interrupt_exit_code() : code;
}

/* What makes no difference there is refused, lest somebody believes that it did. */
static int check_life(const struct options *o)
{
    return o->patterns.count || o->sizes != defaults.sizes || o->duration != defaults.duration || o->count ||
                   o->plain || o->csv || o->svg
               ? report_usage("bench life takes --rounds, --pin and --json alone")
               : NARU_EXIT_OK;
}

static int measure_life(const struct options *o, struct plan *plan)
{
    struct environment environment = environment_read();
    struct life_results *results = calloc(1, sizeof *results);
    int r = results ? life_measure(plan, results) : -ENOMEM;

    if (r < 0 && r != -ECANCELED) {
        free(results);
        return report_errno(-r, "it could not begin");
    }
    if (results->rounds_done)
        (o->json ? life_print_json : life_print_text)(stdout, plan, results, &environment);
    free(results);
    return r == -ECANCELED ? interrupt_exit_code() : NARU_EXIT_OK;
}

/* Measures in a directory of its own, until the user interrupts it. */
static int measure_somewhere(const struct options *o, struct plan *plan,
                             int (*what)(const struct options *, struct plan *))
{
    int code;

    if (plan->pin == DUO_PIN_APART && duo_cpu_count() < 2)
        plan->pin = DUO_PIN_TOGETHER;
    if (interrupt_graceful() < 0 || !(plan->directory = scratch_make()))
        return NARU_EXIT_FAILED;
    plan->stop_fd = interrupt_fd();
    if (term_is_terminal(stderr)) {
        plan->progress = show_progress;
        plan->progress_context = plan;
    }
    code = what(o, plan);
    return scratch_remove() || code != NARU_EXIT_OK ? code : NARU_EXIT_FAILED;
}

static int run_life(const struct options *o)
{
    struct plan plan = {.rounds = (int)o->rounds, .pin = (enum duo_pin)o->pin};
    int code = check_life(o);

    return code == NARU_EXIT_OK ? measure_somewhere(o, &plan, measure_life) : code;
}

/* Of what nobody asked for otherwise: large messages, and time for the pool to grow to its size. */
static struct options lend_by_default(const struct options *given)
{
    struct options o = *given;

    if (o.sizes == defaults.sizes)
        o.sizes = "1M";
    if (o.duration == defaults.duration)
        o.duration = NARU_MS(100);
    return o;
}

static int run(const struct invocation *in)
{
    const struct options *given = in->options;
    const struct options chosen = wants_loan(in) ? lend_by_default(given) : *given, *o = &chosen;
    const struct naru_mechanism *rows[ROWS_MAX];
    struct plan plan = {.rows = rows,
                        .comparisons = choose_table(in),
                        .rounds = (int)o->rounds,
                        .duration_ns = o->duration,
                        .max_messages = (uint64_t)o->count,
                        .pin = (enum duo_pin)o->pin,
                        .plain = o->plain};
    int code;

    if (wants_life(in))
        return run_life(o);
    code = choose_rows(in, rows);
    if (code == NARU_EXIT_OK)
        code = choose_patterns(&o->patterns, plan.patterns);
    if (code == NARU_EXIT_OK)
        code = choose_sizes(o->sizes, &plan);
    if (code != NARU_EXIT_OK)
        return code;
    if (o->json && o->csv)
        return report_usage("--json and --csv exclude each other");
    if (o->svg && (wants_peers(in) || wants_loan(in)))
        return report_usage("--svg draws naru and bare system calls, not %s", in->operands[0]);
    if (o->duration <= 0 || o->duration > NARU_S(60))
        return report_usage("--duration is more than 0, and 60s at most");
    if (o->svg && (code = check_svg(o->svg)) != NARU_EXIT_OK)
        return code;
    return measure_somewhere(o, &plan, measure);
}

static const struct verb_option options[] = {
    {OPTION_TEXTS, 'p', "pattern", "PATTERN", "pingpong, stream or batch; may be repeated (all)",
     offsetof(struct options, patterns), NULL, 0, 0},
    {OPTION_TEXT, 's', "size", "SIZES", "bytes of a message, separated by commas (64,1k,64k)",
     offsetof(struct options, sizes), NULL, 0, 0},
    {OPTION_NUMBER, 'r', "rounds", "N", "interleaved rounds (25); many short ones, so that few are disturbed",
     offsetof(struct options, rounds), NULL, 1, PLAN_ROUNDS_MAX},
    {OPTION_DURATION, 'd', "duration", "DURATION", "of each run in a round (10ms)",
     offsetof(struct options, duration), NULL, 0, 0},
    {OPTION_NUMBER, 'n', "count", "N", "end a run after so many messages; 0: by time alone",
     offsetof(struct options, count), NULL, 0, 1000000000},
    {OPTION_WORD, 0, "pin", "WHERE", "the processes' CPUs: apart (default), together, none",
     offsetof(struct options, pin), pin_names, 0, 0},
    {OPTION_FLAG, 0, "plain", NULL, "compare with programs that ask for no descriptors, senders and losses",
     offsetof(struct options, plain), NULL, 0, 0},
    {OPTION_FLAG, 'j', "json", NULL, "print everything as JSON, every round included",
     offsetof(struct options, json), NULL, 0, 0},
    {OPTION_FLAG, 0, "csv", NULL, "print the medians as CSV", offsetof(struct options, csv), NULL, 0, 0},
    {OPTION_FILE, 0, "svg", "FILE", "also draw them: latency by percentile, rates as bars",
     offsetof(struct options, svg), NULL, 0, 0},
    {0},
};

const struct verb verb_bench = {
    .name = "bench",
    .group = GROUP_MEASURE,
    .summary = "measure mechanisms against bare system calls",
    .operands = "[MECHANISM...]",
    .details = "Sends messages between two processes through naru, and through a bare program that\n"
               "does the same framing with the same system calls; both in turn, in interleaved\n"
               "rounds, on the same CPUs. The ratio of the two is what naru costs.\n"
               "\n"
               "Patterns: pingpong (a message there, one back: latency), stream (one call a message:\n"
               "rate), batch (naru_send_batch() against one system call a message). Payloads are\n"
               "written and checked. --plain compares unix sockets and UDP with read(2) and recv(2),\n"
               "which hear nothing of descriptors, senders and losses: what hearing of them costs.\n"
               "\n"
               "Shared memory is measured in each way of waiting: spin against the floor (two cache lines\n"
               "bounced), a control (head and tail, 64-byte slots) and a bare in-band ring, adaptive\n"
               "against spin, sleep against a unix socket, a futex and an eventfd, and in epoll_wait(2).\n"
               "\n"
               "Mechanisms: pipe fifo unix-stream unix-seqpacket unix-dgram tcp udp sysvmq posixmq shm, or\n"
               "a scheme (unix) for all of its rows; these if none is named, in about a minute. The\n"
               "others (file signal fd stdio shm+posix shm+sysv) have no bare counterpart and are measured\n"
               "when named.\n"
               "\n"
               "peers: shared memory in each way of waiting against nng, ZeroMQ and Boost's message_queue,\n"
               "and how many times naru's time they take. Only `./dev bench peers` in naru's sources is\n"
               "linked with them.\n"
               "\n"
               "loan: messages of 1 MiB lent over shared memory by naru_loan() and naru_borrow(), both\n"
               "sides spinning: untouched, beside a bare program's descriptors there and back (in one loop;\n"
               "as four calls); that, and opened (of each the first line alone is written and read),\n"
               "beside 16 and 64 bytes that are copied; touched (every byte copied into the loan and out\n"
               "of the view) beside a ring that copies the same bytes, and has room for 4 MiB of them:\n"
               "with the usual pool, and with one of as many (touched 4M).\n"
               "Each run takes 100ms if nothing else is said, for the pool to grow to its size.\n"
               "\n"
               "life: what a shared-memory connection costs besides messages: the time to the first one\n"
               "and until a killed receiver's sender knows, beside a bare unix socket; memory and CPU of\n"
               "an idle one. Takes --rounds, --pin and --json.\n"
               "\n"
               "  naru bench pipe tcp --size 64 --rounds 11\n"
               "  naru bench --pattern pingpong --svg latency.svg",
    .options = options,
    .options_size = sizeof(struct options),
    .defaults = &defaults,
    .operands_max = -1,
    .operand = OPERAND_OTHER,
    .run = run,
};
