/* SPDX-License-Identifier: MIT */
/* A "binary" semaphore is not a mutex: anybody may post it, not only who took it, and nothing stops its count
 * at 1 (sem_post(3)). A mutex knows its owner: EPERM (pthread_mutex_lock(3)). */
#include <pthread.h>
#include <semaphore.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "claim.h"

struct shared {
    sem_t semaphore;
    pthread_mutex_t mutex;
};

int main(void)
{
    struct shared *s = MUST(mmap(NULL, sizeof *s, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
    pthread_mutexattr_t attributes;
    int status, value;

    if (pthread_mutexattr_init(&attributes) != 0 ||
        pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED) != 0 ||
        pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_ERRORCHECK) != 0 ||
        pthread_mutex_init(&s->mutex, &attributes) != 0 || pthread_mutex_lock(&s->mutex) != 0)
        return 2;
    MUST(sem_init(&s->semaphore, 1, 1));
    MUST(sem_wait(&s->semaphore));
    if (MUST(fork()) == 0) { /* holds neither */
        MUST(sem_post(&s->semaphore));
        MUST(sem_post(&s->semaphore));
        _exit(pthread_mutex_unlock(&s->mutex));
    }
    MUST(wait(&status));
    MUST(sem_getvalue(&s->semaphore, &value));
    return seen(WIFEXITED(status) && WEXITSTATUS(status) == EPERM && value == 2,
                "another process brought the semaphore we held to %d; the mutex answered %s", value,
                strerrorname_np(WEXITSTATUS(status)));
}
