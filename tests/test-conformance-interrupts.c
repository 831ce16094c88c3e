/* SPDX-License-Identifier: MIT */
/* Conformance of every mechanism: waits under storms of signals, and naru_interrupt(). */
#include "mechanism.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/time.h>

/* --- EINTR --- */

static volatile sig_atomic_t storm_hits;

static void storm_handler(int sig)
{
    (void)sig;
    storm_hits++;
}

/* A signal every 300 us, whose handler does or does not ask for SA_RESTART. */
static void storm_begin(int flags)
{
    const struct itimerval often = {{0, 300}, {0, 300}};
    struct sigaction action = {.sa_handler = storm_handler, .sa_flags = flags};

    CHECK(sigaction(SIGALRM, &action, NULL) == 0);
    CHECK(setitimer(ITIMER_REAL, &often, NULL) == 0);
}

static void storm_end(void)
{
    const struct itimerval never = {{0, 0}, {0, 0}};

    CHECK(setitimer(ITIMER_REAL, &never, NULL) == 0);
}

/* Waits that the storm's signals hit: nothing comes before the time is up. */
static void expire_in_storm(struct naru_channel *ch, char *buffer, size_t size)
{
    int64_t start = now_ns();

    storm_hits = 0;
    CHECK_INT(naru_recv(ch, buffer, size, NARU_MS(25)), -ETIMEDOUT);
    CHECK(now_ns() - start >= NARU_MS(25));
    CHECK(storm_hits > 0);
}

/* Now and then one side waits until the other has slept through some of the storm. */
static void dawdle(uint64_t number)
{
    sig_atomic_t before = storm_hits;

    if (number % 50 == 7)
        WAIT_UNTIL(storm_hits - before >= 3);
}

/* In the child of a process that may have had a keeper's thread: there ThreadSanitizer keeps signals back for
 * good (ForkChildAfter() of compiler-rt: it ignores its interceptors, which would deliver them). */
static void send_in_storm(const struct link *link, struct naru_channel *ch, uint64_t number, int64_t timeout)
{
    uint8_t buffer[MESSAGE_MAX];
    size_t size = message_size(link, number);

#ifndef __SANITIZE_THREAD__
    dawdle(number);
#endif
    message_make(link, number, buffer, size);
    CHECK_OK(naru_send(ch, buffer, size, timeout));
}

static void receive_in_storm(const struct link *link, struct naru_channel *ch, uint64_t number,
                             int64_t timeout)
{
    uint8_t buffer[MESSAGE_MAX];

    dawdle(number + 20);
    message_check(__FILE__, __LINE__, link, number, buffer, naru_recv(ch, buffer, sizeof buffer, timeout));
}

TEST_EACH(storms_of_signals_break_nothing, each_variant)
{
    static const int flags[] = {0, SA_RESTART, 0};
    static const int64_t timeouts[] = {NARU_FOREVER, NARU_FOREVER, NARU_S(WAIT_LONG_S)};
    enum { MANY = 400, ROUNDS = 3 };
    struct naru_channel *ch;
    struct test_gate acknowledged;
    struct link link;
    char buffer[64];
    uint64_t window;
    int pid;

    link_open(&link, index, NULL);
    window = link_window(&link);
    test_gate_init(&acknowledged);
    pid = test_fork();
    if (pid == 0) {
        ch = link_far(&link);
        for (int round = 0; round < ROUNDS; round++) {
            test_gate_wait(&acknowledged);
            storm_begin(flags[round]);
            for (uint64_t i = 0; i < MANY; i++) {
                send_in_storm(&link, ch, i, timeouts[round]);
                if (i % window == window - 1)
                    test_gate_wait(&acknowledged);
            }
            storm_end();
        }
        test_gate_wait(&acknowledged);
        naru_channel_close(ch);
        test_child_end();
    }
    ch = link_near(&link);
    for (int round = 0; round < ROUNDS; round++) {
        storm_begin(flags[round]);
        expire_in_storm(ch, buffer, sizeof buffer);
        test_gate_open(&acknowledged);
        for (uint64_t i = 0; i < MANY; i++) {
            receive_in_storm(&link, ch, i, timeouts[round]);
            if (i % window == window - 1)
                test_gate_open(&acknowledged);
        }
        storm_end();
    }
    test_gate_open(&acknowledged);
    test_join(pid);
    naru_channel_close(ch);
    link_close(&link);
}

TEST_EACH(a_storm_does_not_lengthen_a_wait_for_room, each_variant)
{
    struct naru_channel *far, *near;
    struct link link;
    uint64_t accepted;

    link_open(&link, index, NULL);
    link_both(&link, &far, &near);
    if (link_can(&link, NARU_CAN_PUSH_BACK)) {
        storm_begin(0);
        accepted = fill_patiently(&link, far);
        storm_end();
        CHECK(storm_hits > 0);
        drain(&link, far, near, 0, accepted);
    }
    naru_channel_close(far);
    naru_channel_close(near);
    link_close(&link);
}

/* --- naru_interrupt() --- */

enum { LARGEST = 12 }; /* the number of a message of MESSAGE_MAX bytes: what is full is full for it */

struct waiter {
    struct naru_channel *ch;
    const struct link *link;
    bool sends;
    _Atomic int tid;
    _Atomic int result;
    _Atomic bool done;
};

static void *wait_in_thread(void *argument)
{
    struct waiter *waiter = argument;
    uint8_t buffer[MESSAGE_MAX];
    size_t size = message_size(waiter->link, LARGEST);

    message_make(waiter->link, LARGEST, buffer, size);
    waiter->tid = (int)syscall(SYS_gettid);
    waiter->result = waiter->sends ? naru_send(waiter->ch, buffer, size, NARU_FOREVER)
                                   : (int)naru_recv(waiter->ch, buffer, sizeof buffer, NARU_FOREVER);
    waiter->done = true;
    return NULL;
}

/* Interrupts a call once it sleeps. What the call returned. */
static int interrupt_once(const struct link *link, struct naru_channel *ch, bool sends)
{
    struct waiter waiter = {.ch = ch, .link = link, .sends = sends};
    pthread_t thread;

    CHECK_INT(pthread_create(&thread, NULL, wait_in_thread, &waiter), 0);
    WAIT_UNTIL(waiter.tid != 0);
    WAIT_UNTIL(waiter.done || test_is_thread_asleep(waiter.tid));
    errno = 77;
    CHECK_OK(naru_interrupt(ch));
    CHECK_INT(errno, 77);
    CHECK_INT(pthread_join(thread, NULL), 0);
    return waiter.result;
}

static void interrupt_receiver(const struct link *link, struct naru_channel *ch)
{
    CHECK_INT(interrupt_once(link, ch, false), -ECANCELED);
}

/* How many messages the sender got rid of before it was interrupted: the kernel may find room after all, and
 * what a stream has begun counts as sent. */
static uint64_t interrupt_sender(const struct link *link, struct naru_channel *ch)
{
    uint64_t sent = 0;
    int r;

    while ((r = interrupt_once(link, ch, true)) == 0)
        sent++;
    if (r == -EINPROGRESS)
        return sent + 1;
    CHECK_INT(r, -ECANCELED);
    return sent;
}

TEST_EACH(an_interrupt_ends_a_wait, each_variant)
{
    struct naru_options options = NARU_INIT(struct naru_options);
    struct naru_channel *far, *near;
    struct link link;
    char buffer[64];

    options.interruptible = 1;
    link_open(&link, index, &options);
    link_both(&link, &far, &near);
    interrupt_receiver(&link, near);
    CHECK_OK(naru_interrupt(near)); /* before the wait: the next that would wait ends */
    PUT(&link, far, 1);
    TAKE(&link, near, 1); /* this one does not have to wait */
    CHECK_INT(naru_recv(near, buffer, sizeof buffer, NARU_FOREVER), -ECANCELED);
    PUT(&link, far, 2);
    TAKE(&link, near, 2);
    if (link_can(&link, NARU_CAN_PUSH_BACK)) {
        uint64_t accepted = fill_patiently(&link, far);
        uint64_t more = interrupt_sender(&link, far);

        drain(&link, far, near, 0, accepted);
        for (; more > 0; more--)
            drain(&link, far, near, LARGEST, LARGEST + 1);
        CHECK_INT(naru_recv(near, buffer, sizeof buffer, NARU_NOWAIT), -EAGAIN);
    }
    naru_channel_close(far);
    naru_channel_close(near);
    link_close(&link);
}

TEST_EACH(interrupting_is_refused_where_it_was_not_asked_for, each_variant)
{
    struct naru_channel *far, *near;
    struct link link;

    link_open(&link, index, NULL);
    link_both(&link, &far, &near);
    CHECK_INT(naru_interrupt(near), -ENOTSUP);
    naru_channel_close(far);
    naru_channel_close(near);
    link_close(&link);
}
