/* SPDX-License-Identifier: MIT */
/* file: appending: whole records or none, whatever happens to the writers and the disk, and who may. */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "channel/test-file.h"

TEST(a_record_of_many_pieces_is_one_write)
{
    enum { PIECES = 500 };
    struct naru_channel *out = writer("?frame=len32"), *in = reader("?frame=len32");
    struct naru_message m = NARU_INIT(struct naru_message);
    static char text[PIECES * 100], got[sizeof text];
    struct iovec iov[PIECES];
    struct stat status;

    for (size_t i = 0; i < sizeof text; i++)
        text[i] = (char)(i % 251);
    for (size_t i = 0; i < PIECES; i++)
        iov[i] = (struct iovec){text + i * 100, 100};
    m.iov = iov;
    m.iov_count = PIECES;
    CHECK_INT(naru_send_message(out, &m, NARU_NOWAIT), 0);
    CHECK_INT(naru_send_batch(out, &m, 1, NARU_NOWAIT), 1);
    for (int i = 0; i < 2; i++) {
        CHECK_INT(naru_recv(in, got, sizeof got, NARU_NOWAIT), sizeof text);
        CHECK(memcmp(got, text, sizeof text) == 0);
    }
    CHECK_INT(stat(path(), &status), 0);
    CHECK_INT(status.st_size, 2 * (sizeof text + 4));
    naru_channel_close(in);
    naru_channel_close(out);
}

/* One of several writers, each with a letter of its own and records of changing length. */
static void write_many(int number, int count)
{
    struct naru_channel *out = writer(number % 2 ? "?sync=none" : "");
    char text[256];

    for (int i = 0; i < count; i++) {
        size_t length = (size_t)snprintf(text, sizeof text, "%d %d ", number, i);

        memset(text + length, 'a' + number, (size_t)(i % 200));
        length += (size_t)(i % 200);
        CHECK_INT(naru_send(out, text, length, NARU_FOREVER), 0);
    }
    naru_channel_close(out);
}

TEST(records_of_several_writers_never_mix)
{
    enum { WRITERS = 3, COUNT = 1000 };
    struct naru_channel *in;
    int children[WRITERS], next[WRITERS] = {0};

    for (int i = 0; i < WRITERS; i++) {
        children[i] = test_fork();
        if (children[i] == 0) {
            write_many(i, COUNT);
            test_child_end();
        }
    }
    in = reader("");
    for (int i = 0; i < WRITERS * COUNT; i++) {
        char text[512], *body;
        ssize_t n = naru_recv(in, text, sizeof text - 1, patience);
        long number, place;

        CHECK(n > 0);
        text[n] = '\0';
        number = strtol(text, &body, 10);
        CHECK(number >= 0 && number < WRITERS);
        place = strtol(body, &body, 10);
        CHECK_INT(place, next[number]++);
        for (body++; *body; body++)
            CHECK_INT(*body, 'a' + number);
        CHECK_INT(n - (body - text), 0);
    }
    for (int i = 0; i < WRITERS; i++)
        test_join(children[i]);
    naru_channel_close(in);
}

TEST(what_a_killed_writer_was_told_is_there)
{
    struct test_gate gate;
    struct naru_channel *in;
    int child;

    test_gate_init(&gate);
    child = test_fork();
    if (child == 0) {
        struct naru_channel *out = writer("?sync=each");

        for (int i = 0; i < 20; i++)
            put(out, "accepted");
        test_gate_open(&gate);
        for (;;)
            put(out, "later");
    }
    test_gate_wait(&gate);
    test_kill(child);
    in = reader("?follow=no");
    for (int i = 0; i < 20; i++)
        check_recv(in, "accepted");
    naru_channel_close(in);
}

static void limit_file_size(rlim_t size)
{
    struct rlimit limit;

    CHECK_INT(getrlimit(RLIMIT_FSIZE, &limit), 0);
    limit.rlim_cur = size;
    CHECK_INT(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

TEST(a_size_limit_leaves_no_part_of_a_record_and_kills_nobody)
{
    struct naru_channel *out, *in;

    limit_file_size(10);
    out = writer("");
    in = reader("");
    put(out, "12345");
    CHECK_INT(naru_send(out, "too long", 8, NARU_NOWAIT), -EFBIG);
    CHECK_CONTAINS(naru_explain(),
                   "the file has reached this process's limit (ulimit -f): nothing of the message was kept");
    check_file("12345\n");
    put(out, "789");                                       /* what fits still goes */
    CHECK_INT(naru_send(out, "", 0, NARU_NOWAIT), -EFBIG); /* at the limit: SIGXFSZ's case */
    check_file("12345\n789\n");
    limit_file_size(1000);
    put(out, "again");
    check_recv(in, "12345");
    check_recv(in, "789");
    check_recv(in, "again");
    naru_channel_close(out);
    naru_channel_close(in);
}

TEST(a_full_disk_leaves_no_part_of_a_record)
{
    static char block[3000];
    struct naru_channel *out, *in;
    const char *there = test_format("%s/small", test_directory());
    const char *log = test_format("file://%s/log", there);
    int sent = 0, r;

    CHECK_INT(mkdir(there, 0700), 0);
    if (unshare(CLONE_NEWNS) < 0 || mount("tmpfs", there, "tmpfs", 0, "size=64k") < 0)
        test_skip("no right to mount a small file system");
    memset(block, 'x', sizeof block);
    out = connect_as(log, NARU_DIRECTION_SEND);
    in = connect_as(log, NARU_DIRECTION_RECEIVE);
    while ((r = naru_send(out, block, sizeof block, NARU_NOWAIT)) == 0)
        sent++;
    CHECK_INT(r, -ENOSPC);
    CHECK_CONTAINS(naru_explain(), "nothing of the message was kept");
    CHECK(sent > 10);
    for (int i = 0; i < sent; i++)
        CHECK_INT(naru_recv(in, block, sizeof block, NARU_NOWAIT), sizeof block);
    check_none(in, -EAGAIN);
    naru_channel_close(out);
    naru_channel_close(in);
    CHECK_INT(umount(there), 0);
}

TEST(mode_heeds_no_umask)
{
    struct naru_channel *out;
    struct stat status;

    (void)umask(077);
    out = writer("?mode=0664");
    CHECK_INT(stat(path(), &status), 0);
    CHECK_INT(status.st_mode & 0777, 0664);
    naru_channel_close(out);
    out = writer("?mode=0600"); /* exists: left as it is */
    CHECK_INT(stat(path(), &status), 0);
    CHECK_INT(status.st_mode & 0777, 0664);
    naru_channel_close(out);
    CHECK_INT(naru_remove(url("")), 0);
    CHECK_INT(naru_remove(url("")), -ENOENT);
    out = writer("");
    CHECK_INT(stat(path(), &status), 0);
    CHECK_INT(status.st_mode & 0777, 0600);
    naru_channel_close(out);
}

TEST(somebody_else_may_read_but_not_append_nor_see_the_directory)
{
    struct naru_channel *out = writer("?mode=0644"), *none = NULL;
    int child;

    test_need_root();
    CHECK_INT(chmod(test_directory(), 0711), 0);
    child = test_fork_as_nobody();
    if (child == 0) {
        struct naru_channel *in;

        CHECK_INT(naru_connect(url(""), NULL, patience, &none), -EACCES);
        CHECK_CONTAINS(naru_explain(), "permission denied to append to the file");
        in = reader(""); /* inotify may not watch the directory: looked at by back-off */
        check_recv(in, "one");
        check_recv(in, "two");
        CHECK_INT(naru_channel_fd(in), -ENOTSUP);
        naru_channel_close(in);
        test_child_end();
    }
    put(out, "one");
    put(out, "two");
    test_join(child);
    naru_channel_close(out);
}
