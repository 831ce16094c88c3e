/* SPDX-License-Identifier: MIT */
/* What a queue promises, whether it is System V's or POSIX's. What is particular to each is in test-sysvmq*.c
 * and test-posixmq*.c. */
#include <errno.h>
#include <unistd.h>

#include "channel/test-queue.h"

static const struct queue_kind *const kinds[] = {&sysvmq_kind, &posixmq_kind};

static const char *each_kind(size_t index)
{
    return index < 2 ? kinds[index]->label : NULL;
}

/* A message that nobody gave a type or a priority: System V's first type is 1. */
static void check_plain(const struct queue_kind *kind, struct naru_channel *ch, const char *expected)
{
    queue_check(ch, expected, kind == &sysvmq_kind, 0, 100);
}

TEST_EACH(connecting_waits_for_the_queue_to_be_made, each_kind)
{
    const struct queue_kind *kind = kinds[index];
    struct naru_channel *in;
    int pid = test_fork();

    if (pid == 0) {
        struct naru_channel *out = queue_sender(kind, "");

        CHECK_INT(naru_send(out, "at last", 7, patience), 0);
        (void)naru_channel_close(out);
        test_child_end();
    }
    test_wait_asleep(pid);
    in = queue_receiver(kind, "");
    check_plain(kind, in, "at last");
    test_join(pid);
    (void)naru_channel_close(in);
    queue_remove(kind);
}

TEST_EACH(a_queue_that_does_not_come_is_reported, each_kind)
{
    const struct queue_kind *kind = kinds[index];
    struct naru_channel *ch = NULL;
    struct naru_listener *l = NULL;

    CHECK_INT(naru_connect(kind->url, NULL, NARU_MS(5), &ch), -ETIMEDOUT);
    CHECK_CONTAINS(naru_explain(),
                   "there is no such queue; start the receiver, or make it here with ?create=yes");
    CHECK_INT(naru_connect(kind->url, NULL, NARU_NOWAIT, &ch), -EAGAIN);
    CHECK_INT(naru_listen(test_format("%s?create=no", kind->url), NULL, &l), -ENOENT);
    CHECK_CONTAINS(naru_explain(), "create=no");
    CHECK_INT(naru_remove(kind->url), -ENOENT);
    CHECK_CONTAINS(naru_explain(), "no such queue");
}

TEST_EACH(an_empty_queue_makes_the_receiver_wait, each_kind)
{
    const struct queue_kind *kind = kinds[index];
    struct naru_channel *out = queue_sender(kind, "?create=yes");
    char text[8192];
    int pid = test_fork();

    if (pid == 0) {
        struct naru_channel *in = queue_receiver(kind, "");

        (void)naru_channel_close(out);
        CHECK_INT(naru_recv(in, text, sizeof text, NARU_FOREVER), 3);
        CHECK_INT(naru_recv(in, text, sizeof text, NARU_NOWAIT),
                  -EAGAIN); /* the description stayed blocking */
        CHECK_INT(naru_recv(in, text, sizeof text, NARU_MS(5)), -ETIMEDOUT);
        (void)naru_channel_close(in);
        test_child_end();
    }
    test_wait_asleep(pid);
    CHECK_INT(naru_send(out, "one", 3, NARU_NOWAIT), 0);
    test_join(pid);
    (void)naru_channel_close(out);
    queue_remove(kind);
}

TEST_EACH(a_child_closes_its_copies_without_removing_the_queue, each_kind)
{
    const struct queue_kind *kind = kinds[index];
    struct naru_listener *l = queue_listen(kind, "?unlink=yes");
    struct naru_channel *ch = NULL;
    int pid;

    CHECK_INT(naru_accept(l, NARU_NOWAIT, &ch), 0);
    pid = test_fork();
    if (pid == 0) {
        char byte;

        CHECK_INT(naru_recv(ch, &byte, 1, NARU_NOWAIT), -ECHILD);
        (void)naru_channel_close(ch);
        (void)naru_listener_close(l);
        test_child_end();
    }
    test_join(pid);
    CHECK(queue_is_there(kind));
    CHECK_INT(naru_accept(l, NARU_NOWAIT, &ch), -EBUSY); /* its one channel is out, whatever the child did */
    if (kind == &posixmq_kind)
        CHECK(!test_is_readable(naru_listener_fd(l)));
    (void)naru_channel_close(ch);
    (void)naru_listener_close(l);
    CHECK(!queue_is_there(kind));
}

TEST_EACH(flush_waits_until_the_queue_is_empty, each_kind)
{
    const struct queue_kind *kind = kinds[index];
    struct naru_channel *in = queue_receiver(kind, ""), *out = queue_sender(kind, "");
    char byte;

    CHECK_INT(naru_send(out, "x", 1, NARU_NOWAIT), 0);
    CHECK_INT(naru_flush(out, NARU_TAKEN, NARU_NOWAIT), -EAGAIN);
    CHECK_INT(naru_flush(out, NARU_TAKEN, NARU_MS(2)), -ETIMEDOUT);
    CHECK_INT(naru_recv(in, &byte, 1, NARU_NOWAIT), 1);
    CHECK_INT(naru_flush(out, NARU_TAKEN, NARU_NOWAIT), 0);
    (void)naru_channel_close(in);
    (void)naru_channel_close(out);
    queue_remove(kind);
}

TEST_EACH(several_readers_share_the_messages, each_kind)
{
    enum { READERS = 3, MESSAGES = 60 };
    const struct queue_kind *kind = kinds[index];
    int pids[READERS], counts[2], total = 0;
    struct naru_channel *out;

    CHECK_INT(pipe(counts), 0);
    out = queue_sender(kind, "?create=yes&unlink=yes");
    for (int i = 0; i < READERS; i++) {
        pids[i] = test_fork();
        if (pids[i] == 0) {
            struct naru_channel *in = queue_receiver(kind, "");
            char text[8];
            int count = 0;

            while (naru_recv(in, text, sizeof text, NARU_FOREVER) > 0)
                count++;
            CHECK_INT(write(counts[1], &count, sizeof count), sizeof count);
            (void)naru_channel_close(in);
            (void)naru_channel_close(out);
            test_child_end();
        }
    }
    for (int i = 0; i < MESSAGES; i++)
        CHECK_INT(naru_send(out, "job", 3, patience), 0);
    for (int i = 0; i < READERS; i++)
        CHECK_INT(naru_send(out, "", 0, patience), 0); /* that was all */
    for (int i = 0; i < READERS; i++) {
        int count;

        test_join(pids[i]);
        CHECK_INT(read(counts[0], &count, sizeof count), sizeof count);
        total += count;
    }
    CHECK_INT(total, MESSAGES);
    (void)naru_channel_close(out);
    (void)close(counts[0]);
    (void)close(counts[1]);
}

TEST_EACH(messages_outlive_every_process, each_kind)
{
    const struct queue_kind *kind = kinds[index];
    struct naru_channel *in;
    int pid = test_fork();

    if (pid == 0) {
        struct naru_channel *out = queue_sender(kind, "?create=yes");

        CHECK_INT(naru_send(out, "my last words", 13, NARU_NOWAIT), 0);
        test_child_end(); /* without closing */
    }
    test_join(pid);
    in = queue_receiver(kind, "");
    check_plain(kind, in, "my last words");
    (void)naru_channel_close(in);
    queue_remove(kind);
}

TEST_EACH(another_user_is_kept_out_and_told_so, each_kind)
{
    const struct queue_kind *kind = kinds[index];
    struct naru_listener *l;
    int pid;

    test_need_root();
    l = queue_listen(kind, "?unlink");
    pid = test_fork_as_nobody();
    if (pid == 0) {
        struct naru_channel *ch = NULL;
        struct naru_listener *mine = NULL;
        int r;

        CHECK_INT(naru_connect(kind->url, NULL, patience, &ch), -EACCES);
        CHECK_CONTAINS(naru_explain(), kind == &sysvmq_kind ? "permission denied; `ipcs -q` shows its owner"
                                                            : "may not send to it: permission denied");
        CHECK_CONTAINS(naru_explain(), "?mode=0666");
        CHECK_INT(naru_listen(kind->url, NULL, &mine), -EACCES);
        CHECK_CONTAINS(naru_explain(),
                       kind == &sysvmq_kind ? "permission denied" : "may not receive from it");
        r = naru_remove(kind->url);
        CHECK_INT(r, kind == &sysvmq_kind ? -EPERM : -EACCES);
        CHECK_CONTAINS(naru_explain(), "owner");
        (void)naru_listener_close(l);
        test_child_end();
    }
    test_join(pid);
    CHECK(queue_is_there(kind));
    (void)naru_listener_close(l);
}

TEST_EACH(a_mode_lets_others_send_but_not_receive, each_kind)
{
    const struct queue_kind *kind = kinds[index];
    struct naru_channel *in;
    int pid;

    test_need_root();
    in = queue_receiver(kind, "?mode=0622");
    pid = test_fork_as_nobody();
    if (pid == 0) {
        struct naru_channel *out = queue_sender(kind, "");
        struct naru_listener *mine = NULL;

        CHECK_INT(naru_send(out, "may I?", 6, NARU_NOWAIT), 0);
        if (kind == &sysvmq_kind) { /* to look into the queue is to read it (msgctl(2)) */
            CHECK_INT(naru_flush(out, NARU_TAKEN, NARU_NOWAIT), -EACCES);
            CHECK_CONTAINS(naru_explain(), "mode does not permit it");
        }
        CHECK_INT(naru_listen(kind->url, NULL, &mine), -EACCES);
        (void)naru_channel_close(out);
        (void)naru_channel_close(in);
        test_child_end();
    }
    test_join(pid);
    check_plain(kind, in, "may I?");
    (void)naru_channel_close(in);
    queue_remove(kind);
}
