/* SPDX-License-Identifier: MIT */
/*
 * memfd: anonymous shared memory. It has no name (the target only labels it in /proc/PID/fd), so it is always
 * new, and reaches others by fork() or by passing its descriptor. Sealing stays possible (MFD_ALLOW_SEALING).
 */
#include <errno.h>
#include <sys/mman.h>

#include "base/error.h"
#include "base/fd.h"
#include "segment/pages.h"
#include "segment/publish.h"
#include "segment/segment.h"

/* With its size reserved. flags: MFD_HUGETLB or 0. 0 or -errno, without a sentence. */
static int make_with(const struct segment_request *request, unsigned flags, int *ret_fd)
{
    const char *label = *request->url->target ? request->url->target : "naru";
    FD_CLEANUP int fd = memfd_create(label, MFD_CLOEXEC | MFD_ALLOW_SEALING | flags);
    int r = fd < 0 ? -errno : publish_reserve(fd, request->size);

    if (r == 0)
        *ret_fd = fd_steal(&fd);
    return r;
}

/* Of pages that the system keeps for this (vm.nr_hugepages) if there are enough and the size is a number of
 * them, or of ordinary ones, which segment_map_up_to() then makes huge. */
static int make(const struct segment_request *request, int *ret_fd, bool *ret_hugetlb)
{
    size_t huge = request->huge == NARU_HUGE_NO ? 0 : pages_huge_size();
    int r;

    if (huge && request->size % huge == 0 && make_with(request, MFD_HUGETLB, ret_fd) == 0) {
        *ret_hugetlb = true;
        return 0;
    }
    r = make_with(request, 0, ret_fd);
    if (r == -EINVAL)
        return error_set(EINVAL, "%s: cannot make a memfd: its label may have 249 bytes at most",
                         request->url->text);
    return r < 0 ? error_set(-r, "%s: cannot reserve %zu bytes of memory: %s", request->url->text,
                             request->size, error_text(-r))
                 : 0;
}

static int memfd_open(const struct segment_request *request, struct naru_segment *segment)
{
    const char *text = request->url->text;
    struct segment_request making = *request;
    FD_CLEANUP int fd = -1;
    int r = url_check_unused(request->url);

    if (r < 0)
        return r;
    if (request->read_only || !request->create || request->size == 0)
        return error_set(EINVAL, "%s: a memfd is always new, so it needs a size and cannot be %s", text,
                         request->read_only ? "read-only" : "opened a second time");
    r = make(request, &fd, &segment->hugetlb);
    if (r < 0)
        return r;
    r = segment_initialise(fd, &making);
    if (r < 0)
        return r;
    segment->fd = fd_steal(&fd);
    return 0;
}

const struct segment_kind segment_memfd = {.scheme = "memfd", .open = memfd_open};
