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
#include "base/probe.h"
#include "base/url.h"
#include "naru/channel.h"

struct stream;

/* A descriptor set that came or goes with bytes of a stream (SCM_RIGHTS). */
struct stream_fds {
    int *fds;
    size_t count, capacity;
};

/* Options that many mechanisms have, as lines of their rows' `options`. */
#define CHANNEL_OPTIONS_STREAM(usual)                                                                        \
    "frame=HOW\tmessages are told apart, at both ends alike, by len32: a 32-bit length before each; line, "  \
    "nul: a mark behind each; raw: nothing; varint, header: a length as of protobuf, of language servers "   \
    "(" usual ")\n"                                                                                          \
    "read-ahead=yes|no\tone read may take many messages (where nobody else reads: yes)\n"
#define CHANNEL_OPTION_BUFFER "buffer=SIZE\tkernel buffer wanted (the kernel's choice)\n"
#define CHANNEL_OPTION_MODE   "mode=0660\tpermissions of what is created (0600)\n"

/* What a call waited for when its time was up. */
enum channel_late { CHANNEL_LATE_MESSAGE, CHANNEL_LATE_ROOM, CHANNEL_LATE_STAGE };

struct channel_ops {
    struct naru_mechanism row;
    const char *variant; /* the ?type= that chooses this row among those of one scheme; the first row is the
                            default */

    /* Opening. url's options are consumed with url_option...(); opt has been completed from the URL already
     * (the common options: see channel_options). They set ch->rfd, ch->wfd, ch->direction, ch->peer and
     * ch->state. On failure they leave nothing open but those; channel.c frees ch. NULL: the mechanism
     * cannot.
     *
     * Descriptors (base/fork.h): the channel is guarded already, so what stands in its fields is closed in
     * children. connect makes one and puts it there within one fork_hold(); accept and, but for what reaches
     * the network, listen are called with forks held off, and so must not wait. */
    int (*connect)(struct naru_channel *ch, struct url *url, const struct naru_options *opt,
                   int64_t deadline);
    int (*pair)(struct naru_channel *ch[2], struct url *url, const struct naru_options *opt);
    int (*listen)(struct naru_listener *l, struct url *url, const struct naru_options *opt);
    int (*accept)(struct naru_listener *l, struct naru_channel *ch); /* an attempt; -EAGAIN: poll l->fd */
    int (*dispatch)(
        struct naru_listener *l);         /* naru_listener_dispatch(), likewise; NULL: the kernel does it */
    int (*stop)(struct naru_listener *l); /* lets nobody new connect; accept goes on giving who has, and is
                                             then -EAGAIN, -EINVAL or -ENOENT. 0, or explained: what was
                                             lacking for some of those. NULL: it cannot be */
    void (*await)(struct naru_listener *l,
                  int64_t deadline);                       /* where there is no l->fd: sleeps until an accept
                                                              is worth it, or for a second. NULL: by back-off */
    int (*say_nobody)(struct naru_listener *l);            /* the time of an accept is up: -ETIMEDOUT,
                                                              explained, or error_expected(). NULL: likewise */
    void (*unlisten)(struct naru_listener *l, bool owner); /* before l->fd is closed: free l->state and, if
                                                              owner, remove names; may be NULL */
    int (*remove)(struct url *url);

    /* One message, one attempt. Byte streams use stream_send and stream_recv here. recv fills m->iov and sets
     * m->length and the rest of *m; a message larger than the iov is kept (see channel_keep) and answered
     * with -EMSGSIZE. */
    int (*send)(struct naru_channel *ch, const struct naru_message *m, bool block);
    ssize_t (*send_batch)(struct naru_channel *ch, const struct naru_message *m, size_t n,
                          bool block); /* NULL: one by one */
    int (*recv)(struct naru_channel *ch, struct naru_message *m, bool block);

    /* The short way of most messages, for calls that wait without limit: bytes in one piece, with nothing
     * begun, kept or beside them, while ch->short_way says so. They are the rest of naru_send() and
     * naru_recv(): they may sleep, and end in channel_sent() and channel_received(). Where there is a look,
     * after one that found something, recv_bytes may be called with any limit. NULL: there is none. */
    int (*send_bytes)(struct naru_channel *ch, const void *data, size_t length);
    ssize_t (*recv_bytes)(struct naru_channel *ch, void *buf, size_t capacity, int64_t timeout_ns);

    /* Bytes, one attempt: what stream.c moves frames with. read returns 0 at the end of the stream. fds may
     * be NULL. */
    ssize_t (*write)(struct naru_channel *ch, const struct iovec *iov, int count,
                     const struct stream_fds *fds, bool block);
    ssize_t (*read)(struct naru_channel *ch, const struct iovec *iov, int count, struct stream_fds *fds,
                    bool block);

    /* Loan and borrow where the message lies: all of them, or none (NULL: over a buffer, see loan.c).
     *
     * loan sets ret_loan->data (never NULL) and ->capacity; one at a time. commit sends its first bytes, as
     * many as m has, with what else m says. Both are attempts; who sends another message meanwhile where that
     * cannot be gets -EBUSY. cancel ends a loan that was not committed. borrow fills all of *ret_view but
     * size, with ->internal a struct channel_view; release, through that, ends it, whether or not the channel
     * is still open. */
    int (*loan)(struct naru_channel *ch, size_t length, bool block, struct naru_loan *ret_loan);
    int (*commit)(struct naru_channel *ch, const struct naru_message *m, bool block);
    void (*cancel)(struct naru_channel *ch);
    int (*borrow)(struct naru_channel *ch, bool block, struct naru_view *ret_view);

    /* The short way of those, likewise while ch->short_way says so, with any limit: the rest of naru_loan(),
     * naru_commit() (without meta) and naru_borrow(). What cannot be done at once they leave to
     * channel_loan_slowly() and so on. short_loan ends in channel_lent(), short_commit in
     * channel_committed(), which comes to nothing else. NULL: there is none. */
    int (*short_loan)(struct naru_channel *ch, size_t length, int64_t timeout_ns, struct naru_loan *ret_loan);
    int (*short_commit)(struct naru_loan *loan, size_t length);
    int (*short_borrow)(struct naru_channel *ch, int64_t timeout_ns, struct naru_view *ret_view);

    /* ch->state has come from another struct naru_channel (reopen.h), and may point into that. NULL: it does
     * not. */
    void (*moved)(struct naru_channel *ch);

    /* Connecting takes the other side's answer, not the kernel's alone. */
    bool meets;

    /* Connecting that goes on after naru_connect(NARU_NOWAIT): connect has left ch->meeting (meeting.h), and
     * ch->direction as it was. meet: an attempt to find the answer: 0, and ch is what connect would have
     * made; -EAGAIN; or -errno, final and explained. part, after either, or before the close: gives up all
     * that the meeting still holds, but not its memory; owner: as for close. NULL: connect never leaves one.
     */
    int (*meet)(struct naru_channel *ch);
    void (*part)(struct naru_channel *ch, bool owner);

    /* Waits until an attempt is worth it. 0, -ETIMEDOUT, -ECANCELED, -errno. NULL: poll(2) on rfd or wfd. */
    int (*wait)(struct naru_channel *ch, int event, int64_t deadline);

    /* Whether a receive is worth it although rfd (poll_fd) does not show it, for naru_channel_fd(). NULL: no.
     */
    bool (*holds)(struct naru_channel *ch);

    /* Whether a receive is worth it; asks the kernel for nothing. NULL: only the kernel knows. */
    bool (*look)(struct naru_channel *ch);

    /* For naru_channel_fd(), after a send that was refused: whether there is room already. If not, this has
     * seen to it that wfd will show room_event. NULL: it does so by itself. */
    bool (*has_room)(struct naru_channel *ch);

    /* Ends sending alone. NULL: shutdown(2) on a socket, close(2) on a descriptor that only sends. */
    int (*finish)(struct naru_channel *ch);

    /* This process has become the owner of a pair's end, by using it: another thread may use it already. Or
     * of a channel that it adopts, with the views that were out when it was forked. 0; or, of one that is
     * adopted, the explained -EOWNERDEAD: it is too late, and every call says so. NULL: nothing to do. */
    int (*claim)(struct naru_channel *ch, bool adopted);

    /* How much that was sent the peer has not taken: >= 0, or -errno (channel_peer_gone() where it can take
     * no more). NULL: cannot tell. */
    int64_t (*untaken)(struct naru_channel *ch);

    /* Likewise what it has not released: views that it holds count. NULL: cannot tell. */
    int64_t (*undone)(struct naru_channel *ch);

    /* Waits until it is worth to ask again. As wait. NULL: by back-off. */
    int (*wait_for_stage)(struct naru_channel *ch, enum naru_stage stage, int64_t deadline);

    /* The time of a call is up: -ETIMEDOUT, explained by what this end knows of the other, or
     * error_expected(). NULL: it knows nothing. */
    int (*say_late)(struct naru_channel *ch, enum channel_late late);

    /* The explained -EMSGSIZE for a message longer than ch->max_message. NULL: channel_too_large() with
     * ch->limit_mend. */
    int (*too_large)(const struct naru_channel *ch, size_t length);

    /* What wait(2) said of the child process; -1 while it runs. NULL: there is none. */
    int (*exit_status)(const struct naru_channel *ch);

    /* Before the descriptors are closed: free ch->state. May be NULL. owner: false in a forked child, which
     * must free memory only, and leave child processes, names and peers alone. */
    void (*close)(struct naru_channel *ch, bool owner);
};

/* What a view's `internal` points to: the beginning of whatever holds the message. */
struct channel_view {
    void (*release)(struct channel_view *view);
};

/* Both directions keep their own: one thread may send while another receives. */
struct channel_counters {
    _Atomic uint64_t messages, bytes, dropped;
};

enum { CHANNEL_SENDING = 0, CHANNEL_RECEIVING = 1 };

enum {
    CHANNEL_LOOKS_FOR_EVER = 1 << 14
}; /* of ch->looks: one does not sleep, and asks the kernel as often */

enum { CHANNEL_FDS_MAX = 253 }; /* SCM_MAX_FD of include/net/scm.h: descriptors in one sendmsg(2) */

struct channel_block;

/* A peer's address, where messages come from more than one. */
struct channel_address {
    socklen_t length; /* 0: none */
    union {
        struct sockaddr any;
        struct sockaddr_storage storage;
    };
};

struct naru_channel {
    const struct channel_ops *ops;
    /* By direction: the longest message (the largest room for one) that may go by the short way; 0: none may,
     * until the long way has been gone once. One number in place of everything that stands against it:
     * channel_update_ready(), called by the thread of that direction. */
    size_t short_way[2];
    /* What short_way[CHANNEL_SENDING] was found to be last; short_loan may make that 0 until its commit. 0:
     * loans and commits have to go the long way, too. */
    size_t short_way_then;
    size_t short_max; /* the longest message for which send_bytes is of any use */
    char *url;
    enum naru_direction direction; /* never DEFAULT once open */
    int rfd, wfd;                  /* what is read and written; may be the same; -1: none */
    int poll_fd;    /* polled for NARU_IN in rfd's place, where rfd cannot be (regular files); -1: rfd */
    int room_event; /* what wfd is polled for until there is room: POLLOUT, unless a mechanism says otherwise
                     */
    uint32_t in_event; /* what the epoll of naru_channel_fd() asks of rfd; EPOLLIN, likewise */
    bool foreign;      /* the descriptors were inherited: their flags are not ours to change */
    bool keep_on_fork;
    bool gathered; /* a gather has it (gather.h), which watches rfd: whatever rings rings there */
    struct { /* what the kernel was found not to know, and the state of O_NONBLOCK, by direction: pipe-io.c */
        bool no_rwf_nowait, no_rwf_nosignal, nonblocking;
        enum { SIGPIPE_UNKNOWN, SIGPIPE_KILLS, SIGPIPE_IGNORED } sigpipe;
    } io[2];
    size_t max_message;
    const char *limit_mend; /* how to raise it */
    struct fork_guard guard;
    struct naru_peer peer;
    int peer_pidfd; /* -1: unknown */
    int side_fd;    /* a mechanism's socket for what goes beside its messages; -1: none */
    /* An eventfd in the epoll of naru_channel_fd(), which is rung by taking from it (shm/wakeup.h), and the
     * other side's; -1: none. */
    int loop_bell, their_loop_bell;
    /* Where the other side's receiver and sender are rung, if that is not rfd and wfd; -1: it is. */
    int their_rfd, their_wfd;
    void *state; /* the mechanism's own */

    struct stream *stream; /* byte streams only */
    struct {               /* a received message that was larger than the caller's room: see channel_keep() */
        uint8_t *data;
        size_t capacity, length;
        bool full;
        struct naru_message meta; /* its type, priority and sender */
        struct channel_address address;
        size_t fd_count;
        int fds[CHANNEL_FDS_MAX];
    } kept;
    size_t needed; /* how large the message was that -EMSGSIZE spoke of */

    /* naru_interrupt(): an eventfd for each direction, so that each waiter has a wake-up of its own. */
    bool interruptible;
    int interrupt_fd[2];
    int64_t backoff[2]; /* channel_wait_backoff()'s last pause; 0 at the start of each call */

    int looks;     /* with ops->look: how often one may find nothing before it is better to sleep */
    int unwatched; /* of `armed` below: an errno, why that could not be said; 0: it is as it is to be */

    struct channel_counters counters[2];
    int fd;           /* the epoll that naru_channel_fd() gave; -1: not asked for */
    int ready_fd;     /* eventfd in it, set while messages are held here */
    bool ready;       /* what ready_fd is set to */
    bool armed, room; /* what the epoll's interest in NARU_OUT is; room: to be shown at once */
    bool refused;     /* the last send found no room */
    bool congested;   /* in a send: there is none for descriptors, and no poll(2) tells when there is */
    bool finished;    /* naru_channel_finish(): the sending thread's own */
    /* A unix socket's peer closed with messages of ours unread. The kernel says so once, to whichever
     * direction asks first; naru_flush() needs to know. */
    _Atomic bool unread_lost;
    _Atomic bool ended; /* the peer's end was told to a caller: channel_ended() */

    struct channel_block *loan, *loan_spare, *spare; /* see loan.c */
    struct list views;
    void *lent;                      /* the loan that is out where the mechanism lends in place; NULL: none */
    int64_t lent_timeout_ns;         /* what its commit may wait */
    struct naru_listener *listener;  /* whose one channel this is; NULL: none's, or it is closed */
    struct reopen *reopen;           /* it connects again: reopen.h; NULL: it does not */
    struct channel_meeting *meeting; /* it is not connected yet: meeting.h; NULL: it is */
};

struct naru_listener {
    const struct channel_ops *ops;
    char *url;
    struct naru_options options; /* for the channels it accepts */
    int fd;                      /* polled for NARU_IN; -1: accept never waits */
    int lock_fd;                 /* held while the endpoint lives; -1: the kernel decides who may listen */
    int name_fd; /* the file by whose name the endpoint is found, of which fd does not tell when it is
                    removed: who waits looks from time to time; -1: there is none */
    struct naru_channel *taken; /* without NARU_CAN_ACCEPT_MANY: the one channel while it is open */
    bool finished;              /* naru_listener_finish() */
    struct fork_guard guard;
    void *state;
};

/* The row for a URL: by scheme, and by ?type= among variants. NULL after an explained -EINVAL: there is none,
 * or it has not all of the URL's options. */
const struct channel_ops *channel_find(struct url *url);

/* Turns a byte stream's opened descriptors into messages: at the end of connect, pair and accept of stream
 * mechanisms. usual: the framing where none was asked for. shared: others may read the same stream, so
 * nothing is read ahead unless asked for. 0 or -ENOMEM. */
int channel_make_stream(struct naru_channel *ch, const struct naru_options *opt, enum naru_frame usual,
                        bool shared);

/* Keeps a received message of length bytes that was larger than the room in m, which took its beginning; the
 * rest stands already at ch->kept.data + message_length(m). Returns the explained -EMSGSIZE. */
int channel_keep(struct naru_channel *ch, const struct naru_message *m, size_t length);

/* Likewise for bytes at data, larger than the room at buf, of a message without anything else; ch->kept has
 * been reserved, and data may be there. */
int channel_keep_bytes(struct naru_channel *ch, void *buf, size_t capacity, const void *data, size_t length,
                       int64_t type, unsigned priority);

/* Makes sure that ch->kept.data has that capacity. 0 or the explained -ENOMEM. */
int channel_keep_reserve(struct naru_channel *ch, size_t capacity);

/* Keeps descriptors that came with the message about to be kept. */
void channel_keep_fds(struct naru_channel *ch, const int *fds, size_t count);

/* The explained -EMSGSIZE of a receive whose message stays where it is. */
int channel_no_room(struct naru_channel *ch, size_t length, size_t room);

/* The explained -EMSGSIZE of a send: "unix:///x: message of 9000 bytes exceeds 8192; <mend>". mend may be "".
 */
int channel_too_large(const struct naru_channel *ch, size_t length, size_t limit, const char *mend);

/* The same for one longer than ch->max_message, in the mechanism's own words if it has any. */
int channel_over_limit(const struct naru_channel *ch, size_t length);

/* The peer is gone: -EPIPE (closed) or -EOWNERDEAD (killed, where peer_pidfd tells), explained. */
int channel_peer_gone(struct naru_channel *ch);

/* Remembers who is at the other end of a unix socket (SO_PEERCRED) and holds a pidfd on it. What is unknown
 * stays -1. */
void channel_learn_peer(struct naru_channel *ch, int fd);

/* The same for a channel that is still to come: *ret_pidfd is the caller's; both stay as they are where
 * nothing is known. */
void channel_ask_peer(int fd, struct naru_peer *ret_peer, int *ret_pidfd);

/* Takes an interruption of a channel that can have one. Whether there was one. */
bool channel_take_interruption(struct naru_channel *ch, int direction);

/* Waits by back-off where nothing announces readiness, heeding naru_interrupt(): an ops->wait. */
int channel_wait_backoff(struct naru_channel *ch, int event, int64_t deadline);

/* Waits with poll(2) on rfd or wfd: what a NULL ops->wait stands for. */
int channel_wait_poll(struct naru_channel *ch, int event, int64_t deadline);

/* The same for `events` of any descriptor, on behalf of a call that waits for event. */
int channel_wait_fd(struct naru_channel *ch, int event, int fd, int events, int64_t deadline);

/* Gives descriptors that came with a message to the caller, who may have room for fewer: the others are
 * closed and counted as dropped. */
void channel_give_fds(struct naru_channel *ch, struct naru_message *m, const int *fds, size_t count);

/* Writes the address a message came from where the caller wants it. */
void channel_give_address(struct naru_message *m, const struct channel_address *address);

void channel_count_dropped(struct naru_channel *ch, int direction, uint64_t dropped);

/* Message number i of an array whose elements are as large as their size field says. */
static inline const struct naru_message *message_at(const struct naru_message *m, size_t i)
{
    return (const struct naru_message *)(const void *)((const char *)m + i * m->size);
}

/* Bytes in all pieces; SIZE_MAX if they overflow. Inline for the usual case of one piece: it stands in
 * the path of every message. */
size_t message_length_of_pieces(const struct naru_message *m);

static inline size_t message_length(const struct naru_message *m)
{
    return m->iov_count == 1 ? m->iov->iov_len : message_length_of_pieces(m);
}

/* Copies between the pieces, from byte offset on, and contiguous bytes; stops at the end of either. Returns
 * the number copied. */
size_t message_scatter(const struct naru_message *m, size_t offset, const void *data, size_t length);
size_t message_gather(const struct naru_message *m, void *data, size_t capacity);

/* The parts of channel.c that its neighbours use. */
int channel_enter(struct naru_channel *ch);
int channel_receive(struct naru_channel *ch, struct naru_message *m, int64_t timeout_ns);
int channel_send(struct naru_channel *ch, const struct naru_message *m, int64_t timeout_ns);
/* 0, or what a send (receive) says before any attempt. *timeout_ns becomes less if it had to connect again.
 */
int channel_begin_sending(struct naru_channel *ch, int64_t *timeout_ns);
int channel_begin_receiving(struct naru_channel *ch, int64_t *timeout_ns);
int channel_check_sendable(const struct naru_channel *ch, const struct naru_message *m);
typedef int channel_attempt(struct naru_channel *ch, void *data, bool block);
/* Attempts until one succeeds, fails, or the time is up. event: what is waited for in between. */
int channel_repeat(struct naru_channel *ch, int event, int64_t timeout_ns, channel_attempt *attempt,
                   void *data);
/* Before a call returns r: notes if it tells of the peer's end. Returns r. */
int channel_ended(struct naru_channel *ch, int direction, int r);
int channel_wait(struct naru_channel *ch, int event, int64_t deadline);
/* Takes the connection's descriptors out of the epoll of naru_channel_fd(); puts those in that are there now.
 */
void channel_unwatch(struct naru_channel *ch);
int channel_rewatch(struct naru_channel *ch);
/* What a call that sends returns: r; or, of one that found no room of which the fd will not tell, the
 * explained reason. */
int channel_say_unwatched(struct naru_channel *ch, int r);
/* What follows from a call that may have changed more than the short way does: what the fd shows, if there is
 * one, and whether there is a short way. */
void channel_update_ready(struct naru_channel *ch, int direction);
/* naru_send() and naru_recv() but for the short way. tried: what that said, as an attempt; 0: nothing. */
int channel_send_slowly(struct naru_channel *ch, const void *data, size_t length, int64_t timeout_ns,
                        int tried);
ssize_t channel_recv_slowly(struct naru_channel *ch, void *buf, size_t capacity, int64_t timeout_ns,
                            int tried);
/* naru_loan(), naru_commit() without meta, and naru_borrow(), likewise. */
int channel_loan_slowly(struct naru_channel *ch, size_t len, int64_t timeout_ns, struct naru_loan *ret_loan);
int channel_commit_slowly(struct naru_loan *loan, size_t len);
int channel_borrow_slowly(struct naru_channel *ch, int64_t timeout_ns, struct naru_view *ret_view);
/* There is no way to send but the long one until channel_update_ready(). */
static inline void channel_end_short_way(struct naru_channel *ch)
{
    ch->short_way[CHANNEL_SENDING] = ch->short_way_then = 0;
}
void channel_free_blocks(struct naru_channel *ch);
/* This process becomes the owner of what another one had; it may have no guts now (reopen.h). As ops->claim.
 */
int channel_take_over(struct naru_channel *ch);
void channel_abandon(struct naru_channel *ch); /* frees one that the mechanism failed to open */
/* This process is the owner: what is opened into its fields, by an attempt that fails as well, children
 * close. */
int channel_new_owned(const struct channel_ops *ops, const char *url, const struct naru_options *opt,
                      struct naru_channel **ret_ch);
/* naru_connect() to what does not connect again by itself. */
int channel_connect(const char *url, const struct naru_options *opt, int64_t timeout_ns,
                    struct naru_channel **ret_ch);
/* pair: for ends without a name, so that what is only for who listens stays unused in url. */
int channel_options(struct url *url, const struct naru_options *opt, bool pair, struct naru_options *ret_opt);

/* --- in the path of every message --- */

static inline void channel_count_many(struct naru_channel *ch, int direction, size_t messages, size_t bytes)
{
    struct channel_counters *counters = &ch->counters[direction];
    /* One thread a direction counts, so a load and a store do; relaxed: figures for people. */
    uint64_t m = atomic_load_explicit(&counters->messages, memory_order_relaxed);
    uint64_t b = atomic_load_explicit(&counters->bytes, memory_order_relaxed);

    atomic_store_explicit(&counters->messages, m + messages, memory_order_relaxed);
    atomic_store_explicit(&counters->bytes, b + bytes, memory_order_relaxed);
}

/* A message went. Always inline, for a constant direction. */
static inline __attribute__((always_inline)) void channel_count(struct naru_channel *ch, int direction,
                                                                size_t bytes)
{
    channel_count_many(ch, direction, 1, bytes);
    if (direction == CHANNEL_SENDING)
        PROBE3(send, ch, ch->url, bytes);
    else
        PROBE3(receive, ch, ch->url, bytes);
}

/* The end of short_loan and of short_commit. Few stores, as more wait for the message's line than a processor
 * has room for. */
static inline __attribute__((always_inline)) void channel_lent(struct naru_channel *ch, void *data,
                                                               size_t length, int64_t timeout_ns,
                                                               struct naru_loan *ret_loan)
{
    ret_loan->data = ret_loan->internal = ch->lent = data;
    ret_loan->capacity = length;
    ret_loan->channel = ch;
    if (__builtin_expect(ch->lent_timeout_ns != timeout_ns, 0))
        ch->lent_timeout_ns = timeout_ns;
}

static inline __attribute__((always_inline)) void channel_committed(struct naru_channel *ch,
                                                                    struct naru_loan *loan, size_t length)
{
    ch->lent = NULL;
    loan->data = loan->internal = NULL;
    loan->capacity = 0;
    channel_count(ch, CHANNEL_SENDING, length);
}

/* The end of send_bytes (recv_bytes). r: 1: done; 0: the long way is to go on from here; or -errno, as send
 * and recv say it. */
static inline int channel_sent(struct naru_channel *ch, const void *data, size_t length, int r)
{
    if (__builtin_expect(r <= 0, 0))
        return channel_send_slowly(ch, data, length, NARU_FOREVER, r);
    channel_count(ch, CHANNEL_SENDING, length);
    return 0;
}

static inline ssize_t channel_received(struct naru_channel *ch, void *buf, size_t capacity,
                                       int64_t timeout_ns, int r, size_t length)
{
    if (__builtin_expect(r <= 0, 0))
        return channel_recv_slowly(ch, buf, capacity, timeout_ns, r);
    channel_count(ch, CHANNEL_RECEIVING, length);
    return (ssize_t)length;
}

#endif
