/* SPDX-License-Identifier: MIT */
/*
 * Isolation. Every process has an address space of its own: the same address leads two processes to different
 * memory. So a variable cannot carry a message, and the kernel must: here, what the child says comes through
 * a pipe. Shared memory is the exception asked for: one page, mapped by both, wherever each likes.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/demo.h"
#include "naru/naru.h"

/* On a page of its own, so that the page frame behind it changes only when it does. */
static _Alignas(4096) struct {
    int number;
    char rest[4096 - sizeof(int)];
} own_page = {.number = 10};

static int *const number = &own_page.number;

/* What a process sees of some memory. */
struct sight {
    uint64_t address, frame, inode, offset;
    int value;
};

struct shared {
    struct naru_channel *ends[2];
    struct naru_segment *segment;
};

/* The number of the page frame behind an address; 0 unless we are root (proc(5), /proc/PID/pagemap). */
static uint64_t frame_of(const void *address)
{
    const uint64_t frame_bits = (UINT64_C(1) << 55) - 1, present = UINT64_C(1) << 63;
    uint64_t entry = 0, page = (uintptr_t)address / (uint64_t)sysconf(_SC_PAGESIZE);
    int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        return 0;
    if (pread(fd, &entry, sizeof entry, (off_t)(page * sizeof entry)) != sizeof entry)
        entry = 0;
    (void)close(fd);
    return entry & present ? entry & frame_bits : 0;
}

/* Which file, and where in it, an address is mapped from (proc(5), /proc/PID/maps): what anybody may see. */
static void find_mapping(const void *address, struct sight *sight)
{
    char line[512];
    FILE *maps = fopen("/proc/self/maps", "re");

    while (maps && fgets(line, sizeof line, maps)) {
        uint64_t start, end, offset, inode;

        if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %*s %" SCNx64 " %*s %" SCNu64, &start, &end, &offset,
                   &inode) == 4 &&
            start <= (uintptr_t)address && (uintptr_t)address < end) {
            sight->inode = inode;
            sight->offset = offset + ((uintptr_t)address - start);
        }
    }
    if (maps)
        (void)fclose(maps);
}

static struct sight look_at(const int *variable)
{
    struct sight sight = {.value = *variable}; /* read first: a page that was never touched has no frame */

    sight.address = (uintptr_t)variable;
    sight.frame = frame_of(variable);
    find_mapping(variable, &sight);
    return sight;
}

static int tell(struct naru_channel *ch, const int *variable)
{
    struct sight sight = look_at(variable);

    return naru_send(ch, &sight, sizeof sight, DEMO_PATIENCE);
}

static int hear(struct naru_channel *ch, struct sight *ret_sight)
{
    ssize_t r = naru_recv(ch, ret_sight, sizeof *ret_sight, DEMO_PATIENCE);

    return r < 0 ? (int)r : 0;
}

static int child(void *argument)
{
    struct shared *shared = argument;
    struct naru_channel *parent = shared->ends[1];
    struct naru_segment *mine;
    struct sight ignored;
    int *page, r;

    shared->ends[0] = naru_channel_close(shared->ends[0]);
    r = tell(parent, number); /* as inherited */
    *number = 20;
    if (r == 0)
        r = tell(parent, number); /* as changed */

    /* A second mapping of the same memory, and away with the inherited one. */
    if (r == 0)
        r = naru_segment_take_fd(dup(naru_segment_fd(shared->segment)), NULL, &mine);
    if (r < 0)
        return r;
    shared->segment = naru_segment_close(shared->segment);
    page = naru_segment_data(mine);
    r = hear(parent, &ignored); /* "I have written" */
    if (r == 0)
        r = tell(parent, page);
    *page = 4;
    if (r == 0)
        r = tell(parent, page);
    naru_segment_close(mine);
    return r;
}

static void show(struct demo *d, const char *who, const struct sight *sight)
{
    char frame[40] = "";

    if (sight->frame)
        (void)snprintf(frame, sizeof frame, "frame 0x%" PRIx64, sight->frame);
    demo_say(d, "  %-24s at 0x%-13" PRIx64 " value %-3d %s", who, sight->address, sight->value, frame);
}

static int show_isolation(struct demo *d, struct naru_channel *to_child)
{
    struct sight before = look_at(number), inherited, changed, after;
    int r = hear(to_child, &inherited);

    if (r == 0)
        r = hear(to_child, &changed);
    if (r < 0)
        return r;
    after = look_at(number);
    demo_heading(d, "One variable, after fork(): the child sets it to 20");
    show(d, "parent, before", &before);
    show(d, "child, as inherited", &inherited);
    show(d, "child, after number = 20", &changed);
    show(d, "parent, afterwards", &after);
    demo_check(d, changed.address == after.address, "both have it at the same address");
    demo_check(d, changed.value == 20 && after.value == 10, "20 in the child, still 10 in the parent");
    if (after.frame && changed.frame) {
        demo_check(d, inherited.frame == before.frame,
                   "after fork() both have one page frame: nothing was copied");
        demo_check(d, changed.frame != after.frame,
                   "writing gave the child a copy of its own (copy-on-write)");
    } else {
        demo_say(d, "  (root would also see the page frames behind the addresses)");
    }
    demo_number(d, "parent_value", after.value);
    demo_number(d, "child_value", changed.value);
    return 0;
}

static int show_sharing(struct demo *d, struct naru_channel *to_child, int *page)
{
    struct sight mine, theirs, changed;
    int r;

    *page = 3;
    mine = look_at(page);
    r = tell(to_child, page);
    if (r == 0)
        r = hear(to_child, &theirs);
    if (r == 0)
        r = hear(to_child, &changed);
    if (r < 0)
        return r;
    demo_heading(d, "One page of shared memory (memfd), mapped by each for itself");
    show(d, "parent, after page = 3", &mine);
    show(d, "child, reads", &theirs);
    show(d, "child, after page = 4", &changed);
    demo_say(d, "  %-24s %24s value %d", "parent, reads", "", *page);
    demo_check(d, mine.address != theirs.address, "two addresses");
    demo_check(d, theirs.value == 3 && *page == 4, "each sees what the other wrote: 3, then 4");
    if (mine.frame && theirs.frame)
        demo_check(d, mine.frame == theirs.frame, "one page frame: 0x%" PRIx64 " (/proc/self/pagemap)",
                   mine.frame);
    demo_check(d, mine.inode == theirs.inode && mine.offset == theirs.offset,
               "one object: inode %" PRIu64 ", offset %" PRIu64 " in both (/proc/self/maps)", mine.inode,
               mine.offset);
    return 0;
}

static int run(struct demo *d)
{
    struct shared shared;
    pid_t pid;
    int r;

    demo_say(d, "Each process has its own address space. What one writes, no other sees:\n"
                "unless both map the same memory.");
    r = naru_channel_pair("pipe:", NULL, shared.ends);
    if (r == 0)
        r = naru_segment_open("memfd:", sizeof(int), NULL, &shared.segment);
    if (r < 0)
        return r;
    pid = demo_start(child, &shared);
    if (pid < 0)
        return pid;
    shared.ends[1] = naru_channel_close(shared.ends[1]); /* the child's: if it dies we shall hear of it */
    r = show_isolation(d, shared.ends[0]);
    if (r == 0)
        r = show_sharing(d, shared.ends[0], naru_segment_data(shared.segment));
    naru_channel_close(shared.ends[0]);
    naru_segment_close(shared.segment);
    demo_check(d, demo_all_end_well(&pid, 1), "the child ended well");
    return r;
}

const struct demo_kind demo_isolation = {
    .name = "isolation",
    .title = "Isolation: one variable, two values; one page, two addresses",
    .source = "cli/demo-isolation.c",
    .run = run,
};
