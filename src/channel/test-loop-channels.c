/* SPDX-License-Identifier: MIT */
/* Channels and listeners on an event loop: an echo server of many clients, and a sender that waits for room.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "naru/naru.h"
#include "runner.h"

enum { CLIENTS = 10, ROUNDS = 20 };

struct server {
    struct naru_loop *loop;
    struct naru_listener *listener;
    int connected, ended;
};

struct client {
    struct server *server;
    struct naru_channel *channel;
};

/* Answers until there is nothing more; at the client's end removes itself from within the callback. */
static int answer(struct naru_source *source, uint32_t events, void *data)
{
    struct client *client = data;
    char buffer[64];
    ssize_t r;

    CHECK(events & NARU_IN);
    while ((r = naru_recv(client->channel, buffer, sizeof buffer, NARU_NOWAIT)) >= 0)
        CHECK_INT(naru_send(client->channel, buffer, (size_t)r, NARU_NOWAIT), 0);
    if (r == -EAGAIN)
        return 0;
    CHECK_INT(r, -EPIPE);
    naru_source_remove(source);
    naru_channel_close(client->channel);
    if (++client->server->ended == CLIENTS)
        naru_loop_stop(client->server->loop);
    free(client);
    return 0;
}

static int greet(struct naru_source *source, uint32_t events, void *data)
{
    struct server *server = data;
    struct naru_channel *channel;
    int r;

    (void)source;
    CHECK_INT(events, NARU_IN);
    while ((r = naru_accept(server->listener, NARU_NOWAIT, &channel)) == 0) {
        struct client *client = malloc(sizeof *client);

        CHECK(client != NULL);
        *client = (struct client){server, channel};
        CHECK_INT(naru_loop_add_channel(server->loop, channel, answer, client, NULL), 0);
        server->connected++;
    }
    CHECK_INT(r, -EAGAIN);
    return 0;
}

static void run_client(const char *url)
{
    struct naru_channel *channel;

    CHECK_INT(naru_connect(url, NULL, NARU_S(60), &channel), 0);
    for (int i = 0; i < ROUNDS; i++) {
        char sent[32], received[32];
        int length = snprintf(sent, sizeof sent, "%d says %d", getpid(), i);

        CHECK_INT(naru_send(channel, sent, (size_t)length, NARU_S(60)), 0);
        CHECK_INT(naru_recv(channel, received, sizeof received, NARU_S(60)), length);
        CHECK(memcmp(sent, received, (size_t)length) == 0);
    }
    naru_channel_close(channel);
    _exit(0);
}

static void serve(const char *url)
{
    struct server server = {0};
    int pids[CLIENTS];

    CHECK_INT(naru_loop_new(&server.loop), 0);
    CHECK_INT(naru_listen(url, NULL, &server.listener), 0);
    CHECK_INT(naru_loop_add_listener(server.loop, server.listener, greet, &server, NULL), 0);
    for (int i = 0; i < CLIENTS; i++) {
        pids[i] = test_fork();
        if (pids[i] == 0)
            run_client(naru_listener_url(server.listener));
    }
    CHECK_INT(naru_loop_run(server.loop), 0);
    CHECK_INT(server.connected, CLIENTS);
    for (int i = 0; i < CLIENTS; i++)
        test_join(pids[i]);
    naru_loop_free(server.loop);
    naru_listener_close(server.listener);
}

TEST(a_loop_serves_many_clients_over_unix_stream)
{
    char url[256];

    snprintf(url, sizeof url, "unix://%s/echo", test_directory());
    serve(url);
}

TEST(a_loop_serves_many_clients_over_unix_seqpacket)
{
    char url[256];

    snprintf(url, sizeof url, "unix://%s/echo?type=seqpacket", test_directory());
    serve(url);
}

TEST(a_loop_serves_many_clients_over_tcp)
{
    serve("tcp://127.0.0.1:0");
}

struct flood {
    struct naru_channel *channel;
    int sent, calls;
    bool refused;          /* once: then the loop must tell of room, and not before */
    struct test_gate full; /* the receiver begins only then, or it might always be fast enough */
};

enum { FLOOD = 3000, FLOOD_SIZE = 1024 };

/* The callback of the sending end, which is called when there is room again. */
static int send_more(struct naru_source *source, uint32_t events, void *data)
{
    struct flood *flood = data;
    static const char bytes[FLOOD_SIZE];
    int r = 0;

    (void)events;
    flood->calls++;
    while (flood->sent < FLOOD && (r == 0 || r == -EINPROGRESS)) {
        r = naru_send(flood->channel, bytes, sizeof bytes, NARU_NOWAIT);
        flood->sent += r == 0 || r == -EINPROGRESS;
    }
    CHECK(r == 0 || r == -EAGAIN || r == -EINPROGRESS);
    if (r == -EAGAIN && !flood->refused) {
        flood->refused = true;
        test_gate_open(&flood->full);
    }
    if (flood->sent == FLOOD)
        naru_loop_stop(naru_source_loop(source));
    return 0;
}

static int send_first(void *data)
{
    struct flood *flood = ((void **)data)[0];

    return send_more(((void **)data)[1], 0, flood);
}

TEST(a_loop_tells_a_refused_sender_of_room)
{
    struct flood flood = {0};
    struct naru_channel *ends[2];
    struct naru_source *source;
    struct naru_loop *loop;
    void *first[2];
    int child;

    CHECK_INT(naru_channel_pair("unix:", NULL, ends), 0);
    test_gate_init(&flood.full);
    child = test_fork();
    if (child == 0) {
        char buffer[FLOOD_SIZE];

        naru_channel_close(ends[0]);
        test_gate_wait(&flood.full);
        for (int i = 0; i < FLOOD; i++)
            CHECK_INT(naru_recv(ends[1], buffer, sizeof buffer, NARU_S(60)), FLOOD_SIZE);
        naru_channel_close(ends[1]);
        _exit(0);
    }
    naru_channel_close(ends[1]);
    flood.channel = ends[0];
    CHECK_INT(naru_loop_new(&loop), 0);
    CHECK_INT(naru_loop_add_channel(loop, flood.channel, send_more, &flood, &source), 0);
    first[0] = &flood;
    first[1] = source;
    CHECK_INT(naru_loop_defer(loop, send_first, first), 0);
    CHECK_INT(naru_loop_run(loop), 0);
    CHECK_INT(flood.sent, FLOOD);
    CHECK(flood.refused && flood.calls > 1);
    CHECK_INT(naru_flush(flood.channel, NARU_SENT, NARU_S(60)), 0);
    test_join(child);
    naru_loop_free(loop);
    naru_channel_close(flood.channel);
}

TEST(what_has_no_descriptor_is_refused_with_the_reason)
{
    struct naru_listener *listener;
    struct naru_channel *channel;
    struct naru_loop *loop;
    char url[64];

    snprintf(url, sizeof url, "sysvmq:0x%x?unlink=yes", 0x10000000 | getpid());
    CHECK_INT(naru_loop_new(&loop), 0);
    CHECK_INT(naru_listen(url, NULL, &listener), 0);
    CHECK_INT(naru_accept(listener, NARU_NOWAIT, &channel), 0);
    CHECK_INT(naru_loop_add_channel(loop, channel, answer, NULL, NULL), -ENOTSUP);
    CHECK_CONTAINS(naru_explain(), "no descriptor to poll");
    naru_loop_free(loop);
    naru_channel_close(channel);
    naru_listener_close(listener);
}
