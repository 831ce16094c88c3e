/* SPDX-License-Identifier: MIT */
/*
 * Descriptors with messages of shm: by every way of sending and receiving, more of them than the socket
 * takes, none left for them in the receiver, and peers whose packets and records do not agree. The runner
 * counts what is left open.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "channel/shm/shm.h"
#include "naru/naru.h"
#include "runner.h"

enum { LARGE = 3000 }; /* more than half of a ring of 4 KiB: goes by the pool */

static char bytes[LARGE];

static void open_pair(const char *url, struct naru_channel *ch[2])
{
    CHECK_INT(naru_channel_pair(url, NULL, ch), 0);
    for (int i = 0; i < 2; i++)
        CHECK_INT(naru_channel_adopt(ch[i]), 0);
}

static void close_pair(struct naru_channel *ch[2])
{
    for (int i = 0; i < 2; i++)
        ch[i] = naru_channel_close(ch[i]);
}

/* A file that can be told from others by its length. */
static int make_file(off_t length)
{
    int fd = open(test_directory(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

    CHECK(fd >= 0 && ftruncate(fd, length) == 0);
    return fd;
}

static void check_file(int fd, off_t length)
{
    CHECK(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    CHECK_INT(lseek(fd, 0, SEEK_END), length);
    close(fd);
}

/* Sends `size` bytes with a file of that number. */
static int send_file(struct naru_channel *ch, size_t size, int number, int64_t timeout_ns)
{
    struct iovec piece = {bytes, size};
    struct naru_message m = NARU_INIT(struct naru_message);
    int fd = make_file(number), r;

    m.iov = &piece;
    m.iov_count = 1;
    m.fds = &fd;
    m.fd_count = 1;
    r = naru_send_message(ch, &m, timeout_ns);
    close(fd);
    return r;
}

/* What receiving said; a message comes with `count` files, of which the first has this number. */
static int take_file(struct naru_channel *ch, size_t count, int number, int64_t timeout_ns)
{
    static char buffer[LARGE];
    struct iovec piece = {buffer, sizeof buffer};
    struct naru_message m = NARU_INIT(struct naru_message);
    int fds[CHANNEL_FDS_MAX], r;

    m.iov = &piece;
    m.iov_count = 1;
    m.fds = fds;
    m.fd_capacity = CHANNEL_FDS_MAX;
    r = naru_recv_message(ch, &m, timeout_ns);
    if (r < 0)
        return r;
    CHECK_INT(m.fd_count, count);
    for (size_t i = 0; i < count; i++)
        check_file(fds[i], number + (off_t)i);
    return 0;
}

static uint64_t dropped(const struct naru_channel *ch)
{
    struct naru_channel_info info = NARU_INIT(struct naru_channel_info);

    CHECK_INT(naru_channel_info(ch, &info), 0);
    return info.dropped;
}

TEST(loans_batches_and_large_messages_carry_them)
{
    static const size_t sizes[] = {0, 50, LARGE};
    struct naru_channel *ch[2];

    open_pair("shm:?ring=4k&pool=64k", ch);
    for (int round = 0; round < 100; round++)
        for (size_t i = 0; i < 3; i++) {
            struct naru_loan loan = NARU_INIT(struct naru_loan);
            struct naru_message meta = NARU_INIT(struct naru_message), batch[3];
            struct iovec piece = {bytes, sizes[i]};
            int fds[2] = {make_file(7), make_file(8)};

            CHECK_INT(naru_loan(ch[0], sizes[i], NARU_NOWAIT, &loan), 0);
            meta.fds = fds;
            meta.fd_count = 2;
            CHECK_INT(naru_commit(&loan, sizes[i], &meta), 0);
            CHECK_INT(take_file(ch[1], 2, 7, NARU_NOWAIT), 0);
            for (int j = 0; j < 3; j++) {
                batch[j] = (struct naru_message)NARU_INIT(struct naru_message);
                batch[j].iov = &piece;
                batch[j].iov_count = 1;
            }
            batch[0].fds = batch[2].fds = fds + 1;
            batch[0].fd_count = batch[2].fd_count = 1;
            for (int sent = 0; sent < 3;) {
                ssize_t n = naru_send_batch(ch[0], batch + sent, (size_t)(3 - sent), NARU_NOWAIT);

                CHECK_INT(n, 1); /* one with descriptors goes by itself */
                CHECK_INT(take_file(ch[1], sent == 1 ? 0 : 1, 8, NARU_NOWAIT), 0);
                sent += (int)n;
            }
            for (int j = 0; j < 2; j++)
                close(fds[j]);
        }
    close_pair(ch);
}

TEST(who_has_no_room_for_them_closes_and_counts_them)
{
    struct naru_view view = NARU_INIT(struct naru_view);
    struct naru_channel *ch[2];
    char buffer[100];

    open_pair("shm:", ch);
    for (int i = 0; i < 4; i++)
        CHECK_INT(send_file(ch[0], 50, i, NARU_NOWAIT), 0);
    CHECK_INT(naru_recv(ch[1], buffer, 10, NARU_FOREVER), -EMSGSIZE); /* kept, with its file */
    CHECK_INT(take_file(ch[1], 1, 0, NARU_NOWAIT), 0);
    CHECK_INT(naru_recv(ch[1], buffer, sizeof buffer, NARU_FOREVER), 50);
    CHECK_INT(dropped(ch[1]), 1);
    CHECK_INT(naru_borrow(ch[1], NARU_FOREVER, &view), 0);
    CHECK_INT(dropped(ch[1]), 2);
    CHECK_INT(take_file(ch[1], 1, 3, NARU_NOWAIT), 0); /* while a view is held */
    naru_release(&view);
    CHECK_INT(naru_flush(ch[0], NARU_DONE, NARU_NOWAIT), 0);
    close_pair(ch);
}

TEST(a_process_without_descriptors_gets_the_message_and_is_told)
{
    struct naru_channel *ch[2];
    struct naru_message m = NARU_INIT(struct naru_message);
    struct iovec piece = {bytes, 10};
    int fds[20], got[20], fd = make_file(5);

    open_pair("shm:", ch);
    for (int i = 0; i < 20; i++)
        fds[i] = fd;
    m.iov = &piece;
    m.iov_count = 1;
    m.fds = fds;
    m.fd_count = 20;
    CHECK_INT(naru_send_message(ch[0], &m, NARU_NOWAIT), 0);
    test_limit_descriptors(3);
    m.fds = got;
    m.fd_capacity = 20;
    CHECK_INT(naru_recv_message(ch[1], &m, NARU_NOWAIT), 0);
    CHECK(m.fd_count <= 3 && m.length == 10);
    CHECK_INT(dropped(ch[1]), 20 - m.fd_count);
    for (size_t i = 0; i < m.fd_count; i++)
        check_file(got[i], 5);
    close(fd);
    close_pair(ch);
}

static void *take_files(void *end)
{
    for (int i = 0; i < 500; i++)
        CHECK_INT(take_file(end, 1, i, NARU_FOREVER), 0);
    return NULL;
}

/* Small buffers: the socket is full long before SHM_FDS_OUT are out. */
TEST(more_than_the_socket_takes_wait_and_arrive_in_order)
{
    static const int64_t timeouts[] = {NARU_FOREVER, NARU_S(60)};

    for (int round = 0; round < 4; round++) {
        const int small = 1;
        struct naru_channel *ch[2];
        pthread_t thread;
        int sent = 0, r;

        open_pair(round % 2 ? "shm:?ring=4k&wait=sleep" : "shm:", ch);
        if (round > 1)
            CHECK(setsockopt(ch[0]->side_fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof small) == 0);
        while ((r = send_file(ch[0], 8, sent, NARU_NOWAIT)) == 0)
            sent++;
        CHECK_INT(r, -EAGAIN);
        CHECK(sent > 0 && sent <= SHM_FDS_OUT);
        CHECK_INT(send_file(ch[0], 8, sent, NARU_MS(1)), -ETIMEDOUT);
        CHECK_INT(naru_send(ch[0], bytes, 9, NARU_NOWAIT), 0); /* for others there is room */
        for (int i = 0; i < sent; i++)
            CHECK_INT(take_file(ch[1], 1, i, NARU_NOWAIT), 0);
        CHECK_INT(take_file(ch[1], 0, 0, NARU_NOWAIT), 0);
        CHECK_INT(pthread_create(&thread, NULL, take_files, ch[1]), 0);
        for (int i = 0; i < 500; i++)
            CHECK_INT(send_file(ch[0], 8, i, timeouts[i % 2]), 0);
        CHECK_INT(pthread_join(thread, NULL), 0);
        close_pair(ch);
    }
}

TEST(what_was_sent_with_them_arrives_after_the_sender_has_closed)
{
    struct naru_channel *ch[2];

    open_pair("shm:", ch);
    CHECK_INT(send_file(ch[1], 8, 1, NARU_NOWAIT), 0); /* left unread: the socket says so first */
    for (int i = 0; i < 3; i++)
        CHECK_INT(send_file(ch[0], 8, i, NARU_NOWAIT), 0);
    ch[0] = naru_channel_close(ch[0]);
    for (int i = 0; i < 3; i++)
        CHECK_INT(take_file(ch[1], 1, i, NARU_NOWAIT), 0);
    CHECK_INT(take_file(ch[1], 0, 0, NARU_NOWAIT), -EPIPE);
    CHECK_INT(send_file(ch[1], 8, 1, NARU_NOWAIT), -EPIPE);
    close_pair(ch);
}

TEST(a_descriptor_that_is_none_sends_nothing)
{
    struct naru_channel *ch[2];
    struct naru_message m = NARU_INIT(struct naru_message);
    struct iovec piece = {bytes, LARGE};
    int none = -1;

    open_pair("shm:?ring=4k&pool=64k", ch);
    m.iov = &piece;
    m.iov_count = 1;
    m.fds = &none;
    m.fd_count = 1;
    for (int i = 0; i < 50; i++) { /* with a pool that would soon be full of chunks */
        CHECK_INT(naru_send_message(ch[0], &m, NARU_FOREVER), -EBADF);
        CHECK_CONTAINS(naru_explain(), "descriptor");
    }
    CHECK_INT(take_file(ch[1], 0, 0, NARU_NOWAIT), -EAGAIN);
    CHECK_INT(send_file(ch[0], LARGE, 3, NARU_NOWAIT), 0);
    CHECK_INT(take_file(ch[1], 1, 3, NARU_NOWAIT), 0);
    close_pair(ch);
}

/* --- peers whose packets and records do not agree --- */

static void put_record(struct naru_channel *ch, size_t fds)
{
    struct ring_writer *tx = &((struct shm *)ch->state)->link.tx;
    uint8_t *payload = NULL;

    CHECK_INT(ring_reserve(tx, 8, &payload), RING_OK);
    memset(payload, 0, 8);
    ring_commit_word(tx, record_word_with_fds(RECORD_DATA, fds, 8));
}

static void put_packet(struct naru_channel *ch, uint64_t position, uint32_t said, int sent, size_t length)
{
    struct {
        uint64_t position;
        uint32_t count, reserved;
    } packet[2] = {{position, said, 0}, {0, 0, 0}};
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(4 * sizeof(int))];
    } control = {.bytes = {0}};
    struct iovec iov = {packet, length};
    struct msghdr header = {.msg_iov = &iov, .msg_iovlen = 1};
    int fds[4] = {0, 0, 0, 0};

    if (sent) {
        header.msg_control = control.bytes;
        header.msg_controllen = CMSG_SPACE((size_t)sent * sizeof(int));
        control.align.cmsg_level = SOL_SOCKET;
        control.align.cmsg_type = SCM_RIGHTS;
        control.align.cmsg_len = CMSG_LEN((size_t)sent * sizeof(int));
        memcpy(CMSG_DATA(&control.align), fds, (size_t)sent * sizeof(int));
    }
    CHECK_INT(sendmsg(ch->side_fd, &header, 0), (long long)length);
}

static void nothing(struct naru_channel *ch)
{
    put_record(ch, 1);
}

static void too_few(struct naru_channel *ch)
{
    put_packet(ch, 0, 2, 1, 16);
    put_record(ch, 2);
}

static void too_many(struct naru_channel *ch)
{
    put_packet(ch, 0, 2, 3, 16);
    put_record(ch, 2);
}

static void none_in_it(struct naru_channel *ch)
{
    put_packet(ch, 0, 1, 0, 16);
    put_record(ch, 1);
}

static void of_another_record(struct naru_channel *ch)
{
    put_packet(ch, 16, 1, 1, 16);
    put_record(ch, 1);
}

static void too_short(struct naru_channel *ch)
{
    put_packet(ch, 0, 1, 1, 12);
    put_record(ch, 1);
}

static void too_long(struct naru_channel *ch)
{
    put_packet(ch, 0, 1, 1, 24);
    put_record(ch, 1);
}

static void a_count_that_cannot_be(struct naru_channel *ch)
{
    put_packet(ch, 0, 254, 1, 16);
    put_record(ch, 254);
}

static void a_socket_shut(struct naru_channel *ch)
{
    CHECK(shutdown(ch->side_fd, SHUT_RDWR) == 0);
    put_record(ch, 1);
}

static const struct {
    const char *name;
    void (*attack)(struct naru_channel *ch);
} attacks[] = {{"nothing", nothing},
               {"too few", too_few},
               {"too many", too_many},
               {"none in it", none_in_it},
               {"of another record", of_another_record},
               {"too short", too_short},
               {"too long", too_long},
               {"a count that cannot be", a_count_that_cannot_be},
               {"a socket shut", a_socket_shut}};

static const char *each_attack(size_t index)
{
    return index < sizeof attacks / sizeof *attacks ? attacks[index].name : NULL;
}

TEST_EACH(a_packet_that_is_not_the_records_is_a_protocol_error, each_attack)
{
    for (int way = 0; way < 3; way++) {
        struct naru_view view = NARU_INIT(struct naru_view);
        struct naru_channel *ch[2];
        char buffer[100];

        open_pair("shm:", ch);
        attacks[index].attack(ch[1]);
        if (way == 0)
            CHECK_INT(take_file(ch[0], 1, 0, NARU_FOREVER), -EPROTO);
        else if (way == 1)
            CHECK_INT(naru_recv(ch[0], buffer, sizeof buffer, NARU_FOREVER), -EPROTO);
        else
            CHECK_INT(naru_borrow(ch[0], NARU_FOREVER, &view), -EPROTO);
        CHECK_INT(naru_send(ch[0], "x", 1, NARU_FOREVER), -EPROTO); /* for good */
        close_pair(ch);
    }
}

/* They stay in the socket, at the sender's expense, and go with it. */
TEST(packets_without_records_harm_nobody)
{
    struct naru_channel *ch[2];
    char buffer[8];

    open_pair("shm:", ch);
    for (int i = 0; i < 50; i++)
        put_packet(ch[1], 0, 1, 1, 16);
    for (int i = 0; i < 1000; i++) {
        CHECK_INT(naru_send(ch[1], bytes, 8, NARU_NOWAIT), 0);
        CHECK_INT(naru_recv(ch[0], buffer, sizeof buffer, NARU_NOWAIT), 8);
    }
    CHECK_INT(send_file(ch[0], 8, 2, NARU_NOWAIT), 0); /* the other way it goes on */
    CHECK_INT(take_file(ch[1], 1, 2, NARU_NOWAIT), 0);
    close_pair(ch);
}

TEST(a_peer_whose_socket_is_shut_takes_no_descriptors_and_everything_else)
{
    struct naru_channel *ch[2];
    char buffer[8];

    open_pair("shm:", ch);
    CHECK(shutdown(ch[1]->side_fd, SHUT_RDWR) == 0);
    CHECK_INT(send_file(ch[0], 8, 2, NARU_FOREVER), -EPIPE);
    CHECK_CONTAINS(naru_explain(), "takes no descriptors");
    CHECK_INT(naru_send(ch[0], bytes, 8, NARU_FOREVER), 0);
    CHECK_INT(naru_recv(ch[1], buffer, sizeof buffer, NARU_FOREVER), 8);
    close_pair(ch);
}

/* It would have room again as soon as the peer receives one: but that says that it has received them all. */
TEST(a_peer_that_leaves_what_it_says_it_received_is_a_protocol_error)
{
    struct naru_channel *ch[2];
    int r = 0;

    open_pair("shm:", ch);
    for (int i = 0; i < 10000 && r == 0; i++) {
        r = send_file(ch[0], 8, 2, NARU_FOREVER);
        ring_release(&((struct shm *)ch[1]->state)->link.rx, 8);
    }
    if (r != -ETOOMANYREFS) /* what an ordinary user is told first */
        CHECK_INT(r, -EPROTO);
    close_pair(ch);
}
