/* SPDX-License-Identifier: MIT */
/* naru cat URL [URL]: joins two ends. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/endpoint.h"
#include "cli/exit.h"
#include "cli/interrupt.h"
#include "cli/relay.h"
#include "cli/report.h"
#include "cli/verb.h"

struct cat_options {
    bool listen, listen_second, one_way, verbose;
    int64_t timeout, linger;
};

struct side {
    const char *url;
    struct endpoint end;
    bool listens;
    enum naru_direction direction;
};

static bool is_duplex(const char *url)
{
    const struct naru_mechanism *row = endpoint_mechanism(url);

    return !row || (row->capabilities & NARU_CAN_DUPLEX) || strcmp(row->scheme, "-") == 0;
}

/* A one-way mechanism is read from by whoever makes it; where a mechanism allows only one role, it is that.
 */
static bool should_listen(const struct side *s, bool asked)
{
    const struct naru_mechanism *row = endpoint_mechanism(s->url);

    bool reads = row && s->direction == NARU_DIRECTION_RECEIVE && !(row->capabilities & NARU_CAN_DUPLEX);

    return endpoint_should_listen(s->url, asked || reads);
}

static int open_listening(struct side *s, const struct naru_options *common)
{
    struct naru_options options = *common;

    options.direction = s->direction;
    return s->listens ? endpoint_listen(&s->end, s->url, &options) : 0;
}

static int open_connected(struct side *s, const struct naru_options *common, int64_t timeout)
{
    struct naru_options options = *common;

    options.direction = s->direction;
    return s->listens ? endpoint_accept(&s->end, timeout)
                      : endpoint_connect(&s->end, s->url, &options, timeout);
}

/* What listens is there before anything waits, so that two naru may be started in either order. *ret_side:
 * the one that failed. */
static int open_sides(struct side sides[2], const struct cat_options *o, const struct side **ret_side)
{
    struct naru_options common = NARU_INIT(struct naru_options);
    int r = interrupt_graceful();

    common.frame = NARU_FRAME_RAW;
    common.interruptible = 1;
    for (int i = 0; i < 4 && r == 0; i++) {
        struct side *s = &sides[i % 2];

        *ret_side = s;
        r = i < 2 ? open_listening(s, &common) : open_connected(s, &common, o->timeout);
    }
    return r;
}

static struct relay_end relay_end_of(const struct side *s)
{
    return (struct relay_end){.channel = s->end.channel,
                              .url = s->url,
                              .sends = (s->direction & NARU_DIRECTION_SEND) != 0,
                              .receives = (s->direction & NARU_DIRECTION_RECEIVE) != 0,
                              .standard = s->url[0] == '-',
                              .interactive = s->url[0] == '-' && isatty(STDIN_FILENO) == 1};
}

static int join(struct side sides[2], const struct cat_options *o)
{
    struct relay_end first = relay_end_of(&sides[0]), second = relay_end_of(&sides[1]);
    struct relay_result result;
    int code = relay_run(&first, &second, o->linger, &result);

    if (o->verbose)
        report_note("%s to %s: %" PRIu64 " bytes; back: %" PRIu64 " bytes", sides[0].url, sides[1].url,
                    result.bytes[0], result.bytes[1]);
    return code;
}

static int run(const struct invocation *in)
{
    const struct cat_options *o = in->options;
    struct side sides[2] = {{.url = in->operands[0]}, {.url = in->operand_count > 1 ? in->operands[1] : "-"}};
    bool both = !o->one_way && is_duplex(sides[0].url) && is_duplex(sides[1].url);
    const struct side *failed = sides;
    int code, r;

    sides[0].direction = both ? NARU_DIRECTION_BOTH : NARU_DIRECTION_RECEIVE;
    sides[1].direction = both ? NARU_DIRECTION_BOTH : NARU_DIRECTION_SEND;
    sides[0].listens = should_listen(&sides[0], o->listen);
    sides[1].listens = should_listen(&sides[1], o->listen_second);
    for (int i = 0; i < 2; i++) {
        code = endpoint_check(sides[i].url, i == 0 ? o->listen : o->listen_second);
        if (code != NARU_EXIT_OK)
            return code;
    }
    r = open_sides(sides, o, &failed);
    if (r == -ETIMEDOUT && failed->listens && !report_knows_why(failed->url))
        code = report(NARU_EXIT_TIMEOUT, "%s: nobody connected in time", failed->url);
    else
        code = r < 0 ? report_failure_of(failed->url, r, "") : join(sides, o);
    endpoint_close(&sides[1].end);
    endpoint_close(&sides[0].end);
    return code;
}

static const struct cat_options defaults = {.timeout = NARU_FOREVER, .linger = NARU_MS(500)};

#define FIELD(name) offsetof(struct cat_options, name)
static const struct verb_option options[] = {
    {OPTION_FLAG, 'l', "listen", NULL, "the first URL binds and waits for a peer", FIELD(listen), NULL, 0, 0},
    {OPTION_FLAG, 'L', "listen-second", NULL, "the second URL binds and waits for a peer",
     FIELD(listen_second), NULL, 0, 0},
    {OPTION_FLAG, 'u', "one-way", NULL, "carry from the first to the second only", FIELD(one_way), NULL, 0,
     0},
    {OPTION_DURATION, 't', "timeout", "DURATION",
     "how long to wait for the peers to appear (default: forever)", FIELD(timeout), NULL, 0, 0},
    {OPTION_DURATION, 'q', "linger", "DURATION",
     "after the end of input, how long datagram sockets may still answer (default: 500ms)", FIELD(linger),
     NULL, 0, 0},
    {OPTION_FLAG, 'v', "verbose", NULL, "say at the end how much was carried", FIELD(verbose), NULL, 0, 0},
    {0}};

const struct verb verb_cat = {
    .name = "cat",
    .group = GROUP_MESSAGES,
    .summary = "join two ends, in both directions",
    .operands = "URL [URL]",
    .details = "Carries what comes from the first URL to the second (default: -, standard input and output) "
               "and, where\n"
               "both go both ways, back. An end of input is passed on, the other direction goes on until it "
               "ends too.\n"
               "Sockets connect unless told to --listen; a FIFO or queue that is read from is made if it "
               "does not exist.\n"
               "Streams are carried raw, byte for byte, unless ?frame= says otherwise.\n\n"
               "  naru cat tcp://localhost:80\n"
               "  naru cat -l tcp://:8080 unix:///run/app.sock      # a proxy for one connection\n"
               "  ls | naru cat - 'exec:grep .txt'\n"
               "  naru cat fifo:///tmp/landing > everything",
    .options = options,
    .options_size = sizeof(struct cat_options),
    .defaults = &defaults,
    .operands_min = 1,
    .operands_max = 2,
    .operand = OPERAND_URL,
    .run = run,
};
