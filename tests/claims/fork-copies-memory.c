/* SPDX-License-Identifier: MIT */
/* After fork(2) the same address in two processes is two variables. */
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "claim.h"

struct report {
    int *address, value;
};

int main(void)
{
    static int variable = 10;
    struct report *child =
        MUST(mmap(NULL, sizeof *child, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));

    if (MUST(fork()) == 0) {
        variable = 20;
        *child = (struct report){&variable, variable};
        _exit(0);
    }
    MUST(wait(NULL));
    return seen(child->address == &variable && child->value == 20 && variable == 10,
                "at %p the child has %d, the parent %d", (void *)&variable, child->value, variable);
}
