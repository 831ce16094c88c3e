/* SPDX-License-Identifier: MIT */
/* Removing shared memory removes its name: who has it mapped keeps it (shm_unlink(3)). A System V segment's
 * contents outlive the process that wrote them, without being mapped anywhere (shmget(2)). */
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/wait.h>
#include <unistd.h>

#include "claim.h"

int main(void)
{
    int fd = MUST(shm_open("/naru-claim", O_RDWR | O_CREAT | O_EXCL, 0600)), id, posix;
    int *memory, system_v;
    bool gone;

    MUST(ftruncate(fd, sizeof *memory));
    memory = MUST(mmap(NULL, sizeof *memory, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
    *memory = 3;
    MUST(shm_unlink("/naru-claim"));
    gone = FAILS(shm_open("/naru-claim", O_RDWR, 0), ENOENT);
    posix = *memory;

    id = MUST(shmget(IPC_PRIVATE, sizeof *memory, 0600));
    if (MUST(fork()) == 0) {
        *MUST((int *)shmat(id, NULL, 0)) = 5;
        _exit(0); /* detaches the last user */
    }
    MUST(wait(NULL));
    system_v = *MUST((int *)shmat(id, NULL, 0));
    MUST(shmctl(id, IPC_RMID, NULL));
    return seen(gone && posix == 3 && system_v == 5,
                "POSIX: the name is gone, the value is %d; System V: nobody had it mapped, the value is %d",
                posix, system_v);
}
