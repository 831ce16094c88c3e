/* SPDX-License-Identifier: MIT */
/*
 * posixmq: POSIX message queues (mq_overview(7)): named, of a fixed number of messages of a fixed largest
 * size, the highest priority first. Nothing is added to the messages.
 *
 * The descriptions stay blocking. An attempt that must not sleep is mq_timedsend(3) or mq_timedreceive(3)
 * with a time long past: the kernel then asks neither the clock nor the scheduler, and no flag has to be
 * switched, which two threads could not share. On Linux a queue's descriptor can be polled, and so does all
 * that mq_notify(3) is for, without being lost to the one process that may register.
 */
#include <errno.h>
#include <fcntl.h>
#include <mqueue.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/fd.h"
#include "channel/posixmq-open.h"
#include "channel/table.h"

enum { PRIORITIES = 32768 }; /* mq_overview(7): from 0 to sysconf(_SC_MQ_PRIO_MAX) - 1 */

/* Of a listener. */
struct listening {
    struct posixmq_target target;
    struct mq_attr size;
};

/* Of a channel. */
struct queue {
    size_t msgsize;
    uint8_t *out; /* msgsize bytes to gather a message of several pieces in; NULL until there is one */
    char *unlink; /* the name to remove at close, or NULL */
};

/* --- opening and closing --- */

/* fd becomes the channel's, also on failure. unlink: the name to remove at close, or NULL. */
static int attach(struct naru_channel *ch, int fd, enum naru_direction direction, const struct mq_attr *size,
                  const char *unlink_name)
{
    struct queue *q = calloc(1, sizeof *q);

    if (direction & NARU_DIRECTION_RECEIVE)
        ch->rfd = fd;
    if (direction & NARU_DIRECTION_SEND)
        ch->wfd = fd;
    if (!q || (unlink_name && !(q->unlink = strdup(unlink_name)))) {
        free(q);
        return error_set(ENOMEM, "%s: out of memory for a channel", ch->url);
    }
    q->msgsize = (size_t)size->mq_msgsize;
    if (ch->max_message > q->msgsize)
        ch->max_message = q->msgsize;
    ch->direction = direction;
    ch->state = q;
    return 0;
}

/* One look: 0, -ENOENT without an explanation, or the explained -errno. */
static int try_queue(struct naru_channel *ch, const struct url *url, const struct posixmq_target *target,
                     unsigned mode)
{
    struct mq_attr size;
    int fd, r;

    fork_hold();
    r = fd = posixmq_find(url, target, mode, &size);
    if (fd >= 0)
        r = attach(ch, fd, target->request.direction, &size, target->request.unlink ? target->name : NULL);
    fork_release();
    return r;
}

static int posixmq_connect(struct naru_channel *ch, struct url *url, const struct naru_options *opt,
                           int64_t deadline)
{
    struct posixmq_target target;
    int64_t step = 0;
    int r = posixmq_parse(url, opt, false, &target);

    if (r < 0)
        return r;
    /* By back-off: inotify(7) sees nothing of queues that are made through mq_open(3). */
    do
        r = try_queue(ch, url, &target, opt->mode);
    while (r == -ENOENT && backoff_sleep(&step, deadline));
    if (r == -ENOENT)
        return error_set(ETIMEDOUT,
                         "%s: there is no such queue; start the receiver, or make it here with ?create=yes",
                         url->text);
    return r;
}

/*
 * l->lock_fd is the queue, so that what is accepted is what was made, whatever has become of the name since.
 * l->fd is readable while naru_accept() would succeed: until the one channel is out.
 */
static int posixmq_listen(struct naru_listener *l, struct url *url, const struct naru_options *opt)
{
    static const char *const without[] = {"unlink", NULL};
    struct listening *state = malloc(sizeof *state);
    FD_CLEANUP int ready = -1;
    int fd, r;

    if (!state)
        return error_set(ENOMEM, "%s: out of memory for a listener", url->text);
    r = posixmq_parse(url, opt, true, &state->target);
    if (r == 0)
        r = queue_listener_url(l, url, without, "");
    if (r == 0 && (ready = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK)) < 0)
        r = error_set(errno, "%s: eventfd: %s", url->text, error_text(errno));
    fd = r < 0 ? r : posixmq_find(url, &state->target, opt->mode, &state->size);
    if (fd == -ENOENT)
        fd = error_set(ENOENT, "%s: there is no such queue, and ?create=no", url->text);
    if (fd < 0) {
        free(state);
        return fd;
    }
    l->fd = fd_steal(&ready);
    l->lock_fd = fd;
    l->state = state;
    return 0;
}

static int posixmq_accept(struct naru_listener *l, struct naru_channel *ch)
{
    const struct listening *state = l->state;
    int fd = fcntl(l->lock_fd, F_DUPFD_CLOEXEC, 0), r;
    uint64_t one;

    if (fd < 0)
        return error_set(errno, "%s: cannot duplicate the descriptor: %s", l->url, error_text(errno));
    r = attach(ch, fd, state->target.request.direction, &state->size, NULL);
    if (r == 0 && read(l->fd, &one, sizeof one) < 0)
        return 0; /* EAGAIN: an accept before this one has read it and failed */
    return r;
}

static void posixmq_unlisten(struct naru_listener *l, bool owner)
{
    const struct listening *state = l->state;

    if (owner && state->target.request.unlink)
        (void)mq_unlink(state->target.name); /* ENOENT: others were faster */
    free(l->state);
}

/* The listener, if it is still there, may accept anew. */
static void make_ready(struct naru_listener *l)
{
    static const uint64_t one = 1;
    ssize_t n = write(l->fd, &one, sizeof one);

    (void)n; /* our own eventfd, never near its limit: cannot fail */
}

static void posixmq_close(struct naru_channel *ch, bool owner)
{
    struct queue *q = ch->state;

    if (owner && q->unlink)
        (void)mq_unlink(q->unlink);
    if (owner && ch->listener)
        make_ready(ch->listener);
    free(q->unlink);
    free(q->out);
    free(q);
}

static int posixmq_remove(struct url *url)
{
    char name[POSIXMQ_NAME_BYTES];
    int r = posixmq_parse_name(url, name);

    if (r < 0)
        return r;
    if (mq_unlink(name) == 0)
        return 0;
    if (errno == ENOENT)
        return error_set(ENOENT, "%s: there is no such queue", url->text);
    if (errno == EACCES || errno == EPERM)
        return error_set(errno, "%s: only the queue's owner and root may remove it", url->text);
    return error_set(errno, "%s: cannot remove it: %s", url->text, error_text(errno));
}

/* --- messages --- */

/* A time so long past that the kernel does not even look at the clock. */
static const struct timespec past = {0, 0};

static int too_large(const struct naru_channel *ch, size_t length)
{
    const struct queue *q = ch->state;

    if (length <= q->msgsize)
        return channel_too_large(ch, length, ch->max_message, ch->limit_mend);
    return error_set(EMSGSIZE,
                     "%s: message of %zu bytes exceeds msgsize=%zu; create the queue with ?msgsize=%zu",
                     ch->url, length, q->msgsize, length);
}

/* ETIMEDOUT is what the long past time comes to. */
static int failed(const struct naru_channel *ch, int code, const char *what)
{
    if (code == ETIMEDOUT || code == EAGAIN)
        return -EAGAIN;
    if (code == EINTR)
        return -EINTR;
    return error_set(code, "%s: cannot %s: %s", ch->url, what, error_text(code));
}

/* The message in one piece. NULL after an explained -ENOMEM. */
static const void *in_one_piece(const struct naru_channel *ch, const struct naru_message *m)
{
    struct queue *q = ch->state;

    if (m->iov_count == 1)
        return m->iov[0].iov_base;
    if (!q->out)
        q->out = malloc(q->msgsize);
    if (!q->out) {
        (void)error_set(ENOMEM, "%s: out of memory for a message of several pieces", ch->url);
        return NULL;
    }
    (void)message_gather(m, q->out, q->msgsize);
    return q->out;
}

static int posixmq_send(struct naru_channel *ch, const struct naru_message *m, bool block)
{
    size_t length = message_length(m);
    const void *data = length ? in_one_piece(ch, m) : "";
    int r;

    if (!data)
        return -ENOMEM;
    if (m->priority >= PRIORITIES)
        return error_set(EINVAL, "%s: a message's priority is a number from 0 to %d, not %u", ch->url,
                         PRIORITIES - 1, m->priority);
    r = block ? mq_send(ch->wfd, data, length, m->priority)
              : mq_timedsend(ch->wfd, data, length, m->priority, &past);
    return r < 0 ? failed(ch, errno, "send") : 0;
}

/* The kernel asks for room for the largest message, whatever comes: the caller's memory if it has as much,
 * else ch->kept, from where a message that does not fit is not moved. */
static int posixmq_recv(struct naru_channel *ch, struct naru_message *m, bool block)
{
    const struct queue *q = ch->state;
    bool direct = m->iov_count == 1 && m->iov[0].iov_len >= q->msgsize;
    unsigned priority;
    char *data;
    ssize_t n;
    int r = direct ? 0 : channel_keep_reserve(ch, q->msgsize);

    if (r < 0)
        return r;
    data = direct ? m->iov[0].iov_base : (char *)ch->kept.data;
    n = block ? mq_receive(ch->rfd, data, q->msgsize, &priority)
              : mq_timedreceive(ch->rfd, data, q->msgsize, &priority, &past);
    if (n < 0)
        return failed(ch, errno, "receive");
    m->type = 0;
    m->priority = priority;
    m->sender = (struct naru_peer){-1, -1, -1};
    m->length = (size_t)n;
    if (direct || message_scatter(m, 0, data, m->length) == m->length)
        return 0;
    return channel_keep(ch, m, m->length);
}

static int try_to_send(struct naru_channel *ch, const void *data, size_t length)
{
    return mq_send(ch->wfd, data, length, 0) < 0 ? failed(ch, errno, "send") : 1;
}

static int posixmq_send_bytes(struct naru_channel *ch, const void *data, size_t length)
{
    return channel_sent(ch, data, length, try_to_send(ch, data, length));
}

static int try_to_recv(struct naru_channel *ch, void *buf, size_t capacity, size_t *ret_length)
{
    const struct queue *q = ch->state;
    bool direct = capacity >= q->msgsize;
    unsigned priority;
    ssize_t n;

    if (!direct && ch->kept.capacity < q->msgsize)
        return 0;
    n = mq_receive(ch->rfd, direct ? buf : (void *)ch->kept.data, q->msgsize, &priority);
    if (n < 0)
        return failed(ch, errno, "receive");
    if ((size_t)n > capacity)
        return channel_keep_bytes(ch, buf, capacity, ch->kept.data, (size_t)n, 0, priority);
    if (!direct)
        memcpy(buf, ch->kept.data, (size_t)n);
    *ret_length = (size_t)n;
    return 1;
}

static ssize_t posixmq_recv_bytes(struct naru_channel *ch, void *buf, size_t capacity, int64_t timeout_ns)
{
    size_t length = 0;
    int r = try_to_recv(ch, buf, capacity, &length);

    return channel_received(ch, buf, capacity, timeout_ns, r, length);
}

/* An upper bound: what others sent counts as well. */
static int64_t posixmq_untaken(struct naru_channel *ch)
{
    struct mq_attr now;

    if (ch->direction == NARU_DIRECTION_BOTH)
        return error_set(ENOTSUP,
                         "%s: both directions share one queue, which does not tell what of it the peer has "
                         "still to receive",
                         ch->url);
    if (mq_getattr(ch->wfd, &now) < 0)
        return failed(ch, errno, "look into the queue");
    return now.mq_curmsgs;
}

const struct channel_ops posixmq_ops = {
    .row = {.size = sizeof(struct naru_mechanism),
            .name = "posixmq",
            .scheme = "posixmq",
            .example = "posixmq:/naru",
            .title = "POSIX message queue",
            .use_when = "urgent messages must overtake, and messages must wait for a reader to start",
            .medium = "kernel message queue",
            .direction = "one way",
            .unit = "message with a priority",
            .scope = "one machine, by name",
            .persistence = "queue and messages until removed or reboot",
            .limit = "10 messages of 8 KiB (/proc/sys/fs/mqueue/), RLIMIT_MSGQUEUE in all",
            .wait = "blocking mq_send or mq_receive; poll, which does what mq_notify is for",
            .options = "maxmsg=N\tmessages it holds, if it is made now\n"
                       "msgsize=SIZE\tbytes of a message at most, if it is made now\n"
                       "create=yes|no\tmake it if it does not exist (the receiver: yes)\n"
                       "unlink=yes\tthe receiver removes it at its end\n" CHANNEL_OPTION_MODE,
            .capabilities = NARU_CAN_CONNECT | NARU_CAN_LISTEN | NARU_CAN_PRIORITY | NARU_CAN_SURVIVE_SENDER |
                            NARU_CAN_BE_RELIABLE | NARU_CAN_POLL | NARU_CAN_PERSIST | NARU_CAN_SEND_EMPTY |
                            NARU_CAN_SHARE_RECEIVE | NARU_CAN_PUSH_BACK | NARU_CAN_TELL_TAKEN,
            .max_message = POSIXMQ_MSGSIZE_USUAL},
    .connect = posixmq_connect,
    .listen = posixmq_listen,
    .accept = posixmq_accept,
    .unlisten = posixmq_unlisten,
    .remove = posixmq_remove,
    .send = posixmq_send,
    .recv = posixmq_recv,
    .send_bytes = posixmq_send_bytes,
    .recv_bytes = posixmq_recv_bytes,
    .untaken = posixmq_untaken,
    .too_large = too_large,
    .close = posixmq_close,
};
