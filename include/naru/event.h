/* SPDX-License-Identifier: MIT */
/*
 * Events: set or not set; waiting goes on once it is set.
 *   auto-reset     letting one waiter through resets it: each set lets one through (sets do not add up)
 *   manual-reset   it stays set, letting everybody through, until naru_event_reset()
 *
 * What a setter wrote before naru_event_set(), a waiter that it lets through sees. What naru/sync.h says
 * holds here: where it may live, trust, timeouts, threads and fork. Nobody holds an event.
 */
#ifndef NARU_EVENT_H
#define NARU_EVENT_H

#include "naru/sync.h"

NARU_BEGIN

struct naru_event {
    uint64_t opaque[8];
};

enum naru_event_reset_mode { NARU_EVENT_AUTO = 0, NARU_EVENT_MANUAL = 1 };

/* Makes an event that is not set in memory that nobody uses yet. 0; -EINVAL: mode, or not aligned to 8. */
NARU_API NARU_MUST_CHECK int naru_event_init(struct naru_event *event, enum naru_event_reset_mode mode);

/* Ends it; nobody may be waiting. 0; -EPROTO. Not needed for named ones. */
NARU_API int naru_event_deinit(struct naru_event *event);

/* Opens or makes the event of that name; naru/sync.h lists the errors. -EINVAL: it exists in the other mode.
 */
NARU_API NARU_MUST_CHECK int naru_event_open(const char *name, const struct naru_sync_options *options,
                                             enum naru_event_reset_mode mode, struct naru_event **ret_event);

/* Unmaps what naru_event_open() gave. Returns NULL; NULL is allowed. */
NARU_API struct naru_event *naru_event_close(struct naru_event *event);

/* Sets it. Never waits; on an event that is one it is async-signal-safe. 0; -EPROTO. */
NARU_API int naru_event_set(struct naru_event *event);

/* Resets it. Never waits. 0; -EPROTO. */
NARU_API int naru_event_reset(struct naru_event *event);

/*
 * Lets through who waits at this moment, and leaves it not set. Manual: all of them. Auto: one, if any waits;
 * as with sets, two pulses in a row may let through the same one. Who begins to wait afterwards is not let
 * through, even if the one who was woken is killed on its way: where that can happen, set it instead.
 * 0; -EPROTO.
 */
NARU_API int naru_event_pulse(struct naru_event *event);

/* Waits until it is set. 0; -EAGAIN, -ETIMEDOUT; -EPROTO. */
NARU_API NARU_MUST_CHECK int naru_event_wait(struct naru_event *event, int64_t timeout_ns);

/* 1: set, 0: not set, at this moment, resetting nothing; -EPROTO. */
NARU_API int naru_event_is_set(const struct naru_event *event);

/* NARU_EVENT_AUTO or NARU_EVENT_MANUAL; -EPROTO. */
NARU_API int naru_event_mode(const struct naru_event *event);

NARU_END

#endif
