/* SPDX-License-Identifier: MIT */
/*
 * naru sem NAME post|wait|get|run|rm: counting, N at once.
 *
 * A plain name is naru's own semaphore; a URL (sem+posix:, sem+sysv:) is one that other programs use too. The
 * unit that `run` takes is held by the command's own process, which takes it before it becomes the command:
 * so it is held exactly as long as the command lives, whoever is killed.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "cli/command.h"
#include "cli/exit.h"
#include "cli/json.h"
#include "cli/quantity.h"
#include "cli/report.h"
#include "cli/sync-options.h"
#include "cli/verb.h"
#include "naru/error.h"
#include "naru/semaphore.h"

struct sem_options {
    int64_t timeout, value, maximum;
    const char *mode;
    bool try, json;
};

enum { UNSET = -1 };

static const struct sem_options defaults = {.timeout = NARU_FOREVER, .value = UNSET};

struct work {
    const char *name;
    const struct sem_options *options;
    char **command;
    int64_t count; /* units to post or wait for */
    int64_t timeout;
    struct naru_semaphore *own;
    struct naru_raw_semaphore *raw;
};

static int too_late(const struct work *w)
{
    return report(NARU_EXIT_TIMEOUT, "semaphore '%s': no unit became free in time", w->name);
}

static int finish(const struct work *w, int r)
{
    if (r == -EAGAIN || r == -ETIMEDOUT)
        return too_late(w);
    return r < 0 ? report_failure_of(w->name, r, "") : NARU_EXIT_OK;
}

/* --- naru's own --- */

static int own_post(struct work *w)
{
    return finish(w, naru_semaphore_post(w->own, (uint32_t)w->count));
}

static int own_wait(struct work *w)
{
    int r = 0;

    for (int64_t i = 0; i < w->count && r == 0; i++)
        r = naru_semaphore_wait(w->own, w->timeout);
    return finish(w, r);
}

static int own_get(struct work *w)
{
    struct naru_semaphore_info info = NARU_INIT(struct naru_semaphore_info);
    int r = naru_semaphore_info(w->own, &info);

    if (r < 0)
        return finish(w, r);
    if (w->options->json) {
        struct json j = json_begin(stdout, JSON_ONE_LINE);

        json_object(&j, NULL);
        json_text(&j, "name", w->name);
        json_uint(&j, "value", info.value);
        json_uint(&j, "held", info.held);
        json_uint(&j, "holders", info.holders);
        json_uint(&j, "maximum", info.maximum);
        json_uint(&j, "recovered", info.recovered);
        json_end(&j);
    } else {
        (void)printf("%" PRIu32 "\n", info.value);
    }
    return NARU_EXIT_OK;
}

/* In the process that becomes the command. */
static int own_acquire(void *argument)
{
    struct work *w = argument;

    return finish(w, naru_semaphore_acquire(w->own, w->timeout));
}

static int own_run(struct work *w)
{
    const struct command command = {.argv = w->command, .prepare = own_acquire, .argument = w};
    struct naru_semaphore_info info = NARU_INIT(struct naru_semaphore_info);
    int code = command_run(&command);

    /* Looking takes back what the ended command held, and wakes who waits for it, at once. */
    if (naru_semaphore_info(w->own, &info) < 0)
        return code; /* removed or overwritten: nobody waits there */
    return code;
}

/* --- other programs' --- */

static int raw_post(struct work *w)
{
    int r = 0;

    for (int64_t i = 0; i < w->count && r == 0; i++)
        r = naru_raw_semaphore_post(w->raw);
    return finish(w, r);
}

static int raw_wait(struct work *w)
{
    int r = 0;

    for (int64_t i = 0; i < w->count && r == 0; i++)
        r = naru_raw_semaphore_wait(w->raw, w->timeout);
    return finish(w, r);
}

static int raw_get(struct work *w)
{
    int64_t value = naru_raw_semaphore_value(w->raw);

    if (value < 0)
        return finish(w, (int)value);
    if (w->options->json) {
        struct json j = json_begin(stdout, JSON_ONE_LINE);

        json_object(&j, NULL);
        json_text(&j, "name", w->name);
        json_int(&j, "value", value);
        json_end(&j);
    } else {
        (void)printf("%" PRId64 "\n", value);
    }
    return NARU_EXIT_OK;
}

static int raw_run(struct work *w)
{
    const struct command command = {.argv = w->command, .die_with_us = true};
    int code = raw_wait(w);

    if (code != NARU_EXIT_OK)
        return code;
    code = command_run(&command);
    if (naru_raw_semaphore_post(w->raw) < 0)
        (void)report_failure(-EIO);
    return code;
}

/* --- the verb --- */

static const struct action {
    const char *name;
    enum naru_create create;
    int64_t value; /* units at first, unless --value says */
    int (*own)(struct work *w);
    int (*raw)(struct work *w);
} actions[] = {
    {"post", NARU_CREATE_YES, 0, own_post, raw_post},
    {"wait", NARU_CREATE_YES, 0, own_wait, raw_wait},
    {"get", NARU_CREATE_NO, 0, own_get, raw_get},
    {"run", NARU_CREATE_YES, 1, own_run, raw_run},
};

static int act_own(const struct action *action, struct work *w)
{
    const struct sem_options *o = w->options;
    struct naru_sync_options options = NARU_INIT(struct naru_sync_options);
    int64_t value = o->value == UNSET ? action->value : o->value;
    int r, code = sync_parse_mode(o->mode, &options.mode);

    if (code != NARU_EXIT_OK)
        return code;
    sync_explain_truncation();
    options.create = action->create;
    r = naru_semaphore_open(w->name, &options, (uint32_t)value, (uint32_t)o->maximum, &w->own);
    if (r < 0)
        return report_failure(r);
    code = action->own(w);
    w->own = naru_semaphore_close(w->own);
    return code;
}

/* System V would take back at our end what post gave and wait took, which are meant to last. */
static int open_raw(const struct action *action, struct work *w)
{
    char url[512];
    bool lasting = strncmp(w->name, "sem+sysv:", 9) == 0 && strcmp(action->name, "run") != 0 &&
                   !strstr(w->name, "undo=");

    if (!lasting)
        return naru_raw_semaphore_open(w->name, &w->raw);
    if ((size_t)snprintf(url, sizeof url, "%s%cundo=no", w->name, strchr(w->name, '?') ? '&' : '?') >=
        sizeof url)
        return -ENAMETOOLONG;
    return naru_raw_semaphore_open(url, &w->raw);
}

static int act_raw(const struct action *action, struct work *w)
{
    int r, code;

    if (w->options->value != UNSET || w->options->maximum || w->options->mode)
        return report_usage("%s: a URL says ?create&value=2&mode=0660 itself", w->name);
    r = open_raw(action, w);
    if (r < 0)
        return report_failure(r);
    code = action->raw(w);
    w->raw = naru_raw_semaphore_close(w->raw);
    return code;
}

static int remove_it(const char *name)
{
    bool raw = strchr(name, ':');
    int r;

    if (!raw && sync_report_held(NARU_SYNC_SEMAPHORE, name))
        return NARU_EXIT_FAILED;
    r = raw ? naru_raw_semaphore_remove(name) : naru_sync_remove(NARU_SYNC_SEMAPHORE, name);
    return r < 0 ? report_failure(r) : NARU_EXIT_OK;
}

/* What must go together on the command line. */
static int check(const struct invocation *in, const char *word, struct work *w)
{
    bool counts = strcmp(word, "post") == 0 || strcmp(word, "wait") == 0, runs = strcmp(word, "run") == 0;

    if (runs != (in->command != NULL) || (runs && !in->command[0]))
        return report_usage(runs ? "run: expected a command behind --: naru sem %s run -- make"
                                 : "only run takes a command: naru sem %s run -- make",
                            w->name);
    if (w->options->json && strcmp(word, "get") != 0)
        return report_usage("--json goes with get");
    if (in->operands[2] && !counts)
        return report_usage("'%s' is one operand too many", in->operands[2]);
    if (in->operands[2] &&
        (!parse_number(in->operands[2], &w->count) || w->count < 1 || w->count > UINT32_MAX))
        return report_usage("%s: expected how many units, a number from 1, not '%s'", word, in->operands[2]);
    if (strcmp(word, "post") == 0 && w->options->maximum && w->count > w->options->maximum)
        return report_usage("post %" PRId64 ": --max %" PRId64 " allows fewer", w->count,
                            w->options->maximum);
    return NARU_EXIT_OK;
}

static int run(const struct invocation *in)
{
    const struct sem_options *o = in->options;
    const char *word = in->operands[1];
    struct work w = {.name = in->operands[0],
                     .options = o,
                     .command = in->command,
                     .count = 1,
                     .timeout = o->try ? NARU_NOWAIT : o->timeout};
    int code = check(in, word, &w);

    if (code != NARU_EXIT_OK)
        return code;
    if (strcmp(word, "rm") == 0)
        return remove_it(w.name);
    for (size_t i = 0; i < sizeof actions / sizeof *actions; i++)
        if (strcmp(actions[i].name, word) == 0)
            return strchr(w.name, ':') ? act_raw(&actions[i], &w) : act_own(&actions[i], &w);
    return report_usage("expected post, wait, get, run or rm behind the name, not '%s'", word);
}

#define FIELD(name) offsetof(struct sem_options, name)
static const struct verb_option options[] = {
    {OPTION_DURATION, 't', "timeout", "DURATION", "wait, run: give up after that long (exit 124)",
     FIELD(timeout), NULL, 0, 0},
    {OPTION_FLAG, 'n', "try", NULL, "wait, run: do not wait at all (exit 124)", FIELD(try), NULL, 0, 0},
    {OPTION_NUMBER, 'v', "value", "N", "units if it is made now (run: 1, else 0)", FIELD(value), NULL, 0,
     UINT32_MAX},
    {OPTION_NUMBER, 'x', "max", "N", "the most units it may have, if it is made now", FIELD(maximum), NULL, 1,
     UINT32_MAX},
    {OPTION_TEXT, 'm', "mode", "MODE", "octal permission bits if it is made now (default 0600)", FIELD(mode),
     NULL, 0, 0},
    {OPTION_FLAG, 'j', "json", NULL, "get: JSON", FIELD(json), NULL, 0, 0},
    {0}};

const struct verb verb_sem = {
    .name = "sem",
    .group = GROUP_SYNC,
    .summary = "count: run N commands at once, wait for and post units",
    .operands = "NAME post [N]|wait [N]|get|rm | NAME run -- COMMAND...",
    .details = "run takes a unit for as long as the command lives, however it ends, and passes on its\n"
               "exit status. post adds units, wait takes them for good, get prints how many are free.\n"
               "post, wait and run make the semaphore if nobody has yet; rm is refused while a run holds a\n"
               "unit.\n\n"
               "NAME may be a URL, to share one with programs that know nothing of naru:\n"
               "sem+posix:/name (sem_open) or sem+sysv:0x4d2?index=0 (semget); ?create&value=2 makes\n"
               "it. A POSIX semaphore does not give back what a killed process took.\n\n"
               "  for f in *.wav; do naru sem --value 4 encoders run -- flac \"$f\" & done; wait\n"
               "  naru sem tickets post 10; naru sem tickets wait; naru sem tickets get\n"
               "  naru sem 'sem+sysv:0x4d2?create&value=1' run -- make",
    .options = options,
    .options_size = sizeof(struct sem_options),
    .defaults = &defaults,
    .operands_min = 2,
    .operands_max = 3,
    .operand = OPERAND_OTHER,
    .command = true,
    .run = run,
};
