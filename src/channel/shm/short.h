/* SPDX-License-Identifier: MIT */
/* What the short ways of shm have in common: see short.c. */
#ifndef NARU_CHANNEL_SHM_SHORT_H
#define NARU_CHANNEL_SHM_SHORT_H

#include "channel/shm/shm.h"

#define OUT_OF_LINE static __attribute__((noinline))
#define IN_LINE     static inline __attribute__((always_inline))

/* What a short way ends in where somebody sleeps. */
static __attribute__((noinline, unused)) ssize_t shm_wake(struct waker *w, ssize_t result)
{
    waker_call(w);
    return result;
}

enum { SHM_PAUSE = 4 }; /* looks without a pause that one with it takes the time of, or more */

/* Between two looks: who looks at once again takes the line away from the writer, who has not written it all.
 * 3 to 5 % of a round trip of 8 bytes. */
IN_LINE void shm_let_write(void)
{
#ifdef __x86_64__
    __builtin_ia32_pause();
#endif
}

enum {
    SHM_SOON = 3, /* looks at most that a stream's next message takes to come, once one has to wait */
    SHM_RUN = 2,  /* messages at least that it brings between two waits: an answer comes alone */
    SHM_LEAD = 24 /* pauses that its sender is then left alone for: 0.5 us */
};

/* How many pauses to make where nothing was found. A receiver that is as fast as its sender takes each line
 * away as soon as one word of it is written, and the sender waits to have it back for the next: both go at
 * the pace at which a line goes to and fro. One that leaves the sender alone for a while finds many messages,
 * whose lines come one behind the other: by itself that is a third of the time of a stream of 64 bytes. So in
 * a stream, and nowhere else: some have come since the last wait, which was short, and nothing was sent. */
IN_LINE int shm_lead(struct naru_channel *ch, struct shm *shm, int looks)
{
    uint64_t sent = atomic_load_explicit(&ch->counters[CHANNEL_SENDING].messages, memory_order_relaxed);
    uint64_t received = atomic_load_explicit(&ch->counters[CHANNEL_RECEIVING].messages, memory_order_relaxed);
    bool streams = looks - shm->looks_left <= SHM_SOON && received - shm->received_then >= SHM_RUN &&
                   sent == shm->sent_then;

    shm->sent_then = sent;
    shm->received_then = received;
    return streams ? SHM_LEAD : 0;
}

/* The header of the next record, at `record`, which is looked at that often more; 0: there is none. */
IN_LINE uint64_t shm_look_for_a_while(struct naru_channel *ch, struct shm *shm, const uint8_t *record,
                                      int looks)
{
    uint64_t word = ring_look(record);

    if (word != 0 || looks == 0)
        return word;
    for (int pauses = shm_lead(ch, shm, looks); pauses > 0; pauses--)
        shm_let_write();
    while ((word = ring_look(record)) == 0 && --looks > 0)
        shm_let_write();
    shm->looks_left = looks;
    return word;
}

#endif
