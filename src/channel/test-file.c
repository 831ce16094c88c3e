/* SPDX-License-Identifier: MIT */
/* file: following, against plain writers, and what may happen to a file meanwhile. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "channel/test-file.h"

TEST(a_stream_grows_0_to_5_to_12_bytes)
{
    struct naru_channel *out = writer("?frame=raw"), *in = reader("?frame=raw");
    struct stat status;

    CHECK_INT(stat(path(), &status), 0);
    CHECK_INT(status.st_size, 0);
    check_none(in, -EAGAIN);
    put(out, "hello");
    CHECK_INT(stat(path(), &status), 0);
    CHECK_INT(status.st_size, 5);
    check_recv(in, "hello");
    put(out, ", world");
    CHECK_INT(stat(path(), &status), 0);
    CHECK_INT(status.st_size, 12);
    check_recv(in, ", world");
    naru_channel_close(out);
    naru_channel_close(in);
}

TEST(every_reader_gets_everything_also_later)
{
    struct naru_channel *out = writer(""), *first = reader(""), *second = reader(""), *late;

    put(out, "one");
    check_recv(first, "one");
    put(out, "");
    put(out, "two");
    check_recv(first, "");
    check_recv(second, "one");
    check_recv(first, "two");
    check_recv(second, "");
    naru_channel_close(out);
    late = reader("");
    check_recv(late, "one");
    check_recv(late, "");
    check_recv(late, "two");
    check_recv(second, "two");
    check_none(late, -EAGAIN);
    check_file("one\n\ntwo\n");
    naru_channel_close(first);
    naru_channel_close(second);
    naru_channel_close(late);
}

TEST(a_listener_waits_for_the_file_and_gives_one_channel)
{
    struct naru_listener *l = NULL;
    struct naru_channel *in = NULL, *out;

    CHECK_INT(naru_listen(url("?create=no"), NULL, &l), 0);
    CHECK_INT(naru_accept(l, NARU_NOWAIT, &in), -EAGAIN);
    CHECK_INT(naru_accept(l, NARU_MS(1), &in), -ETIMEDOUT);
    CHECK(!test_is_readable(naru_listener_fd(l)));
    out = writer("");
    CHECK(test_is_readable(naru_listener_fd(l)));
    CHECK_INT(naru_accept(l, NARU_NOWAIT, &in), 0);
    put(out, "one");
    check_recv(in, "one");
    CHECK_INT(naru_accept(l, NARU_NOWAIT, &out), -EBUSY);
    naru_channel_close(in);
    naru_listener_close(l);

    CHECK_INT(naru_listen(url("?unlink=yes"), NULL, &l), 0);
    CHECK(test_is_readable(naru_listener_fd(l))); /* it is there already */
    CHECK_INT(naru_accept(l, NARU_NOWAIT, &in), 0);
    check_recv(in, "one");
    naru_channel_close(in);
    naru_listener_close(l);
    CHECK_INT(access(path(), F_OK), -1);
    naru_channel_close(out);
}

TEST(a_listener_makes_the_file)
{
    struct naru_listener *l = NULL;
    struct naru_channel *in = NULL, *out;
    struct stat status;

    (void)umask(077);
    CHECK_INT(naru_listen(url("?mode=0622&mood=good"), NULL, &l), -EINVAL);
    CHECK_INT(access(path(), F_OK), -1);
    CHECK_INT(naru_listen(url("?mode=0622"), NULL, &l), 0);
    CHECK_INT(stat(path(), &status), 0);
    CHECK_INT(status.st_mode & 0777, 0622);
    CHECK_INT(naru_accept(l, NARU_NOWAIT, &in), 0);
    out = writer("?create=no");
    put(out, "one");
    check_recv(in, "one");
    naru_channel_close(out);
    naru_channel_close(in);
    naru_listener_close(l);
}

TEST(a_waiting_reader_is_woken_by_another_process)
{
    const char *deep = test_format("file://%s/a/b/log", test_directory());
    struct naru_channel *in, *out;
    int child = test_fork();
    char buffer[8];

    if (child == 0) {
        in = connect_as(deep, NARU_DIRECTION_RECEIVE); /* not even its directory exists */
        for (int i = 0; i < 100; i++)
            CHECK_INT(naru_recv(in, buffer, sizeof buffer, i % 2 ? NARU_FOREVER : patience), 1);
        naru_channel_close(in);
        test_child_end();
    }
    CHECK_INT(mkdir(test_format("%s/a", test_directory()), 0700), 0);
    CHECK_INT(mkdir(test_format("%s/a/b", test_directory()), 0700), 0);
    out = connect_as(deep, NARU_DIRECTION_SEND);
    for (int i = 0; i < 100; i++)
        put(out, "x");
    naru_channel_close(out);
    test_join(child);
}

TEST(without_follow_the_end_is_the_end)
{
    struct naru_channel *in;

    append("one\ntwo", 7);
    in = reader("?follow=no");
    check_recv(in, "one");
    check_recv(in, "two");
    check_none(in, -EPIPE);
    append("\nthree\n", 7);
    check_none(in, -EPIPE);
    naru_channel_close(in);
    in = reader("?follow=no&frame=len32");
    check_none(in, -EPROTO);
    naru_channel_close(in);
}

TEST(without_follow_a_file_that_is_not_there_is_not_made)
{
    const char *missing = test_format("file://%s/missing", test_directory());
    struct naru_listener *l = NULL;

    CHECK_INT(naru_listen(test_format("%s?follow=no", missing), NULL, &l), -ENOENT);
    CHECK_CONTAINS(naru_explain(), "there is no such file, and ?follow=no waits for none");
    CHECK_INT(access(test_format("%s/missing", test_directory()), F_OK), -1);
    CHECK_INT(naru_listen(missing, NULL, &l), 0); /* a follower makes it */
    naru_listener_close(l);
    CHECK_INT(access(test_format("%s/missing", test_directory()), F_OK), 0);
}

TEST(half_a_record_is_waited_for)
{
    struct naru_channel *in = NULL;
    static char large[200000];
    static char expected[sizeof large];

    append("ha", 2);
    in = reader("");
    check_none(in, -EAGAIN);
    append("lf", 2);
    check_none(in, -EAGAIN);
    append("\nnext\n", 6);
    check_recv(in, "half");
    check_recv(in, "next");
    naru_channel_close(in);
    CHECK_INT(unlink(path()), 0);

    memset(large, 'x', sizeof large);
    append("\0\3\015", 3); /* len32 of 200000 */
    in = reader("?frame=len32");
    check_none(in, -EAGAIN);
    append("\100", 1);
    CHECK_INT(naru_recv(in, expected, sizeof expected, NARU_NOWAIT), -EAGAIN);
    append(large, 150000);
    CHECK_INT(naru_recv(in, expected, sizeof expected, NARU_NOWAIT), -EAGAIN);
    append(large, 50000);
    CHECK_INT(naru_recv(in, expected, sizeof expected, NARU_NOWAIT), sizeof large);
    CHECK(memcmp(large, expected, sizeof large) == 0);
    naru_channel_close(in);
}

TEST(half_a_record_that_its_writer_takes_back_was_never_there)
{
    struct naru_channel *in;

    append("one\npart of a rec", 17);
    in = reader("");
    check_recv(in, "one");
    check_none(in, -EAGAIN);
    CHECK_INT(truncate(path(), 4), 0);
    check_none(in, -EAGAIN);
    append("two\n", 4);
    check_recv(in, "two");
    naru_channel_close(in);
}

TEST(a_reader_begins_where_it_is_told)
{
    struct naru_channel *in, *out;
    static char large[100000];

    append("one\ntwo\nthr", 11);
    in = reader("?from=4");
    check_recv(in, "two");
    naru_channel_close(in);
    in = reader("?from=end");
    check_none(in, -EAGAIN);
    append("ee\n", 3);
    check_recv(in, "three"); /* not its tail alone */
    naru_channel_close(in);
    CHECK_INT(unlink(path()), 0);

    out = writer("?frame=varint");
    put(out, "one");
    CHECK_INT(naru_send(out, large, sizeof large, NARU_NOWAIT), 0);
    for (int i = 0; i < 30000; i++)
        put(out, "small");
    append("\5ab", 3); /* a part of a record */
    in = reader("?frame=varint&from=end");
    check_none(in, -EAGAIN);
    append("cde", 3);
    check_recv(in, "abcde");
    naru_channel_close(in);
    naru_channel_close(out);
    CHECK_INT(unlink(path()), 0);

    append("", 0);
    in = reader("?from=end");
    append("first\n", 6);
    check_recv(in, "first");
    naru_channel_close(in);
}

TEST(nothing_unread_escapes_an_event_loop)
{
    struct naru_channel *in, *out = writer("");
    int fd;

    put(out, "before");
    in = reader("");
    fd = naru_channel_fd(in);
    CHECK(fd >= 0 && test_is_readable(fd));
    check_recv(in, "before");
    check_none(in, -EAGAIN);
    CHECK(!test_is_readable(fd));
    put(out, "one");
    put(out, "two");
    CHECK(test_is_readable(fd));
    check_recv(in, "one");
    CHECK(test_is_readable(fd));
    check_recv(in, "two");
    check_none(in, -EAGAIN);
    CHECK(!test_is_readable(fd));
    (void)test_is_readable(naru_channel_fd(out)); /* it exists */
    append("part", 4);
    CHECK(test_is_readable(fd));
    check_none(in, -EAGAIN);
    CHECK(!test_is_readable(fd));
    CHECK_INT(unlink(path()), 0);
    CHECK(test_is_readable(fd));
    check_none(in, -ENOENT);
    CHECK(test_is_readable(fd)); /* the error stands */
    naru_channel_close(in);
    naru_channel_close(out);
}

TEST(a_removed_file_is_read_to_its_end_first)
{
    struct naru_channel *in = NULL, *out = writer("");

    in = reader("");
    put(out, "one");
    CHECK_INT(unlink(path()), 0);
    put(out, "two");
    check_recv(in, "one");
    check_recv(in, "two");
    check_none(in, -ENOENT);
    CHECK_CONTAINS(naru_explain(), "the file was removed or renamed; all that it held has been received");
    naru_channel_close(in);
    naru_channel_close(out);
}

TEST(a_replaced_file_is_told)
{
    struct naru_channel *in, *out = writer("");
    const char *other = test_format("%s/other", test_directory());
    int fd = open(other, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

    (void)close(fd);
    in = reader("");
    put(out, "one");
    CHECK_INT(rename(other, path()), 0);
    check_recv(in, "one");
    check_none(in, -ENOENT);
    CHECK_CONTAINS(naru_explain(), "replaced by another one of that name");
    naru_channel_close(in);
    naru_channel_close(out);
}

TEST(a_file_cut_short_is_told)
{
    struct naru_channel *in, *out = writer("");

    put(out, "one");
    put(out, "two");
    in = reader("");
    check_recv(in, "one");
    check_recv(in, "two");
    CHECK_INT(truncate(path(), 3), 0);
    check_none(in, -ESTALE);
    CHECK_CONTAINS(naru_explain(), "the file was cut to 3 bytes, and 8 were read already; open it again");
    naru_channel_close(in);
    naru_channel_close(out);
}

TEST(misuse_is_explained)
{
    struct naru_options options = NARU_INIT(struct naru_options);
    struct naru_listener *l = NULL;
    struct naru_channel *ch = NULL;

    CHECK_INT(naru_connect("file:", NULL, NARU_NOWAIT, &ch), -EINVAL);
    CHECK_CONTAINS(naru_explain(), "expected the path of a file, as in file:///var/log/my.log");
    CHECK_INT(naru_listen("file://", NULL, &l), -EINVAL);
    options.direction = NARU_DIRECTION_BOTH;
    CHECK_INT(naru_connect(url(""), &options, NARU_NOWAIT, &ch), -ENOTSUP);
    CHECK_CONTAINS(naru_explain(), "not both by one channel; open two");
    options.direction = NARU_DIRECTION_SEND;
    CHECK_INT(naru_listen(url(""), &options, &l), -ENOTSUP);
    options.direction = NARU_DIRECTION_RECEIVE;
    CHECK_INT(naru_connect(url(""), &options, NARU_NOWAIT, &ch), -EAGAIN);
    CHECK_CONTAINS(naru_explain(), "there is no such file; it is made when something is sent to it");
    append("one\n", 4);
    CHECK_INT(naru_connect(url("?from=middle"), &options, NARU_NOWAIT, &ch), -EINVAL);
    CHECK_CONTAINS(naru_explain(), "expected ?from=start, end or an offset in bytes, got 'middle'");
    CHECK_INT(naru_connect(url("?from=5"), &options, NARU_NOWAIT, &ch), -EINVAL);
    CHECK_CONTAINS(naru_explain(), "?from=5 lies behind the end of the file, which has 4 bytes");
    CHECK_INT(naru_connect(url("?mood=good"), &options, NARU_NOWAIT, &ch), -EINVAL);
    CHECK_INT(naru_connect(url("?from=end&frame=header"), &options, NARU_NOWAIT, &ch), -EPROTO);
    CHECK_CONTAINS(naru_explain(), "the file is not framed as ?frame=header says: at byte 0 it");
    CHECK_INT(naru_connect(url("?sync=sometimes"), NULL, NARU_NOWAIT, &ch), -EINVAL);
    CHECK_CONTAINS(naru_explain(), "expected ?sync=none|each");
    CHECK_INT(naru_connect(test_format("file://%s", test_directory()), NULL, NARU_NOWAIT, &ch), -EISDIR);
    CHECK_CONTAINS(naru_explain(), "that is a directory");
    CHECK_INT(naru_listen(test_format("file://%s", test_directory()), NULL, &l), -EISDIR);
    CHECK_INT(naru_connect(test_format("file://%s/no/log", test_directory()), NULL, NARU_NOWAIT, &ch),
              -ENOENT);
    CHECK_CONTAINS(naru_explain(), "the directory must exist");
    CHECK_INT(naru_listen(test_format("file://%s/no/log", test_directory()), NULL, &l), -ENOENT);
    CHECK_INT(unlink(path()), 0);
    CHECK_INT(naru_connect(url("?create=no"), NULL, NARU_NOWAIT, &ch), -ENOENT);
    CHECK_CONTAINS(naru_explain(), "there is no such file, and ?create=no forbids to make it");
    CHECK_INT(mkfifo(path(), 0600), 0);
    CHECK_INT(naru_connect(url(""), NULL, NARU_NOWAIT, &ch), -EEXIST);
    CHECK_CONTAINS(naru_explain(), "that is a FIFO, not a regular file; use fifo:");
    CHECK_INT(naru_connect(url(""), &options, NARU_NOWAIT, &ch), -EEXIST);
    CHECK_INT(naru_remove(url("")), -EEXIST);
    CHECK_INT(unlink(path()), 0);
    CHECK_INT(symlink("no/where", path()), 0);
    CHECK_INT(naru_connect(url(""), NULL, NARU_NOWAIT, &ch), -ENOENT);
    CHECK_CONTAINS(naru_explain(), "a symbolic link that leads nowhere");
}

TEST(a_forked_child_has_no_part_in_it)
{
    struct naru_channel *out = writer(""), *in = reader("");
    int child = test_fork();

    if (child == 0) {
        CHECK_INT(naru_send(out, "x", 1, NARU_NOWAIT), -ECHILD);
        check_none(in, -ECHILD);
        naru_channel_close(out);
        naru_channel_close(in);
        test_child_end();
    }
    test_join(child);
    put(out, "mine");
    check_recv(in, "mine");
    naru_channel_close(out);
    naru_channel_close(in);
}

TEST(an_interrupt_ends_the_wait_for_more)
{
    struct naru_options options = NARU_INIT(struct naru_options);
    struct naru_channel *out = writer(""), *in = NULL;

    options.direction = NARU_DIRECTION_RECEIVE;
    options.interruptible = 1;
    CHECK_INT(naru_connect(url(""), &options, patience, &in), 0);
    CHECK_INT(naru_interrupt(in), 0);
    {
        char buffer[8];

        CHECK_INT(naru_recv(in, buffer, sizeof buffer, NARU_FOREVER), -ECANCELED);
    }
    put(out, "after");
    check_recv(in, "after");
    naru_channel_close(in);
    naru_channel_close(out);
}
