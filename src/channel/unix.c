/* SPDX-License-Identifier: MIT */
/*
 * unix: sockets on one machine (unix(7)), in three kinds: a byte stream, seqpacket (messages over a
 * connection) and dgram (messages without one). Under a path, or under an abstract name (unix:@name) that
 * vanishes with its owner.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/fd.h"
#include "channel/datagram.h"
#include "channel/socket-io.h"
#include "channel/stream.h"
#include "channel/table.h"
#include "channel/unix-connect.h"
#include "channel/unix-path.h"

enum {
    BACKLOG = 128,
    LARGEST = 4 * 1024 * 1024, /* bytes; SO_SNDBUF's usual limit (net.core.wmem_max) doubled, and more */
    SNDBUF_OVERHEAD = 32       /* unix_dgram_sendmsg(): a message may have SO_SNDBUF - 32 bytes */
};

static int kind_of(const struct channel_ops *ops)
{
    return ops == &unix_stream_ops ? SOCK_STREAM : ops == &unix_seqpacket_ops ? SOCK_SEQPACKET : SOCK_DGRAM;
}

static int parse_name(const struct url *url, struct unix_name *ret)
{
    size_t length = strlen(url->target);
    bool abstract = url->target[0] == '@';

    if (length <= abstract)
        return error_set(EINVAL,
                         "%s: expected a path or an abstract name, as in unix:///run/my.sock or unix:@name",
                         url->text);
    if (length >= sizeof ret->address.sun_path)
        return error_set(ENAMETOOLONG,
                         "%s: a socket's path may have %zu bytes, this one has %zu; use a shorter directory",
                         url->text, sizeof ret->address.sun_path - 1, length);
    *ret = (struct unix_name){.address.sun_family = AF_UNIX};
    memcpy(ret->address.sun_path, url->target, length);
    if (abstract)
        ret->address.sun_path[0] = '\0';
    else
        ret->path = ret->address.sun_path;
    /* An abstract name is not terminated: its length counts (unix(7)). */
    ret->length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length + !abstract);
    return 0;
}

/* --- opening --- */

/* Lets each message say who sent it (datagram.c needs that); of a byte stream nobody asks. Before anything
 * can arrive: what is queued without credentials stays so. 0 or the explained -errno. */
static int set_passcred(const struct url *url, int fd, int kind)
{
    int on = 1;

    if (kind != SOCK_STREAM && setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof on) < 0)
        return error_set(errno, "%s: SO_PASSCRED: %s", url->text, error_text(errno));
    return 0;
}

/* A socket that is not connected yet, non-blocking. The descriptor or the explained -errno. */
static int make_socket(const struct url *url, int kind)
{
    FD_CLEANUP int fd = socket(AF_UNIX, kind | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int r;

    if (fd < 0)
        return error_set(errno, "%s: socket: %s", url->text, error_text(errno));
    r = set_passcred(url, fd, kind);
    return r < 0 ? r : fd_steal(&fd);
}

/* The largest message that the send buffer takes. */
static void limit_message(struct naru_channel *ch, int fd)
{
    int bytes;
    socklen_t length = sizeof bytes;

    if (getsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, &length) < 0 || bytes <= SNDBUF_OVERHEAD)
        return; /* the kernel still checks each message */
    if (ch->max_message > (size_t)bytes - SNDBUF_OVERHEAD)
        ch->max_message = (size_t)bytes - SNDBUF_OVERHEAD;
    ch->limit_mend = "raise it with ?buffer= (up to /proc/sys/net/core/wmem_max), or use ?type=stream";
}

/* At the end of connect, pair and accept; fd is the channel's from here on. */
static int open_channel(struct naru_channel *ch, int fd, const struct naru_options *opt, bool reply)
{
    struct datagram *d;
    int r;

    ch->rfd = ch->wfd = fd;
    ch->direction = NARU_DIRECTION_BOTH;
    r = socket_set_buffer(ch->url, fd, opt);
    if (r < 0)
        return r;
    if (ch->ops == &unix_stream_ops)
        return channel_make_stream(ch, opt, NARU_FRAME_LEN32, false);
    d = datagram_new(ch, LARGEST);
    if (!d)
        return -ENOMEM;
    d->ends = ch->ops == &unix_seqpacket_ops;
    d->reply = reply;
    ch->state = d;
    limit_message(ch, fd);
    return 0;
}

static void unix_close(struct naru_channel *ch, bool owner)
{
    (void)owner;
    free(ch->state);
}

static int unix_pair(struct naru_channel *ch[2], struct url *url, const struct naru_options *opt)
{
    int fds[2], r = 0;

    if (*url->target)
        return error_set(EINVAL, "%s: a pair has no name; expected unix: or unix:?type=...", url->text);
    if (socketpair(AF_UNIX, kind_of(ch[0]->ops) | SOCK_CLOEXEC, 0, fds) < 0)
        return error_set(errno, "%s: socketpair: %s", url->text, error_text(errno));
    for (int i = 0; i < 2; i++) {
        int one = open_channel(ch[i], fds[i], opt, false);

        if (one == 0)
            one = set_passcred(url, fds[i], kind_of(ch[i]->ops));
        r = r < 0 ? r : one;
    }
    for (int i = 0; i < 2 && r < 0; i++)
        unix_close(ch[i], true);
    return r;
}

static int unix_connect(struct naru_channel *ch, struct url *url, const struct naru_options *opt,
                        int64_t deadline)
{
    struct sockaddr_un autobind = {.sun_family = AF_UNIX};
    struct unix_name name;
    int fd, r = parse_name(url, &name);

    if (r == 0)
        r = url_check_unused(url); /* before a long wait */
    if (r < 0)
        return r;
    /* Non-blocking for the connect(2) alone: where the backlog is full it would sleep past the deadline. */
    fork_hold();
    fd = make_socket(url, kind_of(ch->ops));
    if (fd >= 0)
        ch->rfd = ch->wfd = fd;
    fork_release();
    if (fd < 0)
        return fd;
    /* A datagram's receiver can answer only to an address: take one that the kernel chooses (unix(7),
     * Autobind). */
    if (ch->ops == &unix_dgram_ops && bind(fd, (struct sockaddr *)&autobind, sizeof autobind.sun_family) < 0)
        return error_set(errno, "%s: bind: %s", url->text, error_text(errno));
    r = unix_connect_until(fd, url, &name, deadline);
    if (r < 0)
        return r;
    r = fd_set_nonblocking(fd, false);
    if (r < 0)
        return error_set(-r, "%s: fcntl: %s", url->text, error_text(-r));
    if (ch->ops != &unix_dgram_ops)
        channel_learn_peer(ch, fd);
    return open_channel(ch, fd, opt, false);
}

/* --- listening --- */

/* Of a listener under a path: the file that it made. */
struct socket_file {
    dev_t device;
    ino_t inode;
    char path[];
};

/* 0 or an explained -errno. */
static int bind_to(int fd, const struct url *url, const struct unix_name *name, unsigned mode)
{
    if (name->path && fchmod(fd, mode) < 0)
        return error_set(errno, "%s: fchmod: %s", url->text, error_text(errno));
    if (bind(fd, (const struct sockaddr *)&name->address, name->length) == 0)
        return 0;
    if (errno == EADDRINUSE) /* a path, too: bound meanwhile by a program that heeds no lock */
        return error_set(errno, "%s: another process listens there; stop it, or choose another name",
                         url->text);
    return error_set(errno, "%s: cannot listen: %s", url->text, error_text(errno));
}

/* bind(2) gave the file the socket's own mode less the umask; the exact mode is set once it listens, so that
 * who waits for the path is woken then. */
static int start_listening(int fd, const struct url *url, const struct unix_name *name, int kind,
                           unsigned mode, struct socket_file *file, int *ret_name_fd)
{
    FD_CLEANUP int name_fd = -1;
    struct stat status;

    if (kind != SOCK_DGRAM && listen(fd, BACKLOG) < 0)
        return error_set(errno, "%s: listen: %s", url->text, error_text(errno));
    if (!name->path)
        return 0;
    name_fd = open(name->path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (name_fd < 0 || fstat(name_fd, &status) < 0)
        return error_set(errno, "%s: cannot open the socket's file: %s", url->text, error_text(errno));
    if (chmod(name->path, mode) < 0)
        return error_set(errno, "%s: cannot set the socket's mode: %s", url->text, error_text(errno));
    file->device = status.st_dev;
    file->inode = status.st_ino;
    *ret_name_fd = fd_steal(&name_fd);
    return 0;
}

/* With the lock held and the path clear. 0 or an explained -errno, and then nothing is left at the path. */
static int make_listener(struct naru_listener *l, const struct url *url, const struct unix_name *name,
                         unsigned mode)
{
    int kind = kind_of(l->ops), r;
    struct socket_file *file = NULL;
    FD_CLEANUP int fd = make_socket(url, kind); /* what it accepts inherits SO_PASSCRED */

    if (fd < 0)
        return fd;
    if (name->path) {
        file = malloc(sizeof *file + strlen(name->path) + 1);
        if (!file)
            return error_set(ENOMEM, "%s: out of memory for a listener", url->text);
        (void)strcpy(file->path, name->path);
    }
    r = bind_to(fd, url, name, mode);
    if (r == 0) {
        r = start_listening(fd, url, name, kind, mode, file, &l->name_fd);
        if (r < 0 && name->path)
            (void)unlink(name->path);
    }
    if (r < 0) {
        free(file);
        return r;
    }
    l->fd = fd_steal(&fd);
    l->state = file;
    return 0;
}

static int unix_listen(struct naru_listener *l, struct url *url, const struct naru_options *opt)
{
    struct unix_name name;
    FD_CLEANUP int lock = -1;
    int r = parse_name(url, &name);

    if (r == 0 && name.path) {
        lock = unix_path_lock(url, name.path);
        r = lock < 0 ? lock : unix_path_clear(url, &name, kind_of(l->ops));
    }
    if (r == 0)
        r = make_listener(l, url, &name, opt->mode);
    if (r < 0 && lock >= 0)
        unix_path_unlock(name.path);
    if (r == 0)
        l->lock_fd = fd_steal(&lock);
    return r;
}

/* Removes only what still is ours: the path may have been removed since, and taken by another listener, or by
 * something that is no socket at all. */
static void unix_unlisten(struct naru_listener *l, bool owner)
{
    struct socket_file *file = l->state;
    struct stat status;

    if (owner && file && unix_path_is_locked_by(l->lock_fd, file->path)) {
        if (lstat(file->path, &status) == 0 && status.st_dev == file->device && status.st_ino == file->inode)
            (void)unlink(file->path);
        unix_path_unlock(file->path);
    }
    free(file);
}

static int unix_accept(struct naru_listener *l, struct naru_channel *ch)
{
    bool connectionless = l->ops == &unix_dgram_ops;
    int fd = connectionless ? fcntl(l->fd, F_DUPFD_CLOEXEC, 0) : accept4(l->fd, NULL, NULL, SOCK_CLOEXEC);

    if (fd < 0) {
        if (errno == EAGAIN || errno == EINTR)
            return -errno;
        if (errno == ECONNABORTED)
            return -EAGAIN;
        return error_set(errno, "%s: accept: %s", l->url, error_text(errno));
    }
    if (connectionless && fd_set_nonblocking(fd, false) < 0) {
        (void)fd_close(fd);
        return error_set(errno, "%s: fcntl: %s", l->url, error_text(errno));
    }
    if (!connectionless)
        channel_learn_peer(ch, fd);
    return open_channel(ch, fd, &l->options, connectionless);
}

static int remove_dead(const struct url *url, int kind)
{
    struct unix_name name;
    FD_CLEANUP int lock = -1;
    struct stat status;
    int r = parse_name(url, &name);

    if (r < 0)
        return r;
    if (!name.path)
        return error_set(ENOTSUP, "%s: an abstract name vanishes by itself with the socket", url->text);
    if (lstat(name.path, &status) < 0)
        return error_set(errno, "%s: %s", url->text, error_text(errno));
    lock = unix_path_lock(url, name.path);
    if (lock < 0)
        return lock == -EADDRINUSE ? error_set(EBUSY, "%s: a process listens there; stop it first", url->text)
                                   : lock;
    r = unix_path_clear(url, &name, kind);
    unix_path_unlock(name.path); /* the socket, if it was a dead one, is gone by now */
    return r == -EADDRINUSE ? error_set(EBUSY, "%s: a process listens there; stop it first", url->text) : r;
}

static int unix_remove(struct url *url)
{
    int kind = kind_of(channel_find(url)), r;

    fork_hold(); /* a child with a copy of the lock would look like a listener */
    r = remove_dead(url, kind);
    fork_release();
    return r;
}

/* A peer that closes takes what it had not read out of the count, as if it had read it: only the ECONNRESET
 * that the kernel leaves behind tells the difference (unix_release_sock() in net/unix/af_unix.c). */
static int64_t unix_untaken(struct naru_channel *ch)
{
    int bytes, code = 0;
    socklen_t length = sizeof code;

    if (ioctl(ch->wfd, SIOCOUTQ, &bytes) < 0)
        return error_set(errno, "%s: SIOCOUTQ: %s", ch->url, error_text(errno));
    if (bytes > 0)
        return bytes;
    if (getsockopt(ch->wfd, SOL_SOCKET, SO_ERROR, &code, &length) == 0)
        socket_note_reset(ch, code);
    return atomic_load_explicit(&ch->unread_lost, memory_order_relaxed) ? channel_peer_gone(ch) : 0;
}

/* poll(2) minds the queue of the peer that a socket is connected to. Answers go to whoever sent last, and
 * while that one's queue is full (max_dgram_qlen; unless it is connected to us) the socket counts as writable
 * all the same: unix_dgram_poll() in net/unix/af_unix.c. To wait by poll(2) alone would then be to spin. */
static int dgram_wait(struct naru_channel *ch, int event, int64_t deadline)
{
    const struct datagram *d = ch->state;
    struct pollfd room = {.fd = ch->wfd, .events = POLLOUT};

    if (event == NARU_OUT && d->reply && fd_poll(&room, 1, NARU_NOWAIT) > 0)
        return channel_wait_backoff(ch, event, deadline);
    return channel_wait_poll(ch, event, deadline);
}

#define UNIX_COMMON                                                                                          \
    .pair = unix_pair, .connect = unix_connect, .listen = unix_listen, .accept = unix_accept,                \
    .unlisten = unix_unlisten, .remove = unix_remove, .untaken = unix_untaken, .close = unix_close
#define UNIX_CAPABILITIES                                                                                    \
    (NARU_CAN_DUPLEX | NARU_CAN_PAIR | NARU_CAN_CONNECT | NARU_CAN_LISTEN | NARU_CAN_FDS |                   \
     NARU_CAN_SURVIVE_SENDER | NARU_CAN_SEE_RECEIVER | NARU_CAN_BE_RELIABLE | NARU_CAN_POLL |                \
     NARU_CAN_SEND_EMPTY | NARU_CAN_PUSH_BACK | NARU_CAN_TELL_TAKEN | NARU_CAN_CREDENTIALS)
#define UNIX_CONNECTED (NARU_CAN_ACCEPT_MANY | NARU_CAN_KNOW_DEATH | NARU_CAN_SEE_CLOSE)

const struct channel_ops unix_stream_ops = {
    .row = {.size = sizeof(struct naru_mechanism),
            .name = "unix-stream",
            .scheme = "unix",
            .example = "unix:///tmp/naru.sock",
            .title = "unix socket, stream",
            .use_when = "programs on one machine talk both ways; the usual choice",
            .medium = "kernel socket buffer",
            .direction = "both ways",
            .unit = "byte stream",
            .scope = "one machine",
            .persistence = "until closed; the path stays",
            .limit = "208 KiB buffered; SO_SNDBUF up to /proc/sys/net/core/wmem_max",
            .wait = "blocking send or recv, poll",
            .options = "type=stream|seqpacket|dgram\twhich kind of socket (stream)",
            .capabilities = UNIX_CAPABILITIES | UNIX_CONNECTED | NARU_CAN_FRAME},
    .variant = "stream",
    STREAM_MESSAGES,
    SOCKET_IO,
    UNIX_COMMON,
};

const struct channel_ops unix_seqpacket_ops = {
    .row = {.size = sizeof(struct naru_mechanism),
            .name = "unix-seqpacket",
            .scheme = "unix",
            .example = "unix:///tmp/naru.sock?type=seqpacket",
            .title = "unix socket, seqpacket",
            .use_when = "as stream, and the kernel shall keep the messages apart",
            .medium = "kernel socket buffer",
            .direction = "both ways",
            .unit = "message",
            .scope = "one machine",
            .persistence = "until closed; the path stays",
            .limit = "message up to SO_SNDBUF (208 KiB), /proc/sys/net/core/wmem_max",
            .wait = "blocking send or recv, poll",
            .options = "type=seqpacket\tthe kernel keeps the messages apart",
            .capabilities = UNIX_CAPABILITIES | UNIX_CONNECTED,
            .max_message = 212960},
    .variant = "seqpacket",
    DATAGRAM_MESSAGES,
    UNIX_COMMON,
};

const struct channel_ops unix_dgram_ops = {
    .row = {.size = sizeof(struct naru_mechanism),
            .name = "unix-dgram",
            .scheme = "unix",
            .example = "unix:///tmp/naru.sock?type=dgram",
            .title = "unix socket, datagram",
            .use_when = "many senders, one receiver, no connections (a log)",
            .medium = "kernel socket buffer",
            .direction = "both ways (replies to the last sender)",
            .unit = "message",
            .scope = "one machine",
            .persistence = "until closed; the path stays",
            .limit = "/proc/sys/net/unix/max_dgram_qlen messages wait, each up to SO_SNDBUF",
            .wait = "blocking send or recv, poll",
            .options = "type=dgram\tthe kernel keeps the messages apart, without connections",
            .capabilities = UNIX_CAPABILITIES,
            .max_message = 212960},
    .variant = "dgram",
    DATAGRAM_MESSAGES,
    .wait = dgram_wait,
    UNIX_COMMON,
};
