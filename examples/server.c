/* SPDX-License-Identifier: MIT */
/* A server of many clients in one thread: one event loop for the listener, the clients, a clock and Ctrl-C.
 * It sends back what it receives. Run `server 'unix:///tmp/echo.sock?frame=line'`, in other terminals
 * `naru cat - unix:///tmp/echo.sock` (or socat), and end it with Ctrl-C or SIGTERM: it closes in order,
 * removing the socket. Clients of naru's own need no ?frame=. */
#include <naru/naru.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

static int clients, messages;

struct client {
    struct naru_channel *channel;
    struct client *next;
};

static struct client *all;

static void forget(struct client *client)
{
    struct client **at = &all;

    while (*at != client)
        at = &(*at)->next;
    *at = client->next;
    naru_channel_close(client->channel);
    free(client);
    clients--;
}

/* A client said something, or went. */
static int serve(struct naru_source *source, uint32_t events, void *data)
{
    struct client *client = data;
    static char buffer[65536];
    ssize_t n;
    int r = 0;

    (void)events;
    while (r == 0 && (n = naru_recv(client->channel, buffer, sizeof buffer, NARU_NOWAIT)) >= 0) {
        /* A client that does not read its answers must not hold up the others: it has a second. */
        r = naru_send(client->channel, buffer, (size_t)n, NARU_S(1));
        messages += r == 0;
    }
    if (r == 0 && n == -EAGAIN)
        return 0;
    if (r < 0 || n != -EPIPE)
        fprintf(stderr, "server: %s\n", naru_explain());
    naru_source_remove(source);
    forget(client);
    return 0;
}

static int greet(struct naru_source *source, uint32_t events, void *data)
{
    struct naru_channel *channel;
    int r;

    (void)events;
    while ((r = naru_accept(data, NARU_NOWAIT, &channel)) == 0) {
        struct client *client = malloc(sizeof *client);

        if (!client)
            return -ENOMEM;
        *client = (struct client){channel, all};
        all = client;
        clients++;
        r = naru_loop_add_channel(naru_source_loop(source), channel, serve, client, NULL);
        if (r < 0)
            return r;
    }
    return r == -EAGAIN ? 0 : r;
}

static int report(struct naru_source *source, uint32_t events, void *data)
{
    (void)source, (void)events, (void)data;
    fprintf(stderr, "server: %d clients, %d messages\n", clients, messages);
    return 0;
}

/* An ordinary function, not a handler: it may do anything. */
static int stop(struct naru_source *source, const struct naru_signal_info *info, void *data)
{
    (void)data;
    fprintf(stderr, "server: %s, closing\n", naru_signal_name(info->signal));
    naru_loop_stop(naru_source_loop(source));
    return 0;
}

static int run(const char *url)
{
    const uint64_t ending = naru_signal_bit(SIGINT) | naru_signal_bit(SIGTERM);
    struct naru_listener *listener = NULL;
    struct naru_loop *loop = NULL;
    int r = naru_loop_new(&loop);

    if (r == 0)
        r = naru_listen(url, NULL, &listener);
    if (r == 0)
        r = naru_loop_add_listener(loop, listener, greet, listener, NULL);
    if (r == 0)
        r = naru_loop_add_signal(loop, ending, stop, NULL, NULL);
    if (r == 0)
        r = naru_loop_add_timer(loop, NARU_S(10), NARU_S(10), report, NULL, NULL);
    if (r == 0)
        r = naru_loop_run(loop);
    naru_loop_free(loop);
    while (all)
        forget(all);
    naru_listener_close(listener);
    return r;
}

int main(int argc, char **argv)
{
    if (argc != 2)
        return fprintf(stderr, "usage: server URL\n"), 2;
    if (run(argv[1]) < 0)
        return fprintf(stderr, "server: %s\n", naru_explain()), 1;
    return 0;
}
