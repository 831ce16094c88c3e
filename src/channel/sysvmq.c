/* SPDX-License-Identifier: MIT */
/*
 * sysvmq: System V message queues (sysvipc(7), msgop(2)), found by a 32-bit key or by their id, with nothing
 * added to the messages: a program with msgget(1234) is as good a peer as another naru.
 *
 * Each message has a type. ?type=N is what is sent, ?recv-type=N what is received: 0 any, N that type alone,
 * -N the lowest type up to N first. Two ends that send one type and receive another talk both ways through
 * one queue.
 *
 * There is no descriptor and no call with a timeout, so a timed wait is a capped back-off; only NARU_FOREVER
 * sleeps in the kernel. The type stands before the bytes in one piece of memory (struct msgbuf), so each
 * direction has a buffer that messages are copied through; it grows to the largest one seen.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/msg.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/sysv.h"
#include "channel/sysvmq-open.h"
#include "channel/table.h"

/* What msgsnd(2) and msgrcv(2) take: struct msgbuf with room. */
struct parcel {
    long type;
    uint8_t bytes[];
};

struct buffer {
    struct parcel *parcel;
    size_t capacity; /* of bytes */
};

/* Of a channel and of a listener (which uses id, types and unlink only). */
struct queue {
    int id;
    bool unlink;
    enum naru_direction direction;
    long send_type, receive_type;
    size_t msgmax, qbytes; /* the two limits on a message when it was opened */
    struct buffer out, in;
};

/* --- opening and closing --- */

static struct queue *queue_new(const struct sysvmq_target *target, int id)
{
    struct queue *q = calloc(1, sizeof *q);

    if (!q) {
        (void)error_set(ENOMEM, "out of memory for a System V queue");
        return NULL;
    }
    q->id = id;
    q->unlink = target->request.unlink;
    q->direction = target->request.direction;
    q->send_type = target->send_type;
    q->receive_type = target->receive_type;
    return q;
}

static void queue_free(struct queue *q, bool owner)
{
    /* By id, which counts on with each queue that had its place (msgget(2)): one that others made since under
     * the same key is safe. */
    if (owner && q->unlink)
        (void)msgctl(q->id, IPC_RMID, NULL);
    free(q->out.parcel);
    free(q->in.parcel);
    free(q);
}

/* Takes the queue over into the channel. */
static void attach(struct naru_channel *ch, struct queue *q)
{
    struct msqid_ds status;
    struct msginfo info;

    q->msgmax = SYSVMQ_MSGMAX_USUAL;
    q->qbytes = SYSVMQ_MSGMNB_USUAL;
    if (msgctl(0, IPC_INFO, (struct msqid_ds *)(void *)&info) >=
        0) { /* msgctl(2): IPC_INFO takes a msginfo */
        q->msgmax = (size_t)info.msgmax;
        q->qbytes = (size_t)info.msgmnb;
    }
    if (msgctl(q->id, IPC_STAT, &status) == 0) /* EACCES: we may only send; then it is msgmnb, most likely */
        q->qbytes = status.msg_qbytes;
    if (ch->max_message > q->msgmax)
        ch->max_message = q->msgmax;
    if (ch->max_message > q->qbytes)
        ch->max_message = q->qbytes;
    ch->direction = q->direction;
    ch->state = q;
}

static int sysvmq_connect(struct naru_channel *ch, struct url *url, const struct naru_options *opt,
                          int64_t deadline)
{
    struct sysvmq_target target;
    struct queue *q;
    int64_t step = 0;
    int id = sysvmq_parse(url, opt, false, &target);

    if (id < 0)
        return id;
    do
        id = sysvmq_find(url, &target, opt);
    while (id == -ENOENT && target.id < 0 && backoff_sleep(&step, deadline));
    if (id == -ENOENT && target.id < 0)
        return error_set(ETIMEDOUT,
                         "%s: there is no such queue; start the receiver, or make it here with ?create=yes",
                         url->text);
    if (id < 0)
        return id;
    q = queue_new(&target, id);
    if (!q)
        return -ENOMEM;
    attach(ch, q);
    return 0;
}

/* What the other side says: it sends what we receive, and receives what we send. */
static int make_listener_url(struct naru_listener *l, const struct url *url,
                             const struct sysvmq_target *target)
{
    static const char *const without[] = {"type", "recv-type", "unlink", NULL};
    char types[64] = "";
    int used = 0;

    if (target->receive_type > 0)
        used = snprintf(types, sizeof types, "type=%ld", target->receive_type);
    if (target->request.direction & NARU_DIRECTION_SEND)
        (void)snprintf(types + used, sizeof types - (size_t)used, "%srecv-type=%ld", used ? "&" : "",
                       target->send_type);
    return queue_listener_url(l, url, without, types);
}

static int sysvmq_listen(struct naru_listener *l, struct url *url, const struct naru_options *opt)
{
    struct sysvmq_target target;
    struct queue *q;
    int id = sysvmq_parse(url, opt, true, &target);

    if (id == 0)
        id = make_listener_url(l, url, &target);
    if (id == 0)
        id = sysvmq_find(url, &target, opt);
    if (id == -ENOENT && target.id < 0)
        return error_set(ENOENT, "%s: there is no such queue, and ?create=no", url->text);
    if (id < 0)
        return id;
    q = queue_new(&target, id);
    if (!q)
        return -ENOMEM;
    l->state = q;
    return 0;
}

static int sysvmq_accept(struct naru_listener *l, struct naru_channel *ch)
{
    const struct queue *listening = l->state;
    struct queue *q = calloc(1, sizeof *q);

    if (!q)
        return error_set(ENOMEM, "%s: out of memory for a channel", l->url);
    *q = *listening;
    q->unlink = false; /* the listener does */
    attach(ch, q);
    return 0;
}

static void sysvmq_unlisten(struct naru_listener *l, bool owner)
{
    queue_free(l->state, owner);
}

static void sysvmq_close(struct naru_channel *ch, bool owner)
{
    queue_free(ch->state, owner);
}

static int sysvmq_remove(struct url *url)
{
    struct sysvmq_target target;
    int id, r = sysv_target(url, &target.key, &target.id);

    if (r < 0)
        return r;
    id = target.id >= 0 ? target.id : msgget(target.key, 0);
    if (id >= 0 && msgctl(id, IPC_RMID, NULL) == 0)
        return 0;
    if (errno == ENOENT || sysv_is_gone(errno))
        return error_set(ENOENT, "%s: there is no such queue; `ipcs -q` lists them", url->text);
    if (errno == EPERM)
        return error_set(EPERM, "%s: only the queue's owner, its maker and root may remove it", url->text);
    return sysvmq_open_failed(url, errno, "remove it");
}

/* --- messages --- */

static int reserve(const struct naru_channel *ch, struct buffer *buffer, size_t capacity)
{
    struct parcel *larger;

    if (buffer->parcel && buffer->capacity >= capacity)
        return 0;
    if (capacity < SYSVMQ_MSGMAX_USUAL)
        capacity = SYSVMQ_MSGMAX_USUAL;
    larger = realloc(buffer->parcel, sizeof *larger + capacity);
    if (!larger)
        return error_set(ENOMEM, "%s: out of memory for a message of up to %zu bytes", ch->url, capacity);
    buffer->parcel = larger;
    buffer->capacity = capacity;
    return 0;
}

static int too_large(const struct naru_channel *ch, size_t length)
{
    const struct queue *q = ch->state;
    char mend[160];

    if (length <= q->msgmax && length <= q->qbytes)
        return channel_too_large(ch, length, ch->max_message, ch->limit_mend);
    if (q->qbytes < q->msgmax)
        (void)snprintf(mend, sizeof mend,
                       "so many bytes may wait in this queue (msg_qbytes); make it with ?buffer=%zu", length);
    else if (length > q->qbytes)
        (void)snprintf(mend, sizeof mend,
                       "as root: sysctl kernel.msgmax=%zu, and make the queue with ?buffer=%zu", length,
                       length);
    else
        (void)snprintf(mend, sizeof mend, "it is kernel.msgmax; as root: sysctl kernel.msgmax=%zu", length);
    return channel_too_large(ch, length, ch->max_message, mend);
}

static int removed(const struct naru_channel *ch)
{
    return error_set(
        EIDRM,
        "%s: the queue has been removed (ipcrm, or msgctl IPC_RMID), with what was in it; open it "
        "anew",
        ch->url);
}

static bool is_removed(const struct queue *q)
{
    struct msqid_ds status;

    return msgctl(q->id, IPC_STAT, &status) < 0 && sysv_is_gone(errno);
}

/* The errors that sending and receiving share. */
static int failed(const struct naru_channel *ch, int code, const char *what)
{
    switch (code) {
    case EINTR:
        return -EINTR;
    case EIDRM:
        return removed(ch);
    case EINVAL:
        if (is_removed(ch->state))
            return removed(ch);
        break;
    case EACCES:
        return error_set(EACCES,
                         "%s: cannot %s: the queue's mode does not permit it; `ipcs -q` shows owner and mode",
                         ch->url, what);
    default:
        break;
    }
    return error_set(code, "%s: cannot %s: %s", ch->url, what, error_text(code));
}

static int send_failed(const struct naru_channel *ch, int code, size_t length)
{
    const struct queue *q = ch->state;

    if (code == EAGAIN)
        return -EAGAIN;
    if (code == EINVAL && !is_removed(q)) /* the type is right: so it is msgmax, lowered since we looked */
        return channel_too_large(ch, length,
                                 (size_t)queue_limit("/proc/sys/kernel/msgmax", SYSVMQ_MSGMAX_USUAL),
                                 "kernel.msgmax has been lowered");
    return failed(ch, code, "send");
}

static int sysvmq_send(struct naru_channel *ch, const struct naru_message *m, bool block)
{
    struct queue *q = ch->state;
    size_t length = message_length(m);
    int r;

    if (m->type < 0 || m->type > LONG_MAX)
        return error_set(EINVAL, "%s: a message's type is a number from 1 on, not %lld", ch->url,
                         (long long)m->type);
    r = reserve(ch, &q->out, length);
    if (r < 0)
        return r;
    q->out.parcel->type = m->type ? (long)m->type : q->send_type;
    (void)message_gather(m, q->out.parcel->bytes, length);
    if (msgsnd(q->id, q->out.parcel, length, block ? 0 : IPC_NOWAIT) < 0)
        return send_failed(ch, errno, length);
    return 0;
}

static int try_to_send(struct naru_channel *ch, const void *data, size_t length)
{
    const struct queue *q = ch->state;

    if (!q->out.parcel || q->out.capacity < length)
        return 0;
    q->out.parcel->type = q->send_type;
    memcpy(q->out.parcel->bytes, data, length);
    return msgsnd(q->id, q->out.parcel, length, 0) < 0 ? send_failed(ch, errno, length) : 1;
}

static int sysvmq_send_bytes(struct naru_channel *ch, const void *data, size_t length)
{
    return channel_sent(ch, data, length, try_to_send(ch, data, length));
}

/* msgrcv(2) into q->in, which grows until the message fits: too large a message stays in the queue (E2BIG).
 */
static ssize_t receive(struct naru_channel *ch, size_t room, bool block)
{
    struct queue *q = ch->state;
    size_t capacity = q->in.capacity;

    for (;;) {
        ssize_t n;
        int r = reserve(ch, &q->in, capacity);

        /* Reserved before it is needed: once received, a message must not be lost for want of memory. */
        if (r == 0 && room < q->in.capacity)
            r = channel_keep_reserve(ch, q->in.capacity);
        if (r < 0)
            return r;
        n = msgrcv(q->id, q->in.parcel, q->in.capacity, q->receive_type, block ? 0 : IPC_NOWAIT);
        if (n >= 0)
            return n;
        if (errno == ENOMSG)
            return -EAGAIN;
        if (errno != E2BIG)
            return failed(ch, errno, "receive");
        capacity = q->in.capacity * 2;
    }
}

static int sysvmq_recv(struct naru_channel *ch, struct naru_message *m, bool block)
{
    const struct queue *q = ch->state;
    size_t room = message_length(m), length, fitted;
    ssize_t n = receive(ch, room, block);

    if (n < 0)
        return (int)n;
    length = (size_t)n;
    m->type = q->in.parcel->type;
    m->priority = 0;
    m->sender = (struct naru_peer){-1, -1, -1};
    m->length = length;
    fitted = message_scatter(m, 0, q->in.parcel->bytes, length);
    if (fitted == length)
        return 0;
    memcpy(ch->kept.data + fitted, q->in.parcel->bytes + fitted, length - fitted);
    return channel_keep(ch, m, length);
}

/* With the buffers as the long way has left them; it also makes them larger. */
static int try_to_recv(struct naru_channel *ch, void *buf, size_t capacity, size_t *ret_length)
{
    const struct queue *q = ch->state;
    ssize_t n;

    if (!q->in.parcel || (capacity < q->in.capacity && ch->kept.capacity < q->in.capacity))
        return 0;
    n = msgrcv(q->id, q->in.parcel, q->in.capacity, q->receive_type, 0);
    if (n < 0)
        return errno == E2BIG ? 0 : failed(ch, errno, "receive");
    if ((size_t)n > capacity)
        return channel_keep_bytes(ch, buf, capacity, q->in.parcel->bytes, (size_t)n, q->in.parcel->type, 0);
    memcpy(buf, q->in.parcel->bytes, (size_t)n);
    *ret_length = (size_t)n;
    return 1;
}

static ssize_t sysvmq_recv_bytes(struct naru_channel *ch, void *buf, size_t capacity, int64_t timeout_ns)
{
    size_t length = 0;
    int r = try_to_recv(ch, buf, capacity, &length);

    return channel_received(ch, buf, capacity, timeout_ns, r, length);
}

/* An upper bound: what others sent counts as well. */
static int64_t sysvmq_untaken(struct naru_channel *ch)
{
    const struct queue *q = ch->state;
    struct msqid_ds status;

    if (ch->direction == NARU_DIRECTION_BOTH)
        return error_set(ENOTSUP,
                         "%s: both directions share one queue, which does not tell what of it the peer has "
                         "still to receive",
                         ch->url);
    if (msgctl(q->id, IPC_STAT, &status) < 0)
        return sysv_is_gone(errno) ? removed(ch) : failed(ch, errno, "look into the queue");
    return (int64_t)status.msg_qnum;
}

const struct channel_ops sysvmq_ops = {
    .row = {.size = sizeof(struct naru_mechanism),
            .name = "sysvmq",
            .scheme = "sysvmq",
            .example = "sysvmq:0x4d2",
            .also = "sysvmq:1234, the same key",
            .title = "System V message queue",
            .use_when = "an older program is the peer, or readers pick messages by type",
            .medium = "kernel message queue",
            .direction = "one way; both ways by types (?type=, ?recv-type=)",
            .unit = "message with a type",
            .scope = "one machine, by key",
            .persistence = "queue and messages until removed or reboot",
            .limit = "8 KiB a message (kernel.msgmax), 16 KiB a queue (kernel.msgmnb)",
            .wait = "blocking msgsnd or msgrcv; no descriptor: timed waits back off, 10 ms at most",
            .options =
                "type=N\ttype of what is sent (1)\n"
                "recv-type=N\treceive this type only; 0: any; -N: types up to N, the lowest first\n"
                "id=N\tby identifier, in place of the key\n"
                "create=yes|no\tmake it if it does not exist (the receiver: yes)\n"
                "unlink=yes\tthe receiver removes it at its end\n" CHANNEL_OPTION_BUFFER CHANNEL_OPTION_MODE,
            .capabilities = NARU_CAN_CONNECT | NARU_CAN_LISTEN | NARU_CAN_TYPE | NARU_CAN_SURVIVE_SENDER |
                            NARU_CAN_BE_RELIABLE | NARU_CAN_PERSIST | NARU_CAN_SEND_EMPTY |
                            NARU_CAN_SHARE_RECEIVE | NARU_CAN_PUSH_BACK | NARU_CAN_TELL_TAKEN,
            .max_message = SYSVMQ_MSGMAX_USUAL},
    .connect = sysvmq_connect,
    .listen = sysvmq_listen,
    .accept = sysvmq_accept,
    .unlisten = sysvmq_unlisten,
    .remove = sysvmq_remove,
    .send = sysvmq_send,
    .recv = sysvmq_recv,
    .send_bytes = sysvmq_send_bytes,
    .recv_bytes = sysvmq_recv_bytes,
    .wait = channel_wait_backoff,
    .untaken = sysvmq_untaken,
    .too_large = too_large,
    .close = sysvmq_close,
};
