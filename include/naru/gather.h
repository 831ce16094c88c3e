/* SPDX-License-Identifier: MIT */
/*
 * Receiving from many senders by one call: from every peer of a listener, those who are there and those who
 * come meanwhile, of any mechanism that has connections (NARU_CAN_ACCEPT_MANY).
 *
 *   struct naru_gather *g;
 *   struct naru_gather_from from = NARU_INIT(struct naru_gather_from);
 *   r = naru_gather_new(&g);
 *   r = naru_gather_listen(g, "shm://orders", NULL, NULL);
 *   while ((n = naru_gather_recv(g, buf, sizeof buf, NARU_FOREVER, &from)) >= 0 || from.left)
 *       if (!from.left)
 *           r = naru_send(from.channel, "thanks", 6, NARU_NOWAIT);
 *
 * Fair: those who have something take turns, a message each, so that one who floods holds nobody up. Of each
 * sender the messages come in the order in which they were sent; between senders there is none. Nothing is
 * silent: that a peer has gone, and how, is told once, behind its last message. A peer whose bytes are not
 * what they have to be is told likewise (-EPROTO) and dropped; the others go on.
 *
 * On shm: no system call is made for a message while its sender is busy; one each 100 us asks the kernel for
 * new and for sleeping peers. A peer that is found idle for some 50 us is put to sleep upon, all of them in
 * one descriptor, so that the cost of waiting does not grow with their number. What is left to
 * naru_wait_any() (naru/wait.h) is the waiting for things that are not to be received from alike; it asks
 * each of its items each time.
 *
 * Threads: a gather belongs to one thread at a time; naru_gather_interrupt() may be called from any. The
 * peers' channels are the gather's: others may send on them, one thread each, as long as they last. Fork: as
 * a channel (naru/channel.h): in a child its calls return -ECHILD and naru_gather_close() frees memory.
 * Waiting: timeouts are as in naru/time.h.
 */
#ifndef NARU_GATHER_H
#define NARU_GATHER_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "naru/channel.h"
#include "naru/export.h"

NARU_BEGIN

struct naru_gather;

/* Whose message, or whose end, a call told of. NARU_INIT sets the size. */
struct naru_gather_from {
    size_t size;
    uint64_t
        number; /* of the peer: 1 for the first that came, never used twice; 0: the call told of nobody */
    struct naru_channel *channel; /* to answer on; NULL: as above. It lasts until the call after the one that
                                     told of the peer's end. */
    int left; /* 0: the peer is there; else it has gone: what the call returned, -EPIPE (closed), -EOWNERDEAD
                 (killed), -EPROTO (dropped), -ECONNRESET ... */
};

/* *ret_g: the caller's, ended with naru_gather_close(). -EMFILE, -ENFILE, -ENOMEM. */
NARU_API NARU_MUST_CHECK int naru_gather_new(struct naru_gather **ret_g);

/*
 * Ends the gather, its listeners and the channels of all its peers; what they had sent and nobody received is
 * lost, as with naru_channel_close(). Views stay valid. NULL is allowed. Returns NULL. Never blocks.
 */
NARU_API struct naru_gather *naru_gather_close(struct naru_gather *g);

/*
 * Listens at url, and accepts who connects there, in whatever calls of this gather follow. May be called
 * several times, so that some come by shm: and others by tcp:.
 *
 * opt: as of naru_listen(); may be NULL. ret_url: as naru_listener_url(), where the kernel chose the port;
 * may be NULL; valid until the listener's end was told, naru_gather_finish() or naru_gather_close().
 *
 * Errors of naru_listen(). -ENOTSUP: the mechanism has no connections
 * (its one channel receives from everybody: naru_accept() it and receive from that, or naru_gather_add() it),
 * or none that can be polled.
 */
NARU_API NARU_MUST_CHECK int naru_gather_listen(struct naru_gather *g, const char *url,
                                                const struct naru_options *opt, const char **ret_url);

/*
 * Receives from ch, too: one end of a pair, or a channel that was connected or accepted. It is the gather's
 * from here on, unless this fails.
 *
 * ret_number: the peer's number; may be NULL. -EAGAIN: it is not connected yet (naru_connect(NARU_NOWAIT)):
 * again, when its descriptor is ready. Its own errors, if it never will be. -ENOTSUP: it cannot receive, or
 * not be polled. -ENOMEM, -ENOSPC (fs.epoll.max_user_watches). -ECHILD.
 */
NARU_API NARU_MUST_CHECK int naru_gather_add(struct naru_gather *g, struct naru_channel *ch,
                                             uint64_t *ret_number);

/* The most peers there may be at once; by default 4096. Those who come then wait in the listener's queue,
 * until its backlog is full and until somebody has gone. max: at least 1. Never fails otherwise: -EINVAL,
 * -ECHILD. */
NARU_API NARU_MUST_CHECK int naru_gather_limit(struct naru_gather *g, size_t max);

/*
 * Receives the next message of any peer into buf. Returns its length.
 *
 * from: may be NULL. A negative result with from->left set tells of that peer's end, and no more: its channel
 * is closed by the next call here, and the next message is for that, too. With from->channel set and left 0
 * it concerns that peer's message, as of naru_recv(): -EMSGSIZE (it is kept for that peer's next turn, which
 * needs room for it), -EBADMSG, -ENOMEM, -EMFILE (shm: it stays).
 *
 * With neither: -EAGAIN (NARU_NOWAIT), -ETIMEDOUT: nobody has anything. -ECANCELED: naru_gather_interrupt().
 * -EMFILE, -ENFILE, -ENOMEM: somebody wants to connect, and this process is short of something; told once,
 * and tried again each 100 ms (for which naru_gather_fd() wakes an event loop) and when a peer goes. -ENOENT:
 * a listener's name was removed, so that nobody can come there any more; told once, by a call that waits
 * within a second; the peers stay. Other errors of naru_accept(). -ENOTCONN: there is no peer, and no
 * listener that one could come by. -ECHILD.
 */
NARU_API NARU_MUST_CHECK ssize_t naru_gather_recv(struct naru_gather *g, void *buf, size_t cap,
                                                  int64_t timeout_ns, struct naru_gather_from *from);

/* Likewise with all that struct naru_message can say, as naru_recv_message(): returns 0 and sets m->length.
 */
NARU_API NARU_MUST_CHECK int naru_gather_recv_message(struct naru_gather *g, struct naru_message *ret_m,
                                                      int64_t timeout_ns, struct naru_gather_from *from);

/* Likewise where the message lies, as naru_borrow(): returns 0; ended with naru_release(), also after the
 * peer has gone and after naru_gather_close(). -EBUSY (with from->channel): too many views of that peer are
 * out, which each of its turns says until one is released. */
NARU_API NARU_MUST_CHECK int naru_gather_borrow(struct naru_gather *g, int64_t timeout_ns,
                                                struct naru_view *ret_view, struct naru_gather_from *from);

/*
 * Waits until there are at least n peers, accepting who comes; receives nothing. So a program that sends what
 * all have to get need not guess whether they are there. Returns how many there are; one whose end was not
 * told yet counts.
 *
 * -EAGAIN (NARU_NOWAIT), -ETIMEDOUT: fewer. Other errors as naru_gather_recv() without a peer. -EINVAL: n is
 * more than naru_gather_limit().
 */
NARU_API NARU_MUST_CHECK ssize_t naru_gather_wait_peers(struct naru_gather *g, size_t n, int64_t timeout_ns);

/*
 * Lets nobody new connect: ends the listeners, and who has connected by now is a peer, also beyond
 * naru_gather_limit(). For an orderly end: when this has returned 0, or naru_gather_recv() -ENOTCONN, nothing
 * is lost that a sender has sent. Without it, who comes between the last receive and naru_gather_close() may
 * have sent and gone already. Returns how many peers there are; one whose end was not told yet counts.
 *
 * On tcp: the kernel resets who connects in the very moment. Never waits. -EMFILE, -ENFILE, -ENOMEM: it was
 * short of something for some of them, whose ends see a close; the listeners have ended nevertheless.
 * -ECHILD.
 */
NARU_API NARU_MUST_CHECK ssize_t naru_gather_finish(struct naru_gather *g);

/* How many there are. Never fails. */
NARU_API size_t naru_gather_peers(const struct naru_gather *g);

/*
 * Goes through the peers, in the order in which they came: to send to each of them, for instance. from:
 * begins as NARU_INIT makes it, and is then the one before. 1: from is the next; 0: there is none. No other
 * call of this gather in between, except naru_gather_drop() of that very peer.
 */
NARU_API int naru_gather_next(struct naru_gather *g, struct naru_gather_from *from);

/* Closes a peer's channel. It is not told of any more. -ENOENT: there is no such peer. -ECHILD. */
NARU_API NARU_MUST_CHECK int naru_gather_drop(struct naru_gather *g, uint64_t number);

/* A level-triggered descriptor for any event loop, to be polled for NARU_IN: readable when a
 * naru_gather_recv() with NARU_NOWAIT is worth a call. It is the gather's: do not close or read it. From the
 * first call of this on, a peer with nothing to say is slept upon at once. The first call makes another
 * descriptor, a timer: -EMFILE, -ENFILE, -ENOMEM, -ENOSPC (fs.epoll.max_user_watches). -ECHILD. */
NARU_API NARU_MUST_CHECK int naru_gather_fd(struct naru_gather *g);

/* Ends a wait: a call that waits now, or the next one that would, returns -ECANCELED. Async-signal-safe, any
 * thread, leaves errno alone. */
NARU_API void naru_gather_interrupt(struct naru_gather *g);

NARU_END

#endif
