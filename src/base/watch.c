/* SPDX-License-Identifier: MIT */
/*
 * inotify on a path and on the directory that leads to it.
 *
 * Two watches: the path itself (changes, opens) and its nearest existing ancestor (its coming into being).
 * After every event both are set anew before the caller looks, so the caller's look is always younger than
 * the watches and older than the wait.
 */
#include "base/watch.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/fd.h"

enum {
    DIRECTORY_EVENTS = IN_CREATE | IN_DELETE | IN_MOVED_TO | IN_MOVED_FROM | IN_ATTRIB | IN_DELETE_SELF |
                       IN_MOVE_SELF | IN_ONLYDIR
};

static bool is_absent(int code)
{
    return code == ENOENT || code == ENOTDIR;
}

/* Watches the first `length` bytes of the path as a directory: "" is the current one, "/" keeps its slash. */
static int add_directory(struct watch *w, size_t length)
{
    char saved = w->path[length];
    const char *directory = w->path;
    int wd;

    if (length == 0)
        directory = w->path[0] == '/' ? "/" : ".";
    else
        w->path[length] = '\0';
    wd = inotify_add_watch(w->fd, directory, DIRECTORY_EVENTS);
    w->path[length] = saved;
    return wd;
}

/* Whether the entry that leads to the path exists in the watched ancestor (a dangling link exists, too). */
static bool entry_exists(struct watch *w)
{
    size_t end = w->name_start + w->name_length;
    char saved = w->path[end];
    struct stat status;
    bool exists;

    w->path[end] = '\0';
    exists = lstat(w->path, &status) == 0;
    w->path[end] = saved;
    return exists;
}

/* Goes up from the path until there is a directory to watch. */
static void arm_directory(struct watch *w)
{
    size_t end = strlen(w->path);
    int wd, old = w->directory_wd;

    w->directory_wd = -1;
    do {
        size_t start = end;

        while (start > 0 && w->path[start - 1] != '/')
            start--;
        w->name_start = start;
        w->name_length = end - start;
        for (end = start; end > 0 && w->path[end - 1] == '/';)
            end--;
        wd = add_directory(w, end);
    } while (wd < 0 && is_absent(errno) && end > 0);

    if (wd < 0)
        w->weak = true; /* EACCES, ENOSPC ... */
    w->directory_wd = wd;
    if (old >= 0 && old != wd)
        (void)inotify_rm_watch(w->fd, old); /* EINVAL: the directory went, and its watch with it */
}

static void arm(struct watch *w)
{
    w->weak = w->fd < 0;
    if (w->weak)
        return;
    arm_directory(w);
    w->path_wd = inotify_add_watch(w->fd, w->path, w->events);
    if (w->path_wd >= 0)
        return;
    /* Absent, though the ancestor has the entry that leads there: a dangling link whose target we do not
     * watch, or an entry that came after we had looked for it. */
    if (!is_absent(errno) || entry_exists(w))
        w->weak = true;
}

int watch_init_events(struct watch *w, const char *path, uint32_t events)
{
    size_t length = strlen(path);

    *w = (struct watch){.fd = -1, .events = events, .path_wd = -1, .directory_wd = -1};
    while (length > 1 && path[length - 1] == '/')
        length--;
    w->path = strndup(path, length);
    if (!w->path)
        return error_set(ENOMEM, "%s: out of memory", path);
    /* EMFILE here may mean fs.inotify.max_user_instances as well as RLIMIT_NOFILE (inotify_init(2)): the
     * wait then backs off, and the caller's own open(2) reports what is really missing. */
    fork_guard_init(&w->guard);
    fork_guard_add(&w->guard, &w->fd);
    fork_hold();
    w->fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    fork_release();
    arm(w);
    return 0;
}

int watch_init(struct watch *w, const char *path)
{
    return watch_init_events(w, path, WATCH_ALL);
}

static bool concerns(const struct watch *w, const struct inotify_event *event)
{
    if (event->wd < 0) /* IN_Q_OVERFLOW: something was lost, so look */
        return true;
    if (event->wd == w->path_wd)
        return true;
    if (event->wd != w->directory_wd)
        return false; /* an earlier ancestor's last words */
    return event->len == 0 || (strncmp(event->name, w->path + w->name_start, w->name_length) == 0 &&
                               event->name[w->name_length] == '\0');
}

/* Reads all events; whether one of them concerns us. */
static bool drain(struct watch *w)
{
    _Alignas(struct inotify_event) char buffer[4096];
    bool concerned = false;
    ssize_t length;

    for (;;) {
        length = read(w->fd, buffer, sizeof buffer);
        if (length < 0 && errno == EINTR)
            continue;
        if (length <= 0) /* EAGAIN: that was all */
            return concerned;
        for (const char *next = buffer; next < buffer + length;) {
            const struct inotify_event *event = (const void *)next;

            concerned |= concerns(w, event);
            next += sizeof *event + event->len;
        }
    }
}

bool watch_drain(struct watch *w)
{
    if (w->fd < 0 || !drain(w))
        return false;
    arm(w);
    return true;
}

/* One sleep: until an event, or as long as the back-off allows. 1: the back-off's turn is over. */
static int sleep_once(struct watch *w, int64_t deadline)
{
    struct pollfd poll_fd = {.fd = w->fd, .events = POLLIN};
    int64_t until = w->weak && deadline_left(deadline) > 0 ? backoff_until(&w->step, deadline) : deadline;
    int ready = fd_poll(&poll_fd, 1, until);

    if (ready < 0)
        return error_set(-ready, "waiting for %s: %s", w->path, error_text(-ready));
    if (ready == 0 && until == deadline)
        return error_expected(ETIMEDOUT);
    return ready == 0;
}

int watch_wait(struct watch *w, int64_t deadline)
{
    int r = 0;

    if (w->fd < 0)
        return backoff_sleep(&w->step, deadline) ? 0 : error_expected(ETIMEDOUT);
    for (;;) {
        r = sleep_once(w, deadline);
        if (r < 0)
            return r;
        if (r == 1)
            break;
        if (drain(w)) {
            w->step = 0;
            break;
        }
    }
    arm(w);
    return 0;
}

void watch_pause(struct watch *w)
{
    if (w->fd < 0)
        return;
    /* EINVAL: the file or directory went, and its watch with it. */
    if (w->path_wd >= 0)
        (void)inotify_rm_watch(w->fd, w->path_wd);
    if (w->directory_wd >= 0)
        (void)inotify_rm_watch(w->fd, w->directory_wd);
    w->path_wd = w->directory_wd = -1;
    (void)drain(w); /* IN_IGNORED */
}

void watch_resume(struct watch *w)
{
    arm(w);
}

void watch_move(struct watch *from, struct watch *to)
{
    fork_hold();
    fork_guard_deinit(&from->guard);
    *to = *from;
    *from = (struct watch){.fd = -1};
    fork_guard_init(&to->guard);
    fork_guard_add(&to->guard, &to->fd);
    fork_release();
}

void watch_deinit(struct watch *w)
{
    if (w->path) /* else there is no guard either */
        fork_guard_close(&w->guard);
    free(w->path);
    w->path = NULL;
}
