/* SPDX-License-Identifier: MIT */
/* A POSIX semaphore taken by a process that is then killed stays taken for ever: it does not know who took it
 * (sem_overview(7)). A System V one with SEM_UNDO comes back (semop(2)). */
#include <semaphore.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/sem.h>
#include <sys/wait.h>
#include <unistd.h>

#include "claim.h"

int main(void)
{
    sem_t *posix = MUST(mmap(NULL, sizeof *posix, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
    int system_v = MUST(semget(IPC_PRIVATE, 1, 0600)), back;
    struct sembuf take = {.sem_op = -1, .sem_flg = SEM_UNDO}, give = {.sem_op = 1};
    bool lost;

    MUST(sem_init(posix, 1, 1));
    MUST(semop(system_v, &give, 1));
    if (MUST(fork()) == 0) {
        MUST(sem_wait(posix));
        MUST(semop(system_v, &take, 1));
        raise(SIGKILL);
    }
    MUST(wait(NULL));
    lost = FAILS(sem_trywait(posix), EAGAIN);
    back = MUST(semctl(system_v, 0, GETVAL));
    MUST(semctl(system_v, 0, IPC_RMID));
    return seen(lost && back == 1, "after its holder was killed: sem_t %s, System V with SEM_UNDO has %d",
                lost ? "is still taken" : "is free", back);
}
