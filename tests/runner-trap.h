/* SPDX-License-Identifier: MIT */
/* A page whose fault nobody answers: whoever reads something into it holds what the kernel locks meanwhile.
 */
#ifndef TESTS_RUNNER_TRAP_H
#define TESTS_RUNNER_TRAP_H

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "runner.h"

enum { TRAP_BYTES = 4096 };

static inline int trap_open_userfaultfd(void)
{
    return (int)syscall(SYS_userfaultfd, O_CLOEXEC);
}

/* Skips the test where there is none for faults of the kernel's (vm.unprivileged_userfaultfd). */
static inline void need_traps(void)
{
    int probe = trap_open_userfaultfd();

    if (probe < 0)
        test_skip("no userfaultfd(2) for faults of the kernel here: %s", strerror(errno));
    CHECK_INT(close(probe), 0);
}

/* A page that whoever writes to it first waits for, in the kernel, too. Its process keeps the descriptor. */
static inline void *make_trap(void)
{
    struct uffdio_api api = {.api = UFFD_API};
    struct uffdio_register range = {.mode = UFFDIO_REGISTER_MODE_MISSING};
    void *page = mmap(NULL, TRAP_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int fd = trap_open_userfaultfd();

    CHECK(page != MAP_FAILED);
    range.range = (struct uffdio_range){(uintptr_t)page, TRAP_BYTES};
    CHECK(fd >= 0 && ioctl(fd, UFFDIO_API, &api) == 0 && ioctl(fd, UFFDIO_REGISTER, &range) == 0);
    return page;
}

#endif
