/* SPDX-License-Identifier: MIT */
/*
 * Sleeping until the other side has done something, at no cost to it while nobody sleeps.
 *
 * There are two sleepers: a receiver whose ring is empty and a sender whose ring is full. Each has a ticket
 * in its own page and a socket of its own; the other side looks at the ticket after each commit (release),
 * and writes a byte into the socket if it is not 0:
 *
 *     sleeper                             waker
 *     S1 ticket = another number          W1 publish (commit a record, or release one)
 *     S2 barrier                          W2 barrier
 *     S3 look once more; if nothing:      W3 if ticket is another one than last time, and not 0:
 *     S4 read the socket (sleeps)               write a byte to the socket
 *     S5 ticket = 0
 *
 * Either S3 sees W1, or W3 sees S1: that needs both barriers, and W2 stands in the path of every message,
 * where a fence takes half of the rate. So S2 is membarrier(2) with GLOBAL_EXPEDITED, which runs a full
 * barrier on every CPU that runs a thread of a registered process: it makes W2 for every waker that has
 * registered, and there W2 only keeps the compiler in order. A waker that could not register (an old kernel,
 * a sandbox) uses a fence. A sleeper whose membarrier(2) fails, though the waker's did not, cannot know: it
 * sleeps in short slices and looks in between, or waits a little before S3 (sleeper_settle()).
 *
 * Why, for either direction: S1 and S3, and W1 and W3, are a store and a load of another word, and both a
 * processor (its store waits in a buffer) and C11 let the load go first. Two fences come one after the other:
 * if W2 is first, S3 sees W1; if S2 is, W3 sees S1. membarrier(2) puts a fence somewhere into what the waker
 * does, between the call's beginning and its end: if W1 is before it, S3 sees W1; if not, W3 is behind it and
 * sees S1. The publishing store need not be stronger than a release for that, nor the loads for S3 than what
 * they license reading.
 *
 * The call takes a microsecond or two, and interrupts the CPU where the waker has often just begun to run. So
 * a waker that had to ring, and may soon have to again, fences itself for the next WAKER_FENCES publications,
 * and says so in its page. A sleeper that finds it said, after a fence of its own, leaves the call out:
 *
 *     S2  fence; if their word is 0: membarrier(2)     begins:  W4 their word = 1
 *                                                      ends:    W5 their word = 0; fence
 *
 * [P7] W4, release: what was published before, without a fence, is visible before the word is.
 * [C7] S2, acquire: pairs with P7; S3 sees what was published before W4; for what comes later there are two
 * fences. If S2 still finds 1 though W5 is under way, S2's fence is before W5's: all that is published
 * without a fence comes behind W5, and its W3 sees S1. Who says that it fences and does not fails to wake its
 * peer, as it may by not ringing.
 *
 * A ticket is rung for once, and spent when its byte is taken, whoever takes it and for whatever reason: who
 * goes on to sleep has to draw another. Numbers are not used again before 2^31 others, so the waker's `seen`
 * is never taken for a new one. Killed between W1 and the byte, a waker wakes by its hang-up; killed before
 * S5, a sleeper costs the waker one byte that nobody reads.
 *
 * spec/wakeup.pml has every interleaving of this over one ring, with what channels make of it, either side
 * killed anywhere, and membarrier(2) refused to one or both; spec/channel.pml has two rings at once,
 * spec/lanes.pml several with one bell, spec/gather.pml several bells with one sleeper; spec/relacy/ compiles
 * this file and checks the orders. `./dev models` runs them all. That a store is in memory after
 * WAKEUP_SETTLE_NS, or a slice, is what they take for granted.
 *
 * Which sockets are a pair matters for speed alone: those of both sides' receivers, so that a side's sender
 * rings through the socket in which its receiver sleeps. Who takes a byte there frees it, by which the kernel
 * gives the other end room to write, and wakes who sleeps in that end's recv(2) (sock_wfree(),
 * unix_write_space() of net/). So who has asked and sleeps is woken when the question is taken, not when the
 * answer is there, and two CPUs come out of their sleep at the same time: 5 of 34 us of a round trip. A sleep
 * ended so goes on in the kernel if there is no answer by then; and one in poll(2) or an epoll, which ask for
 * bytes and not for room, is not ended.
 *
 * A receiver in an event loop has another bell, an eventfd(2) that counts a semaphore and is full from the
 * beginning. The waker takes one from it, and all who poll it for room are told of that (EPOLLOUT, shown once
 * a time by EPOLLET). Nobody has to read it afterwards, nothing is allocated, and nothing can be held up: the
 * kernel has a spinlock there and no mutex, and RWF_NOWAIT is of the call, where the other side may clear
 * O_NONBLOCK of what both hold. A byte into a socket takes 1 to 2 us longer, and may not be left unread. To
 * put one into an eventfd could be made to wait, by filling it; to put one into a pipe, even without
 * waiting, by a reader whose page fault is never answered: read(2) holds the pipe's mutex meanwhile. The
 * ticket says which bell its sleeper hears (WAKEUP_LOOP), and whoever cannot ring that one rings the socket,
 * which such a loop polls as well.
 *
 * Who publishes seldom finds its sleeper asleep each time, and rings; one that was killed asleep has left its
 * ticket, and the first bell for it rings in a socket without another end (EPIPE). The other bells tell
 * nothing of that: an eventfd is ours as well, and a word is memory. And one that was killed awake is not
 * rung for any more. So waker_call() asks the kernel, once a tick of its clock, at no cost to what does not
 * come here: a bell, and the WAKER_FENCES publications after it. Who never sleeps (it looks all the time, or
 * has always more to do) is not asked after: its death is found when there is no room.
 *
 * A byte may be read after what it told of was seen already: then a sleep ends for nothing. A hang-up of the
 * socket tells that the other side is gone, killed or not, within the time the kernel takes to close its
 * files. The socket is never full for long: the waker writes one byte for each ticket, and a sleeper reads
 * all there is. A hostile one may write as many as it likes: a read takes so many and no more, and the next
 * look at the ring, or the deadline, is never far.
 */
#ifndef NARU_SHM_WAKEUP_H
#define NARU_SHM_WAKEUP_H

#include <stdbool.h>

#include "shm/layout.h"

struct waker {
    const _Atomic uint32_t *ticket; /* of the sleeper, in its page */
    uint32_t seen;                  /* what it was last */
    /* W2 is to be one: for so many publications, or WAKER_ALWAYS, which another thread may take away while
     * this one looks: that is harmless. */
    _Atomic uint32_t fences;
    int fd;                 /* our end of the sleeper's socket; a waker does not own it */
    uint32_t asked;         /* clock_tick(), when it asked last */
    _Atomic uint32_t *bell; /* a word that is rung in its place (shm/bell.h); NULL: the socket */
    _Atomic uint32_t *says; /* in our own page, whether it fences for now; NULL: it does not */
    int loop_fd;            /* the eventfd for tickets with WAKEUP_LOOP, likewise; -1: none, or no use */
    void (*ask)(struct waker *w); /* whether there is anybody, of the kernel; NULL: nobody wants to know */
};

/* In a ticket: its sleeper polls its eventfd, and its socket beside it. */
#define WAKEUP_LOOP (UINT32_C(1) << 31)

#define WAKER_ALWAYS (UINT32_C(1) << 31) /* it could not register, or has not yet */

#ifndef WAKER_FENCES    /* a model has fewer */
#define WAKER_FENCES 32 /* some 20 ns each: less than one membarrier(2) */
#endif

struct sleeper {
    _Atomic uint32_t *ticket; /* in our own page */
    uint32_t last;
    bool unsure;                    /* S2 failed: sleep no longer than WAKEUP_SLICE_NS */
    const _Atomic uint32_t *fenced; /* in the waker's page, whether it fences; NULL: it does not say */
    int fd;                         /* likewise */
    _Atomic uint32_t *bell;         /* likewise, the other side's; and then also */
    bool (*is_gone)(void *peer);    /* whether the other side is: asks the kernel */
    void *peer;
    int64_t ask_at; /* when it is asked next; 0: not before the first sleep */
};

enum { WAKEUP_SLICE_NS = 1000 * 1000, WAKEUP_SETTLE_NS = 100 * 1000 };

/* Registers this process for membarrier(2); whether the kernel did. Cheap to repeat; a child of fork() has
 * to. */
bool wakeup_register(void);

/* Rings. Waits for no peer: a socket that is full holds bytes that its reader has to read anyway. Where the
 * kernel has no memory for a byte, it tries for a second, and then hangs up the socket. */
void waker_ring(struct waker *w);

/* W2 and W3: whether the sleeper has another ticket than last time, or none any more, or W2 is to be a fence:
 * then waker_call(). */
static inline bool waker_is_called(const struct waker *w)
{
    atomic_signal_fence(memory_order_seq_cst);
    /* relaxed: the barriers order it, and it publishes nothing */
    return atomic_load_explicit(&w->fences, memory_order_relaxed) != 0 ||
           atomic_load_explicit(w->ticket, memory_order_relaxed) != w->seen;
}

/* Fences if it is to, looks again, and rings for a new one: one that was left since was the sleeper's, who is
 * awake. And asks whether there is anybody, if the bell has nobody who could hear it, or from time to time.
 */
void waker_call(struct waker *w);

static inline void waker_published(struct waker *w)
{
    if (__builtin_expect(waker_is_called(w), 0))
        waker_call(w);
}

/* Whether each waker_call() asks. Only tests change it, which want to know what a process does next. */
extern bool waker_always_asks;

/* S1 and S2. Then look once more. */
void sleeper_arm(struct sleeper *s);

/* Likewise, with WAKEUP_LOOP. */
void sleeper_arm_for_loop(struct sleeper *s);

static inline bool sleeper_is_armed(const struct sleeper *s)
{
    return atomic_load_explicit(s->ticket, memory_order_relaxed) != 0; /* our own */
}

static inline bool sleeper_is_armed_for_loop(const struct sleeper *s)
{
    return (atomic_load_explicit(s->ticket, memory_order_relaxed) & WAKEUP_LOOP) != 0;
}

/* S2 for whoever sleeps in a loop of its own, which knows nothing of slices: if sleeper_arm() is unsure,
 * waits WAKEUP_SETTLE_NS. What the waker published before it could see S1 has left its store buffer by then,
 * and S3 finds it; that takes tens of nanoseconds, though no manual promises it. */
void sleeper_settle(const struct sleeper *s);

/* S5. */
void sleeper_disarm(struct sleeper *s);

/* S4 without a limit. 0: woken, or look again; 1: the other side is gone; -EINTR. The socket may be
 * non-blocking: the other side may hold it, too. */
int sleeper_sleep(struct sleeper *s);

/* Takes what rang, without waiting. 0: something did, and the ticket is spent, as nobody rings twice for one;
 * 1: the other side is gone; -EAGAIN: nothing. */
int sleeper_take(struct sleeper *s);

#endif
