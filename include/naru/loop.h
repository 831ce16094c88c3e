/* SPDX-License-Identifier: MIT */
/*
 * An event loop: many descriptors, channels, listeners, timers and signals (naru/signal.h), one thread.
 *
 * It is small on purpose, and naru needs it nowhere: every channel has a descriptor of its own for any other
 * loop (naru_channel_fd()), and naru_loop_fd() lets this one live inside another.
 *
 * Threads: a loop and its sources belong to one thread. naru_loop_defer(), naru_loop_wake() and
 * naru_loop_stop() may be called from any thread; the last two also from signal handlers.
 * Fork: a loop belongs to the process that made it; in a child its calls return -ECHILD, and
 * naru_loop_free() there frees the memory.
 */
#ifndef NARU_LOOP_H
#define NARU_LOOP_H

#include <stdint.h>

#include "naru/channel.h"
#include "naru/export.h"
#include "naru/time.h"

NARU_BEGIN

struct naru_loop;
struct naru_source; /* one thing that a loop watches */

/* What a callback may be told besides NARU_IN and NARU_OUT; both come unasked. The values are poll(2)'s. */
enum { NARU_ERROR = 0x008, NARU_HANGUP = 0x010 };

/*
 * Called on the loop's thread. events: what is ready (0 for a timer). data: as given with the source.
 * Returns 0 to go on. A negative value ends naru_loop_run() or naru_loop_run_once(), which returns it.
 *
 * It may add and remove sources, its own and others: one that was removed is not called again, not even for
 * what had been found ready already. It may not run the same loop again (-EBUSY). NULL in the place of a
 * callback is -EINVAL.
 */
typedef int naru_loop_call(struct naru_source *source, uint32_t events, void *data);

/* *ret_loop: the caller's, ended with naru_loop_free(). -EMFILE, -ENFILE, -ENOMEM. */
NARU_API NARU_MUST_CHECK int naru_loop_new(struct naru_loop **ret_loop);

/* Ends the loop and all its sources; calls deferred and not yet made are dropped. Not from a callback of the
 * loop. NULL is allowed. Returns NULL. */
NARU_API struct naru_loop *naru_loop_free(struct naru_loop *loop);

/*
 * Watches a descriptor, level-triggered, for NARU_IN and NARU_OUT in events; 0 watches for nothing, not even
 * for the hang-up. fd stays the caller's, who removes the source before closing it: epoll(7) goes on
 * reporting a closed descriptor that has a duplicate.
 *
 * *ret_source: ended with naru_source_remove() or with the loop; ret_source may be NULL.
 * -EPERM: the descriptor cannot be waited for (a regular file is always ready: read it directly).
 * -EEXIST: this loop watches it already. -EBADF, -ENOMEM, -ECHILD. -ENOSPC: fs.epoll.max_user_watches.
 */
NARU_API NARU_MUST_CHECK int naru_loop_add_fd(struct naru_loop *loop, int fd, uint32_t events,
                                              naru_loop_call *call, void *data,
                                              struct naru_source **ret_source);

/* Changes what a descriptor is watched for. -EINVAL: the source is not of naru_loop_add_fd(). Else as
 * naru_loop_add_fd(). */
NARU_API NARU_MUST_CHECK int naru_source_set_events(struct naru_source *source, uint32_t events);

/*
 * Calls after delay_ns nanoseconds, and then every interval_ns, or once if that is 0; the source stays until
 * it is removed. NARU_FOREVER as delay: not until naru_source_set_timer(). Never early. When the loop was
 * late by whole intervals it calls once, not once for each. CLOCK_MONOTONIC: time asleep (suspend) does not
 * count. -EINVAL: negative times. -EMFILE, -ENFILE, -ENOMEM, -ECHILD.
 */
NARU_API NARU_MUST_CHECK int naru_loop_add_timer(struct naru_loop *loop, int64_t delay_ns,
                                                 int64_t interval_ns, naru_loop_call *call, void *data,
                                                 struct naru_source **ret_source);

/* Sets a timer anew. -EINVAL: negative times, or not a timer. -ECHILD. */
NARU_API NARU_MUST_CHECK int naru_source_set_timer(struct naru_source *source, int64_t delay_ns,
                                                   int64_t interval_ns);

/*
 * Watches a channel for whatever it wants (naru_channel_want()), which the loop looks up before each wait, so
 * that it does not matter where in the program the channel was used. The callback then calls naru_recv() and
 * naru_send() with NARU_NOWAIT until -EAGAIN. The channel stays the caller's, who removes the source before
 * closing it. Errors of naru_channel_fd() (-ENOTSUP: the mechanism has no descriptor) and naru_loop_add_fd().
 */
NARU_API NARU_MUST_CHECK int naru_loop_add_channel(struct naru_loop *loop, struct naru_channel *ch,
                                                   naru_loop_call *call, void *data,
                                                   struct naru_source **ret_source);

/* Likewise a listener: the callback calls naru_accept() with NARU_NOWAIT. */
NARU_API NARU_MUST_CHECK int naru_loop_add_listener(struct naru_loop *loop, struct naru_listener *l,
                                                    naru_loop_call *call, void *data,
                                                    struct naru_source **ret_source);

/* Ends a source. At any time on the loop's thread, also in its own callback. NULL is allowed. Returns NULL.
 */
NARU_API struct naru_source *naru_source_remove(struct naru_source *source);

/* The loop of a source. Never fails. */
NARU_API struct naru_loop *naru_source_loop(const struct naru_source *source);

/*
 * Makes one call on the loop's thread, soon, in the order of the naru_loop_defer()s. Any thread. The result
 * counts as a callback's does. -ENOMEM, -ECHILD. Not async-signal-safe.
 */
NARU_API NARU_MUST_CHECK int naru_loop_defer(struct naru_loop *loop, int (*call)(void *data), void *data);

/* Ends the present or else the next wait of naru_loop_run_once(). Any thread, async-signal-safe, keeps
 * errno. */
NARU_API void naru_loop_wake(struct naru_loop *loop);

/* Makes the present or else the next naru_loop_run() return 0 before it waits again. Any thread,
 * async-signal-safe, keeps errno. */
NARU_API void naru_loop_stop(struct naru_loop *loop);

/*
 * Waits once, for at most timeout_ns, and makes the calls that are due. Returns how many it made: 0 when the
 * time was up or naru_loop_wake() ended the wait. A signal handler that runs meanwhile does not.
 * Negative: what a callback returned (calls not yet made follow with the next run), or -EBUSY (from a
 * callback of this loop), -ECHILD.
 */
NARU_API NARU_MUST_CHECK int naru_loop_run_once(struct naru_loop *loop, int64_t timeout_ns);

/* Runs until naru_loop_stop(), 0, or a callback's negative value. A loop with no source waits all the same:
 * for other threads' naru_loop_defer(). */
NARU_API NARU_MUST_CHECK int naru_loop_run(struct naru_loop *loop);

/* A descriptor for another loop: readable when naru_loop_run_once(loop, NARU_NOWAIT) has something to do. It
 * is the loop's: do not close or read it. Channels are asked for what they want at the end of each
 * naru_loop_run_once() only, so a channel used between runs needs one. */
NARU_API NARU_MUST_CHECK int naru_loop_fd(struct naru_loop *loop);

NARU_END

#endif
