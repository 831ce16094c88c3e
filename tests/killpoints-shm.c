/* SPDX-License-Identifier: MIT */
/* Survivors at the other end of a channel over shared memory: see killpoints-shm.h. */
#include "killpoints-shm.h"

#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "channel/shm/shm.h"
#include "naru/error.h"
#include "runner.h"
#include "shm/validate.h"

/* --- messages --- */

enum { MESSAGES = 64 }; /* then they come again */

static uint8_t messages[MESSAGES][MESSAGE_MAX];

__attribute__((constructor)) static void make_messages(void)
{
    for (size_t number = 0; number < MESSAGES; number++)
        for (size_t i = 0; i < MESSAGE_MAX; i++)
            messages[number][i] = (uint8_t)(number * 31 + i * 7 + 1);
}

const uint8_t *message_of(uint64_t number, size_t *ret_length)
{
    static const size_t lengths[] = {0, 8, 1000, 56, 64, 1024, 24, 1};

    static const size_t large[] = {2040, 8, 2046};

    if (number >= VAST)
        *ret_length = MESSAGE_MAX;
    else if (number >= LARGE)
        *ret_length = large[number % (sizeof large / sizeof large[0])];
    else
        *ret_length = lengths[number % (sizeof lengths / sizeof lengths[0])];
    return messages[number % MESSAGES];
}

size_t descriptors_of(uint64_t number)
{
    return number % 4;
}

bool message_is(const uint8_t *message, ssize_t length, uint64_t number)
{
    size_t size;
    const uint8_t *wanted = message_of(number, &size);

    return length == (ssize_t)size && memcmp(message, wanted, size) == 0;
}

short loop_events(struct naru_channel *ch)
{
    int want = naru_channel_want(ch);

    return (short)((want & NARU_IN ? POLLIN : 0) | (want & NARU_OUT ? POLLOUT : 0));
}

/* --- what holds at the end --- */

void kill_check_valid(struct kill_run *run, const struct naru_channel *ch)
{
    const struct shm *shm = ch->state;

    if (validate_link(ch->url, &shm->link) < 0 || validate_pool(ch->url, &shm->pool) < 0)
        kill_complain(run, "validate() does not hold: %s", naru_explain());
}

/* The invariants of ring.h that this side can see, when the other side is gone and everything is received. */
static void check_ring(struct kill_run *run, const struct naru_channel *ch, bool received_all)
{
    struct shm *shm = ch->state;
    struct shm_link *link = &shm->link;
    uint64_t theirs = atomic_load(&link->their_page->lane[0].taken);
    struct ring_record record;

    kill_check_valid(run, ch);
    if (atomic_load(&link->page->lane[0].taken) != link->rx.position)
        kill_complain(run, "I1: the position that was published is not the reader's");
    if (received_all && ring_peek(&link->rx, &record) != RING_EMPTY)
        kill_complain(run, "I2: there is a record behind the last one");
    if (theirs > link->tx.position || link->tx.position - theirs > link->tx.mask + 1 - RECORD_HEADER)
        kill_complain(run, "I1: the dead side has taken up to %llu of %llu", (unsigned long long)theirs,
                      (unsigned long long)link->tx.position);
    if (shm_link_their_end(link) > SHM_CLOSED)
        kill_complain(run, "the dead side's end is said in no word there is");
    if (link->broken)
        kill_complain(run, "the ring is broken");
}

static void check_end(struct kill_run *run, const char *what, long long r)
{
    if (r != -EPIPE)
        kill_complain(run, "%s gave %lld, not -EPIPE: %s", what, r, naru_explain());
}

/* The end is told again, to whoever asks, and however. */
static void check_gone(struct kill_run *run, struct naru_channel *ch, bool received_all)
{
    uint8_t buffer[MESSAGE_MAX];
    int r;

    do /* one that has finished and is killed then shows it when the ring is full */
        r = naru_send(ch, "x", 1, NARU_FOREVER);
    while (r == 0);
    check_end(run, "a send to the dead", r);
    r = naru_flush(ch, NARU_TAKEN, NARU_FOREVER);
    if (r != 0)
        check_end(run, "a flush", r);
    if (received_all)
        check_end(run, "another receive", naru_recv(ch, buffer, sizeof buffer, NARU_S(60)));
    check_ring(run, ch, received_all);
    naru_channel_close(ch);
}

/* --- survivors --- */

/* false: the end. */
static bool take(struct kill_run *run, struct naru_channel *ch, int64_t timeout)
{
    static uint8_t buffer[MESSAGE_MAX];
    ssize_t n = naru_recv(ch, buffer, sizeof buffer, timeout);

    if (n == -EAGAIN)
        return true;
    if (n < 0) {
        check_end(run, "a receive", n);
        return false;
    }
    if (!message_is(buffer, n, run->scenario->first + run->arrived))
        kill_complain(run, "message %d arrived damaged, or another in its place (%zd bytes)",
                      (int)run->arrived, n);
    run->arrived++;
    return true;
}

void survive_receiving(struct kill_run *run, struct naru_channel *ch)
{
    bool goes_on = true;

    if (!run->scenario->eager) {
        while (kill_may_act(run) && goes_on)
            goes_on = take(run, ch, NARU_NOWAIT);
        kill_check_valid(run, ch);
    }
    while (goes_on)
        goes_on = take(run, ch, NARU_FOREVER);
    check_gone(run, ch, true);
}

/* false: the end. */
static bool take_descriptors(struct kill_run *run, struct naru_channel *ch)
{
    static uint8_t buffer[MESSAGE_MAX];
    struct naru_message m = NARU_INIT(struct naru_message);
    struct iovec piece = {buffer, sizeof buffer};
    uint64_t number = run->scenario->first + run->arrived;
    int fds[8], r;

    m.iov = &piece;
    m.iov_count = 1;
    m.fds = fds;
    m.fd_capacity = 8;
    r = naru_recv_message(ch, &m, NARU_FOREVER);
    if (r < 0) {
        check_end(run, "a receive", r);
        return false;
    }
    for (size_t i = 0; i < m.fd_count; i++)
        CHECK_INT(close(fds[i]), 0);
    if (!message_is(buffer, (ssize_t)m.length, number) || m.fd_count != descriptors_of(number))
        kill_complain(run, "message %d arrived with %zu descriptors and %zu bytes", (int)run->arrived,
                      m.fd_count, m.length);
    run->arrived++;
    return true;
}

void survive_receiving_descriptors(struct kill_run *run, struct naru_channel *ch)
{
    if (!run->scenario->eager)
        while (kill_may_act(run))
            ; /* the victim waits for nothing: this is its end */
    while (take_descriptors(run, ch))
        ;
    check_gone(run, ch, true);
}

void survive_receiving_in_a_loop(struct kill_run *run, struct naru_channel *ch)
{
    struct pollfd ready = {.fd = naru_channel_fd(ch)};

    do {
        ready.events = loop_events(ch);
        CHECK_INT(poll(&ready, 1, -1), 1);
    } while (take(run, ch, NARU_NOWAIT));
    check_gone(run, ch, true);
}

/* 1: sent; 0: no room; or the end. */
static int give(struct kill_run *run, struct naru_channel *ch, int64_t timeout)
{
    size_t length;
    const uint8_t *message = message_of(run->scenario->first + run->arrived, &length);
    int r = naru_send(ch, message, length, timeout);

    if (r == 0)
        run->arrived++;
    else if (r != -EAGAIN)
        check_end(run, "a send", r);
    return r == 0 ? 1 : r == -EAGAIN ? 0 : r;
}

void survive_sending(struct kill_run *run, struct naru_channel *ch)
{
    int r = 0;

    if (!run->scenario->eager) {
        while (kill_may_act(run) && r >= 0)
            r = give(run, ch, NARU_NOWAIT);
        kill_check_valid(run, ch);
    }
    while (r >= 0)
        r = give(run, ch, NARU_FOREVER);
    check_gone(run, ch, false);
}

/* In each lane in turn. */
void survive_sending_in_lanes(struct kill_run *run, struct naru_channel *ch)
{
    int r = 0;

    while (r == 0) {
        struct naru_message m = NARU_INIT(struct naru_message);
        struct iovec piece;

        piece.iov_base = (void *)(uintptr_t)message_of(run->scenario->first + run->arrived, &piece.iov_len);
        m.iov = &piece;
        m.iov_count = 1;
        m.priority = (unsigned)(run->arrived % 3);
        r = naru_send_message(ch, &m, NARU_FOREVER);
        if (r == 0) {
            run->arrived++;
            r = naru_flush(ch, NARU_TAKEN, NARU_FOREVER); /* or a later one would overtake it */
        }
    }
    check_end(run, "a send or a flush", r);
    check_gone(run, ch, false);
}

void survive_sending_descriptors(struct kill_run *run, struct naru_channel *ch)
{
    static const int fds[4] = {0, 0, 0, 0};
    int r = 0;

    while (r == 0) {
        struct naru_message m = NARU_INIT(struct naru_message);
        uint64_t number = run->scenario->first + run->arrived;
        struct iovec piece;

        piece.iov_base = (void *)(uintptr_t)message_of(number, &piece.iov_len);
        m.iov = &piece;
        m.iov_count = 1;
        m.fds = (int *)(uintptr_t)fds;
        m.fd_count = descriptors_of(number);
        r = naru_send_message(ch, &m, NARU_FOREVER);
        if (r == 0) {
            run->arrived++;
            r = naru_flush(ch, NARU_TAKEN, NARU_FOREVER); /* few are left to be closed by who dies */
        }
    }
    check_end(run, "a send or a flush", r);
    check_gone(run, ch, false);
}

void survive_sending_from_a_loop(struct kill_run *run, struct naru_channel *ch)
{
    struct pollfd ready = {.fd = naru_channel_fd(ch)};
    int r;

    while ((r = give(run, ch, NARU_NOWAIT)) >= 0) {
        if (r > 0)
            continue;
        ready.events = loop_events(ch);
        CHECK_INT(poll(&ready, 1, -1), 1);
    }
    check_gone(run, ch, false);
}

void survive_flushing(struct kill_run *run, struct naru_channel *ch)
{
    int r = 0;

    while (r == 0 && give(run, ch, NARU_FOREVER) > 0) {
        r = naru_flush(ch, NARU_DONE, NARU_FOREVER);
        if (r == 0 && run->begun < run->arrived)
            kill_complain(run, "message %d counts as released before it was received", (int)run->arrived);
    }
    if (r < 0)
        check_end(run, "a flush", r);
    check_gone(run, ch, false);
}

void survive_asking(struct kill_run *run, struct naru_channel *ch)
{
    int r;

    do {
        size_t length;
        const uint8_t *message = message_of(run->scenario->first + run->arrived, &length);

        r = naru_send(ch, message, length, NARU_FOREVER);
    } while (r == 0 && take(run, ch, NARU_FOREVER));
    if (r < 0)
        check_end(run, "a send", r);
    check_gone(run, ch, true);
}
