/* SPDX-License-Identifier: MIT */
/* Holders, and whether they live. */
#include "sync/owner.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/fork.h"

/* Field 22 of /proc/PID/stat, or 0. The name in field 2 may hold anything, so count from its last ')'. */
static uint64_t start_time(const char *path)
{
    FD_CLEANUP int fd = open(path, O_RDONLY | O_CLOEXEC);
    char text[1024], *field;
    ssize_t length;

    if (fd < 0)
        return 0;
    do
        length = read(fd, text, sizeof text - 1);
    while (length < 0 && errno == EINTR);
    if (length <= 0)
        return 0;
    text[length] = '\0';
    field = strrchr(text, ')');
    for (int number = 2; field && number < 22; number++)
        field = strchr(field + 1, ' ');
    return field ? strtoull(field, NULL, 10) : 0;
}

/* The inode number of a namespace stands for it (namespaces(7)). Time namespaces shift start times, so they
 * must be the same too. */
static uint32_t namespaces(void)
{
    struct stat pid, time;
    uint64_t mixed = 0;

    if (stat("/proc/self/ns/pid", &pid) == 0)
        mixed = pid.st_ino;
    if (stat("/proc/self/ns/time", &time) == 0)
        mixed = mixed * 31 + time.st_ino;
    return (uint32_t)(mixed ^ mixed >> 32);
}

struct identity {
    uint64_t generation; /* fork_generation() it was read in */
    struct owner self;
    uint32_t thread;
    uint32_t namespace;
};

static const struct identity *identity(void)
{
    static _Thread_local struct identity cached; /* per thread: needs no lock */
    uint64_t generation = fork_generation();

    if (__builtin_expect(cached.generation != generation, 0)) {
        cached.self.pid = (uint32_t)getpid();
        cached.self.start = start_time("/proc/self/stat");
        cached.thread = (uint32_t)syscall(SYS_gettid);
        cached.namespace = namespaces();
        cached.generation = generation;
    }
    return &cached;
}

struct owner owner_self(void)
{
    return identity()->self;
}

uint32_t owner_thread(void)
{
    return identity()->thread;
}

uint32_t owner_namespace(void)
{
    return identity()->namespace;
}

bool owner_is_dead(struct owner owner)
{
    char path[64];
    FD_CLEANUP int fd = -1;
    uint64_t start;

    if (owner.pid == 0 || owner.pid > INT32_MAX)
        return true; /* no process has such an id */
    fd = (int)syscall(SYS_pidfd_open, (pid_t)owner.pid, 0);
    if (fd >= 0) {
        struct pollfd ended = {.fd = fd, .events = POLLIN};

        /* Readable when the last thread has ended, zombie or not (pidfd_open(2)); /proc would show 'Z' also
         * for a process whose first thread ended before the others. */
        if (fd_poll(&ended, 1, 0) > 0)
            return true;
    } else if (errno == ESRCH) {
        return true;
    } else if (kill((pid_t)owner.pid, 0) < 0 && errno == ESRCH) {
        return true; /* out of descriptors, or no pidfd_open allowed here */
    }
    (void)snprintf(path, sizeof path, "/proc/%" PRIu32 "/stat", owner.pid);
    start = start_time(path); /* 0: /proc hides others' processes here (proc(5), hidepid) */
    return start != 0 && owner.start != 0 && start != owner.start;
}

static uint32_t used(const struct holders *table)
{
    return *table->used < table->capacity ? *table->used : table->capacity;
}

struct holder *holders_find(const struct holders *table, struct owner owner)
{
    for (uint32_t i = 0, end = used(table); i < end; i++)
        if (holder_count(&table->slots[i]) && holder_is(&table->slots[i], owner))
            return &table->slots[i];
    return NULL;
}

struct holder *holders_claim(const struct holders *table, struct owner owner)
{
    struct holder *slot = holders_find(table, owner);
    uint32_t end = used(table), i = 0;

    if (slot)
        return slot;
    while (i < end && holder_count(&table->slots[i]))
        i++;
    if (i == table->capacity)
        return NULL;
    slot = &table->slots[i];
    holder_commit(slot, 0);
    slot->pid = owner.pid;
    slot->start = owner.start;
    if (i == end)
        *table->used =
            end + 1; /* before the commit that follows: killed in between, a free slot more is seen */
    return slot;
}

uint64_t holders_sum(const struct holders *table, uint32_t *ret_holders)
{
    uint64_t sum = 0;
    uint32_t holders = 0;

    for (uint32_t i = 0, end = used(table); i < end; i++) {
        uint32_t count = holder_count(&table->slots[i]);

        sum += count;
        holders += count > 0;
    }
    if (ret_holders)
        *ret_holders = holders;
    return sum;
}

uint64_t holders_reap(const struct holders *table)
{
    uint64_t sum = 0;

    for (uint32_t i = 0, end = used(table); i < end; i++) {
        struct holder *slot = &table->slots[i];

        if (holder_count(slot) && owner_is_dead(holder_owner(slot))) {
            sum += holder_count(slot);
            holder_commit(slot, 0);
        }
    }
    return sum;
}
