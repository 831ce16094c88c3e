/* SPDX-License-Identifier: MIT */
/* Addresses of unix sockets, long paths among them: see unix-name.h. */
#include "channel/unix-name.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/fd.h"
#include "base/fork.h"
#include "channel/unix-bind.h"

#define THROUGH "/proc/self/fd/"

enum {
    PATH_SHORT = sizeof((struct sockaddr_un *)0)->sun_path - 1,
    LAST_MOST = PATH_SHORT - (int)sizeof THROUGH - 10, /* behind the digits of any descriptor and a slash */
    WHOLE_MOST = PATH_MAX - 6                          /* with ".lock" behind it: unix-path.c */
};

/* The last part of a path that has a directory. */
static const char *last_part(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash ? slash + 1 : path;
}

static int parse_long(const struct url *url, size_t length, struct unix_name *ret_name)
{
    const char *last = last_part(url->target);

    if (length > WHOLE_MOST)
        return error_set(ENAMETOOLONG, "%s: a path may have %d bytes, this one has %zu", url->text,
                         WHOLE_MOST, length);
    if (last == url->target || strlen(last) > LAST_MOST)
        return error_set(
            ENAMETOOLONG,
            "%s: a socket's path may have %d bytes, or its last part %d, and this one's has %zu; use a "
            "shorter name",
            url->text, PATH_SHORT, LAST_MOST, strlen(last));
    memcpy(ret_name->whole, url->target, length + 1);
    ret_name->path = ret_name->whole;
    ret_name->length = 0;
    return 0;
}

int unix_name_parse(const struct url *url, struct unix_name *ret_name)
{
    size_t length = strlen(url->target);
    bool abstract = url->target[0] == '@';

    if (length <= abstract)
        return error_set(EINVAL,
                         "%s: expected a path or an abstract name, as in %s:///run/my.sock or %s:@name",
                         url->text, url->scheme, url->scheme);
    if (abstract && length > PATH_SHORT)
        return error_set(ENAMETOOLONG, "%s: an abstract name may have %d bytes, this one has %zu", url->text,
                         PATH_SHORT, length);
    ret_name->address = (struct sockaddr_un){.sun_family = AF_UNIX};
    if (length > PATH_SHORT)
        return parse_long(url, length, ret_name);
    if (abstract && url_has(url, "mode"))
        return error_set(EINVAL,
                         "%s: an abstract name is open to every user, so ?mode= would protect nothing; name "
                         "a path%s",
                         url->text, strcmp(url->scheme, "shm") == 0 ? ", or say ?allow-uid=" : "");
    memcpy(ret_name->address.sun_path, url->target, length);
    if (abstract)
        ret_name->address.sun_path[0] = '\0';
    ret_name->path = abstract ? NULL : ret_name->address.sun_path;
    /* An abstract name is not terminated: its length counts (unix(7)). */
    ret_name->length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length + !abstract);
    return 0;
}

/* Opens its directory, for the call alone, into what a guard closes in children. To look it up may take as
 * long as its file system likes, so that is done first and with forks going on. Opened, while none is made,
 * it is what the kernel knows already: only a file system that has every answer forgotten at once is asked
 * again. 0 or -1. */
static int open_directory(const char *path, int *guarded)
{
    const char *last = last_part(path);
    char directory[PATH_MAX];
    struct stat status;

    (void)snprintf(directory, sizeof directory, "%.*s", (int)(last - path), path);
    if (stat(directory, &status) < 0)
        return -1;
    fork_hold();
    *guarded = open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
    fork_release();
    return *guarded < 0 ? -1 : 0;
}

/* bind(2) or connect(2). */
typedef int socket_call(int fd, const struct sockaddr *address, socklen_t length);

static int use_in(int directory, int fd, const struct unix_name *name, socket_call *call)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int r, length;

    length = snprintf(address.sun_path, sizeof address.sun_path, THROUGH "%d/%s", directory,
                      last_part(name->path)); /* fits: LAST_MOST */
    r = call(fd, (const struct sockaddr *)&address,
             (socklen_t)(offsetof(struct sockaddr_un, sun_path) + (size_t)length + 1));
    if (r < 0 && errno == ENOENT)
        errno = access("/proc/self/fd", F_OK) < 0 ? ENAMETOOLONG : ENOENT;
    return r;
}

static int use_by_directory(int fd, const struct unix_name *name, socket_call *call)
{
    struct fork_guard guard;
    int directory = -1, r, code;

    fork_guard_init(&guard);
    fork_guard_add(&guard, &directory);
    r = open_directory(name->path, &directory);
    if (r == 0)
        r = use_in(directory, fd, name, call);
    code = errno;
    fork_guard_close(&guard);
    errno = code;
    return r;
}

/* The socket does not block: neither call waits. */
static int use(int fd, const struct unix_name *name, socket_call *call)
{
    return name->length ? call(fd, (const struct sockaddr *)&name->address, name->length)
                        : use_by_directory(fd, name, call);
}

int unix_name_bind(int fd, const struct unix_name *name, bool exactly)
{
    return use(fd, name, exactly ? unix_bind_exactly : bind);
}

int unix_name_connect(int fd, const struct unix_name *name)
{
    return use(fd, name, connect);
}

int unix_name_needs_proc(const struct url *url, const struct unix_name *name)
{
    return error_set(
        ENAMETOOLONG,
        "%s: a socket's path may have %d bytes where /proc is not mounted, this one has %zu; use a shorter "
        "directory",
        url->text, PATH_SHORT, strlen(name->path));
}
