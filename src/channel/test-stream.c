/* SPDX-License-Identifier: MIT */
/* Streams cut in the worst places: bytes that dribble, callers that give up half-way, descriptors among
 * read-ahead. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "channel/channel.h"
#include "channel/stream.h"
#include "naru/error.h"
#include "runner.h"

enum { LARGE = 3 * 1000 * 1000 };

static void pair(const char *url, struct naru_channel *ends[2])
{
    CHECK_INT(naru_channel_pair(url, NULL, ends), 0);
}

static void close_pair(struct naru_channel *ends[2])
{
    (void)naru_channel_close(ends[0]);
    (void)naru_channel_close(ends[1]);
}

static char *pattern(size_t length)
{
    char *bytes = malloc(length);

    CHECK(bytes);
    for (size_t i = 0; i < length; i++)
        bytes[i] = (char)(i * 31 + i / 251);
    return bytes;
}

/* Bytes as a program that never heard of naru would write them. */
static void write_all(struct naru_channel *ch, const void *bytes, size_t length)
{
    for (size_t done = 0; done < length;) {
        ssize_t n = write(ch->wfd, (const char *)bytes + done, length - done);

        CHECK(n > 0);
        done += (size_t)n;
    }
}

static void check_arrives(struct naru_channel *ch, const char *expected, size_t length)
{
    char *got = malloc(length + 1);

    CHECK(got);
    CHECK_INT(naru_recv(ch, got, length + 1, NARU_S(60)), length);
    CHECK(memcmp(got, expected, length) == 0);
    free(got);
}

TEST(a_message_that_dribbles_in_is_never_seen_in_part)
{
    struct naru_channel *ends[2];
    char buffer[16];

    pair("pipe:", ends);
    for (size_t i = 0; i < 7; i++) {
        CHECK_INT(naru_recv(ends[1], buffer, sizeof buffer, NARU_NOWAIT), -EAGAIN);
        write_all(ends[0], &"\0\0\0\3abc"[i], 1);
    }
    check_arrives(ends[1], "abc", 3);
    close_pair(ends);
}

TEST(giving_up_inside_a_large_message_loses_nothing)
{
    struct naru_channel *ends[2];
    char *bytes = pattern(LARGE), *got = malloc(LARGE);
    ssize_t n;
    int child;

    CHECK(got);
    pair("unix:?buffer=64k", ends);
    child = test_fork();
    if (child == 0) {
        (void)naru_channel_close(ends[1]);
        CHECK_INT(naru_send(ends[0], bytes, LARGE, NARU_FOREVER), 0);
        CHECK_INT(naru_send(ends[0], "after", 5, NARU_FOREVER), 0);
        _exit(0);
    }
    (void)naru_channel_close(ends[0]);
    /* A new buffer each time, so that what was received into the last one must have been saved. */
    while ((n = naru_recv(ends[1], got, LARGE, NARU_US(20))) < 0) {
        CHECK(n == -ETIMEDOUT);
        memset(got, 0, LARGE);
    }
    CHECK_INT(n, LARGE);
    CHECK(memcmp(got, bytes, LARGE) == 0);
    check_arrives(ends[1], "after", 5);
    test_join(child);
    CHECK_INT(naru_recv(ends[1], got, LARGE, NARU_FOREVER), -EPIPE);
    (void)naru_channel_close(ends[1]);
    free(bytes);
    free(got);
}

TEST(a_message_cut_by_a_full_pipe_goes_on_where_it_stopped)
{
    struct naru_channel *ends[2];
    char *bytes = pattern(LARGE), *got = malloc(LARGE);
    int child;

    CHECK(got);
    pair("pipe:", ends);
    CHECK_INT(naru_send(ends[0], bytes, LARGE, NARU_NOWAIT), -EINPROGRESS);
    CHECK_CONTAINS(naru_explain(), "part of the message is sent");
    CHECK_INT(naru_flush(ends[0], NARU_SENT, NARU_NOWAIT), -EAGAIN);
    CHECK_INT(naru_send(ends[0], "x", 1, NARU_MS(1)), -ETIMEDOUT);
    child = test_fork();
    if (child == 0) {
        (void)naru_channel_close(ends[0]);
        CHECK_INT(naru_recv(ends[1], got, LARGE, NARU_S(60)), LARGE);
        CHECK(memcmp(got, bytes, LARGE) == 0);
        check_arrives(ends[1], "second", 6);
        _exit(0);
    }
    CHECK_INT(naru_flush(ends[0], NARU_SENT, NARU_S(60)), 0);
    CHECK_INT(naru_send(ends[0], "second", 6, NARU_S(60)), 0);
    test_join(child);
    close_pair(ends);
    free(bytes);
    free(got);
}

TEST(a_batch_cut_by_a_full_pipe_arrives_once_and_in_order)
{
    enum { COUNT = 5000, SIZE = 100 };
    struct naru_channel *ends[2];
    static struct naru_message messages[COUNT];
    static struct iovec pieces[COUNT];
    char *bytes = pattern(COUNT * SIZE), got[SIZE];
    size_t sent = 0, received = 0;

    for (size_t i = 0; i < COUNT; i++) {
        pieces[i] = (struct iovec){bytes + i * SIZE, i % SIZE};
        messages[i] = (struct naru_message){.size = sizeof *messages, .iov = &pieces[i], .iov_count = 1};
    }
    pair("pipe:", ends);
    while (received < COUNT) {
        ssize_t n = sent < COUNT ? naru_send_batch(ends[0], messages + sent, COUNT - sent, NARU_NOWAIT) : 0;

        CHECK(n >= 0 || n == -EAGAIN);
        sent += n > 0 ? (size_t)n : 0;
        for (;;) {
            ssize_t length = naru_recv(ends[1], got, sizeof got, NARU_NOWAIT);

            if (length == -EAGAIN)
                break;
            CHECK_INT(length, received % SIZE);
            CHECK(memcmp(got, bytes + received * SIZE, (size_t)length) == 0);
            received++;
        }
        if (naru_flush(ends[0], NARU_SENT, NARU_NOWAIT) < 0)
            CHECK(sent > received);
    }
    CHECK_INT(sent, COUNT);
    close_pair(ends);
    free(bytes);
}

TEST(a_message_larger_than_the_buffer_waits_for_a_larger_one)
{
    struct naru_channel *ends[2];
    char small[10];
    char *bytes = pattern(LARGE);
    int child;

    pair("pipe:", ends);
    child = test_fork();
    if (child == 0) {
        CHECK_INT(naru_send(ends[0], bytes, LARGE, NARU_FOREVER), 0);
        CHECK_INT(naru_send(ends[0], "next", 4, NARU_FOREVER), 0);
        _exit(0);
    }
    for (int i = 0; i < 3; i++) {
        CHECK_INT(naru_recv(ends[1], small, sizeof small, NARU_S(60)), -EMSGSIZE);
        CHECK_CONTAINS(naru_explain(), "3000000 bytes");
    }
    check_arrives(ends[1], bytes, LARGE);
    check_arrives(ends[1], "next", 4);
    test_join(child);
    close_pair(ends);
    free(bytes);
}

TEST(the_last_line_needs_no_newline)
{
    struct naru_channel *ends[2];
    char got[8];

    pair("pipe:?frame=line", ends);
    write_all(ends[0], "one\n\ntwo", 8);
    ends[0] = naru_channel_close(ends[0]);
    check_arrives(ends[1], "one", 3);
    check_arrives(ends[1], "", 0);
    check_arrives(ends[1], "two", 3);
    CHECK_INT(naru_recv(ends[1], got, sizeof got, NARU_FOREVER), -EPIPE);
    close_pair(ends);
}

TEST(a_stream_that_ends_inside_a_message_says_so_each_time)
{
    struct naru_channel *ends[2];
    char got[8];

    pair("pipe:", ends);
    write_all(ends[0], "\0\0\0\2ok\0\0\0\5tru", 13);
    ends[0] = naru_channel_close(ends[0]);
    check_arrives(ends[1], "ok", 2);
    for (int i = 0; i < 2; i++) {
        CHECK_INT(naru_recv(ends[1], got, sizeof got, NARU_FOREVER), -EPROTO);
        CHECK_CONTAINS(naru_explain(), "ended inside a message");
    }
    close_pair(ends);
}

TEST(an_absurd_length_is_refused_without_reading_on)
{
    struct naru_channel *ends[2];
    char got[8];

    pair("unix:", ends);
    write_all(ends[0], "\xff\xff\xff\xff....", 8);
    CHECK_INT(naru_recv(ends[1], got, sizeof got, NARU_S(60)), -EPROTO);
    CHECK_CONTAINS(naru_explain(), "larger than ?max-message=");
    close_pair(ends);
}

TEST(pieces_are_sent_as_one_message_and_received_in_pieces)
{
    struct naru_channel *ends[2];
    struct iovec out[100];
    char bytes[100 * 700], got[sizeof bytes];
    struct iovec in[3] = {{got, 1}, {got + 1, 40000}, {got + 40001, sizeof got - 40001}};
    struct naru_message m = NARU_INIT(struct naru_message);

    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (char)(i / 7);
    for (size_t i = 0; i < 100; i++)
        out[i] = (struct iovec){bytes + i * 700, 700};
    pair("unix:?frame=varint&buffer=200k", ends);
    m.iov = out;
    m.iov_count = 100;
    CHECK_INT(naru_send_message(ends[0], &m, NARU_S(60)), 0);
    m.iov = in;
    m.iov_count = 3;
    CHECK_INT(naru_recv_message(ends[1], &m, NARU_S(60)), 0);
    CHECK_INT(m.length, sizeof bytes);
    CHECK(memcmp(got, bytes, sizeof bytes) == 0);
    close_pair(ends);
}

static ino_t inode(int fd)
{
    struct stat status;

    CHECK_INT(fstat(fd, &status), 0);
    return status.st_ino;
}

/* Message `i` of descriptors_arrive_with_their_own_message carries i % 4 == 3 descriptors or none. */
static void send_numbered(struct naru_channel *ch, int i, int fd)
{
    struct iovec piece = {&i, sizeof i};
    struct naru_message m = NARU_INIT(struct naru_message);

    m.iov = &piece;
    m.iov_count = 1;
    m.fds = &fd;
    m.fd_count = i % 4 == 3 ? 1 : 0;
    CHECK_INT(naru_send_message(ch, &m, NARU_S(60)), 0);
}

TEST(descriptors_arrive_with_their_own_message)
{
    enum { COUNT = 40 };
    struct naru_channel *ends[2];
    int files[2];

    pair("unix:", ends);
    CHECK_INT(pipe(files), 0);
    /* All are in the kernel before the first is received: read-ahead takes them in as few reads as it can. */
    for (int i = 0; i < COUNT; i++)
        send_numbered(ends[0], i, files[i % 8 == 3]);
    for (int i = 0; i < COUNT; i++) {
        int number = -1, fds[2] = {-1, -1};
        struct iovec piece = {&number, sizeof number};
        struct naru_message m = NARU_INIT(struct naru_message);

        m.iov = &piece;
        m.iov_count = 1;
        m.fds = fds;
        m.fd_capacity = 2;
        CHECK_INT(naru_recv_message(ends[1], &m, NARU_S(60)), 0);
        CHECK_INT(number, i);
        CHECK_INT(m.fd_count, i % 4 == 3 ? 1 : 0);
        if (m.fd_count) {
            CHECK_INT(inode(fds[0]), inode(files[i % 8 == 3]));
            CHECK_INT(fcntl(fds[0], F_GETFD), FD_CLOEXEC);
            (void)close(fds[0]);
        }
    }
    (void)close(files[0]);
    (void)close(files[1]);
    close_pair(ends);
}

TEST(descriptors_nobody_asked_for_are_closed_and_counted)
{
    struct naru_channel *ends[2];
    struct naru_channel_info info = NARU_INIT(struct naru_channel_info);
    char got[16];

    pair("unix:", ends);
    send_numbered(ends[0], 3, STDIN_FILENO);
    CHECK_INT(naru_recv(ends[1], got, sizeof got, NARU_S(60)), sizeof(int));
    CHECK_INT(naru_channel_info(ends[1], &info), 0);
    CHECK_INT(info.dropped, 1);
    send_numbered(ends[0], 3, STDIN_FILENO); /* and one that is never received: the runner looks for leaks */
    CHECK_INT(naru_send(ends[0], "x", 1, NARU_S(60)), 0);
    close_pair(ends);
}

TEST(a_newline_cannot_travel_in_a_line)
{
    struct naru_channel *ends[2];

    pair("pipe:?frame=line", ends);
    CHECK_INT(naru_send(ends[0], "a\nb", 3, NARU_S(60)), -EINVAL);
    CHECK_CONTAINS(naru_explain(), "newline at byte 1");
    CHECK_CONTAINS(naru_explain(), "?frame=len32");
    close_pair(ends);
}

TEST(without_read_ahead_nothing_of_the_next_message_is_taken)
{
    struct naru_channel *ends[2];
    char rest[64];

    for (int line = 0; line < 2; line++) {
        pair(line ? "pipe:?read-ahead=no&frame=line" : "pipe:?read-ahead=no", ends);
        CHECK_INT(naru_send(ends[0], "first", 5, NARU_S(60)), 0);
        CHECK_INT(naru_send(ends[0], "second", 6, NARU_S(60)), 0);
        check_arrives(ends[1], "first", 5);
        CHECK_INT(read(ends[1]->rfd, rest, sizeof rest), line ? 7 : 10);
        close_pair(ends);
    }
}

/* Sanitizers need address space themselves, and end the program where there is none. */
#if !defined __SANITIZE_ADDRESS__ && !defined __SANITIZE_THREAD__
TEST(without_memory_for_the_rest_of_a_message_nothing_follows_its_half)
{
    enum { HUGE = 60 * 1024 * 1024 };
    struct rlimit usual, tight = {0, 0};
    struct naru_channel *ends[2];
    char *zeroes = mmap(NULL, HUGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    CHECK(zeroes != MAP_FAILED && getrlimit(RLIMIT_AS, &usual) == 0);
    pair("unix:", ends);
    tight.rlim_max = usual.rlim_max;
    CHECK_INT(setrlimit(RLIMIT_AS, &tight), 0);
    CHECK_INT(naru_send(ends[0], zeroes, HUGE, NARU_NOWAIT), -ENOMEM);
    CHECK_INT(setrlimit(RLIMIT_AS, &usual), 0);
    CHECK_CONTAINS(naru_explain(), "the stream is cut off inside it");
    CHECK_INT(naru_send(ends[0], "after", 5, NARU_NOWAIT), -EPROTO);
    CHECK_INT(naru_flush(ends[0], NARU_SENT, NARU_NOWAIT), 0); /* nothing is kept to be sent */
    close_pair(ends);
    munmap(zeroes, HUGE);
}
#endif
