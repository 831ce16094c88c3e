/* SPDX-License-Identifier: MIT */
/*
 * Shared memory while both sides are busy: no system call is made, by a sender that finds room or a receiver
 * that finds a message, and a thread that sends and one that receives share a channel.
 */
#include <errno.h>
#include <pthread.h>
#include <string.h>

#include "naru/naru.h"
#include "runner-syscalls.h"
#include "runner.h"

static void open_pair(const char *url, struct naru_channel *ch[2])
{
    CHECK_INT(naru_channel_pair(url, NULL, ch), 0);
    for (int i = 0; i < 2; i++)
        CHECK_INT(naru_channel_adopt(ch[i]), 0);
}

/* --- no system calls --- */

static char buffer[4000];

static void bytes(struct naru_channel *from, struct naru_channel *to, size_t length, int64_t timeout)
{
    CHECK_INT(naru_send(from, buffer, length, timeout), 0);
    CHECK_INT(naru_recv(to, buffer, sizeof buffer, timeout), length);
}

static void messages(struct naru_channel *from, struct naru_channel *to, size_t length, int64_t timeout)
{
    struct iovec pieces[2] = {{buffer, length / 2}, {buffer, length - length / 2}};
    struct naru_message m = NARU_INIT(struct naru_message);

    m.iov = pieces;
    m.iov_count = 2;
    CHECK_INT(naru_send_message(from, &m, timeout), 0);
    pieces[1].iov_len = sizeof buffer;
    CHECK_INT(naru_recv_message(to, &m, timeout), 0);
    CHECK_INT(m.length, length);
}

static void batches(struct naru_channel *from, struct naru_channel *to, size_t length, int64_t timeout)
{
    struct iovec iov = {buffer, length};
    struct naru_message m[3];

    for (int i = 0; i < 3; i++)
        m[i] = (struct naru_message){.size = sizeof m[i], .iov = &iov, .iov_count = 1};
    CHECK_INT(naru_send_batch(from, m, 3, timeout), 3);
    for (int i = 0; i < 3; i++)
        CHECK_INT(naru_recv(to, buffer, sizeof buffer, timeout), length);
}

static void loans(struct naru_channel *from, struct naru_channel *to, size_t length, int64_t timeout)
{
    struct naru_loan loan = NARU_INIT(struct naru_loan);
    struct naru_view view = NARU_INIT(struct naru_view);

    CHECK_INT(naru_loan(from, length, timeout, &loan), 0);
    CHECK_INT(naru_commit(&loan, length, NULL), 0);
    CHECK_INT(naru_borrow(to, timeout, &view), 0);
    CHECK_INT(view.length, length);
    naru_release(&view);
}

static const struct {
    const char *name;
    void (*run)(struct naru_channel *, struct naru_channel *, size_t, int64_t);
} ways[] = {{"send and recv", bytes}, {"messages", messages}, {"batches", batches}, {"loans", loans}};

static const char *each_way(size_t index)
{
    return index < sizeof ways / sizeof *ways ? ways[index].name : NULL;
}

/* Both ends in one process, so that it is not for the scheduler to say who waits; each message goes many
 * times around the ring. A system call kills the child. */
TEST_EACH(no_system_call_is_made_while_both_sides_are_busy, each_way)
{
    static const char *const urls[] = {"shm:?ring=16k", "shm:?wait=sleep", "shm:?wait=spin"};

#if defined(__SANITIZE_THREAD__)
    test_skip("ThreadSanitizer itself calls the kernel now and then");
#endif
    for (size_t u = 0; u < sizeof urls / sizeof *urls; u++) {
        struct naru_channel *ch[2];
        int pid;

        open_pair(urls[u], ch);
        pid = test_fork();
        if (pid == 0) {
            struct naru_channel *own[2];

            open_pair(urls[u], own);
            ways[index].run(own[0], own[1], 100, NARU_FOREVER); /* what is set up once */
            test_forbid_calls();
            for (size_t i = 0; i < 20000; i++)
                ways[index].run(own[i % 2], own[!(i % 2)], i % 1000,
                                i % 3 == 0   ? NARU_FOREVER
                                : i % 3 == 1 ? NARU_S(10)
                                             : NARU_NOWAIT);
            test_end_without_calls();
        }
        test_join(pid);
        for (int i = 0; i < 2; i++)
            ch[i] = naru_channel_close(ch[i]);
    }
}

/* --- batches --- */

enum { BATCHES = 3000, BATCH = 7 };

static void *send_batches(void *end)
{
    for (uint64_t i = 0; i < BATCHES; i++) {
        uint64_t words[BATCH][20];
        struct naru_message m[BATCH];
        struct iovec pieces[BATCH];

        for (uint64_t j = 0; j < BATCH; j++) {
            words[j][0] = i * BATCH + j;
            pieces[j] = (struct iovec){words[j], 8 * (1 + (i + j) % 20)};
            m[j] = (struct naru_message){.size = sizeof m[j], .iov = &pieces[j], .iov_count = 1};
        }
        CHECK_INT(naru_send_batch(end, m, BATCH, NARU_FOREVER), BATCH);
        while (naru_flush(end, NARU_TAKEN, NARU_NOWAIT) == -EAGAIN) /* so that there is room for the next */
            ;
    }
    return NULL;
}

/* Whoever has received the first of a batch finds the others without waiting. */
TEST(a_batch_becomes_visible_at_once)
{
    struct naru_channel *ch[2];
    pthread_t thread;

    open_pair("shm:?ring=4k", ch);
    CHECK_INT(pthread_create(&thread, NULL, send_batches, ch[0]), 0);
    for (uint64_t i = 0; i < BATCHES * BATCH; i++) {
        uint64_t words[20];

        CHECK_INT(naru_recv(ch[1], words, sizeof words, i % BATCH ? NARU_NOWAIT : NARU_FOREVER),
                  8 * (1 + (i / BATCH + i % BATCH) % 20));
        CHECK_INT(words[0], i);
    }
    CHECK_INT(pthread_join(thread, NULL), 0);
    for (int i = 0; i < 2; i++)
        ch[i] = naru_channel_close(ch[i]);
}

/* --- two threads on each channel --- */

enum { THREADED = 20000 };

struct duplex {
    struct naru_channel *ch;
    int64_t timeout;
};

static void *send_all(void *argument)
{
    const struct duplex *d = argument;

    for (uint64_t i = 0; i < THREADED; i++) {
        uint64_t words[40] = {i};
        int r;

        do
            r = naru_send(d->ch, words, 8 * (1 + i % 40), d->timeout);
        while (r == -ETIMEDOUT || r == -EAGAIN);
        CHECK_INT(r, 0);
    }
    CHECK_INT(naru_channel_finish(d->ch), 0);
    return NULL;
}

static void *receive_all(void *argument)
{
    const struct duplex *d = argument;
    uint64_t words[40];
    long long r;

    for (uint64_t i = 0; i < THREADED; i++) {
        do
            r = naru_recv(d->ch, words, sizeof words, d->timeout);
        while (r == -ETIMEDOUT || r == -EAGAIN);
        CHECK_INT(r, 8 * (1 + i % 40));
        CHECK_INT(words[0], i);
    }
    do
        r = naru_recv(d->ch, words, sizeof words, d->timeout);
    while (r == -ETIMEDOUT || r == -EAGAIN);
    CHECK_INT(r, -EPIPE);
    return NULL;
}

static const struct {
    const char *url;
    int64_t timeout;
    int interruptible;
} threaded[] = {{"shm:?ring=4k", NARU_FOREVER, 0},
                {"shm:?ring=4k&wait=sleep", NARU_FOREVER, 0},
                {"shm:?ring=4k&wait=sleep", NARU_US(50), 0},
                {"shm:?ring=4k&wait=spin", NARU_US(50), 1},
                {"shm:?ring=4k", NARU_FOREVER, 1}};

static const char *each_threaded(size_t index)
{
    return index < sizeof threaded / sizeof *threaded ? test_format("%s, %d", threaded[index].url, (int)index)
                                                      : NULL;
}

TEST_EACH(a_thread_that_sends_and_one_that_receives_share_a_channel, each_threaded)
{
    struct naru_options options = NARU_INIT(struct naru_options);
    struct naru_channel *ch[2];
    struct duplex duplex[2];
    pthread_t threads[4];

    options.interruptible = threaded[index].interruptible;
    CHECK_INT(naru_channel_pair(threaded[index].url, &options, ch), 0);
    for (int i = 0; i < 2; i++) {
        duplex[i] = (struct duplex){ch[i], threaded[index].timeout};
        CHECK_INT(pthread_create(&threads[2 * i], NULL, send_all, &duplex[i]), 0);
        CHECK_INT(pthread_create(&threads[2 * i + 1], NULL, receive_all, &duplex[i]), 0);
    }
    for (int i = 0; i < 4; i++)
        CHECK_INT(pthread_join(threads[i], NULL), 0);
    for (int i = 0; i < 2; i++)
        ch[i] = naru_channel_close(ch[i]);
}
