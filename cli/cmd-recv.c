/* SPDX-License-Identifier: MIT */
/* naru recv URL: messages are printed as they come. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/endpoint.h"
#include "cli/exit.h"
#include "cli/gathering.h"
#include "cli/interrupt.h"
#include "cli/json.h"
#include "cli/now.h"
#include "cli/one-by-one.h"
#include "cli/output.h"
#include "cli/report.h"
#include "cli/verb.h"

struct recv_options {
    int frame;
    int64_t count, timeout, type;
    bool connect, keep, json, verbose, from;
};

struct receiver {
    const struct recv_options *options;
    const char *url;
    char *actual; /* with what our options add */
    struct one_by_one senders;
    struct naru_gather *gather;   /* instead, where many can connect */
    struct naru_gather_from from; /* of the gather: whose message it is */
    int64_t silent_since;         /* when the wait for the next message began; 0: it has not */
    size_t last_turns;            /* when the time is up: of peers that may have a message; 0: it is not */
    struct output out;
    FILE *json; /* one message's line, in memory, so that it goes the way of all output */
    char *json_text;
    size_t json_length;
    uint64_t received;
    bool warned; /* of newlines within lines */
};

static int init(struct receiver *r)
{
    int result = output_init(&r->out, STDOUT_FILENO);

    if (result == 0 && r->options->json) {
        r->json = open_memstream(&r->json_text, &r->json_length);
        if (!r->json)
            result = -errno;
    }
    return result;
}

static void deinit(struct receiver *r)
{
    endpoint_close(&r->senders.end);
    (void)naru_gather_close(r->gather);
    output_deinit(&r->out);
    if (r->json)
        (void)fclose(r->json);
    free(r->json_text);
}

static int print_json(struct receiver *r, const struct naru_view *view)
{
    struct json j = json_begin(r->json, JSON_ONE_LINE);

    rewind(r->json);
    json_object(&j, NULL);
    json_uint(&j, "length", view->length);
    if (r->options->from && r->from.number)
        json_uint(&j, "from", r->from.number);
    if (view->type != 0)
        json_int(&j, "type", view->type);
    if (view->priority != 0)
        json_uint(&j, "priority", view->priority);
    if (view->sender.pid >= 0) {
        json_object(&j, "sender");
        json_int(&j, "pid", view->sender.pid);
        json_int(&j, "uid", view->sender.uid);
        json_int(&j, "gid", view->sender.gid);
        json_end(&j);
    }
    json_bytes(&j, "data", view->data, view->length);
    json_end(&j);
    if (fflush(r->json) != 0)
        return -errno;
    return output_message(&r->out, MARK_RAW, r->json_text, (size_t)ftello(r->json));
}

static void print_metadata(const struct naru_view *view)
{
    char type[48] = "", priority[48] = "", sender[96] = "";

    if (view->type != 0)
        (void)snprintf(type, sizeof type, ", type %" PRId64, view->type);
    if (view->priority != 0)
        (void)snprintf(priority, sizeof priority, ", priority %u", view->priority);
    if (view->sender.pid >= 0)
        (void)snprintf(sender, sizeof sender, ", from pid %" PRId64 " (uid %" PRId64 ")", view->sender.pid,
                       view->sender.uid);
    report_note("%zu byte%s%s%s%s", view->length, view->length == 1 ? "" : "s", type, priority, sender);
}

/* A mark within the payload would read as two messages: said once, not repaired, the bytes are the user's. */
static void warn_of_marks(struct receiver *r, const struct naru_view *view)
{
    int mark = r->options->frame == MARK_LINE ? '\n' : '\0';

    if (r->warned || r->options->json || (r->options->frame != MARK_LINE && r->options->frame != MARK_NUL) ||
        !view->length || !memchr(view->data, mark, view->length))
        return;
    r->warned = true;
    report_note("message %" PRIu64 " holds the mark that ends each; --frame len32 or --json keeps them apart",
                r->received);
}

static int print(struct receiver *r, const struct naru_view *view)
{
    r->received++;
    if (r->options->verbose)
        print_metadata(view);
    warn_of_marks(r, view);
    if (r->options->json)
        return print_json(r, view);
    if (r->options->from && r->from.number) {
        char who[24];
        int length = snprintf(who, sizeof who, "%" PRIu64 "\t", r->from.number);
        int result = output_bytes(&r->out, who, (size_t)length);

        if (result < 0)
            return result;
    }
    return output_message(&r->out, (enum mark)r->options->frame, view->data, view->length);
}

static bool enough(const struct receiver *r)
{
    return r->options->count > 0 && r->received >= (uint64_t)r->options->count;
}

/* When --timeout is up, which is for one message: senders that come and go in silence do not prolong it. */
static int64_t deadline_of(struct receiver *r)
{
    if (r->options->timeout == NARU_FOREVER)
        return NARU_FOREVER;
    if (!r->silent_since)
        r->silent_since = now();
    return r->options->timeout < NARU_FOREVER - r->silent_since ? r->silent_since + r->options->timeout
                                                                : NARU_FOREVER;
}

static int64_t time_left(struct receiver *r)
{
    return now_left(deadline_of(r));
}

/* Something that was no message has been dealt with. Time that is up ends the command when each peer that was
 * there by then has had its turn. 0 or -ETIMEDOUT. */
static int mind_the_time(struct receiver *r)
{
    if (time_left(r) != NARU_NOWAIT)
        return 0;
    if (!r->last_turns)
        r->last_turns = naru_gather_peers(r->gather) + 1;
    return --r->last_turns > 0 ? 0 : -ETIMEDOUT;
}

static int take(struct receiver *r, int64_t timeout, struct naru_view *ret_view)
{
    return r->gather ? gathering_borrow(r->gather, timeout, ret_view, &r->from)
                     : naru_borrow(r->senders.end.channel, timeout, ret_view);
}

static void note_failure(struct receiver *r, int result)
{
    one_by_one_note(&r->senders, result, naru_explain());
}

static void report_dropped(const struct receiver *r, const struct naru_channel *ch);

/* One of many senders has gone. 0 to go on, or -EPIPE: it was the last. Who was killed, or sent nonsense,
 * makes the command fail, unless it is to keep going. */
static int see_off(struct receiver *r)
{
    ssize_t left;

    if (r->from.left != -EPIPE && r->options->keep) {
        report_note("%s; waiting for others", naru_explain());
    } else if (r->from.left != -EPIPE) {
        note_failure(r, r->from.left);
    }
    report_dropped(r, r->from.channel);
    if (r->options->keep || naru_gather_peers(r->gather) > 0)
        return 0;
    left =
        naru_gather_finish(r->gather); /* who came meanwhile is received from; who comes now finds nobody */
    if (left < 0)
        note_failure(r, (int)left);
    return naru_gather_peers(r->gather) > 0 ? 0 : -EPIPE;
}

/* Nobody new can come, for now or at all: who is there is received from. 0 to go on. */
static int carry_on(struct receiver *r, int result)
{
    bool known = result == -EMFILE || result == -ENFILE || result == -ENOMEM || result == -ENOENT;

    if (!r->gather || !known || naru_gather_peers(r->gather) == 0)
        return result;
    note_failure(r, result);
    return 0;
}

/* Prints what is there without waiting, then flushes and waits: a slow stream appears at once, a fast one in
 * large writes. 0: enough, else why receiving ended. *ret_code: set if that was our output's fault. */
static int receive(struct receiver *r, int *ret_code)
{
    while (!enough(r)) {
        struct naru_view view = NARU_INIT(struct naru_view);
        int result = take(r, NARU_NOWAIT, &view);
        int printed = 0;

        if (result == -EAGAIN) {
            printed = output_flush(&r->out);
            if (printed == 0)
                result = take(r, time_left(r), &view);
        }
        if (result == 0 && printed == 0) {
            r->silent_since = 0;
            r->last_turns = 0;
            printed = print(r, &view);
            naru_release(&view);
        }
        if (printed < 0) {
            *ret_code = output_report(&r->out, printed);
            return printed;
        }
        if (result < 0) {
            result = r->gather && r->from.left ? see_off(r) : carry_on(r, result);
            if (result == 0)
                result = mind_the_time(r);
        }
        if (result < 0)
            return result;
        if (interrupt_signal())
            return -ECANCELED;
    }
    return 0;
}

/* Why it ended, as an exit code: the sender's orderly end is the normal one, unless more was wanted. */
static int conclude(const struct receiver *r, int result)
{
    int code = exit_code(result);

    if (result == -EPIPE && r->senders.code != NARU_EXIT_OK)
        return r->senders.code;
    if (result == 0 || (result == -EPIPE && r->options->count == 0))
        return NARU_EXIT_OK;
    if (result == -EPIPE)
        return report(NARU_EXIT_FAILED, "%s: the sender closed after %" PRIu64 " of %" PRId64 " messages",
                      r->url, r->received, r->options->count);
    if (result == -ECANCELED && interrupt_signal())
        return code;
    if ((result == -ETIMEDOUT || result == -EAGAIN) && r->options->connect && !r->senders.end.channel)
        return report_failure_of(r->url, result, ""); /* nobody was there to receive from */
    if ((result == -ETIMEDOUT || result == -EAGAIN) && !report_knows_why(r->url))
        return report(code, "%s: no %smessage came in time", r->url, r->received ? "further " : "");
    return report_failure_of(r->url, result, "");
}

/* What the kernel or a policy threw away and told us of. */
static void report_dropped(const struct receiver *r, const struct naru_channel *ch)
{
    struct naru_channel_info info = NARU_INIT(struct naru_channel_info);

    if (ch && naru_channel_info(ch, &info) == 0 && info.dropped > 0)
        report_note("%s: %" PRIu64 " messages or descriptors were dropped before they could be received",
                    r->url, info.dropped);
}

static int receive_all(struct receiver *r)
{
    const struct naru_mechanism *row = endpoint_mechanism(r->url);
    bool many = row && (row->capabilities & NARU_CAN_ACCEPT_MANY);
    int code = -1, result, flushed;

    for (;;) {
        result = receive(r, &code);
        if (code >= 0)
            return code;
        if (r->gather || !r->senders.end.listener || (result != -EPIPE && result != -EOWNERDEAD) ||
            (!r->options->keep && !many))
            break;
        flushed = output_flush(&r->out);
        if (flushed < 0)
            return output_report(&r->out, flushed);
        result = one_by_one_next(&r->senders, result, deadline_of(r));
        if (result < 0)
            break;
    }
    code = conclude(r, result); /* before anything else that may change naru_explain() */
    report_dropped(r, r->senders.end.channel);
    flushed = output_flush(&r->out);
    return flushed < 0 ? output_report(&r->out, flushed) : code;
}

static int open_end(struct receiver *r)
{
    const char *url = r->actual;
    const struct naru_mechanism *row = endpoint_mechanism(url);
    struct naru_options options = NARU_INIT(struct naru_options);
    int result = interrupt_graceful();

    if (result < 0)
        return result;
    options.direction = NARU_DIRECTION_RECEIVE;
    if (!r->options->connect && gathering_can(row))
        return gathering_open(url, &options, &r->gather);
    options.interruptible = 1;
    /* `(naru recv -n 1 -; cat)`: what we were not asked for is for the next one. */
    if (row && strcmp(row->scheme, "-") == 0 && r->options->count)
        options.read_ahead = NARU_CHOICE_NO;
    if (r->options->connect || (row && !(row->capabilities & NARU_CAN_LISTEN)))
        return endpoint_connect(&r->senders.end, url, &options, r->options->timeout);
    result = one_by_one_listen(&r->senders);
    if (result == 0)
        result = one_by_one_accept(&r->senders, deadline_of(r));
    r->silent_since = 0; /* the first message has all of the time, too */
    return result;
}

/* Receiving by type is the URL's to say: there it holds for every receiver of the library. */
static int typed_url(const struct recv_options *o, const char *url, char **ret_url)
{
    const struct naru_mechanism *row = endpoint_mechanism(url);
    char number[24];

    if (o->type == 0) {
        *ret_url = strdup(url);
    } else if (row && !(row->capabilities & NARU_CAN_TYPE)) {
        return report_usage("--type: %s has no message types; use sysvmq:", row->name);
    } else {
        (void)snprintf(number, sizeof number, "%" PRId64, o->type);
        *ret_url = endpoint_add_option(url, "recv-type", number);
    }
    return *ret_url ? NARU_EXIT_OK : report_errno(ENOMEM, "%s", url);
}

static int run(const struct invocation *in)
{
    struct receiver r = {.options = in->options,
                         .url = in->operands[0],
                         .senders = {.url = in->operands[0], .code = NARU_EXIT_OK},
                         .from = NARU_INIT(struct naru_gather_from)};
    int code, result;

    if (r.options->keep && r.options->connect)
        return report_usage("--keep waits for further senders to connect; it cannot go with --connect");
    if (r.options->json && r.options->frame != MARK_LINE)
        return report_usage("--json prints a line for each message; --frame cannot change that");
    code = endpoint_check(r.url, false);
    if (code == NARU_EXIT_OK)
        code = typed_url(r.options, r.url, &r.actual);
    if (code != NARU_EXIT_OK)
        return code;
    r.senders.actual = r.actual;
    r.senders.keep = r.options->keep;
    result = init(&r);
    if (result < 0) {
        code = report_errno(-result, "%s", r.url);
    } else {
        result = open_end(&r);
        code = result < 0 ? conclude(&r, result) : receive_all(&r);
    }
    deinit(&r);
    free(r.actual);
    return code;
}

static const struct recv_options defaults = {.timeout = NARU_FOREVER};

#define FIELD(name) offsetof(struct recv_options, name)
static const struct verb_option options[] = {
    {OPTION_WORD, 'f', "frame", NULL, "how messages are told apart on standard output (default: line)",
     FIELD(frame), mark_output_words, 0, 0},
    {OPTION_NUMBER, 'n', "count", "COUNT", "stop after COUNT messages", FIELD(count), NULL, 1, INT64_MAX},
    {OPTION_DURATION, 't', "timeout", "DURATION",
     "give up when no message has come for this long, whoever comes and goes (500ms, 2s, 1m, a bare 2: "
     "seconds; default: "
     "forever)",
     FIELD(timeout), NULL, 0, 0},
    {OPTION_NUMBER, 'T', "type", "NUMBER",
     "receive messages of this type only; -N: of types up to N, the lowest first", FIELD(type), NULL,
     INT64_MIN, INT64_MAX},
    {OPTION_FLAG, 'k', "keep", NULL,
     "wait for further senders when all have closed; one that was killed does not end it", FIELD(keep), NULL,
     0, 0},
    {OPTION_FLAG, 'j', "json", NULL, "print a JSON object a line: data, length, type, priority, sender",
     FIELD(json), NULL, 0, 0},
    {OPTION_FLAG, 0, "from", NULL,
     "put the sender's number before each message, with a tab: 1 is the first that came", FIELD(from), NULL,
     0, 0},
    {OPTION_FLAG, 'v', "verbose", NULL, "say each message's length, type, priority and sender on stderr",
     FIELD(verbose), NULL, 0, 0},
    {OPTION_FLAG, 'c', "connect", NULL, "connect to a sender that binds", FIELD(connect), NULL, 0, 0},
    {0}};

const struct verb verb_recv = {
    .name = "recv",
    .group = GROUP_MESSAGES,
    .summary = "receive messages and print them",
    .operands = "URL",
    .details =
        "Creates the endpoint, waits for senders and prints each message as a line, until all of them have "
        "closed,\n"
        "COUNT messages came, or nothing came for the timeout. Where each sender has a connection (shm:, "
        "unix:,\n"
        "tcp:) they take turns. What arrived is printed at once. --frame: line,\n"
        "nul (for xargs -0), len32 (32-bit big-endian length before each), raw (nothing between).\n"
        "To take one message of a queue say -n 1; with `| head -n 1` those that follow are taken and lost.\n"
        "In JSON, payloads that are not UTF-8 stand as data_base64.\n\n"
        "  naru recv unix:///tmp/landing\n"
        "  naru recv --json -n 1 'posixmq:/jobs?maxmsg=5'\n"
        "  naru recv --keep -f raw 'tcp://:5000?frame=raw' > everything",
    .options = options,
    .options_size = sizeof(struct recv_options),
    .defaults = &defaults,
    .operands_min = 1,
    .operands_max = 1,
    .operand = OPERAND_URL,
    .run = run,
};
