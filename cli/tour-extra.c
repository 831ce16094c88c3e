/* SPDX-License-Identifier: MIT */
/* What the textbook says of the rows that are no channels. (The channels' rows say it themselves.) */
#include "cli/tour-extra.h"

#define SHARED_TEXTS                                                                                         \
    .direction = "any to any; here through two slots and two semaphores", .unit = "bytes, no boundaries",    \
    .wait = "not at all: a semaphore or event beside it does"

#define SYNC_TEXTS                                                                                           \
    .synchronises = true, .medium = "a word in shared memory; waiters sleep in the kernel (futex)",          \
    .scope = "whoever maps the memory or opens the name",                                                    \
    .persistence = "memory: as long as it; name: until removed or reboot"

const struct tour_extra tour_extras[] = {
    {{.name = "memfd",
      .title = "shared memory without a name",
      .use_when = "much data between processes that know each other; nothing shall be left behind",
      .medium = "the same pages in both address spaces",
      .scope = "who inherits the descriptor or is passed it",
      .persistence = "until the last has closed and unmapped it",
      .limit = "memory; sealed against truncation if asked for",
      SHARED_TEXTS},
     tour_segment_memfd},
    {{.name = "shm+posix (bytes)",
      .title = "POSIX shared memory",
      .use_when = "much data between unrelated processes, found by name",
      .medium = "the same pages in both address spaces",
      .scope = "one machine, by name and permissions",
      .persistence = "until removed or reboot",
      .limit = "half of the memory (/dev/shm)",
      SHARED_TEXTS},
     tour_segment_posix},
    {{.name = "shm+sysv (bytes)",
      .title = "System V shared memory",
      .use_when = "an older program is the peer: shmget(2) with a key",
      .medium = "the same pages in both address spaces",
      .scope = "one machine, by key and permissions",
      .persistence = "until removed or reboot",
      .limit = "kernel.shmmax, kernel.shmmni; a container's own /dev/shm does not count",
      SHARED_TEXTS},
     tour_segment_sysv},
    {{.name = "mmap",
      .title = "memory-mapped file",
      .use_when = "the shared bytes shall outlive the processes and the machine's uptime",
      .medium = "the file's page cache, mapped by both",
      .scope = "one machine, by file permissions",
      .persistence = "as the file; on disk after msync(2)",
      .limit = "the disk; who truncates the file kills who touches it (SIGBUS)",
      SHARED_TEXTS},
     tour_segment_file},
    {{.name = "semaphore",
      .title = "semaphore",
      .use_when = "N may at once and the next waits; or one makes what another consumes",
      .direction = "any to any",
      .unit = "a count",
      .limit = "118 processes hold units at the same time",
      .wait = "futex; looks for dead holders meanwhile",
      SYNC_TEXTS},
     tour_semaphore},
    {{.name = "mutex",
      .title = "mutex",
      .use_when = "one at a time touches what is shared; a killed holder must not block the rest",
      .direction = "holder to next holder",
      .unit = "the right to go on",
      .limit = "the thread that locked it unlocks it",
      .wait = "futex; the kernel hands over a dead holder's (robust list)",
      SYNC_TEXTS},
     tour_mutex},
    {{.name = "event",
      .title = "event, auto-reset",
      .use_when = "something has happened and another waits for it",
      .direction = "any to any; wakes one (auto-reset) or all (manual-reset)",
      .unit = "set or not set",
      .limit = "two settings in a row are one",
      .wait = "futex",
      SYNC_TEXTS},
     tour_event},
    {{.name = "signal (hand-off)",
      .title = "signal",
      .use_when = "a process must be told, whatever it is doing: terminate, reload, a child has ended",
      .medium = "the kernel's pending set",
      .direction = "one way",
      .unit = "a number; real-time signals also an int",
      .scope = "one machine, same user",
      .persistence = "until the process takes it or ends",
      .limit = "ordinary signals do not queue: two in a row are one",
      .wait = "sigtimedwait(2), signalfd(2), or a handler in between",
      .synchronises = true},
     tour_signal},
    {{0}, NULL},
};

void tour_judge_hand_off(struct tour *tour, int r, struct tour_result *ret)
{
    if (r < 0) {
        tour_judge(tour, r, ret);
        return;
    }
    ret->outcome = TOUR_HANDED_OVER;
    ret->p50 = histogram_quantile(&tour->shared->latency, 0.5);
    ret->p99 = histogram_quantile(&tour->shared->latency, 0.99);
}
