/* SPDX-License-Identifier: MIT */
/* Errors of mapping memory: see mapping.h. */
#include "base/mapping.h"

#include <errno.h>
#include <sys/mman.h>

#include "base/error.h"

int mapping_code(int code)
{
    return code == EAGAIN ? ENOMEM : code;
}

const char *mapping_text(int code)
{
    switch (code) {
    case EAGAIN:
        return "after mlockall(MCL_FUTURE) all that is mapped is locked, and that is more than this process "
               "may "
               "lock (`ulimit -l` allows more)";
    case ENOMEM:
        return "no room in the address space (`ulimit -v`, vm.max_map_count)";
    case EPERM:
    case ENOSYS:
        return "a sandbox (seccomp) forbids to map memory: allow it there";
    default:
        return error_text(code);
    }
}

int mapping_try(size_t length)
{
    void *space = mmap(NULL, length, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (space == MAP_FAILED)
        return errno;
    (void)munmap(space, length);
    return 0;
}
