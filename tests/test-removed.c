/* SPDX-License-Identifier: MIT */
/*
 * The name of a listener is removed underneath it: who waits for somebody new is told, who has a channel
 * already goes on. (file: and sysvmq: have their like in test-file and test-sysvmq, POSIX queues in
 * test-posixmq.)
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "mechanism.h"
#include "naru/naru.h"
#include "runner.h"

static const int64_t patience = NARU_S(60);

/* What is found by a path, and whose accept waits for somebody to come. */
static const struct {
    const char *label, *scheme, *query;
} kinds[] = {
    {"fifo", "fifo", ""}, {"unix-stream", "unix", ""}, {"unix-seqpacket", "unix", "?type=seqpacket"}};

static const char *each_kind(size_t index)
{
    return index < sizeof kinds / sizeof *kinds ? kinds[index].label : NULL;
}

static const char *path(void)
{
    return test_format("%s/name", test_directory());
}

static const char *url_in(size_t index, const char *directory)
{
    return test_format("%s://%s/name%s", kinds[index].scheme, directory, kinds[index].query);
}

static struct naru_listener *listen_on(size_t index)
{
    struct naru_listener *l = NULL;

    CHECK_INT(naru_listen(url_in(index, test_directory()), NULL, &l), 0);
    return l;
}

static struct naru_channel *connect_to(const char *url)
{
    struct naru_channel *ch = NULL;

    CHECK_INT(naru_connect(url, NULL, patience, &ch), 0);
    return ch;
}

static void check_accept_says_removed(struct naru_listener *l, int64_t timeout)
{
    struct naru_channel *ch = NULL;

    CHECK_INT(naru_accept(l, timeout, &ch), -ENOENT);
    CHECK_CONTAINS(naru_explain(), path());
    CHECK_CONTAINS(naru_explain(), "was removed or replaced");
    CHECK_CONTAINS(naru_explain(), "listen again");
}

static void check_message(struct naru_channel *out, struct naru_channel *in, const char *text)
{
    char buffer[64];

    CHECK_INT(naru_send(out, text, strlen(text), patience), 0);
    CHECK_INT(naru_recv(in, buffer, sizeof buffer, patience), strlen(text));
    CHECK(memcmp(buffer, text, strlen(text)) == 0);
}

/* In a process of its own: waits for somebody without an end, until the name is removed. */
static int start_waiting(size_t index)
{
    struct test_gate listens;
    int child;

    test_gate_init(&listens);
    child = test_fork();
    if (child == 0) {
        struct naru_listener *l = listen_on(index);

        test_gate_open(&listens);
        check_accept_says_removed(l, NARU_FOREVER);
        naru_listener_close(l);
        test_child_end();
    }
    test_gate_wait(&listens);
    test_wait_asleep(child);
    return child;
}

TEST_EACH(who_waits_for_somebody_new_is_told, each_kind)
{
    int child = start_waiting(index);

    CHECK_INT(unlink(path()), 0);
    test_join(child);
}

TEST_EACH(a_name_that_another_file_took_counts_as_removed, each_kind)
{
    int child = start_waiting(index), fd;

    fd = open(test_format("%s/other", test_directory()), O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    CHECK(fd >= 0);
    close(fd);
    CHECK_INT(rename(test_format("%s/other", test_directory()), path()), 0);
    test_join(child);
    CHECK_INT(unlink(path()), 0); /* what took the name was left alone */
}

TEST_EACH(who_does_not_wait_is_told_as_well_and_every_time, each_kind)
{
    struct naru_listener *l = listen_on(index);

    CHECK_INT(unlink(path()), 0);
    for (int i = 0; i < 3; i++)
        check_accept_says_removed(l, NARU_NOWAIT);
    check_accept_says_removed(l, NARU_MS(1));
    naru_listener_close(l);
}

TEST_EACH(who_came_before_is_accepted_first, each_kind)
{
    struct naru_listener *l = listen_on(index);
    struct naru_channel *out = connect_to(url_in(index, test_directory())), *in = NULL;

    CHECK_INT(unlink(path()), 0);
    CHECK_INT(naru_accept(l, NARU_NOWAIT, &in), 0);
    check_message(out, in, "came before");
    naru_channel_close(out);
    naru_channel_close(in);
    check_accept_says_removed(l, NARU_FOREVER);
    naru_listener_close(l);
}

TEST_EACH(a_channel_goes_on, each_kind)
{
    struct naru_listener *l = listen_on(index);
    struct naru_channel *out = connect_to(url_in(index, test_directory())), *in = NULL;
    char buffer[8];

    CHECK_INT(naru_accept(l, NARU_NOWAIT, &in), 0);
    check_message(out, in, "before");
    CHECK_INT(unlink(path()), 0);
    check_message(out, in, "after");
    naru_channel_close(out);
    CHECK_INT(naru_recv(in, buffer, sizeof buffer, NARU_FOREVER), -EPIPE);
    naru_channel_close(in);
    naru_listener_close(l);
}

/* Published under another name, or the program has gone to another directory: both can still be reached. */
TEST_EACH(a_renamed_one_is_served_on, each_kind)
{
    const char *directory = test_format("%s/elsewhere", test_directory());
    struct naru_listener *l = listen_on(index);
    struct naru_channel *out, *in = NULL;

    CHECK_INT(mkdir(directory, 0700), 0);
    CHECK_INT(rename(path(), test_format("%s/name", directory)), 0);
    CHECK_INT(naru_accept(l, NARU_NOWAIT, &in), -EAGAIN);
    out = connect_to(url_in(index, directory));
    CHECK_INT(naru_accept(l, patience, &in), 0);
    check_message(out, in, "found");
    naru_channel_close(out);
    naru_channel_close(in);
    naru_listener_close(l);
    (void)unlink(
        test_format("%s/name", directory)); /* a socket's name that changed is not its listener's to remove */
}

TEST(a_fifos_descriptor_shows_that_it_was_removed)
{
    struct naru_listener *l = listen_on(0);
    struct naru_channel *ch = NULL;

    CHECK_INT(naru_accept(l, NARU_NOWAIT, &ch), -EAGAIN);
    CHECK(!test_is_readable(naru_listener_fd(l)));
    CHECK_INT(unlink(path()), 0);
    CHECK(test_is_readable(naru_listener_fd(l)));
    check_accept_says_removed(l, NARU_NOWAIT);
    CHECK(!test_is_readable(naru_listener_fd(l))); /* no event loop spins on it */
    naru_listener_close(l);
}

TEST(a_fifo_removed_while_its_one_channel_is_open_shows_it_afterwards)
{
    struct naru_listener *l = listen_on(0);
    struct naru_channel *out = connect_to(url_in(0, test_directory())), *in = NULL;

    CHECK_INT(naru_accept(l, NARU_NOWAIT, &in), 0);
    CHECK_INT(unlink(path()), 0);
    naru_channel_close(out);
    naru_channel_close(in);
    CHECK(test_is_readable(naru_listener_fd(l)));
    check_accept_says_removed(l, NARU_NOWAIT);
    CHECK(!test_is_readable(naru_listener_fd(l)));
    naru_listener_close(l);
}

TEST(an_abstract_name_cannot_be_removed)
{
    struct naru_listener *l = NULL;
    struct naru_channel *ch = NULL;

    CHECK_INT(naru_listen(test_format("unix:@%s", path()), NULL, &l), 0);
    CHECK_INT(naru_accept(l, NARU_MS(1), &ch), -ETIMEDOUT);
    naru_listener_close(l);
}
