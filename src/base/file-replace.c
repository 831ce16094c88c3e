/* SPDX-License-Identifier: MIT */
/*
 * Replacing a file as one step: the new contents are written to a file without a name (base/nameless.h),
 * brought to disk, given a name beside the old file, and renamed over it. So a process that is killed on the
 * way leaves nothing behind, but for the moment between the last two steps. (linkat(2) cannot replace a name;
 * that is why there are two.) Where there are no such files it has the name from the start.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/fd.h"
#include "base/file-io.h"
#include "base/nameless.h"
#include "naru/file.h"

enum {
    NAME_ATTEMPTS = 100,
    LINKS_MOST = 40 /* as many as the kernel follows (path_resolution(7)) */
};

struct replacement {
    const char *path; /* as the caller gave it, for sentences */
    char *target;     /* where its symbolic links lead */
    const char *base; /* its last component */
    int directory_fd, fd;
    char temporary[48]; /* its name in the directory; "": it has none yet */
};

static int failed(const struct replacement *x, const char *what)
{
    int code = errno;

    return error_set(code, "%s: cannot %s: %s; the old contents stand", x->path, what, error_text(code));
}

static void choose_name(struct replacement *x)
{
    static _Atomic unsigned counter;

    /* Relaxed: the numbers only have to differ. */
    (void)snprintf(x->temporary, sizeof x->temporary, ".naru-%d-%u", (int)getpid(),
                   atomic_fetch_add_explicit(&counter, 1, memory_order_relaxed));
}

/* A file beside the target that has a name from the start. */
static int make_named(struct replacement *x)
{
    for (int i = 0; i < NAME_ATTEMPTS; i++) {
        choose_name(x);
        x->fd =
            openat(x->directory_fd, x->temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (x->fd >= 0)
            return 0;
        if (errno != EEXIST)
            break;
    }
    x->temporary[0] = '\0';
    return failed(x, "make a file beside it");
}

static int make_file(struct replacement *x)
{
    x->fd = nameless_open(x->directory_fd, ".", O_WRONLY);
    if (x->fd >= 0)
        return 0;
    if (x->fd == -EOPNOTSUPP)
        return make_named(x);
    errno = -x->fd;
    return failed(x, "make a file beside it");
}

/* Gives the finished file a name, if it has none. */
static int link_file(struct replacement *x)
{
    if (x->temporary[0])
        return 0;
    for (int i = 0; i < NAME_ATTEMPTS; i++) {
        int r;

        choose_name(x);
        r = nameless_link(x->fd, x->directory_fd, x->temporary);
        if (r == 0)
            return 0;
        errno = -r;
        if (r != -EEXIST)
            break;
    }
    x->temporary[0] = '\0';
    return failed(x, "name the new file");
}

static int write_all(struct replacement *x, const void *data, size_t length)
{
    for (size_t done = 0; done < length;) {
        struct iovec piece = {(uint8_t *)(uintptr_t)data + done, length - done};
        ssize_t n = file_io_write(x->fd, &piece, 1, false);

        if (n < 0 && n != -EINTR) {
            errno = (int)-n;
            return failed(x, "write the new contents");
        }
        done += n > 0 ? (size_t)n : 0;
    }
    return 0;
}

/* The permissions and, for root, the owner of the file so far. The bits that make a program run as its owner
 * are not taken over from another owner. */
static int set_rights(struct replacement *x, unsigned mode)
{
    struct stat old;
    bool exists = stat(x->target, &old) == 0, is_his = true;

    if (exists && S_ISDIR(old.st_mode))
        return error_set(EISDIR, "%s: that is a directory", x->path);
    if (exists && (old.st_uid != geteuid() || old.st_gid != getegid()))
        is_his = fchown(x->fd, old.st_uid, old.st_gid) == 0;
    if (!is_his && errno != EPERM)
        return failed(x, "give the new file its owner");
    if (mode == 0)
        mode = exists ? old.st_mode & (is_his ? 07777 : 01777) : 0600;
    return fchmod(x->fd, mode) < 0 ? failed(x, "set its mode") : 0;
}

/* Where symbolic links lead that lead to no file yet; the caller's to free. NULL: errno. */
static char *follow_links(const char *path)
{
    char *at = strdup(path), *next;

    for (int i = 0; at && i < LINKS_MOST; i++) {
        char to[PATH_MAX];
        ssize_t length = readlink(at, to, sizeof to - 1);
        const char *slash = strrchr(at, '/');

        if (length < 0) /* no link: the end of them */
            return at;
        to[length] = '\0';
        if (asprintf(&next, "%.*s%s", *to == '/' || !slash ? 0 : (int)(slash + 1 - at), at, to) < 0)
            next = NULL;
        free(at);
        at = next;
    }
    errno = at ? ELOOP : ENOMEM;
    free(at);
    return NULL;
}

static int open_directory(struct replacement *x)
{
    char *slash;

    x->target = realpath(x->path, NULL);
    if (!x->target && errno != ENOENT)
        return failed(x, "find it");
    if (!x->target)
        x->target = follow_links(x->path);
    if (!x->target)
        return failed(x, "find it");
    slash = strrchr(x->target, '/');
    x->base = slash ? slash + 1 : x->target;
    if (!*x->base)
        return error_set(EISDIR, "%s: expected the path of a file, not of a directory", x->path);
    if (slash)
        *slash = '\0';
    x->directory_fd = open(!slash ? "." : *x->target ? x->target : "/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (slash)
        *slash = '/';
    return x->directory_fd < 0 ? failed(x, "open its directory") : 0;
}

static int replace(struct replacement *x, const void *data, size_t length, unsigned mode)
{
    int r = open_directory(x);

    if (r == 0)
        r = make_file(x);
    if (r == 0)
        r = write_all(x, data, length);
    if (r == 0) /* after that: fchown(2) and write(2) take the set-user-ID bit away */
        r = set_rights(x, mode);
    if (r == 0 && fsync(x->fd) < 0)
        r = failed(x, "bring the new contents to disk");
    if (r == 0)
        r = link_file(x);
    if (r == 0 && renameat(x->directory_fd, x->temporary, x->directory_fd, x->base) < 0)
        r = failed(x, "rename the new file over it");
    if (r < 0)
        return r;
    x->temporary[0] = '\0';
    if (fsync(x->directory_fd) < 0)
        return error_set(errno, "%s: replaced, but fsync says that the disk may not have the new name: %s",
                         x->path, error_text(errno));
    return 0;
}

int naru_file_replace(const char *path, const void *data, size_t length, unsigned mode)
{
    struct replacement x = {.path = path, .directory_fd = -1, .fd = -1};
    int r;

    if (!path || !*path || mode > 07777)
        return error_set(EINVAL, "expected the path of a file, and permission bits such as 0644");
    r = replace(&x, data, length, mode);
    if (x.temporary[0])
        (void)unlinkat(x.directory_fd, x.temporary,
                       0); /* if even that fails, the explanation is of the cause */
    (void)fd_close(x.fd);
    (void)fd_close(x.directory_fd);
    free(x.target);
    return r;
}

ssize_t naru_file_read(const char *path, void *buf, size_t cap)
{
    FD_CLEANUP int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    struct stat status;
    size_t length = 0;
    ssize_t n;
    char beyond;

    if (fd < 0)
        return error_set(errno, "%s: %s", path, error_text(errno));
    if (fstat(fd, &status) < 0 || !S_ISREG(status.st_mode))
        return error_set(S_ISDIR(status.st_mode) ? EISDIR : EINVAL, "%s: that is not a regular file", path);
    do {
        n = length < cap ? read(fd, (uint8_t *)buf + length, cap - length) : read(fd, &beyond, 1);
        if (n > 0 && length == cap)
            return error_set(EMSGSIZE, "%s: the file has %lld bytes and the buffer only %zu", path,
                             (long long)status.st_size, cap);
        length += n > 0 ? (size_t)n : 0;
    } while (n > 0 || (n < 0 && errno == EINTR));
    return n < 0 ? error_set(errno, "%s: read: %s", path, error_text(errno)) : (ssize_t)length;
}
