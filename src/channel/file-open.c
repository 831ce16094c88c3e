/* SPDX-License-Identifier: MIT */
/* Opening regular files: what is not one is refused, never waited for, and never made by accident. */
#include "channel/file-open.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/fd.h"

int file_parse(struct url *url, struct file_options *ret_options)
{
    static const char *const words[] = {"none", "each", NULL};
    struct file_options options = {.follow = true, .create = true};
    int sync = 0, r;

    if (!*url->target)
        return error_set(EINVAL, "%s: expected the path of a file, as in file:///var/log/my.log", url->text);
    r = file_start_option(url, &options.start);
    if (r == 0)
        r = url_option_flag(url, "follow", &options.follow);
    if (r == 0)
        r = url_option_flag(url, "unlink", &options.unlink);
    if (r == 0)
        r = url_option_flag(url, "create", &options.create);
    if (r == 0)
        r = url_option_word(url, "sync", words, &sync);
    if (r == 0)
        r = url_check_unused(url);
    if (r < 0)
        return r;
    options.sync = sync == 1;
    *ret_options = options;
    return 0;
}

int file_refuse(const char *url, unsigned type)
{
    if (type == S_IFDIR)
        return error_set(EISDIR, "%s: that is a directory; name a file in it", url);
    return error_set(EEXIST, "%s: that is %s, not a regular file; %s", url,
                     type == S_IFIFO    ? "a FIFO"
                     : type == S_IFSOCK ? "a socket"
                                        : "a device",
                     type == S_IFIFO    ? "use fifo:"
                     : type == S_IFSOCK ? "use unix:"
                                        : "open it and use fd:");
}

static int open_failed(const char *url, const char *path, const char *what)
{
    int code = errno;
    struct stat status;

    /* ENXIO: a socket, or a FIFO that nobody reads. */
    if ((code == ENXIO || code == EISDIR) && stat(path, &status) == 0)
        return file_refuse(url, status.st_mode & S_IFMT);
    if (code == EACCES)
        return error_set(code,
                         "%s: permission denied to %s; its mode, or that of a directory above, forbids it",
                         url, what);
    return error_set(code, "%s: cannot %s: %s%s", url, what, error_text(code),
                     code == ENOENT ? "; the directory must exist" : "");
}

/* O_NONBLOCK: a FIFO of that name must not make us wait before it is refused. */
static int open_existing(const char *url, const char *path, int flags, const char *what, int *ret_fd)
{
    FD_CLEANUP int fd = open(path, flags | O_CLOEXEC | O_NONBLOCK);

    if (fd < 0)
        return errno == ENOENT ? -EAGAIN : open_failed(url, path, what);
    if (fd_type(fd) != S_IFREG)
        return file_refuse(url, fd_type(fd));
    *ret_fd = fd_steal(&fd);
    return 0;
}

int file_open_reader(const char *url, const char *path, int *ret_fd)
{
    return open_existing(url, path, O_RDONLY, "read the file", ret_fd);
}

int file_open_appender(const char *url, const char *path, int *ret_fd)
{
    return open_existing(url, path, O_WRONLY | O_APPEND, "append to the file", ret_fd);
}

int file_create(const char *url, const char *path, unsigned mode, int *ret_fd)
{
    FD_CLEANUP int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_EXCL | O_CLOEXEC, mode);

    if (fd < 0 && errno == EEXIST) /* a link that leads nowhere exists, too, and will not be there to open */
        return access(path, F_OK) == 0 ? -EAGAIN
                                       : error_set(ENOENT, "%s: a symbolic link that leads nowhere", url);
    if (fd < 0)
        return open_failed(url, path, "make the file");
    if (fchmod(fd, mode) < 0)
        return error_set(errno, "%s: cannot set the file's mode to %04o: %s", url, mode, error_text(errno));
    *ret_fd = fd_steal(&fd);
    return 0;
}
