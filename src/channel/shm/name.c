/* SPDX-License-Identifier: MIT */
/*
 * A name of shm: alone belongs to a user. It is a socket in the first of these that is there, and that no
 * other user can write to, or names would lead wherever that user likes:
 *
 *     $XDG_RUNTIME_DIR/naru    where the variable is set
 *     /run/user/UID/naru       where there is /run/user/UID, the user's own (as pam_systemd(8) makes it)
 *     /tmp/naru-UID
 */
#include "channel/shm/name.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/fd.h"

static bool is_own(const struct stat *status, mode_t forbidden)
{
    return S_ISDIR(status->st_mode) && status->st_uid == geteuid() && (status->st_mode & forbidden) == 0;
}

/* The directory that the system gives the user, checked; *ret is empty if there is none. 0 or explained. */
static int find_parent(const struct url *url, char *ret, size_t size)
{
    const char *given = secure_getenv("XDG_RUNTIME_DIR");
    struct stat status;

    /* "All paths set in these environment variables must be absolute": XDG Base Directory Specification. */
    if (given && given[0] == '/') {
        if (snprintf(ret, size, "%s", given) >= (int)size)
            return error_set(ENAMETOOLONG, "%s: $XDG_RUNTIME_DIR is too long", url->text);
        if (stat(ret, &status) < 0)
            return error_set(errno, "%s: $XDG_RUNTIME_DIR, %s: %s", url->text, ret, error_text(errno));
        if (!is_own(&status, 022))
            return error_set(EACCES,
                             "%s: permission denied; $XDG_RUNTIME_DIR, %s, is not a directory of this user's "
                             "alone; unset it, or "
                             "use shm:///path",
                             url->text, ret);
        return 0;
    }
    (void)snprintf(ret, size, "/run/user/%u", (unsigned)geteuid());
    if (stat(ret, &status) < 0 || !is_own(&status, 077))
        *ret = '\0';
    return 0;
}

/* As root too, another user's directory or a symbolic link at that place is refused. */
static int check_directory(const struct url *url, const char *path)
{
    FD_CLEANUP int fd = open(path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    struct stat status;

    if (fd < 0 && errno != ENOTDIR && errno != ELOOP && errno != EACCES)
        return error_set(errno, "%s: cannot open %s: %s", url->text, path, error_text(errno));
    if (fd < 0 || fstat(fd, &status) < 0 || !is_own(&status, 077))
        return error_set(EACCES,
                         "%s: permission denied; %s is not a directory that only this user can use (mode "
                         "700); remove it, or use "
                         "shm:///path",
                         url->text, path);
    return 0;
}

/* The directory in which names stand. */
static int find_directory(const struct url *url, bool make, char *ret, size_t size)
{
    int r = find_parent(url, ret, size), length;
    size_t parent;

    if (r < 0)
        return r;
    parent = strlen(ret);
    if (parent > 0)
        length = snprintf(ret + parent, size - parent, "/naru");
    else
        length = snprintf(ret, size, "/tmp/naru-%u", (unsigned)geteuid());
    if ((size_t)length >= size - parent)
        return error_set(ENAMETOOLONG, "%s: the path %.*s/naru is too long", url->text, (int)parent, ret);
    if (make && mkdir(ret, 0700) < 0 && errno != EEXIST)
        return error_set(
            errno,
            "%s: cannot make %s: %s; set XDG_RUNTIME_DIR to a directory of this user's alone, or "
            "use shm:///path or shm:@abstract",
            url->text, ret, error_text(errno));
    return check_directory(url, ret);
}

static int check_name(const struct url *url)
{
    const char *name = url->target;

    if (*name == '\0' || *name == '.' || strchr(name, '/'))
        return error_set(
            EINVAL,
            "%s: expected shm://NAME (no '/' in it, nor '.' before it), shm:///path/of/socket or "
            "shm:@abstract",
            url->text);
    return 0;
}

int shm_name_parse(const struct url *url, bool make, struct unix_name *ret_name)
{
    char directory[PATH_MAX], *path;
    struct url socket_url = *url;
    int r;

    if (url->target[0] == '/' || url->target[0] == '@')
        return unix_name_parse(url, ret_name);
    r = check_name(url);
    if (r == 0)
        r = find_directory(url, make, directory, sizeof directory);
    if (r < 0)
        return r;
    if (asprintf(&path, "%s/%s", directory, url->target) < 0)
        return error_set(ENOMEM, "%s: out of memory for a path", url->text);
    socket_url.target = path;
    r = unix_name_parse(&socket_url, ret_name);
    free(path);
    return r;
}
