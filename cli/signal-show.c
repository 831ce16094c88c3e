/* SPDX-License-Identifier: MIT */
/* What there is to know about signals: their list, and what one process does about which. */
#include "cli/signal-show.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "cli/json.h"
#include "cli/term.h"
#include "naru/naru.h"

void process_name(int64_t pid, char *name, size_t size)
{
    char path[48];
    FILE *file;

    name[0] = '\0';
    (void)snprintf(path, sizeof path, "/proc/%" PRId64 "/comm", pid);
    file = fopen(path, "re");
    if (!file)
        return;
    if (fgets(name, (int)size, file))
        name[strcspn(name, "\n")] = '\0';
    (void)fclose(file); /* it was read from only */
}

/* What happens to a process that neither blocks, ignores nor catches it (signal(7)). */
static const char *default_action(int sig)
{
    switch (sig) {
    case SIGCHLD:
    case SIGURG:
    case SIGWINCH:
        return "nothing";
    case SIGCONT:
        return "continue";
    case SIGSTOP:
    case SIGTSTP:
    case SIGTTIN:
    case SIGTTOU:
        return "stop";
    case SIGQUIT:
    case SIGILL:
    case SIGABRT:
    case SIGFPE:
    case SIGSEGV:
    case SIGBUS:
    case SIGSYS:
    case SIGTRAP:
    case SIGXCPU:
    case SIGXFSZ:
        return "die, dump core";
    default:
        return "die";
    }
}

static const char *remark(int sig)
{
    if (sig == SIGKILL || sig == SIGSTOP)
        return "nobody can catch, block or ignore it";
    return sig >= SIGRTMIN ? "queues, with a value" : "";
}

void signal_list(bool json)
{
    struct json j = json_begin(stdout, JSON_INDENTED);

    if (json)
        json_array(&j, NULL);
    for (int sig = 1; sig <= SIGRTMAX; sig++) {
        const char *name = naru_signal_name(sig);

        if (!name)
            continue;
        if (json) {
            json_object(&j, NULL);
            json_int(&j, "number", sig);
            json_text(&j, "name", name);
            json_text(&j, "default", default_action(sig));
            json_bool(&j, "queues", sig >= SIGRTMIN);
            json_end(&j);
        } else {
            (void)printf("%2d  %-12s  %-14s  %s\n", sig, name, default_action(sig), remark(sig));
        }
    }
    if (json)
        json_end(&j);
}

struct row {
    const char *key, *label;
    uint64_t set;
};

static void print_sets_json(int64_t pid, const char *name, const struct row *rows, size_t count,
                            const struct naru_signal_sets *sets)
{
    struct json j = json_begin(stdout, JSON_INDENTED);

    json_object(&j, NULL);
    json_int(&j, "pid", pid);
    json_text(&j, "name", name);
    for (size_t i = 0; i < count; i++) {
        json_array(&j, rows[i].key);
        for (int sig = 1; sig <= SIGRTMAX; sig++)
            if ((rows[i].set & naru_signal_bit(sig)) && naru_signal_name(sig))
                json_text(&j, NULL, naru_signal_name(sig));
        json_end(&j);
    }
    json_uint(&j, "queued", sets->queued);
    json_uint(&j, "queue_limit", sets->queue_limit);
    json_end(&j);
}

/* The names of a set, wrapped behind the label's column. */
static void print_row(const struct row *row)
{
    enum { COLUMN = 20 };
    int width = term_width(stdout), column = COLUMN;

    (void)printf("%s%-*s%s", term_style(stdout, STYLE_BOLD), COLUMN - 1, row->label,
                 term_style(stdout, STYLE_PLAIN));
    if (row->set == 0)
        (void)printf(" none");
    for (int sig = 1; sig <= SIGRTMAX; sig++) {
        const char *name = row->set & naru_signal_bit(sig) ? naru_signal_name(sig) : NULL;

        if (!name)
            continue;
        if (column + (int)strlen(name) >= width) {
            (void)printf("\n%*s", COLUMN - 1, "");
            column = COLUMN;
        }
        column += printf(" %s", name);
    }
    (void)printf("\n");
}

int signal_show(int64_t pid, bool json)
{
    struct naru_signal_sets sets = NARU_INIT(struct naru_signal_sets);
    int r = naru_signal_sets(pid, &sets);
    char name[64];

    if (r < 0)
        return r;
    process_name(pid, name, sizeof name);

    const struct row rows[] = {
        {"pending", "pending", sets.process_pending},
        {"thread_pending", "... for one thread", sets.thread_pending},
        {"blocked", "blocked", sets.blocked},
        {"ignored", "ignored", sets.ignored},
        {"caught", "caught", sets.caught},
    };
    if (json) {
        print_sets_json(pid, name, rows, sizeof rows / sizeof *rows, &sets);
        return 0;
    }
    (void)printf("process %" PRId64 " (%s)\n", pid, name);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        print_row(&rows[i]);
    (void)printf("%s%-20s%s%" PRIu64 " of %" PRIu64 " (of all processes of its user: RLIMIT_SIGPENDING)\n",
                 term_style(stdout, STYLE_BOLD), "queued", term_style(stdout, STYLE_PLAIN), sets.queued,
                 sets.queue_limit);
    return 0;
}
