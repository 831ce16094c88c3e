/* SPDX-License-Identifier: MIT */
/*
 * Connecting to a listener of shm:. This side makes its memory and both bells, passes them with its HELLO and
 * waits for the WELCOME, which comes when the listener's keeper, or without one its program, answers. Who
 * must not wait leaves the meeting with the channel, whose calls look for the WELCOME (meeting.h).
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/fd.h"
#include "channel/meeting.h"
#include "channel/shm/handshake.h"
#include "channel/shm/name.h"
#include "channel/shm/shm.h"
#include "channel/socket-io.h"
#include "channel/unix-connect.h"

enum {
    TRY_AGAIN = 1, /* the listener went, or is short of something */
    GOES_ON = 2    /* it has not answered yet */
};

struct shm_meeting {
    struct channel_meeting
        meeting; /* the first member: ch->meeting is that. Its fd: the socket, while they meet */
    struct shm_options options;
    struct fork_guard guard; /* of the socket, and of the memory */
    bool hung_up;            /* the other side, without a word, the last time */
    bool is_short;     /* or it has said that it is short of something, the last time it said anything */
    bool is_crowded;   /* our own user's descriptors on their way, so that none could be passed, that time */
    pid_t listener;    /* who listened then; 0: unknown */
    unsigned hang_ups; /* of that process, one after the other */
    int64_t connected_at;
    struct sealed own;
    int memory; /* own's, until it is passed */
    bool made;  /* this attempt has made it, which takes long if it is large ... */
    bool late;  /* ... and the other side may have hung up because of that, before the HELLO */
};

static int no_answer(const struct shm_meeting *m, const char *what)
{
    if (m->is_crowded)
        return error_set(ETIMEDOUT, "%s: cannot pass descriptors: %s, or wait longer", what,
                         socket_error_text(ETOOMANYREFS));
    if (m->hung_up)
        return error_set(
            ETIMEDOUT,
            "%s: a listener is there and hangs up instead of answering; it is none of shm:, or it "
            "was about to end: start another, or wait longer for it",
            what);
    if (m->is_short)
        return error_set(
            ETIMEDOUT,
            "%s: the listener is there and says that it is short of memory or descriptors (`ulimit "
            "-n`, `ulimit -v`, /dev/shm of a container); see to it, or wait longer",
            what);
    return error_set(
        ETIMEDOUT,
        "%s: a listener is there and does not answer; wait longer for it, or see whether it is stopped, has "
        "as many waiting for its naru_accept() as it lets (?backlog=), has no descriptors left, calls what "
        "?service=manual needs, and is one of shm: at all",
        what);
}

/* A listener of shm: hangs up without a word when it ends, and nobody meets it again. */
enum { HANG_UPS = 3 };

static int no_listener_of_ours(const struct shm_meeting *m, const char *what)
{
    return error_set(
        EPROTO,
        "%s: what listens there, process %lld, is no listener of shm:, it has hung up at our greeting %u "
        "times; use its own scheme (unix:?type=seqpacket), or another name",
        what, (long long)m->listener, m->hang_ups);
}

/* Another process than the last time starts anew. */
static void note_listener(struct shm_meeting *m, int fd)
{
    struct ucred who = {0};
    socklen_t length = sizeof who;

    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &length) < 0 || who.pid != m->listener)
        m->hang_ups = 0;
    m->listener = who.pid; /* 0 where this PID namespace has no number for it */
}

/* Both sides hold both. Whether there are any. */
static bool make_loop_bells(struct naru_channel *ch, int fds[HELLO_FDS_MOST])
{
    if (!shm_make_loop_bell(&ch->loop_bell))
        return false;
    if (!shm_make_loop_bell(&ch->their_loop_bell)) {
        ch->loop_bell = fd_close(ch->loop_bell);
        return false;
    }
    fds[HELLO_LISTENERS_LOOP_BELL] = ch->their_loop_bell;
    fds[HELLO_CONNECTORS_LOOP_BELL] = ch->loop_bell;
    return true;
}

/* Unless there is one that nobody was passed. 0 or explained. */
static int make_memory(struct shm_meeting *m, const char *what)
{
    m->made = !m->own.base;
    return m->made ? shm_link_make_lanes(what, m->options.ring, (unsigned)m->options.lanes, m->options.pool,
                                         &m->own, &m->memory)
                   : 0;
}

/* The HELLO was sent; or it has closed already, perhaps to refuse us, which stands to be read: then the
 * memory is nobody else's, and good for the next attempt. */
static void note_hello(struct shm_meeting *m, bool sent)
{
    m->late = !sent && clock_now() - m->connected_at >= handshake_hello_within / 2;
    if (sent)
        m->memory = fd_close(m->memory);
}

/* Makes what is passed, and passes it. The bells' far ends are nobody else's by the time that forks go on: a
 * child that had a copy would keep a dead listener's bell from hanging up. 0, TRY_AGAIN or explained. */
static int say_hello(struct shm_meeting *m, struct naru_channel *ch)
{
    struct handshake_message hello = shm_say(HANDSHAKE_HELLO, &m->options);
    int fds[HELLO_FDS_MOST] = {-1, -1, -1, -1, -1}, r;
    size_t count = HELLO_FDS;

    fork_hold();
    r = make_memory(m, ch->url);
    fds[HELLO_MEMORY] = m->memory;
    if (r == 0)
        r = shm_make_bell(ch->url, &ch->rfd, &fds[HELLO_RECEIVER_BELL]);
    if (r == 0)
        r = shm_make_bell(ch->url, &ch->wfd, &fds[HELLO_SENDER_BELL]);
    if (r == 0) {
        if (make_loop_bells(ch, fds))
            count = HELLO_FDS_MOST;
        r = handshake_send(m->meeting.fd, &hello, fds, count);
        m->is_crowded = r == -ETOOMANYREFS;
        if (r == 0 || r == -EPIPE || r == -ECONNRESET) {
            note_hello(m, r == 0);
            r = 0;
        } else if (m->is_crowded) {
            r = TRY_AGAIN; /* they are received, sooner or later, and nobody tells when */
        } else {
            r = error_set(-r, "%s: cannot pass descriptors: %s", ch->url, socket_error_text(-r));
        }
    }
    for (int i = HELLO_RECEIVER_BELL; i < HELLO_FDS; i++) /* the others are the meeting's, or the channel's */
        (void)fd_close(fds[i]);
    fork_release();
    return r;
}

/* Whether a WELCOME's descriptors are what they have to be; the memory is looked at by who maps it. */
static bool are_right(const struct handshake_packet *packet)
{
    return packet->fd_count == WELCOME_FDS || (packet->fd_count == WELCOME_FDS_MOST &&
                                               handshake_is_bell(packet->fds[WELCOME_RECEIVER_BELL], false) &&
                                               handshake_is_bell(packet->fds[WELCOME_SENDER_BELL], false));
}

/* 0, TRY_AGAIN or explained. */
static int use_welcome(struct shm_meeting *m, struct naru_channel *ch, struct handshake_packet *packet)
{
    const struct handshake_message own = shm_say(HANDSHAKE_HELLO, &m->options);
    struct handshake_message word;
    struct sealed theirs = {.base = NULL};
    struct shm *shm;
    enum handshake_reason reason = handshake_read(packet->bytes, packet->length, &own, &word);
    int r;

    if (reason == REASON_NONE && word.kind == HANDSHAKE_REFUSED)
        reason = (enum handshake_reason)word.reason;
    else if (reason == REASON_NONE && packet->fd_count < WELCOME_FDS_MOST && packet->fds_lost)
        return error_set(EMFILE, "%s: no room for the listener's descriptors; raise RLIMIT_NOFILE", ch->url);
    else if (reason == REASON_NONE && (word.kind != HANDSHAKE_WELCOME || !are_right(packet)))
        reason = REASON_PROTOCOL;
    m->is_short = reason == REASON_SHORT;
    if (m->is_short)
        return TRY_AGAIN;
    if (reason != REASON_NONE)
        return handshake_failed(ch->url, reason, &own, &word);
    r = shm_link_attach_lanes(ch->url, packet->fds[WELCOME_MEMORY], word.ring, word.lanes, own.pool_max,
                              &theirs);
    if (r == 0)
        r = shm_prepare(ch->url, &m->options, &m->own, &theirs, &shm);
    if (r < 0) {
        sealed_deinit(&theirs);
        return r;
    }
    channel_learn_peer(ch, m->meeting.fd);
    if (packet->fd_count == WELCOME_FDS_MOST) {
        ch->their_rfd = fd_steal(&packet->fds[WELCOME_RECEIVER_BELL]);
        ch->their_wfd = fd_steal(&packet->fds[WELCOME_SENDER_BELL]);
    }
    shm_open_channel(ch, &m->options, word.pool_max, &m->own, &theirs, shm);
    shm_note_cpu(ch, word.cpu);
    ch->side_fd = fd_steal(&m->meeting.fd);
    shm_link_claim(&shm->link);
    return 0;
}

/* Without waiting; forks are held off. 0, -EAGAIN (no sentence), TRY_AGAIN or explained. */
static int look_for_welcome(struct shm_meeting *m, struct naru_channel *ch)
{
    struct handshake_packet packet;
    int r = handshake_recv(m->meeting.fd, &packet);

    m->hung_up = r == -EPIPE;
    if (!m->late) /* else it has not heard our greeting */
        m->hang_ups = m->hung_up ? m->hang_ups + 1 : 0;
    m->is_short = m->is_short && !m->hung_up;
    if (r == 0) {
        r = use_welcome(m, ch, &packet);
        handshake_packet_close(&packet);
    } else if (r == -EPIPE) {
        r = TRY_AGAIN;
    } else if (r != -EAGAIN) {
        r = error_set(-r, "%s: receive: %s", ch->url, error_text(-r));
    }
    return r;
}

/* 0, TRY_AGAIN or explained. */
static int await_welcome(struct shm_meeting *m, struct naru_channel *ch, int64_t deadline)
{
    struct pollfd poll_fd = {.fd = m->meeting.fd, .events = POLLIN};
    bool late;
    int r = fd_poll(&poll_fd, 1, deadline);

    if (r < 0)
        return error_set(-r, "%s: poll: %s", ch->url, error_text(-r));
    late = r == 0;
    fork_hold();
    r = look_for_welcome(m, ch); /* when it is late, too: the answer may be there by now */
    fork_release();
    if (r == -EAGAIN)
        r = late ? no_answer(m, ch->url) : TRY_AGAIN;
    return r;
}

/* 0, GOES_ON, TRY_AGAIN or explained. */
static int look_at_once(struct shm_meeting *m, struct naru_channel *ch)
{
    int r;

    fork_hold();
    r = look_for_welcome(m, ch);
    fork_release();
    return r == -EAGAIN ? GOES_ON : r;
}

/* As far as it goes alone: to the HELLO. 0, TRY_AGAIN or explained. */
static int begin(struct shm_meeting *m, struct naru_channel *ch, const struct url *url,
                 const struct unix_name *name, int64_t deadline)
{
    int fd, r;

    fork_hold();
    /* Non-blocking: where the backlog is full connect(2) would sleep past the deadline. */
    fd = m->meeting.fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    fork_release();
    r = fd < 0 ? error_set(errno, "%s: socket: %s", ch->url, error_text(errno))
               : handshake_check_discards(ch->url);
    if (r == 0)
        r = unix_connect_until(fd, url, name, deadline);
    m->connected_at = clock_now();
    if (r == 0)
        note_listener(m, fd);
    if (r == 0 && !shm_allow_peer(&m->options.allowed, fd))
        r = error_set(EACCES,
                      "%s: permission denied: who listens there is another user; name it by ?allow-uid=, or "
                      "use a path instead of an abstract name",
                      ch->url);
    return r == 0 ? say_hello(m, ch) : r;
}

/* Undoes what there is of a meeting that has not become a connection. */
static void give_up(struct shm_meeting *m, struct naru_channel *ch)
{
    /* At once, before all that is to be undone: an answer must fail from here on, or somebody would accept
     * what closes in a moment. */
    if (m->meeting.fd >= 0)
        (void)shutdown(m->meeting.fd, SHUT_RD);
    if (m->memory < 0)
        shm_link_forsake(&m->own);
    fork_close(&ch->rfd);
    fork_close(&ch->wfd);
    fork_close(&ch->loop_bell);
    fork_close(&ch->their_loop_bell);
    fork_close(&ch->their_rfd);
    fork_close(&ch->their_wfd);
    fork_hold();
    if (m->meeting.fd >= 0) /* whatever else stands there to be received */
        m->meeting.fd = handshake_hang_up(m->meeting.fd);
    fork_release();
}

/* 0, GOES_ON, TRY_AGAIN or explained. */
static int meet_once(struct shm_meeting *m, struct naru_channel *ch, const struct url *url,
                     const struct unix_name *name, int64_t deadline)
{
    int r = begin(m, ch, url, name, deadline);

    if (r == 0)
        r = deadline == NARU_NOWAIT ? look_at_once(m, ch) : await_welcome(m, ch, deadline);
    if (r != 0 && r != GOES_ON)
        give_up(m, ch);
    return r;
}

static int meet(struct shm_meeting *m, struct naru_channel *ch, const struct url *url,
                const struct unix_name *name, int64_t deadline)
{
    int64_t step = 0;
    int r;

    while ((r = meet_once(m, ch, url, name, deadline)) == TRY_AGAIN) {
        if (m->hang_ups >= HANG_UPS && m->listener > 0)
            return no_listener_of_ours(m, ch->url);
        if (m->late && m->made) /* the next attempt has its memory, and is at once */
            continue;
        if (!backoff_sleep(&step, deadline))
            return no_answer(m, ch->url);
    }
    return r;
}

/* What it holds is closed in children, whatever becomes of the channel. */
static struct shm_meeting *meeting_new(const char *what)
{
    struct shm_meeting *m = calloc(1, sizeof *m);

    if (!m) {
        (void)error_set(ENOMEM, "%s: out of memory for a channel", what);
        return NULL;
    }
    m->meeting.fd = m->meeting.epoll = m->memory = -1;
    fork_guard_init(&m->guard);
    fork_guard_add(&m->guard, &m->meeting.fd);
    fork_guard_add(&m->guard, &m->memory);
    return m;
}

/* From now on it is the channel's, for shm_meet() and shm_part(). */
static void leave_with(struct naru_channel *ch, struct shm_meeting *m)
{
    (void)no_answer(m, ch->url);
    (void)snprintf(m->meeting.why, sizeof m->meeting.why, "%s", naru_explain());
    if (ch->keep_on_fork) {
        fork_hold();
        fork_guard_deinit(&m->guard);
        fork_guard_init(&m->guard);
        fork_release();
    }
    ch->meeting = &m->meeting;
}

int shm_connect(struct naru_channel *ch, struct url *url, const struct naru_options *opt, int64_t deadline)
{
    struct shm_meeting *m = meeting_new(url->text);
    struct unix_name name;
    int r = m ? shm_parse_options(url, opt, true, &m->options) : -ENOMEM;

    if (r == 0)
        r = url_check_unused(url); /* before a long wait */
    if (r == 0)
        r = shm_name_parse(url, true, &name);
    if (r == 0)
        r = meet(m, ch, url, &name, deadline);
    if (r == GOES_ON) {
        leave_with(ch, m);
        return 0;
    }
    if (m) {
        sealed_deinit(&m->own);
        fork_guard_close(&m->guard);
    }
    free(m);
    return r;
}

int shm_meet(struct naru_channel *ch)
{
    struct shm_meeting *m = (struct shm_meeting *)ch->meeting; /* its first member */
    int r = handshake_check_discards(ch->url);

    if (r < 0)
        return r;
    r = look_at_once(m, ch);
    if (r == TRY_AGAIN)
        return error_set(
            ECONNRESET,
            m->hung_up ? "%s: the listener has hung up without an answer: it ended, or is none of shm:; "
                         "connect again"
                       : "%s: the listener is short of memory or descriptors; connect again later",
            ch->url);
    return r == GOES_ON ? -EAGAIN : r;
}

void shm_part(struct naru_channel *ch, bool owner)
{
    struct shm_meeting *m = (struct shm_meeting *)ch->meeting;

    if (owner && !ch->state)
        give_up(m, ch);
    sealed_deinit(&m->own);
    fork_guard_close(&m->guard);
    m->meeting.fd = fd_close(m->meeting.fd); /* of one that children keep */
    m->memory = fd_close(m->memory);
}
