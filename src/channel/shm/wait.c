/* SPDX-License-Identifier: MIT */
/*
 * Waiting on shm:, until there is room or a message: by looking for a while, by sleeping in a socket
 * (shm/wakeup.h), up to a deadline, or in somebody's event loop.
 */
#include <errno.h>
#include <sys/epoll.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/probe.h"
#include "channel/shm/shm.h"
#include "shm/bell.h"

enum {
    SPINS_PER_LOOK = 1 << 14, /* between two questions to the kernel whether the peer is alive */
    UNREAD_MOST = 16,         /* bytes; a socket holds a few hundred of such small ones */
    EVENTS = 8                /* in an epoll of naru_channel_fd() there are fewer */
};

/* Asks the kernel. */
bool shm_is_alone(struct shm *shm, struct sleeper *sleeper)
{
    if (!shm->link.gone && sleeper_take(sleeper) == 1)
        shm_link_lose(&shm->link);
    return shm->link.gone;
}

/* Whether there is room for a message of that length. */
enum ring_state shm_look_for_room(struct shm *shm, size_t length, uint8_t **ret_payload)
{
    enum ring_state state = shm->passing ? shm_look_for_fds(shm) : RING_OK;

    if (state != RING_OK)
        return state;
    if (length <= shm->inline_max)
        return ring_reserve(shm_link_tx(&shm->link, shm->lane), length, ret_payload);
    state = ring_reserve(shm_link_tx(&shm->link, shm->lane), sizeof(struct shm_chunk), ret_payload);
    return state == RING_OK ? pool_find(&shm->pool, length) : state;
}

/* Whether a sender has what it waits for: room for what found none, or a receiver that is so far. */
static enum ring_state look_as_sender(struct shm *shm)
{
    enum ring_state state;
    uint8_t *payload;
    uint64_t left;

    if (!shm->awaited)
        return shm_look_for_room(shm, shm->wanted, &payload);
    state = shm_look_for_stage(shm, shm->awaited, &left);
    return state == RING_OK && left > 0 ? RING_FULL : state;
}

enum ring_state shm_look_for_record(struct shm *shm, unsigned *ret_lane, struct ring_record *ret_record)
{
    enum ring_state state = RING_EMPTY;

    for (unsigned lane = shm->link.lanes_in; lane-- > 0 && state == RING_EMPTY;) {
        state = ring_peek(shm_link_rx(&shm->link, lane), ret_record);
        *ret_lane = lane;
    }
    return state;
}

/* Likewise either side. */
static enum ring_state look(struct shm *shm, bool sending)
{
    struct ring_record record;
    unsigned lane;
    enum ring_state state = sending ? look_as_sender(shm) : shm_look_for_record(shm, &lane, &record);

    if (__builtin_expect(state == RING_BROKEN, 0))
        shm_link_break(&shm->link); /* for good: it could be put right again before the attempt, for ever */
    return state;
}

/* Whether an attempt is worth it; asks the kernel for nothing. */
static bool is_worth_it(struct shm *shm, bool sending)
{
    enum ring_state state = look(shm, sending);
    enum shm_end end = shm_link_their_end(&shm->link);

    return ring_is_record(state) || shm->link.broken || shm->link.gone ||
           (sending ? end == SHM_CLOSED : end != SHM_GOES_ON);
}

/* What rang for a receiver in an event loop, as sleeper_take(). The epoll of naru_channel_fd() shows each
 * byte once (ch->in_event), so it is enough to have it shown, here, and the byte may stay: to read it is to
 * free it, between an event and its answer, by lines of the other side's CPU. Two of 40 us of a round trip.
 * They are read when there are some, and by every other way to wait, which would find them. A hang-up is
 * shown once, too: who finds it has to come to the end. */
static int hear(struct naru_channel *ch)
{
    struct shm *shm = ch->state;
    struct sleeper *sleeper = &shm->link.receiver;
    struct epoll_event events[EVENTS];
    int n = epoll_wait(ch->fd, events, EVENTS, 0), r;
    uint32_t shown = 0;
    bool rung = false;

    for (int i = 0; i < n; i++)
        if (events[i].data.fd == ch->rfd)
            shown = events[i].events;
        else if (events[i].data.fd == ch->loop_bell)
            rung = true;
    if (rung)
        sleeper_disarm(sleeper);
    if (shown == 0)
        return rung ? 0 : n < 0 ? sleeper_take(sleeper) : -EAGAIN;
    if (shown == EPOLLIN && ++shm->unread < UNREAD_MOST) {
        sleeper_disarm(sleeper);
        return 0;
    }
    shm->unread = 0;
    do
        r = sleeper_take(sleeper);
    while (r == 0 && shown != EPOLLIN);
    return r;
}

/* shm_is_alone(), for a call that returns to an event loop or does not wait. */
static bool take_what_rang(struct naru_channel *ch, bool sending)
{
    struct shm *shm = ch->state;

    if (sending || ch->fd < 0)
        return shm_is_alone(shm, sending ? &shm->link.sender : &shm->link.receiver);
    shm->heard = true;
    if (!shm->link.gone && hear(ch) == 1)
        shm_link_lose(&shm->link);
    return shm->link.gone;
}

/* Whether there is a ticket, and it is for a bell that is heard: a gather has one drawn anew that was for the
 * loop's bell, from the time before the channel was its. */
static bool is_armed(const struct naru_channel *ch, const struct sleeper *sleeper)
{
    return sleeper_is_armed(sleeper) && !(ch->gathered && sleeper_is_armed_for_loop(sleeper));
}

/* For an event loop, which sleeps by polling the socket: a new ticket, if the last one has been rung for, now
 * or before. heard: that was looked for just now; what rings later is shown. Whether an attempt is worth it
 * already. */
static bool arm_for_loop(struct naru_channel *ch, bool sending, bool heard)
{
    struct shm *shm = ch->state;
    struct sleeper *sleeper = sending ? &shm->link.sender : &shm->link.receiver;

    if (!(heard ? shm->link.gone : take_what_rang(ch, sending)) && !is_armed(ch, sleeper)) {
        if (!sending && ch->fd >= 0 && ch->loop_bell >= 0 && !ch->gathered)
            sleeper_arm_for_loop(sleeper);
        else
            sleeper_arm(sleeper);
        sleeper_settle(sleeper);
    }
    return is_worth_it(shm, sending);
}

/* Looks `spins` times. */
static enum ring_state spin(struct shm *shm, bool sending, int spins)
{
    enum ring_state state;

    do
        state = look(shm, sending);
    while ((state == RING_FULL || state == RING_EMPTY) && --spins > 0);
    return state;
}

/* Waits without a limit until a look finds something. 0, or -EINTR; whoever called looks again. */
static int sleep_until_rung(struct naru_channel *ch, bool sending)
{
    struct shm *shm = ch->state;
    struct sleeper *sleeper = sending ? &shm->link.sender : &shm->link.receiver;
    enum ring_state state = spin(shm, sending, shm->how == WAIT_SPIN ? SPINS_PER_LOOK : shm->spins);
    int r = 0;

    if (state != RING_FULL && state != RING_EMPTY)
        return 0;
    if (shm->how == WAIT_SPIN) {
        (void)shm_is_alone(shm, sleeper);
        return 0;
    }
    sleeper_arm(sleeper);
    if (!is_worth_it(shm, sending)) {
        PROBE3(sleep, ch, ch->url, sending ? NARU_OUT : NARU_IN);
        r = sleeper_sleep(sleeper);
        PROBE4(wake, ch, ch->url, sending ? NARU_OUT : NARU_IN, r >= 0);
    }
    sleeper_disarm(sleeper);
    if (r == 1)
        shm_link_lose(&shm->link);
    return r == -EINTR ? r : 0;
}

int shm_await(struct naru_channel *ch, bool sending, bool block)
{
    if (block) /* the socket in which it sleeps tells if there is nobody */
        return sleep_until_rung(ch, sending);
    return take_what_rang(ch, sending) ? 0 : -EAGAIN;
}

/* Without sleeping: a CPU is kept busy, as ?wait=spin asks for. */
static int spin_until(struct naru_channel *ch, int event, struct sleeper *sleeper, int64_t deadline)
{
    struct shm *shm = ch->state;
    bool sending = event == NARU_OUT;

    while (!is_worth_it(shm, sending)) {
        if (ch->interruptible && channel_wait_poll(ch, event, NARU_NOWAIT) == -ECANCELED)
            return -ECANCELED;
        if (deadline_left(deadline) == 0)
            return error_expected(ETIMEDOUT);
        for (int i = 0; i < SHM_SPINS && !is_worth_it(shm, sending); i++)
            ;
        (void)shm_is_alone(shm, sleeper);
    }
    return 0;
}

/* Where a word is rung and no socket: nothing polls that and the interruption at once, so this looks for one
 * from slice to slice. 0, -ETIMEDOUT, -ECANCELED. */
static int wait_for_bell(struct naru_channel *ch, int event, struct sleeper *sleeper, int64_t deadline)
{
    struct shm *shm = ch->state;
    int direction = event == NARU_OUT ? CHANNEL_SENDING : CHANNEL_RECEIVING, r;

    do {
        int64_t until = ch->interruptible ? clock_now() + BELL_SLICE_NS : deadline;

        if (channel_take_interruption(ch, direction))
            return error_expected(ECANCELED);
        if (deadline_left(deadline) == 0)
            return error_expected(ETIMEDOUT);
        r = bell_sleep(sleeper, until < deadline ? until : deadline);
    } while (r == -ETIMEDOUT);
    if (r == 1)
        shm_link_lose(&shm->link);
    return 0;
}

int shm_wait(struct naru_channel *ch, int event, int64_t deadline)
{
    struct shm *shm = ch->state;
    bool sending = event == NARU_OUT;
    struct sleeper *sleeper = sending ? &shm->link.sender : &shm->link.receiver;
    int64_t until = deadline;
    int r = 0;

    if (shm->how == WAIT_SPIN)
        return spin_until(ch, event, sleeper, deadline);
    for (int i = 0; i < shm->spins; i++)
        if (is_worth_it(shm, sending))
            return 0;
    sleeper_arm(sleeper);
    if (sleeper->unsure && deadline_left(deadline) > WAKEUP_SLICE_NS)
        until = clock_now() + WAKEUP_SLICE_NS;
    if (!is_worth_it(shm, sending))
        r = sleeper->bell ? wait_for_bell(ch, event, sleeper, until) : channel_wait_poll(ch, event, until);
    sleeper_disarm(sleeper);
    (void)shm_is_alone(shm, sleeper); /* and takes what rang */
    return r == -ETIMEDOUT && until != deadline ? 0 : r;
}

int shm_wait_for_stage(struct naru_channel *ch, enum naru_stage stage, int64_t deadline)
{
    struct shm *shm = ch->state;
    int r;

    shm->awaited = stage;
    r = shm_wait(ch, NARU_OUT, deadline);
    shm->awaited = (enum naru_stage)0;
    return r;
}

bool shm_holds(struct naru_channel *ch)
{
    struct shm *shm = ch->state;
    bool heard = shm->heard, held = is_worth_it(shm, false) || arm_for_loop(ch, false, heard);

    shm->heard = false;
    return held;
}

bool shm_look(struct naru_channel *ch)
{
    return is_worth_it(ch->state, false);
}

bool shm_has_room(struct naru_channel *ch)
{
    return is_worth_it(ch->state, true) || arm_for_loop(ch, true, false);
}
