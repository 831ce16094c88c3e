/* SPDX-License-Identifier: MIT */
/* naru signal send|wait|list|show: signals between processes, with values, and who does what about which. */
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/exit.h"
#include "cli/json.h"
#include "cli/now.h"
#include "cli/quantity.h"
#include "cli/report.h"
#include "cli/signal-show.h"
#include "cli/verb.h"
#include "naru/naru.h"

struct options {
    const char *value;
    bool ready, json;
    int64_t timeout, count;
};

static const struct options defaults = {.timeout = NARU_FOREVER, .count = 1};

/* What is left of a timeout that began at start. */
static int64_t left_of(int64_t timeout, int64_t start)
{
    int64_t passed = now() - start;

    if (timeout == NARU_FOREVER)
        return timeout;
    return passed < timeout ? timeout - passed : 0;
}

/* --- send --- */

struct sending {
    int sig;
    bool valued;
    int32_t value;
    bool ready; /* first wait until it does no harm */
    int64_t timeout, start;
};

/* Whether the process blocks, ignores or catches the signal. 0: it does; 1: not yet; -errno. The C library
 * blocks everything for a moment in fork() and elsewhere: that counts only when it lasts. */
static int look_whether_ready(int64_t pid, int sig, int *looks)
{
    const uint64_t everything = ~(naru_signal_bit(SIGKILL) | naru_signal_bit(SIGSTOP) | UINT64_C(3) << 31);
    struct naru_signal_sets sets = NARU_INIT(struct naru_signal_sets);
    int r = naru_signal_sets(pid, &sets);

    if (r < 0)
        return r;
    if ((sets.caught | sets.ignored) & naru_signal_bit(sig))
        return 0;
    if ((sets.blocked & everything) == everything && ++*looks < 12)
        return 1;
    return sets.blocked & naru_signal_bit(sig) ? 0 : 1;
}

static int wait_until_ready(int64_t pid, const struct sending *what)
{
    struct timespec pause = {0, 100000};
    int r, looks = 0;

    while ((r = look_whether_ready(pid, what->sig, &looks)) == 1) {
        if (left_of(what->timeout, what->start) == 0)
            return report(NARU_EXIT_TIMEOUT,
                          "process %" PRId64 " neither blocks nor catches %s, nothing was sent", pid,
                          naru_signal_name(what->sig));
        (void)nanosleep(&pause, NULL); /* nothing announces it; woken early it only looks earlier */
        if (pause.tv_nsec < 10000000)
            pause.tv_nsec *= 2;
    }
    return r < 0 ? report_failure(r) : NARU_EXIT_OK;
}

static int send_to(int64_t pid, const struct sending *what)
{
    int pidfd = naru_signal_pidfd(pid), r, code = NARU_EXIT_OK;

    if (pidfd < 0)
        return report_failure(pidfd);
    if (what->ready)
        code = wait_until_ready(pid, what);
    if (code == NARU_EXIT_OK) {
        r = what->valued ? naru_signal_send_value_to(pidfd, what->sig, what->value)
                         : naru_signal_send_to(pidfd, what->sig);
        if (r < 0)
            code = report_failure(r);
    }
    (void)close(pidfd);
    return code;
}

/* Sends to every process of that name but this one. */
static int send_to_named(const char *name, const struct sending *what)
{
    DIR *processes = opendir("/proc");
    struct dirent *entry;
    int code = NARU_EXIT_OK, found = 0;

    if (!processes)
        return report_errno(errno, "/proc");
    while ((entry = readdir(processes))) {
        int64_t pid = strtoll(entry->d_name, NULL, 10);
        char comm[64];
        int one;

        if (pid <= 0 || pid == getpid())
            continue;
        process_name(pid, comm, sizeof comm);
        if (strcmp(comm, name) != 0)
            continue;
        found++;
        one = send_to(pid, what);
        code = code ? code : one;
    }
    (void)closedir(processes);
    if (!found && access("/proc/self", F_OK) < 0)
        return report(NARU_EXIT_FAILED,
                      "\"%s\": processes are found by name in /proc, which is not mounted; say its number",
                      name);
    if (!found)
        return report(NARU_EXIT_NOT_FOUND,
                      "there is no process named \"%s\"; names are those of ps -C, at most 15 bytes%s", name,
                      access("/proc/1", F_OK) < 0 ? " (/proc hides other users' processes here)" : "");
    return code;
}

/* "HUP 1234", as kill(1) has it. */
static bool is_turned_round(const char *first, const char *last)
{
    int64_t number;

    return !parse_number(first, &number) && parse_number(last, &number) && naru_signal_by_name(first) > 0;
}

static int run_send(const struct invocation *in)
{
    const struct options *options = in->options;
    struct sending what = {.timeout = options->timeout, .ready = options->ready, .start = now()};
    int code = NARU_EXIT_OK;

    if (in->operand_count < 3)
        return report_usage("send: expected PID or NAME, then a signal: naru signal send 1234 TERM");
    if (is_turned_round(in->operands[1], in->operands[in->operand_count - 1]))
        return report_usage("send: expected the process first, then the signal: naru signal send %s %s",
                            in->operands[in->operand_count - 1], in->operands[1]);
    what.sig = naru_signal_by_name(in->operands[in->operand_count - 1]);
    if (what.sig < 0)
        return report_usage("%s", naru_explain());
    if (options->value) {
        int64_t value;

        if (!parse_number(options->value, &value) || value < INT32_MIN || value > INT32_MAX)
            return report_usage("--value %s: expected a 32-bit number", options->value);
        what.valued = true;
        what.value = (int32_t)value;
    }
    for (int i = 1; i < in->operand_count - 1; i++) {
        const char *target = in->operands[i];
        int64_t pid;
        int one = parse_number(target, &pid) ? send_to(pid, &what) : send_to_named(target, &what);

        code = code ? code : one;
    }
    return code;
}

/* --- wait --- */

static const char *const cause_names[] = {
    [NARU_SIGNAL_BY_KERNEL] = "the kernel",
    [NARU_SIGNAL_BY_KILL] = "kill",
    [NARU_SIGNAL_BY_QUEUE] = "queue",
    [NARU_SIGNAL_BY_TIMER] = "a timer",
    [NARU_SIGNAL_BY_MESSAGE] = "a message queue",
    [NARU_SIGNAL_BY_CHILD] = "a child",
};

static bool has_value(const struct naru_signal_info *info)
{
    return info->cause == NARU_SIGNAL_BY_QUEUE || info->cause == NARU_SIGNAL_BY_TIMER ||
           info->cause == NARU_SIGNAL_BY_MESSAGE;
}

static void print_signal_json(const struct naru_signal_info *info)
{
    struct json j = json_begin(stdout, JSON_ONE_LINE);

    json_object(&j, NULL);
    json_text(&j, "signal", naru_signal_name(info->signal));
    json_int(&j, "number", info->signal);
    json_text(&j, "cause", cause_names[info->cause]);
    if (info->sender.pid >= 0) {
        json_int(&j, "pid", info->sender.pid);
        json_int(&j, "uid", info->sender.uid);
    }
    if (has_value(info))
        json_int(&j, "value", info->value);
    json_end(&j);
}

static void print_signal(const struct naru_signal_info *info)
{
    char name[64];

    (void)printf("%s", naru_signal_name(info->signal));
    if (info->sender.pid >= 0) {
        process_name(info->sender.pid, name, sizeof name);
        (void)printf(" from %" PRId64 "%s%s%s uid %" PRId64, info->sender.pid, name[0] ? " (" : "", name,
                     name[0] ? ")" : "", info->sender.uid);
    } else {
        (void)printf(" from %s", cause_names[info->cause]);
    }
    if (has_value(info))
        (void)printf(" value %" PRId32, info->value);
    (void)printf("\n");
}

static int wait_for(uint64_t set, const struct options *options)
{
    int64_t start = now();

    for (int64_t i = 0; options->count == 0 || i < options->count; i++) {
        struct naru_signal_info info = NARU_INIT(struct naru_signal_info);
        int r = naru_signal_wait(set, left_of(options->timeout, start), &info);

        if (r == -EAGAIN || r == -ETIMEDOUT)
            return report(NARU_EXIT_TIMEOUT, "wait: no signal came in time");
        if (r < 0)
            return report_failure(r);
        if (options->json)
            print_signal_json(&info);
        else
            print_signal(&info);
        if (fflush(stdout) != 0)
            return NARU_EXIT_FAILED; /* main() says why */
    }
    return NARU_EXIT_OK;
}

static int run_wait(const struct invocation *in)
{
    uint64_t set = 0;
    int r;

    if (in->operand_count < 2)
        return report_usage("wait: expected a signal: naru signal wait USR1");
    for (int i = 1; i < in->operand_count; i++) {
        int sig = naru_signal_by_name(in->operands[i]);

        if (sig < 0)
            return report_usage("%s", naru_explain());
        set |= naru_signal_bit(sig);
    }
    r = naru_signal_block(set, NULL);
    if (r < 0)
        return report_failure(r);
    report_note("waiting as process %d", getpid());
    return wait_for(set, in->options);
}

/* --- list and show --- */

static int run_list(const struct invocation *in)
{
    const struct options *options = in->options;

    if (in->operand_count > 1)
        return report_usage("list: no operand expected");
    signal_list(options->json);
    return NARU_EXIT_OK;
}

static int run_show(const struct invocation *in)
{
    const struct options *options = in->options;
    int64_t pid;
    int r;

    if (in->operand_count != 2 || !parse_number(in->operands[1], &pid) || pid <= 0)
        return report_usage("show: expected one process number: naru signal show 1234");
    r = signal_show(pid, options->json);
    return r < 0 ? report_failure(r) : NARU_EXIT_OK;
}

/* --- the verb --- */

static const char *const actions[] = {"send", "wait", "list", "show", NULL};

static int run(const struct invocation *in)
{
    static int (*const runs[])(const struct invocation *) = {run_send, run_wait, run_list, run_show};

    for (size_t i = 0; actions[i]; i++)
        if (strcmp(in->operands[0], actions[i]) == 0)
            return runs[i](in);
    return report_usage("expected send, wait, list or show, not \"%s\"", in->operands[0]);
}

static const struct verb_option options_table[] = {
    {.kind = OPTION_TEXT,
     .letter = 'v',
     .name = "value",
     .value = "N",
     .help = "send: a 32-bit number to go with it (sigqueue)",
     .offset = offsetof(struct options, value)},
    {.kind = OPTION_FLAG,
     .letter = 'r',
     .name = "ready",
     .help = "send: wait until the process blocks, ignores or catches it",
     .offset = offsetof(struct options, ready)},
    {.kind = OPTION_DURATION,
     .letter = 't',
     .name = "timeout",
     .value = "DURATION",
     .help = "wait, send --ready: give up after that long",
     .offset = offsetof(struct options, timeout)},
    {.kind = OPTION_NUMBER,
     .letter = 'n',
     .name = "count",
     .value = "N",
     .help = "wait: for that many signals; 0: without end (default 1)",
     .offset = offsetof(struct options, count),
     .low = 0,
     .high = INT64_MAX},
    {.kind = OPTION_FLAG,
     .letter = 'j',
     .name = "json",
     .help = "wait, list, show: JSON",
     .offset = offsetof(struct options, json)},
    {0},
};

const struct verb verb_signal = {
    .name = "signal",
    .group = GROUP_SYNC,
    .summary = "send signals with values, wait for them, look at who blocks which",
    .operands = "send PID|NAME... SIG | wait SIG... | list | show PID",
    .details = "SIG is a name (INT, SIGTERM, RTMIN+1) or a number.\n"
               "\n"
               "wait blocks the signals and prints each that comes: which, from whom, with what\n"
               "value. A process that has not begun to wait yet would be killed by most signals;\n"
               "send --ready waits for it.\n"
               "\n"
               "show tells what a process has pending, blocks, ignores and catches, from\n"
               "/proc/PID/status.\n"
               "\n"
               "  naru signal wait RTMIN+1 &\n"
               "  naru signal send --ready --value 42 $! RTMIN+1\n"
               "  naru signal send sshd HUP\n"
               "  naru signal show $$",
    .options = options_table,
    .options_size = sizeof(struct options),
    .defaults = &defaults,
    .operands_min = 1,
    .operands_max = -1,
    .operand = OPERAND_OTHER,
    .first = actions,
    .run = run,
};
