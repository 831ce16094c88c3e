/* SPDX-License-Identifier: MIT */
/* udp: against plain sockets, and against itself. What was sent to the loopback arrives in its own time:
 * where packets are handed to another CPU (RPS), or there are too many at once, after sendto(2) has returned.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "channel/channel.h"
#include "naru/naru.h"
#include "runner.h"

static const int64_t patience = NARU_S(60);

static struct naru_listener *listen_on(const char *url)
{
    struct naru_listener *l = NULL;

    CHECK_INT(naru_listen(url, NULL, &l), 0);
    return l;
}

static struct naru_channel *accept_one(struct naru_listener *l)
{
    struct naru_channel *ch = NULL;

    CHECK_INT(naru_accept(l, NARU_NOWAIT, &ch), 0);
    return ch;
}

static struct naru_channel *connect_to(const char *url)
{
    struct naru_channel *ch = NULL;

    CHECK_INT(naru_connect(url, NULL, patience, &ch), 0);
    return ch;
}

static uint16_t port_of(const struct naru_listener *l)
{
    const char *colon = strrchr(naru_listener_url(l), ':');

    CHECK(colon != NULL);
    return (uint16_t)atoi(colon + 1);
}

static struct sockaddr_in loopback(uint16_t port)
{
    return (struct sockaddr_in){
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

static void plain_send(int fd, uint16_t port, const void *data, size_t length)
{
    struct sockaddr_in address = loopback(port);

    CHECK_INT(sendto(fd, data, length, 0, (struct sockaddr *)&address, sizeof address), length);
}

static void check_plain_recv(int fd, const char *expected)
{
    char text[256] = "";

    CHECK_INT(recv(fd, text, sizeof text - 1, 0), strlen(expected));
    CHECK_STR(text, expected);
}

static void check_recv(struct naru_channel *ch, const char *expected)
{
    char text[256] = "";

    CHECK_INT(naru_recv(ch, text, sizeof text - 1, patience), strlen(expected));
    CHECK_STR(text, expected);
}

static uint64_t dropped(const struct naru_channel *ch)
{
    struct naru_channel_info info = NARU_INIT(struct naru_channel_info);

    CHECK_INT(naru_channel_info(ch, &info), 0);
    return info.dropped;
}

TEST(a_plain_socket_receives_what_was_sent_and_answers)
{
    uint16_t port;
    int fd = test_udp_socket(&port);
    struct naru_channel *ch = connect_to(test_format("udp://127.0.0.1:%u", port));
    struct sockaddr_storage from;
    socklen_t length = sizeof from;
    char text[16];

    CHECK_INT(naru_send(ch, "hello", 5, patience), 0);
    CHECK_INT(naru_send(ch, NULL, 0, patience), 0);
    CHECK_INT(recv(fd, text, sizeof text, 0), 5);
    CHECK(memcmp(text, "hello", 5) == 0);
    CHECK_INT(recvfrom(fd, text, sizeof text, 0, (struct sockaddr *)&from, &length), 0);
    CHECK_INT(sendto(fd, "back", 4, 0, (struct sockaddr *)&from, length), 4);
    check_recv(ch, "back");
    (void)naru_channel_close(ch);
    (void)close(fd);
}

TEST(the_listener_hears_everybody_and_answers_who_sent_last)
{
    struct naru_listener *l = listen_on("udp://127.0.0.1:0");
    struct naru_channel *ch = accept_one(l);
    struct naru_message m = NARU_INIT(struct naru_message);
    struct sockaddr_in first_address;
    char text[16];
    struct iovec piece = {text, sizeof text};
    uint16_t first_port, second_port;
    int first = test_udp_socket(&first_port), second = test_udp_socket(&second_port);

    CHECK_INT(naru_send(ch, "?", 1, NARU_NOWAIT), -EDESTADDRREQ);
    CHECK_CONTAINS(naru_explain(), "nobody to send to yet");
    plain_send(first, port_of(l), "one", 3);
    m.iov = &piece;
    m.iov_count = 1;
    m.address = (struct sockaddr *)&first_address;
    m.address_length = sizeof first_address;
    CHECK_INT(naru_recv_message(ch, &m, patience), 0);
    CHECK_INT(m.address_length, sizeof first_address);
    CHECK_INT(ntohs(first_address.sin_port), first_port);
    CHECK_INT(naru_send(ch, "to one", 6, patience), 0);
    plain_send(second, port_of(l), "two", 3);
    check_recv(ch, "two");
    CHECK_INT(naru_send(ch, "to two", 6, patience), 0);
    /* By address, whoever sent last. */
    memcpy(text, "to one again", 12);
    piece.iov_len = 12;
    CHECK_INT(naru_send_message(ch, &m, patience), 0);
    check_plain_recv(first, "to one");
    check_plain_recv(first, "to one again");
    check_plain_recv(second, "to two");
    (void)naru_channel_close(ch);
    (void)naru_listener_close(l);
    (void)close(first);
    (void)close(second);
}

TEST(a_kept_message_remembers_its_sender)
{
    struct naru_listener *l = listen_on("udp://127.0.0.1:0");
    struct naru_channel *ch = accept_one(l);
    struct naru_message m = NARU_INIT(struct naru_message);
    struct sockaddr_in from;
    char small[2], large[16];
    struct iovec piece = {large, sizeof large};
    uint16_t first_port, second_port;
    int first = test_udp_socket(&first_port), second = test_udp_socket(&second_port);

    plain_send(first, port_of(l), "larger than 2", 13);
    CHECK_INT(naru_recv(ch, small, sizeof small, patience), -EMSGSIZE);
    CHECK_CONTAINS(naru_explain(), "has 13 bytes and the buffer only 2");
    plain_send(second, port_of(l), "x", 1);
    m.iov = &piece;
    m.iov_count = 1;
    m.address = (struct sockaddr *)&from;
    m.address_length = sizeof from;
    CHECK_INT(naru_recv_message(ch, &m, NARU_NOWAIT), 0);
    CHECK_INT(m.length, 13);
    CHECK(memcmp(large, "larger than 2", 13) == 0);
    CHECK_INT(ntohs(from.sin_port), first_port);
    check_recv(ch, "x");
    (void)naru_channel_close(ch);
    (void)naru_listener_close(l);
    (void)close(first);
    (void)close(second);
}

TEST(an_empty_host_is_loopback_and_port_0_is_resolved)
{
    struct naru_listener *l = listen_on("udp://:0?buffer=100000");
    struct naru_channel *in = accept_one(l), *out;

    CHECK_CONTAINS(naru_listener_url(l), "udp://127.0.0.1:");
    CHECK_CONTAINS(naru_listener_url(l), "?buffer=100000");
    CHECK(port_of(l) != 0);
    out = connect_to(test_format("udp://:%u", port_of(l)));
    CHECK_INT(naru_send(out, "near", 4, patience), 0);
    check_recv(in, "near");
    (void)naru_channel_close(in);
    (void)naru_channel_close(out);
    (void)naru_listener_close(l);
}

TEST(a_star_listens_on_both_families)
{
    struct naru_listener *l = listen_on("udp://*:0");
    struct naru_channel *in = accept_one(l), *out;

    out = connect_to(test_format("udp://127.0.0.1:%u", port_of(l)));
    CHECK_INT(naru_send(out, "four", 4, patience), 0);
    check_recv(in, "four");
    CHECK_INT(naru_send(in, "4", 1, patience), 0);
    check_recv(out, "4");
    (void)naru_channel_close(out);
    if (strncmp(naru_listener_url(l), "udp://[::]:", 11) == 0) {
        out = connect_to(test_format("udp://[::1]:%u", port_of(l)));
        CHECK_INT(naru_send(out, "six", 3, patience), 0);
        check_recv(in, "six");
        (void)naru_channel_close(out);
    } else {
        CHECK_CONTAINS(naru_listener_url(l), "udp://0.0.0.0:"); /* a machine without IPv6 */
    }
    (void)naru_channel_close(in);
    (void)naru_listener_close(l);
}

static bool has_error(int fd)
{
    struct pollfd poll_fd = {.fd = fd};

    return poll(&poll_fd, 1, 0) == 1 && (poll_fd.revents & POLLERR);
}

TEST(a_refusal_is_reported_and_ends_nothing)
{
    const char *url = test_format("udp://127.0.0.1:%d", test_unused_port()); /* nobody listens there */
    struct naru_listener *l;
    struct naru_channel *out, *in;
    char byte;

    out = connect_to(url);
    CHECK_INT(naru_send(out, "anybody?", 8, patience), 0);
    CHECK_INT(naru_recv(out, &byte, 1, patience), -ECONNREFUSED);
    CHECK_CONTAINS(naru_explain(), "nobody listens there");
    CHECK_INT(naru_send(out, "anybody?", 8, patience), 0);
    WAIT_UNTIL(has_error(out->wfd));
    CHECK_INT(naru_send(out, "anybody?", 8, patience), -ECONNREFUSED);
    CHECK_CONTAINS(naru_explain(), "start the receiver");
    l = listen_on(url);
    in = accept_one(l);
    CHECK_INT(naru_send(out, "now", 3, patience), 0);
    check_recv(in, "now");
    (void)naru_channel_close(in);
    (void)naru_channel_close(out);
    (void)naru_listener_close(l);
}

TEST(a_live_port_is_not_taken_over_and_a_dead_ones_is)
{
    const char *url = test_format("udp://127.0.0.1:%d", test_unused_port()); /* which is free for a moment */
    struct naru_listener *l = listen_on(url), *second = NULL;
    struct naru_channel *ch = accept_one(l), *another = NULL;

    CHECK_INT(naru_listen(url, NULL, &second), -EADDRINUSE);
    CHECK_CONTAINS(naru_explain(), "the port is in use");
    CHECK_INT(naru_accept(l, NARU_NOWAIT, &another), -EBUSY);
    (void)naru_listener_close(l);
    CHECK_INT(naru_listen(url, NULL, &second), -EADDRINUSE); /* the channel lives on */
    (void)naru_channel_close(ch);
    second = listen_on(url);
    (void)naru_listener_close(second);
}

TEST(wrong_urls_are_refused)
{
    static const struct {
        const char *url, *part;
        bool listen;
    } wrong[] = {
        {"udp://127.0.0.1", "expected host:port", true},
        {"udp://127.0.0.1:70000", "expected a port", true},
        {"udp://127.0.0.1:0", "port 0", false},
        {"udp://*:5000", "'*'", false},
        {"udp://127.0.0.1:5000?ttl=256", "?ttl= a number from 1 to 255", false},
        {"udp://127.0.0.1:5000?ttl=far", "?ttl=", false},
        {"udp://127.0.0.1:0?mtu=1", "option 'mtu' means nothing to udp", true},
    };

    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct naru_listener *l = NULL;
        struct naru_channel *ch = NULL;

        CHECK_INT(wrong[i].listen ? naru_listen(wrong[i].url, NULL, &l)
                                  : naru_connect(wrong[i].url, NULL, NARU_NOWAIT, &ch),
                  -EINVAL);
        CHECK_CONTAINS(naru_explain(), wrong[i].part);
    }
}

TEST(the_largest_datagram_passes_and_a_larger_one_is_refused)
{
    static char bytes[65508], received[65508];
    struct naru_listener *l = listen_on("udp://127.0.0.1:0");
    struct naru_channel *in = accept_one(l), *out = connect_to(naru_listener_url(l));

    memset(bytes, 'x', sizeof bytes);
    CHECK_INT(naru_send(out, bytes, 65507, patience), 0);
    CHECK_INT(naru_recv(in, received, 65506, patience), -EMSGSIZE);
    CHECK_INT(naru_recv(in, received, sizeof received, patience), 65507);
    CHECK(memcmp(bytes, received, 65507) == 0);
    CHECK_INT(naru_send(out, bytes, 65508, patience), -EMSGSIZE);
    CHECK_CONTAINS(naru_explain(),
                   "message of 65508 bytes exceeds 65507; no datagram can be larger; use tcp:");
    (void)naru_channel_close(in);
    (void)naru_channel_close(out);
    (void)naru_listener_close(l);
}

/* What the kernel itself counts of the socket on that port: proc(5), /proc/net/udp. */
static unsigned lost_at(uint16_t port)
{
    FILE *file = fopen("/proc/net/udp", "re");
    unsigned lost = 0, at, drops;
    char line[256];

    CHECK(file != NULL);
    while (fgets(line, sizeof line, file))
        if (sscanf(line, "%*s %*x:%x %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %u", &at, &drops) == 2 &&
            at == port)
            lost = drops;
    (void)fclose(file);
    return lost;
}

/* Sends more than fits while nobody receives, then receives what there is. How many were lost. */
static unsigned flood(struct naru_channel *in, uint16_t port)
{
    enum { FLOOD = 300 };
    static const char bytes[1000];
    unsigned received = 0, lost, before = lost_at(port);
    char text[1000];
    uint16_t own;
    int fd = test_udp_socket(&own);

    for (int i = 0; i < FLOOD; i++)
        plain_send(fd, port, bytes, sizeof bytes);
    WAIT_UNTIL(lost_at(port) > before);
    do { /* until each has come or not */
        lost = lost_at(port) - before;
        while (naru_recv(in, text, sizeof text, NARU_NOWAIT) == sizeof bytes)
            received++;
    } while (received + lost < FLOOD);
    plain_send(fd, port, "end", 3); /* the kernel tells with the next one that fits */
    CHECK_INT(naru_recv(in, text, sizeof text, patience), 3);
    (void)close(fd);
    CHECK(received > 0);
    CHECK_INT(received + lost, FLOOD);
    return lost;
}

TEST(what_the_kernel_drops_is_counted_exactly)
{
    struct naru_listener *l = listen_on("udp://127.0.0.1:0?buffer=8k");
    struct naru_channel *in = accept_one(l);
    unsigned lost = flood(in, port_of(l));

    CHECK_INT(dropped(in), lost);
    lost += flood(in, port_of(l));
    CHECK_INT(dropped(in), lost);
    (void)naru_channel_close(in);
    in = accept_one(l);
    CHECK_INT(dropped(in), 0);
    lost = flood(in, port_of(l));
    CHECK_INT(dropped(in), lost); /* and not what was lost before it was there */
    (void)naru_channel_close(in);
    (void)naru_listener_close(l);
}

TEST(a_batch_keeps_its_boundaries)
{
    enum { MESSAGES = 100 };
    struct naru_listener *l = listen_on("udp://127.0.0.1:0?buffer=1M");
    struct naru_channel *in = accept_one(l), *out = connect_to(naru_listener_url(l));
    struct naru_message messages[MESSAGES];
    struct iovec pieces[MESSAGES];
    char bytes[MESSAGES], text[MESSAGES];
    size_t sent = 0;

    memset(bytes, 'b', sizeof bytes);
    for (size_t i = 0; i < MESSAGES; i++) {
        pieces[i] = (struct iovec){bytes, i};
        messages[i] = (struct naru_message){.size = sizeof messages[i], .iov = &pieces[i], .iov_count = 1};
    }
    while (sent < MESSAGES) {
        ssize_t n = naru_send_batch(out, messages + sent, MESSAGES - sent, patience);

        CHECK(n > 0);
        sent += (size_t)n;
    }
    for (size_t i = 0; i < MESSAGES; i++)
        CHECK_INT(naru_recv(in, text, sizeof text, patience), i);
    CHECK_INT(naru_recv(in, text, sizeof text, NARU_NOWAIT), -EAGAIN);
    CHECK_INT(naru_recv(in, text, sizeof text, NARU_MS(5)), -ETIMEDOUT);
    (void)naru_channel_close(in);
    (void)naru_channel_close(out);
    (void)naru_listener_close(l);
}

TEST(the_descriptors_tell_of_datagrams)
{
    struct naru_listener *l = listen_on("udp://127.0.0.1:0");
    struct naru_channel *out = connect_to(naru_listener_url(l)), *in;
    char byte;

    CHECK(!test_is_readable(naru_listener_fd(l)));
    CHECK_INT(naru_send(out, "1", 1, patience), 0);
    WAIT_UNTIL(test_is_readable(naru_listener_fd(l)));
    in = accept_one(l);
    CHECK(test_is_readable(naru_channel_fd(in)));
    CHECK_INT(naru_recv(in, &byte, 1, NARU_NOWAIT), 1);
    CHECK(!test_is_readable(naru_channel_fd(in)));
    (void)naru_channel_close(in);
    (void)naru_channel_close(out);
    (void)naru_listener_close(l);
}

TEST(broadcast_must_be_asked_for)
{
    /* ip-route(8): 127.255.255.255 is the loopback network's broadcast address. */
    struct naru_listener *l = listen_on("udp://0.0.0.0:0");
    struct naru_channel *in = accept_one(l), *out = NULL;
    const char *url = test_format("udp://127.255.255.255:%u", port_of(l));

    CHECK_INT(naru_connect(url, NULL, NARU_NOWAIT, &out), -EACCES);
    CHECK_CONTAINS(naru_explain(), "this is a broadcast address; add ?broadcast");
    out = connect_to(test_format("%s?broadcast", url));
    CHECK_INT(naru_send(out, "all", 3, patience), 0);
    check_recv(in, "all");
    (void)naru_channel_close(in);
    (void)naru_channel_close(out);
    (void)naru_listener_close(l);
}

TEST(a_datagram_carries_the_ttl_asked_for)
{
    uint16_t port;
    int fd = test_udp_socket(&port), on = 1, ttl;
    struct naru_channel *ch = connect_to(test_format("udp://127.0.0.1:%u?ttl=5", port));
    char text[4], control[CMSG_SPACE(sizeof ttl)];
    struct iovec piece = {text, sizeof text};
    struct msghdr header = {
        .msg_iov = &piece, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    const struct cmsghdr *cmsg;

    CHECK_INT(setsockopt(fd, IPPROTO_IP, IP_RECVTTL, &on, sizeof on), 0);
    CHECK_INT(naru_send(ch, "x", 1, patience), 0);
    CHECK_INT(recvmsg(fd, &header, 0), 1);
    cmsg = CMSG_FIRSTHDR(&header);
    CHECK(cmsg != NULL);
    CHECK_INT(cmsg->cmsg_type, IP_TTL);
    memcpy(&ttl, CMSG_DATA(cmsg), sizeof ttl);
    CHECK_INT(ttl, 5);
    (void)naru_channel_close(ch);
    (void)close(fd);
}

/* --- threads --- */

enum { ROUNDS = 150 }; /* replies fit one socket buffer, all of them */

static void *reply(void *argument)
{
    struct naru_channel *ch = argument;

    for (int i = 0; i < ROUNDS; i++)
        CHECK_INT(naru_send(ch, "reply", 5, patience), 0);
    return NULL;
}

TEST(replies_go_to_a_whole_address_while_senders_change)
{
    struct naru_listener *l = listen_on("udp://127.0.0.1:0?buffer=1M");
    struct naru_channel *ch = accept_one(l);
    uint16_t ports[2];
    int fds[2] = {test_udp_socket(&ports[0]), test_udp_socket(&ports[1])}, replies = 0;
    pthread_t thread;
    char text[16];

    plain_send(fds[0], port_of(l), "0", 1);
    CHECK_INT(naru_recv(ch, text, sizeof text, patience), 1);
    CHECK_INT(pthread_create(&thread, NULL, reply, ch), 0);
    for (int i = 0; i < ROUNDS; i++) {
        plain_send(fds[i % 2], port_of(l), "1", 1);
        CHECK_INT(naru_recv(ch, text, sizeof text, patience), 1);
    }
    CHECK_INT(pthread_join(thread, NULL), 0);
    while (replies < ROUNDS) { /* none went astray, or this never ends */
        struct pollfd either[] = {{.fd = fds[0], .events = POLLIN}, {.fd = fds[1], .events = POLLIN}};

        CHECK(poll(either, 2, 60000) > 0);
        for (int i = 0; i < 2; i++)
            while (recv(fds[i], text, sizeof text, MSG_DONTWAIT) == 5)
                replies++;
    }
    (void)naru_channel_close(ch);
    (void)naru_listener_close(l);
    (void)close(fds[0]);
    (void)close(fds[1]);
}
