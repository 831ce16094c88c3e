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
#include "channel/queue.h"
#include "channel/table.h"

enum {
    RACES_MAX = 1000,
    MSGMAX_USUAL = 8192,  /* bytes: /proc/sys/kernel/msgmax as the kernel sets it (MSGMAX) */
    MSGMNB_USUAL = 16384, /* bytes: /proc/sys/kernel/msgmnb likewise */
    CAN_READ = 0400,      /* what msgget(2) checks when the queue exists; it looks at all nine bits as one */
    CAN_WRITE = 0200
};

/* What msgsnd(2) and msgrcv(2) take: struct msgbuf with room. */
struct parcel {
    long type;
    uint8_t bytes[];
};

struct buffer {
    struct parcel *parcel;
    size_t capacity; /* of bytes */
};

struct target {
    key_t key;
    int id; /* -1: by key */
    long send_type, receive_type;
    struct queue_request request;
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

/* --- the URL --- */

static int parse_types(struct url *url, struct target *target)
{
    int64_t send_type = 0, receive_type = INT64_MIN;
    int r = url_option_number(url, "type", 1, LONG_MAX, &send_type);

    if (r == 0)
        r = url_option_number(url, "recv-type", -LONG_MAX, LONG_MAX, &receive_type);
    if (r < 0)
        return r;
    target->send_type = send_type ? (long)send_type : 1;
    target->receive_type = receive_type == INT64_MIN ? 0 : (long)receive_type;
    return 0;
}

/* Either ?id= or a key. */
static int parse_key(struct url *url, struct target *target)
{
    int64_t key = 0, id = -1;
    int r = url_option_number(url, "id", 0, INT32_MAX, &id);

    if (r == 0 && id < 0)
        r = url_target_number(url, "a System V key", 1, UINT32_MAX, &key);
    else if (r == 0 && *url->target)
        r = error_set(EINVAL, "%s: expected a key or ?id=, not both", url->text);
    if (r < 0)
        return r;
    target->key = (key_t)(uint32_t)key; /* keys print as 0x%08x and are signed in C: the same 32 bits */
    target->id = (int)id;
    return 0;
}

static int parse(struct url *url, const struct naru_options *opt, bool listens, struct target *ret_target)
{
    struct target target;
    bool both;
    int r = parse_key(url, &target);

    if (r == 0)
        r = queue_parse(url, opt, listens, &target.request);
    if (r == 0)
        r = parse_types(url, &target);
    if (r == 0)
        r = url_check_unused(url); /* before anything is made, and before a long wait */
    if (r < 0)
        return r;
    /* Who says which type it receives wants to receive; with a type to send as well, it is both ways. */
    both = url_option(url, "recv-type") && (!listens || url_option(url, "type"));
    if (opt->direction == NARU_DIRECTION_DEFAULT && both)
        target.request.direction = NARU_DIRECTION_BOTH;
    *ret_target = target;
    return 0;
}

/* --- finding and making --- */

static int open_failed(const struct url *url, int code, const char *what)
{
    switch (code) {
    case EACCES:
    case EPERM:
        return error_set(
            code,
            "%s: cannot %s: permission denied; `ipcs -q` shows its owner and mode, and ?mode=0666 "
            "where it is made lets everybody in",
            url->text, what);
    case ENOSPC:
        return error_set(code,
                         "%s: cannot %s: the system has its %lld queues already (/proc/sys/kernel/msgmni); "
                         "`ipcs -q` lists them, `ipcrm -q ID` removes one",
                         url->text, what, (long long)queue_limit("/proc/sys/kernel/msgmni", 32000));
    case ENOSYS:
        return error_set(code, "%s: this kernel is built without System V message queues (CONFIG_SYSVIPC)",
                         url->text);
    default:
        return error_set(code, "%s: cannot %s: %s", url->text, what, error_text(code));
    }
}

/* What msgctl(2) says of an id whose queue is gone, or which has been given away again. */
static bool is_gone(int code)
{
    return code == EINVAL || code == EIDRM;
}

/* The permissions that a direction needs of a queue that exists. */
static int needed(enum naru_direction direction)
{
    return (direction & NARU_DIRECTION_SEND ? CAN_WRITE : 0) |
           (direction & NARU_DIRECTION_RECEIVE ? CAN_READ : 0);
}

static int find_by_id(const struct url *url, int id)
{
    struct msqid_ds status;

    if (msgctl(id, IPC_STAT, &status) == 0 || errno == EACCES) /* EACCES: there, not ours to look at */
        return id;
    if (is_gone(errno))
        return error_set(ENOENT, "%s: there is no queue with this id; `ipcs -q` lists them", url->text);
    return open_failed(url, errno, "find it");
}

/* The queue's id; -ENOENT without an explanation: there is none, and none is to be made. *ret_made: this call
 * has made it. */
static int find(const struct url *url, const struct target *target, unsigned mode, bool *ret_made)
{
    *ret_made = false;
    if (target->id >= 0)
        return find_by_id(url, target->id);
    for (int race = 0; race < RACES_MAX; race++) {
        int id = msgget(target->key, needed(target->request.direction));

        if (id < 0 && errno != ENOENT)
            return open_failed(url, errno, "open it");
        if (id < 0 && !target->request.create)
            return -ENOENT;
        if (id < 0) {
            id = msgget(target->key, IPC_CREAT | IPC_EXCL | (int)mode);
            if (id < 0 && errno != EEXIST)
                return open_failed(url, errno, "make it");
            *ret_made = id >= 0;
        }
        if (id >= 0)
            return id;
    }
    return error_set(EAGAIN, "%s: others keep making and removing it", url->text);
}

/* ?buffer=: how many bytes may wait in the queue. */
static int set_capacity(const struct url *url, int id, size_t bytes)
{
    struct msqid_ds status;

    if (msgctl(id, IPC_STAT, &status) < 0)
        return open_failed(url, errno, "read its limits");
    status.msg_qbytes = bytes;
    if (msgctl(id, IPC_SET, &status) == 0)
        return 0;
    if (errno == EPERM)
        return error_set(
            EPERM,
            "%s: only the queue's owner may set ?buffer=, and only CAP_SYS_RESOURCE above %lld bytes "
            "(/proc/sys/kernel/msgmnb); as root: sysctl kernel.msgmnb=%zu",
            url->text, (long long)queue_limit("/proc/sys/kernel/msgmnb", MSGMNB_USUAL), bytes);
    return open_failed(url, errno, "set its size");
}

/* find(), and the size asked for. What this call made it removes again if it fails. */
static int find_and_size(const struct url *url, const struct target *target, const struct naru_options *opt)
{
    bool made;
    int id = find(url, target, opt->mode, &made), r = 0;

    if (id >= 0 && opt->buffer && target->request.create)
        r = set_capacity(url, id, opt->buffer);
    if (r < 0 && made)
        (void)msgctl(id, IPC_RMID, NULL);
    return r < 0 ? r : id;
}

/* --- opening and closing --- */

static struct queue *queue_new(const struct target *target, int id)
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
    /* By id, which is never used again: a queue that others made since under the same key is safe. */
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

    q->msgmax = MSGMAX_USUAL;
    q->qbytes = MSGMNB_USUAL;
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
    struct target target;
    struct queue *q;
    int64_t step = 0;
    int id = parse(url, opt, false, &target);

    if (id < 0)
        return id;
    do
        id = find_and_size(url, &target, opt);
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
static int make_listener_url(struct naru_listener *l, const struct url *url, const struct target *target)
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
    struct target target;
    struct queue *q;
    int id = parse(url, opt, true, &target);

    if (id == 0)
        id = make_listener_url(l, url, &target);
    if (id == 0)
        id = find_and_size(url, &target, opt);
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
    struct target target;
    int id, r = parse_key(url, &target);

    if (r < 0)
        return r;
    id = target.id >= 0 ? target.id : msgget(target.key, 0);
    if (id >= 0 && msgctl(id, IPC_RMID, NULL) == 0)
        return 0;
    if (errno == ENOENT || is_gone(errno))
        return error_set(ENOENT, "%s: there is no such queue; `ipcs -q` lists them", url->text);
    if (errno == EPERM)
        return error_set(EPERM, "%s: only the queue's owner, its maker and root may remove it", url->text);
    return open_failed(url, errno, "remove it");
}

/* --- messages --- */

static int reserve(const struct naru_channel *ch, struct buffer *buffer, size_t capacity)
{
    struct parcel *larger;

    if (buffer->parcel && buffer->capacity >= capacity)
        return 0;
    if (capacity < MSGMAX_USUAL)
        capacity = MSGMAX_USUAL;
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

    return msgctl(q->id, IPC_STAT, &status) < 0 && is_gone(errno);
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
        return channel_too_large(ch, length, (size_t)queue_limit("/proc/sys/kernel/msgmax", MSGMAX_USUAL),
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
        return is_gone(errno) ? removed(ch) : failed(ch, errno, "look into the queue");
    return (int64_t)status.msg_qnum;
}

const struct channel_ops sysvmq_ops = {
    .row = {.size = sizeof(struct naru_mechanism),
            .name = "sysvmq",
            .scheme = "sysvmq",
            .example = "sysvmq:0x4d2",
            .title = "System V message queue",
            .use_when = "an older program is the peer, or readers pick messages by type",
            .medium = "kernel message queue",
            .direction = "one way; both ways by types (?type=, ?recv-type=)",
            .unit = "message with a type",
            .scope = "one machine, by key",
            .persistence = "queue and messages until removed or reboot",
            .limit = "8 KiB a message (kernel.msgmax), 16 KiB a queue (kernel.msgmnb)",
            .wait = "blocking msgsnd or msgrcv; no descriptor: timed waits back off, 10 ms at most",
            .options = "type=N\ttype of what is sent (1)\n"
                       "recv-type=N\treceive this type only; 0: any; -N: types up to N, the lowest first\n"
                       "id=N\tby identifier, in place of the key\n"
                       "create=yes|no\tmake it if it does not exist (the receiver: yes)\n"
                       "unlink=yes\tthe receiver removes it at its end",
            .capabilities = NARU_CAN_CONNECT | NARU_CAN_LISTEN | NARU_CAN_TYPE | NARU_CAN_SURVIVE_SENDER |
                            NARU_CAN_BE_RELIABLE | NARU_CAN_PERSIST | NARU_CAN_SEND_EMPTY |
                            NARU_CAN_SHARE_RECEIVE | NARU_CAN_PUSH_BACK | NARU_CAN_TELL_TAKEN,
            .max_message = MSGMAX_USUAL},
    .connect = sysvmq_connect,
    .listen = sysvmq_listen,
    .accept = sysvmq_accept,
    .unlisten = sysvmq_unlisten,
    .remove = sysvmq_remove,
    .send = sysvmq_send,
    .recv = sysvmq_recv,
    .wait = channel_wait_backoff,
    .untaken = sysvmq_untaken,
    .too_large = too_large,
    .close = sysvmq_close,
};
