/* SPDX-License-Identifier: MIT */
/*
 * Watching a file that others replace. An event of inotify counts as a change without a further look, because
 * a change within the clock tick of the one before leaves the same size and times; where inotify cannot see,
 * what stat(2) says is compared.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/watch.h"
#include "naru/file.h"

/* What tells versions of a file apart. All zero: there is none. */
struct version {
    dev_t device;
    ino_t inode;
    off_t size;
    struct timespec modified, changed;
};

struct naru_file_watch {
    struct watch watch;
    struct version version;
};

static struct version version_of(const char *path)
{
    struct version version;
    struct stat status;

    memset(&version, 0, sizeof version); /* the padding, too: versions are compared as bytes */
    if (stat(path, &status) < 0)
        return version;
    version.device = status.st_dev;
    version.inode = status.st_ino;
    version.size = status.st_size;
    version.modified = status.st_mtim;
    version.changed = status.st_ctim;
    return version;
}

/* Whether it is another version than at the last look. */
static bool is_new(struct naru_file_watch *w)
{
    struct version now = version_of(w->watch.path);
    bool differs = memcmp(&now, &w->version, sizeof now) != 0;

    memcpy(&w->version, &now, sizeof now);
    return differs;
}

int naru_file_watch_open(const char *path, struct naru_file_watch **ret_watch)
{
    struct naru_file_watch *w;
    int r;

    if (!path || !*path)
        return error_set(EINVAL, "expected the path of a file to watch");
    w = calloc(1, sizeof *w);
    if (!w)
        return error_set(ENOMEM, "%s: out of memory to watch it", path);
    r = watch_init_events(&w->watch, path, WATCH_CHANGES);
    if (r < 0) {
        free(w);
        return r;
    }
    (void)is_new(w);
    *ret_watch = w;
    return 0;
}

int naru_file_watch_wait(struct naru_file_watch *w, int64_t timeout_ns)
{
    int64_t deadline = deadline_after(timeout_ns);
    int r = fork_guard_enter(&w->watch.guard);
    bool seen;

    while (r == 0) {
        seen = watch_drain(&w->watch);
        if (is_new(w) || seen)
            return 0;
        seen = !w->watch.weak;
        r = watch_wait(&w->watch, deadline);
        if (r == 0 && (is_new(w) || seen))
            return 0;
    }
    return r == -ETIMEDOUT && timeout_ns <= 0 ? error_expected(EAGAIN) : r;
}

int naru_file_watch_fd(struct naru_file_watch *w)
{
    int r = fork_guard_enter(&w->watch.guard);

    if (r < 0)
        return r;
    if (w->watch.weak)
        return error_set(
            ENOTSUP,
            "%s: inotify cannot see all that happens to it (an unreadable directory, a link that leads "
            "nowhere, or fs.inotify limits); wait with a timeout instead",
            w->watch.path);
    return w->watch.fd;
}

struct naru_file_watch *naru_file_watch_close(struct naru_file_watch *w)
{
    if (!w)
        return NULL;
    watch_deinit(&w->watch);
    free(w);
    return NULL;
}
