/* SPDX-License-Identifier: MIT */
/* fifo: against plain open(2), read(2) and write(2), and against itself. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "naru/naru.h"
#include "runner.h"

static const int64_t patience = NARU_S(60);

static const char *url(const char *query)
{
    return test_format("fifo://%s/fifo%s", test_directory(), query);
}

static const char *path(void)
{
    return test_format("%s/fifo", test_directory());
}

static struct naru_listener *listen_on(const char *query)
{
    struct naru_listener *l = NULL;

    CHECK_INT(naru_listen(url(query), NULL, &l), 0);
    return l;
}

static struct naru_channel *accept_one(struct naru_listener *l)
{
    struct naru_channel *ch = NULL;

    CHECK_INT(naru_accept(l, patience, &ch), 0);
    return ch;
}

static struct naru_channel *connect_to(const char *query)
{
    struct naru_channel *ch = NULL;

    CHECK_INT(naru_connect(url(query), NULL, patience, &ch), 0);
    return ch;
}

static void check_recv(struct naru_channel *ch, const char *expected)
{
    char buffer[256];
    ssize_t n = naru_recv(ch, buffer, sizeof buffer - 1, patience);

    CHECK_INT(n, strlen(expected));
    buffer[n] = '\0';
    CHECK_STR(buffer, expected);
}

TEST(carries_messages_one_way)
{
    struct naru_listener *l = listen_on("");
    struct naru_channel *out = connect_to(""), *in = accept_one(l);
    char buffer[8];

    CHECK_INT(naru_send(out, "hello", 5, NARU_NOWAIT), 0);
    CHECK_INT(naru_send(out, "", 0, NARU_NOWAIT), 0);
    check_recv(in, "hello");
    check_recv(in, "");
    CHECK_INT(naru_recv(in, buffer, sizeof buffer, NARU_NOWAIT), -EAGAIN);
    CHECK_INT(naru_recv(out, buffer, sizeof buffer, NARU_NOWAIT), -ENOTSUP);
    CHECK_INT(naru_send(in, "x", 1, NARU_NOWAIT), -ENOTSUP);
    naru_channel_close(out);
    CHECK_INT(naru_recv(in, buffer, sizeof buffer, NARU_FOREVER), -EPIPE);
    naru_channel_close(in);
    naru_listener_close(l);
}

TEST(a_plain_reader_and_a_plain_writer_are_peers)
{
    struct naru_channel *ch;
    struct naru_listener *l;
    char buffer[16];
    int fd;

    CHECK_INT(mkfifo(path(), 0600), 0);
    fd = open(path(), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    ch = connect_to("?frame=line");
    CHECK_INT(naru_send(ch, "to cat", 6, NARU_NOWAIT), 0);
    CHECK_INT(read(fd, buffer, sizeof buffer), 7);
    CHECK(memcmp(buffer, "to cat\n", 7) == 0);
    naru_channel_close(ch);
    (void)close(fd);

    l = listen_on("?frame=line"); /* takes the FIFO that lies there */
    fd = open(path(), O_WRONLY | O_CLOEXEC);
    CHECK_INT(write(fd, "from echo\nlast", 14), 14);
    (void)close(fd);
    ch = accept_one(l); /* the writer is gone, what it wrote is not */
    check_recv(ch, "from echo");
    check_recv(ch, "last");
    CHECK_INT(naru_recv(ch, buffer, sizeof buffer, NARU_FOREVER), -EPIPE);
    naru_channel_close(ch);
    naru_listener_close(l);
}

TEST(accept_waits_for_one_writer_after_the_other)
{
    struct naru_listener *l = listen_on("");
    struct test_gate gate;
    struct naru_channel *ch = NULL;
    char buffer[8];

    test_gate_init(&gate);
    CHECK_INT(naru_accept(l, NARU_NOWAIT, &ch), -EAGAIN);
    CHECK_INT(naru_accept(l, NARU_MS(5), &ch), -ETIMEDOUT);
    for (int i = 0; i < 3; i++) {
        int child = test_fork();

        if (child == 0) {
            struct naru_channel *out = connect_to("");

            test_gate_wait(&gate); /* open and silent: accept must see it all the same */
            CHECK_INT(naru_send(out, "x", 1, patience), 0);
            naru_channel_close(out);
            test_child_end();
        }
        ch = accept_one(l);
        test_gate_open(&gate);
        check_recv(ch, "x");
        CHECK_INT(naru_recv(ch, buffer, sizeof buffer, NARU_FOREVER), -EPIPE);
        CHECK_INT(naru_accept(l, NARU_NOWAIT, &ch), -EBUSY);
        naru_channel_close(ch);
        CHECK_INT(naru_accept(l, NARU_NOWAIT, &ch), -EAGAIN);
        test_join(child);
    }
    naru_listener_close(l);
}

TEST(the_listeners_descriptor_is_honest)
{
    struct naru_listener *l;
    struct naru_channel *out, *in;
    int before, fd;
    char buffer[8];

    CHECK_INT(mkfifo(path(), 0600), 0);
    before = open(path(), O_RDWR | O_CLOEXEC); /* a writer that is there before us, and silent */
    l = listen_on("");
    fd = naru_listener_fd(l);
    CHECK(fd >= 0 && test_is_readable(fd));
    in = accept_one(l);
    (void)close(before);
    naru_channel_close(in);
    CHECK_INT(naru_accept(l, NARU_NOWAIT, &in), -EAGAIN);
    CHECK(!test_is_readable(fd)); /* neither our own opens nor a writer that is gone */
    out = connect_to("");
    CHECK(test_is_readable(fd));
    in = accept_one(l);
    naru_channel_close(in); /* the writer stays: it is the next one, too */
    CHECK(test_is_readable(fd));
    in = accept_one(l);
    CHECK_INT(naru_send(out, "x", 1, NARU_NOWAIT), 0);
    CHECK_INT(naru_recv(in, buffer, sizeof buffer, patience), 1);
    naru_channel_close(out);
    naru_channel_close(in);
    naru_listener_close(l);
}

TEST(the_listeners_descriptor_sleeps_while_its_one_channel_is_open)
{
    for (int removed = 0; removed < 2; removed++) {
        struct naru_listener *l = listen_on("");
        struct naru_channel *tx = connect_to(""), *rx = accept_one(l), *next = NULL, *late;
        int fd = naru_listener_fd(l);

        CHECK(!test_is_readable(fd));
        late = connect_to("");
        CHECK_INT(naru_send(late, "late", 4, patience), 0);
        CHECK(!test_is_readable(fd)); /* nobody can be accepted: it would wake a loop for nothing */
        check_recv(rx, "late");
        if (removed)
            CHECK_INT(unlink(path()), 0);
        (void)naru_channel_close(rx);
        CHECK(test_is_readable(fd));
        CHECK_INT(naru_accept(l, NARU_NOWAIT, &next), 0);
        CHECK_INT(naru_send(late, "still", 5, patience), 0);
        check_recv(next, "still");
        (void)naru_channel_close(next);
        (void)naru_channel_close(late);
        (void)naru_channel_close(tx);
        CHECK(test_is_readable(fd)); /* our own open: one attempt, which finds nobody */
        CHECK_INT(naru_accept(l, NARU_NOWAIT, &next), removed ? -ENOENT : -EAGAIN);
        CHECK(removed || !test_is_readable(fd));
        (void)naru_listener_close(l);
    }
}

TEST(the_channels_descriptor_shows_the_end)
{
    struct naru_listener *l = listen_on("");
    struct naru_channel *out = connect_to(""), *in;
    char buffer[8];
    int fd;

    CHECK_INT(naru_send(out, "x", 1, NARU_NOWAIT), 0);
    naru_channel_close(out); /* before the accept */
    in = accept_one(l);
    fd = naru_channel_fd(in);
    CHECK(fd >= 0 && test_is_readable(fd));
    check_recv(in, "x");
    CHECK(test_is_readable(fd));
    CHECK_INT(naru_recv(in, buffer, sizeof buffer, NARU_NOWAIT), -EPIPE);
    naru_channel_close(in);
    naru_listener_close(l);
}

TEST(connect_waits_for_the_fifo_and_its_reader)
{
    struct naru_channel *ch = NULL;
    struct naru_listener *l;
    int child;

    CHECK_INT(naru_connect(url(""), NULL, NARU_NOWAIT, &ch), -EAGAIN);
    CHECK_CONTAINS(naru_explain(), "there is no such FIFO");
    CHECK_INT(mkfifo(path(), 0600), 0);
    CHECK_INT(naru_connect(url(""), NULL, NARU_MS(1), &ch), -ETIMEDOUT);
    CHECK_CONTAINS(naru_explain(), "nobody has the FIFO open to read");
    child = test_fork();
    if (child == 0) {
        ch = connect_to("");
        CHECK_INT(naru_send(ch, "early", 5, patience), 0);
        naru_channel_close(ch);
        test_child_end();
    }
    l = listen_on("");
    ch = accept_one(l);
    check_recv(ch, "early");
    naru_channel_close(ch);
    naru_listener_close(l);
    test_join(child);
}

TEST(a_second_listener_is_refused_and_a_killed_ones_fifo_reused)
{
    struct test_gate gate;
    struct naru_listener *l = NULL;
    int child;

    test_gate_init(&gate);
    child = test_fork();
    if (child == 0) {
        (void)listen_on("");
        test_gate_open(&gate);
        (void)pause();
    }
    test_gate_wait(&gate);
    CHECK_INT(naru_listen(url(""), NULL, &l), -EADDRINUSE);
    CHECK_CONTAINS(naru_explain(), "another process reads this FIFO already");
    CHECK_INT(naru_remove(url("")), -EBUSY);
    test_kill(child);
    l = listen_on("");
    naru_listener_close(l);
    CHECK_INT(naru_remove(url("")), 0);
    CHECK_INT(naru_remove(url("")), -ENOENT);
}

TEST(several_readers_only_of_a_raw_stream)
{
    struct naru_listener *first, *second = NULL;

    CHECK_INT(naru_listen(url("?readers=many"), NULL, &second), -EINVAL);
    CHECK_CONTAINS(naru_explain(), "?readers=many needs ?frame=raw");
    first = listen_on("?readers=many&frame=raw");
    second = listen_on("?readers=many&frame=raw");
    naru_listener_close(second);
    CHECK_INT(naru_listen(url(""), NULL, &second), -EADDRINUSE);
    naru_listener_close(first);
}

TEST(nothing_is_read_ahead_what_one_channel_left_the_next_one_gets)
{
    struct naru_listener *l = listen_on("?frame=line");
    struct naru_channel *out = connect_to("?frame=line"), *in = accept_one(l);

    CHECK_INT(naru_send(out, "one", 3, NARU_NOWAIT), 0);
    CHECK_INT(naru_send(out, "two", 3, NARU_NOWAIT), 0);
    naru_channel_close(out);
    check_recv(in, "one");
    naru_channel_close(in);
    in = accept_one(l);
    check_recv(in, "two");
    naru_channel_close(in);
    naru_listener_close(l);
}

TEST(keep_hides_the_end_of_the_writers)
{
    struct naru_listener *l = listen_on("?keep=yes");
    struct naru_channel *out = connect_to("?keep=yes"), *in = accept_one(l);
    char buffer[8];

    naru_channel_close(out);
    CHECK_INT(naru_recv(in, buffer, sizeof buffer, NARU_MS(1)), -ETIMEDOUT);
    out = connect_to("");
    CHECK_INT(naru_send(out, "again", 5, NARU_NOWAIT), 0);
    check_recv(in, "again");
    naru_channel_close(out);
    naru_channel_close(in);
    naru_listener_close(l);
}

TEST(a_writer_learns_that_the_reader_is_gone)
{
    struct naru_listener *l = listen_on("");
    struct naru_channel *out = connect_to(""), *in = accept_one(l);

    naru_channel_close(in);
    CHECK_INT(naru_send(out, "x", 1, NARU_NOWAIT), 0); /* the listener still holds the FIFO */
    naru_listener_close(l);
    CHECK_INT(naru_send(out, "x", 1, NARU_FOREVER), -EPIPE); /* and no SIGPIPE ends us */
    naru_channel_close(out);
}

TEST(a_full_fifo_makes_the_sender_wait)
{
    struct naru_listener *l = listen_on("?keep=yes");
    struct naru_channel *out = connect_to(""), *in = accept_one(l);
    static char block[4000];
    int sent = 0, r, child;

    while ((r = naru_send(out, block, sizeof block, NARU_NOWAIT)) == 0)
        sent++;
    CHECK_INT(r, -EAGAIN);
    CHECK_INT(naru_send(out, block, sizeof block, NARU_MS(1)), -ETIMEDOUT);
    CHECK_INT(naru_flush(out, NARU_TAKEN, NARU_NOWAIT), -EAGAIN);
    naru_channel_close(out);
    child = test_fork();
    if (child == 0) {
        struct naru_channel *late = connect_to("");

        CHECK_INT(naru_send(late, block, sizeof block, patience), 0);
        CHECK_INT(naru_flush(late, NARU_TAKEN, patience), 0);
        naru_channel_close(late);
        test_child_end();
    }
    for (int i = 0; i <= sent; i++)
        CHECK_INT(naru_recv(in, block, sizeof block, patience), sizeof block);
    test_join(child);
    naru_channel_close(in);
    naru_listener_close(l);
}

TEST(mode_heeds_no_umask_and_unlink_removes)
{
    struct naru_listener *l;
    struct stat status;

    (void)umask(077);
    l = listen_on("?mode=0622&unlink=yes");
    CHECK_INT(stat(path(), &status), 0);
    CHECK_INT(status.st_mode & 0777, 0622);
    naru_listener_close(l);
    CHECK_INT(access(path(), F_OK), -1);
    l = listen_on("");
    CHECK_INT(stat(path(), &status), 0);
    CHECK_INT(status.st_mode & 0777, 0600);
    naru_listener_close(l);
    CHECK_INT(access(path(), F_OK), 0);
}

TEST(misuse_is_explained)
{
    struct naru_options options = NARU_INIT(struct naru_options);
    struct naru_listener *l = NULL;
    struct naru_channel *ch = NULL;
    int fd = open(path(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

    (void)close(fd);
    CHECK_INT(naru_listen(url(""), NULL, &l), -EEXIST);
    CHECK_CONTAINS(naru_explain(), "exists and is not a FIFO; remove it, or choose another path");
    CHECK_INT(naru_connect(url(""), NULL, NARU_NOWAIT, &ch), -EEXIST);
    CHECK_INT(naru_remove(url("")), -EEXIST);
    CHECK_INT(unlink(path()), 0);
    CHECK_INT(symlink("nowhere/at/all", path()), 0);
    CHECK_INT(naru_listen(url(""), NULL, &l), -ENOENT);
    CHECK_CONTAINS(naru_explain(), "symbolic link that leads nowhere");
    CHECK_INT(unlink(path()), 0);
    CHECK_INT(naru_listen("fifo:", NULL, &l), -EINVAL);
    CHECK_CONTAINS(naru_explain(), "expected the path of a FIFO, as in fifo:///run/my.fifo");
    CHECK_INT(naru_listen(test_format("fifo://%s/no/fifo", test_directory()), NULL, &l), -ENOENT);
    CHECK_CONTAINS(naru_explain(), "the directory must exist");
    CHECK_INT(naru_listen(url("?readers=two"), NULL, &l), -EINVAL);
    CHECK_CONTAINS(naru_explain(), "expected ?readers=one|many, got 'two'");
    CHECK_INT(naru_listen(url("?colour=red"), NULL, &l), -EINVAL);
    CHECK_INT(naru_connect(url("?colour=red"), NULL, NARU_FOREVER, &ch), -EINVAL);
    CHECK_CONTAINS(naru_explain(), "option 'colour' means nothing to fifo");
    options.direction = NARU_DIRECTION_SEND;
    CHECK_INT(naru_listen(url(""), &options, &l), -ENOTSUP);
    CHECK_CONTAINS(naru_explain(), "the side that listens receives");
    options.direction = NARU_DIRECTION_RECEIVE;
    CHECK_INT(naru_connect(url(""), &options, NARU_NOWAIT, &ch), -ENOTSUP);
    CHECK_CONTAINS(naru_explain(), "the side that connects sends");
}

TEST(permissions_decide)
{
    struct naru_listener *l = listen_on("?mode=0600");
    struct naru_listener *other = NULL;
    struct naru_channel *ch = NULL;
    int child;

    test_need_root();
    CHECK_INT(chmod(test_directory(), 0755), 0);
    child = test_fork_as_nobody();
    if (child == 0) {
        CHECK_INT(naru_connect(url(""), NULL, patience, &ch), -EACCES);
        CHECK_CONTAINS(naru_explain(), "permission denied to write to it");
        CHECK_INT(naru_listen(url(""), NULL, &other), -EACCES);
        CHECK_CONTAINS(naru_explain(), "permission denied to read from it");
        test_child_end();
    }
    test_join(child);
    naru_listener_close(l);
}

/* root may read everything: it takes somebody else to see it. */
TEST(a_fifo_that_may_only_be_written_is_removed)
{
    int child;

    test_need_root();
    CHECK_INT(chmod(test_directory(), 0777), 0);
    child = test_fork_as_nobody();
    if (child == 0) {
        struct naru_listener *l = listen_on("");

        CHECK_INT(chmod(path(), 0200), 0);
        CHECK_INT(naru_remove(url("")), -EBUSY);
        naru_listener_close(l);
        CHECK_INT(naru_remove(url("")), 0);
        CHECK_INT(access(path(), F_OK), -1);
        CHECK_INT(mkfifo(path(), 0000), 0); /* there is no way to see whether somebody listens */
        CHECK_INT(naru_remove(url("")), -EACCES);
        CHECK_INT(unlink(path()), 0);
        test_child_end();
    }
    test_join(child);
}

TEST(a_child_does_not_keep_the_fifo_alive)
{
    struct naru_listener *l = listen_on("");
    struct naru_channel *out = connect_to(""), *in = accept_one(l), *none = NULL;
    struct test_gate gate;
    int child;
    char buffer[8];

    test_gate_init(&gate);
    child = test_fork();
    if (child == 0) {
        CHECK_INT(naru_send(out, "x", 1, NARU_NOWAIT), -ECHILD);
        CHECK_INT(naru_accept(l, NARU_NOWAIT, &none), -ECHILD);
        test_gate_wait(&gate);
        naru_channel_close(out);
        naru_channel_close(in);
        naru_listener_close(l);
        test_child_end();
    }
    naru_channel_close(out);
    CHECK_INT(naru_recv(in, buffer, sizeof buffer, NARU_FOREVER), -EPIPE);
    naru_channel_close(in);
    naru_listener_close(l);
    l = listen_on(""); /* the child holds no lock */
    naru_listener_close(l);
    test_gate_open(&gate);
    test_join(child);
}
