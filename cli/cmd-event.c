/* SPDX-License-Identifier: MIT */
/* naru event NAME set|reset|wait|pulse|get|rm: one process waits, another goes on. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "cli/exit.h"
#include "cli/json.h"
#include "cli/report.h"
#include "cli/sync-options.h"
#include "cli/verb.h"
#include "naru/error.h"
#include "naru/event.h"

struct event_options {
    int64_t timeout;
    const char *mode;
    bool try, manual, automatic, json;
};

static const struct event_options defaults = {.timeout = NARU_FOREVER};

/* Opens it as asked for; if nothing was asked, as it is. */
static int open_event(const char *name, const struct event_options *o, struct naru_sync_options *options,
                      struct naru_event **ret_event)
{
    enum naru_event_reset_mode mode = o->manual ? NARU_EVENT_MANUAL : NARU_EVENT_AUTO;
    int r = naru_event_open(name, options, mode, ret_event);

    if (r != -EINVAL || o->manual || o->automatic)
        return r;
    return naru_event_open(name, options, NARU_EVENT_MANUAL, ret_event);
}

static int do_set(struct naru_event *event, const char *name, const struct event_options *o)
{
    (void)name;
    (void)o;
    return naru_event_set(event);
}

static int do_reset(struct naru_event *event, const char *name, const struct event_options *o)
{
    (void)name;
    (void)o;
    return naru_event_reset(event);
}

static int do_pulse(struct naru_event *event, const char *name, const struct event_options *o)
{
    (void)name;
    (void)o;
    return naru_event_pulse(event);
}

static int do_wait(struct naru_event *event, const char *name, const struct event_options *o)
{
    (void)name;
    return naru_event_wait(event, o->try ? NARU_NOWAIT : o->timeout);
}

static int do_get(struct naru_event *event, const char *name, const struct event_options *o)
{
    int set = naru_event_is_set(event), mode = naru_event_mode(event);

    if (set < 0 || mode < 0)
        return set < 0 ? set : mode;
    if (o->json) {
        struct json j = json_begin(stdout, JSON_ONE_LINE);

        json_object(&j, NULL);
        json_text(&j, "name", name);
        json_bool(&j, "set", set);
        json_text(&j, "reset", mode == NARU_EVENT_MANUAL ? "manual" : "auto");
        json_end(&j);
    } else {
        (void)printf("%s (%s-reset)\n", set ? "set" : "not set",
                     mode == NARU_EVENT_MANUAL ? "manual" : "auto");
    }
    return 0;
}

static const struct action {
    const char *name;
    enum naru_create create;
    int (*run)(struct naru_event *event, const char *name, const struct event_options *o);
} actions[] = {
    {"set", NARU_CREATE_YES, do_set},   {"reset", NARU_CREATE_YES, do_reset},
    {"wait", NARU_CREATE_YES, do_wait}, {"pulse", NARU_CREATE_NO, do_pulse},
    {"get", NARU_CREATE_NO, do_get},
};

static int act(const struct action *action, const char *name, const struct event_options *o)
{
    struct naru_sync_options options = NARU_INIT(struct naru_sync_options);
    struct naru_event *event;
    int r, code = sync_parse_mode(o->mode, &options.mode);

    if (code != NARU_EXIT_OK)
        return code;
    sync_explain_truncation();
    options.create = action->create;
    r = open_event(name, o, &options, &event);
    if (r < 0)
        return report_failure(r);
    r = action->run(event, name, o);
    (void)naru_event_close(event);
    if (r == -EAGAIN || r == -ETIMEDOUT)
        return report(NARU_EXIT_TIMEOUT, "event '%s': nobody set it in time", name);
    return r < 0 ? report_failure(r) : NARU_EXIT_OK;
}

static int run(const struct invocation *in)
{
    const struct event_options *o = in->options;
    const char *name = in->operands[0], *word = in->operands[1];

    if (o->manual && o->automatic)
        return report_usage("--manual and --auto exclude each other");
    if (o->json && strcmp(word, "get") != 0)
        return report_usage("--json goes with get");
    if (strcmp(word, "rm") == 0) {
        int r = naru_sync_remove(NARU_SYNC_EVENT, name);

        return r < 0 ? report_failure(r) : NARU_EXIT_OK;
    }
    for (size_t i = 0; i < sizeof actions / sizeof *actions; i++)
        if (strcmp(actions[i].name, word) == 0)
            return act(&actions[i], name, o);
    return report_usage("expected set, reset, wait, pulse, get or rm behind the name, not '%s'", word);
}

#define FIELD(name) offsetof(struct event_options, name)
static const struct verb_option options[] = {
    {OPTION_DURATION, 't', "timeout", "DURATION", "wait: give up after that long (exit 124)", FIELD(timeout),
     NULL, 0, 0},
    {OPTION_FLAG, 'n', "try", NULL, "wait: do not wait (exit 124 if it is not set)", FIELD(try), NULL, 0, 0},
    {OPTION_FLAG, 'M', "manual", NULL, "it stays set until reset; said when it is made", FIELD(manual), NULL,
     0, 0},
    {OPTION_FLAG, 'A', "auto", NULL, "it lets one waiter through for each set (default when made)",
     FIELD(automatic), NULL, 0, 0},
    {OPTION_TEXT, 'm', "mode", "MODE", "octal permission bits if it is made now (default 0600)", FIELD(mode),
     NULL, 0, 0},
    {OPTION_FLAG, 'j', "json", NULL, "get: JSON", FIELD(json), NULL, 0, 0},
    {0}};

const struct verb verb_event = {
    .name = "event",
    .group = GROUP_SYNC,
    .summary = "wait for an event, or set it",
    .operands = "NAME set|reset|wait|pulse|get|rm",
    .details = "set, reset and wait make the event if nobody has yet. An auto-reset event lets one\n"
               "waiter through for each set; a manual-reset one lets everybody through until it is\n"
               "reset. pulse lets through who waits at this moment and leaves it not set.\n\n"
               "  naru event ready wait && echo go      # one terminal\n"
               "  naru event ready set                  # another\n"
               "  naru event --manual open set          # from now on all go through",
    .options = options,
    .options_size = sizeof(struct event_options),
    .defaults = &defaults,
    .operands_min = 2,
    .operands_max = 2,
    .operand = OPERAND_OTHER,
    .run = run,
};
