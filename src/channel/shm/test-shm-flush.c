/* SPDX-License-Identifier: MIT */
/*
 * How far the receiver is, as naru_flush() tells it over shared memory: taken when it has been received, also
 * into a view; done when every view has been given back, of the ring and of the pool, in any order; and what
 * it says of a receiver that is gone.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "naru/naru.h"
#include "runner.h"

enum { VIEWS = 5, SMALL = 100, LARGE = 3000 }; /* more than half of a ring of 4 KiB: goes by the pool */

static void open_pair(const char *url, struct naru_channel *ch[2])
{
    CHECK_INT(naru_channel_pair(url, NULL, ch), 0);
}

static void close_pair(struct naru_channel *ch[2])
{
    for (int i = 0; i < 2; i++)
        ch[i] = naru_channel_close(ch[i]);
}

static void send_bytes(struct naru_channel *ch, size_t length)
{
    static const char bytes[LARGE];

    CHECK_INT(naru_send(ch, bytes, length, NARU_NOWAIT), 0);
}

static void borrow(struct naru_channel *ch, struct naru_view *ret_view)
{
    *ret_view = (struct naru_view)NARU_INIT(struct naru_view);
    CHECK_INT(naru_borrow(ch, NARU_NOWAIT, ret_view), 0);
}

static const size_t sizes[] = {SMALL, LARGE};

static const char *each_size(size_t index)
{
    return index < 2 ? test_format("%zu bytes", sizes[index]) : NULL;
}

TEST_EACH(all_views_are_given_back_in_any_order_before_it_is_done, each_size)
{
    for (int round = 0; round < 50; round++) {
        struct naru_view views[VIEWS];
        struct naru_channel *ch[2];

        open_pair("shm:?ring=4k&pool=64k", ch);
        for (int i = 0; i < VIEWS; i++)
            send_bytes(ch[0], sizes[index]);
        for (int i = 0; i < VIEWS; i++) {
            CHECK_INT(naru_flush(ch[0], NARU_TAKEN, NARU_NOWAIT), -EAGAIN);
            borrow(ch[1], &views[i]);
        }
        CHECK_INT(naru_flush(ch[0], NARU_TAKEN, NARU_NOWAIT), 0);
        for (int left = VIEWS; left > 0; left--) {
            int i = (int)(test_random() % (unsigned)left);

            CHECK_INT(naru_flush(ch[0], NARU_DONE, NARU_NOWAIT), -EAGAIN);
            naru_release(&views[i]);
            views[i] = views[left - 1];
        }
        CHECK_INT(naru_flush(ch[0], NARU_DONE, NARU_NOWAIT), 0);
        close_pair(ch);
    }
}

/* A copy that is received while a view is held, and after. */
TEST(what_is_copied_is_done_at_once_and_a_view_before_it_is_not)
{
    struct naru_channel *ch[2];
    struct naru_view view;
    char buffer[LARGE];

    open_pair("shm:?ring=4k&pool=64k", ch);
    send_bytes(ch[0], SMALL);
    send_bytes(ch[0], LARGE);
    borrow(ch[1], &view);
    CHECK_INT(naru_flush(ch[0], NARU_TAKEN, NARU_NOWAIT), -EAGAIN);
    CHECK_INT(naru_recv(ch[1], buffer, sizeof buffer, NARU_NOWAIT), LARGE);
    CHECK_INT(naru_flush(ch[0], NARU_TAKEN, NARU_NOWAIT), 0);
    CHECK_INT(naru_flush(ch[0], NARU_DONE, NARU_NOWAIT), -EAGAIN);
    naru_release(&view);
    CHECK_INT(naru_flush(ch[0], NARU_DONE, NARU_NOWAIT), 0);
    send_bytes(ch[0], SMALL);
    CHECK_INT(naru_flush(ch[0], NARU_TAKEN, NARU_NOWAIT), -EAGAIN); /* what was received once is not this */
    CHECK_INT(naru_recv(ch[1], buffer, sizeof buffer, NARU_NOWAIT), SMALL);
    CHECK_INT(naru_flush(ch[0], NARU_DONE, NARU_NOWAIT), 0);
    close_pair(ch);
}

static void *take_slowly(void *end)
{
    for (int i = 0; i < 300; i++) {
        struct naru_view view = NARU_INIT(struct naru_view);

        CHECK_INT(naru_borrow(end, NARU_FOREVER, &view), 0);
        CHECK_INT(view.length, sizes[i % 2]);
        naru_release(&view);
    }
    return NULL;
}

static const char *const urls[] = {"shm:?ring=4k&pool=64k", "shm:?ring=4k&pool=64k&wait=sleep",
                                   "shm:?ring=4k&pool=64k&wait=spin"};

static const char *each_url(size_t index)
{
    return index < sizeof urls / sizeof *urls ? urls[index] : NULL;
}

/* Without a limit: a wake-up that were lost would be a test that never ends. */
TEST_EACH(who_waits_for_a_stage_is_woken, each_url)
{
    struct naru_channel *ch[2];
    pthread_t thread;

    open_pair(urls[index], ch);
    CHECK_INT(pthread_create(&thread, NULL, take_slowly, ch[1]), 0);
    for (int i = 0; i < 300; i++) {
        send_bytes(ch[0], sizes[i % 2]);
        CHECK_INT(naru_flush(ch[0], i % 3 ? NARU_DONE : NARU_TAKEN, NARU_FOREVER), 0);
    }
    CHECK_INT(pthread_join(thread, NULL), 0);
    close_pair(ch);
}

TEST_EACH(who_closes_with_a_view_has_taken_it_and_is_never_done, each_size)
{
    struct naru_channel *ch[2];
    struct naru_view view;

    open_pair("shm:?ring=4k&pool=64k", ch);
    send_bytes(ch[0], sizes[index]);
    borrow(ch[1], &view);
    ch[1] = naru_channel_close(ch[1]);
    CHECK_INT(naru_flush(ch[0], NARU_TAKEN, NARU_FOREVER), 0);
    CHECK_INT(naru_flush(ch[0], NARU_DONE, NARU_FOREVER), -EPIPE);
    naru_release(&view);
    CHECK_INT(naru_flush(ch[0], NARU_DONE, NARU_FOREVER), -EPIPE);
    close_pair(ch);
}

TEST(a_wait_for_a_stage_ends_with_the_receiver)
{
    struct naru_channel *ch[2];
    int pid, status;

    open_pair("shm:?ring=4k", ch);
    pid = test_fork();
    if (pid == 0) {
        struct naru_view view;

        ch[0] = naru_channel_close(ch[0]);
        view = (struct naru_view)NARU_INIT(struct naru_view);
        CHECK_INT(naru_borrow(ch[1], NARU_FOREVER, &view), 0);
        CHECK_INT(kill(getpid(), SIGKILL), 0);
    }
    ch[1] = naru_channel_close(ch[1]);
    send_bytes(ch[0], SMALL);
    CHECK_INT(naru_flush(ch[0], NARU_DONE, NARU_FOREVER), -EPIPE); /* of a pair: nobody knows who it was */
    CHECK_INT(naru_flush(ch[0], NARU_TAKEN, NARU_FOREVER), 0);
    CHECK(waitpid(pid, &status, 0) == pid && WIFSIGNALED(status));
    close_pair(ch);
}

TEST(a_wait_for_a_stage_is_interrupted)
{
    struct naru_options options = NARU_INIT(struct naru_options);
    struct naru_channel *ch[2];

    options.interruptible = 1;
    CHECK_INT(naru_channel_pair("shm:", &options, ch), 0);
    send_bytes(ch[0], SMALL);
    CHECK_INT(naru_interrupt(ch[0]), 0);
    CHECK_INT(naru_flush(ch[0], NARU_DONE, NARU_FOREVER), -ECANCELED);
    close_pair(ch);
}

/* --- why it takes so long --- */

/* Sends until there is no room; how many went. */
static int fill(struct naru_channel *ch, size_t length)
{
    static const char bytes[LARGE];
    int sent = 0, r;

    while ((r = naru_send(ch, bytes, length, NARU_MS(1))) == 0)
        sent++;
    CHECK_INT(r, -ETIMEDOUT);
    return sent;
}

TEST_EACH(a_sender_who_waits_in_vain_hears_whether_the_receiver_is_slow_or_holds_what_it_has, each_size)
{
    struct naru_loan loan = NARU_INIT(struct naru_loan);
    struct naru_view views[128];
    struct naru_channel *ch[2];
    int sent;

    open_pair("shm:?ring=4k&pool=64k", ch);
    sent = fill(ch[0], sizes[index]);
    CHECK(sent > 1 && sent < 128);
    CHECK_CONTAINS(naru_explain(), "bytes of the ring wait to be received");
    CHECK_CONTAINS(naru_explain(), "the receiver is too slow, or stopped");
    for (int i = 0; i < sent; i++)
        borrow(ch[1], &views[i]);
    CHECK_INT(fill(ch[0], sizes[index]), 0);
    CHECK_CONTAINS(naru_explain(),
                   "the time was up before there was room: the receiver has received everything");
    CHECK_CONTAINS(naru_explain(), index == 0
                                       ? test_format("holds %d bytes of the ring that", sent * (SMALL + 12))
                                       : test_format("holds %d messages of the pool that", sent));
    CHECK_INT(naru_loan(ch[0], sizes[index], NARU_MS(1), &loan), -ETIMEDOUT);
    CHECK_CONTAINS(naru_explain(), "has not released (naru_release())");
    CHECK_INT(naru_flush(ch[0], NARU_DONE, NARU_MS(1)), -ETIMEDOUT);
    CHECK_CONTAINS(naru_explain(), "the time was up: the receiver has received everything, and holds");
    for (int i = 0; i < sent; i++)
        naru_release(&views[i]);
    CHECK_INT(fill(ch[0], sizes[index]), sent);
    close_pair(ch);
}

TEST_EACH(a_receiver_who_waits_in_vain_hears_what_it_holds, each_size)
{
    struct naru_view views[128];
    struct naru_channel *ch[2];
    char byte;
    int sent;

    open_pair("shm:?ring=4k&pool=64k", ch);
    CHECK_INT(naru_recv(ch[1], &byte, 1, NARU_MS(1)), -ETIMEDOUT);
    CHECK_STR(naru_explain(), "the time was up before it could be done");
    sent = fill(ch[0], sizes[index]);
    CHECK(sent > 1 && sent < 127);
    for (int i = 0; i < sent; i++)
        borrow(ch[1], &views[i]);
    CHECK_INT(naru_recv(ch[1], &byte, 1, NARU_MS(1)), -ETIMEDOUT);
    CHECK_CONTAINS(naru_explain(), test_format("%d that were borrowed are not released", sent));
    CHECK_CONTAINS(naru_explain(), index == 0 ? test_format("keep %d of 4096 bytes", sent * (SMALL + 12))
                                              : "keep 0 of 4096 bytes");
    views[sent] = (struct naru_view)NARU_INIT(struct naru_view);
    CHECK_INT(naru_borrow(ch[1], NARU_MS(1), &views[sent]), -ETIMEDOUT);
    CHECK_CONTAINS(naru_explain(), "naru_release()");
    for (int i = 0; i < sent; i++)
        naru_release(&views[i]);
    close_pair(ch);
}

TEST(a_sender_who_waits_in_vain_hears_of_messages_that_wait_behind_others_that_are_held)
{
    struct naru_channel *ch[2];
    struct naru_view view;

    open_pair("shm:?ring=4k&pool=64k", ch);
    send_bytes(ch[0], SMALL);
    send_bytes(ch[0], LARGE);
    borrow(ch[1], &view);
    (void)fill(ch[0], SMALL);
    CHECK_CONTAINS(naru_explain(), "bytes of the ring wait to be received, and ");
    CHECK_CONTAINS(naru_explain(), "bytes of the ring and 1 message of the pool to be released");
    CHECK_CONTAINS(naru_explain(), "or holds what it has borrowed");
    naru_release(&view);
    close_pair(ch);
}
