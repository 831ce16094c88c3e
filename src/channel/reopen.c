/* SPDX-License-Identifier: MIT */
/* Channels that connect again: see reopen.h. */
#include "channel/reopen.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/fd.h"
#include "base/probe.h"
#include "channel/meeting.h"
#include "channel/remains.h"

struct reopen {
    char *url, *type_name;
    struct naru_options options; /* of the connections */
    enum naru_direction direction;
    bool lost;
    int lost_code;
    int64_t lost_at, connected_at;
    uint64_t received;      /* messages, when it was connected */
    int64_t step, next_try; /* the back-off */
    _Atomic uint64_t count;

    struct naru_channel *spare; /* without guts: what is needed at a loss is there before it */
    struct remains remains;     /* of the last connection */

    struct naru_channel *next; /* to a listener that has not answered yet: meeting.h; or has, and the call
                                  that found it was interrupted; or NULL */

    int timer_fd; /* in ch->fd, and open where that is: wakes the event loop for the next attempt; -1: not
                     asked for */
    struct fork_guard guard;
};

static const int64_t first_step = NARU_MS(1), last_step = NARU_MS(250);
/* A connection that lasted so long, or brought a message: its loss is a new one, not one more failure. */
static const int64_t steady_after = NARU_S(1);
static const int64_t grace_least = NARU_MS(5), grace_most = NARU_MS(50);
static const int64_t slice = NARU_MS(50); /* of a wait that naru_interrupt() may end */

/* --- beginning and end --- */

int reopen_parse(struct url *url, struct naru_options *opt)
{
    int r = url_option_duration(url, "reconnect", &opt->reconnect_ns);

    if (r == 0 && opt->reconnect_ns < 0)
        r = error_set(EINVAL, "%s: options.reconnect_ns is negative", url->text);
    return r;
}

int reopen_check(const struct url *url, const struct channel_ops *ops)
{
    uint32_t capabilities = ops->row.capabilities;

    if ((capabilities & NARU_CAN_LISTEN) && (capabilities & NARU_CAN_SEE_RECEIVER))
        return 0;
    return error_set(ENOTSUP,
                     "%s: %s has no listener that could go and come again; leave out ?reconnect=", url->text,
                     ops->row.name);
}

static void free_reopen(struct reopen *o)
{
    remains_hold_only(&o->remains, HOLDS_NOTHING);
    if (o->spare)
        channel_abandon(o->spare);
    (void)naru_channel_close(o->next);
    fork_guard_close(&o->guard);
    (void)fd_close(o->timer_fd); /* in no guard with keep_on_fork */
    free(o->type_name);
    free(o->url);
    free(o);
}

int reopen_attach(struct naru_channel *ch, const char *url, const struct naru_options *opt)
{
    struct reopen *o = calloc(1, sizeof *o);
    int r = 0;

    if (!o)
        return error_set(ENOMEM, "%s: out of memory for a channel", url);
    o->timer_fd = -1;
    fork_guard_init(&o->guard);
    if (!opt->keep_on_fork)
        fork_guard_add(&o->guard, &o->timer_fd);
    o->options = *opt;
    o->options.interruptible = 0;                                     /* the handle is */
    o->direction = ch->meeting ? NARU_DIRECTION_BOTH : ch->direction; /* as of all that meet */
    o->connected_at = clock_now();
    o->url = strdup(url);
    if (opt->type.name)
        o->options.type.name = o->type_name = strdup(opt->type.name);
    if (!o->url || (opt->type.name && !o->type_name))
        r = error_set(ENOMEM, "%s: out of memory for a channel", url);
    else
        r = channel_new_owned(ch->ops, url, &o->options, &o->spare);
    if (r < 0)
        free_reopen(o);
    else
        ch->reopen = o;
    return r;
}

void reopen_free(struct naru_channel *ch)
{
    if (ch->reopen)
        free_reopen(ch->reopen);
    ch->reopen = NULL;
}

/* Whichever is too late says so when it is used. */
void reopen_take_over(struct naru_channel *ch)
{
    struct reopen *o = ch->reopen;

    if (o && o->spare)
        (void)channel_take_over(o->spare);
    if (o && o->next)
        (void)channel_take_over(o->next);
    if (o && o->remains.old)
        (void)channel_take_over(o->remains.old);
}

static uint64_t received(const struct naru_channel *ch)
{
    /* relaxed: counted by this thread */
    return atomic_load_explicit(&ch->counters[CHANNEL_RECEIVING].messages, memory_order_relaxed);
}

bool reopen_is_lost(const struct naru_channel *ch)
{
    return ch->reopen && ch->reopen->lost;
}

uint64_t reopen_count(const struct naru_channel *ch)
{
    /* relaxed: a figure for people */
    return ch->reopen ? atomic_load_explicit(&ch->reopen->count, memory_order_relaxed) : 0;
}

/* --- what the last connection holds --- */

/* Takes ch's guts away. undrained: there may be messages in them. */
static void retire(struct naru_channel *ch, bool undrained)
{
    struct reopen *o = ch->reopen;
    struct naru_channel *husk = o->spare;

    o->spare = NULL;
    channel_unwatch(ch);
    guts_swap(ch, husk);
    ch->direction = NARU_DIRECTION_DEFAULT; /* 0: no way leads to what is not there */
    husk->direction = o->direction;
    remains_keep(&o->remains, ch, husk, (undrained ? HOLDS_MESSAGES : 0U) | (ch->lent ? HOLDS_LOAN : 0U));
}

struct naru_channel *reopen_undrained(const struct naru_channel *ch)
{
    return ch->reopen && (ch->reopen->remains.holds & HOLDS_MESSAGES) ? ch->reopen->remains.old : NULL;
}

/* Which ways lead to the connection: none while it is lost, and none to receive by while an older one holds
 * messages. */
static void set_direction(struct naru_channel *ch)
{
    const struct reopen *o = ch->reopen;

    if (o->lost)
        ch->direction = NARU_DIRECTION_DEFAULT;
    else if (o->remains.holds & HOLDS_MESSAGES)
        ch->direction = (enum naru_direction)(o->direction & NARU_DIRECTION_SEND);
    else
        ch->direction = o->direction;
}

/* The turn of the connection that there is. */
static void drained(struct naru_channel *ch)
{
    struct reopen *o = ch->reopen;

    remains_hold_only(&o->remains, HOLDS_LOAN);
    set_direction(ch);
    if (!o->lost)
        (void)channel_rewatch(ch); /* the descriptor is in there: this asks for messages, too */
    channel_update_ready(ch, CHANNEL_RECEIVING);
}

int reopen_received(struct naru_channel *ch, int r, size_t length)
{
    struct naru_channel *old = ch->reopen->remains.old;

    ch->needed = old->needed;
    remains_take_drops(ch, old);
    if (r == 0)
        channel_count(ch, CHANNEL_RECEIVING, length);
    if (r == 0 || r == -EMSGSIZE || r == -ENOMEM || r == -EBADMSG || r == -EBUSY || r == -EMFILE)
        return r;
    drained(ch);
    return -EAGAIN;
}

bool reopen_end_loan(struct naru_channel *ch)
{
    struct reopen *o = ch->reopen;

    if (!o || !(o->remains.holds & HOLDS_LOAN))
        return false;
    remains_hold_only(&o->remains, HOLDS_MESSAGES);
    return true;
}

/* --- the event loop --- */

/* When it gives up. */
static int64_t limit_of(const struct reopen *o)
{
    return o->options.reconnect_ns < NARU_FOREVER - o->lost_at ? o->lost_at + o->options.reconnect_ns
                                                               : NARU_FOREVER;
}

/* at: when the loop is to be woken; 0 or NARU_FOREVER: not at all. */
static void set_timer(const struct reopen *o, int64_t at)
{
    struct itimerspec when = {{0, 0}, {0, 0}};

    if (o->timer_fd < 0)
        return;
    if (at == NARU_FOREVER)
        at = 0;
    when.it_value.tv_sec = (time_t)(at / NARU_S(1));
    when.it_value.tv_nsec = (long)(at % NARU_S(1));
    (void)timerfd_settime(o->timer_fd, TFD_TIMER_ABSTIME, &when, NULL); /* cannot fail: both are valid */
}

static bool is_unanswered(const struct reopen *o)
{
    return o->next && o->next->meeting;
}

/* While it is lost: the answer wakes the event loop by itself; and next_try was long ago if one answered. */
static int64_t wake_at(const struct reopen *o)
{
    return is_unanswered(o) ? limit_of(o) : o->next_try;
}

int reopen_watch(struct naru_channel *ch)
{
    struct reopen *o = ch->reopen;
    struct epoll_event event = {.events = EPOLLIN};
    int r = 0;

    if (!o)
        return 0;
    o->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    event.data.fd = o->timer_fd;
    if (o->timer_fd < 0 || epoll_ctl(ch->fd, EPOLL_CTL_ADD, o->timer_fd, &event) < 0)
        r = -errno;
    else if (is_unanswered(o))
        r = meeting_watch(o->next->meeting, ch->fd);
    if (r < 0)
        o->timer_fd = fd_close(o->timer_fd);
    else if (o->lost)
        set_timer(o, wake_at(o));
    return r;
}

/* --- a loss --- */

static void back_off(struct reopen *o)
{
    o->step = o->step ? o->step * 2 : first_step;
    if (o->step > last_step)
        o->step = last_step;
    o->next_try = clock_now() + o->step;
    set_timer(o, o->next_try);
}

/* r: why. undrained: as of retire(). */
static void lose(struct naru_channel *ch, int r, bool undrained)
{
    struct reopen *o = ch->reopen;

    o->lost = true;
    o->lost_code = r;
    o->lost_at = clock_now();
    retire(ch, undrained);
    back_off(o);
    channel_update_ready(ch, CHANNEL_RECEIVING);
}

int reopen_lost(struct naru_channel *ch, int direction, int r)
{
    struct reopen *o = ch->reopen;
    char text[ERROR_SENTENCE_MAX];

    if (ch->finished || o->lost)
        return r;
    (void)snprintf(text, sizeof text, "%s", naru_explain());
    if (clock_now() - o->connected_at > steady_after || received(ch) != o->received)
        o->step = 0;
    lose(ch, r, direction == CHANNEL_SENDING && (o->direction & NARU_DIRECTION_RECEIVE));
    return error_set(-r, "%s; what was sent and not flushed may be lost, and the next call connects again",
                     text);
}

void reopen_met(struct naru_channel *ch)
{
    ch->reopen->connected_at = clock_now();
}

int reopen_refused(struct naru_channel *ch, int r)
{
    char text[ERROR_SENTENCE_MAX];

    (void)snprintf(text, sizeof text, "%s", naru_explain());
    lose(ch, r, false);
    return error_set(-r, "%s; the next call connects again", text);
}

/* --- and the next connection --- */

void reopen_finish(struct naru_channel *ch)
{
    if (is_unanswered(ch->reopen))
        meeting_unwatch(ch->reopen->next->meeting); /* its close leaves that to the socket's last copy */
    ch->reopen->next = naru_channel_close(ch->reopen->next);
    set_timer(ch->reopen, clock_now()); /* for the calls that say it from now on */
}

/* It was to be tried for so long. */
static int gave_up(struct naru_channel *ch)
{
    const struct reopen *o = ch->reopen;

    reopen_finish(ch);
    return error_set(-o->lost_code,
                     "%s: the connection was lost, and nobody could be connected to within ?reconnect=%lldms",
                     ch->url, (long long)(o->options.reconnect_ns / NARU_MS(1)));
}

/* Waits for the back-off, or in between two attempts. 0 or -ECANCELED. */
static int pause_until(struct naru_channel *ch, int direction, int64_t until)
{
    struct pollfd interrupt = {.fd = ch->interrupt_fd[direction], .events = POLLIN};

    (void)fd_poll(&interrupt, ch->interruptible ? 1 : 0, until);
    return channel_take_interruption(ch, direction) ? error_expected(ECANCELED) : 0;
}

static int64_t earlier(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* Goes on with who has been asked. As connect_within(). */
static int await_answer(struct naru_channel *ch, int direction, int64_t timeout_ns)
{
    struct reopen *o = ch->reopen;
    int r = is_unanswered(o) ? meeting_go_on(o->next, direction, &timeout_ns) : 0;

    if (r == 0)
        return 0;
    if (r != -EAGAIN && r != -ETIMEDOUT) {
        o->next = naru_channel_close(o->next);
        return r == -ECONNRESET ? -EAGAIN : r; /* who did not answer was no connection that could be lost */
    }
    if (ch->fd >= 0 && o->next->meeting->epoll < 0 && meeting_watch(o->next->meeting, ch->fd) < 0)
        o->next = naru_channel_close(o->next); /* the timer is left */
    return r;
}

/* 0; -EAGAIN or -ETIMEDOUT; or another that naru_connect() says. */
static int connect_within(struct naru_channel *ch, int direction, int64_t timeout_ns,
                          struct naru_channel **ret_ch)
{
    struct reopen *o = ch->reopen;
    int r = o->next ? 0 : channel_connect(o->url, &o->options, timeout_ns, &o->next);

    if (r == 0)
        r = await_answer(ch, direction, timeout_ns);
    if (r < 0)
        return r;
    *ret_ch = o->next;
    o->next = NULL;
    return 0;
}

/* Connects until the deadline. 0, -ETIMEDOUT, -ECANCELED, or another that naru_connect() says. */
static int connect_until(struct naru_channel *ch, int direction, int64_t deadline,
                         struct naru_channel **ret_ch)
{
    for (;;) {
        int64_t left = deadline_left(deadline);
        int r = connect_within(ch, direction, ch->interruptible ? earlier(left, slice) : left, ret_ch);

        if (r == 0 && channel_take_interruption(ch, direction)) {
            ch->reopen->next = *ret_ch; /* the next call's */
            return error_expected(ECANCELED);
        }
        if (r != -ETIMEDOUT && r != -EAGAIN)
            return r;
        if (channel_take_interruption(ch, direction))
            return error_expected(ECANCELED);
        if (deadline_left(deadline) == 0)
            return error_expected(ETIMEDOUT);
    }
}

/* One attempt of a call that must not wait. Where connecting takes the other side's answer and cannot go on
 * without a call (tcp:) it gets a little time for that, a longer one each time: with none nobody would ever
 * be connected to. */
static int connect_at_once(struct naru_channel *ch, int direction, struct naru_channel **ret_ch)
{
    const struct reopen *o = ch->reopen;
    int64_t grace = o->step > grace_least ? earlier(o->step, grace_most) : grace_least;

    return connect_within(ch, direction, ch->ops->meets && !ch->ops->meet ? grace : NARU_NOWAIT, ret_ch);
}

/* The new connection's guts become ch's. 0, or an explained -errno: then it is lost again. */
static int revive(struct naru_channel *ch, struct naru_channel *fresh)
{
    struct reopen *o = ch->reopen;
    int r;

    guts_swap(ch, fresh);
    o->spare = fresh;
    o->lost = false;
    o->connected_at = clock_now();
    o->received = received(ch);
    atomic_fetch_add_explicit(&o->count, 1, memory_order_relaxed);
    PROBE3(reconnect, ch, ch->url, -o->lost_code);
    set_timer(o, 0);
    set_direction(ch);
    r = channel_rewatch(ch);
    if (r == 0)
        return 0;
    o->lost = true;
    retire(ch, false);
    back_off(o);
    return error_set(-r, "%s: the new connection cannot be polled: %s", ch->url, error_text(-r));
}

static int reconnect(struct naru_channel *ch, int direction, int64_t *timeout_ns)
{
    struct reopen *o = ch->reopen;
    int64_t deadline = deadline_after(*timeout_ns), limit = limit_of(o), until;
    bool waits = *timeout_ns > 0;
    struct naru_channel *fresh;
    int r = 0;

    if (deadline_left(limit) == 0)
        return gave_up(ch);
    if (!waits && !o->next && clock_now() < o->next_try)
        return error_expected(EAGAIN);
    until = earlier(deadline, limit);
    if (waits && !o->next)
        r = pause_until(ch, direction, earlier(o->next_try, until));
    if (r == 0)
        r = waits ? connect_until(ch, direction, until, &fresh) : connect_at_once(ch, direction, &fresh);
    if (r < 0 && r != -ECANCELED && !o->next)
        back_off(o);
    else if (r < 0)
        set_timer(o, wake_at(o));
    if (r == -ETIMEDOUT || r == -EAGAIN)
        return deadline_left(limit) == 0 ? gave_up(ch) : error_expected(waits ? ETIMEDOUT : EAGAIN);
    if (r < 0)
        return r;
    r = revive(ch, fresh);
    if (r == 0 && waits && *timeout_ns != NARU_FOREVER) {
        *timeout_ns = deadline_left(deadline);
        if (*timeout_ns == 0)
            *timeout_ns = 1; /* it was to wait, and is to say that time is up */
    }
    return r;
}

int reopen_for_sending(struct naru_channel *ch, int64_t *timeout_ns)
{
    const struct reopen *o = ch->reopen;

    if (!(o->direction & NARU_DIRECTION_SEND) || !o->lost)
        return 0;
    return reconnect(ch, CHANNEL_SENDING, timeout_ns);
}

int reopen_for_receiving(struct naru_channel *ch, int64_t *timeout_ns)
{
    const struct reopen *o = ch->reopen;

    if (!(o->direction & NARU_DIRECTION_RECEIVE) || (o->remains.holds & HOLDS_MESSAGES) || !o->lost)
        return 0;
    if (ch->finished) /* it has said all, and heard all */
        return error_set(-o->lost_code, "%s: the connection was lost after naru_channel_finish()", ch->url);
    return reconnect(ch, CHANNEL_RECEIVING, timeout_ns);
}
