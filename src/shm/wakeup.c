/* SPDX-License-Identifier: MIT */
/* The sleeper's side, and the bell; the waker's hot path is inline in wakeup.h. */
#include "shm/wakeup.h"

#include <errno.h>
#include <linux/membarrier.h>
#include <poll.h>
#include <sched.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/discard.h"
#include "base/fd.h"
#include "base/probe.h"
#include "shm/bell.h"

/* Of 64 bytes each: a socket holds a few hundred of such small ones (net.core.wmem_default). */
enum { DRAIN_READS = 16 };

enum { PASSED_MOST = 253 }; /* SCM_MAX_FD of include/net/scm.h */

/* How long a bell is tried for which the kernel has no memory. */
enum { WAKER_TRIES_NS = 1000 * 1000 * 1000 };

bool waker_always_asks;

static int barrier(int command)
{
    return (int)syscall(SYS_membarrier, command, 0, 0);
}

bool wakeup_register(void)
{
    return barrier(MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED) == 0;
}

/* 0, or why nobody hears it. EAGAIN: it is full of bytes that wake as well; EPIPE, ECONNRESET: there is
 * nobody to hear it; EBADF: a child has no bells. */
static int ring_socket(struct waker *w)
{
    static const char byte = 1;

    if (send(w->fd, &byte, 1, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0 || errno == EAGAIN || errno == EBADF)
        return 0;
    if (errno != EPIPE && errno != ECONNRESET)
        return errno;
    if (w->ask)
        w->ask(w);
    return 0;
}

/* A wake-up must not be lost: what was published last would never be seen. What the kernel has no memory for
 * is tried again; what a sandbox or a security module refuses stays refused. To hang up takes no memory and
 * seldom a permission: who sleeps there wakes, finds what there is, and then that this side is gone, which is
 * better than to wait for ever. */
static void ring_unheard(struct waker *w, int code)
{
    enum { YIELDS = 1000 };
    const struct timespec pause = {.tv_nsec = WAKEUP_SLICE_NS};
    int64_t until = clock_now() + WAKER_TRIES_NS;

    for (int tries = 0; (code == ENOBUFS || code == ENOMEM) && clock_now() < until; tries++) {
        if (tries < YIELDS)
            (void)sched_yield();
        else
            (void)clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, NULL);
        code = ring_socket(w);
        if (code == 0)
            return;
    }
    (void)shutdown(w->fd, SHUT_WR);
}

/* Takes one from the eventfd: that wakes. Whether it could; the other side may have emptied it, and a sandbox
 * refuse the call, and then it is not tried again. */
static bool ring_loop(struct waker *w)
{
    uint64_t one;
    struct iovec iov = {&one, sizeof one};

    if (w->loop_fd < 0)
        return false;
    if (preadv2(w->loop_fd, &iov, 1, -1, RWF_NOWAIT) == (ssize_t)sizeof one)
        return true;
    w->loop_fd = -1;
    return false;
}

void waker_ring(struct waker *w)
{
    int saved = errno, code;

    PROBE1(ring, w->fd);
    if (w->bell) {
        bell_ring(w);
        return;
    }
    if ((w->seen & WAKEUP_LOOP) && ring_loop(w)) {
        errno = saved;
        return;
    }
    code = ring_socket(w);
    if (code != 0)
        ring_unheard(w, code);
    errno = saved;
}

/* Of `fences`: how many publications. Another thread takes WAKER_ALWAYS away, and nothing else. */
static uint32_t count_of(uint32_t fences)
{
    return fences & ~WAKER_ALWAYS;
}

static void fence_for_a_while(struct waker *w, uint32_t fences)
{
    if (!w->says)
        return;
    if (count_of(fences) == 0)
        atomic_store_explicit(w->says, 1, memory_order_release); /* [P7] W4 */
    (void)atomic_fetch_add_explicit(&w->fences, WAKER_FENCES - count_of(fences), memory_order_relaxed);
}

static void fence_once_less(struct waker *w, uint32_t fences)
{
    if (count_of(fences) == 0)
        return;
    (void)atomic_fetch_sub_explicit(&w->fences, 1, memory_order_relaxed);
    if (count_of(fences) > 1)
        return;
    atomic_store_explicit(w->says, 0, memory_order_relaxed); /* W5 */
    atomic_thread_fence(memory_order_seq_cst);
}

static void ask_from_time_to_time(struct waker *w)
{
    uint32_t tick;

    if (!w->ask)
        return;
    tick = clock_tick();
    if (tick == w->asked && !waker_always_asks)
        return;
    w->asked = tick;
    w->ask(w);
}

void waker_call(struct waker *w)
{
    uint32_t fences = atomic_load_explicit(&w->fences, memory_order_relaxed), ticket;

    if (fences)
        atomic_thread_fence(memory_order_seq_cst); /* W2 */
    ticket = atomic_load_explicit(w->ticket, memory_order_relaxed);
    if (ticket == w->seen || !ticket)
        fence_once_less(w, fences);
    else
        fence_for_a_while(w, fences);
    if (ticket != w->seen) {
        w->seen = ticket;
        if (ticket)
            waker_ring(w);
    } else if (count_of(fences) == 0) {
        return; /* nobody has slept for long, and it comes here each time: WAKER_ALWAYS */
    }
    ask_from_time_to_time(w);
}

static void arm(struct sleeper *s, uint32_t how)
{
    uint32_t number = (s->last + 1) & ~WAKEUP_LOOP;

    s->last = number ? number : 1;
    atomic_store_explicit(s->ticket, s->last | how, memory_order_relaxed); /* S1; S2 orders it */
    atomic_thread_fence(memory_order_seq_cst);
    s->unsure = !(s->fenced && atomic_load_explicit(s->fenced, memory_order_acquire)) && /* [C7] */
                barrier(MEMBARRIER_CMD_GLOBAL_EXPEDITED) < 0;
}

void sleeper_arm(struct sleeper *s)
{
    arm(s, 0);
}

void sleeper_arm_for_loop(struct sleeper *s)
{
    arm(s, WAKEUP_LOOP);
}

/* recv(2). What a hostile peer put beside its bytes the kernel would close here and now, and wait for it. */
static ssize_t recv_alone(int fd, void *bytes, size_t capacity, int flags)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(PASSED_MOST * sizeof(int))];
    } control;
    struct iovec iov = {bytes, capacity};
    struct msghdr header = {.msg_iov = &iov,
                            .msg_iovlen = 1,
                            .msg_control = control.bytes,
                            .msg_controllen = sizeof control.bytes};
    ssize_t n = recvmsg(fd, &header, flags | MSG_CMSG_CLOEXEC);
    int fds[PASSED_MOST];

    if (n > 0)
        discard_fds(fds, fd_received(&header, fds));
    return n;
}

/* Reads all that an honest peer can have written, and then some. 0: something; 1: the end; or -EAGAIN,
 * -EINTR. */
static int drain(int fd, int flags)
{
    for (int i = 0; i < DRAIN_READS; i++) {
        char bytes[64];
        ssize_t n = recv_alone(fd, bytes, sizeof bytes, flags);

        if (n == 0 || (n < 0 && errno == ECONNRESET)) /* closed with bytes of ours unread */
            return 1;
        if (n < 0)
            return i > 0 ? 0 : errno == EINTR ? -EINTR : -EAGAIN;
        if (n < (ssize_t)sizeof bytes)
            return 0;
        flags = MSG_DONTWAIT;
    }
    return 0; /* it goes on ringing: what is left wakes the next sleep */
}

void sleeper_settle(const struct sleeper *s)
{
    struct timespec pause = {.tv_nsec = WAKEUP_SETTLE_NS};

    while (s->unsure && clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, &pause) == EINTR)
        ;
}

void sleeper_disarm(struct sleeper *s)
{
    atomic_store_explicit(s->ticket, 0, memory_order_relaxed); /* seen late, it costs the waker a byte */
}

int sleeper_sleep(struct sleeper *s)
{
    struct pollfd poll_fd = {.fd = s->fd, .events = POLLIN};
    int r;

    if (s->bell)
        return bell_sleep(s, NARU_FOREVER);
    r = s->unsure ? -EAGAIN : drain(s->fd, 0);
    if (r != -EAGAIN)
        return r;
    r = fd_poll(&poll_fd, 1, s->unsure ? clock_now() + WAKEUP_SLICE_NS : NARU_FOREVER);
    if (r > 0)
        r = drain(s->fd, MSG_DONTWAIT);
    return r == -EAGAIN ? 0 : r;
}

int sleeper_take(struct sleeper *s)
{
    int r;

    if (s->bell)
        return bell_take(s);
    do
        r = drain(s->fd, MSG_DONTWAIT);
    while (r == -EINTR);
    if (r == 0)
        sleeper_disarm(s);
    return r;
}
