/* SPDX-License-Identifier: MIT */
/* A mutex whose holder was killed stays locked for ever, unless it was made robust: then the next gets it,
 * together with EOWNERDEAD (pthread_mutexattr_setrobust(3)). */
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "claim.h"

static pthread_mutex_t *make(int robust)
{
    pthread_mutex_t *mutex =
        MUST(mmap(NULL, sizeof *mutex, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
    pthread_mutexattr_t attributes;

    if (pthread_mutexattr_init(&attributes) != 0 ||
        pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED) != 0 ||
        pthread_mutexattr_setrobust(&attributes, robust) != 0 || pthread_mutex_init(mutex, &attributes) != 0)
        exit(2);
    return mutex;
}

int main(void)
{
    pthread_mutex_t *plain = make(PTHREAD_MUTEX_STALLED), *robust = make(PTHREAD_MUTEX_ROBUST);
    int of_plain, of_robust, afterwards;

    if (MUST(fork()) == 0) {
        pthread_mutex_lock(plain);
        pthread_mutex_lock(robust);
        raise(SIGKILL);
    }
    MUST(wait(NULL));
    of_plain = pthread_mutex_trylock(plain);
    of_robust = pthread_mutex_trylock(robust);
    pthread_mutex_consistent(robust);
    pthread_mutex_unlock(robust);
    afterwards = pthread_mutex_trylock(robust);
    return seen(of_plain == EBUSY && of_robust == EOWNERDEAD && afterwards == 0,
                "after its holder was killed: plain %s, robust %s and then locked", strerrorname_np(of_plain),
                strerrorname_np(of_robust));
}
