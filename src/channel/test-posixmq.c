/* SPDX-License-Identifier: MIT */
/* posixmq: against programs that know only mq_open, mq_send and mq_receive, and against itself. */
#include <errno.h>
#include <fcntl.h>
#include <mqueue.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "naru/naru.h"
#include "runner.h"

enum { NOBODY = 65534 };

static const char name[] = "/naru-test";
static const int64_t patience = NARU_S(10);

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
    CHECK_INT(naru_remove("posixmq:/naru-test"), 0);
}

static struct naru_listener *listen_on(const char *query)
{
    struct naru_listener *l = NULL;

    CHECK_INT(naru_listen(test_format("posixmq:/naru-test%s", query), NULL, &l), 0);
    return l;
}

static struct naru_channel *receiver(const char *query)
{
    struct naru_listener *l = listen_on(query);
    struct naru_channel *ch = NULL;

    CHECK_INT(naru_accept(l, NARU_NOWAIT, &ch), 0);
    (void)naru_listener_close(l);
    return ch;
}

static struct naru_channel *sender(const char *query)
{
    struct naru_channel *ch = NULL;

    CHECK_INT(naru_connect(test_format("posixmq:naru-test%s", query), NULL, patience, &ch), 0);
    return ch;
}

static int send_priority(struct naru_channel *ch, const char *text, unsigned priority)
{
    struct iovec piece = {(void *)(uintptr_t)text, strlen(text)};
    struct naru_message m = NARU_INIT(struct naru_message);

    m.iov = &piece;
    m.iov_count = 1;
    m.priority = priority;
    return naru_send_message(ch, &m, patience);
}

/* room: of the buffer; below msgsize the message takes another way than from msgsize on. */
static void check_recv(struct naru_channel *ch, const char *expected, unsigned priority, size_t room)
{
    char text[8200] = "";
    struct iovec piece = {text, room};
    struct naru_message m = NARU_INIT(struct naru_message);

    m.iov = &piece;
    m.iov_count = 1;
    CHECK_INT(naru_recv_message(ch, &m, patience), 0);
    CHECK_STR(text, expected);
    CHECK_INT(m.length, strlen(expected));
    CHECK_INT(m.priority, priority);
    CHECK_INT(m.type, 0);
}

static bool sleeps(int pid)
{
    char line[512] = "", *end;
    FILE *file = fopen(test_format("/proc/%d/stat", pid), "re");

    CHECK(file != NULL);
    CHECK(fgets(line, sizeof line, file) != NULL);
    (void)fclose(file);
    end = strrchr(line, ')');
    return end && end[2] == 'S';
}

static bool is_ready(int fd)
{
    struct pollfd ready = {.fd = fd, .events = POLLIN};

    return poll(&ready, 1, 0) == 1;
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

TEST(connecting_waits_for_the_queue_to_be_made)
{
    int pid = test_fork();

    if (pid == 0) {
        struct naru_channel *ch = sender("");

        CHECK_INT(naru_send(ch, "at last", 7, patience), 0);
        (void)naru_channel_close(ch);
        test_child_end();
    }
    WAIT_UNTIL(sleeps(pid));
    struct naru_channel *ch = receiver("");
    check_recv(ch, "at last", 0, 100);
    test_join(pid);
    (void)naru_channel_close(ch);
    remove_queue();
}

TEST(a_queue_that_does_not_come_is_reported)
{
    struct naru_channel *ch = NULL;
    struct naru_listener *l = NULL;

    CHECK_INT(naru_connect("posixmq:/naru-test", NULL, NARU_MS(5), &ch), -ETIMEDOUT);
    CHECK_CONTAINS(naru_explain(), "?create=yes");
    CHECK_INT(naru_connect("posixmq:/naru-test", NULL, NARU_NOWAIT, &ch), -EAGAIN);
    CHECK_INT(naru_listen("posixmq:/naru-test?create=no", NULL, &l), -ENOENT);
    CHECK_INT(naru_remove("posixmq:/naru-test"), -ENOENT);
    CHECK_CONTAINS(naru_explain(), "no such queue");
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
    WAIT_UNTIL(sleeps(pid));
    check_recv(in, "1", 0, 8200);
    check_recv(in, "2", 0, 100);
    check_recv(in, "3", 0, 100);
    check_recv(in, "4", 0, 100);
    test_join(pid);
    (void)naru_channel_close(in);
    (void)naru_channel_close(out);
    remove_queue();
}

TEST(an_empty_queue_makes_the_receiver_wait_and_leaves_its_description_blocking)
{
    struct naru_channel *out = sender("?create=yes");
    char text[8192];
    int pid = test_fork();

    if (pid == 0) {
        struct naru_channel *in = receiver("");

        (void)naru_channel_close(out);
        CHECK_INT(naru_recv(in, text, sizeof text, NARU_FOREVER), 3);
        CHECK_INT(naru_recv(in, text, sizeof text, NARU_NOWAIT), -EAGAIN);
        CHECK_INT(naru_recv(in, text, sizeof text, NARU_MS(5)), -ETIMEDOUT);
        (void)naru_channel_close(in);
        test_child_end();
    }
    WAIT_UNTIL(sleeps(pid));
    CHECK_INT(naru_send(out, "one", 3, NARU_NOWAIT), 0);
    test_join(pid);
    (void)naru_channel_close(out);
    remove_queue();
}

TEST(the_descriptor_plays_the_part_of_mq_notify)
{
    struct naru_channel *in = receiver("?maxmsg=1"), *out = sender("");
    int in_fd = naru_channel_fd(in), out_fd = naru_channel_fd(out);
    char small[2], text[16];

    CHECK(in_fd >= 0 && out_fd >= 0);
    CHECK(!is_ready(in_fd));
    CHECK_INT(naru_send(out, "news", 4, NARU_NOWAIT), 0);
    CHECK(is_ready(in_fd));
    CHECK_INT(naru_send(out, "more", 4, NARU_NOWAIT), -EAGAIN);
    CHECK(!is_ready(out_fd));
    CHECK_INT(naru_recv(in, small, sizeof small, NARU_NOWAIT), -EMSGSIZE);
    CHECK_CONTAINS(naru_explain(), "has 4 bytes and the buffer only 2");
    CHECK(is_ready(in_fd)); /* it is kept */
    CHECK(is_ready(out_fd));
    CHECK_INT(naru_recv(in, text, sizeof text, NARU_NOWAIT), 4);
    CHECK(memcmp(text, "news", 4) == 0);
    CHECK(!is_ready(in_fd));
    (void)naru_channel_close(in);
    (void)naru_channel_close(out);
    remove_queue();
}

TEST(the_listener_is_ready_until_its_one_channel_is_out)
{
    struct naru_listener *l = listen_on("?unlink");
    struct naru_channel *ch = NULL, *second = NULL;

    CHECK(is_ready(naru_listener_fd(l)));
    CHECK_INT(naru_accept(l, NARU_NOWAIT, &ch), 0);
    CHECK(!is_ready(naru_listener_fd(l)));
    CHECK_INT(naru_accept(l, NARU_NOWAIT, &second), -EBUSY);
    (void)naru_channel_close(ch);
    CHECK(is_ready(naru_listener_fd(l)));
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

TEST(flush_waits_until_the_queue_is_empty)
{
    struct naru_channel *in = receiver(""), *out = sender("");
    char byte;

    CHECK_INT(naru_send(out, "x", 1, NARU_NOWAIT), 0);
    CHECK_INT(naru_flush(out, NARU_TAKEN, NARU_NOWAIT), -EAGAIN);
    CHECK_INT(naru_flush(out, NARU_TAKEN, NARU_MS(2)), -ETIMEDOUT);
    CHECK_INT(naru_recv(in, &byte, 1, NARU_NOWAIT), 1);
    CHECK_INT(naru_flush(out, NARU_TAKEN, NARU_NOWAIT), 0);
    (void)naru_channel_close(in);
    (void)naru_channel_close(out);
    remove_queue();
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

TEST(a_child_closes_its_copies_without_removing_the_queue)
{
    struct naru_listener *l = listen_on("?unlink=yes");
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
    CHECK(queue_exists());
    CHECK(!is_ready(naru_listener_fd(l)));
    (void)naru_channel_close(ch);
    (void)naru_listener_close(l);
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
    struct rlimit limit;
    struct naru_channel *ch = NULL, *out = sender("?create=yes&unlink");
    int next = dup(0);

    CHECK(next >= 0);
    (void)close(next);
    CHECK_INT(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = (rlim_t)next;
    CHECK_INT(setrlimit(RLIMIT_NOFILE, &limit), 0);
    CHECK_INT(naru_connect("posixmq:/naru-test", NULL, NARU_NOWAIT, &ch), -EMFILE);
    CHECK_CONTAINS(naru_explain(), "out of descriptors");
    CHECK_INT(naru_connect("posixmq:/naru-test2?create=yes", NULL, NARU_NOWAIT, &ch), -EMFILE);
    CHECK_CONTAINS(naru_explain(), "descriptors");
    (void)naru_channel_close(out);
}

/* To be asked before anything is made that a skipped test would leave. */
static void need_root(void)
{
    if (geteuid() != 0)
        test_skip("only root can become somebody else");
}

static int fork_as_nobody(void)
{
    int pid = test_fork();

    if (pid == 0) {
        CHECK_INT(setgid(NOBODY), 0);
        CHECK_INT(setuid(NOBODY), 0);
    }
    return pid;
}

TEST(the_systems_limits_are_explained_to_who_must_keep_them)
{
    need_root();
    int pid = fork_as_nobody();

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
    pid = fork_as_nobody();
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

TEST(another_user_is_kept_out_and_told_so)
{
    need_root();
    struct naru_listener *l = listen_on("?unlink");
    int pid = fork_as_nobody();

    if (pid == 0) {
        struct naru_channel *ch = NULL;
        struct naru_listener *mine = NULL;

        CHECK_INT(naru_connect("posixmq:/naru-test", NULL, patience, &ch), -EACCES);
        CHECK_CONTAINS(naru_explain(), "may not send to it: permission denied; ?mode=0666");
        CHECK_INT(naru_listen("posixmq:/naru-test", NULL, &mine), -EACCES);
        CHECK_CONTAINS(naru_explain(), "may not receive from it");
        CHECK_INT(naru_remove("posixmq:/naru-test"), -EACCES);
        CHECK_CONTAINS(naru_explain(), "owner");
        (void)naru_listener_close(l);
        test_child_end();
    }
    test_join(pid);
    CHECK(queue_exists());
    (void)naru_listener_close(l);
}

TEST(a_mode_lets_others_send_but_not_receive)
{
    need_root();
    struct naru_channel *in = receiver("?mode=0622");
    int pid = fork_as_nobody();

    if (pid == 0) {
        struct naru_channel *out = sender("");
        struct naru_listener *mine = NULL;

        CHECK_INT(naru_send(out, "may I?", 6, NARU_NOWAIT), 0);
        CHECK_INT(naru_listen("posixmq:/naru-test", NULL, &mine), -EACCES);
        (void)naru_channel_close(out);
        (void)naru_channel_close(in);
        test_child_end();
    }
    test_join(pid);
    check_recv(in, "may I?", 0, 100);
    (void)naru_channel_close(in);
    remove_queue();
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
