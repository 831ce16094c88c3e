/* SPDX-License-Identifier: MIT */
/* naru demo NAME, and what the demonstrations share. */
#include "cli/demo.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "cli/exit.h"
#include "cli/json.h"
#include "cli/report.h"
#include "cli/term.h"
#include "cli/verb.h"
#include "naru/naru.h"

struct claim {
    char text[200];
    bool held;
};

struct number {
    char key[48];
    double value;
};

struct demo {
    const struct demo_kind *kind;
    bool json, failed;
    struct claim claims[48];    /* for the JSON, which lists them behind the numbers */
    struct number numbers[192]; /* the parallel one tells two of each worker */
    size_t claim_count, number_count;
};

static const struct demo_kind *const kinds[] = {&demo_isolation, &demo_race,    &demo_cycle,
                                                &demo_parallel,  &demo_signals, NULL};

void demo_say(struct demo *d, const char *format, ...)
{
    va_list args;

    if (d->json)
        return;
    va_start(args, format);
    (void)vprintf(format, args);
    va_end(args);
    (void)putchar('\n');
}

void demo_heading(struct demo *d, const char *format, ...)
{
    va_list args;

    if (d->json)
        return;
    va_start(args, format);
    (void)printf("\n%s", term_style(stdout, STYLE_BOLD));
    (void)vprintf(format, args);
    (void)printf("%s\n", term_style(stdout, STYLE_PLAIN));
    va_end(args);
}

void demo_number(struct demo *d, const char *key, double value)
{
    struct number *number = &d->numbers[d->number_count];

    if (d->number_count == sizeof d->numbers / sizeof *d->numbers)
        abort(); /* the demonstrations are ours: make room */
    d->number_count++;
    (void)snprintf(number->key, sizeof number->key, "%s", key);
    number->value = value;
}

bool demo_check(struct demo *d, bool held, const char *format, ...)
{
    struct claim *claim = &d->claims[d->claim_count];
    va_list args;

    if (d->claim_count == sizeof d->claims / sizeof *d->claims)
        abort();
    d->claim_count++;
    va_start(args, format);
    (void)vsnprintf(claim->text, sizeof claim->text, format, args);
    va_end(args);
    claim->held = held;
    d->failed |= !held;
    if (!d->json)
        (void)printf("  %s%s%s %s\n", term_style(stdout, held ? STYLE_GOOD : STYLE_BAD), held ? "ok " : "NOT",
                     term_style(stdout, STYLE_PLAIN), claim->text);
    return held;
}

/* A program that was just started has no handlers; a forked child has its parent's. */
static void restore_default_actions(void)
{
    sigset_t none;

    for (int sig = 1; sig < SIGRTMIN; sig++)
        (void)signal(sig, SIG_DFL); /* EINVAL for SIGKILL, SIGSTOP and what is no signal */
    (void)sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL); /* cannot fail for a valid set */
}

pid_t demo_start(int (*child)(void *argument), void *argument)
{
    pid_t parent = getpid(), pid;
    int r;

    (void)fflush(stdout); /* or the child would print it again */
    pid = fork();
    if (pid != 0)
        return pid < 0 ? -errno : pid;
    restore_default_actions();
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL); /* cannot fail for a valid signal */
    if (getppid() != parent)                /* it died before the line above */
        _exit(NARU_EXIT_FAILED);
    r = child(argument);
    if (r < 0)
        (void)report_failure(r);
    _exit(r < 0 ? NARU_EXIT_FAILED : NARU_EXIT_OK);
}

int demo_end(pid_t pid)
{
    int status = -1;

    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    return status;
}

bool demo_all_end_well(const pid_t *pids, int count)
{
    bool well = true;

    for (int i = 0; i < count; i++)
        well &= pids[i] > 0 && demo_end(pids[i]) == 0;
    return well;
}

/* The state in /proc/PID/stat, behind the name in parentheses: 'R', 'S', 'Z' ... */
static char state_of(pid_t pid)
{
    char path[48], line[256];
    const char *behind_name = NULL;
    FILE *file;

    (void)snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    file = fopen(path, "re");
    if (!file)
        return 'X';
    if (fgets(line, sizeof line, file))
        behind_name = strrchr(line, ')');
    (void)fclose(file);
    return behind_name && behind_name[1] ? behind_name[2] : 'X';
}

bool demo_wait_asleep(pid_t pid)
{
    static const struct timespec pause = {0, 50000};
    char state;

    while ((state = state_of(pid)) == 'R' || state == 'D')
        (void)nanosleep(&pause, NULL); /* nothing announces it */
    return state == 'S';
}

/* --- the verb --- */

struct options {
    bool json;
};

static void print_json(const struct demo *d)
{
    struct json j = json_begin(stdout, JSON_INDENTED);

    json_object(&j, NULL);
    json_text(&j, "demo", d->kind->name);
    json_text(&j, "source", d->kind->source);
    json_bool(&j, "ok", !d->failed);
    json_object(&j, "numbers");
    for (size_t i = 0; i < d->number_count; i++)
        json_real(&j, d->numbers[i].key, d->numbers[i].value);
    json_end(&j);
    json_array(&j, "claims");
    for (size_t i = 0; i < d->claim_count; i++) {
        json_object(&j, NULL);
        json_text(&j, "claim", d->claims[i].text);
        json_bool(&j, "held", d->claims[i].held);
        json_end(&j);
    }
    json_end(&j);
    json_end(&j);
}

static int run_kind(const struct demo_kind *kind, bool json)
{
    struct demo d = {.kind = kind, .json = json};
    int code = NARU_EXIT_OK, r;

    if (!json)
        (void)printf("%s%s%s\n", term_style(stdout, STYLE_BOLD), kind->title,
                     term_style(stdout, STYLE_PLAIN));
    r = kind->run(&d);
    if (r < 0) {
        d.failed = true;
        code = NARU_EXIT_FAILED;
        (void)report_failure(r);
    } else if (d.failed) {
        code = report(NARU_EXIT_FAILED, "%s: not everything happened as claimed", kind->name);
    }
    if (json)
        print_json(&d);
    else
        (void)printf("\n%sThe source: %s%s\n", term_style(stdout, STYLE_DIM), kind->source,
                     term_style(stdout, STYLE_PLAIN));
    return code;
}

static int run(const struct invocation *in)
{
    const struct options *options = in->options;

    for (size_t i = 0; kinds[i]; i++) {
        if (in->operand_count == 0)
            (void)printf("%-10s  %s\n", kinds[i]->name, kinds[i]->title);
        else if (strcmp(in->operands[0], kinds[i]->name) == 0)
            return run_kind(kinds[i], options->json);
    }
    return NARU_EXIT_OK; /* other names were refused by verb.first */
}

static const char *const names[] = {"isolation", "race", "cycle", "parallel", "signals", NULL};

static const struct verb_option options_table[] = {
    {.kind = OPTION_FLAG,
     .letter = 'j',
     .name = "json",
     .help = "the figures and what was checked, as JSON",
     .offset = offsetof(struct options, json)},
    {0},
};

const struct verb verb_demo = {
    .name = "demo",
    .group = GROUP_MEASURE,
    .summary = "watch what the textbook says happen between real processes",
    .operands = "[isolation|race|cycle|parallel|signals]",
    .details = "isolation  one variable, two values; one page of memory at two addresses\n"
               "race       updates get lost without a lock; what a lock costs\n"
               "cycle      wait, write, signal, wake, read, wait again: the time line\n"
               "parallel   the same work by 1, 2 and more processes\n"
               "signals    default, ignored, blocked, caught, queued; SIGSTOP and SIGKILL\n"
               "\n"
               "Each checks what it claims (exit code 1 if it did not happen) and names its\n"
               "source, which is short and meant to be read.",
    .options = options_table,
    .options_size = sizeof(struct options),
    .operands_max = 1,
    .operand = OPERAND_OTHER,
    .first = names,
    .run = run,
};
