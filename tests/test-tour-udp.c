/* SPDX-License-Identifier: MIT */
/*
 * The tour over UDP where datagrams do get lost. Between the two ends stands a relay, which forwards what it
 * is sent, but for what the test tells it to drop, to double or to hold back. Which datagrams that are is
 * counted, not rolled: every run is the same loss.
 *
 *     near (tour_udp_near)  <->  relay, a process of its own  <->  far (tour_udp_far), another
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "cli/tour.h"
#include "naru/naru.h"
#include "runner.h"

enum {
    PIECE = 8192, /* of tour-udp.c */
    PIECES = 25,
    SIZE = PIECES * PIECE - 1234, /* the last one is shorter */
    DATAGRAM_MAX = 65536
};

enum fate { PASS, DROP, TWICE, LATE /* behind the next one */ };
enum { TO_FAR, TO_NEAR };

/* What has come from each side so far; shared with the test. */
struct relayed {
    uint64_t datagrams[2], dropped[2], doubled[2], late[2];
    uint16_t far_port;
};

/* Datagram number n, from 0 on, of a direction. */
typedef enum fate fate_of(const struct relayed *relayed, int direction, uint64_t n, uint32_t number);

struct run {
    struct tour tour;
    struct relayed *relayed;
    uint8_t *arrived; /* SIZE bytes and more, shared with the far side */
    int far, relay;   /* pids */
    struct naru_channel *near;
};

/* --- the relay --- */

static struct sockaddr_in loopback(uint16_t port)
{
    return (struct sockaddr_in){
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

struct held {
    uint8_t data[DATAGRAM_MAX];
    ssize_t length; /* -1: nothing is held back */
};

/* An ECONNREFUSED says that the other end is gone already: what is forwarded then is lost, as on a network.
 */
static void forward(int fd, const void *data, ssize_t length)
{
    CHECK(send(fd, data, (size_t)length, 0) == length || errno == ECONNREFUSED);
}

static void relay_one(struct relayed *relayed, fate_of *decide, int direction, const uint8_t *data,
                      ssize_t length, int to, struct held *held)
{
    uint32_t number = 0;
    enum fate fate;

    memcpy(&number, data, length < 4 ? (size_t)length : 4);
    fate = decide(relayed, direction, relayed->datagrams[direction]++, ntohl(number));
    relayed->dropped[direction] += fate == DROP;
    relayed->doubled[direction] += fate == TWICE;
    if (fate == LATE && held->length < 0) {
        relayed->late[direction]++;
        memcpy(held->data, data, (size_t)length);
        held->length = length;
        return;
    }
    for (int i = fate == DROP ? 2 : fate == TWICE ? 0 : 1; i < 2; i++)
        forward(to, data, length);
    if (held->length >= 0)
        forward(to, held->data, held->length);
    held->length = -1;
}

/* near_fd: bound, where the near end sends to; far_fd: connected to the far end. Until it is killed. */
static void relay(struct relayed *relayed, fate_of *decide, int near_fd, int far_fd)
{
    static struct held held[2] = {{.length = -1}, {.length = -1}};
    static uint8_t data[DATAGRAM_MAX];
    struct pollfd fds[2] = {{.fd = near_fd, .events = POLLIN}, {.fd = far_fd, .events = POLLIN}};
    bool known = false;

    for (;;) {
        CHECK(poll(fds, 2, -1) > 0);
        for (int direction = TO_FAR; direction <= TO_NEAR; direction++) {
            struct sockaddr_in from;
            socklen_t length = sizeof from;
            ssize_t n;

            if (!fds[direction].revents)
                continue;
            n = recvfrom(fds[direction].fd, data, sizeof data, 0, (struct sockaddr *)&from, &length);
            if (n < 0) {
                CHECK_INT(errno, ECONNREFUSED);
                continue;
            }
            if (!known) /* the first speaks from the near side */
                CHECK_INT(connect(near_fd, (struct sockaddr *)&from, length), 0);
            known = true;
            relay_one(relayed, decide, direction, data, n, fds[!direction].fd, &held[direction]);
        }
    }
}

/* --- the two ends --- */

static uint16_t port_of(const struct naru_listener *l)
{
    const char *colon = strrchr(naru_listener_url(l), ':');

    CHECK(colon != NULL);
    return (uint16_t)atoi(colon + 1);
}

static void far_side(const struct run *run, struct test_gate *listens)
{
    struct naru_listener *l = NULL;
    struct naru_channel *rx = NULL;
    struct sha256 hash;
    int r;

    CHECK_INT(naru_listen("udp://127.0.0.1:0", NULL, &l), 0);
    run->relayed->far_port = port_of(l);
    test_gate_open(listens);
    CHECK_INT(naru_accept(l, NARU_NOWAIT, &rx), 0);
    r = tour_udp_far(&run->tour, rx, run->arrived, SIZE);
    if (r < 0)
        test_fail(__FILE__, __LINE__, "the far side: %d, %s", r, duo_sentence());
    sha256_init(&hash);
    sha256_update(&hash, run->arrived, (size_t)atomic_load(&run->tour.shared->total));
    sha256_final(&hash, run->tour.shared->digest);
    naru_channel_close(rx);
    naru_listener_close(l);
    test_child_end();
}

static void begin(struct run *run, fate_of *decide)
{
    struct test_gate listens;
    struct sockaddr_in address;
    uint16_t near_port, unused;
    int near_fd = test_udp_socket(&near_port), far_fd = test_udp_socket(&unused);

    *run = (struct run){.tour = {.file = {.path = "random", .size = SIZE}, .budget_ns = NARU_S(60)}};
    run->tour.shared = test_shared(sizeof *run->tour.shared);
    run->relayed = test_shared(sizeof *run->relayed);
    run->arrived = test_shared(SIZE + TOUR_CHUNK);
    run->tour.file.data = malloc(SIZE + TOUR_CHUNK);
    CHECK(run->tour.file.data != NULL);
    for (size_t i = 0; i < SIZE + TOUR_CHUNK; i++)
        run->tour.file.data[i] = i < SIZE ? (uint8_t)test_random() : run->tour.file.data[i - SIZE];
    tour_begin(&run->tour);

    test_gate_init(&listens);
    run->far = test_fork();
    if (run->far == 0) {
        close(near_fd);
        close(far_fd);
        far_side(run, &listens);
    }
    test_gate_wait(&listens);
    address = loopback(run->relayed->far_port);
    CHECK_INT(connect(far_fd, (struct sockaddr *)&address, sizeof address), 0);
    run->relay = test_fork();
    if (run->relay == 0)
        relay(run->relayed, decide, near_fd, far_fd);
    close(near_fd);
    close(far_fd);
    CHECK_INT(naru_connect(test_format("udp://127.0.0.1:%u", near_port), NULL, NARU_S(60), &run->near), 0);
}

static void end(struct run *run)
{
    naru_channel_close(run->near);
    test_kill(run->relay);
    free(run->tour.file.data);
}

/* The whole file by way of such a relay: every byte must be right. */
static void carry(struct run *run, fate_of *decide, struct tour_result *result)
{
    int r;

    begin(run, decide);
    r = tour_udp_near(&run->tour, run->near, SIZE);
    if (r < 0)
        test_fail(__FILE__, __LINE__, "the near side: %d, %s", r, duo_sentence());
    test_join(run->far);
    CHECK_INT(atomic_load(&run->tour.shared->total), SIZE);
    CHECK(memcmp(run->arrived, run->tour.file.data, SIZE) == 0);
    *result = (struct tour_result){0};
    tour_judge(&run->tour, 0, result);
    CHECK_INT(result->outcome, TOUR_WHOLE);
    CHECK_INT(result->carried, SIZE);
    end(run);
}

/* --- the losses --- */

static enum fate nothing_happens(const struct relayed *relayed, int direction, uint64_t n, uint32_t number)
{
    (void)relayed, (void)direction, (void)n, (void)number;
    return PASS;
}

TEST(without_a_loss_the_file_arrives_through_the_relay)
{
    struct tour_result result;
    struct run run;

    carry(&run, nothing_happens, &result);
    CHECK(run.relayed->datagrams[TO_FAR] >=
          PIECES + 1); /* each piece, and the one that says that it was all */
    CHECK_INT(run.relayed->dropped[TO_FAR] + run.relayed->dropped[TO_NEAR], 0);
}

/* Now the first of three, now another: with the same of all of them whoever sends three at a time, again and
 * again, might lose the one that counts for ever. */
static enum fate one_of_three_is_lost(const struct relayed *relayed, int direction, uint64_t n,
                                      uint32_t number)
{
    uint64_t mixed = (n / 3 + 1) * 0x9e3779b97f4a7c15u;

    (void)relayed, (void)direction, (void)number;
    return n % 3 == (mixed >> 40) % 3 ? DROP : PASS;
}

TEST(with_every_third_datagram_lost_both_ways_each_byte_arrives)
{
    struct tour_result result;
    struct run run;

    carry(&run, one_of_three_is_lost, &result);
    CHECK(run.relayed->dropped[TO_FAR] >= PIECES / 3);
    CHECK(run.relayed->dropped[TO_NEAR] > 0);
    CHECK(run.relayed->datagrams[TO_FAR] > PIECES + 1);
    CHECK(run.tour.shared->resent > 0);
    CHECK_CONTAINS(result.note, "messages were sent again");
}

static enum fate some_come_twice_or_late(const struct relayed *relayed, int direction, uint64_t n,
                                         uint32_t number)
{
    (void)relayed, (void)direction, (void)number;
    return n % 4 == 1 ? TWICE : n % 5 == 2 ? LATE : PASS;
}

TEST(datagrams_that_come_twice_or_late_are_put_in_order)
{
    struct tour_result result;
    struct run run;

    carry(&run, some_come_twice_or_late, &result);
    CHECK(run.relayed->doubled[TO_FAR] > 0);
    CHECK(run.relayed->late[TO_FAR] > 0);
}

/* All has arrived, but the sender does not hear so: it asks again, and the far side is still there to say. */
static enum fate the_last_answers_are_lost(const struct relayed *relayed, int direction, uint64_t n,
                                           uint32_t number)
{
    (void)n;
    return direction == TO_NEAR && number == PIECES + 1 && relayed->dropped[TO_NEAR] < 5 ? DROP : PASS;
}

TEST(a_lost_last_answer_is_given_again)
{
    struct tour_result result;
    struct run run;

    carry(&run, the_last_answers_are_lost, &result);
    CHECK_INT(run.relayed->dropped[TO_NEAR], 5);
    CHECK(run.tour.shared->resent > 0);
}

static enum fate the_line_is_cut(const struct relayed *relayed, int direction, uint64_t n, uint32_t number)
{
    (void)relayed, (void)direction, (void)number;
    return n < 5 ? PASS : DROP;
}

TEST(a_line_that_is_cut_is_an_explained_failure_and_no_endless_wait)
{
    struct run run;

    begin(&run, the_line_is_cut);
    CHECK_INT(tour_udp_near(&run.tour, run.near, SIZE), -ETIMEDOUT);
    CHECK_CONTAINS(duo_sentence(), "no answer came to 100 attempts");
    test_kill(run.far);
    end(&run);
}
