/* SPDX-License-Identifier: MIT */
/* fd: and -: every kind of descriptor, and that what we were lent is left as it was. */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "naru/naru.h"
#include "runner.h"

static const int64_t patience = NARU_S(60);

static const char *url_of(int fd, const char *query)
{
    return test_format("fd:%d%s", fd, query);
}

static struct naru_channel *open_url(const char *url, enum naru_direction direction)
{
    struct naru_options options = NARU_INIT(struct naru_options);
    struct naru_channel *ch = NULL;

    options.direction = direction;
    CHECK_INT(naru_connect(url, &options, NARU_NOWAIT, &ch), 0);
    return ch;
}

static struct naru_channel *open_fd(int fd)
{
    return open_url(url_of(fd, ""), NARU_DIRECTION_DEFAULT);
}

static void check_recv(struct naru_channel *ch, const char *expected)
{
    char buffer[256];
    ssize_t n = naru_recv(ch, buffer, sizeof buffer - 1, patience);

    CHECK_INT(n, strlen(expected));
    buffer[n] = '\0';
    CHECK_STR(buffer, expected);
}

static void check_read(int fd, const char *expected)
{
    char buffer[256] = "";
    size_t length = 0;

    while (length < strlen(expected)) { /* a terminal may give it in parts */
        ssize_t n = read(fd, buffer + length, sizeof buffer - 1 - length);

        CHECK(n > 0);
        length += (size_t)n;
    }
    CHECK_STR(buffer, expected);
}

/* What no channel may do to a descriptor that it was lent. */
static void check_untouched(int fd)
{
    int flags = fcntl(fd, F_GETFL);

    CHECK(flags >= 0);
    CHECK((flags & O_NONBLOCK) == 0);
}

TEST(a_pipe_goes_the_way_it_was_opened)
{
    struct naru_channel *in, *out;
    char buffer[8];
    int fds[2];

    CHECK_INT(pipe(fds), 0);
    in = open_fd(fds[0]);
    out = open_fd(fds[1]);
    CHECK_INT(naru_recv(in, buffer, sizeof buffer, NARU_NOWAIT), -EAGAIN);
    CHECK_INT(naru_recv(in, buffer, sizeof buffer, NARU_MS(1)), -ETIMEDOUT);
    CHECK_INT(naru_send(out, "one", 3, NARU_NOWAIT), 0);
    CHECK_INT(naru_send(out, "", 0, patience), 0);
    CHECK_INT(naru_send(out, "two", 3, NARU_FOREVER), 0);
    check_recv(in, "one");
    check_recv(in, "");
    CHECK_INT(naru_send(in, "x", 1, NARU_NOWAIT), -ENOTSUP);
    CHECK_INT(naru_recv(out, buffer, sizeof buffer, NARU_NOWAIT), -ENOTSUP);
    naru_channel_close(in);
    check_untouched(fds[0]);
    check_untouched(fds[1]);
    check_read(fds[0], "two\n"); /* nothing was read ahead */
    (void)close(fds[0]);
    CHECK_INT(naru_send(out, "x", 1, NARU_FOREVER), -EPIPE); /* and no SIGPIPE */
    CHECK_INT(naru_send(out, "x", 1, NARU_NOWAIT), -EPIPE);
    naru_channel_close(out);
    (void)close(fds[1]);
}

TEST(a_full_pipe_makes_the_sender_wait_and_keeps_the_flags)
{
    static char block[3000];
    struct naru_channel *out;
    int fds[2], r, sent = 0;
    struct pollfd poll_fd = {.events = POLLIN};

    memset(block, 'x', sizeof block);
    CHECK_INT(pipe(fds), 0);
    out = open_fd(fds[1]);
    while ((r = naru_send(out, block, sizeof block, NARU_NOWAIT)) == 0)
        sent++;
    CHECK(sent > 1);
    CHECK(r == -EAGAIN || r == -EINPROGRESS);
    check_untouched(fds[1]);
    poll_fd.fd = naru_channel_fd(out);
    CHECK(poll_fd.fd >= 0);
    CHECK_INT(poll(&poll_fd, 1, 0), 0);
    for (int i = 0; i <= sent / 2; i++)
        CHECK(read(fds[0], block, sizeof block) > 0);
    CHECK_INT(poll(&poll_fd, 1, 0), 1);
    CHECK_INT(naru_flush(out, NARU_SENT, patience), 0);
    naru_channel_close(out);
    (void)close(fds[0]);
    (void)close(fds[1]);
}

TEST(a_stream_socket_goes_both_ways)
{
    struct naru_channel *ch;
    int fds[2];
    char buffer[8];

    CHECK_INT(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    ch = open_fd(fds[0]);
    CHECK_INT(naru_recv(ch, buffer, sizeof buffer, NARU_NOWAIT), -EAGAIN);
    CHECK_INT(naru_send(ch, "ping", 4, NARU_NOWAIT), 0);
    check_read(fds[1], "ping\n");
    CHECK_INT(write(fds[1], "pong\nlast", 9), 9);
    (void)close(fds[1]);
    check_recv(ch, "pong");
    check_recv(ch, "last");
    CHECK_INT(naru_recv(ch, buffer, sizeof buffer, NARU_FOREVER), -EPIPE);
    CHECK_INT(naru_send(ch, "x", 1, NARU_FOREVER), -EPIPE);
    check_untouched(fds[0]);
    naru_channel_close(ch);
    (void)close(fds[0]);
}

TEST(a_terminal_is_a_stream_of_lines)
{
    struct naru_channel *ch;
    int master, slave;
    char buffer[16];

    CHECK_INT(openpty(&master, &slave, NULL, NULL, NULL), 0);
    ch = open_fd(slave);
    CHECK_INT(naru_recv(ch, buffer, sizeof buffer, NARU_NOWAIT), -EAGAIN);
    CHECK_INT(naru_recv(ch, buffer, sizeof buffer, NARU_MS(1)), -ETIMEDOUT);
    CHECK_INT(write(master, "typed\n", 6), 6);
    check_recv(ch, "typed");
    CHECK_INT(naru_send(ch, "shown", 5, NARU_NOWAIT), 0);
    check_read(master, "typed\r\nshown\r\n"); /* the echo, too */
    check_untouched(slave);
    CHECK_INT(write(master, "\004", 1), 1); /* control D */
    CHECK_INT(naru_recv(ch, buffer, sizeof buffer, patience), -EPIPE);
    naru_channel_close(ch);
    (void)close(master);
    (void)close(slave);
}

TEST(a_regular_file_ends_and_gets_back_what_was_read_ahead)
{
    const char *path = test_format("%s/file", test_directory());
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    struct naru_channel *ch = open_url(url_of(fd, ""), NARU_DIRECTION_SEND);
    char buffer[16];

    CHECK_INT(naru_send(ch, "one", 3, NARU_NOWAIT), 0);
    CHECK_INT(naru_send(ch, "two", 3, patience), 0);
    CHECK_INT(naru_send(ch, "three", 5, NARU_FOREVER), 0);
    naru_channel_close(ch);
    CHECK_INT(lseek(fd, 0, SEEK_SET), 0);
    ch = open_url(url_of(fd, "?read-ahead=yes"), NARU_DIRECTION_RECEIVE);
    check_recv(ch, "one");
    CHECK_INT(lseek(fd, 0, SEEK_CUR), 14);
    naru_channel_close(ch);
    CHECK_INT(lseek(fd, 0, SEEK_CUR), 4);
    ch = open_fd(fd);
    CHECK_INT(naru_channel_fd(ch), -ENOTSUP);
    CHECK_CONTAINS(naru_explain(), "cannot poll this kind of file");
    check_recv(ch, "two");
    check_recv(ch, "three");
    CHECK_INT(naru_recv(ch, buffer, sizeof buffer, NARU_NOWAIT), -EPIPE);
    naru_channel_close(ch);
    (void)close(fd);
}

TEST(a_limit_on_file_size_fails_the_send_and_kills_nobody)
{
    int fd = open(test_format("%s/file", test_directory()), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    struct naru_channel *ch = open_fd(fd);
    struct rlimit limit;

    CHECK_INT(getrlimit(RLIMIT_FSIZE, &limit), 0);
    limit.rlim_cur = 8;
    CHECK_INT(setrlimit(RLIMIT_FSIZE, &limit), 0);
    CHECK_INT(naru_send(ch, "1234567", 7, patience), 0);
    CHECK_INT(naru_send(ch, "8", 1, patience), -EFBIG);
    CHECK_CONTAINS(naru_explain(), test_format("fd:%d: write: File too large", fd));
    naru_channel_close(ch);
    (void)close(fd);
}

TEST(the_standard_streams_in_one_channel)
{
    int in[2], out[2], child;

    CHECK_INT(pipe(in), 0);
    CHECK_INT(pipe(out), 0);
    child = test_fork();
    if (child == 0) {
        struct naru_channel *ch;
        char buffer[64];
        ssize_t n;

        CHECK_INT(dup2(in[0], STDIN_FILENO), STDIN_FILENO);
        CHECK_INT(dup2(out[1], STDOUT_FILENO), STDOUT_FILENO);
        (void)close(in[1]);
        ch = open_url("-", NARU_DIRECTION_DEFAULT);
        while ((n = naru_recv(ch, buffer, sizeof buffer, NARU_FOREVER)) >= 0)
            CHECK_INT(naru_send(ch, buffer, (size_t)n, NARU_FOREVER), 0);
        CHECK_INT(n, -EPIPE);
        naru_channel_close(ch);
        test_child_end();
    }
    CHECK_INT(write(in[1], "one\ntwo\n", 8), 8);
    (void)close(in[1]);
    (void)close(in[0]);
    (void)close(out[1]);
    test_join(child);
    check_read(out[0], "one\ntwo\n");
    (void)close(out[0]);
}

TEST(standard_input_is_read_ahead_unless_told_not_to)
{
    int saved = dup(STDIN_FILENO), fds[2];
    struct naru_channel *ch;

    CHECK_INT(pipe(fds), 0);
    CHECK_INT(dup2(fds[0], STDIN_FILENO), STDIN_FILENO);
    CHECK_INT(write(fds[1], "one\ntwo\n", 8), 8);
    ch = open_url("-?read-ahead=no", NARU_DIRECTION_RECEIVE);
    check_recv(ch, "one");
    naru_channel_close(ch);
    ch = open_url("-", NARU_DIRECTION_RECEIVE);
    CHECK_INT(write(fds[1], "three\n", 6), 6);
    check_recv(ch, "two");
    {
        struct pollfd poll_fds[2] = {{.fd = naru_channel_fd(ch), .events = POLLIN},
                                     {.fd = STDIN_FILENO, .events = POLLIN}};

        CHECK_INT(poll(poll_fds, 2, 0), 1);
        CHECK(poll_fds[0].revents == POLLIN); /* what is held here shows, though the pipe is empty */
    }
    check_recv(ch, "three");
    naru_channel_close(ch);
    if (saved >= 0) {
        CHECK_INT(dup2(saved, STDIN_FILENO), STDIN_FILENO);
        (void)close(saved);
    } else {
        (void)close(STDIN_FILENO);
    }
    (void)close(fds[0]);
    (void)close(fds[1]);
}

TEST(misuse_is_explained)
{
    struct naru_options options = NARU_INIT(struct naru_options);
    struct naru_channel *ch = NULL;
    int fds[2], fd;

    CHECK_INT(naru_connect("fd:", NULL, NARU_NOWAIT, &ch), -EINVAL);
    CHECK_CONTAINS(naru_explain(), "expected an open file descriptor, a number from 0");
    CHECK_INT(naru_connect("fd:stdin", NULL, NARU_NOWAIT, &ch), -EINVAL);
    CHECK_INT(naru_connect("fd:999999", NULL, NARU_NOWAIT, &ch), -EBADF);
    CHECK_CONTAINS(naru_explain(), "fd:999999: descriptor 999999 is not open in this process");
    CHECK_INT(pipe(fds), 0);
    options.direction = NARU_DIRECTION_SEND;
    CHECK_INT(naru_connect(url_of(fds[0], ""), &options, NARU_NOWAIT, &ch), -ENOTSUP);
    CHECK_CONTAINS(naru_explain(), "is open for reading only");
    options.direction = NARU_DIRECTION_RECEIVE;
    CHECK_INT(naru_connect(url_of(fds[1], ""), &options, NARU_NOWAIT, &ch), -ENOTSUP);
    CHECK_CONTAINS(naru_explain(), "is open for writing only");
    CHECK_INT(naru_connect(url_of(fds[0], "?mood=good"), NULL, NARU_NOWAIT, &ch), -EINVAL);
    (void)close(fds[0]);
    (void)close(fds[1]);
    CHECK_INT(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, fds), 0);
    CHECK_INT(naru_connect(url_of(fds[0], ""), NULL, NARU_NOWAIT, &ch), -ENOTSUP);
    CHECK_CONTAINS(naru_explain(), "a socket with messages of its own");
    (void)close(fds[0]);
    (void)close(fds[1]);
    fd = open(test_directory(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CHECK_INT(naru_connect(url_of(fd, ""), NULL, NARU_NOWAIT, &ch), -EISDIR);
    (void)close(fd);
    fd = open(test_directory(), O_PATH | O_CLOEXEC);
    CHECK_INT(naru_connect(url_of(fd, ""), NULL, NARU_NOWAIT, &ch), -EBADF);
    CHECK_CONTAINS(naru_explain(), "O_PATH");
    (void)close(fd);
    fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK_INT(listen(fd, 1), 0);
    CHECK_INT(naru_connect(url_of(fd, ""), NULL, NARU_NOWAIT, &ch), -ENOTSUP);
    CHECK_CONTAINS(naru_explain(), "is a listening socket");
    (void)close(fd);
}

/* The two ends of a connection over loopback. */
static void tcp_pair(int fds[2])
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    int listening = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    fds[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(listening >= 0 && fds[0] >= 0 && bind(listening, (struct sockaddr *)&address, length) == 0);
    CHECK(listen(listening, 1) == 0 && getsockname(listening, (struct sockaddr *)&address, &length) == 0);
    CHECK_INT(connect(fds[0], (struct sockaddr *)&address, length), 0);
    fds[1] = accept4(listening, NULL, NULL, SOCK_CLOEXEC);
    CHECK(fds[1] >= 0);
    close(listening);
}

TEST(a_tcp_connection_that_was_reset_has_not_ended_in_order)
{
    const struct linger reset = {.l_onoff = 1, .l_linger = 0}; /* close(2) then resets (socket(7)) */
    struct naru_channel *ch;
    char byte;
    int fds[2];

    tcp_pair(fds);
    ch = open_fd(fds[0]);
    CHECK_INT(setsockopt(fds[1], SOL_SOCKET, SO_LINGER, &reset, sizeof reset), 0);
    close(fds[1]);
    CHECK_INT(naru_recv(ch, &byte, 1, patience), -ECONNRESET);
    naru_channel_close(ch);
    close(fds[0]);
}
