/* SPDX-License-Identifier: MIT */
/* Finding and making POSIX queues: what their URLs say, their limits, and what a failure means. */
#include "channel/posixmq-open.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "base/error.h"
#include "base/fd.h"
#include "base/races.h"

enum {
    PRIORITIES = 32768,              /* mq_overview(7): RLIMIT_MSGQUEUE counts as many levels at most */
    MAXMSG_HARD = 65536,             /* mq_overview(7), HARD_MSGMAX: for root too */
    MSGSIZE_HARD = 16 * 1024 * 1024, /* HARD_MSGSIZEMAX */
    MAXMSG_USUAL = 10,               /* /proc/sys/fs/mqueue/msg_default and msg_max */
    QUEUES_USUAL = 256,              /* .../queues_max */
    MESSAGE_OVERHEAD = 48,
    LEVEL_OVERHEAD = 48 /* getrlimit(2), RLIMIT_MSGQUEUE: the two structures it counts */
};

#define PROC_MQUEUE "/proc/sys/fs/mqueue/"

int posixmq_parse_name(const struct url *url, char name[POSIXMQ_NAME_BYTES])
{
    const char *bare = url->target + (url->target[0] == '/');

    if (!*bare || strchr(bare, '/') || strcmp(bare, ".") == 0 || strcmp(bare, "..") == 0)
        return error_set(EINVAL, "%s: expected a name with no slash but the first, as in posixmq:/jobs",
                         url->text);
    if (strlen(bare) > NAME_MAX)
        return error_set(ENAMETOOLONG, "%s: a queue's name may have %d bytes, this one has %zu", url->text,
                         NAME_MAX, strlen(bare));
    (void)snprintf(name, POSIXMQ_NAME_BYTES, "/%s", bare);
    return 0;
}

int posixmq_parse(struct url *url, const struct naru_options *opt, bool listens,
                  struct posixmq_target *ret_target)
{
    struct posixmq_target target = {.maxmsg = 0};
    size_t msgsize = 0;
    int r = posixmq_parse_name(url, target.name);

    if (r == 0)
        r = queue_parse(url, opt, listens, &target.request);
    if (r == 0)
        r = url_option_number(url, "maxmsg", 1, MAXMSG_HARD, &target.maxmsg);
    if (r == 0)
        r = url_option_size(url, "msgsize", 1, MSGSIZE_HARD, &msgsize);
    if (r == 0)
        r = url_check_unused(url); /* before anything is made, and before a long wait */
    if (r < 0)
        return r;
    target.msgsize = (int64_t)msgsize;
    *ret_target = target;
    return 0;
}

/* What getrlimit(2) says a queue costs of RLIMIT_MSGQUEUE. */
static uint64_t bytes_charged(const struct mq_attr *size)
{
    uint64_t maxmsg = (uint64_t)size->mq_maxmsg;
    uint64_t levels = maxmsg < PRIORITIES ? maxmsg : PRIORITIES;

    return maxmsg * (MESSAGE_OVERHEAD + (uint64_t)size->mq_msgsize) + levels * LEVEL_OVERHEAD;
}

static int no_room(const struct url *url, const struct mq_attr *size)
{
    /* mq_open(3) says EMFILE for two reasons. While a descriptor can be had, it is the other one. */
    FD_CLEANUP int probe = eventfd(0, EFD_CLOEXEC);
    struct rlimit limit = {0, 0};

    if (probe < 0)
        return error_set(EMFILE, "%s: this process has no descriptors left; raise `ulimit -n`", url->text);
    (void)getrlimit(RLIMIT_MSGQUEUE, &limit); /* cannot fail: the resource exists and the pointer is ours */
    return error_set(
        EMFILE,
        "%s: it would take %llu bytes, and all POSIX queues of one user may take %llu "
        "(RLIMIT_MSGQUEUE); remove some, make it smaller (?maxmsg=, ?msgsize=), or raise `ulimit -q`",
        url->text, (unsigned long long)bytes_charged(size), (unsigned long long)limit.rlim_cur);
}

static int beyond_limits(const struct url *url, const struct mq_attr *size)
{
    return error_set(
        EINVAL,
        "%s: cannot make a queue with maxmsg=%ld and msgsize=%ld; without CAP_SYS_RESOURCE they may be %lld "
        "(" PROC_MQUEUE "msg_max) and %lld (" PROC_MQUEUE "msgsize_max); as root: sysctl "
        "fs.mqueue.msg_max=%ld fs.mqueue.msgsize_max=%ld",
        url->text, size->mq_maxmsg, size->mq_msgsize,
        (long long)queue_limit(PROC_MQUEUE "msg_max", MAXMSG_USUAL),
        (long long)queue_limit(PROC_MQUEUE "msgsize_max", POSIXMQ_MSGSIZE_USUAL), size->mq_maxmsg,
        size->mq_msgsize);
}

static int make_failed(const struct url *url, int code, const struct mq_attr *size)
{
    switch (code) {
    case EMFILE:
        return no_room(url, size);
    case EINVAL:
        return beyond_limits(url, size);
    case ENOSPC:
        return error_set(code,
                         "%s: the system has its %lld POSIX queues already (" PROC_MQUEUE
                         "queues_max); `naru ls` lists them, `naru rm` removes one",
                         url->text, (long long)queue_limit(PROC_MQUEUE "queues_max", QUEUES_USUAL));
    case ENOSYS:
        return error_set(code, "%s: this kernel is built without POSIX message queues (CONFIG_POSIX_MQUEUE)",
                         url->text);
    default:
        return error_set(code, "%s: cannot make it: %s", url->text, error_text(code));
    }
}

static int open_failed(const struct url *url, int code, const struct posixmq_target *target)
{
    static const char *const actions[] = {"", "send to", "receive from", "send to and receive from"};

    if (code == EACCES || code == EPERM)
        return error_set(
            code, "%s: may not %s it: permission denied; ?mode=0666 where it is made lets everybody in",
            url->text, actions[target->request.direction]);
    if (code == EMFILE || code == ENFILE)
        return error_set(code, "%s: out of descriptors (%s)", url->text, error_text(code));
    return error_set(code, "%s: cannot open it: %s", url->text, error_text(code));
}

static int access_mode(enum naru_direction direction)
{
    return direction == NARU_DIRECTION_BOTH ? O_RDWR : direction == NARU_DIRECTION_SEND ? O_WRONLY : O_RDONLY;
}

/* Makes the queue, or -EEXIST without an explanation. */
static int make(const struct url *url, const struct posixmq_target *target, unsigned mode)
{
    struct mq_attr size = {.mq_maxmsg = (long)target->maxmsg, .mq_msgsize = (long)target->msgsize};
    int fd;

    if (!size.mq_maxmsg)
        size.mq_maxmsg = (long)queue_limit(PROC_MQUEUE "msg_default", MAXMSG_USUAL);
    if (!size.mq_msgsize)
        size.mq_msgsize = (long)queue_limit(PROC_MQUEUE "msgsize_default", POSIXMQ_MSGSIZE_USUAL);
    fd = mq_open(target->name, access_mode(target->request.direction) | O_CREAT | O_EXCL | O_CLOEXEC,
                 (mode_t)mode, &size);
    if (fd < 0)
        return errno == EEXIST ? -EEXIST : make_failed(url, errno, &size);
    if (fchmod(fd, (mode_t)mode) < 0) { /* the umask has taken some of it away */
        int code = errno;

        (void)fd_close(fd);
        (void)mq_unlink(target->name);
        return error_set(code, "%s: cannot set its mode: %s", url->text, error_text(code));
    }
    return fd;
}

/* The descriptor; -ENOENT without an explanation: there is none, and none is to be made. */
static int find(const struct url *url, const struct posixmq_target *target, unsigned mode)
{
    for (int race = 0; race < RACES_MAX; race++) {
        int fd = mq_open(target->name, access_mode(target->request.direction) | O_CLOEXEC);

        if (fd < 0 && errno != ENOENT)
            return open_failed(url, errno, target);
        if (fd < 0 && !target->request.create)
            return -ENOENT;
        if (fd < 0)
            fd = make(url, target, mode);
        if (fd != -EEXIST)
            return fd;
    }
    return error_set(EAGAIN, "%s: others keep making and removing it", url->text);
}

/* A queue keeps the size that it was made with: whoever asks for another one must not get it silently. */
static int check_size(const struct url *url, const struct posixmq_target *target, const struct mq_attr *size)
{
    bool other_maxmsg = target->maxmsg && target->maxmsg != size->mq_maxmsg;
    bool other_msgsize = target->msgsize && target->msgsize != size->mq_msgsize;

    if (!other_maxmsg && !other_msgsize)
        return 0;
    return error_set(
        EEXIST,
        "%s: the queue exists already, with maxmsg=%ld and msgsize=%ld; leave ?%s= out to use it as "
        "it is, or remove it first (`naru rm posixmq:%s`)",
        url->text, size->mq_maxmsg, size->mq_msgsize, other_msgsize ? "msgsize" : "maxmsg", target->name);
}

int posixmq_find(const struct url *url, const struct posixmq_target *target, unsigned mode,
                 struct mq_attr *ret_size)
{
    FD_CLEANUP int fd = find(url, target, mode);
    struct mq_attr size;
    int r;

    if (fd < 0)
        return fd;
    if (mq_getattr(fd, &size) < 0)
        return open_failed(url, errno, target);
    r = check_size(url, target, &size);
    if (r < 0)
        return r;
    *ret_size = size;
    return fd_steal(&fd);
}
