/* SPDX-License-Identifier: MIT */
/* sysvmq: against programs that know only msgget, msgsnd and msgrcv, and against itself. */
#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/msg.h>

#include "channel/test-queue.h"

enum { KEY = 1234 };

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

static bool queue_exists(void)
{
    return msgget(KEY, 0) >= 0;
}

static void remove_queue(void)
{
    queue_remove(&sysvmq_kind);
}

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

static void check_recv(struct naru_channel *ch, const char *expected, int64_t type)
{
    queue_check(ch, expected, type, 0, 255);
}

static int send_type(struct naru_channel *ch, const char *text, int64_t type)
{
    return queue_send(ch, text, type, 0);
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

TEST(a_queue_without_a_key_is_found_by_its_id)
{
    int id = msgget(IPC_PRIVATE, 0600);
    struct naru_channel *ch = NULL;
    struct plain m;

    CHECK_INT(naru_connect("sysvmq:?id=12345", NULL, NARU_FOREVER, &ch), -ENOENT);
    CHECK_CONTAINS(naru_explain(), "no queue with this id");
    CHECK_INT(naru_connect(test_format("sysvmq:?id=%d", id), NULL, NARU_NOWAIT, &ch), 0);
    CHECK_INT(naru_send(ch, "private", 7, NARU_NOWAIT), 0);
    CHECK_INT(msgrcv(id, &m, sizeof m.text, 0, IPC_NOWAIT), 7);
    (void)naru_channel_close(ch);
    CHECK_INT(naru_remove(test_format("sysvmq:?id=%d", id)), 0);
    CHECK_INT(naru_remove(test_format("sysvmq:?id=%d", id)), -ENOENT);
    CHECK_CONTAINS(naru_explain(), "ipcs -q");
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
    test_wait_asleep(pid);
    for (int i = 0; i < count; i++)
        CHECK_INT(naru_recv(in, bytes, sizeof bytes, NARU_NOWAIT), 1000);
    check_recv(in, "forever", 1);
    CHECK_INT(naru_recv(in, bytes, sizeof bytes, patience), 1000);
    test_join(pid);
    (void)naru_channel_close(in);
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
    struct test_gate opened;
    char byte;
    int pid;

    test_gate_init(&opened);
    pid = test_fork();
    if (pid == 0) {
        struct naru_channel *mine = receiver("");

        test_gate_open(&opened);
        CHECK_INT(naru_recv(mine, &byte, 1, NARU_FOREVER), -EIDRM);
        CHECK_CONTAINS(naru_explain(), "sysvmq:1234: the queue has been removed");
        (void)naru_channel_close(mine);
        (void)naru_channel_close(in);
        (void)naru_channel_close(out);
        test_child_end();
    }
    test_gate_wait(&opened);
    test_wait_asleep(pid);
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
