/* SPDX-License-Identifier: MIT */
/* naru listen URL: serves every connection: prints, echoes, answers, or runs a command for each. */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "cli/endpoint.h"
#include "cli/exit.h"
#include "cli/interrupt.h"
#include "cli/output.h"
#include "cli/relay.h"
#include "cli/report.h"
#include "cli/verb.h"

struct listen_options {
    bool echo, verbose;
    const char *reply;
    int frame;
    int64_t count, max;
};

struct server {
    const struct listen_options *options;
    const char *url;
    char *command; /* exec: URL, or NULL */
    struct endpoint end;
    int ended_fd;         /* eventfd: readable after a connection ended */
    pthread_mutex_t lock; /* of all below */
    struct output out;
    struct connection *connections;
    int64_t active, accepted;
    int code; /* why the server must stop; NARU_EXIT_OK: it need not */
    bool stopping;
    bool hinted;
};

/* One thread each. The channels are closed by that thread, under the lock, so that stop_all() may interrupt
 * whatever it finds in the list. */
struct connection {
    struct server *server;
    int64_t number;
    struct naru_channel *channel, *command;
    struct connection *next;
};

static void fail_server(struct server *s, int code)
{
    (void)pthread_mutex_lock(&s->lock);
    if (s->code == NARU_EXIT_OK)
        s->code = code;
    (void)pthread_mutex_unlock(&s->lock);
    interrupt_wake();
}

/* NULL data: flushes. 0, or -errno after the server was told to stop. */
static int print(struct server *s, const void *data, size_t length)
{
    int code = NARU_EXIT_OK, r;

    (void)pthread_mutex_lock(&s->lock);
    r = data ? output_message(&s->out, (enum mark)s->options->frame, data, length) : output_flush(&s->out);
    if (r < 0)
        code = output_report(&s->out, r);
    (void)pthread_mutex_unlock(&s->lock);
    if (r < 0)
        fail_server(s, code);
    return r;
}

/* Said when a connection ends, and of unix sockets who it is when it begins. */
static void note(const struct connection *c, bool ended)
{
    struct naru_channel_info info = NARU_INIT(struct naru_channel_info);
    char peer[64] = "";

    if (!c->server->options->verbose || naru_channel_info(c->channel, &info) < 0)
        return;
    if (info.peer.pid > 0)
        (void)snprintf(peer, sizeof peer, " from pid %" PRId64 " (uid %" PRId64 ")", info.peer.pid,
                       info.peer.uid);
    if (!ended)
        report_note("connection %" PRId64 "%s", c->number, peer);
    else
        report_note("connection %" PRId64 " ended: %" PRIu64 " bytes received, %" PRIu64 " sent", c->number,
                    info.bytes_received, info.bytes_sent);
}

/* --- messages: print, echo, reply --- */

/* Room for one message, which grows. */
struct inbox {
    char *data;
    size_t capacity;
    struct sockaddr_storage from; /* of a datagram: AF_UNSPEC if the mechanism does not tell */
    socklen_t from_length;
};

static ssize_t receive(struct connection *c, struct inbox *inbox, int64_t timeout)
{
    for (;;) {
        struct iovec room = {.iov_base = inbox->data, .iov_len = inbox->capacity};
        struct naru_message m = NARU_INIT(struct naru_message);
        char *larger;
        int r;

        inbox->from.ss_family = AF_UNSPEC;
        m.iov = &room;
        m.iov_count = 1;
        m.address = (struct sockaddr *)&inbox->from;
        m.address_length = sizeof inbox->from;
        r = naru_recv_message(c->channel, &m, timeout);
        inbox->from_length = m.address_length;
        if (r != -EMSGSIZE)
            return r < 0 ? r : (ssize_t)m.length;
        larger = realloc(inbox->data, inbox->capacity * 2);
        if (!larger)
            return -ENOMEM;
        inbox->data = larger;
        inbox->capacity *= 2;
    }
}

static int answer(struct connection *c, struct inbox *inbox, const char *text, size_t length)
{
    struct iovec piece = {.iov_base = (void *)(uintptr_t)text, .iov_len = length};
    struct naru_message m = NARU_INIT(struct naru_message);

    m.iov = &piece;
    m.iov_count = 1;
    if (inbox->from.ss_family != AF_UNSPEC) {
        m.address = (struct sockaddr *)&inbox->from;
        m.address_length = inbox->from_length;
    }
    return naru_send_message(c->channel, &m, NARU_FOREVER);
}

/* Lines are what programs send that never heard of naru; `naru send` puts a length before each message. */
static void hint_at_frame(struct server *s, const char *data, size_t length)
{
    const struct naru_mechanism *row = endpoint_mechanism(s->url);
    bool hint = length >= 4 && !data[0] && !data[1] && row && (row->capabilities & NARU_CAN_FRAME) &&
                !strstr(s->url, "frame=");

    (void)pthread_mutex_lock(&s->lock);
    hint = hint && !s->hinted;
    s->hinted |= hint;
    (void)pthread_mutex_unlock(&s->lock);
    if (hint)
        report_note("this peer puts a length before each message, as naru send does: add ?frame=len32 to the "
                    "URL here, or ?frame=line to the URL there");
}

static int handle(struct connection *c, struct inbox *inbox, size_t length)
{
    const struct listen_options *o = c->server->options;

    if (o->echo)
        return answer(c, inbox, inbox->data, length);
    hint_at_frame(c->server, inbox->data, length);
    if (print(c->server, inbox->data, length) < 0)
        return -ECANCELED;
    return o->reply ? answer(c, inbox, o->reply, strlen(o->reply)) : 0;
}

static int serve_messages(struct connection *c)
{
    struct inbox inbox = {.data = malloc(64 * 1024), .capacity = 64 * 1024};
    int r = inbox.data ? 0 : -ENOMEM;

    while (r == 0) {
        ssize_t n = receive(c, &inbox, NARU_NOWAIT);

        if (n == -EAGAIN && print(c->server, NULL, 0) < 0)
            n = -ECANCELED;
        else if (n == -EAGAIN)
            n = receive(c, &inbox, NARU_FOREVER);
        r = n < 0 ? (int)n : handle(c, &inbox, (size_t)n);
    }
    free(inbox.data);
    if (r == -EINPROGRESS) /* told to stop while the peer read slowly */
        report_note("connection %" PRId64 " was ended within an answer: its peer gets a part of it",
                    c->number);
    else if (r != -EPIPE && r != -ECANCELED && r != -EOWNERDEAD)
        (void)report_failure(r);
    (void)print(c->server, NULL, 0);
    return r;
}

/* --- a command for each --- */

static int serve_command(struct connection *c)
{
    struct relay_end peer = {.channel = c->channel, .url = c->server->url, .sends = true, .receives = true};
    struct relay_end command = {.url = c->server->command, .sends = true, .receives = true};
    struct naru_options options = NARU_INIT(struct naru_options);
    struct naru_channel *ch;
    struct relay_result result;
    int r;

    options.frame = NARU_FRAME_RAW;
    options.interruptible = 1;
    options.direction = NARU_DIRECTION_BOTH;
    r = naru_connect(c->server->command, &options, NARU_FOREVER, &ch);
    if (r < 0) {
        (void)report_failure(r);
        return r;
    }
    (void)pthread_mutex_lock(&c->server->lock);
    c->command = ch;
    if (c->server->stopping)
        (void)naru_interrupt(ch);
    (void)pthread_mutex_unlock(&c->server->lock);
    command.channel = ch;
    /* What fails here concerns this connection only, and has been said. */
    (void)relay_run(&peer, &command, NARU_MS(500), &result);
    return 0;
}

/* --- connections --- */

static void connection_end(struct connection *c)
{
    struct server *s = c->server;
    struct connection **link;

    note(c, true);
    (void)pthread_mutex_lock(&s->lock);
    for (link = &s->connections; *link != c; link = &(*link)->next)
        ;
    *link = c->next;
    (void)naru_channel_close(c->command);
    (void)naru_channel_close(c->channel);
    s->active--;
    (void)eventfd_write(s->ended_fd, 1); /* the last use of *s: the server waits for active 0, locked */
    (void)pthread_mutex_unlock(&s->lock);
    free(c);
}

static void *run_connection(void *context)
{
    struct connection *c = context;

    note(c, false);
    (void)(c->server->command ? serve_command(c) : serve_messages(c));
    connection_end(c);
    return NULL;
}

/* Takes the channel. 0 or -errno. */
static int start_connection(struct server *s, struct naru_channel *ch, bool threaded)
{
    struct connection *c = calloc(1, sizeof *c);
    pthread_t thread;
    int r;

    if (!c) {
        (void)naru_channel_close(ch);
        return -ENOMEM;
    }
    (void)pthread_mutex_lock(&s->lock);
    *c = (struct connection){.server = s, .number = ++s->accepted, .channel = ch, .next = s->connections};
    s->connections = c;
    s->active++;
    (void)pthread_mutex_unlock(&s->lock);
    if (!threaded) {
        interrupt_watch(ch);
        (void)run_connection(c);
        return 0;
    }
    r = pthread_create(&thread, NULL, run_connection, c);
    if (r != 0) {
        connection_end(c);
        return -r;
    }
    (void)pthread_detach(thread); /* s->active counts it, and wait_for_room() waits */
    return 0;
}

static void stop_all(struct server *s)
{
    (void)pthread_mutex_lock(&s->lock);
    s->stopping = true;
    for (struct connection *c = s->connections; c; c = c->next) {
        (void)naru_interrupt(c->channel);
        if (c->command)
            (void)naru_interrupt(c->command);
    }
    (void)pthread_mutex_unlock(&s->lock);
}

/* Waits until fewer than limit connections are active. false: a signal came meanwhile, or the server failed.
 */
static bool wait_for_room(struct server *s, int64_t limit, bool heed_signals)
{
    for (;;) {
        struct pollfd fds[2] = {{.fd = s->ended_fd, .events = POLLIN},
                                {.fd = heed_signals ? interrupt_fd() : -1, .events = POLLIN}};
        eventfd_t count;
        bool room;

        (void)pthread_mutex_lock(&s->lock);
        room = s->active < limit;
        (void)pthread_mutex_unlock(&s->lock);
        if (room)
            return true;
        (void)poll(fds, 2, -1); /* EINTR: a signal, which fds[1] shows next time */
        if (fds[1].revents)
            return false;
        (void)eventfd_read(s->ended_fd, &count); /* non-blocking: empty if poll ended otherwise */
    }
}

/* Out of descriptors: from now on fewer connections at once, and the rest wait in the kernel's queue, which
 * is better than to end those that are being served. false: there is none whose end could be waited for. */
static bool lower_limit(struct server *s, int64_t *limit)
{
    int64_t active;

    (void)pthread_mutex_lock(&s->lock);
    active = s->active;
    (void)pthread_mutex_unlock(&s->lock);
    if (active == 0)
        return false;
    *limit = active > 1 ? active - 1 : 1;
    report_note("%s; from now on %" PRId64 " connections at once (ulimit -n allows more)", naru_explain(),
                *limit);
    return true;
}

/* Accepts until there were enough, a signal comes or the server fails: 0 or -errno. */
static int accept_all(struct server *s)
{
    const struct listen_options *o = s->options;
    const struct naru_mechanism *row = endpoint_mechanism(s->url);
    bool many = row && (row->capabilities & NARU_CAN_ACCEPT_MANY);
    int64_t limit = o->max;
    int r = 0;

    while (r == 0 && s->code == NARU_EXIT_OK && (o->count == 0 || s->accepted < o->count)) {
        struct naru_channel *ch;

        r = wait_for_room(s, limit, true) ? endpoint_accept(&s->end, NARU_FOREVER) : -ECANCELED;
        if ((r == -EMFILE || r == -ENFILE) && lower_limit(s, &limit))
            r = 0;
        else if (r == 0) {
            ch = s->end.channel;
            s->end.channel = NULL;
            interrupt_unwatch(ch);
            r = start_connection(s, ch, many);
        }
        if (interrupt_signal())
            r = -ECANCELED;
    }
    return r;
}

static int serve(struct server *s)
{
    int r = accept_all(s);
    /* The name was removed: nobody new can come, but who did is still served. */
    int gone = r == -ENOENT ? report_failure(r) : NARU_EXIT_OK;

    if (r < 0 && r != -ECANCELED && !gone)
        fail_server(s, report_failure(r));
    if ((r < 0 && !gone) || !wait_for_room(s, 1, true)) {
        stop_all(s);
        (void)wait_for_room(s, 1, false);
    }
    if (s->code == NARU_EXIT_OK)
        s->code = gone;
    if (s->code == NARU_EXIT_OK && interrupt_signal())
        s->code = interrupt_exit_code();
    return s->code;
}

/* "exec:exec 'a' 'b'": the shell's single quotes keep everything but themselves. */
static char *command_url(char **command)
{
    char *text = NULL;
    size_t length;
    FILE *out = open_memstream(&text, &length);

    if (!out)
        return NULL;
    (void)fputs("exec:exec", out);
    for (; *command; command++) {
        (void)fputs(" '", out);
        for (const char *p = *command; *p; p++)
            (void)fputs(*p == '\'' ? "'\\''" : (char[]){*p, '\0'}, out);
        (void)fputc('\'', out);
    }
    if (fclose(out) != 0) {
        free(text);
        return NULL;
    }
    return text;
}

static int run(const struct invocation *in)
{
    const struct listen_options *o = in->options;
    struct naru_options options = NARU_INIT(struct naru_options);
    struct server s = {.options = o,
                       .url = in->operands[0],
                       .lock = PTHREAD_MUTEX_INITIALIZER,
                       .ended_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
    int code, r;

    if (o->echo + (o->reply != NULL) + (in->command != NULL) > 1)
        return report_usage("--echo, --reply and a command exclude each other");
    if (endpoint_mechanism(s.url) && !endpoint_should_listen(s.url, true))
        return report(NARU_EXIT_USAGE, "%s: nobody can connect to that; `naru help urls` shows what there is",
                      s.url);
    options.interruptible = 1;
    options.frame = o->echo || in->command ? NARU_FRAME_RAW : NARU_FRAME_LINE;
    if (in->command)
        s.command = command_url(in->command);
    r = in->command && !s.command ? -ENOMEM : output_init(&s.out, STDOUT_FILENO);
    if (s.ended_fd < 0)
        r = -EMFILE;
    if (r < 0) {
        free(s.command);
        return report_errno(-r, "%s", s.url);
    }
    r = endpoint_listen(&s.end, s.url, &options);
    if (r == 0 && o->verbose && !endpoint_is_port_chosen(s.url)) /* or it has been said */
        report_note("listening on %s", naru_listener_url(s.end.listener));
    code = r < 0 ? report_failure(r) : serve(&s);
    endpoint_close(&s.end);
    output_deinit(&s.out);
    (void)close(s.ended_fd);
    free(s.command);
    return code;
}

static const struct listen_options defaults = {.max = 256};

#define FIELD(name) offsetof(struct listen_options, name)
static const struct verb_option options[] = {
    {OPTION_FLAG, 'e', "echo", NULL, "send each message back", FIELD(echo), NULL, 0, 0},
    {OPTION_TEXT, 'r', "reply", "TEXT", "print each message and answer it with TEXT", FIELD(reply), NULL, 0,
     0},
    {OPTION_WORD, 'f', "frame", NULL, "how messages are told apart on standard output (default: line)",
     FIELD(frame), mark_output_words, 0, 0},
    {OPTION_NUMBER, 'n', "count", "COUNT", "stop after COUNT connections", FIELD(count), NULL, 1, INT64_MAX},
    {OPTION_NUMBER, 'm', "max", "NUMBER", "connections at once; more wait their turn (default: 256)",
     FIELD(max), NULL, 1, 100000},
    {OPTION_FLAG, 'v', "verbose", NULL, "say on stderr where it listens, and who comes and goes",
     FIELD(verbose), NULL, 0, 0},
    {0}};

const struct verb verb_listen = {
    .name = "listen",
    .group = GROUP_MESSAGES,
    .summary = "serve every connection: print, echo, answer, or run a command",
    .operands = "URL [-- COMMAND...]",
    .details = "Accepts any number of connections, until a signal. Prints what they say, line by line; "
               "--echo sends\n"
               "it back; --reply answers each message; a COMMAND is run for each connection with its "
               "standard input\n"
               "and output on it. Streams carry lines for printing and --reply, raw bytes for the other two, "
               "unless\n"
               "?frame= says otherwise.\n\n"
               "  naru listen -v tcp://127.0.0.1:5000                # for nc, socat and the like\n"
               "  naru listen 'tcp://127.0.0.1:5000?frame=len32'     # for naru send\n"
               "  naru listen --echo unix:///tmp/echo\n"
               "  naru listen tcp://127.0.0.1:7000 -- tr a-z A-Z",
    .options = options,
    .options_size = sizeof(struct listen_options),
    .defaults = &defaults,
    .operands_min = 1,
    .operands_max = 1,
    .operand = OPERAND_URL,
    .command = true,
    .run = run,
};
