/* SPDX-License-Identifier: MIT */
/* naru send URL: what is read or given becomes messages. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cutter.h"
#include "cli/endpoint.h"
#include "cli/exit.h"
#include "cli/interrupt.h"
#include "cli/report.h"
#include "cli/verb.h"

struct send_options {
    struct texts messages;
    int frame;
    int64_t count, timeout, priority, type;
    bool listen, taken, reconnect;
};

/* A block of input becomes this many messages at most in one naru_send_batch(). */
enum { BATCH_MAX = 256 };

struct sender {
    const struct send_options *options;
    const char *url;
    struct naru_channel *channel;
    uint64_t sent;
    bool reconnects;      /* a peer that has gone is not the end ... */
    uint64_t connections; /* ... if somebody has been connected to since this one was lost */
    size_t batch;         /* how many of the following wait to be sent */
    struct iovec pieces[BATCH_MAX];
    struct naru_message messages[BATCH_MAX];
};

static bool enough(const struct sender *s)
{
    return s->options->count > 0 && s->sent + s->batch >= (uint64_t)s->options->count;
}

static void add(struct sender *s, const char *data, size_t length)
{
    struct naru_message *m = &s->messages[s->batch];

    s->pieces[s->batch] = (struct iovec){.iov_base = (void *)(uintptr_t)data, .iov_len = length};
    *m = (struct naru_message)NARU_INIT(struct naru_message);
    m->iov = &s->pieces[s->batch];
    m->iov_count = 1;
    m->type = s->options->type;
    m->priority = (unsigned)s->options->priority;
    s->batch++;
}

/* Which one it is, from 1 on: also once it is lost, until there is another. */
static uint64_t connection_of(const struct sender *s)
{
    struct naru_channel_info info = NARU_INIT(struct naru_channel_info);

    return naru_channel_info(s->channel, &info) < 0 ? 0
                                                    : info.reconnects + 1; /* it is ours: it cannot fail */
}

/* Whether the connection is lost, as goes_on() has said. */
static bool is_between_receivers(const struct sender *s)
{
    return s->reconnects && connection_of(s) == s->connections;
}

/* A stream may have taken half of the last message that counts as sent (-EINPROGRESS). If the receiver is
 * slow, its rest is still here, and ends with us. What one that has gone had received is not known. */
static bool is_last_cut(const struct sender *s, int result)
{
    return s->sent > 0 && (result == -ETIMEDOUT || result == -EAGAIN || result == -ECANCELED) &&
           !is_between_receivers(s) && naru_flush(s->channel, NARU_SENT, NARU_NOWAIT) < 0;
}

/* Whoever pipes data through must learn how much of it went out. */
static int report_unsent(const struct sender *s, int result)
{
    char tail[96] = "", sentence[1024];

    if (!s->channel)
        return report_failure_of(s->url, result, "");
    (void)snprintf(sentence, sizeof sentence, "%s", /* the flush has a sentence of its own */
                   result != -ETIMEDOUT || report_knows_why(s->url) ? naru_explain()
                   : s->reconnects ? "neither a receiver nor room came in time; see whether one listens, or "
                                     "wait longer (--timeout)"
                                   : "no room came in time: the receiver is too slow, or stopped; wait "
                                     "longer (--timeout), or see to it");
    if (is_last_cut(s, result))
        (void)snprintf(tail, sizeof tail, " (%" PRIu64 " sent before, and a part of one)", s->sent - 1);
    else
        (void)snprintf(tail, sizeof tail, " (%" PRIu64 " sent before)", s->sent);
    return report_sentence_of(s->url, result, sentence, tail);
}

/* Whether a receiver's end is to be said and no more: the next send connects to the next one. What this one
 * was given and had not received is lost; the message that found it gone goes to the next. */
static bool goes_on(struct sender *s, int result)
{
    char sentence[1024];

    if (!s->reconnects || (result != -EPIPE && result != -EOWNERDEAD && result != -ECONNRESET))
        return false;
    (void)snprintf(sentence, sizeof sentence, "%s", naru_explain());
    if (is_between_receivers(s))
        return false; /* it was told before: this is the library giving up */
    s->connections = connection_of(s);
    report_note("%s", sentence);
    return true;
}

/* shm: asks nobody whether the receiver lives while there is room, so a sender whose lines come one by one
 * would fill the ring of a killed one. A full batch is asked soon enough, by the lack of room. 0, or
 * -EOWNERDEAD. */
static int look_for_death(struct sender *s)
{
    int r = s->batch < BATCH_MAX ? naru_flush(s->channel, NARU_TAKEN, NARU_NOWAIT) : 0;

    return r == -EOWNERDEAD ? r : 0; /* all else is the business of the next call, as -ENOTSUP is of none */
}

/* Sends all that was added. NARU_EXIT_OK, or the exit code of what was reported. */
static int send_added(struct sender *s)
{
    size_t done = 0;
    int r;

    while (done < s->batch) {
        ssize_t n = naru_send_batch(s->channel, s->messages + done, s->batch - done, s->options->timeout);

        if (n < 0 && goes_on(s, (int)n))
            continue;
        if (n < 0)
            return report_unsent(s, (int)n);
        done += (size_t)n;
        s->sent += (uint64_t)n;
    }
    r = look_for_death(s);
    s->batch = 0;
    return r < 0 && !goes_on(s, r) ? report_unsent(s, r) : NARU_EXIT_OK;
}

static int send_arguments(struct sender *s)
{
    int code = NARU_EXIT_OK;
    const struct texts *texts = &s->options->messages;

    /* With -n, the texts are repeated until there are that many. */
    for (size_t i = 0; code == NARU_EXIT_OK; i++) {
        if (s->options->count > 0 ? enough(s) : i == texts->count)
            break;
        add(s, texts->items[i % texts->count], strlen(texts->items[i % texts->count]));
        if (s->batch == BATCH_MAX)
            code = send_added(s);
        if (interrupt_signal())
            return interrupt_exit_code();
    }
    return code == NARU_EXIT_OK ? send_added(s) : code;
}

/* Messages in hand go out before more is waited for: nothing is delayed. */
static int send_input(struct sender *s, struct cutter *input)
{
    while (!enough(s)) {
        const char *data;
        size_t length;
        int r = cutter_next(input, &data, &length);

        if (r == 1)
            add(s, data, length);
        if (s->batch == BATCH_MAX || (r != 1 && s->batch > 0)) {
            int code = send_added(s);

            if (code != NARU_EXIT_OK)
                return code;
        }
        if (r == 0 && input->ended)
            return NARU_EXIT_OK;
        if (r == 0)
            r = cutter_fill(input);
        if (r < 0)
            return cutter_report(r, "standard input");
    }
    return send_added(s);
}

static int send_standard_input(struct sender *s)
{
    struct naru_channel_info info = NARU_INIT(struct naru_channel_info);
    struct cutter input;
    int code;
    int r = naru_channel_info(s->channel, &info);

    if (r < 0)
        return report_failure(r);
    r = cutter_init(&input, STDIN_FILENO, (enum mark)s->options->frame, info.max_message);
    if (r < 0)
        return report_errno(-r, "standard input");
    code = send_input(s, &input);
    cutter_deinit(&input);
    return code;
}

static int send_all(struct sender *s)
{
    int code = s->options->messages.count > 0 ? send_arguments(s) : send_standard_input(s);
    int r;

    if (code != NARU_EXIT_OK)
        return code;
    r = naru_flush(s->channel, s->options->taken ? NARU_TAKEN : NARU_SENT, s->options->timeout);
    if (r == -ETIMEDOUT && s->options->taken && !is_last_cut(s, r))
        return report(NARU_EXIT_TIMEOUT,
                      "%s: the receiver has not taken everything in time (%" PRIu64 " sent)", s->url,
                      s->sent);
    return r < 0 ? report_unsent(s, r) : NARU_EXIT_OK;
}

static int check(const struct send_options *o, const char *url)
{
    const struct naru_mechanism *row = endpoint_mechanism(url);

    if (!row) /* naru_connect() says what is wrong */
        return NARU_EXIT_OK;
    if (o->type != 0 && !(row->capabilities & NARU_CAN_TYPE))
        return report_usage("--type: %s has no message types; use sysvmq:", row->name);
    if (o->priority != 0 && !(row->capabilities & NARU_CAN_PRIORITY))
        return report_usage("--priority: %s has no priorities; use posixmq:, or shm: with ?lanes=",
                            row->name);
    if (o->reconnect && o->listen)
        return report_usage("--reconnect is for the side that connects; it cannot go with --listen");
    if (o->taken && !(row->capabilities & NARU_CAN_TELL_TAKEN))
        return report_usage("--taken: %s does not tell what has been received", row->name);
    return endpoint_check(url, o->listen);
}

static int run(const struct invocation *in)
{
    const struct send_options *o = in->options;
    struct naru_options options = NARU_INIT(struct naru_options);
    struct sender *s;
    struct endpoint end;
    int code = check(o, in->operands[0]);
    int r;

    if (code != NARU_EXIT_OK)
        return code;
    s = calloc(1, sizeof *s);
    if (!s)
        return report_errno(ENOMEM, "%s", in->operands[0]);
    options.direction = NARU_DIRECTION_SEND;
    options.interruptible = o->listen;
    options.reconnect_ns = o->reconnect ? NARU_FOREVER : 0;
    r = o->listen ? endpoint_listen(&end, in->operands[0], &options)
                  : endpoint_connect(&end, in->operands[0], &options, o->timeout);
    if (r == 0 && o->listen)
        r = endpoint_accept(&end, o->timeout);
    s->options = o;
    s->url = in->operands[0];
    s->channel = end.channel;
    s->reconnects = o->reconnect || (strstr(s->url, "reconnect=") && !strstr(s->url, "reconnect=no"));
    if (r == -ETIMEDOUT && o->listen && !report_knows_why(s->url))
        code = report(NARU_EXIT_TIMEOUT, "%s: nobody connected in time", s->url);
    else
        code = r < 0 ? report_unsent(s, r) : send_all(s);
    endpoint_close(&end);
    free(s);
    return code;
}

static const struct send_options defaults = {.timeout = NARU_FOREVER};

#define FIELD(name) offsetof(struct send_options, name)
static const struct verb_option options[] = {
    {OPTION_TEXTS, 'm', "message", "TEXT", "send TEXT instead of standard input; may be repeated",
     FIELD(messages), NULL, 0, 0},
    {OPTION_WORD, 'f', "frame", NULL, "how standard input is cut into messages (default: line)", FIELD(frame),
     mark_words, 0, 0},
    {OPTION_NUMBER, 'n', "count", "COUNT", "stop after COUNT messages; with -m, repeat until there are COUNT",
     FIELD(count), NULL, 1, INT64_MAX},
    {OPTION_DURATION, 't', "timeout", "DURATION",
     "give up after waiting this long for the receiver, or for room (500ms, 2s, 1m, a bare 2: seconds; "
     "default: forever)",
     FIELD(timeout), NULL, 0, 0},
    {OPTION_NUMBER, 'p', "priority", "NUMBER", "higher overtakes lower", FIELD(priority), NULL, 0, 32767},
    {OPTION_NUMBER, 'T', "type", "NUMBER", "message type, which receivers can choose by", FIELD(type), NULL,
     1, INT64_MAX},
    {OPTION_FLAG, 'w', "taken", NULL, "wait until the receiver has taken everything", FIELD(taken), NULL, 0,
     0},
    {OPTION_FLAG, 'r', "reconnect", NULL,
     "when the receiver goes, say so and go on with the next that listens there (as ?reconnect=yes)",
     FIELD(reconnect), NULL, 0, 0},
    {OPTION_FLAG, 'l', "listen", NULL, "be the side that binds, and let the receiver connect", FIELD(listen),
     NULL, 0, 0},
    {0}};

const struct verb verb_send = {
    .name = "send",
    .group = GROUP_MESSAGES,
    .summary = "send lines, blocks or texts as messages",
    .operands = "URL",
    .details = "Waits for the receiver to appear, then sends each line of standard input as one message.\n"
               "--frame says how standard input is cut: line, nul (as find -print0 writes), len32 (32-bit "
               "big-endian\n"
               "length before each), raw (each block that read(2) gives), whole (all of it is one message). "
               "How messages\n"
               "are told apart on the way is the URL's business: ?frame= of `naru help urls`.\n\n"
               "  seq 1000 | naru send unix:///tmp/landing      # naru recv unix:///tmp/landing\n"
               "  naru send -m 'hello' -p 5 posixmq:/jobs\n"
               "  naru send -t 2s -f whole tcp://localhost:5000 < picture.png",
    .options = options,
    .options_size = sizeof(struct send_options),
    .defaults = &defaults,
    .operands_min = 1,
    .operands_max = 1,
    .operand = OPERAND_URL,
    .instead = "; a text to send goes behind -m",
    .run = run,
};
