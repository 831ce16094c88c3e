/* SPDX-License-Identifier: MIT */
/* A link's beginning and end. */
#include "shm/link.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stddef.h>

#include "base/error.h"
#include "base/fd.h"
#include "base/list.h"

void shm_link_fill(struct shm_page *page, uint64_t ring, uint64_t pool)
{
    page->magic = SHM_MAGIC;
    page->layout = SHM_LAYOUT;
    page->line = SHM_LINE;
    page->ring = ring;
    page->pool = pool;
    page->lanes = 1;
}

int shm_link_make(const char *what, uint64_t ring, uint64_t pool, struct sealed *ret_own, int *ret_fd)
{
    return shm_link_make_lanes(what, ring, 1, pool, ret_own, ret_fd);
}

int shm_link_make_lanes(const char *what, uint64_t ring, unsigned lanes, uint64_t pool,
                        struct sealed *ret_own, int *ret_fd)
{
    struct shm_page *page;
    int r = sealed_make_more(what, "naru", sizeof *page, ring, lanes - 1, pool, ret_own, ret_fd);

    if (r < 0)
        return r;
    page = (struct shm_page *)(void *)ret_own->base;
    shm_link_fill(page, ring, pool);
    page->lanes = lanes;
    return 0;
}

void shm_link_forsake(struct sealed *own)
{
    if (own->base) /* release: the other side's acquire, which then sees that the ring is empty */
        atomic_store_explicit(&((struct shm_page *)(void *)own->base)->end, SHM_CLOSED, memory_order_release);
    sealed_deinit(own);
}

int shm_link_attach(const char *what, int fd, uint64_t ring, uint64_t pool_max, struct sealed *ret_theirs)
{
    return shm_link_attach_lanes(what, fd, ring, 1, pool_max, ret_theirs);
}

int shm_link_attach_lanes(const char *what, int fd, uint64_t ring, unsigned lanes, uint64_t pool_max,
                          struct sealed *ret_theirs)
{
    struct sealed theirs;
    const struct shm_page *page;
    int r =
        sealed_attach_more(what, fd, sizeof *page, ring, lanes - 1, SHM_POOL_MOST, (size_t)pool_max, &theirs);

    if (r < 0)
        return r;
    page = (const struct shm_page *)(const void *)theirs.base;
    if (page->magic != SHM_MAGIC || page->layout != SHM_LAYOUT || page->line != SHM_LINE ||
        page->ring != ring || page->lanes != lanes || page->pool < theirs.pool ||
        (page->pool > theirs.pool && theirs.pool < pool_max)) {
        sealed_deinit(&theirs);
        return error_set(EPROTO, "%s: the peer's memory is not laid out as layout %d of naru", what,
                         SHM_LAYOUT);
    }
    *ret_theirs = theirs;
    return 0;
}

/* Of their_receiver. Its socket says what it says to who sleeps in it, and takes nothing. */
static void ask_after_receiver(struct waker *w)
{
    struct shm_link *l = list_entry(w, struct shm_link, their_receiver);
    struct pollfd poll_fd = {.fd = w->fd, .events = POLLRDHUP};
    int saved = errno;

    if (w->bell ? l->receiver.is_gone(l->receiver.peer)
                : fd_poll(&poll_fd, 1, 0) == 1 && (poll_fd.revents & POLLRDHUP))
        shm_link_lose(l);
    errno = saved;
}

void shm_link_init(struct shm_link *l, struct sealed *own, struct sealed *theirs, int rfd, int wfd)
{
    *l = (struct shm_link){.own = *own, .theirs = *theirs};
    *own = *theirs = (struct sealed){0};
    l->page = (struct shm_page *)(void *)l->own.base;
    l->their_page = (const struct shm_page *)(const void *)l->theirs.base;
    l->lanes_out = (unsigned)l->own.more + 1;
    l->lanes_in = (unsigned)l->theirs.more + 1;
    for (unsigned i = 0; i < l->lanes_out; i++)
        ring_writer_init(shm_link_tx(l, i), sealed_ring_at(&l->own, i), l->own.ring,
                         &l->their_page->lane[i].taken);
    for (unsigned i = 0; i < l->lanes_in; i++)
        ring_reader_init(shm_link_rx(l, i), sealed_ring_at(&l->theirs, i), l->theirs.ring,
                         &l->page->lane[i].taken);
    l->their_receiver = (struct waker){.ticket = &l->their_page->receiver_asleep,
                                       .fences = WAKER_ALWAYS,
                                       .fd = rfd,
                                       .says = &l->page->sender_fences,
                                       .loop_fd = -1,
                                       .ask = ask_after_receiver};
    l->their_sender = (struct waker){.ticket = &l->their_page->sender_asleep,
                                     .fences = WAKER_ALWAYS,
                                     .fd = wfd,
                                     .says = &l->page->receiver_fences,
                                     .loop_fd = -1};
    l->receiver = (struct sleeper){
        .ticket = &l->page->receiver_asleep, .fenced = &l->their_page->sender_fences, .fd = rfd};
    l->sender = (struct sleeper){
        .ticket = &l->page->sender_asleep, .fenced = &l->their_page->receiver_fences, .fd = wfd};
    l->receive_up_to = l->lanes_in == 1 ? SHM_FAR : 0;
}

static void always_fence(struct waker *w, bool always)
{
    if (always)
        (void)atomic_fetch_or_explicit(&w->fences, WAKER_ALWAYS, memory_order_relaxed);
    else
        (void)atomic_fetch_and_explicit(&w->fences, ~WAKER_ALWAYS, memory_order_relaxed);
}

void shm_link_claim(struct shm_link *l)
{
    bool registered = wakeup_register();

    /* relaxed: with a fence or without, what a waker does is right */
    always_fence(&l->their_receiver, !registered);
    always_fence(&l->their_sender, !registered);
}

void shm_link_end(struct shm_link *l, enum shm_end end)
{
    atomic_store_explicit(&l->page->end, end, memory_order_release); /* [P3] after every commit */
    waker_published(&l->their_receiver);
    if (end == SHM_CLOSED) /* a waker is one thread's, and this one the receiving thread's */
        waker_published(&l->their_sender);
}

/* Each of the two words has a last value, which nothing but itself follows. */
static void end_short_ways(struct shm_link *l)
{
    atomic_store(&l->send_while, SHM_NO_END);
    atomic_store(&l->receive_up_to, 0);
}

void shm_link_lose(struct shm_link *l)
{
    l->gone = true;
    end_short_ways(l);
}

void shm_link_break(struct shm_link *l)
{
    l->broken = true;
    end_short_ways(l);
}

void shm_link_go_on(struct shm_link *l)
{
    uint64_t up_to = atomic_load(&l->receive_up_to);

    while (up_to && up_to <= l->rx.position &&
           !atomic_compare_exchange_weak(&l->receive_up_to, &up_to, (l->rx.position | (SHM_FAR - 1)) + 1))
        ;
}

enum shm_end shm_link_note_end(struct shm_link *l)
{
    uint32_t said = atomic_load(&l->said), end;
    uint64_t going_on = SHM_GOES_ON;

    /* After `said`: the thread that stored it had loaded it here, so this load finds as much, or the other
     * side took it back. */
    end = atomic_load_explicit(&l->their_page->end, memory_order_acquire); /* [C3] */
    if (end < said || end > SHM_CLOSED) {
        shm_link_break(l);
        return SHM_CLOSED;
    }
    while (said < end && !atomic_compare_exchange_weak(&l->said, &said, end))
        ;
    if (end == SHM_CLOSED)
        atomic_store(&l->send_while, SHM_NO_END);
    else
        while (going_on < end &&
               !atomic_compare_exchange_weak(&l->send_while, &going_on, (uint64_t)SHM_FINISHED))
            ;
    return (enum shm_end)end;
}

void shm_link_deinit(struct shm_link *l)
{
    sealed_deinit(&l->own);
    sealed_deinit(&l->theirs);
}
