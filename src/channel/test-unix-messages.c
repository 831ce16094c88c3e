/* SPDX-License-Identifier: MIT */
/* unix: what comes with a message: descriptors, its sender, room for it. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "channel/channel.h"
#include "channel/datagram.h"
#include "channel/test-unix.h"

static uint64_t dropped(const struct naru_channel *ch)
{
    struct naru_channel_info info = NARU_INIT(struct naru_channel_info);

    CHECK_INT(naru_channel_info(ch, &info), 0);
    return info.dropped;
}

/* Sends one byte with count duplicates of one descriptor. */
static void send_fds(struct naru_channel *ch, size_t count)
{
    struct iovec piece = {"x", 1};
    struct naru_message m = NARU_INIT(struct naru_message);
    int fds[CHANNEL_FDS_MAX];

    for (size_t i = 0; i < count; i++)
        fds[i] = STDERR_FILENO;
    m.iov = &piece;
    m.iov_count = 1;
    m.fds = fds;
    m.fd_count = count;
    CHECK_INT(naru_send_message(ch, &m, patience), 0);
}

/* Receives what send_fds() sent, and closes it. Returns how many came. */
static size_t receive_fds(struct naru_channel *ch)
{
    char byte;
    struct iovec piece = {&byte, 1};
    struct naru_message m = NARU_INIT(struct naru_message);
    int fds[CHANNEL_FDS_MAX];

    m.iov = &piece;
    m.iov_count = 1;
    m.fds = fds;
    m.fd_capacity = CHANNEL_FDS_MAX;
    CHECK_INT(naru_recv_message(ch, &m, patience), 0);
    for (size_t i = 0; i < m.fd_count; i++)
        close(fds[i]);
    return m.fd_count;
}

TEST_EACH(as_many_descriptors_arrive_as_the_kernel_takes, each_kind)
{
    struct naru_channel *ends[2];

    CHECK_INT(naru_channel_pair(test_format("unix:?type=%s", kinds[index]), NULL, ends), 0);
    send_fds(ends[0], CHANNEL_FDS_MAX);
    CHECK_INT(receive_fds(ends[1]), CHANNEL_FDS_MAX);
    CHECK_INT(dropped(ends[1]), 0);
    naru_channel_close(ends[0]);
    naru_channel_close(ends[1]);
}

TEST_EACH(descriptors_that_find_no_room_in_the_process_count_as_dropped, each_kind)
{
    struct naru_channel *ends[2];

    CHECK_INT(naru_channel_pair(test_format("unix:?type=%s", kinds[index]), NULL, ends), 0);
    send_fds(ends[0], 5);
    test_limit_descriptors(2);
    CHECK_INT(receive_fds(ends[1]), 2);
    CHECK_INT(dropped(ends[1]), 1); /* "some": the kernel says no more */
    naru_channel_close(ends[0]);
    naru_channel_close(ends[1]);
}

static const char *each_message_kind(size_t index)
{
    return index < 2 ? kinds[index + 1] : NULL;
}

/* A program that knows nothing of naru, and sends before anybody has accepted. */
TEST_EACH(who_sent_a_message_is_known_however_early_it_came, each_message_kind)
{
    const char *path = test_format("%s/s", test_directory());
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct naru_message m = NARU_INIT(struct naru_message);
    char byte;
    struct iovec piece = {&byte, 1};
    struct naru_listener *l;
    struct naru_channel *ch;
    int fd = socket(AF_UNIX, types[index + 1] | SOCK_CLOEXEC, 0), on = 0;
    socklen_t length = sizeof on;

    CHECK_INT(naru_listen(test_format("unix://%s?type=%s", path, kinds[index + 1]), NULL, &l), 0);
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    CHECK(fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof address) == 0);
    CHECK_INT(send(fd, "x", 1, 0), 1);
    CHECK_INT(naru_accept(l, patience, &ch), 0);
    m.iov = &piece;
    m.iov_count = 1;
    CHECK_INT(naru_recv_message(ch, &m, patience), 0);
    CHECK_INT(m.sender.pid, getpid());
    CHECK(getsockopt(ch->rfd, SOL_SOCKET, SO_PASSCRED, &on, &length) == 0 && on == 1);
    naru_channel_close(ch);
    naru_listener_close(l);
    close(fd);
}

/* No kernel of today carries more than what room is made for; one of tomorrow may. */
TEST(a_datagram_larger_than_any_that_was_expected_is_lost_and_counted)
{
    static const char message[200];
    struct naru_channel *ends[2];
    char buffer[100];
    struct iovec piece = {buffer, sizeof buffer};
    struct naru_message m = NARU_INIT(struct naru_message);

    m.iov = &piece;
    m.iov_count = 1;
    CHECK_INT(naru_channel_pair("unix:?type=dgram", NULL, ends), 0);
    ((struct datagram *)ends[1]->state)->largest = 150;
    for (int i = 0; i < 2; i++)
        CHECK_INT(naru_send(ends[0], message, sizeof message, patience), 0);
    CHECK_INT(naru_send(ends[0], "next", 4, patience), 0);
    CHECK_INT(naru_recv(ends[1], buffer, sizeof buffer, patience), -EBADMSG);
    CHECK_CONTAINS(naru_explain(), "a message of 200 bytes was cut off by the kernel and is lost");
    CHECK_INT(dropped(ends[1]), 1);
    CHECK_INT(naru_recv_message(ends[1], &m, patience), -EBADMSG);
    CHECK_INT(dropped(ends[1]), 2);
    CHECK_INT(naru_recv(ends[1], buffer, sizeof buffer, patience), 4);
    naru_channel_close(ends[0]);
    naru_channel_close(ends[1]);
}

/* No pieces at all are room for an empty message, and the pointer to them may be NULL. */
TEST_EACH(an_empty_message_needs_no_memory, each_kind)
{
    struct naru_message m = NARU_INIT(struct naru_message);
    struct naru_channel *ends[2];

    CHECK_INT(naru_channel_pair(test_format("unix:?type=%s", kinds[index]), NULL, ends), 0);
    CHECK_INT(naru_send_message(ends[0], &m, patience), 0);
    CHECK_INT(naru_recv_message(ends[1], &m, patience), 0);
    CHECK_INT(m.length, 0);
    naru_channel_close(ends[0]);
    naru_channel_close(ends[1]);
}

TEST_EACH(what_makes_no_sense_is_told_as_that, each_message_kind)
{
    enum { PIECES = 1100 };
    struct naru_message m = NARU_INIT(struct naru_message);
    struct iovec pieces[PIECES];
    struct naru_channel *ends[2];

    for (int i = 0; i < PIECES; i++)
        pieces[i] = (struct iovec){"x", 1};
    m.iov = pieces;
    m.iov_count = PIECES;
    CHECK_INT(naru_channel_pair(test_format("unix:?type=%s", kinds[index + 1]), NULL, ends), 0);
    CHECK_INT(naru_send_message(ends[0], &m, patience), -EINVAL);
    CHECK_CONTAINS(naru_explain(), "1100 pieces");
    CHECK_INT(naru_flush(ends[0], (enum naru_stage)99, NARU_NOWAIT), -EINVAL);
    CHECK_CONTAINS(naru_explain(), "no stage 99");
    naru_channel_close(ends[0]);
    naru_channel_close(ends[1]);
}

/* A network namespace of our own, whose sockets hold five messages; where that is not permitted, the system's
 * number. */
static void make_short_queues(void)
{
    int fd = -1;

    if (unshare(CLONE_NEWNET) == 0 || unshare(CLONE_NEWUSER | CLONE_NEWNET) == 0)
        fd = open("/proc/sys/net/unix/max_dgram_qlen", O_WRONLY | O_CLOEXEC);
    if (fd >= 0)
        CHECK(write(fd, "5", 1) == 1 || errno == EACCES || errno == EPERM);
    close(fd);
}

/* Whom a program asks that is not connected: to those who are, the kernel counts bytes instead of messages.
 */
TEST(who_answers_a_full_queue_sleeps_until_there_is_room)
{
    enum { ROUNDS = 20 };
    const char *path = test_format("%s/s", test_directory());
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    struct naru_listener *l;
    struct naru_channel *ch;
    int fd, r, answers = 0;
    long before;
    char byte;

    make_short_queues();
    CHECK_INT(naru_listen(test_format("unix://%s?type=dgram", path), NULL, &l), 0);
    CHECK_INT(naru_accept(l, NARU_NOWAIT, &ch), 0);
    fd = foreign_socket(test_format("%s/asks", test_directory()), SOCK_DGRAM);
    snprintf(to.sun_path, sizeof to.sun_path, "%s", path);
    CHECK_INT(sendto(fd, "?", 1, 0, (struct sockaddr *)&to, sizeof to), 1);
    CHECK_INT(naru_recv(ch, &byte, 1, NARU_NOWAIT), 1);
    while ((r = naru_send(ch, "!", 1, NARU_NOWAIT)) == 0)
        answers++;
    CHECK_INT(r, -EAGAIN);
    before = test_sleeps();
    for (int i = 0; i < ROUNDS; i++)
        CHECK_INT(naru_send(ch, "!", 1, NARU_MS(20)), -ETIMEDOUT);
    CHECK(test_sleeps() - before >= ROUNDS / 2); /* a round in which all stood still has none */
    for (; answers > 0; answers--)
        CHECK_INT(recv(fd, &byte, 1, 0), 1);
    CHECK_INT(naru_send(ch, "!", 1, patience), 0);
    naru_channel_close(ch);
    naru_listener_close(l);
    close(fd);
    CHECK_INT(unlink(test_format("%s/asks", test_directory())), 0);
}
