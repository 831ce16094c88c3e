/* SPDX-License-Identifier: MIT */
/*
 * memfd: anonymous shared memory. It has no name (the target only labels it in /proc/PID/fd), so it is always
 * new, and reaches others by fork() or by passing its descriptor. Sealing stays possible (MFD_ALLOW_SEALING).
 */
#include <errno.h>
#include <sys/mman.h>

#include "base/error.h"
#include "base/fd.h"
#include "segment/publish.h"
#include "segment/segment.h"

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
    fd = memfd_create(*request->url->target ? request->url->target : "naru", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0) {
        int code = errno;

        return error_set(code, "%s: cannot make a memfd: %s", text,
                         code == EINVAL ? "its label may have 249 bytes at most" : error_text(code));
    }
    r = publish_reserve(fd, request->size);
    if (r < 0)
        return error_set(-r, "%s: cannot reserve %zu bytes of memory: %s", text, request->size,
                         error_text(-r));
    r = segment_initialise(fd, &making);
    if (r < 0)
        return r;
    segment->fd = fd_steal(&fd);
    return 0;
}

const struct segment_kind segment_memfd = {.scheme = "memfd", .open = memfd_open};
