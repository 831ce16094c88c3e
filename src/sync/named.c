/* SPDX-License-Identifier: MIT */
/* Objects under a name. */
#include "sync/named.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/fd.h"
#include "base/mapping.h"
#include "base/races.h"
#include "base/sized.h"
#include "segment/publish.h"
#include "sync/head.h"

enum { NAME_LENGTH_MAX = 200 };

#define PREFIX "naru."

struct opening {
    enum naru_sync_kind kind;
    const char *name;
    char path[sizeof SHM_DIRECTORY "/" PREFIX "semaphore." + NAME_LENGTH_MAX];
    size_t size;
    int (*init)(void *object, void *argument);
    void *argument;
    int told; /* what init said, explained; 0: it did not fail */
};

static int make_path(enum naru_sync_kind kind, const char *name, char *path, size_t capacity)
{
    const char *kind_name = naru_sync_kind_name(kind);

    if (!kind_name)
        return error_set(EINVAL, "there is no kind %d of named objects", (int)kind);
    if (!name || !*name || strlen(name) > NAME_LENGTH_MAX || strchr(name, '/'))
        return error_set(EINVAL, "%s '%s': expected a name of 1 to %d bytes without '/'", kind_name,
                         name ? name : "", NAME_LENGTH_MAX);
    (void)snprintf(path, capacity, SHM_DIRECTORY "/" PREFIX "%s.%s", kind_name, name);
    return 0;
}

static int failed(const struct opening *opening, int r, const char *what, enum publish_doing doing)
{
    return error_set(-r, "%s '%s': cannot %s %s: %s%s", naru_sync_kind_name(opening->kind), opening->name,
                     what, opening->path, error_text(-r),
                     r == -ENOENT ? "; nobody has made it yet"
                     : r == -EACCES && doing == PUBLISH_OPENING
                         ? "; its maker decides who may use it (options.mode, --mode)"
                         : publish_advice(doing, -r));
}

static int map(const struct opening *opening, int fd, void **ret_object)
{
    void *object = mmap(NULL, opening->size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

    if (object == MAP_FAILED && errno == EAGAIN)
        return error_set(mapping_code(EAGAIN), "%s '%s': cannot map %s: %s",
                         naru_sync_kind_name(opening->kind), opening->name, opening->path,
                         mapping_text(EAGAIN));
    if (object == MAP_FAILED)
        return failed(opening, -errno, "map", PUBLISH_OPENING);
    *ret_object = object;
    return 0;
}

static int fill(int fd, void *argument)
{
    struct opening *opening = argument;
    void *object;
    int r = map(opening, fd, &object);

    if (r < 0)
        return r;
    r = opening->told = opening->init(object, opening->argument);
    named_close(object, opening->size);
    return r;
}

/* -ENOENT without a sentence. */
static int open_existing(const struct opening *opening, void **ret_object)
{
    FD_CLEANUP int fd = -1;
    struct stat status;
    void *object;
    int r = publish_open(opening->path, O_RDWR | O_NOFOLLOW, &fd, &status);

    if (r == -EINVAL)
        return error_set(EPROTO, "%s '%s': %s is no regular file", naru_sync_kind_name(opening->kind),
                         opening->name, opening->path);
    if (r < 0)
        return r == -ENOENT ? r : failed(opening, r, "open", PUBLISH_OPENING);
    if ((uint64_t)status.st_size < opening->size)
        return error_set(EPROTO, "%s '%s': %s has %lld bytes where %zu were expected; remove it",
                         naru_sync_kind_name(opening->kind), opening->name, opening->path,
                         (long long)status.st_size, opening->size);
    r = map(opening, fd, &object);
    if (r < 0)
        return r;
    r = head_check(object, opening->kind);
    if (r < 0) {
        named_close(object, opening->size);
        return r;
    }
    *ret_object = object;
    return 0;
}

static int make(struct opening *opening, unsigned mode, void **ret_object)
{
    FD_CLEANUP int fd = -1;
    int r = publish_create(opening->path, mode, opening->size, fill, opening, &fd);

    return r < 0 ? r : map(opening, fd, ret_object);
}

int named_open(enum naru_sync_kind kind, const char *name, const struct naru_sync_options *options,
               size_t size, int (*init)(void *object, void *argument), void *argument, void **ret_object)
{
    struct opening opening = {.kind = kind, .name = name, .size = size, .init = init, .argument = argument};
    enum naru_create create = options ? options->create : NARU_CREATE_DEFAULT;
    unsigned mode = options && options->mode ? options->mode : 0600;
    int r = make_path(kind, name, opening.path, sizeof opening.path);

    if (r == 0 && options)
        r = SIZED_CHECK(opening.path, "options", naru_sync_options, options);
    if (r < 0)
        return r;
    if (mode > 0777 || create > NARU_CREATE_NEW)
        return error_set(EINVAL, "%s '%s': expected options made by NARU_INIT and permission bits up to 0777",
                         naru_sync_kind_name(kind), name);
    for (int race = 0; race < RACES_MAX; race++) {
        if (create != NARU_CREATE_NEW) {
            r = open_existing(&opening, ret_object);
            if (r != -ENOENT)
                return r;
            if (create == NARU_CREATE_NO)
                return failed(&opening, r, "open", PUBLISH_OPENING);
        }
        r = make(&opening, mode, ret_object);
        if (r == 0 || opening.told < 0)
            return r;
        if (r != -EEXIST || create == NARU_CREATE_NEW)
            return failed(&opening, r, "make", PUBLISH_MAKING);
    }
    return error_set(EAGAIN, "%s '%s': others keep making and removing it", naru_sync_kind_name(kind), name);
}

void named_close(void *object, size_t size)
{
    (void)munmap(object, size); /* can only fail for what was never mapped */
}

int naru_sync_remove(enum naru_sync_kind kind, const char *name)
{
    struct opening opening = {.kind = kind, .name = name};
    int r = make_path(kind, name, opening.path, sizeof opening.path);

    if (r < 0)
        return r;
    if (unlink(opening.path) == 0)
        return 0;
    if (errno == EACCES || errno == EPERM)
        return error_set(errno, "%s '%s': cannot remove %s: %s; its owner may, and root",
                         naru_sync_kind_name(kind), name, opening.path, error_text(errno));
    return failed(&opening, -errno, "remove", PUBLISH_OPENING);
}

/* "naru.mutex.jobs" to its kind and "jobs"; false: none of ours. */
static bool parse_file_name(const char *file, struct naru_sync_entry *entry)
{
    if (strncmp(file, PREFIX, strlen(PREFIX)) != 0)
        return false;
    file += strlen(PREFIX);
    for (int kind = NARU_SYNC_MUTEX; kind <= NARU_SYNC_BARRIER; kind++) {
        const char *name = naru_sync_kind_name((enum naru_sync_kind)kind);
        size_t length = strlen(name);

        if (strncmp(file, name, length) == 0 && file[length] == '.' && file[length + 1]) {
            entry->kind = (enum naru_sync_kind)kind;
            entry->name = file + length + 1;
            return true;
        }
    }
    return false;
}

struct listing {
    int (*each)(const struct naru_sync_entry *entry, void *argument);
    void *argument;
};

static int list_one(const char *name, const struct stat *status, void *argument)
{
    const struct listing *listing = argument;
    struct naru_sync_entry entry = {.size = sizeof entry};

    if (!parse_file_name(name, &entry))
        return 0;
    entry.uid = status->st_uid;
    entry.gid = status->st_gid;
    entry.mode = status->st_mode & 0777;
    return listing->each(&entry, listing->argument);
}

int naru_sync_list(int (*each)(const struct naru_sync_entry *entry, void *argument), void *argument)
{
    struct listing listing = {each, argument};

    return publish_list_shm(list_one, &listing);
}
