/* SPDX-License-Identifier: MIT */
/* The bell of event loops, which both sides hold: what becomes of whoever rings it while the other reads. */
#include "shm/wakeup.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "runner.h"

static int open_userfaultfd(void)
{
    return (int)syscall(SYS_userfaultfd, O_CLOEXEC);
}

/* A page that whoever writes to it first waits for, in the kernel, too. */
static void *make_trap(void)
{
    struct uffdio_api api = {.api = UFFD_API};
    struct uffdio_register range = {.mode = UFFDIO_REGISTER_MODE_MISSING};
    void *page = mmap(NULL, SHM_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int fd = open_userfaultfd();

    CHECK(page != MAP_FAILED);
    range.range = (struct uffdio_range){(uintptr_t)page, SHM_PAGE};
    CHECK(fd >= 0 && ioctl(fd, UFFDIO_API, &api) == 0 && ioctl(fd, UFFDIO_REGISTER, &range) == 0);
    return page;
}

/* Whoever reads a pipe, or a unix socket, into such a page has its mutex, and who comes after waits where no
 * signal reaches: why the bell of loops is none of these. */
TEST(who_is_held_up_while_reading_the_bell_holds_up_no_waker)
{
    _Atomic uint32_t ticket = 0;
    struct waker waker = {.ticket = &ticket, .fd = -1};
    int bell, probe = open_userfaultfd(), pid;
    uint64_t most = UINT64_MAX - 1;

    if (probe < 0)
        test_skip("no userfaultfd(2) for faults of the kernel here: %s", strerror(errno));
    CHECK_INT(close(probe), 0);
    waker.loop_fd = bell = eventfd(1000, EFD_CLOEXEC | EFD_SEMAPHORE);
    CHECK(bell >= 0);
    pid = test_fork();
    if (pid == 0) {
        (void)!read(bell, make_trap(), sizeof(uint64_t));
        test_child_end();
    }
    test_wait_asleep(pid);
    for (uint32_t i = 1; i <= 100; i++) {
        atomic_store(&ticket, i | WAKEUP_LOOP);
        waker_published(&waker);
    }
    CHECK_INT(waker.loop_fd, bell); /* it could be rung each time */
    test_kill(pid);
    /* 1000 less what both have taken are in it: so many more find room, and not one besides. */
    CHECK_INT(fcntl(bell, F_SETFL, O_NONBLOCK), 0);
    most -= 1000 - 100 - 1;
    CHECK_INT(eventfd_write(bell, most), 0);
    CHECK_INT(eventfd_write(bell, 1), -1);
    CHECK_INT(close(bell), 0);
}
