/* SPDX-License-Identifier: MIT */
/* futex(2): sleeping until a word in shared memory changes. */
#include "sync/futex.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"

enum { NS_PER_S = 1000000000 };
#define NAP_FIRST NARU_MS(2)
#define NAP_LAST  NARU_MS(64)

int futex_wait(_Atomic uint32_t *word, uint32_t expected, int64_t deadline)
{
    struct timespec until = {.tv_sec = deadline / NS_PER_S, .tv_nsec = deadline % NS_PER_S};

    /* FUTEX_WAIT_BITSET takes a point of CLOCK_MONOTONIC, where FUTEX_WAIT takes a duration, which would
     * start anew after each signal (futex(2)). Not FUTEX_PRIVATE: the word may be in another process too. */
    long r = syscall(SYS_futex, word, FUTEX_WAIT_BITSET, expected, deadline == NARU_FOREVER ? NULL : &until,
                     NULL, FUTEX_BITSET_MATCH_ANY);

    return r < 0 && errno == ETIMEDOUT ? -ETIMEDOUT : 0;
}

int futex_wake(_Atomic uint32_t *word, int count)
{
    int saved = errno;
    long woken = syscall(SYS_futex, word, FUTEX_WAKE, count, NULL, NULL, 0);

    /* EFAULT: the word was unmapped by its last user, who therefore does not sleep on it. */
    errno = saved;
    return woken > 0 ? (int)woken : 0;
}

int nap_wait(struct nap *nap, _Atomic uint32_t *word, uint32_t expected, int64_t deadline)
{
    int64_t now;

    if (nap->until == 0) {
        nap->length = nap->length == 0 ? NAP_FIRST : nap->length < NAP_LAST ? nap->length * 2 : NAP_LAST;
        nap->until = deadline_after(nap->length);
    }
    (void)futex_wait(word, expected, nap->until < deadline ? nap->until : deadline); /* the clock tells why */
    now = clock_now();
    if (now >= deadline)
        return -ETIMEDOUT;
    if (now < nap->until)
        return 0;
    nap->until = 0;
    return 1;
}
