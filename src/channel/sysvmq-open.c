/* SPDX-License-Identifier: MIT */
/* Finding and making System V queues: what their URLs say, and what a failure means. */
#include "channel/sysvmq-open.h"

#include <errno.h>
#include <limits.h>
#include <sys/ipc.h>
#include <sys/msg.h>

#include "base/error.h"
#include "base/races.h"
#include "base/sysv.h"

enum {
    CAN_READ = 0400, /* what msgget(2) checks when the queue exists; it looks at all nine bits as one */
    CAN_WRITE = 0200
};

static int parse_types(struct url *url, struct sysvmq_target *target)
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

int sysvmq_parse(struct url *url, const struct naru_options *opt, bool listens,
                 struct sysvmq_target *ret_target)
{
    struct sysvmq_target target;
    bool both;
    int r = sysv_target(url, &target.key, &target.id);

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

int sysvmq_open_failed(const struct url *url, int code, const char *what)
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
    if (sysv_is_gone(errno))
        return error_set(ENOENT, "%s: there is no queue with this id; `ipcs -q` lists them", url->text);
    return sysvmq_open_failed(url, errno, "find it");
}

/* The queue's id; -ENOENT without an explanation: there is none, and none is to be made. *ret_made: this call
 * has made it. */
static int find(const struct url *url, const struct sysvmq_target *target, unsigned mode, bool *ret_made)
{
    *ret_made = false;
    if (target->id >= 0)
        return find_by_id(url, target->id);
    for (int race = 0; race < RACES_MAX; race++) {
        int id = msgget(target->key, needed(target->request.direction));

        if (id < 0 && errno != ENOENT)
            return sysvmq_open_failed(url, errno, "open it");
        if (id < 0 && !target->request.create)
            return -ENOENT;
        if (id < 0) {
            id = msgget(target->key, IPC_CREAT | IPC_EXCL | (int)mode);
            if (id < 0 && errno != EEXIST)
                return sysvmq_open_failed(url, errno, "make it");
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
        return sysvmq_open_failed(url, errno, "read its limits");
    status.msg_qbytes = bytes;
    if (msgctl(id, IPC_SET, &status) == 0)
        return 0;
    if (errno == EPERM)
        return error_set(
            EPERM,
            "%s: only the queue's owner may set ?buffer=, and only CAP_SYS_RESOURCE above %lld bytes "
            "(/proc/sys/kernel/msgmnb); as root: sysctl kernel.msgmnb=%zu",
            url->text, (long long)queue_limit("/proc/sys/kernel/msgmnb", SYSVMQ_MSGMNB_USUAL), bytes);
    return sysvmq_open_failed(url, errno, "set its size");
}

/* find(), and the size asked for. */
int sysvmq_find(const struct url *url, const struct sysvmq_target *target, const struct naru_options *opt)
{
    bool made;
    int id = find(url, target, opt->mode, &made), r = 0;

    if (id >= 0 && opt->buffer && target->request.create)
        r = set_capacity(url, id, opt->buffer);
    if (r < 0 && made)
        (void)msgctl(id, IPC_RMID, NULL);
    return r < 0 ? r : id;
}
