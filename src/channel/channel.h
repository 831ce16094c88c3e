/* SPDX-License-Identifier: MIT */
/*
 * The inside of a channel: what every mechanism shares, and the operations a mechanism supplies.
 *
 * A mechanism is one file holding one constant `struct channel_ops` (one for each variant, such as
 * unix?type=stream), named in table.c. It opens descriptors and makes single attempts: it never loops on
 * EINTR, never waits except inside the one kernel call it was allowed to block in, never frames and never
 * buffers. channel.c turns attempts into calls with deadlines; stream.c turns bytes into messages.
 *
 *   naru_send -> channel.c (deadline, EINTR, interrupt) -> ops->send
 *                                                            | a queue's own (posixmq.c, unix.c ...)
 *                                                            ` stream_send (frame.c) -> ops->write
 *
 * Attempts return 0 or a length, or -EAGAIN (nothing happened; wait and try again), -EINTR, or another -errno
 * that is final and explained (error_set, naming ch->url). With block true they may sleep in the kernel
 * without limit; with block false they must not sleep at all.
 */
#ifndef NARU_CHANNEL_CHANNEL_H
#define NARU_CHANNEL_CHANNEL_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/fork.h"
#include "base/list.h"
#include "base/url.h"
#include "naru/channel.h"

struct stream;

/* A descriptor set that came or goes with bytes of a stream (SCM_RIGHTS). */
struct stream_fds {
    int *fds;
    size_t count, capacity;
};

struct channel_ops {
    struct naru_mechanism row;
    const char *variant; /* the ?type= that chooses this row among those of one scheme; the first row is the
                            default */

    /* Opening. url's options are consumed with url_option...(); opt has been completed from the URL already
     * (the common options: see channel_open_options). They set ch->rfd, ch->wfd, ch->direction, ch->peer and
     * ch->state. On failure they leave nothing open; channel.c frees ch. NULL: the mechanism cannot. */
    int (*connect)(struct naru_channel *ch, struct url *url, const struct naru_options *opt,
                   int64_t deadline);
    int (*pair)(struct naru_channel *ch[2], struct url *url, const struct naru_options *opt);
    int (*listen)(struct naru_listener *l, struct url *url, const struct naru_options *opt);
    int (*accept)(struct naru_listener *l, struct naru_channel *ch); /* an attempt; -EAGAIN: poll l->fd */
    void (*unlisten)(
        struct naru_listener *l); /* before l->fd is closed: remove names, free l->state; may be NULL */
    int (*remove)(struct url *url);

    /* One message, one attempt. Byte streams use stream_send and stream_recv here. recv fills m->iov and sets
     * m->length and the rest of *m; a message larger than the iov is kept (see channel_keep) and answered
     * with -EMSGSIZE. */
    int (*send)(struct naru_channel *ch, const struct naru_message *m, bool block);
    ssize_t (*send_batch)(struct naru_channel *ch, const struct naru_message *m, size_t n,
                          bool block); /* NULL: one by one */
    int (*recv)(struct naru_channel *ch, struct naru_message *m, bool block);

    /* Bytes, one attempt: what stream.c moves frames with. read returns 0 at the end of the stream. fds may
     * be NULL. */
    ssize_t (*write)(struct naru_channel *ch, const struct iovec *iov, int count,
                     const struct stream_fds *fds, bool block);
    ssize_t (*read)(struct naru_channel *ch, const struct iovec *iov, int count, struct stream_fds *fds,
                    bool block);

    /* Waits until an attempt is worth it. 0, -ETIMEDOUT, -ECANCELED, -errno. NULL: poll(2) on rfd or wfd. */
    int (*wait)(struct naru_channel *ch, int event, int64_t deadline);

    /* How much that was sent the peer has not taken: >= 0, or -errno. NULL: cannot tell. */
    int64_t (*untaken)(struct naru_channel *ch);

    /* Before the descriptors are closed: free ch->state. May be NULL. owner: false in a forked child, which
     * must free memory only, and leave child processes, names and peers alone. */
    void (*close)(struct naru_channel *ch, bool owner);
};

/* Both directions keep their own: one thread may send while another receives. */
struct channel_counters {
    _Atomic uint64_t messages, bytes, dropped;
};

enum { CHANNEL_SENDING = 0, CHANNEL_RECEIVING = 1 };

struct naru_channel {
    const struct channel_ops *ops;
    char *url;
    enum naru_direction direction; /* never DEFAULT once open */
    int rfd, wfd;                  /* what is read and written; may be the same; -1: none */
    bool foreign;                  /* the descriptors were inherited: their flags are not ours to change */
    size_t max_message;
    struct fork_guard guard;
    struct naru_peer peer;
    int peer_pidfd; /* -1: unknown */
    void *state;    /* the mechanism's own */

    struct stream *stream; /* byte streams only */
    struct {               /* a received message that was larger than the caller's room */
        uint8_t *data;
        size_t capacity, length;
        bool full;
        struct naru_message meta; /* type, priority, sender of it */
    } kept;

    /* naru_interrupt(): one flag and one eventfd a direction, so that each waiter has a wake-up of its own.
     */
    bool interruptible;
    _Atomic bool interrupted[2];
    int interrupt_fd[2];

    struct channel_counters counters[2];
    int fd;       /* what naru_channel_fd() gave; -1: not asked for */
    int ready_fd; /* eventfd nested in it, set while messages are held here; -1: not needed */
    bool ready;
    bool refused; /* the last send found no room: want() includes NARU_OUT */
    struct channel_loan *loan;
    struct list views; /* borrowed blocks, so that close can leave them to their holders */
    struct channel_block *spare;
};

struct naru_listener {
    const struct channel_ops *ops;
    char *url;
    struct naru_options options; /* for the channels it accepts */
    int fd;                      /* polled for NARU_IN */
    int lock_fd;                 /* held while the endpoint lives; -1: the kernel decides */
    bool taken;                  /* without NARU_CAN_ACCEPT_MANY: the one channel is out */
    struct fork_guard guard;
    void *state;
};

/* The row for a URL: by scheme, and ?type= among variants. NULL after an explained -EINVAL. */
const struct channel_ops *channel_find(struct url *url);

/* Turns a byte stream's opened descriptors into messages: to be called at the end of connect, pair and accept
 * of stream mechanisms. shared: others may read the same stream, so nothing is read ahead unless asked for.
 */
int channel_make_stream(struct naru_channel *ch, const struct naru_options *opt, enum naru_frame usual,
                        bool shared);

/* Keeps a received message that does not fit the caller's iov: the first part from the iov (fitted bytes),
 * the rest already in ch->kept.data behind `fitted`, or all of it from data. Returns the explained -EMSGSIZE.
 */
int channel_keep(struct naru_channel *ch, const struct naru_message *m, size_t length);

/* Makes sure that ch->kept.data has that capacity. 0 or -ENOMEM. */
int channel_keep_reserve(struct naru_channel *ch, size_t capacity);

/* The explained -EMSGSIZE of a send: "unix:///x: message of 9000 bytes exceeds ...; <mend>". mend may be "".
 */
int channel_too_large(const struct naru_channel *ch, size_t length, size_t limit, const char *mend);

/* The peer is gone: -EPIPE (closed) or -EOWNERDEAD (killed, where peer_pidfd tells), explained. */
int channel_peer_gone(struct naru_channel *ch);

/* Remembers who is at the other end of a unix socket (SO_PEERCRED) and holds a pidfd on it. Never fails: what
 * is unknown stays -1. */
void channel_learn_peer(struct naru_channel *ch, int fd);

/* Waits by back-off where nothing announces readiness, heeding naru_interrupt(). For ops->wait: *step is 0 at
 * first. */
int channel_wait_backoff(struct naru_channel *ch, int event, int64_t deadline);

/* Bytes in all pieces. SIZE_MAX if they overflow. */
size_t message_length(const struct naru_message *m);

/* Copies min(length, room) bytes into or out of the pieces; returns the number. */
size_t message_scatter(const struct naru_message *m, size_t offset, const void *data, size_t length);
size_t message_gather(const struct naru_message *m, void *data, size_t capacity);

/* Closes what was received and will not be handed on. */
void channel_drop_fds(struct naru_channel *ch, const int *fds, size_t count);

#endif
