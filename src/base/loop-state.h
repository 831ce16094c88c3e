/* SPDX-License-Identifier: MIT */
/*
 * What a loop and its sources are made of, for loop.c (which runs them) and source.c (which adds, changes and
 * removes them) alone.
 *
 * Invariants
 * I1  A source that epoll knows is allocated: epoll hands back pointers. A removed source is taken out of
 *     epoll at once, but freed only after the batch of events it may stand in (`ending`). If epoll will not
 *     take it out (the caller closed the descriptor first, and a duplicate may live on), it stays allocated
 *     until the loop ends (`haunting`).
 * I2  A dead source is never called.
 * I3  The timers' heap has room for every timer, so that setting one cannot fail.
 * I4  Outside naru_loop_run_once(), the timerfd is set to the earliest deadline.
 */
#ifndef NARU_BASE_LOOP_STATE_H
#define NARU_BASE_LOOP_STATE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/fork.h"
#include "base/list.h"
#include "base/loop.h"
#include "base/timers.h"

struct naru_source {
    struct naru_loop *loop;
    struct list node;    /* in loop->sources, ending or haunting */
    struct list wanting; /* in loop->wanting, if hooks->want */
    bool dead;
    naru_loop_call *call;
    void *data;

    int fd;          /* -1: a timer */
    uint32_t events; /* as epoll knows them; 0: epoll does not know the descriptor */
    const struct source_hooks *hooks;
    void *state;

    struct timer timer;
    int64_t interval;
};

struct deferred {
    struct list node;
    int (*call)(void *data);
    void *data;
};

struct naru_loop {
    int epoll_fd, timer_fd, wake_fd;
    struct fork_guard guard;
    bool running;
    _Atomic bool stopped;
    struct list sources, ending, haunting, wanting;

    struct timers timers;
    size_t timer_count;   /* timers that exist, set or not */
    int64_t timer_fd_set; /* the deadline that timer_fd is set to; NARU_FOREVER: none */

    pthread_mutex_t lock; /* of the list below */
    struct list deferred;
};

/* Tells epoll what to watch a source's descriptor for. 0 or the explained -errno. */
int source_set_events(struct naru_source *source, uint32_t events);

/* Frees all sources of a list. */
void source_end_all(struct list *sources);

/* Keeps I4. A deadline that has passed makes the timerfd readable at once. */
void loop_set_timer_fd(struct naru_loop *loop);

#endif
