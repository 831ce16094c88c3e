/* SPDX-License-Identifier: MIT */
/* sysvmq: against programs that know only msgget, msgsnd and msgrcv, and against itself. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <unistd.h>

#include "naru/naru.h"
#include "runner.h"

enum { KEY = 1234, NOBODY = 65534 };

static const int64_t patience = NARU_S(10);

/* What a textbook's program sends. */
struct plain {
    long type;
    char text[8192];
};

static int plain_queue(int flags)
{
    int id = msgget(KEY, flags);

    CHECK(id >= 0);
    return id;
}

static void plain_send(int id, long type, const char *text)
{
    struct plain m = {.type = type};

    strcpy(m.text, text);
    CHECK_INT(msgsnd(id, &m, strlen(text), 0), 0);
}

static void remove_queue(void)
{
    CHECK_INT(msgctl(plain_queue(0), IPC_RMID, NULL), 0);
}

static bool queue_exists(void)
{
    return msgget(KEY, 0) >= 0;
}

static struct naru_listener *listen_on(const char *query)
{
    struct naru_listener *l = NULL;

    CHECK_INT(naru_listen(test_format("sysvmq:1234%s", query), NULL, &l), 0);
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

    CHECK_INT(naru_connect(test_format("sysvmq:0x4d2%s", query), NULL, patience, &ch), 0);
    return ch;
}

static void check_recv(struct naru_channel *ch, const char *expected, int64_t type)
{
    char text[256] = "";
    struct iovec piece = {text, sizeof text - 1};
    struct naru_message m = NARU_INIT(struct naru_message);

    m.iov = &piece;
    m.iov_count = 1;
    CHECK_INT(naru_recv_message(ch, &m, patience), 0);
    CHECK_STR(text, expected);
    CHECK_INT(m.length, strlen(expected));
    CHECK_INT(m.type, type);
    CHECK_INT(m.sender.pid, -1);
}

static int send_type(struct naru_channel *ch, const char *text, int64_t type)
{
    struct iovec piece = {(void *)(uintptr_t)text, strlen(text)};
    struct naru_message m = NARU_INIT(struct naru_message);

    m.iov = &piece;
    m.iov_count = 1;
    m.type = type;
    return naru_send_message(ch, &m, patience);
}

/* Waits until the process sleeps: a test that goes on earlier proves less, but does not fail. */
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

TEST(a_plain_program_with_key_1234_receives_what_was_sent_and_nothing_else)
{
    int id = plain_queue(IPC_CREAT | 0666);
    struct naru_channel *ch = sender("?type=7");
    struct plain m;

    CHECK_INT(naru_send(ch, "hello", 5, patience), 0);
    CHECK_INT(msgrcv(id, &m, sizeof m.text, 0, IPC_NOWAIT), 5);
    CHECK_INT(m.type, 7);
    CHECK(memcmp(m.text, "hello", 5) == 0);
    CHECK_INT(naru_send(ch, NULL, 0, patience), 0);
    CHECK_INT(msgrcv(id, &m, sizeof m.text, 7, IPC_NOWAIT), 0);
    (void)naru_channel_close(ch);
    remove_queue();
}

TEST(a_plain_program_with_key_1234_can_be_received_from)
{
    struct naru_channel *ch = receiver("");
    int pid = test_fork();

    if (pid == 0) {
        plain_send(plain_queue(IPC_CREAT | 0600), 3, "from a program of 1983");
        test_child_end();
    }
    check_recv(ch, "from a program of 1983", 3);
    test_join(pid);
    (void)naru_channel_close(ch);
    remove_queue();
}

TEST(two_processes_talk_both_ways_through_one_queue_by_types)
{
    struct naru_listener *l = listen_on("?type=2&recv-type=1&unlink=yes&max-message=100");
    struct naru_channel *ch = NULL;
    int pid;

    CHECK_STR(naru_listener_url(l), "sysvmq:1234?max-message=100&type=1&recv-type=2");
    pid = test_fork();
    if (pid == 0) {
        CHECK_INT(naru_connect(naru_listener_url(l), NULL, patience, &ch), 0);
        for (int i = 0; i < 50; i++) {
            CHECK_INT(naru_send(ch, "ping", 4, patience), 0);
            check_recv(ch, "pong", 2);
        }
        (void)naru_channel_close(ch);
        (void)naru_listener_close(l);
        test_child_end();
    }
    CHECK_INT(naru_accept(l, NARU_NOWAIT, &ch), 0);
    for (int i = 0; i < 50; i++) {
        check_recv(ch, "ping", 1);
        CHECK_INT(naru_send(ch, "pong", 4, patience), 0);
    }
    test_join(pid);
    CHECK_INT(naru_flush(ch, NARU_TAKEN, NARU_NOWAIT), -ENOTSUP);
    (void)naru_channel_close(ch);
    CHECK(queue_exists());
    (void)naru_listener_close(l);
    CHECK(!queue_exists());
}

TEST(the_ends_are_one_way_unless_types_or_options_say_otherwise)
{
    struct naru_options options = NARU_INIT(struct naru_options);
    struct naru_channel *in = receiver(""), *out = sender(""), *both = NULL;
    char byte;

    CHECK_INT(naru_send(in, "x", 1, NARU_NOWAIT), -ENOTSUP);
    CHECK_INT(naru_recv(out, &byte, 1, NARU_NOWAIT), -ENOTSUP);
    options.direction = NARU_DIRECTION_BOTH;
    CHECK_INT(naru_connect("sysvmq:1234?type=9&recv-type=9", &options, NARU_NOWAIT, &both), 0);
    CHECK_INT(naru_send(both, "to myself", 9, NARU_NOWAIT), 0);
    check_recv(both, "to myself", 9);
    (void)naru_channel_close(in);
    (void)naru_channel_close(out);
    (void)naru_channel_close(both);
    remove_queue();
}

TEST(receiving_by_type_leaves_the_others_in_the_queue)
{
    struct naru_channel *out = sender("?create=yes"), *twos = receiver("?recv-type=2"), *any = receiver("");
    char byte;

    CHECK_INT(send_type(out, "one", 1), 0);
    CHECK_INT(send_type(out, "two", 2), 0);
    CHECK_INT(send_type(out, "default", 0), 0);
    check_recv(twos, "two", 2);
    CHECK_INT(naru_recv(twos, &byte, 1, NARU_NOWAIT), -EAGAIN);
    check_recv(any, "one", 1);
    check_recv(any, "default", 1);
    (void)naru_channel_close(out);
    (void)naru_channel_close(twos);
    (void)naru_channel_close(any);
    remove_queue();
}

TEST(a_negative_type_receives_the_lowest_first)
{
    struct naru_channel *out = sender("?create=yes"), *in = receiver("?recv-type=-3");
    char byte;

    CHECK_INT(send_type(out, "last", 3), 0);
    CHECK_INT(send_type(out, "not for us", 4), 0);
    CHECK_INT(send_type(out, "first", 1), 0);
    CHECK_INT(send_type(out, "second", 2), 0);
    check_recv(in, "first", 1);
    check_recv(in, "second", 2);
    check_recv(in, "last", 3);
    CHECK_INT(naru_recv(in, &byte, 1, NARU_NOWAIT), -EAGAIN);
    (void)naru_channel_close(out);
    (void)naru_channel_close(in);
    remove_queue();
}

TEST(impossible_types_keys_and_options_are_refused_and_nothing_is_made)
{
    static const struct {
        const char *url, *part;
    } wrong[] = {
        {"sysvmq:", "a System V key"},
        {"sysvmq:0", "a System V key"},
        {"sysvmq:0x100000000", "from 1 to 4294967295"},
        {"sysvmq:jobs", "a System V key"},
        {"sysvmq:1234?id=5", "not both"},
        {"sysvmq:1234?type=0", "?type= a number from 1"},
        {"sysvmq:1234?type=-1", "?type= a number from 1"},
        {"sysvmq:1234?recv-type=x", "?recv-type= a number"},
        {"sysvmq:1234?recvtype=2", "option 'recvtype' means nothing"},
        {"sysvmq:1234?create=perhaps", "?create="},
    };
    struct naru_listener *l = NULL;
    struct naru_channel *ch = NULL;

    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        CHECK_INT(naru_listen(wrong[i].url, NULL, &l), -EINVAL);
        CHECK_CONTAINS(naru_explain(), wrong[i].part);
        CHECK_INT(naru_connect(wrong[i].url, NULL, NARU_FOREVER, &ch), -EINVAL);
    }
    CHECK(!queue_exists());
    ch = sender("?create=yes&unlink=yes");
    CHECK_INT(send_type(ch, "x", -5), -EINVAL);
    CHECK_CONTAINS(naru_explain(), "not -5");
    (void)naru_channel_close(ch);
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
    check_recv(ch, "at last", 1);
    test_join(pid);
    (void)naru_channel_close(ch);
    remove_queue();
}

TEST(a_queue_that_does_not_come_is_reported)
{
    struct naru_channel *ch = NULL;
    struct naru_listener *l = NULL;

    CHECK_INT(naru_connect("sysvmq:1234", NULL, NARU_MS(5), &ch), -ETIMEDOUT);
    CHECK_CONTAINS(naru_explain(), "?create=yes");
    CHECK_INT(naru_connect("sysvmq:1234", NULL, NARU_NOWAIT, &ch), -EAGAIN);
    CHECK_INT(naru_listen("sysvmq:1234?create=no", NULL, &l), -ENOENT);
    CHECK_CONTAINS(naru_explain(), "create=no");
    CHECK_INT(naru_remove("sysvmq:1234"), -ENOENT);
    CHECK_CONTAINS(naru_explain(), "ipcs -q");
    CHECK_INT(naru_connect("sysvmq:?id=12345", NULL, NARU_FOREVER, &ch), -ENOENT);
    CHECK_CONTAINS(naru_explain(), "no queue with this id");
}

TEST(a_queue_without_a_key_is_found_by_its_id)
{
    int id = msgget(IPC_PRIVATE, 0600);
    struct naru_channel *ch = NULL;
    struct plain m;

    CHECK_INT(naru_connect(test_format("sysvmq:?id=%d", id), NULL, NARU_NOWAIT, &ch), 0);
    CHECK_INT(naru_send(ch, "private", 7, NARU_NOWAIT), 0);
    CHECK_INT(msgrcv(id, &m, sizeof m.text, 0, IPC_NOWAIT), 7);
    (void)naru_channel_close(ch);
    CHECK_INT(naru_remove(test_format("sysvmq:?id=%d", id)), 0);
    CHECK_INT(naru_remove(test_format("sysvmq:?id=%d", id)), -ENOENT);
}

/* Fills the queue with messages of 1,000 bytes; how many. */
static int fill(struct naru_channel *ch)
{
    static const char bytes[1000];
    int count = 0, r;

    while ((r = naru_send(ch, bytes, sizeof bytes, NARU_NOWAIT)) == 0)
        count++;
    CHECK_INT(r, -EAGAIN);
    return count;
}

TEST(a_full_queue_makes_the_sender_wait)
{
    struct naru_channel *in = receiver(""), *out = sender("");
    char bytes[1000];
    int count = fill(out), pid;

    CHECK_INT(count, 16); /* kernel.msgmnb: 16,384 */
    CHECK_INT(naru_send(out, bytes, sizeof bytes, NARU_MS(5)), -ETIMEDOUT);
    pid = test_fork();
    if (pid == 0) {
        struct naru_channel *mine = sender("");

        (void)naru_channel_close(out);
        (void)naru_channel_close(in);
        CHECK_INT(naru_send(mine, "forever", 7, NARU_FOREVER), 0);
        memset(bytes, 1, sizeof bytes);
        CHECK_INT(naru_send(mine, bytes, sizeof bytes, patience), 0);
        (void)naru_channel_close(mine);
        test_child_end();
    }
    WAIT_UNTIL(sleeps(pid));
    for (int i = 0; i < count; i++)
        CHECK_INT(naru_recv(in, bytes, sizeof bytes, NARU_NOWAIT), 1000);
    check_recv(in, "forever", 1);
    CHECK_INT(naru_recv(in, bytes, sizeof bytes, patience), 1000);
    test_join(pid);
    (void)naru_channel_close(in);
    (void)naru_channel_close(out);
    remove_queue();
}

TEST(an_empty_queue_makes_the_receiver_wait)
{
    struct naru_channel *out = sender("?create=yes");
    char text[16];
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

TEST(an_interruption_ends_the_back_off)
{
    struct naru_options options = NARU_INIT(struct naru_options);
    struct naru_channel *ch = NULL;
    char byte;

    options.interruptible = 1;
    options.direction = NARU_DIRECTION_RECEIVE;
    CHECK_INT(naru_connect("sysvmq:1234?create=yes&unlink=yes", &options, NARU_NOWAIT, &ch), 0);
    CHECK_INT(naru_interrupt(ch), 0);
    CHECK_INT(naru_recv(ch, &byte, 1, NARU_FOREVER), -ECANCELED);
    CHECK_INT(naru_channel_fd(ch), -ENOTSUP);
    CHECK_CONTAINS(naru_explain(), "no descriptor");
    (void)naru_channel_close(ch);
}

TEST(a_queue_removed_underneath_is_reported_to_all)
{
    struct naru_channel *in = receiver(""), *out = sender("");
    char byte;
    int pid = test_fork();

    if (pid == 0) {
        struct naru_channel *mine = receiver("");

        CHECK_INT(naru_recv(mine, &byte, 1, NARU_FOREVER), -EIDRM);
        CHECK_CONTAINS(naru_explain(), "sysvmq:1234: the queue has been removed");
        (void)naru_channel_close(mine);
        (void)naru_channel_close(in);
        (void)naru_channel_close(out);
        test_child_end();
    }
    WAIT_UNTIL(sleeps(pid));
    CHECK_INT(naru_remove("sysvmq:1234"), 0);
    test_join(pid);
    CHECK_INT(naru_recv(in, &byte, 1, NARU_NOWAIT), -EIDRM);
    CHECK_INT(naru_send(out, "x", 1, patience), -EIDRM);
    CHECK_CONTAINS(naru_explain(), "open it anew");
    CHECK_INT(naru_flush(out, NARU_TAKEN, NARU_NOWAIT), -EIDRM);
    /* A queue made since under the same key is another one. */
    CHECK(plain_queue(IPC_CREAT | 0600) >= 0);
    CHECK_INT(naru_recv(in, &byte, 1, NARU_NOWAIT), -EIDRM);
    (void)naru_channel_close(in);
    (void)naru_channel_close(out);
    remove_queue();
}

TEST(unlink_removes_only_the_queue_that_was_listened_on)
{
    struct naru_listener *l = listen_on("?unlink=yes");

    remove_queue();
    CHECK(plain_queue(IPC_CREAT | 0600) >= 0);
    (void)naru_listener_close(l);
    CHECK(queue_exists());
    l = listen_on("");
    (void)naru_listener_close(l);
    CHECK(queue_exists());
    l = listen_on("?unlink=yes");
    (void)naru_listener_close(l);
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
    (void)naru_channel_close(ch);
    (void)naru_listener_close(l);
    CHECK(!queue_exists());
}

TEST(a_message_that_does_not_fit_is_kept_with_its_type)
{
    struct naru_channel *in = receiver(""), *out = sender("?type=6");
    char small[4];

    CHECK_INT(naru_send(out, "too long for that", 17, NARU_NOWAIT), 0);
    CHECK_INT(naru_recv(in, small, sizeof small, NARU_NOWAIT), -EMSGSIZE);
    CHECK_CONTAINS(naru_explain(), "the next message has 17 bytes and the buffer only 4");
    check_recv(in, "too long for that", 6);
    (void)naru_channel_close(in);
    (void)naru_channel_close(out);
    remove_queue();
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

TEST(several_readers_share_the_messages)
{
    enum { READERS = 3, MESSAGES = 60 };
    int pids[READERS], counts[2], total = 0;

    CHECK_INT(pipe(counts), 0);
    struct naru_channel *out = sender("?create=yes&unlink=yes");
    for (int i = 0; i < READERS; i++) {
        pids[i] = test_fork();
        if (pids[i] == 0) {
            struct naru_channel *in = receiver("");
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

TEST(messages_outlive_every_process)
{
    int pid = test_fork();

    if (pid == 0) {
        struct naru_channel *out = sender("?create=yes");

        CHECK_INT(naru_send(out, "my last words", 13, NARU_NOWAIT), 0);
        test_child_end(); /* without closing */
    }
    test_join(pid);
    struct naru_channel *in = receiver("");
    check_recv(in, "my last words", 1);
    (void)naru_channel_close(in);
    remove_queue();
}

/* --- limits: in an IPC namespace of this test's own, so that the machine's stay as they are --- */

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

/* --- somebody else --- */

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

TEST(another_user_is_kept_out_and_told_so)
{
    need_root();
    struct naru_listener *l = listen_on("");
    int pid = fork_as_nobody();

    if (pid == 0) {
        struct naru_channel *ch = NULL;
        struct naru_listener *mine = NULL;

        CHECK_INT(naru_connect("sysvmq:1234", NULL, patience, &ch), -EACCES);
        CHECK_CONTAINS(naru_explain(), "permission denied");
        CHECK_CONTAINS(naru_explain(), "?mode=0666");
        CHECK_INT(naru_listen("sysvmq:1234", NULL, &mine), -EACCES);
        CHECK_INT(naru_remove("sysvmq:1234"), -EPERM);
        CHECK_CONTAINS(naru_explain(), "owner");
        (void)naru_listener_close(l);
        test_child_end();
    }
    test_join(pid);
    (void)naru_listener_close(l);
    remove_queue();
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
        CHECK_INT(naru_flush(out, NARU_TAKEN, NARU_NOWAIT), -EACCES);
        CHECK_CONTAINS(naru_explain(), "mode does not permit it");
        CHECK_INT(naru_listen("sysvmq:1234", NULL, &mine), -EACCES);
        (void)naru_channel_close(out);
        (void)naru_channel_close(in);
        test_child_end();
    }
    test_join(pid);
    check_recv(in, "may I?", 1);
    (void)naru_channel_close(in);
    remove_queue();
}

TEST(only_root_makes_a_queue_above_msgmnb)
{
    need_root();
    int pid = fork_as_nobody();

    if (pid == 0) {
        struct naru_listener *l = NULL;

        CHECK_INT(naru_listen("sysvmq:1234?buffer=1M", NULL, &l), -EPERM);
        CHECK_CONTAINS(naru_explain(), "sysctl kernel.msgmnb=1048576");
        CHECK(!queue_exists()); /* what it made it has removed */
        test_child_end();
    }
    test_join(pid);
}

/* --- threads --- */

static void *echo(void *argument)
{
    struct naru_channel *ch = argument;
    char text[16];

    for (int i = 0; i < 500; i++)
        CHECK_INT(naru_recv(ch, text, sizeof text, patience), 5);
    return NULL;
}

TEST(one_thread_sends_while_another_receives)
{
    struct naru_channel *ch = sender("?create=yes&unlink=yes&type=4&recv-type=4");
    pthread_t thread;

    CHECK_INT(pthread_create(&thread, NULL, echo, ch), 0);
    for (int i = 0; i < 500; i++)
        CHECK_INT(naru_send(ch, "hello", 5, patience), 0);
    CHECK_INT(pthread_join(thread, NULL), 0);
    (void)naru_channel_close(ch);
}
