/* SPDX-License-Identifier: MIT */
/* Shared memory is mapped into user space, so using it needs no system call; the frame behind it is the
 * kernel's, one for all mappings, whatever their addresses (mmap(2), proc(5): pagemap). */
#include <fcntl.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

#include "claim.h"

/* The number of the page frame behind an address; 0: this user may not know. */
static uint64_t frame(const void *address)
{
    uint64_t entry = 0;
    int fd = MUST(open("/proc/self/pagemap", O_RDONLY));

    MUST(pread(fd, &entry, sizeof entry,
               (off_t)((uintptr_t)address / (uintptr_t)getpagesize() * sizeof entry)));
    close(fd);
    return entry & ((UINT64_C(1) << 55) - 1);
}

int main(void)
{
    size_t size = (size_t)getpagesize();
    int fd = MUST(memfd_create("claim", MFD_CLOEXEC));
    int *here, *there, *private;
    uint64_t of_here = 0, of_there = 1;

    MUST(ftruncate(fd, (off_t)size));
    here = MUST(mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
    there = MUST(mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
    private = MUST(mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0));
    *here = 3;
    *private = 4;      /* copied for us, at the first write */
    if (*there == 3) { /* read, hence mapped */
        of_here = frame(here);
        of_there = frame(there);
    }
    return seen(
        here != there && *there == 3 && *here == 3 && of_here == of_there &&
            (of_here == 0 || frame(private) != of_here),
        "3 written at %p was read at %p; frames %#llx and %#llx%s; a private mapping kept its 4 to itself",
        (void *)here, (void *)there, (unsigned long long)of_here, (unsigned long long)of_there,
        of_here ? "" : " (hidden from this user)");
}
