/* SPDX-License-Identifier: MIT */
/* The bell of event loops, which both sides hold: what becomes of whoever rings it while the other reads. */
#include "shm/wakeup.h"

#include <fcntl.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "runner.h"
#include "runner-trap.h"

/* Whoever reads a pipe, or a unix socket, into such a page has its mutex, and who comes after waits where no
 * signal reaches: why the bell of loops is none of these. */
TEST(who_is_held_up_while_reading_the_bell_holds_up_no_waker)
{
    _Atomic uint32_t ticket = 0;
    struct waker waker = {.ticket = &ticket, .fd = -1};
    int bell, pid;
    uint64_t most = UINT64_MAX - 1;

    need_traps();
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
