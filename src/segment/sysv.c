/* SPDX-License-Identifier: MIT */
/*
 * System V shared memory (shmget(2)): found by a 32-bit key, or by its id. It has no descriptor and one size
 * for life, which is also why plain memory access to it can never be cut off.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/shm.h>

#include "base/error.h"
#include "base/mapping.h"
#include "base/races.h"
#include "base/sysv.h"
#include "segment/pages.h"
#include "segment/publish.h"
#include "segment/segment.h"

static int failed(const struct url *url, int code, const char *what)
{
    const char *advice = publish_advice(PUBLISH_OPENING, code);

    if (code == ENOSPC)
        advice = "; `ipcs -m` shows them, `ipcrm -m` removes one, /proc/sys/kernel/shmmni is the limit";
    if (code == EINVAL)
        advice = "; /proc/sys/kernel/shmmax is the largest size";
    return error_set(code, "%s: cannot %s: %s%s", url->text, what, error_text(code), advice);
}

/* A new one: of huge pages that the system keeps, if those are asked for and there are enough. */
static int make(const struct segment_request *request, key_t key, struct naru_segment *segment)
{
    int flags = IPC_CREAT | IPC_EXCL | (int)request->mode, id = -1;
    /* Attachments of kept ones cannot be mapped twice (mremap(2) refuses them). */
    size_t huge = request->huge == NARU_HUGE_NO || segment->mirror ? 0 : pages_huge_size();

    if (huge && request->size % huge == 0)
        id = shmget(key, request->size, flags | SHM_HUGETLB);
    segment->hugetlb = id >= 0;
    if (id < 0)
        id = shmget(key, request->size, flags);
    segment->made = id >= 0;
    return id;
}

/* The id for the key. shmget() makes it whole, zeroed and with its mode in one step. */
static int find(const struct segment_request *request, key_t key, int *ret_id, struct naru_segment *segment)
{
    for (int race = 0; race < RACES_MAX; race++) {
        int id = request->exclusive ? -1 : shmget(key, 0, 0);

        segment->made = segment->hugetlb = false; /* an earlier one of ours is gone */
        if (id < 0 && !request->exclusive && (errno != ENOENT || !request->create))
            return failed(request->url, errno, "open it");
        if (id < 0 && request->initialise)
            return error_set(
                ENOTSUP, "%s: System V memory can be seen before it is initialised; use shm+posix: or mmap:",
                request->url->text);
        if (id < 0) {
            if (request->size == 0 || request->read_only)
                return error_set(EINVAL, "%s: to be made it needs a size, and writing", request->url->text);
            id = make(request, key, segment);
            if (id < 0 && (errno != EEXIST || request->exclusive))
                return failed(request->url, errno, "make it");
        }
        if (id >= 0) {
            *ret_id = id;
            return 0;
        }
    }
    return error_set(EAGAIN, "%s: others keep making and removing it", request->url->text);
}

/* Attaches; a positive result is GONE: removed between the look-up and now. */
enum { GONE = 1 };

static int attach(const struct segment_request *request, int id, void **ret_data)
{
    void *data = shmat(id, NULL, request->read_only ? SHM_RDONLY : 0);

    if ((intptr_t)data != -1) {
        *ret_data = data;
        return 0;
    }
    if (sysv_is_gone(errno))
        return GONE;
    return errno == EAGAIN ? error_set(mapping_code(errno), "%s: cannot attach it: %s", request->url->text,
                                       mapping_text(errno))
                           : failed(request->url, errno, "attach it");
}

static int find_and_attach(const struct segment_request *request, key_t key, int id, int *ret_id,
                           struct naru_segment *segment, void **ret_data)
{
    for (int race = 0; race < RACES_MAX; race++) {
        int r = 0;

        *ret_id = id;
        if (id < 0)
            r = find(request, key, ret_id, segment);
        if (r == 0)
            r = attach(request, *ret_id, ret_data);
        if (r <= 0)
            return r;
        if (id >= 0 || !request->create)
            return error_set(ENOENT, "%s: it has been removed", request->url->text);
    }
    return error_set(EAGAIN, "%s: others keep making and removing it", request->url->text);
}

static int sysv_open(const struct segment_request *request, struct naru_segment *segment)
{
    struct shmid_ds status;
    void *data = NULL;
    key_t key = 0;
    int id = -1, r = sysv_target(request->url, &key, &id);

    if (r == 0)
        r = url_check_unused(request->url);
    if (r == 0)
        r = find_and_attach(request, key, id, &id, segment, &data);
    if (r < 0) {
        if (segment->made) /* with a mode that keeps its maker out, too */
            (void)shmctl(id, IPC_RMID, NULL);
        return r;
    }
    /* Attached, it cannot go away any more, so the size read now is the size it has. */
    if (shmctl(id, IPC_STAT, &status) < 0)
        r = failed(request->url, errno, "read its size");
    else
        r = segment_check_size(request, status.shm_segsz);
    if (r < 0) {
        (void)shmdt(data);
        return r;
    }
    segment->shmid = id;
    segment->data = data;
    segment->mapped = status.shm_segsz;
    return 0;
}

ssize_t segment_sysv_size(const struct naru_segment *segment)
{
    return (ssize_t)segment->mapped; /* never changes, also after removal */
}

void segment_sysv_detach(struct naru_segment *segment)
{
    (void)shmdt(segment->data); /* can only fail for an address that is not attached */
}

static int sysv_remove(struct url *url, const struct naru_segment *own)
{
    key_t key;
    int id, r = sysv_target(url, &key, &id);

    if (r < 0)
        return r;
    if (own) /* the key may mean another by now */
        id = own->shmid;
    if (id < 0)
        id = shmget(key, 0, 0);
    if (id < 0 || shmctl(id, IPC_RMID, NULL) < 0) {
        /* By id the kernel says EINVAL or EIDRM of what is gone (shmctl(2)). */
        int code = sysv_is_gone(errno) ? ENOENT : errno;

        return error_set(code, "%s: cannot remove it: %s%s", url->text, error_text(code),
                         code == EPERM ? "; its owner may, its maker, and root" : "");
    }
    return 0;
}

/* proc(5), /proc/sysvipc/shm: key shmid perms size cpid lpid nattch uid gid cuid cgid atime dtime ctime ...
 */
static int list_line(const char *line, int (*each)(const struct naru_segment_entry *entry, void *argument),
                     void *argument)
{
    char url[64];
    struct naru_segment_entry entry = {.size = sizeof entry, .url = url};
    int64_t changed;
    int key, id;

    if (sscanf(line,
               "%d %d %o %" SCNu64 " %" SCNd64 " %" SCNd64 " %" SCNd64 " %" SCNd64 " %" SCNd64
               " %*u %*u %*u %*u %" SCNd64,
               &key, &id, &entry.mode, &entry.bytes, &entry.creator_pid, &entry.last_pid, &entry.attached,
               &entry.uid, &entry.gid, &changed) != 10)
        return 0; /* the heading */
    entry.mode &= 0777;
    entry.changed_at_s = changed;
    if (key == IPC_PRIVATE)
        (void)snprintf(url, sizeof url, "shm+sysv:?id=%d", id);
    else
        (void)snprintf(url, sizeof url, "shm+sysv:0x%x", (unsigned)key);
    return each(&entry, argument);
}

static int sysv_list(int (*each)(const struct naru_segment_entry *entry, void *argument), void *argument)
{
    FILE *file = fopen("/proc/sysvipc/shm", "re");
    char line[512];
    int r = 0;

    if (!file) {
        int code = errno;

        return error_set(code, "cannot read /proc/sysvipc/shm: %s", error_text(code));
    }
    while (r == 0 && fgets(line, sizeof line, file))
        r = list_line(line, each, argument);
    (void)fclose(file);
    return r;
}

const struct segment_kind segment_sysv = {
    .scheme = "shm+sysv", .open = sysv_open, .remove = sysv_remove, .list = sysv_list};
