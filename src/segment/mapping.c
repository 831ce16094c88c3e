/* SPDX-License-Identifier: MIT */
/*
 * Where a segment's bytes are in the address space: once, as the kernel likes, unless options ask for more. A
 * mirror has them twice in a row, and huge pages need a place at a multiple of their size: such a place is
 * reserved first, and the object is mapped over it.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/error.h"
#include "base/mapping.h"
#include "segment/pages.h"
#include "segment/publish.h"
#include "segment/segment.h"

/* More no address space has, nor any file system: publish_reserve() says so. */
static const size_t largest = PTRDIFF_MAX / 4;

static int protection(const struct naru_segment *segment)
{
    return segment->read_only ? PROT_READ : PROT_READ | PROT_WRITE;
}

static int failed(const struct naru_segment *segment, size_t size, int code)
{
    return error_set(mapping_code(code), "%s: cannot map %zu bytes: %s", segment->url, size,
                     mapping_text(code));
}

/* What mmap(2) says of a sealed memfd is EPERM: fcntl(2), "File Sealing". */
static int sealed(const struct naru_segment *segment, size_t size)
{
    void *data = mmap(NULL, size, PROT_READ, MAP_SHARED, segment->fd, 0);

    if (data != MAP_FAILED)
        (void)munmap(data, size);
    return error_set(EPERM,
                     "%s: cannot map %zu bytes: it is sealed against writing (F_ADD_SEALS in fcntl(2)); %s",
                     segment->url, size,
                     data != MAP_FAILED
                         ? "set options.read_only"
                         : "this kernel maps it for reading neither, unless it was opened for reading only");
}

/* The object could not be mapped, wherever that was to be. */
static int object_failed(const struct naru_segment *segment, size_t size, int code)
{
    int seals = segment->fd < 0 ? -1 : fcntl(segment->fd, F_GET_SEALS);

    if (code == EPERM && seals > 0 && (seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE)))
        return sealed(segment, size);
    if (code == ENOMEM && segment_kept_page(segment) && mapping_try(size) == 0)
        return error_set(ENOMEM,
                         "%s: cannot map %zu bytes: the system keeps no more huge pages (vm.nr_hugepages)",
                         segment->url, size);
    return failed(segment, size, code);
}

size_t segment_kept_page(const struct naru_segment *segment)
{
    struct statfs system;

    if (segment->hugetlb)
        return pages_huge_size();
    if (segment->fd >= 0 && fstatfs(segment->fd, &system) == 0 && system.f_type == HUGETLBFS_MAGIC)
        return (size_t)system.f_bsize;
    return 0;
}

/* Bytes of a page of the object. */
static size_t page_size(const struct naru_segment *segment)
{
    size_t kept = segment_kept_page(segment);

    return kept ? kept : (size_t)sysconf(_SC_PAGESIZE);
}

/* --- one mapping, as the kernel likes --- */

static bool maps_anew(const struct naru_segment *segment)
{
    return segment->mapped == 0 || segment_kept_page(segment); /* these mremap(2) does not lengthen */
}

static int map_plainly(struct naru_segment *segment, size_t size)
{
    bool anew = maps_anew(segment);
    void *data;

    if (anew)
        data = mmap(NULL, size, protection(segment), MAP_SHARED, segment->fd, 0);
    else
        data = mremap(segment->data, segment->mapped, size, MREMAP_MAYMOVE);
    if (data == MAP_FAILED)
        return object_failed(segment, size, errno);
    if (anew)
        segment_unmap(segment);
    segment->data = data;
    segment->mapped = size;
    return 0;
}

/* --- a place of our own --- */

static bool needs_place(const struct naru_segment *segment)
{
    return segment->mirror || (segment->huge != NARU_HUGE_NO && !segment->hugetlb);
}

/* Of System V memory one more attachment, as sealed_make()'s mirror has it: see mirror.c. */
static int map_copy(const struct naru_segment *segment, size_t size, uint8_t *target)
{
    void *data;

    if (segment->fd >= 0)
        data = mmap(target, size, protection(segment), MAP_SHARED | MAP_FIXED, segment->fd, 0);
    else
        data = mremap(segment->data, 0, size, MREMAP_MAYMOVE | MREMAP_FIXED, target);
    return data == MAP_FAILED ? -errno : 0;
}

static int no_mirror(const struct naru_segment *segment, size_t size, size_t page)
{
    return error_set(EINVAL, "%s: %zu bytes are not whole pages of %zu, and a mirror needs such",
                     segment->url, size, page);
}

/* Maps it there. length: bytes of address space. 0 or explained. */
static int make_place(const struct naru_segment *segment, size_t size, uint8_t **ret_space,
                      size_t *ret_length)
{
    size_t page = page_size(segment), copies = segment->mirror ? 2 : 1;
    size_t whole = (size + page - 1) / page * page; /* that is what a mapping takes */
    uint8_t *space;
    int r = 0;

    if (segment->mirror && whole != size)
        return no_mirror(segment, size, page);
    space = pages_reserve_addresses(copies * whole, segment->huge != NARU_HUGE_NO ? pages_huge_size()
                                                    : segment_kept_page(segment)  ? page
                                                                                  : 0);
    if (!space)
        return failed(segment, size, errno);
    for (size_t i = 0; i < copies && r == 0; i++)
        r = map_copy(segment, size, space + i * whole);
    if (r < 0) {
        (void)munmap(space, copies * whole);
        return object_failed(segment, size, -r);
    }
    *ret_space = space;
    *ret_length = copies * whole;
    return 0;
}

static int map_in_place(struct naru_segment *segment, size_t size)
{
    uint8_t *space;
    size_t length;
    int r = make_place(segment, size, &space, &length);

    if (r < 0)
        return r;
    segment_unmap(segment);
    segment->data = space;
    segment->mapped = size;
    segment->placed = length;
    return 0;
}

void segment_unmap(struct naru_segment *segment)
{
    if (segment->placed) /* also the attachments of System V memory: munmap(2) ends them */
        (void)munmap(segment->data, segment->placed);
    else if (segment->shmid >= 0)
        segment_sysv_detach(segment);
    else if (segment->data)
        (void)munmap(segment->data, segment->mapped);
    segment->data = NULL;
    segment->placed = 0;
}

/* --- whether there is room for it --- */

/* Of huge pages that the system keeps, which mmap(2) would take already, and make the object longer. */
static int try_addresses(const struct naru_segment *segment, size_t size)
{
    int code = mapping_try(segment->mirror ? 2 * size : size);

    return code ? failed(segment, size, code) : 0;
}

/* What map_plainly() would do, with as much address space, and undone again. mremap(2): an old size of 0 maps
 * the same pages once more, locked if the mapping is. */
static int try_plainly(const struct naru_segment *segment, size_t size)
{
    size_t page = page_size(segment), more = size;
    void *data;

    if (maps_anew(segment)) {
        data = mmap(NULL, size, protection(segment), MAP_SHARED, segment->fd, 0);
    } else {
        more = (size + page - 1) / page * page - (segment->mapped + page - 1) / page * page;
        if (more == 0)
            return 0;
        data = mremap(segment->data, 0, more, MREMAP_MAYMOVE);
    }
    if (data == MAP_FAILED)
        return object_failed(segment, size, errno);
    (void)munmap(data, more);
    return 0;
}

int segment_try_map(const struct naru_segment *segment, size_t size)
{
    uint8_t *space;
    size_t length;
    int r;

    if (size <= segment->mapped || size > largest)
        return 0;
    if (segment_kept_page(segment))
        return try_addresses(segment, size);
    if (!needs_place(segment)) {
        r = try_plainly(segment, size);
    } else {
        r = make_place(segment, size, &space, &length);
        if (r == 0)
            (void)munmap(space, length);
    }
    return r == -EOVERFLOW ? 0 : r; /* a file cannot be so large: likewise publish_reserve()'s to say */
}

/* --- what backs it --- */

static const char *huge_advice(int code, size_t size)
{
    if (size < pages_huge_size())
        return "; they are fewer than one has";
    return code == EINVAL ? "; the kernel or the file system makes none for it (Linux 6.1 does for memory)"
                          : "; there is not enough memory in one piece";
}

static int make_huge(const struct naru_segment *segment)
{
    size_t size = segment->mapped;
    int r = 0;

    if (segment->huge == NARU_HUGE_NO || segment->hugetlb)
        return 0;
    if (segment->huge == NARU_HUGE_MUST || segment->prefault) /* the kernel joins pages that are there */
        (void)pages_prefault(segment->data, size, !segment->read_only);
    r = pages_make_huge(segment->data, size);
    if (r < 0 && segment->huge == NARU_HUGE_MUST)
        return error_set(ENOTSUP, "%s: no huge pages for %zu bytes: %s%s", segment->url, size, error_text(-r),
                         huge_advice(-r, size));
    if (r == 0 && segment->mirror) /* they are huge: maps them so */
        (void)pages_make_huge((uint8_t *)segment->data + size, size);
    return 0;
}

static int prefault(const struct naru_segment *segment)
{
    size_t length = segment->placed ? segment->placed : segment->mapped;
    int r = segment->prefault ? pages_prefault(segment->data, length, !segment->read_only) : 0;

    if (r < 0)
        return error_set(r == -EFAULT ? ENOSPC : -r, "%s: cannot have %zu bytes before they are needed: %s",
                         segment->url, length,
                         r == -EFAULT    ? "the file is sparse and there is no space, or it was cut short"
                         : r == -ENOTSUP ? "Linux 5.14 can"
                                         : error_text(-r));
    return 0;
}

int segment_check_backing(const struct naru_segment *segment, size_t size)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);

    if (segment->mirror && size % page != 0)
        return no_mirror(segment, size, page);
    if (segment->huge == NARU_HUGE_MUST && size > 0 && size < pages_huge_size())
        return error_set(ENOTSUP, "%s: no huge pages for %zu bytes, which are fewer than one has",
                         segment->url, size);
    return 0;
}

/* What of that size can be touched: of kept huge pages only whole ones, though another program may have made
 * it longer. */
static size_t mappable(const struct naru_segment *segment, size_t size)
{
    size_t kept = segment_kept_page(segment);

    return kept ? size - size % kept : size;
}

int segment_map_up_to(struct naru_segment *segment, size_t size)
{
    bool grows = size > segment->mapped && (size = mappable(segment, size)) > segment->mapped;
    int r = 0;

    if (!grows && (segment->backed || segment->mapped == 0))
        return 0;
    if (!grows)
        size = segment->mapped;
    if (needs_place(segment) && (grows || !segment->placed)) {
        r = map_in_place(segment, size);
        if (r < 0 && !grows && !segment->mirror && segment->huge == NARU_HUGE_TRY)
            r = 0; /* System V memory that cannot be attached at a place of our choice stays where it is */
    } else if (grows)
        r = map_plainly(segment, size);
    if (r == 0)
        r = make_huge(segment);
    if (r == 0)
        r = prefault(segment);
    segment->backed = r == 0;
    return r;
}

/* --- writing through a mapping --- */

/* process_vm_writev(2) to ourselves, as memcpy() would raise SIGBUS where the object is cut short meanwhile.
 */
static int copy_to(const struct naru_segment *segment, uint8_t *to, const uint8_t *data, size_t length)
{
    while (length > 0) {
        struct iovec from = {(void *)(uintptr_t)data, length}, target = {to, length};
        ssize_t n = process_vm_writev(getpid(), &from, 1, &target, 1, 0);

        if (n < 0 && errno == EFAULT)
            return error_set(ENXIO, "%s: it was cut short while it was written to", segment->url);
        if (n < 0)
            return error_set(errno, "%s: cannot write: process_vm_writev: %s", segment->url,
                             error_text(errno));
        to += n;
        data += n;
        length -= (size_t)n;
    }
    return 0;
}

int segment_write_mapped(const struct naru_segment *segment, uint64_t offset, const void *data, size_t length)
{
    size_t page = page_size(segment), before = (size_t)(offset % page);
    size_t whole = (before + length + page - 1) / page * page;
    uint8_t *to =
        mmap(NULL, whole, PROT_READ | PROT_WRITE, MAP_SHARED, segment->fd, (off_t)(offset - before));
    int r;

    if (to == MAP_FAILED)
        return object_failed(segment, whole, errno);
    r = copy_to(segment, to + before, data, length);
    (void)munmap(to, whole);
    return r;
}
