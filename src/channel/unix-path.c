/* SPDX-License-Identifier: MIT */
/*
 * Who may listen on a path is decided by a lock on the file PATH.lock beside it, not by probing: a dead
 * owner's lock is gone, so its socket file can be removed; a live owner's is held. A program that knows
 * nothing of the lock is found by one connect(2). The lock file is removed with the socket, and whoever
 * locked it meanwhile notices that its name leads elsewhere (or nowhere) and starts again.
 */
#include "channel/unix-path.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/fd.h"
#include "base/holder.h"

static int lock_path(const char *path, char *ret, size_t size)
{
    return snprintf(ret, size, "%s.lock", path) < (int)size ? 0 : -ENAMETOOLONG;
}

/* Ours are empty files. Others have files of that ending, too (Cargo.lock), and would miss them. */
static bool is_lock_file(int fd)
{
    struct stat status;

    return fstat(fd, &status) == 0 && S_ISREG(status.st_mode) && status.st_size == 0;
}

/* Locks PATH.lock. The descriptor, or an explained -errno. */
int unix_path_lock(const struct url *url, const char *path)
{
    char lock[PATH_MAX];

    if (lock_path(path, lock, sizeof lock) < 0)
        return error_set(ENAMETOOLONG, "%s: the path is too long", url->text);
    for (;;) {
        FD_CLEANUP int fd = open(lock, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

        if (fd < 0 && errno == EACCES)
            return error_set(
                EACCES,
                "%s: permission denied; the directory, and %s if another user left it, must let you write",
                url->text, lock);
        if (fd < 0)
            return error_set(errno, "%s: cannot make %s: %s", url->text, lock, error_text(errno));
        if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
            if (errno == EINTR)
                continue;
            if (errno == EWOULDBLOCK)
                return error_set(EADDRINUSE, "%s: another listener is there; stop it, or choose another path",
                                 url->text);
            return error_set(errno, "%s: cannot lock %s: %s", url->text, lock, error_text(errno));
        }
        if (fd_is_path(fd, lock)) /* else another owner removed it before we locked it */
            return is_lock_file(fd) ? fd_steal(&fd)
                                    : error_set(EEXIST,
                                                "%s: %s is in the way, which is no lock of naru's (it is not "
                                                "an empty file); choose another path",
                                                url->text, lock);
    }
}

static int is_directory(const struct url *url, const char *path)
{
    while (path[0] == '/' && path[1] == '/')
        path++; /* shm://name would be something else */
    return error_set(EEXIST,
                     "%s: that is a directory; name the socket that is to be in it, as in %s:%s%sname",
                     url->text, url->scheme, path, path[strlen(path) - 1] == '/' ? "" : "/");
}

/* With the lock held: makes way for a new socket. 0 or an explained -errno. */
int unix_path_clear(const struct url *url, const struct unix_name *name, int kind)
{
    struct stat status;
    FD_CLEANUP int probe = -1;

    if (lstat(name->path, &status) < 0)
        return errno == ENOENT ? 0 : error_set(errno, "%s: %s", url->text, error_text(errno));
    if (S_ISDIR(status.st_mode))
        return is_directory(url, name->path);
    if (!S_ISSOCK(status.st_mode))
        return error_set(
            EEXIST, "%s: something that is not a socket is there already; choose another path, or remove it",
            url->text);
    probe = socket(AF_UNIX, kind | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (probe < 0)
        return error_set(errno, "%s: socket: %s", url->text, error_text(errno));
    /* ECONNREFUSED alone says that nobody is behind it: a foreign listener holds no lock. */
    if (unix_name_connect(probe, name) == 0 || errno != ECONNREFUSED)
        return error_set(EADDRINUSE,
                         "%s: another listener is there (it does not hold naru's lock); stop it, or choose "
                         "another path",
                         url->text);
    if (unlink(name->path) < 0 && errno != ENOENT)
        return error_set(errno, "%s: cannot remove the dead socket: %s", url->text, error_text(errno));
    return 0;
}

bool unix_path_has_lock(const char *path)
{
    char lock[PATH_MAX];
    struct stat status;

    return lock_path(path, lock, sizeof lock) == 0 && lstat(lock, &status) == 0;
}

pid_t unix_path_holder(const char *path)
{
    char lock[PATH_MAX];

    return lock_path(path, lock, sizeof lock) == 0 ? holder_of_lock(lock) : 0;
}

bool unix_path_is_locked_by(int lock_fd, const char *path)
{
    char lock[PATH_MAX];

    return lock_path(path, lock, sizeof lock) == 0 && fd_is_path(lock_fd, lock);
}

void unix_path_unlock(const char *path)
{
    char lock[PATH_MAX];

    if (lock_path(path, lock, sizeof lock) == 0)
        (void)unlink(lock);
}
