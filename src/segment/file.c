/* SPDX-License-Identifier: MIT */
/*
 * Segments that are files: mmap: is one anywhere, shm+posix: is one in /dev/shm, where shm_open(3) has them.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/fd.h"
#include "base/races.h"
#include "segment/publish.h"
#include "segment/segment.h"

static int failed(const struct segment_request *request, const char *path, int r, bool creating)
{
    if (r == -EINVAL)
        return publish_in_the_way(EINVAL, request->url->text, path);
    if (r == -ENOENT && creating)
        return error_set(ENOENT, "%s: the directory of %s does not exist", request->url->text, path);
    return error_set(-r, "%s: cannot %s %s: %s%s", request->url->text, creating ? "make" : "open", path,
                     error_text(-r), publish_advice(creating ? PUBLISH_MAKING : PUBLISH_OPENING, -r));
}

static int open_existing(const struct segment_request *request, const char *path, int extra_flags,
                         struct naru_segment *segment)
{
    struct stat status;
    FD_CLEANUP int fd = -1;
    int r = publish_open(path, (request->read_only ? O_RDONLY : O_RDWR) | extra_flags, &fd, &status);

    if (r < 0)
        return r == -ENOENT && request->create ? -ENOENT : failed(request, path, r, false);
    r = segment_check_size(request, (uint64_t)status.st_size);
    if (r == 0)
        segment->fd = fd_steal(&fd);
    return r;
}

static int open_path(const struct segment_request *request, const char *path, int extra_flags,
                     struct naru_segment *segment)
{
    struct segment_request making = *request;
    int r = url_check_unused(request->url);

    if (r < 0)
        return r;
    for (int race = 0; race < RACES_MAX; race++) {
        if (!request->exclusive) {
            r = open_existing(request, path, extra_flags, segment);
            if (r != -ENOENT || !request->create)
                return r;
        }
        if (request->size == 0 || request->read_only)
            return error_set(EINVAL, "%s: to be made it needs a size, and writing", request->url->text);
        r = publish_create(path, request->mode, request->size, segment_initialise, &making, &segment->fd);
        segment->made = r == 0;
        if (r == 0 || making.told < 0)
            return r;
        if (r != -EEXIST || request->exclusive)
            return failed(request, path, r, true);
    }
    return error_set(EAGAIN, "%s: others keep making and removing it", request->url->text);
}

static int remove_path(const struct url *url, const char *path, const struct naru_segment *own)
{
    if (own && !fd_is_path(own->fd, path)) /* somebody has removed it, and perhaps made another */
        return 0;
    if (unlink(path) < 0) {
        int code = errno;

        return error_set(code, "%s: cannot remove %s: %s%s", url->text, path, error_text(code),
                         code == EACCES || code == EPERM ? "; its owner may, and root" : "");
    }
    return 0;
}

static int file_open(const struct segment_request *request, struct naru_segment *segment)
{
    if (!*request->url->target)
        return error_set(EINVAL, "%s: expected a path, as in mmap:///var/tmp/shared", request->url->text);
    return open_path(request, request->url->target, 0, segment);
}

static int file_remove(struct url *url, const struct naru_segment *own)
{
    return remove_path(url, url->target, own);
}

static int posix_open(const struct segment_request *request, struct naru_segment *segment)
{
    char path[sizeof SHM_DIRECTORY + 1 + NAME_MAX];
    int r = publish_shm_path(request->url, 0, path, sizeof path);

    return r < 0 ? r : open_path(request, path, O_NOFOLLOW, segment);
}

static int posix_remove(struct url *url, const struct naru_segment *own)
{
    char path[sizeof SHM_DIRECTORY + 1 + NAME_MAX];
    int r = publish_shm_path(url, 0, path, sizeof path);

    return r < 0 ? r : remove_path(url, path, own);
}

/* Writes the name into the URL, with what a URL gives a meaning escaped. */
static void escape(const char *name, char *out)
{
    for (; *name; name++) {
        unsigned char c = (unsigned char)*name;

        if (c <= ' ' || c == '%' || c == '?' || c == '&' || c == 0x7f)
            out += sprintf(out, "%%%02X", c);
        else
            *out++ = (char)c;
    }
    *out = '\0';
}

struct listing {
    int (*each)(const struct naru_segment_entry *entry, void *argument);
    void *argument;
};

static int list_one(const char *name, const struct stat *status, void *argument)
{
    const struct listing *listing = argument;
    char url[sizeof "shm+posix:/" + 3 * NAME_MAX] = "shm+posix:/";
    struct naru_segment_entry entry = {
        .size = sizeof entry, .url = url, .attached = -1, .creator_pid = -1, .last_pid = -1};

    /* sem.* are sem_open(3)'s and naru.* are naru's named locks: objects of their own, no raw bytes. */
    if (strncmp(name, "sem.", 4) == 0 || strncmp(name, "naru.", 5) == 0)
        return 0;
    escape(name, url + strlen(url));
    entry.bytes = (uint64_t)status->st_size;
    entry.uid = status->st_uid;
    entry.gid = status->st_gid;
    entry.mode = status->st_mode & 0777;
    entry.changed_at_s = status->st_mtime;
    return listing->each(&entry, listing->argument);
}

static int posix_list(int (*each)(const struct naru_segment_entry *entry, void *argument), void *argument)
{
    struct listing listing = {each, argument};

    return publish_list_shm(list_one, &listing);
}

const struct segment_kind segment_file = {.scheme = "mmap", .open = file_open, .remove = file_remove};
const struct segment_kind segment_posix = {
    .scheme = "shm+posix", .open = posix_open, .remove = posix_remove, .list = posix_list};
