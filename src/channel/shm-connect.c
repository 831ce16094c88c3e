/* SPDX-License-Identifier: MIT */
/*
 * Connecting to a listener of shm:. This side makes its memory and both bells, passes them with its HELLO and
 * waits for the WELCOME, which comes when the listener's keeper, or without one its program, answers.
 */
#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/fd.h"
#include "channel/shm-handshake.h"
#include "channel/shm-name.h"
#include "channel/shm.h"
#include "channel/unix-connect.h"

enum { TRY_AGAIN = 1 }; /* the listener went, or is short of something */

struct meeting {
    const struct url *url;
    const struct shm_options *options;
    struct unix_name name;
    int64_t deadline;
    int fd;       /* the socket, while they meet */
    bool hung_up; /* the other side, without a word, the last time */
    struct sealed own;
};

static int no_answer(const struct meeting *m)
{
    if (m->hung_up)
        return error_set(
            ETIMEDOUT,
            "%s: a listener is there and hangs up instead of answering; it is none of shm:, or it "
            "was about to end: start another, or wait longer for it",
            m->url->text);
    return error_set(
        ETIMEDOUT,
        "%s: a listener is there and does not answer; wait longer for it, or see whether it is stopped, has "
        "as "
        "many waiting for its naru_accept() as it lets (?backlog=), calls what ?service=manual needs, and is "
        "one of shm: at all",
        m->url->text);
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

/* Makes what is passed, and passes it. The bells' far ends are nobody else's by the time that forks go on: a
 * child that had a copy would keep a dead listener's bell from hanging up. 0, TRY_AGAIN or explained. */
static int say_hello(struct meeting *m, struct naru_channel *ch)
{
    struct handshake_message hello = shm_say(HANDSHAKE_HELLO, m->options);
    int fds[HELLO_FDS_MOST] = {-1, -1, -1, -1, -1}, r;
    size_t count = HELLO_FDS;

    fork_hold();
    r = shm_link_make_lanes(m->url->text, m->options->ring, (unsigned)m->options->lanes, m->options->pool,
                            &m->own, &fds[HELLO_MEMORY]);
    if (r == 0)
        r = shm_make_bell(m->url->text, &ch->rfd, &fds[HELLO_RECEIVER_BELL]);
    if (r == 0)
        r = shm_make_bell(m->url->text, &ch->wfd, &fds[HELLO_SENDER_BELL]);
    if (r == 0) {
        if (make_loop_bells(ch, fds))
            count = HELLO_FDS_MOST;
        r = handshake_send(m->fd, &hello, fds, count);
        /* It has closed already: to refuse us, which stands to be read. */
        if (r == -EPIPE || r == -ECONNRESET)
            r = 0;
        else if (r < 0)
            r = error_set(-r, "%s: cannot pass descriptors: %s", m->url->text, error_text(-r));
    }
    for (int i = HELLO_MEMORY; i < HELLO_FDS; i++) /* the others are the channel's */
        (void)fd_close(fds[i]);
    fork_release();
    return r;
}

/* Whether a WELCOME's descriptors are what they have to be; the memory is looked at by who maps it. */
static bool are_right(const struct handshake_packet *packet)
{
    return packet->fd_count == WELCOME_FDS ||
           (packet->fd_count == WELCOME_FDS_MOST && handshake_is_bell(packet->fds[WELCOME_RECEIVER_BELL]) &&
            handshake_is_bell(packet->fds[WELCOME_SENDER_BELL]));
}

/* 0, TRY_AGAIN or explained. */
static int use_welcome(struct meeting *m, struct naru_channel *ch, struct handshake_packet *packet)
{
    const struct handshake_message own = shm_say(HANDSHAKE_HELLO, m->options);
    struct handshake_message word;
    struct sealed theirs;
    enum handshake_reason reason = handshake_read(packet->bytes, packet->length, &own, &word);
    int r;

    if (reason == REASON_NONE && word.kind == HANDSHAKE_REFUSED)
        reason = (enum handshake_reason)word.reason;
    else if (reason == REASON_NONE && packet->fd_count < WELCOME_FDS_MOST && packet->fds_lost)
        return error_set(EMFILE, "%s: no room for the listener's descriptors; raise RLIMIT_NOFILE",
                         m->url->text);
    else if (reason == REASON_NONE && (word.kind != HANDSHAKE_WELCOME || !are_right(packet)))
        reason = REASON_PROTOCOL;
    if (reason == REASON_SHORT)
        return TRY_AGAIN;
    if (reason != REASON_NONE)
        return handshake_failed(m->url->text, reason, &own, &word);
    r = shm_link_attach_lanes(m->url->text, packet->fds[WELCOME_MEMORY], word.ring, word.lanes, own.pool_max,
                              &theirs);
    if (r < 0)
        return r;
    channel_learn_peer(ch, m->fd);
    if (packet->fd_count == WELCOME_FDS_MOST) {
        ch->their_rfd = fd_steal(&packet->fds[WELCOME_RECEIVER_BELL]);
        ch->their_wfd = fd_steal(&packet->fds[WELCOME_SENDER_BELL]);
    }
    r = shm_open_channel(ch, m->options, word.pool_max, &m->own, &theirs);
    if (r < 0)
        return r;
    shm_note_cpu(ch, word.cpu);
    ch->side_fd = fd_steal(&m->fd);
    shm_link_claim(&((struct shm *)ch->state)->link);
    return 0;
}

/* 0, TRY_AGAIN or explained. */
static int await_welcome(struct meeting *m, struct naru_channel *ch)
{
    struct pollfd poll_fd = {.fd = m->fd, .events = POLLIN};
    struct handshake_packet packet;
    bool late;
    int r = fd_poll(&poll_fd, 1, m->deadline);

    if (r < 0)
        return error_set(-r, "%s: poll: %s", m->url->text, error_text(-r));
    late = r == 0;
    fork_hold();
    r = handshake_recv(m->fd, &packet); /* when it is late, too: the answer may be there by now */
    m->hung_up = r == -EPIPE;
    if (r == 0) {
        r = use_welcome(m, ch, &packet);
        handshake_packet_close(&packet);
    } else if (r == -EAGAIN && late) {
        /* At once, before all that is to be undone: an answer must fail from here on, or somebody would
         * accept what closes in a moment. */
        (void)shutdown(m->fd, SHUT_RD);
        r = no_answer(m);
    } else if (r == -EPIPE || r == -EAGAIN) {
        r = TRY_AGAIN;
    } else {
        r = error_set(-r, "%s: receive: %s", m->url->text, error_text(-r));
    }
    fork_release();
    return r;
}

/* 0, TRY_AGAIN or explained. */
static int meet(struct meeting *m, struct naru_channel *ch)
{
    int r = m->fd < 0 ? error_set(errno, "%s: socket: %s", m->url->text, error_text(errno))
                      : handshake_check_discards(m->url->text);

    if (r == 0)
        r = unix_connect_until(m->fd, m->url, &m->name, m->deadline);
    if (r == 0 && !shm_allow_peer(&m->options->allowed, m->fd))
        r = error_set(EACCES,
                      "%s: permission denied: who listens there is another user; name it by ?allow-uid=, or "
                      "use a path instead of an abstract name",
                      m->url->text);
    if (r == 0)
        r = say_hello(m, ch);
    if (r == 0)
        r = await_welcome(m, ch);
    if (r != 0) {
        shm_link_forsake(&m->own);
        fork_close(&ch->rfd);
        fork_close(&ch->wfd);
        fork_close(&ch->loop_bell);
        fork_close(&ch->their_loop_bell);
        fork_close(&ch->their_rfd);
        fork_close(&ch->their_wfd);
    }
    return r;
}

/* With a socket of its own, which children close. */
static int meet_once(struct meeting *m, struct naru_channel *ch)
{
    struct fork_guard guard;
    int r;

    fork_hold();
    m->fd = -1;
    fork_guard_init(&guard);
    fork_guard_add(&guard, &m->fd);
    /* Non-blocking: where the backlog is full connect(2) would sleep past the deadline. */
    m->fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    fork_release();
    r = meet(m, ch);
    fork_hold();
    if (m->fd >= 0) /* whatever else stands there to be received */
        m->fd = handshake_hang_up(m->fd);
    fork_guard_close(&guard);
    fork_release();
    return r;
}

int shm_connect(struct naru_channel *ch, struct url *url, const struct naru_options *opt, int64_t deadline)
{
    struct shm_options options;
    struct meeting m = {.url = url, .options = &options, .deadline = deadline};
    int64_t step = 0;
    int r = shm_parse_options(url, opt, true, &options);

    if (r == 0)
        r = url_check_unused(url); /* before a long wait */
    if (r == 0)
        r = shm_name_parse(url, true, &m.name);
    if (r < 0)
        return r;
    while ((r = meet_once(&m, ch)) == TRY_AGAIN)
        if (!backoff_sleep(&step, deadline))
            return no_answer(&m);
    return r;
}
