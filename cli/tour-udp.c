/* SPDX-License-Identifier: MIT */
/*
 * Carrying the file by datagrams that may get lost: what TCP does for its users, in its smallest form. The
 * sender numbers its datagrams and keeps WINDOW of them on the way; the receiver takes them in order only and
 * answers each with the number that it wants next; what is not answered for RESEND_AFTER is sent again, from
 * the first unanswered on ("go back N").
 *
 *   datagram  32-bit big-endian number, then PIECE bytes of the file; none: that was all
 *   answer    32-bit big-endian number of the next wanted
 *
 * The window fits the receiver's buffer (udp(7), net.core.rmem_default: 212,992 bytes), so that on one
 * machine usually nothing is lost.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cli/tour.h"

enum { NUMBER = 4, PIECE = 8192, WINDOW = 8, TRIES_MAX = 100 };
static const int64_t resend_after = NARU_MS(20);

static int failed(int r)
{
    return duo_fail(r, "%s", naru_explain());
}

/* Datagram number n: its length. */
static size_t make_datagram(const struct tour *tour, uint32_t n, uint64_t total,
                            uint8_t datagram[NUMBER + PIECE])
{
    uint64_t offset = (uint64_t)n * PIECE, left = offset < total ? total - offset : 0;
    size_t length = left < PIECE ? (size_t)left : PIECE;
    uint32_t number = __builtin_bswap32(n);

    memcpy(datagram, &number, NUMBER);
    memcpy(datagram + NUMBER, tour_at(tour, offset), length);
    return NUMBER + length;
}

static int send_datagram(const struct tour *tour, struct naru_channel *tx, uint32_t n, uint64_t total)
{
    uint8_t datagram[NUMBER + PIECE];
    size_t length = make_datagram(tour, n, total, datagram);
    int r = naru_send(tx, datagram, length, NARU_FOREVER);

    return r < 0 ? failed(r) : 0;
}

/* Waits for an answer; *wanted is moved on if it says so. 0, -ETIMEDOUT, or what failed. */
static int take_answer(struct naru_channel *tx, uint32_t *wanted)
{
    uint32_t number;
    ssize_t n = naru_recv(tx, &number, sizeof number, resend_after);

    if (n == -ETIMEDOUT)
        return -ETIMEDOUT;
    if (n < 0)
        return failed((int)n);
    number = __builtin_bswap32(number);
    if (n == sizeof number && number > *wanted)
        *wanted = number;
    return 0;
}

int tour_udp_near(const struct tour *tour, struct naru_channel *tx, uint64_t planned)
{
    struct tour_shared *shared = tour->shared;
    uint32_t wanted = 0, next = 0, highest = 0,
             last = (uint32_t)((planned + PIECE - 1) / PIECE); /* the empty one */
    int64_t deadline = engine_now() + tour->budget_ns;
    uint64_t total = planned;
    int r = 0, tries = 0;

    shared->begin = engine_now();
    while (wanted <= last) {
        if (engine_now() >= deadline && highest < last) { /* no more new ones: this is all */
            last = highest;
            total = (uint64_t)last * PIECE;
        }
        for (; r == 0 && next <= last && next < wanted + WINDOW; next++)
            r = send_datagram(tour, tx, next, total);
        highest = next > highest ? next : highest;
        if (r < 0)
            return r;
        r = take_answer(tx, &wanted);
        if (r == -ETIMEDOUT && ++tries < TRIES_MAX) {
            shared->resent += next - wanted;
            next = wanted;
            r = 0;
        } else if (r == 0) {
            tries = 0;
        }
        if (r < 0)
            return r == -ETIMEDOUT ? duo_fail(r, "no answer came to %d attempts", TRIES_MAX) : r;
    }
    atomic_store(&shared->total, total);
    atomic_store(&shared->acknowledged, true);
    return 0;
}

/* The sender may not have got the last answer: gives it again until the sender says that it has. */
static int linger(const struct tour *tour, struct naru_channel *rx, uint32_t answer)
{
    uint8_t datagram[NUMBER + PIECE];

    while (!atomic_load(&tour->shared->acknowledged)) {
        ssize_t n = naru_recv(rx, datagram, sizeof datagram, resend_after);

        if (n < 0 && n != -ETIMEDOUT)
            return atomic_load(&tour->shared->acknowledged) ? 0 : failed((int)n);
        if (n > 0 && naru_send(rx, &answer, sizeof answer, NARU_FOREVER) < 0 &&
            !atomic_load(&tour->shared->acknowledged))
            return failed(-EIO);
    }
    return 0;
}

int tour_udp_far(const struct tour *tour, struct naru_channel *rx, uint8_t *buffer, uint64_t planned)
{
    uint8_t datagram[NUMBER + PIECE];
    uint64_t received = 0;
    uint32_t wanted = 0;
    bool all = false;

    while (!all) {
        ssize_t n = naru_recv(rx, datagram, sizeof datagram, NARU_FOREVER);
        uint32_t number, answer;
        int r;

        if (n < 0)
            return failed((int)n);
        memcpy(&number, datagram, NUMBER);
        if (n >= NUMBER && __builtin_bswap32(number) == wanted && received + (size_t)n - NUMBER <= planned) {
            memcpy(buffer + received, datagram + NUMBER, (size_t)n - NUMBER);
            received += (size_t)n - NUMBER;
            wanted++;
            all = n == NUMBER;
        }
        answer = __builtin_bswap32(wanted);
        r = naru_send(rx, &answer, sizeof answer, NARU_FOREVER);
        if (r < 0)
            return failed(r);
    }
    tour->shared->end = engine_now();
    return linger(tour, rx, __builtin_bswap32(wanted));
}
