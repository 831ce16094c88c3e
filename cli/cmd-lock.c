/* SPDX-License-Identifier: MIT */
/* naru lock NAME -- COMMAND: one at a time. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "cli/command.h"
#include "cli/exit.h"
#include "cli/json.h"
#include "cli/report.h"
#include "cli/sync-options.h"
#include "cli/verb.h"
#include "naru/error.h"
#include "naru/mutex.h"

struct lock_options {
    int64_t timeout;
    const char *mode;
    bool try, status, remove, json;
};

static const struct lock_options defaults = {.timeout = NARU_FOREVER};

static int show_status(const char *name, bool as_json)
{
    struct naru_sync_options existing = NARU_INIT(struct naru_sync_options);
    struct naru_mutex *mutex;
    int64_t holder, dead;
    int r;

    existing.create = NARU_CREATE_NO;
    r = naru_mutex_open(name, &existing, &mutex);
    if (r < 0)
        return report_failure(r);
    holder = naru_mutex_holder(mutex);
    dead = naru_mutex_last_dead(mutex);
    if (as_json) {
        struct json j = json_begin(stdout, JSON_ONE_LINE);

        json_object(&j, NULL);
        json_text(&j, "name", name);
        json_bool(&j, "held", holder > 0);
        json_int(&j, "holder", holder);
        json_int(&j, "last_dead", dead);
        json_end(&j);
    } else {
        (void)printf(holder > 0 ? "held by process %" PRId64 "\n" : "free\n", holder);
        if (dead > 0)
            (void)printf("process %" PRId64 " died holding it\n", dead);
    }
    (void)naru_mutex_close(mutex);
    return NARU_EXIT_OK;
}

/* Takes it; what the one before left half-done is for the command to find out, and the user is told. */
static int take(const char *name, struct naru_mutex *mutex, int64_t timeout)
{
    int r = naru_mutex_lock(mutex, timeout);

    if (r == -EOWNERDEAD) {
        report_note("lock '%s': process %" PRId64 ", which held it, died; its work may be half done", name,
                    naru_mutex_last_dead(mutex));
        r = naru_mutex_consistent(mutex);
    }
    if (r == -EAGAIN || r == -ETIMEDOUT) {
        int64_t holder = naru_mutex_holder(mutex);

        return holder > 0 ? report(NARU_EXIT_TIMEOUT, "lock '%s': held by process %" PRId64, name, holder)
                          : report(NARU_EXIT_TIMEOUT, "lock '%s': held by another until just now", name);
    }
    return r < 0 ? report_failure_of(name, r, "; `naru lock --remove` makes it new") : NARU_EXIT_OK;
}

static int remove_free(const char *name)
{
    int r;

    if (sync_report_held(NARU_SYNC_MUTEX, name))
        return NARU_EXIT_FAILED;
    r = naru_sync_remove(NARU_SYNC_MUTEX, name);
    return r < 0 ? report_failure(r) : NARU_EXIT_OK;
}

static int run_locked(const char *name, const struct lock_options *o, char **command)
{
    struct naru_sync_options made = NARU_INIT(struct naru_sync_options);
    const struct command run = {.argv = command, .die_with_us = true};
    struct naru_mutex *mutex;
    int r, code = sync_parse_mode(o->mode, &made.mode);

    if (code != NARU_EXIT_OK)
        return code;
    sync_explain_truncation();
    r = naru_mutex_open(name, &made, &mutex);
    if (r < 0)
        return report_failure(r);
    code = take(name, mutex, o->try ? NARU_NOWAIT : o->timeout);
    if (code == NARU_EXIT_OK)
        code = command_run(&run);
    (void)naru_mutex_close(mutex); /* unlocks */
    return code;
}

static int run(const struct invocation *in)
{
    const struct lock_options *o = in->options;
    const char *name = in->operands[0];

    if (o->status + o->remove + (in->command != NULL) != 1 || (in->command && !in->command[0]))
        return report_usage("expected a command behind --, or --status, or --remove: naru lock %s -- make",
                            name);
    if (o->json && !o->status)
        return report_usage("--json goes with --status");
    if (o->status)
        return show_status(name, o->json);
    if (o->remove)
        return remove_free(name);
    return run_locked(name, o, in->command);
}

#define FIELD(name) offsetof(struct lock_options, name)
static const struct verb_option options[] = {
    {OPTION_DURATION, 't', "timeout", "DURATION", "give up waiting after that long (exit 124)",
     FIELD(timeout), NULL, 0, 0},
    {OPTION_FLAG, 'n', "try", NULL, "do not wait at all (exit 124 if it is held)", FIELD(try), NULL, 0, 0},
    {OPTION_TEXT, 'm', "mode", "MODE", "octal permission bits if it is made now (default 0600)", FIELD(mode),
     NULL, 0, 0},
    {OPTION_FLAG, 's', "status", NULL, "say who holds it", FIELD(status), NULL, 0, 0},
    {OPTION_FLAG, 0, "remove", NULL, "remove it; refused while it is held", FIELD(remove), NULL, 0, 0},
    {OPTION_FLAG, 'j', "json", NULL, "with --status: JSON", FIELD(json), NULL, 0, 0},
    {0}};

const struct verb verb_lock = {
    .name = "lock",
    .group = GROUP_SYNC,
    .summary = "run a command while no other runs under the same lock",
    .operands = "NAME -- COMMAND...",
    .details = "Waits for the lock of that name, made when first used, runs the command, and passes\n"
               "on its exit status. A holder that is killed hands the lock over at once, and the next\n"
               "one says so. Signals sent to naru are sent on to the command. If naru itself is killed,\n"
               "so is the command; what the command has started (make its compilers) is not, and may\n"
               "go on without the lock.\n\n"
               "The lock is the naru_mutex of that name, so programs can share it.\n\n"
               "  naru lock backup -- tar cf /tmp/home.tar ~\n"
               "  naru lock --try deploy -- ./deploy || echo 'somebody is at it'\n"
               "  naru lock --status --json deploy",
    .options = options,
    .options_size = sizeof(struct lock_options),
    .defaults = &defaults,
    .operands_min = 1,
    .operands_max = 1,
    .operand = OPERAND_OTHER,
    .command = true,
    .run = run,
};
