/* SPDX-License-Identifier: MIT */
/* posixmq: against programs that know only mq_open, mq_send and mq_receive, and against itself. */
#include <errno.h>
#include <fcntl.h>
#include <mqueue.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "channel/test-queue.h"

static const char name[] = "/naru-test";

static mqd_t plain_open(int flags)
{
    mqd_t queue = mq_open(name, flags | O_CLOEXEC, 0600, NULL);

    CHECK(queue >= 0);
    return queue;
}

static bool queue_exists(void)
{
    mqd_t queue = mq_open(name, O_RDONLY | O_CLOEXEC);

    if (queue < 0)
        return false;
    CHECK_INT(mq_close(queue), 0);
    return true;
}

static void remove_queue(void)
{
    queue_remove(&posixmq_kind);
}

static struct naru_listener *listen_on(const char *query)
{
    return queue_listen(&posixmq_kind, query);
}

static struct naru_channel *receiver(const char *query)
{
    return queue_receiver(&posixmq_kind, query);
}

static struct naru_channel *sender(const char *query)
{
    return queue_sender(&posixmq_kind, query);
}

static int send_priority(struct naru_channel *ch, const char *text, unsigned priority)
{
    return queue_send(ch, text, 0, priority);
}

/* room: of the buffer; below msgsize the message takes another way than from msgsize on. */
static void check_recv(struct naru_channel *ch, const char *expected, unsigned priority, size_t room)
{
    queue_check(ch, expected, 0, priority, room);
}

TEST(a_plain_program_with_mq_receive_gets_what_was_sent_and_nothing_else)
{
    mqd_t queue = plain_open(O_RDONLY | O_CREAT);
    struct naru_channel *ch = sender("");
    char text[8192];
    unsigned priority;

    CHECK_INT(send_priority(ch, "hello", 7), 0);
    CHECK_INT(mq_receive(queue, text, sizeof text, &priority), 5);
    CHECK(memcmp(text, "hello", 5) == 0);
    CHECK_INT(priority, 7);
    CHECK_INT(naru_send(ch, NULL, 0, patience), 0);
    CHECK_INT(mq_receive(queue, text, sizeof text, &priority), 0);
    CHECK_INT(priority, 0);
    (void)naru_channel_close(ch);
    CHECK_INT(mq_close(queue), 0);
    remove_queue();
}

TEST(a_plain_program_with_mq_send_can_be_received_from)
{
    struct naru_channel *ch = receiver("");
    int pid = test_fork();

    if (pid == 0) {
        mqd_t queue = plain_open(O_WRONLY);

        CHECK_INT(mq_send(queue, "plain", 5, 31), 0);
        CHECK_INT(mq_close(queue), 0);
        (void)naru_channel_close(ch);
        test_child_end();
    }
    check_recv(ch, "plain", 31, 100);
    test_join(pid);
    (void)naru_channel_close(ch);
    remove_queue();
}

TEST(higher_priorities_overtake_and_equal_ones_keep_their_order)
{
    struct naru_channel *in = receiver(""), *out = sender("");

    CHECK_INT(send_priority(out, "whenever", 0), 0);
    CHECK_INT(send_priority(out, "soon", 5), 0);
    CHECK_INT(send_priority(out, "soon too", 5), 0);
    CHECK_INT(send_priority(out, "now", 32767), 0);
    CHECK_INT(send_priority(out, "never", 32768), -EINVAL);
    CHECK_CONTAINS(naru_explain(), "from 0 to 32767, not 32768");
    check_recv(in, "now", 32767, 8200);
    check_recv(in, "soon", 5, 100);
    check_recv(in, "soon too", 5, 8192);
    check_recv(in, "whenever", 0, 8191);
    (void)naru_channel_close(in);
    (void)naru_channel_close(out);
    remove_queue();
}

TEST(wrong_names_and_options_are_refused_and_nothing_is_made)
{
    static const struct {
        const char *url, *part;
    } wrong[] = {
        {"posixmq:", "expected a name"},
        {"posixmq:/", "expected a name"},
        {"posixmq:/a/b", "no slash but the first"},
        {"posixmq:/..", "expected a name"},
        {"posixmq:/naru-test?maxmsg=0", "?maxmsg= a number from 1 to 65536"},
        {"posixmq:/naru-test?msgsize=32M", "?msgsize= a size from 1 to 16777216"},
        {"posixmq:/naru-test?type=3", "option 'type' means nothing"},
    };
    struct naru_listener *l = NULL;
    struct naru_channel *ch = NULL;
    char text[400] = "posixmq:";

    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        CHECK_INT(naru_listen(wrong[i].url, NULL, &l), -EINVAL);
        CHECK_CONTAINS(naru_explain(), wrong[i].part);
        CHECK_INT(naru_connect(wrong[i].url, NULL, NARU_FOREVER, &ch), -EINVAL);
    }
    CHECK(!queue_exists());
    memset(text + strlen(text), 'x', 256);
    CHECK_INT(naru_listen(text, NULL, &l), -ENAMETOOLONG);
    CHECK_CONTAINS(naru_explain(), "may have 255 bytes, this one has 256");
}

TEST(a_queue_has_the_size_asked_for_and_says_so_if_it_has_another)
{
    struct naru_listener *l = listen_on("?maxmsg=3&msgsize=100&unlink");
    struct naru_channel_info info = NARU_INIT(struct naru_channel_info);
    struct naru_listener *other = NULL;
    struct naru_channel *out;
    char bytes[101] = "";

    CHECK_STR(naru_listener_url(l), "posixmq:/naru-test?maxmsg=3&msgsize=100");
    out = sender("?maxmsg=3");
    CHECK_INT(naru_channel_info(out, &info), 0);
    CHECK_INT(info.max_message, 100);
    for (int i = 0; i < 3; i++)
        CHECK_INT(naru_send(out, bytes, 100, NARU_NOWAIT), 0);
    CHECK_INT(naru_send(out, bytes, 100, NARU_NOWAIT), -EAGAIN);
    CHECK_INT(naru_send(out, bytes, 101, NARU_NOWAIT), -EMSGSIZE);
    CHECK_STR(naru_explain(),
              "posixmq:naru-test?maxmsg=3: message of 101 bytes exceeds msgsize=100; create the "
              "queue with ?msgsize=101");
    CHECK_INT(naru_listen("posixmq:/naru-test?msgsize=200", NULL, &other), -EEXIST);
    CHECK_CONTAINS(naru_explain(), "exists already, with maxmsg=3 and msgsize=100; leave ?msgsize= out");
    CHECK_CONTAINS(naru_explain(), "naru rm posixmq:/naru-test");
    CHECK_INT(naru_listen("posixmq:/naru-test?maxmsg=4", NULL, &other), -EEXIST);
    CHECK_CONTAINS(naru_explain(), "leave ?maxmsg= out");
    (void)naru_channel_close(out);
    (void)naru_listener_close(l);
    CHECK(!queue_exists());
}

TEST(the_mode_is_exact_whatever_the_umask)
{
    mode_t before = umask(077);
    struct naru_channel *ch = receiver("?mode=0664&unlink");
    mqd_t queue;
    struct stat status;

    (void)umask(before);
    CHECK(!queue_exists()); /* the listener is closed and has removed it; the channel lives on */
    (void)naru_channel_close(ch);
    ch = receiver("?mode=0640");
    queue = plain_open(O_RDONLY);
    CHECK_INT(fstat(queue, &status), 0);
    CHECK_INT(status.st_mode & 0777, 0640);
    CHECK_INT(mq_close(queue), 0);
    (void)naru_channel_close(ch);
    remove_queue();
}

TEST(a_full_queue_makes_the_sender_wait)
{
    struct naru_channel *in = receiver("?maxmsg=2"), *out = sender("");
    int pid;

    CHECK_INT(naru_send(out, "1", 1, NARU_NOWAIT), 0);
    CHECK_INT(naru_send(out, "2", 1, NARU_NOWAIT), 0);
    CHECK_INT(naru_send(out, "3", 1, NARU_NOWAIT), -EAGAIN);
    CHECK_INT(naru_send(out, "3", 1, NARU_MS(5)), -ETIMEDOUT);
    pid = test_fork();
    if (pid == 0) {
        struct naru_channel *mine = sender("");

        (void)naru_channel_close(in);
        (void)naru_channel_close(out);
        CHECK_INT(naru_send(mine, "3", 1, NARU_FOREVER), 0);
        CHECK_INT(naru_send(mine, "4", 1, patience), 0);
        (void)naru_channel_close(mine);
        test_child_end();
    }
    test_wait_asleep(pid);
    check_recv(in, "1", 0, 8200);
    check_recv(in, "2", 0, 100);
    check_recv(in, "3", 0, 100);
    check_recv(in, "4", 0, 100);
    test_join(pid);
    (void)naru_channel_close(in);
    (void)naru_channel_close(out);
    remove_queue();
}

TEST(the_descriptor_plays_the_part_of_mq_notify)
{
    struct naru_channel *in = receiver("?maxmsg=1"), *out = sender("");
    int in_fd = naru_channel_fd(in), out_fd = naru_channel_fd(out);
    char small[2], text[16];

    CHECK(in_fd >= 0 && out_fd >= 0);
    CHECK(!test_is_readable(in_fd));
    CHECK_INT(naru_send(out, "news", 4, NARU_NOWAIT), 0);
    CHECK(test_is_readable(in_fd));
    CHECK_INT(naru_send(out, "more", 4, NARU_NOWAIT), -EAGAIN);
    CHECK(!test_is_readable(out_fd));
    CHECK_INT(naru_recv(in, small, sizeof small, NARU_NOWAIT), -EMSGSIZE);
    CHECK_CONTAINS(naru_explain(), "has 4 bytes and the buffer only 2");
    CHECK(test_is_readable(in_fd)); /* it is kept */
    CHECK(test_is_readable(out_fd));
    CHECK_INT(naru_recv(in, text, sizeof text, NARU_NOWAIT), 4);
    CHECK(memcmp(text, "news", 4) == 0);
    CHECK(!test_is_readable(in_fd));
    (void)naru_channel_close(in);
    (void)naru_channel_close(out);
    remove_queue();
}

TEST(the_listener_is_ready_until_its_one_channel_is_out)
{
    struct naru_listener *l = listen_on("?unlink");
    struct naru_channel *ch = NULL, *second = NULL;

    CHECK(test_is_readable(naru_listener_fd(l)));
    CHECK_INT(naru_accept(l, NARU_NOWAIT, &ch), 0);
    CHECK(!test_is_readable(naru_listener_fd(l)));
    CHECK_INT(naru_accept(l, NARU_NOWAIT, &second), -EBUSY);
    (void)naru_channel_close(ch);
    CHECK(test_is_readable(naru_listener_fd(l)));
    CHECK_INT(naru_accept(l, NARU_NOWAIT, &ch), 0);
    (void)naru_listener_close(l);
    (void)naru_channel_close(ch); /* the listener is gone by now */
}

TEST(a_message_that_does_not_fit_is_kept_with_its_priority)
{
    struct naru_channel *in = receiver(""), *out = sender("");
    char small[4];

    CHECK_INT(send_priority(out, "too long for that", 6), 0);
    CHECK_INT(naru_recv(in, small, sizeof small, NARU_NOWAIT), -EMSGSIZE);
    CHECK_INT(send_priority(out, "urgent, but later", 9), 0);
    check_recv(in, "too long for that", 6, 100);
    check_recv(in, "urgent, but later", 9, 100);
    (void)naru_channel_close(in);
    (void)naru_channel_close(out);
    remove_queue();
}

TEST(a_message_of_several_pieces_goes_out_in_one)
{
    struct naru_channel *in = receiver("?msgsize=16"), *out = sender("");
    char a[] = "one ", b[] = "two ", c[] = "three!!!";
    struct iovec pieces[] = {{a, 4}, {b, 4}, {c, 8}};
    struct naru_message m = NARU_INIT(struct naru_message);

    m.iov = pieces;
    m.iov_count = 3;
    CHECK_INT(naru_send_message(out, &m, NARU_NOWAIT), 0);
    check_recv(in, "one two three!!!", 0, 100);
    m.iov_count = 0;
    CHECK_INT(naru_send_message(out, &m, NARU_NOWAIT), 0);
    check_recv(in, "", 0, 100);
    (void)naru_channel_close(in);
    (void)naru_channel_close(out);
    remove_queue();
}

TEST(a_removed_queue_lives_on_for_who_has_it_open)
{
    struct naru_channel *in = receiver(""), *out = sender("");

    remove_queue();
    CHECK(!queue_exists());
    CHECK_INT(naru_send(out, "still here", 10, NARU_NOWAIT), 0);
    check_recv(in, "still here", 0, 100);
    (void)naru_channel_close(in);
    (void)naru_channel_close(out);
}

TEST(an_interruption_ends_a_wait)
{
    struct naru_options options = NARU_INIT(struct naru_options);
    struct naru_channel *ch = NULL;
    char byte;

    options.interruptible = 1;
    options.direction = NARU_DIRECTION_BOTH;
    CHECK_INT(naru_connect("posixmq:/naru-test?create&unlink", &options, NARU_NOWAIT, &ch), 0);
    CHECK_INT(naru_send(ch, "x", 1, NARU_FOREVER), 0);
    CHECK_INT(naru_recv(ch, &byte, 1, NARU_FOREVER), 1);
    CHECK_INT(naru_interrupt(ch), 0);
    CHECK_INT(naru_recv(ch, &byte, 1, NARU_FOREVER), -ECANCELED);
    CHECK_INT(naru_flush(ch, NARU_TAKEN, NARU_NOWAIT), -ENOTSUP);
    (void)naru_channel_close(ch);
    CHECK(!queue_exists());
}

/* --- limits --- */

TEST(a_users_bytes_are_a_limit_that_is_explained)
{
    struct rlimit limit = {80000, 80000};
    struct naru_listener *l = NULL;
    int pid = test_fork();

    if (pid == 0) {
        CHECK_INT(setrlimit(RLIMIT_MSGQUEUE, &limit), 0);
        if (geteuid() == 0) /* all its user's processes share it: be a user of our own */
            CHECK_INT(setuid(1000000 + (uid_t)getpid()), 0);
        CHECK_INT(naru_listen("posixmq:/naru-test?maxmsg=10&msgsize=8000", NULL, &l), -EMFILE);
        /* getrlimit(2): 10 * (8000 + 48) + 10 * 48 */
        CHECK_CONTAINS(naru_explain(), "it would take 80960 bytes");
        CHECK_CONTAINS(naru_explain(), "may take 80000 (RLIMIT_MSGQUEUE)");
        CHECK_CONTAINS(naru_explain(), "ulimit -q");
        CHECK(!queue_exists());
        l = listen_on("?maxmsg=9&msgsize=8000&unlink");
        (void)naru_listener_close(l);
        test_child_end();
    }
    test_join(pid);
}

TEST(running_out_of_descriptors_is_not_taken_for_that)
{
    struct naru_channel *ch = NULL, *out = sender("?create=yes&unlink");

    test_limit_descriptors(0);
    CHECK_INT(naru_connect("posixmq:/naru-test", NULL, NARU_NOWAIT, &ch), -EMFILE);
    CHECK_CONTAINS(naru_explain(), "out of descriptors");
    CHECK_INT(naru_connect("posixmq:/naru-test2?create=yes", NULL, NARU_NOWAIT, &ch), -EMFILE);
    CHECK_CONTAINS(naru_explain(), "descriptors");
    (void)naru_channel_close(out);
}

TEST(the_systems_limits_are_explained_to_who_must_keep_them)
{
    test_need_root();
    int pid = test_fork_as_nobody();

    if (pid == 0) {
        struct naru_listener *l = NULL;

        CHECK_INT(naru_listen("posixmq:/naru-test?maxmsg=1000&msgsize=10", NULL, &l), -EINVAL);
        CHECK_CONTAINS(naru_explain(), "maxmsg=1000 and msgsize=10; without CAP_SYS_RESOURCE they may be");
        CHECK_CONTAINS(naru_explain(), "/proc/sys/fs/mqueue/msg_max");
        CHECK_CONTAINS(naru_explain(), "sysctl fs.mqueue.msg_max=1000");
        CHECK_INT(naru_listen("posixmq:/naru-test?msgsize=1M", NULL, &l), -EINVAL);
        CHECK_CONTAINS(naru_explain(), "fs.mqueue.msgsize_max=1048576");
        test_child_end();
    }
    test_join(pid);
}

TEST(the_number_of_queues_is_a_limit_that_is_explained)
{
    int fd, pid;

    if (geteuid() != 0 || unshare(CLONE_NEWIPC) < 0)
        test_skip("needs root and an IPC namespace of its own");
    fd = open("/proc/sys/fs/mqueue/queues_max", O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        test_skip("cannot change fs.mqueue.queues_max here: %s", strerror(errno));
    CHECK_INT(write(fd, "1", 1), 1);
    (void)close(fd);
    pid = test_fork_as_nobody();
    if (pid == 0) {
        struct naru_listener *l = listen_on(""), *other = NULL;

        CHECK_INT(naru_listen("posixmq:/naru-test2", NULL, &other), -ENOSPC);
        CHECK_CONTAINS(naru_explain(), "its 1 POSIX queues already");
        CHECK_CONTAINS(naru_explain(), "queues_max");
        (void)naru_listener_close(l);
        test_child_end();
    }
    test_join(pid);
}

/* --- threads --- */

static void *receive_all(void *argument)
{
    struct naru_channel *ch = argument;
    char text[16];

    for (int i = 0; i < 1000; i++)
        CHECK_INT(naru_recv(ch, text, sizeof text, i % 2 ? patience : NARU_FOREVER), 5);
    return NULL;
}

TEST(one_thread_sends_while_another_receives_on_one_description)
{
    struct naru_options options = NARU_INIT(struct naru_options);
    struct naru_channel *ch = NULL;
    pthread_t thread;

    options.direction = NARU_DIRECTION_BOTH;
    CHECK_INT(naru_connect("posixmq:/naru-test?create&unlink&maxmsg=2", &options, NARU_NOWAIT, &ch), 0);
    CHECK_INT(pthread_create(&thread, NULL, receive_all, ch), 0);
    for (int i = 0; i < 1000; i++)
        CHECK_INT(naru_send(ch, "hello", 5, i % 3 ? patience : NARU_FOREVER), 0);
    CHECK_INT(pthread_join(thread, NULL), 0);
    (void)naru_channel_close(ch);
}
