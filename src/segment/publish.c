/* SPDX-License-Identifier: MIT */
/*
 * Files that appear whole or not at all.
 *
 * A file is made without a name, and named when it is whole (base/nameless.h). Where there is no such thing
 * it has a temporary name beside the final one, and only there can a maker killed in between leave something
 * behind, which nobody mistakes for the object.
 */
#include "segment/publish.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <linux/magic.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/sysinfo.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/error.h"
#include "base/fd.h"
#include "base/nameless.h"

/* Of open(2): a symbolic link that is not to be followed, a directory that is to be written to, a socket. */
static bool is_irregular(int code, int open_flags)
{
    return code == EISDIR || code == ENXIO || (code == ELOOP && (open_flags & O_NOFOLLOW));
}

int publish_open(const char *path, int open_flags, int *ret_fd, struct stat *ret_status)
{
    /* O_NONBLOCK: a FIFO or device under that name must not make us wait; on regular files it does nothing.
     */
    FD_CLEANUP int fd = open(path, open_flags | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    struct stat status;

    if (fd < 0)
        return is_irregular(errno, open_flags) ? -EINVAL : -errno;
    if (fstat(fd, &status) < 0)
        return -errno;
    if (!S_ISREG(status.st_mode))
        return -EINVAL;
    if (ret_status)
        *ret_status = status;
    *ret_fd = fd_steal(&fd);
    return 0;
}

/* What is past RLIMIT_FSIZE raises SIGXFSZ, whose default is to kill (setrlimit(2)): look first. */
static bool exceeds_file_limit(size_t size)
{
    struct rlimit limit;

    if (size > INT64_MAX)
        return true;
    return getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY && size > limit.rlim_cur;
}

/* Memory has no disk that would be full: without a limit of its own (memfd) the kernel goes on until it kills
 * processes for want of memory. What the machine does not have at all is refused here. */
static bool exceeds_memory(int fd, size_t size)
{
    struct statfs file_system;
    struct sysinfo machine;

    if (fstatfs(fd, &file_system) < 0 || file_system.f_type != TMPFS_MAGIC || sysinfo(&machine) < 0)
        return false;
    return size / machine.mem_unit > machine.totalram + machine.totalswap;
}

/* What nobody could give that much room. 0, -EFBIG or -ENOMEM. */
static int check_size(int fd, size_t size)
{
    return exceeds_file_limit(size) ? -EFBIG : exceeds_memory(fd, size) ? -ENOMEM : 0;
}

/* fallocate(2). At a signal many kernels give up (EINTR) and undo their work, so under a storm of them it is
 * done again with all held off; what interrupts it then, a stop or a debugger, does so once. 0 or -errno. */
static int allocate(int fd, int mode, size_t at, size_t length)
{
    sigset_t all, before;
    int r;

    if (fallocate(fd, mode, (off_t)at, (off_t)length) == 0)
        return 0;
    if (errno != EINTR)
        return -errno;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    do
        r = fallocate(fd, mode, (off_t)at, (off_t)length) < 0 ? -errno : 0;
    while (r == -EINTR);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    return r;
}

int publish_reserve(int fd, size_t size)
{
    struct stat status;
    size_t at;
    int r = check_size(fd, size);

    if (r < 0)
        return r;
    if (fstat(fd, &status) < 0)
        return -errno;
    at = (size_t)status.st_size;
    if (size <= at)
        return 0;
    /* In one call, which takes all or nothing on tmpfs, out of sight behind the end of the file. What a
     * disk's file system got before it was full stays allocated there: to free it could free what another
     * process has added meanwhile. */
    r = allocate(fd, FALLOC_FL_KEEP_SIZE, at, size - at);
    /* Allocating the last byte without KEEP_SIZE moves the end forward, and never back: ftruncate(2) would
     * cut off what another process added meanwhile. */
    return r < 0 ? r : allocate(fd, 0, size - 1, 1);
}

int publish_write_zeros(int fd, size_t size)
{
    static const char zeros[4096];
    struct iovec parts[64];
    size_t at = 0;
    int r = check_size(fd, size);

    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        parts[i] = (struct iovec){(void *)(uintptr_t)zeros, sizeof zeros};
    while (r == 0 && at < size) {
        size_t left = size - at, count = (left + sizeof zeros - 1) / sizeof zeros;
        ssize_t n;

        if (count > sizeof parts / sizeof *parts)
            count = sizeof parts / sizeof *parts;
        if (count * sizeof zeros > left)
            parts[count - 1].iov_len = left % sizeof zeros; /* the last of all */
        n = pwritev(fd, parts, (int)count, (off_t)at);
        if (n >= 0)
            at += (size_t)n;
        else if (errno != EINTR)
            r = -errno;
    }
    return r;
}

int publish_lengthen(int fd, size_t size)
{
    struct stat status;

    if (exceeds_file_limit(size))
        return -EFBIG;
    if (fstat(fd, &status) < 0 || ((size_t)status.st_size < size && ftruncate(fd, (off_t)size) < 0))
        return -errno;
    return 0;
}

/* The directory a path is in, "." for none. */
static int directory_of(const char *path, char *buffer, size_t capacity)
{
    const char *slash = strrchr(path, '/');
    size_t length = !slash ? 1 : slash == path ? 1 : (size_t)(slash - path);

    if (length >= capacity)
        return -ENAMETOOLONG;
    memcpy(buffer, slash ? path : ".", length);
    buffer[length] = '\0';
    return 0;
}

/* A name beside path that nobody else uses. */
static int open_temporary(const char *path, char *temporary, size_t capacity)
{
    for (int attempt = 0; attempt < 100; attempt++) {
        uint64_t random;
        int fd, length;

        if (getrandom(&random, sizeof random, 0) < 0)
            return -errno;
        length = snprintf(temporary, capacity, "%s.%016" PRIx64 ".new", path, random);
        if (length < 0 || (size_t)length >= capacity)
            return -ENAMETOOLONG;
        fd = open(temporary, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (fd >= 0)
            return fd;
        if (errno != EEXIST)
            return -errno;
    }
    return -EEXIST;
}

static int fill_file(int fd, unsigned mode, size_t size, int (*fill)(int fd, void *argument), void *argument)
{
    int r = publish_reserve(fd, size);

    if (r == 0 && fill)
        r = fill(fd, argument);
    if (r == 0 && fchmod(fd, mode) < 0) /* exactly what was asked for: umask(2) is for files nobody chose */
        r = -errno;
    return r;
}

static int create_unnamed(const char *path, int fd, unsigned mode, size_t size,
                          int (*fill)(int fd, void *argument), void *argument)
{
    int r = fill_file(fd, mode, size, fill, argument);

    return r < 0 ? r : nameless_link(fd, AT_FDCWD, path);
}

static int create_beside(const char *path, unsigned mode, size_t size, int (*fill)(int fd, void *argument),
                         void *argument, int *ret_fd)
{
    char temporary[PATH_MAX];
    FD_CLEANUP int fd = open_temporary(path, temporary, sizeof temporary);
    int r;

    if (fd < 0)
        return fd;
    r = fill_file(fd, mode, size, fill, argument);
    if (r == 0 && link(temporary, path) < 0) /* not rename(2), which would replace another's */
        r = -errno;
    (void)unlink(temporary);
    if (r == 0)
        *ret_fd = fd_steal(&fd);
    return r;
}

int publish_create(const char *path, unsigned mode, size_t size, int (*fill)(int fd, void *argument),
                   void *argument, int *ret_fd)
{
    char directory[PATH_MAX];
    FD_CLEANUP int fd = -1;
    int r = directory_of(path, directory, sizeof directory);

    if (r < 0)
        return r;
    fd = nameless_open(AT_FDCWD, directory, O_RDWR);
    if (fd == -EOPNOTSUPP)
        return create_beside(path, mode, size, fill, argument, ret_fd);
    if (fd < 0)
        return fd;
    r = create_unnamed(path, fd, mode, size, fill, argument);
    if (r == 0)
        *ret_fd = fd_steal(&fd);
    return r;
}

static const char *permission_advice(enum publish_doing doing, int code)
{
    switch (doing) {
    case PUBLISH_MAKING:
        return "; who may make files there the permission bits of the directory decide";
    case PUBLISH_CHANGING: /* it is open: neither its permission bits nor the directory's count any more */
        return code == EPERM ? "; it is sealed against that (F_ADD_SEALS in fcntl(2))" : "";
    default:
        return "; its owner decides by its permission bits (?mode= when it is made)";
    }
}

const char *publish_advice(enum publish_doing doing, int code)
{
    switch (code) {
    case ENOSPC:
        return "; free some space, for /dev/shm by removing what `ls -l /dev/shm` shows or by a larger size= "
               "of its mount";
    case EOPNOTSUPP:
        return "; this file system cannot reserve space (fallocate), so a full disk would kill the program: "
               "use another one";
    case EFBIG:
        return "; see `ulimit -f` and the file system's largest file";
    case EACCES:
    case EPERM:
        return permission_advice(doing, code);
    case ENOENT:
        return "; make it with ?create and a size";
    case EEXIST:
        return "; leave out ?create=new to open it, or remove it first";
    default:
        return "";
    }
}

int publish_in_the_way(int code, const char *what, const char *path)
{
    return error_set(code,
                     "%s: %s is in the way, which is no regular file, so no shared memory; remove it, or "
                     "choose another name",
                     what, path);
}

int publish_shm_path(const struct url *url, size_t longer, char *buffer, size_t capacity)
{
    const char *name = url->target + (url->target[0] == '/');
    size_t most = NAME_MAX - longer;

    if (!*name || strchr(name, '/') || strcmp(name, ".") == 0 || strcmp(name, "..") == 0 ||
        strlen(name) > most)
        return error_set(EINVAL,
                         "%s: expected a name of 1 to %zu bytes without '/' (neither . nor ..), as in "
                         "shm+posix:/name",
                         url->text, most);
    (void)snprintf(buffer, capacity, SHM_DIRECTORY "/%s", name);
    return 0;
}

int publish_list_shm(int (*each)(const char *name, const struct stat *status, void *argument), void *argument)
{
    DIR *directory = opendir(SHM_DIRECTORY);
    struct dirent *found;
    int r = 0;

    if (!directory)
        return error_set(errno, "cannot list " SHM_DIRECTORY ": %s", error_text(errno));
    while (r == 0 && (found = readdir(directory))) {
        struct stat status;

        if (fstatat(dirfd(directory), found->d_name, &status, AT_SYMLINK_NOFOLLOW) == 0 &&
            S_ISREG(status.st_mode))
            r = each(found->d_name, &status, argument);
    }
    (void)closedir(directory);
    return r;
}
