/* SPDX-License-Identifier: MIT */
/*
 * Channels: one end of a connection that carries whole messages in order, chosen by URL. The same calls work
 * on every mechanism; what one cannot do is said by its row (naru/mechanism.h) and refused with -ENOTSUP.
 *
 * The rules that hold for every call below, and are not repeated:
 *
 * Threads: one thread may send on a channel while another receives. Two senders, or two receivers, need a
 * lock of their own or a channel each. Different channels are independent. A listener is used by one thread
 * at a time; where its mechanism has no connections (no NARU_CAN_ACCEPT_MANY) that includes closing the one
 * channel it gave. A stack of 32 KiB suffices for each call. A thread that is in a call is not to be ended by
 * pthread_cancel(3), nor the call by longjmp(3): what it holds would stay held (naru_interrupt() ends waits).
 * To close a channel, listener or gather is the last thing done with it: never while another thread is in a
 * call on it, also one that waits. To end such a thread: open with options.interruptible, set a flag of your
 * own that says why, naru_interrupt(), join the thread, close.
 *
 * Fork: a handle belongs to the process that made it. In a forked child every call on it returns -ECHILD, and
 * its descriptors are closed there, so that a child cannot keep a dead parent's connection alive;
 * naru_channel_close() in the child frees the memory. That holds also if other threads open and close handles
 * while one forks. A signal handler may fork, whatever it interrupts, for a child that executes something or
 * ends. The ends of naru_channel_pair() and channels opened with options.keep_on_fork are the exception: see
 * naru_channel_adopt().
 *
 * Waiting: timeouts are as in naru/time.h. A signal handler that runs meanwhile does not end a wait
 * (naru_interrupt() does). No call here is async-signal-safe except naru_interrupt().
 *
 * Reconnecting: a channel of naru_connect() with options.reconnect_ns survives its peer. The call that
 * notices the end returns it, once: what was sent and not flushed may be lost, and nothing of what that call
 * was to send was accepted. The next call that sends or receives connects to whoever listens there then,
 * within its own timeout (-ETIMEDOUT; NARU_NOWAIT: -EAGAIN while nobody listens or has answered, after an
 * attempt each 1 to 250 ms, which on tcp: may take up to 50 ms), with the same checks, whose errors it
 * returns. What the old peer had sent is received first. Views stay valid; a loan in place
 * that was out is lost (its commit: -EPIPE). naru_channel_fd() stays the same descriptor, and is ready when
 * an attempt is due, or answered. Such a channel is used by one thread at a time. After reconnect_ns without
 * a listener the end is returned for good, and so it is after naru_channel_finish().
 *
 * Errors common to all: -EINVAL (an argument or URL that makes no sense; naru_explain() says which and what
 * was expected), -ENOMEM, -EMFILE and -ENFILE (out of descriptors), -ECHILD (see Fork), -ENOTSUP (the
 * mechanism cannot do this).
 */
#ifndef NARU_CHANNEL_H
#define NARU_CHANNEL_H

#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "naru/export.h"
#include "naru/mechanism.h"
#include "naru/time.h"

NARU_BEGIN

struct naru_channel;
struct naru_listener;

/* Events to poll a channel's or listener's fd for; the values are poll(2)'s POLLIN and POLLOUT. */
enum { NARU_IN = 0x001, NARU_OUT = 0x004 };

/* Which way a channel is used. By default naru_connect() sends and naru_listen() receives where the mechanism
 * has one direction only, and both do both where it has two. */
enum naru_direction {
    NARU_DIRECTION_DEFAULT = 0,
    NARU_DIRECTION_SEND = 1,
    NARU_DIRECTION_RECEIVE = 2,
    NARU_DIRECTION_BOTH = 3
};

/* How messages are marked off in a byte stream (?frame=). Mechanisms with messages of their own ignore it. */
enum naru_frame {
    NARU_FRAME_DEFAULT = 0, /* len32; line for exec:, fd:, file: and - */
    NARU_FRAME_LEN32 = 1,   /* 32-bit big-endian length, then the payload */
    NARU_FRAME_LINE = 2,    /* payload, then "\n"; the payload may not hold one */
    NARU_FRAME_NUL = 3,     /* payload, then "\0"; the payload may not hold one */
    NARU_FRAME_RAW = 4,     /* no marks: a message is what one read(2) gives */
    NARU_FRAME_VARINT = 5,  /* base-128 varint length, then the payload (delimited protobuf) */
    NARU_FRAME_HEADER = 6   /* "Content-Length: N\r\n\r\n", then the payload (as language servers speak) */
};

/*
 * Who answers those who connect to a listener of shm: while the program is busy (elsewhere the kernel does).
 * By default the keeper: one sleeping thread of naru's for all listeners of the process, which the first one
 * starts and the last one's close ends and joins. It blocks all signals, and makes no system call while
 * nobody connects. With MANUAL there is no thread: naru_connect() ends when the listener's program calls
 * naru_accept() or naru_listener_dispatch(). For programs that must have one thread only (unshare(2) of a
 * user namespace, credentials or capabilities that are changed thread by thread).
 */
enum naru_service { NARU_SERVICE_DEFAULT = 0, NARU_SERVICE_KEEPER = 1, NARU_SERVICE_MANUAL = 2 };

enum naru_choice { NARU_CHOICE_DEFAULT = 0, NARU_CHOICE_NO = 1, NARU_CHOICE_YES = 2 };

/*
 * What the messages of a channel are made of, where both ends are programs in C: options.type =
 * NARU_TYPE(struct pose, 1). Where the ends shake hands (shm://name), one whose type has another name, size,
 * alignment or version is refused with both descriptions; an end without a type (a tool that passes bytes on)
 * takes any. Raise the version when the meaning of a member changes and its place does not.
 *
 * That compares the declarations, once. Messages are not looked at: one may be a single object, several in a
 * row, or an object with bytes behind it, of any length, and whoever receives compares that with what it
 * reads, as of everything that another process wrote. Loans and views lie at multiples of 8: a type that
 * wants more is to be copied.
 */
struct naru_type {
    const char *name; /* up to 47 bytes are compared and shown; read by the call only; NULL: none */
    size_t bytes, alignment;
    unsigned version;
};

#ifdef __cplusplus
#define NARU_TYPE(type, version) (naru_type{#type, sizeof(type), __alignof__(type), (version)})
#else
#define NARU_TYPE(type, version) ((struct naru_type){#type, sizeof(type), __alignof__(type), (version)})
#endif

/* All zero (NARU_INIT) means the defaults. What the URL says as ?key=value wins over what stands here. An
 * option of the URL that its mechanism does not have is -EINVAL, and the explanation says which ones it has;
 * what stands here and means nothing to the mechanism is left alone, so that one struct serves any URL. And
 * one URL serves both ends: who connects takes what is for who listens, and checks it, too (only ?reconnect=
 * is refused by naru_listen()). */
struct naru_options {
    size_t size;
    enum naru_direction direction;
    enum naru_frame frame; /* ?frame= */
    size_t max_message; /* ?max-message=  bytes; the largest message sent, and that byte streams (-EPROTO) and
                           naru_borrow() on shm: (-EMSGSIZE) receive; 0: 64 MiB */
    size_t buffer;      /* ?buffer=  bytes of kernel buffer wanted (F_SETPIPE_SZ, SO_SNDBUF); 0: the kernel's
                           choice */
    enum naru_choice
        read_ahead;    /* ?read-ahead=  one read takes many messages; by default on where nobody else reads */
    unsigned mode;     /* ?mode=  permission bits of what is created; 0: 0600 */
    int interruptible; /* naru_interrupt() can end a wait; costs a poll(2) before each wait */
    int keep_on_fork;  /* keep the descriptors in forked children, for naru_channel_adopt() there. All of shm:
                          nobody can count who holds a copy, so to close such a channel tells the peer nothing,
                          and the end of the last copy is -EOWNERDEAD there, though nobody was killed */
    struct naru_type type; /* of the payloads; see above */
    int64_t linger_ns; /* exec: how long naru_channel_close() lets the command end by itself; 0: one second */
    enum naru_service service; /* ?service=keeper|manual  of a listener of shm:, see above */
    int64_t reconnect_ns; /* ?reconnect=no|yes|DURATION  naru_connect(): see Reconnecting; how long after each
                             loss, in nanoseconds; NARU_FOREVER: yes; 0: no; -ENOTSUP where nobody listens */
};

/* A process at the other end; -1 where the mechanism does not tell, and for pid where the process is in a PID
 * namespace that this one does not see. */
struct naru_peer {
    int64_t pid;
    int64_t uid;
    int64_t gid;
};

/*
 * A message with everything that can go with it. Sending reads iov, type, priority, fds and address;
 * receiving fills the caller's iov and sets the rest.
 */
struct naru_message {
    size_t size;
    struct iovec *iov; /* the payload's pieces; not written to by a send */
    size_t iov_count;
    size_t length;     /* received: bytes of payload */
    int64_t type;      /* NARU_CAN_TYPE: sent as this type (0: the channel's); received: its type */
    unsigned priority; /* NARU_CAN_PRIORITY: higher overtakes; 0 is the lowest; shm: below ?lanes= */
    int *fds; /* NARU_CAN_FDS: sent: borrowed; received: new descriptors, close-on-exec, the caller's to close
               */
    size_t fd_count;          /* sent: how many; received: how many arrived */
    size_t fd_capacity;       /* received: room in fds; what does not fit is closed and counted as dropped */
    struct naru_peer sender;  /* received: who sent it, where the mechanism tells message by message */
    struct sockaddr *address; /* udp: sent to (NULL: the channel's peer); received from, if not NULL */
    socklen_t address_length; /* bytes at address; received: of the whole address, which was cut off if it is
                                 more than there was room for */
};

struct naru_channel_info {
    size_t size;
    const struct naru_mechanism *mechanism;
    const char *url; /* as resolved; the channel's, valid until it is closed */
    struct naru_peer peer;
    size_t max_message; /* bytes */
    uint64_t messages_sent, bytes_sent;
    uint64_t messages_received, bytes_received;
    uint64_t reconnects; /* options.reconnect_ns: how often it has connected again */
    uint64_t dropped;    /* messages or descriptors that a policy or the kernel dropped and told us of */
    int exit_status;     /* exec: what wait(2) says once the child has ended; -1 before and elsewhere */
};

/*
 * Connects to url. Waits for the other side to appear (a listener, a FIFO's reader, a queue, a process that
 * blocks the signal) until the timeout. On shm: that is until the listener's process has answered: its keeper
 * does at once, though the program is busy, up to ?backlog= times (64) ahead of naru_accept(); with
 * ?service=manual the program itself does. tcp: to another machine is alike: what takes longer than the
 * timeout is given up, under NARU_NOWAIT at once.
 *
 * With NARU_NOWAIT shm: gives a channel before it is answered; -EAGAIN is that nobody listens there, or that
 * the kernel's queue of those who connect is full. Until the answer has come, and a call has found it, such a
 * channel says -EAGAIN (NARU_NOWAIT) or -ETIMEDOUT to all that sends, receives, lends, borrows, flushes or
 * finishes; who gives these calls a timeout waits for the answer in them. Behind such an -EAGAIN
 * naru_channel_fd() is ready when it has come; what had come before this returned it does not show: try
 * first, as always. naru_flush(NARU_SENT) says 0 once it is connected, and sends nothing. A listener that
 * refuses is told by these calls as it would have been here (-EACCES, -EPROTO, -EPROTOTYPE, -EINVAL ...), one
 * that ends before it has answered, or is short of memory or descriptors, as -ECONNRESET: for good; close it
 * and connect again. One that is stopped may answer later: nobody but the caller says when that is too late.
 * Closing before that waits for nobody, and leaves the listener no channel, or one that was closed. Until a
 * call has found the answer, one thread at a time uses the channel, in both directions.
 *
 * On shm+posix: and shm+sysv: nobody has to answer. One may be connected that was not accepted yet; the next
 * waits for that.
 *
 * opt: may be NULL. *ret_ch: the caller's, ended with naru_channel_close().
 * -ETIMEDOUT: nobody appeared in time (-EAGAIN under NARU_NOWAIT). -EACCES or -EPERM: permission. -EPROTO:
 * who is there talks another version of shm:, or something else. -EPROTOTYPE: its messages are of another
 * type than opt->type; unix: its socket is of another ?type=. Any other errno of the system calls beneath:
 * socket(2), connect(2), open(2), mq_open(3), msgget(2).
 */
NARU_API NARU_MUST_CHECK int naru_connect(const char *url, const struct naru_options *opt, int64_t timeout_ns,
                                          struct naru_channel **ret_ch);

/*
 * Creates the endpoint and waits for nobody. A live endpoint is never taken over: -EADDRINUSE; what a dead
 * process left is reclaimed.
 *
 * *ret_l: the caller's, ended with naru_listener_close(), which removes what was created where others could
 * not go on using it (socket files) and leaves it where they can (queues, FIFOs, files; ?unlink=yes removes
 * these too).
 *
 * -EACCES or -EPERM: permission. -EEXIST: something of another kind, or of another size, has the name.
 * -ENOSPC: no room for shm+posix: in /dev/shm. -ENOENT: the directory is missing, or the object with
 * ?create=no. -EADDRNOTAVAIL: not an address of this machine. -EAGAIN: shm: no thread is to be had for the
 * keeper (RLIMIT_NPROC), -ENOMEM: nor a stack for it (mlockall(MCL_FUTURE)), -EPERM: a sandbox forbids it;
 * ?service=manual needs none. Any other errno of the system calls beneath:
 * bind(2), mkfifo(3), mq_open(3), msgget(2). Never waits, except for a name server.
 */
NARU_API NARU_MUST_CHECK int naru_listen(const char *url, const struct naru_options *opt,
                                         struct naru_listener **ret_l);

/*
 * Waits for the next peer. Where the mechanism has connections each call gives a new one
 * (NARU_CAN_ACCEPT_MANY); elsewhere the first call gives the one channel that receives from everybody, and
 * while that is open further calls return -EBUSY.
 *
 * *ret_ch: the caller's, ended with naru_channel_close(). -EAGAIN (NARU_NOWAIT), -ETIMEDOUT: nobody came; or,
 * on shm+posix:, another process holds /dev/shm/NAME.next, as the explanation says then, and who.
 * -EMFILE, -ENFILE: out of descriptors (or too many that peers passed cannot be closed, for a file system
 * that does not answer, or too many that this user's programs passed were not received: the explanation says
 * so), -ENOSPC, -ENOMEM: of shared memory, -EBUSY: 64 connections are open at a key of shm+sysv:, -EEXIST: at
 * /dev/shm/NAME.next, where shm+posix: makes the segment for who comes next, stands what is no channel,
 * -EACCES, -EPERM: or what may not be opened or removed; whoever came stays in the queue, or is told to try
 * again (but with ?huge on shm: if -ENOMEM comes while its memory is moved). -ENOENT: the FIFO
 * or the socket's path was removed, or replaced, so that nobody new can come; channels that are open go on.
 * An accept that waits at a path of unix: or shm:, or a named segment, learns of it within a second, one at a
 * FIFO at once. -ENOTCONN: after naru_listener_finish(), all are accepted.
 *
 * On unix:, tcp: and all of shm a peer may have connected, sent and died before: the channel gives what it
 * sent, and then its end.
 */
NARU_API NARU_MUST_CHECK int naru_accept(struct naru_listener *l, int64_t timeout_ns,
                                         struct naru_channel **ret_ch);

/*
 * One level-triggered descriptor to poll for naru_listener_want(): ready when naru_accept(NARU_NOWAIT) is
 * worth a call. It is the listener's: do not close or read it. -ENOTSUP without NARU_CAN_POLL. That the path
 * of unix: or shm: was removed does not make it ready: an accept now and then notices it.
 * naru_listener_want() never fails.
 */
NARU_API NARU_MUST_CHECK int naru_listener_fd(struct naru_listener *l);
NARU_API int naru_listener_want(struct naru_listener *l);

/*
 * Answers those who have connected, without waiting for anybody and without accepting: for a program that
 * listens on shm: with ?service=manual and does not accept for a while. The next naru_accept()s give what
 * comes of it, and the listener's descriptor is ready until they have. Returns how many wait for that: 0
 * where the kernel answers (and keeps them), or nobody came. -EMFILE, -ENFILE, -ENOMEM as naru_accept().
 */
NARU_API NARU_MUST_CHECK int naru_listener_dispatch(struct naru_listener *l);

/*
 * Lets nobody new connect. Whoever has connected by now is still accepted: each naru_accept() gives one,
 * without waiting, and -ENOTCONN when all have been. For an orderly end: without it, who comes between the
 * last accept and naru_listener_close() may have sent and gone already. (A gather has naru_gather_finish()
 * for its listeners.) A second call does nothing.
 *
 * -ENOTSUP: tcp:, where the kernel knows no such state, and what has no connections. -EMFILE, -ENFILE,
 * -ENOMEM: it was short of something for some of those who had connected: each of them a naru_accept() gives
 * that has it, or its end sees a close. Nobody new connects nevertheless. Never waits. -ECHILD.
 */
NARU_API NARU_MUST_CHECK int naru_listener_finish(struct naru_listener *l);

/* The URL to connect to, with what the kernel chose filled in (port 0, exec's pid). Valid until the close. */
NARU_API const char *naru_listener_url(const struct naru_listener *l);

/* Ends the listener; channels it accepted live on. Who has connected and was not accepted sees a close. NULL
 * is allowed. Returns NULL. Waits for nobody but, on shm:, the keeper, for the time of one answer. */
NARU_API struct naru_listener *naru_listener_close(struct naru_listener *l);

/*
 * Two connected ends with no name, for use across fork(): ret_ch[0] and ret_ch[1]. For one-way mechanisms
 * ret_ch[0] sends and ret_ch[1] receives.
 *
 * Each end belongs to the process that first uses it; the other process closes its copy. Until then neither
 * has an owner, so both survive the fork().
 */
NARU_API NARU_MUST_CHECK int naru_channel_pair(const char *url, const struct naru_options *opt,
                                               struct naru_channel *ret_ch[2]);

/*
 * Makes the calling process the owner of a pair's end, or of a channel with options.keep_on_fork that its
 * parent opened. To be called in one process only: naru cannot see that two use the same end. The parent
 * closes its copy after that: on shm+sysv: a child is nobody to the peer before it has adopted.
 *
 * What was out at the fork is the adopter's: it releases the views, and commits or cancels the loan. What it
 * released before it adopted counts from then on. The parent does neither before it has closed its copy, and
 * releasing its views after that tells nobody anything. The rest of a message (-EINPROGRESS) is to be flushed
 * before the fork, or both would send it; ?unlink=yes removes at the first close, whichever process's.
 *
 * -EINVAL: the channel is another process's and was not opened to be kept. -EOWNERDEAD: shm+sysv: the parent
 * has closed its copy or ended already, and the peer takes this end for dead; what it had sent can still be
 * received.
 */
NARU_API NARU_MUST_CHECK int naru_channel_adopt(struct naru_channel *ch);

/*
 * Sends len bytes as one message. 0: the kernel has all of it. The bytes may be reused at once.
 *
 * -EAGAIN (NARU_NOWAIT), -ETIMEDOUT: there was no room, or it is not connected yet (naru_connect()); nothing
 * was sent. Of a time that is up on shm: the explanation says what the receiver has not received yet, and
 * what it has borrowed and not released.
 * -EINPROGRESS: a stream took part of the message before the time was up. The message counts as sent: naru
 *   keeps a copy of the rest, which goes out before anything else at the next call; naru_flush(NARU_SENT)
 * waits. -EMSGSIZE: larger than the mechanism or max_message allows; the explanation says both sizes. -EPIPE:
 * the receiver closed. -EOWNERDEAD: it was killed (NARU_CAN_KNOW_DEATH; shm: the first send to one that was
 * killed asleep, or had just been woken, finds it out, and the second one tells; of one that never sleeps it
 * is told when the ring is full; a flush tells at once). -ECONNRESET: the network's word. -ECANCELED:
 * naru_interrupt(). -EINVAL: a payload the framing cannot carry (a newline in a line). -EIDRM, -ENOENT: the
 * queue or file was removed underneath. -ENOSPC, -EDQUOT, -EFBIG: no room in the file; nothing was sent.
 * -EREMOTEIO: exec:'s command has ended with a status other than 0. -EDESTADDRREQ: nobody to answer to yet.
 * -ECONNREFUSED: udp: an earlier datagram found nobody. -ETOOMANYREFS (message.fds): this user's other
 * channels have more descriptors on their way than RLIMIT_NOFILE here allows; as long as some are this
 * channel's own there is no room instead, until they are received (on unix: an event loop is not told of
 * that: try again now and then). -EPROTO: an earlier error left half a message in the stream, and nothing can
 * follow it; shm: the peer's memory holds what it cannot have written. -EBUSY: shm: a loan is out
 * (naru_loan()), and the next message is in it. -ENOMEM, -ENOSPC: there was no room, too, and
 * naru_channel_fd() cannot show when there is (fs.epoll.max_user_watches); nothing was sent.
 */
NARU_API NARU_MUST_CHECK int naru_send(struct naru_channel *ch, const void *data, size_t len,
                                       int64_t timeout_ns);

/*
 * Receives one message into buf. Returns its length, which may be 0.
 *
 * -EMSGSIZE: the message is larger than cap; it is kept, the explanation says how large it is, and the next
 *   call with room gets it. -EAGAIN (NARU_NOWAIT), -ETIMEDOUT: there is none; nothing was lost.
 * -EPIPE: the senders closed and everything they sent has been received. -EOWNERDEAD: likewise, but the
 * sender was killed. -EREMOTEIO: likewise, but exec:'s command ended with a status other than 0. -EPROTO: the
 * stream broke off inside a message, or is not framed as told; shm: the peer's memory holds what it cannot
 * have written, for good. -EBADMSG: the kernel cut off a datagram larger than any expected; it is lost, and
 * counted as dropped. -ECANCELED: naru_interrupt(). -ECONNRESET: the network's word. -ECONNREFUSED: udp: a
 * datagram sent earlier found nobody. -EIDRM: the queue was removed. -ENOENT: the file was, or was replaced,
 * and all it held has been received. -ESTALE: it was cut short. -EMFILE: shm: the message stays, as it has
 * descriptors for which there is no room here, and too many that came before cannot be closed, for a file
 * system (FUSE) that does not answer.
 */
NARU_API NARU_MUST_CHECK ssize_t naru_recv(struct naru_channel *ch, void *buf, size_t cap,
                                           int64_t timeout_ns);

/* As naru_send() and naru_recv(), with all that struct naru_message can say. recv returns 0 and sets
 * m->length. */
NARU_API NARU_MUST_CHECK int naru_send_message(struct naru_channel *ch, const struct naru_message *m,
                                               int64_t timeout_ns);
NARU_API NARU_MUST_CHECK int naru_recv_message(struct naru_channel *ch, struct naru_message *ret_m,
                                               int64_t timeout_ns);

/*
 * Sends up to n messages with as few system calls as the mechanism allows. Waits until at least one is sent;
 * returns how many were, which may be fewer than n, or what naru_send_message() would have for the first. On
 * shm: those it sends become visible together: a receiver that has one finds the others without waiting, and
 * a sender that is killed meanwhile has sent none of them.
 */
NARU_API NARU_MUST_CHECK ssize_t naru_send_batch(struct naru_channel *ch, const struct naru_message *m,
                                                 size_t n, int64_t timeout_ns);

/* A place to write a message in. Begins as NARU_INIT() makes it (so does a view): otherwise a loan (borrow)
 * is -EINVAL, where looking costs nothing: not on shm: after a message has been sent (received). */
struct naru_loan {
    size_t size;
    void *data;      /* write here ... */
    size_t capacity; /* ... at most this many bytes */
    struct naru_channel *channel;
    void *internal;
};

/* A received message, read where it lies. */
struct naru_view {
    size_t size;
    const void *data;
    size_t length; /* bytes */
    int64_t type;
    unsigned priority;
    struct naru_peer sender;
    void *internal;
};

/*
 * Lends len bytes to write a message in: its place in shared memory (shm:), or a buffer where the kernel
 * copies anyway. One loan at a time: -EBUSY while one is out. On shm: a loan that fits half of the ring is
 * the place of the next message: naru_send() answers -EBUSY, too, until it is committed or cancelled; what
 * was sent while a larger one was out overtakes it. Waits for room where it is lent in place: -EAGAIN,
 * -ETIMEDOUT, -EPIPE, -EOWNERDEAD and -EPROTO as naru_send(). -EMSGSIZE: len is larger than a message may be.
 * What *ret_loan holds of another channel is overwritten, and that one's loan is out until it is closed.
 * Ended by naru_commit() (whether or not that succeeds, and by -EINPROGRESS, which counts as sent; but not by
 * -EAGAIN, -ETIMEDOUT or -EINVAL, whichever of its arguments it is for: then it may be committed again) or by
 * naru_loan_cancel(). The thread that sends does all of it. A loan is the channel's, unlike a view: closing
 * the channel ends it unsent, and neither its memory nor the struct may be used after that, for naru_commit()
 * and naru_loan_cancel() look at the channel.
 */
NARU_API NARU_MUST_CHECK int naru_loan(struct naru_channel *ch, size_t len, int64_t timeout_ns,
                                       struct naru_loan *ret_loan);

/* Sends the first len bytes of the loan. meta: type, priority and fds to go with it, or NULL. On shm: a loan
 * in the ring that is committed with a priority is copied once, into that lane; fds go with priority 0 only
 * (-EINVAL). Waits as the naru_loan() that gave it was allowed to. Errors as naru_send_message(). */
NARU_API NARU_MUST_CHECK int naru_commit(struct naru_loan *loan, size_t len, const struct naru_message *meta);
/* Gives the loan back unsent. One that was committed or cancelled before does nothing; NULL is not allowed,
 * as for naru_commit() and naru_release(). */
NARU_API void naru_loan_cancel(struct naru_loan *loan);

/*
 * Receives one message without saying how large it may be. On shm: it is read where the sender wrote it,
 * nothing is copied, and it may have max_message bytes: -EMSGSIZE of a larger one, which is kept; naru_recv()
 * takes it into a buffer that has room. Elsewhere it is read in a buffer, of whatever size the mechanism
 * carries. The view stays valid until naru_release(), also after the channel is closed; views may be released
 * in any order, by the thread that receives, and copied like any struct, if one copy is released.
 * What *ret_view holds is overwritten, for nothing tells a view that is held from one that was copied:
 * release it first, or its message is out for good, and one day -EBUSY, or no room for the sender. A released
 * one is used again as it is.
 *
 * On shm: the bytes are the sender's memory: one that is hostile can change them while they are read (what
 * naru_recv() has copied it cannot). shm+posix: and shm+sysv: are read in place as well; there either side
 * can write all of the segment. A view of a small message keeps its bytes in the sender's ring, and all that
 * came after them; one of a message larger than half of the ring keeps no more than its own place in the
 * pool. Whoever holds much leaves the sender less room. At most 256 are out at once: then -EBUSY, and
 * naru_recv() still works. On every mechanism descriptors that come with a borrowed message are closed, and
 * counted as dropped: to have them, naru_recv_message().
 * Other errors as naru_recv().
 */
NARU_API NARU_MUST_CHECK int naru_borrow(struct naru_channel *ch, int64_t timeout_ns,
                                         struct naru_view *ret_view);
NARU_API void naru_release(struct naru_view *view);

enum naru_stage {
    NARU_SENT = 1,  /* the kernel has everything (only -EINPROGRESS leaves something) */
    NARU_TAKEN = 2, /* the peer has received it, perhaps into its read-ahead (NARU_CAN_TELL_TAKEN) */
    NARU_DONE = 3   /* the peer has released it, views as well (NARU_CAN_TELL_DONE) */
};

/*
 * Waits until all that was sent has reached the stage. To be called by the thread that sends, also after
 * naru_channel_finish(): -EPIPE then on what it has closed (pipe:, fifo:, exec:). -ETIMEDOUT,
 * -EAGAIN: it has not. -EPIPE, -EOWNERDEAD: the receiver is gone and left some of it unread, or (NARU_DONE)
 * unreleased; on unix:?type=dgram the kernel does not tell, and it counts as taken. -EINVAL: there is no such
 * stage. -ENOTSUP: the mechanism does not tell of that one. -ECANCELED: naru_interrupt(). -EPROTO: as
 * naru_send().
 *
 * NARU_DONE is told by shm: alone: with naru_recv() a message is released when it is copied, with
 * naru_borrow() when naru_release() gives it back, in whatever order. Elsewhere the receiver has a copy of
 * its own, and the kernel knows nothing of what becomes of that. A receiver says no more than that it has
 * released; that it has acted on a message, only an answer can tell.
 */
NARU_API NARU_MUST_CHECK int naru_flush(struct naru_channel *ch, enum naru_stage stage, int64_t timeout_ns);

/*
 * One level-triggered descriptor for any event loop: poll it for naru_channel_want(), which changes after
 * each call; when it is ready, try naru_recv() and naru_send() with NARU_NOWAIT until -EAGAIN. It also shows
 * what naru has read ahead. It is the channel's: do not close or read it, nor epoll_wait(2) on it. The first
 * call makes it: before another thread uses the channel. -ENOTSUP without NARU_CAN_POLL. naru_channel_want()
 * never fails.
 */
NARU_API NARU_MUST_CHECK int naru_channel_fd(struct naru_channel *ch);
NARU_API int naru_channel_want(struct naru_channel *ch);

/*
 * Ends a wait: a naru_send() and a naru_recv() that wait on ch now, or the next ones that would, return
 * -ECANCELED. Async-signal-safe, any thread, leaves errno alone. -ENOTSUP unless options.interruptible was
 * set. On queues and named segments, which cannot be polled, a wait notices it within 10 ms.
 */
NARU_API int naru_interrupt(struct naru_channel *ch);

/*
 * Sends no more: the peer receives what was sent and then sees the end (-EPIPE), while receiving here goes
 * on. Further sends return -EPIPE. To be called by the thread that sends. Waits for nothing: after
 * -EINPROGRESS call naru_flush() first, or the rest is tried once and dropped.
 *
 * -ENOTSUP: the mechanism ends both directions or none (queues, datagrams).
 */
NARU_API NARU_MUST_CHECK int naru_channel_finish(struct naru_channel *ch);

/* Fills *ret_info, which NARU_INIT has made (-EINVAL). Any thread. */
NARU_API NARU_MUST_CHECK int naru_channel_info(const struct naru_channel *ch,
                                               struct naru_channel_info *ret_info);

/*
 * Closes the end; what was sent is still delivered. NULL is allowed; returns NULL. Views stay valid, a loan
 * that is out does not: do not commit or cancel it any more. No other thread may be in a call on it, not
 * even in one that waits (see Threads: interrupt it, and join it, first).
 * Waits only on exec:, where the end of its input tells the command to end: up to options.linger_ns until it
 * is asked to (SIGTERM) and a second more until it is made to (SIGKILL).
 */
NARU_API struct naru_channel *naru_channel_close(struct naru_channel *ch);

/*
 * Removes what carries a name and outlives processes: a FIFO, a queue, a socket file, a file. -ENOENT: there
 * was nothing. -EBUSY: a live listener holds it. -ENOTSUP: the mechanism leaves nothing behind.
 */
NARU_API NARU_MUST_CHECK int naru_remove(const char *url);

NARU_END

#endif
