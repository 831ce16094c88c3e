/* SPDX-License-Identifier: MIT */
/* A listener's name: taken, given back, and removed after a dead one. */
#include "channel/unix-endpoint.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/fd.h"
#include "base/holder.h"
#include "channel/channel.h"

enum { BACKLOG = 128 };

struct unix_endpoint {
    dev_t device;
    ino_t inode;
    char path[];
};

/* 0 or an explained -errno. */
static int bind_to(int fd, const struct url *url, const struct unix_name *name, unsigned mode)
{
    if (name->path && fchmod(fd, mode) < 0)
        return error_set(errno, "%s: fchmod: %s", url->text, error_text(errno));
    /* What is this user's alone nobody is kept from by a umask, unless it is a strange one. */
    if (unix_name_bind(fd, name, name->path && (mode & (S_IRWXG | S_IRWXO))) == 0)
        return 0;
    if (errno == ENAMETOOLONG)
        return unix_name_needs_proc(url, name);
    if (errno == EADDRINUSE) /* a path, too: bound meanwhile by a program that heeds no lock */
        return error_set(errno, "%s: another listener is there; stop it, or choose another name", url->text);
    return error_set(errno, "%s: cannot listen: %s", url->text, error_text(errno));
}

static int kind_of(int fd)
{
    int kind = SOCK_STREAM;
    socklen_t length = sizeof kind;

    (void)getsockopt(fd, SOL_SOCKET, SO_TYPE, &kind, &length); /* cannot fail: it is a socket */
    return kind;
}

/* The mode is set once more when it listens: whoever waits for the path is woken by that. And for where
 * bind(2) took the umask off it. */
static int start_listening(int fd, const struct url *url, const struct unix_name *name, unsigned mode,
                           struct unix_endpoint *endpoint, int *ret_name_fd)
{
    FD_CLEANUP int name_fd = -1;
    struct stat status;

    if (kind_of(fd) != SOCK_DGRAM && listen(fd, BACKLOG) < 0)
        return error_set(errno, "%s: listen: %s", url->text, error_text(errno));
    if (!name->path)
        return 0;
    name_fd = open(name->path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (name_fd < 0 || fstat(name_fd, &status) < 0)
        return error_set(errno, "%s: cannot open the socket's file: %s", url->text, error_text(errno));
    if (chmod(name->path, mode) < 0)
        return error_set(errno, "%s: cannot set the socket's mode: %s", url->text, error_text(errno));
    endpoint->device = status.st_dev;
    endpoint->inode = status.st_ino;
    *ret_name_fd = fd_steal(&name_fd);
    return 0;
}

/* With the lock held and the path clear. 0 or an explained -errno, and then nothing is left at the path. */
static int take_name(int fd, const struct url *url, const struct unix_name *name, unsigned mode,
                     int *ret_name_fd, struct unix_endpoint **ret_endpoint)
{
    struct unix_endpoint *endpoint = NULL;
    int r;

    if (name->path) {
        endpoint = malloc(sizeof *endpoint + strlen(name->path) + 1);
        if (!endpoint)
            return error_set(ENOMEM, "%s: out of memory for a listener", url->text);
        (void)strcpy(endpoint->path, name->path);
    }
    r = bind_to(fd, url, name, mode);
    if (r == 0) {
        r = start_listening(fd, url, name, mode, endpoint, ret_name_fd);
        if (r < 0 && name->path)
            (void)unlink(name->path);
    }
    if (r < 0)
        free(endpoint);
    else
        *ret_endpoint = endpoint;
    return r;
}

int unix_endpoint_open(struct naru_listener *l, int fd, const struct url *url, const struct unix_name *name,
                       unsigned mode, struct unix_endpoint **ret_endpoint)
{
    FD_CLEANUP int lock = -1;
    int r = 0;

    if (name->path) {
        lock = unix_path_lock(url, name->path);
        r = lock < 0 ? lock : unix_path_clear(url, name, kind_of(fd));
    }
    if (r == 0)
        r = take_name(fd, url, name, mode, &l->name_fd, ret_endpoint);
    if (r < 0 && lock >= 0)
        unix_path_unlock(name->path);
    if (r == 0)
        l->lock_fd = fd_steal(&lock);
    return r;
}

/* Removes only what still is ours: the path may have been removed since, and taken by another listener, or by
 * something that is no socket at all. */
struct unix_endpoint *unix_endpoint_close(struct unix_endpoint *endpoint, int lock_fd, bool owner)
{
    struct stat status;

    if (owner && endpoint && unix_path_is_locked_by(lock_fd, endpoint->path)) {
        if (lstat(endpoint->path, &status) == 0 && status.st_dev == endpoint->device &&
            status.st_ino == endpoint->inode)
            (void)unlink(endpoint->path);
        unix_path_unlock(endpoint->path);
    }
    free(endpoint);
    return NULL;
}

static int still_listening(const struct url *url, pid_t who)
{
    char name[HOLDER_NAME];

    return error_set(EBUSY, "%s: %s listens there; end it first", url->text, holder_name(who, name));
}

static int remove_dead(const struct url *url, const struct unix_name *name, int socket_type)
{
    FD_CLEANUP int lock = -1;
    struct stat status;
    int r;

    /* A listener that was killed before it had bound its socket leaves the lock alone. */
    if (lstat(name->path, &status) < 0 && (errno != ENOENT || !unix_path_has_lock(name->path)))
        return error_set(errno, "%s: %s", url->text, error_text(errno));
    lock = unix_path_lock(url, name->path);
    if (lock < 0)
        return lock == -EADDRINUSE ? still_listening(url, unix_path_holder(name->path)) : lock;
    r = unix_path_clear(url, name, socket_type);
    unix_path_unlock(name->path); /* the socket, if it was a dead one, is gone by now */
    return r == -EADDRINUSE ? still_listening(url, 0) : r; /* one that holds no lock of naru's */
}

int unix_endpoint_remove(const struct url *url, const struct unix_name *name, int socket_type)
{
    int r;

    if (!name->path)
        return error_set(ENOTSUP, "%s: an abstract name vanishes by itself with the socket", url->text);
    fork_hold(); /* a child with a copy of the lock would look like a listener */
    r = remove_dead(url, name, socket_type);
    fork_release();
    return r;
}
