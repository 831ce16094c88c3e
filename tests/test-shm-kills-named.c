/* SPDX-License-Identifier: MIT */
/*
 * One side of shm://name, shm+posix: or shm+sysv: is killed at every point between its first system call and
 * its last: while it meets the other, too. The other is told (-EOWNERDEAD, or -EPIPE if the end had been
 * said), gets what was sent, and the name serves whoever comes next.
 */
#include "killpoints-shm.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "channel/shm/shm.h"
#include "naru/error.h"
#include "runner.h"
#include "shm/bell.h"

static const char *const urls[] = {"shm://killed?ring=4k&wait=sleep&service=manual",
                                   "shm://killed?ring=4k&wait=sleep", "shm+posix:/killed?ring=4k&wait=sleep",
                                   "shm+sysv:0x6b696c6c?ring=4k&wait=sleep"};
static const char *url;            /* of the test that runs */
static const char next[] = "next"; /* what the one who comes after the victim sends, of a length of its own */

static const char *each_url(size_t index)
{
    return index < sizeof urls / sizeof *urls ? urls[index] : NULL;
}

/* A victim that sleeps does nothing until it is woken, or its runs would not be alike. */
static void sleep_long(void)
{
    bell_slice_ns = NARU_S(1000);
}

static struct naru_channel *connect_within(struct kill_run *run, int64_t timeout)
{
    struct naru_channel *ch = NULL;
    int r = naru_connect(url, NULL, timeout, &ch);

    if (r != 0)
        kill_complain(run, "connect gave %d: %s", r, naru_explain());
    return ch;
}

/* The other side is gone. */
static void check_told(struct kill_run *run, struct naru_channel *ch, const char *what, long long r)
{
    struct shm *shm = ch->state;
    int expected = shm_link_their_end(&shm->link) == SHM_GOES_ON ? -EOWNERDEAD : -EPIPE;

    if (r != expected)
        kill_complain(run, "%s gave %lld, not %d: %s", what, r, expected, naru_explain());
    kill_check_valid(run, ch);
}

/* Receives until the end. Whether it was the one who comes next; what others send counts only if judged. */
static bool serve(struct kill_run *run, struct naru_channel *ch, bool judged)
{
    static uint8_t buffer[MESSAGE_MAX];

    for (;;) {
        ssize_t n = naru_recv(ch, buffer, sizeof buffer, NARU_FOREVER);

        if (n < 0)
            check_told(run, ch, "a receive", n);
        if (n < 0)
            return false;
        if (n == sizeof next && memcmp(buffer, next, sizeof next) == 0)
            return true;
        if (judged && !message_is(buffer, n, run->scenario->first + run->arrived))
            kill_complain(run, "message %d arrived damaged, or another in its place", (int)run->arrived);
        if (judged)
            run->arrived++;
    }
}

static void listen_until_next(struct kill_run *run, bool judged)
{
    struct naru_listener *l;
    bool done = false;
    int r = naru_listen(url, NULL, &l);

    if (r != 0) {
        kill_complain(run, "the name cannot be listened at: %d: %s", r, naru_explain());
        return;
    }
    run->listening = true;
    while (!done) {
        struct naru_channel *ch;

        r = naru_accept(l, NARU_FOREVER, &ch);
        if (r != 0) {
            kill_complain(run, "accept gave %d: %s", r, naru_explain());
            break;
        }
        done = serve(run, ch, judged);
        naru_channel_close(ch);
    }
    naru_listener_close(l);
}

static void come_next(struct kill_run *run)
{
    struct naru_channel *ch = connect_within(run, NARU_S(60));
    int r = ch ? naru_send(ch, next, sizeof next, NARU_FOREVER) : 0;

    if (r != 0)
        kill_complain(run, "a send to the next listener gave %d: %s", r, naru_explain());
    naru_channel_close(ch);
}

/* Without naru's own wait for a listener to appear: its inotify(7) instance takes 10 to 70 ms to close, the
 * kernel's work, which was most of what the sweeps took. */
static void come_to_the_next(struct kill_run *run)
{
    WAIT_UNTIL(run->listening || run->complained);
    come_next(run);
}

/* --- the one who connects is killed --- */

static void connects(struct kill_run *run, struct naru_channel *none)
{
    struct naru_channel *ch;

    (void)none;
    sleep_long();
    CHECK_INT(naru_connect(url, NULL, NARU_FOREVER, &ch), 0);
    for (int i = 0; i < run->scenario->messages; i++) {
        size_t length;
        const uint8_t *message = message_of((uint64_t)i, &length);

        run->begun = (uint64_t)i + 1;
        CHECK_INT(naru_send(ch, message, length, NARU_FOREVER), 0);
        run->done = (uint64_t)i + 1;
    }
    naru_channel_close(ch);
}

/* Written where it lies: by the ring, or, from LARGE on, by the pool. */
static void connects_and_lends(struct kill_run *run, struct naru_channel *none)
{
    struct naru_channel *ch;

    (void)none;
    sleep_long();
    CHECK_INT(naru_connect(url, NULL, NARU_FOREVER, &ch), 0);
    for (int i = 0; i < run->scenario->messages; i++) {
        struct naru_loan loan = NARU_INIT(struct naru_loan);
        size_t length;
        const uint8_t *message = message_of(run->scenario->first + (uint64_t)i, &length);

        run->begun = (uint64_t)i + 1;
        CHECK_INT(naru_loan(ch, length, NARU_FOREVER, &loan), 0);
        memcpy(loan.data, message, length);
        CHECK_INT(naru_commit(&loan, length, NULL), 0);
        run->done = (uint64_t)i + 1;
    }
    naru_channel_close(ch);
}

/* In an event loop: waits for nothing but the descriptor. */
static void connects_in_a_loop(struct kill_run *run, struct naru_channel *none)
{
    struct pollfd ready = {.events = POLLIN};
    struct naru_channel *ch;

    (void)none;
    sleep_long();
    CHECK_INT(naru_connect(url, NULL, NARU_NOWAIT, &ch), 0);
    ready.fd = naru_channel_fd(ch);
    for (int i = 0; i < run->scenario->messages; i++) {
        size_t length;
        const uint8_t *message = message_of((uint64_t)i, &length);
        int r;

        run->begun = (uint64_t)i + 1;
        while ((r = naru_send(ch, message, length, NARU_NOWAIT)) == -EAGAIN)
            CHECK_INT(poll(&ready, 1, -1), 1);
        CHECK_INT(r, 0);
        run->done = (uint64_t)i + 1;
    }
    naru_channel_close(ch);
}

static void survive_listening(struct kill_run *run, struct naru_channel *none)
{
    (void)none;
    listen_until_next(run, true);
}

/* --- the listener is killed --- */

static void listens(struct kill_run *run, struct naru_channel *none)
{
    static uint8_t buffer[MESSAGE_MAX];
    struct naru_listener *l;
    struct naru_channel *ch;

    (void)none;
    sleep_long();
    CHECK_INT(naru_listen(url, NULL, &l), 0);
    CHECK_INT(naru_accept(l, NARU_FOREVER, &ch), 0);
    for (int i = 0; i < run->scenario->messages; i++) {
        run->begun = (uint64_t)i + 1;
        CHECK(message_is(buffer, naru_recv(ch, buffer, sizeof buffer, NARU_FOREVER), (uint64_t)i));
        run->done = (uint64_t)i + 1;
    }
    naru_channel_close(ch);
    naru_listener_close(l);
}

/* Two views are out at once, and released in the other order. */
static void listens_and_borrows(struct kill_run *run, struct naru_channel *none)
{
    struct naru_listener *l;
    struct naru_channel *ch;

    (void)none;
    sleep_long();
    CHECK_INT(naru_listen(url, NULL, &l), 0);
    CHECK_INT(naru_accept(l, NARU_FOREVER, &ch), 0);
    for (int i = 0; i < run->scenario->messages; i += 2) {
        struct naru_view views[2] = {NARU_INIT(struct naru_view), NARU_INIT(struct naru_view)};

        for (int k = 0; k < 2; k++) {
            CHECK_INT(naru_borrow(ch, NARU_FOREVER, &views[k]), 0);
            CHECK(message_is(views[k].data, (ssize_t)views[k].length,
                             run->scenario->first + (uint64_t)(i + k)));
        }
        naru_release(&views[1]);
        naru_release(&views[0]);
    }
    naru_channel_close(ch);
    naru_listener_close(l);
}

/* Comes when the victim waits for it, and once more when it is dead. If it dies before it has accepted, the
 * next listener gets the messages. */
static void survive_connecting(struct kill_run *run, struct naru_channel *none)
{
    (void)none;
    if (kill_may_act(run)) {
        struct naru_channel *ch = connect_within(run, NARU_S(60));
        int r = ch ? 0 : -EPIPE;

        for (int i = 0; r == 0 && i < run->scenario->messages; i++) {
            size_t length;
            const uint8_t *message = message_of(run->scenario->first + (uint64_t)i, &length);

            r = naru_send(ch, message, length, NARU_FOREVER);
            if (r == 0)
                run->arrived++;
            else
                check_told(run, ch, "a send", r);
        }
        naru_channel_close(ch);
        while (kill_may_act(run))
            ;
    }
    come_to_the_next(run);
}

/* Sends when the descriptor says so, until the victim is dead. -ECONNRESET: it has not answered. */
static int send_in_a_loop(struct kill_run *run, struct naru_channel *ch)
{
    struct pollfd ready = {.fd = naru_channel_fd(ch), .events = POLLIN};
    int r = 0;

    for (int i = 0; r == 0 && i < run->scenario->messages; i++) {
        size_t length;
        const uint8_t *message = message_of(run->scenario->first + (uint64_t)i, &length);

        while ((r = naru_send(ch, message, length, NARU_NOWAIT)) == -EAGAIN)
            CHECK_INT(poll(&ready, 1, -1), 1);
        run->arrived += r == 0;
    }
    return r;
}

static void survive_connecting_in_a_loop(struct kill_run *run, struct naru_channel *none)
{
    (void)none;
    if (kill_may_act(run)) {
        struct naru_channel *ch = NULL;
        int r;

        WAIT_UNTIL((r = naru_connect(url, NULL, NARU_NOWAIT, &ch)) != -EAGAIN); /* or it is the next */
        if (r < 0)
            kill_complain(run, "connect gave %d: %s", r, naru_explain());
        r = ch ? send_in_a_loop(run, ch) : 0;
        if (r == -ECONNRESET && run->begun > 0)
            kill_complain(run, "a listener that had answered counts as one that had not");
        else if (r < 0 && r != -ECONNRESET)
            check_told(run, ch, "a send", r);
        naru_channel_close(ch);
        while (kill_may_act(run))
            ;
    }
    come_to_the_next(run);
}

static void listen_next(struct kill_run *run)
{
    listen_until_next(run, false);
}

/* --- it is killed while somebody whom its keeper has answered waits to be accepted --- */

static void listens_and_does_not_accept(struct kill_run *run, struct naru_channel *none)
{
    struct pollfd ready = {.events = POLLIN};
    struct naru_listener *l;

    (void)none;
    sleep_long();
    run->begun = (uint64_t)getpid();
    CHECK_INT(naru_listen(url, NULL, &l), 0);
    ready.fd = naru_listener_fd(l);
    CHECK_INT(poll(&ready, 1, -1), 1);
    naru_listener_close(l);
}

static bool is_victim(struct kill_run *run, const struct naru_channel *ch)
{
    struct naru_channel_info info = NARU_INIT(struct naru_channel_info);

    CHECK_INT(naru_channel_info(ch, &info), 0);
    return info.peer.pid == (int64_t)run->begun;
}

/* If the victim dies before it has answered, the next listener does. */
static void survive_in_the_queue(struct kill_run *run, struct naru_channel *none)
{
    (void)none;
    if (kill_may_act(run)) {
        struct naru_channel *ch = connect_within(run, NARU_S(60));
        int r = ch && is_victim(run, ch) ? naru_send(ch, "x", 1, NARU_FOREVER) : 0;

        if (r != 0)
            check_told(run, ch, "a send", r);
        if (ch && is_victim(run, ch))
            check_told(run, ch, "a receive", naru_recv(ch, NULL, 0, NARU_FOREVER));
        naru_channel_close(ch);
        while (kill_may_act(run))
            ;
    }
    come_to_the_next(run);
}

/* --- the sweeps --- */

static void sweep(const struct kill_scenario *scenario, const char *at)
{
    struct kill_verdict verdict;

    url = at;
    kill_sweep(scenario, &verdict);
    CHECK_STR(verdict.complaint, "");
    CHECK(verdict.points > 10);
}

TEST_EACH(whoever_connects_may_be_killed_anywhere, each_url)
{
    static const struct kill_scenario scenario = {.name = "connects",
                                                  .victim = connects,
                                                  .survivor = survive_listening,
                                                  .next = come_next,
                                                  .eager = true,
                                                  .sends = true,
                                                  .messages = 3};

    sweep(&scenario, urls[index]);
}

static const uint64_t firsts[] = {0, LARGE};

static const char *each_size(size_t index)
{
    static const char *const names[] = {"by the ring", "by the pool"};

    return index < sizeof firsts / sizeof *firsts ? names[index] : NULL;
}

TEST_EACH(who_connects_and_lends_may_be_killed_anywhere, each_size)
{
    struct kill_scenario scenario = {.name = "connects and lends",
                                     .victim = connects_and_lends,
                                     .survivor = survive_listening,
                                     .next = come_next,
                                     .eager = true,
                                     .sends = true,
                                     .messages = 4,
                                     .first = firsts[index]};

    sweep(&scenario, urls[0]);
}

TEST_EACH(a_listener_that_borrows_may_be_killed_anywhere, each_size)
{
    struct kill_scenario scenario = {.name = "listens and borrows",
                                     .victim = listens_and_borrows,
                                     .survivor = survive_connecting,
                                     .next = listen_next,
                                     .messages = 4,
                                     .first = firsts[index]};

    sweep(&scenario, urls[0]);
}

TEST_EACH(a_listener_may_be_killed_anywhere_and_the_next_one_has_the_name, each_url)
{
    static const struct kill_scenario scenario = {.name = "listens",
                                                  .victim = listens,
                                                  .survivor = survive_connecting,
                                                  .next = listen_next,
                                                  .messages = 3};

    sweep(&scenario, urls[index]);
}

static const char *each_meeting_url(size_t index)
{
    return index < 2 ? urls[index] : NULL;
}

TEST_EACH(who_connects_without_waiting_may_be_killed_anywhere, each_meeting_url)
{
    static const struct kill_scenario scenario = {.name = "connects in a loop",
                                                  .victim = connects_in_a_loop,
                                                  .survivor = survive_listening,
                                                  .next = come_next,
                                                  .eager = true,
                                                  .sends = true,
                                                  .messages = 3};

    sweep(&scenario, urls[index]);
}

TEST_EACH(a_listener_may_be_killed_anywhere_while_one_meets_it_that_does_not_wait, each_meeting_url)
{
    static const struct kill_scenario scenario = {.name = "listens",
                                                  .victim = listens,
                                                  .survivor = survive_connecting_in_a_loop,
                                                  .next = listen_next,
                                                  .messages = 3};

    sweep(&scenario, urls[index]);
}

TEST(a_listener_may_be_killed_while_somebody_waits_to_be_accepted)
{
    static const struct kill_scenario scenario = {.name = "listens and does not accept",
                                                  .victim = listens_and_does_not_accept,
                                                  .survivor = survive_in_the_queue,
                                                  .next = listen_next};

    sweep(&scenario, "shm://killed?ring=4k&wait=sleep");
}
