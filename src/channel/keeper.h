/* SPDX-License-Identifier: MIT */
/*
 * The keeper: one thread per process, named naru-keeper, that answers for a program which is busy elsewhere.
 * It sleeps in epoll_wait(2) and calls whoever's descriptor is readable. It exists while there are tasks:
 * the first one starts it, the last one that is removed ends it. All signals are blocked in it.
 *
 * A child of fork() has no such thread: what the parent's tasks were is forgotten there, and the first task
 * of the child's own starts one of its own.
 */
#ifndef NARU_CHANNEL_KEEPER_H
#define NARU_CHANNEL_KEEPER_H

#include "base/list.h"

struct keeper;

/* Filled in by keeper_add(). It stays where it is until keeper_remove(). */
struct keeper_task {
    struct keeper *keeper; /* NULL: it was not added */
    struct list node;
    int fd;
    void (*attend)(void *data);
    void *data;
};

/*
 * From now on the thread calls attend(data) whenever fd is readable, with forks held off (base/fork.h): so it
 * must not wait. It need not make fd unreadable at once, and fd may change what it watches at any time. fd
 * stays the caller's. To be called with forks held off. what: the URL, for the explanation.
 *
 * 0 or explained: -EAGAIN (no thread is to be had), -EMFILE, -ENFILE, -ENOMEM, -ENOSPC, -EPERM.
 */
int keeper_add(const char *what, struct keeper_task *task, int fd, void (*attend)(void *data), void *data);

/*
 * When this returns, attend() is not running and will not be called again. To be called while fd is still
 * open, and without forks held off: it may wait for the thread to end, and that one for a fork. In a child of
 * the process that added it, frees what there is of it. What was not added (all zero) is allowed.
 */
void keeper_remove(struct keeper_task *task);

#endif
