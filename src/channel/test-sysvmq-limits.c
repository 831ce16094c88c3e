/* SPDX-License-Identifier: MIT */
/* sysvmq: the system's limits on messages and queues, and what is said where they are met; in an IPC
 * namespace of each test's own, so that the machine's stay as they are. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <unistd.h>

#include "channel/test-queue.h"

static struct naru_listener *listen_on(const char *query)
{
    return queue_listen(&sysvmq_kind, query);
}

static struct naru_channel *receiver(const char *query)
{
    return queue_receiver(&sysvmq_kind, query);
}

static struct naru_channel *sender(const char *query)
{
    return queue_sender(&sysvmq_kind, query);
}

static void set_limit(const char *name, const char *value)
{
    int fd = open(test_format("/proc/sys/kernel/%s", name), O_WRONLY | O_CLOEXEC);

    if (fd < 0)
        test_skip("cannot change kernel.%s here: %s", name, strerror(errno));
    CHECK_INT(write(fd, value, strlen(value)), strlen(value));
    (void)close(fd);
}

static void leave_namespace(void)
{
    if (unshare(CLONE_NEWIPC) < 0)
        test_skip("no IPC namespace of its own: %s", strerror(errno));
}

TEST(a_message_above_msgmax_is_refused_with_the_way_to_raise_it)
{
    static char bytes[20000];
    struct naru_channel_info info = NARU_INIT(struct naru_channel_info);

    leave_namespace();
    struct naru_channel *out = sender("?create=yes");
    CHECK_INT(naru_channel_info(out, &info), 0);
    CHECK_INT(info.max_message, 8192);
    CHECK_INT(naru_send(out, bytes, 8192, NARU_NOWAIT), 0);
    CHECK_INT(naru_send(out, bytes, 8193, NARU_NOWAIT), -EMSGSIZE);
    CHECK_CONTAINS(naru_explain(), "message of 8193 bytes exceeds 8192");
    CHECK_CONTAINS(naru_explain(), "sysctl kernel.msgmax=8193");
    CHECK_INT(naru_send(out, bytes, 20000, NARU_NOWAIT), -EMSGSIZE);
    CHECK_CONTAINS(naru_explain(), "?buffer=20000");
    (void)naru_channel_close(out);
    out = sender("?max-message=10");
    CHECK_INT(naru_send(out, bytes, 11, NARU_NOWAIT), -EMSGSIZE);
    CHECK_CONTAINS(naru_explain(), "?max-message=");
    (void)naru_channel_close(out);
    set_limit("msgmax", "4000");
    out = sender("");
    set_limit("msgmax", "3000"); /* meanwhile */
    CHECK_INT(naru_send(out, bytes, 4000, NARU_NOWAIT), -EMSGSIZE);
    CHECK_CONTAINS(naru_explain(), "exceeds 3000");
    (void)naru_channel_close(out);
}

TEST(a_receiver_follows_a_raised_msgmax)
{
    static char bytes[20000], received[20000];

    leave_namespace();
    struct naru_channel *in = receiver("?buffer=16000");
    set_limit("msgmax", "20000");
    set_limit("msgmnb", "20000");
    struct naru_channel *out = sender("?create=yes&buffer=20000");
    memset(bytes, 'x', sizeof bytes);
    CHECK_INT(naru_send(out, bytes, sizeof bytes, NARU_NOWAIT), 0);
    CHECK_INT(naru_recv(in, received, 10, NARU_NOWAIT), -EMSGSIZE);
    CHECK_CONTAINS(naru_explain(), "has 20000 bytes");
    CHECK_INT(naru_recv(in, received, sizeof received, NARU_NOWAIT), 20000);
    CHECK(memcmp(bytes, received, sizeof bytes) == 0);
    (void)naru_channel_close(in);
    (void)naru_channel_close(out);
}

TEST(a_small_queue_refuses_what_could_never_fit)
{
    static char bytes[600];

    leave_namespace();
    struct naru_channel *in = receiver("?buffer=500"), *out = sender("");
    CHECK_INT(naru_send(out, bytes, sizeof bytes, NARU_FOREVER), -EMSGSIZE);
    CHECK_CONTAINS(naru_explain(), "exceeds 500");
    CHECK_CONTAINS(naru_explain(), "?buffer=600");
    CHECK_INT(naru_send(out, bytes, 500, NARU_NOWAIT), 0);
    CHECK_INT(naru_send(out, bytes, 1, NARU_NOWAIT), -EAGAIN);
    (void)naru_channel_close(in);
    (void)naru_channel_close(out);
}

TEST(the_number_of_queues_is_a_limit_that_is_explained)
{
    struct naru_listener *l = NULL;

    leave_namespace();
    set_limit("msgmni", "1");
    l = listen_on("");
    CHECK_INT(naru_listen("sysvmq:4321", NULL, &l), -ENOSPC);
    CHECK_CONTAINS(naru_explain(), "its 1 queues already (/proc/sys/kernel/msgmni)");
    CHECK_CONTAINS(naru_explain(), "ipcrm -q");
    (void)naru_listener_close(l);
}

TEST(only_root_makes_a_queue_above_msgmnb)
{
    test_need_root();
    int pid = test_fork_as_nobody();

    if (pid == 0) {
        struct naru_listener *l = NULL;

        CHECK_INT(naru_listen("sysvmq:1234?buffer=1M", NULL, &l), -EPERM);
        CHECK_CONTAINS(naru_explain(), "sysctl kernel.msgmnb=1048576");
        CHECK(!queue_is_there(&sysvmq_kind)); /* what it made it has removed */
        test_child_end();
    }
    test_join(pid);
}
