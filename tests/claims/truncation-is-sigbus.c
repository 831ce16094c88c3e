/* SPDX-License-Identifier: MIT */
/* A file cut short under a mapping does not unmap it: the next access beyond the new end is SIGBUS (mmap(2)).
 */
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include "claim.h"

static sigjmp_buf back;
static volatile sig_atomic_t got;

static void handler(int sig)
{
    got = sig;
    siglongjmp(back, 1);
}

int main(void)
{
    struct sigaction action = {.sa_handler = handler};
    size_t page = (size_t)getpagesize();
    int fd = MUST(memfd_create("claim", MFD_CLOEXEC));
    volatile char *memory;

    MUST(sigaction(SIGBUS, &action, NULL));
    MUST(sigaction(SIGSEGV, &action, NULL));
    MUST(ftruncate(fd, (off_t)(2 * page)));
    memory = MUST((char *)mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
    memory[page] = 1;
    MUST(ftruncate(fd, (off_t)page));
    memory[0] = 2; /* still there */
    if (sigsetjmp(back, 1) == 0)
        memory[page] = 3;
    return seen(got == SIGBUS && memory[0] == 2,
                "after the cut the first page is there, the second gives SIG%s",
                got ? sigabbrev_np(got) : "NONE");
}
