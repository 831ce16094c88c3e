/* SPDX-License-Identifier: MIT */
/*
 * Waiting for a path to appear, change, be opened or go, with inotify(7) instead of polling.
 *
 *     watch_init(&w, path);
 *     while ((r = attempt(path)) == -ENOENT && (r = watch_wait(&w, deadline)) == 0)
 *         ;
 *     watch_deinit(&w);
 *
 * The watch begins before the caller's first look, so nothing is missed between the look and the wait. What
 * inotify cannot see (a directory or file we may not read, a dangling symbolic link's target, a user's
 * watches used up) is looked at by back-off; a wait may therefore end although nothing happened, never the
 * other way round, with one exception: a rename of a directory above the watched one is not noticed.
 */
#ifndef NARU_BASE_WATCH_H
#define NARU_BASE_WATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/inotify.h>

#include "base/fork.h"

struct watch {
    int fd;           /* the inotify instance, readable when something happened; -1: back-off only */
    bool weak;        /* inotify cannot see all of it at the moment: back off as well */
    uint32_t events;  /* of the path itself */
    int path_wd;      /* -1: the path does not exist, or may not be read */
    int directory_wd; /* the nearest existing ancestor; -1: none that we may read */
    char *path;
    size_t name_start, name_length; /* in path: the entry of that ancestor which leads to the path */
    int64_t step;                   /* of the back-off */
    struct fork_guard guard;        /* closes fd in children */
};

enum {
    /* Somebody opened it, changed it or its permissions, moved or removed it. */
    WATCH_ALL = IN_OPEN | IN_MODIFY | IN_ATTRIB | IN_CLOSE_WRITE | IN_DELETE_SELF | IN_MOVE_SELF,
    /* As above, but not what readers do. */
    WATCH_CHANGES = IN_MODIFY | IN_ATTRIB | IN_DELETE_SELF | IN_MOVE_SELF
};

/* Starts to watch path, which need not exist, for WATCH_ALL; the directory it is in (or would be in) is
 * watched as well. 0 or -ENOMEM: what keeps inotify from working only makes the wait a back-off. */
int watch_init(struct watch *w, const char *path);

/* The same for some events of the path itself. */
int watch_init_events(struct watch *w, const char *path, uint32_t events);

/* Waits until something happened. 0: look again; -ETIMEDOUT (error_expected); -errno. The path is under
 * watch again before this returns. A deadline of 0 only asks. */
int watch_wait(struct watch *w, int64_t deadline);

/* Takes note of what happened so far without waiting, so that w->fd is no longer readable. True: something
 * did. */
bool watch_drain(struct watch *w);

/* Stops watching for a while, because the kernel's look for watchers costs everybody who reads or writes the
 * file (0.3 us each, measured on Linux 6.18); w->fd is not readable meanwhile. What happens is noticed again
 * from watch_resume() on. */
void watch_pause(struct watch *w);
void watch_resume(struct watch *w);

/* Makes `to` of `from`, which is left as after watch_deinit(). */
void watch_move(struct watch *from, struct watch *to);

/* May be called twice, and on a zeroed watch whose fd is -1. */
void watch_deinit(struct watch *w);

#endif
