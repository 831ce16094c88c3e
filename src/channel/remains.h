/* SPDX-License-Identifier: MIT */
/*
 * For channels that connect again (reopen.h): the guts of a connection, taken out of its channel, and what of
 * a lost connection is still needed. That goes on in a channel of its own: messages that nobody received,
 * which come before those of the next connection, and the place of a loan that is out.
 */
#ifndef NARU_CHANNEL_REMAINS_H
#define NARU_CHANNEL_REMAINS_H

#include "channel/channel.h"

/* What of the last connection is still needed; it goes with the last of these. */
enum holds {
    HOLDS_NOTHING = 0,
    HOLDS_MESSAGES = 1, /* that were not received */
    HOLDS_LOAN = 2      /* which is out */
};

struct remains {
    struct naru_channel *old; /* with the guts of a lost connection, as long as that holds something */
    unsigned holds;           /* enum holds, together */
};

/* Exchanges what belongs to a connection; the handle, its counters and its descriptor for event loops stay.
 */
void guts_swap(struct naru_channel *a, struct naru_channel *b);

/* ch's connection is lost, and husk has its guts now, which hold that much: kept for that, or closed. */
void remains_keep(struct remains *m, struct naru_channel *ch, struct naru_channel *husk, unsigned holds);

/* The last connection holds no more than that: the only way to its end. */
void remains_hold_only(struct remains *m, unsigned holds);

/* What was lost within the old connection has been lost by ch. */
void remains_take_drops(struct naru_channel *ch, struct naru_channel *old);

#endif
