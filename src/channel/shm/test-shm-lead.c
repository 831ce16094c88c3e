/* SPDX-License-Identifier: MIT */
/* When a receiver leaves its sender alone for a while: in a stream, and never where an answer is awaited. */
#include "channel/shm/short.h"
#include "runner.h"

enum { LOOKS = 1000 };

static struct naru_channel channel;
static struct shm shm;

/* A wait that ended after so many looks, then what was sent and received until the next one begins; whether
 * that one pauses. */
static bool pauses_after(int looks, unsigned sent, unsigned received)
{
    shm.looks_left = LOOKS - looks;
    channel_count_many(&channel, CHANNEL_SENDING, sent, 0);
    channel_count_many(&channel, CHANNEL_RECEIVING, received, 0);
    return shm_lead(&channel, &shm, LOOKS) > 0;
}

TEST(a_stream_pauses_and_nothing_else_does)
{
    CHECK(!pauses_after(LOOKS, 0, 0));        /* the first wait */
    CHECK(pauses_after(1, 0, SHM_RUN));       /* a stream */
    CHECK(pauses_after(SHM_SOON, 0, 100));    /* one that is behind */
    CHECK(!pauses_after(1, 0, SHM_RUN - 1));  /* answers by another channel */
    CHECK(!pauses_after(1, 1, 1));            /* a round trip */
    CHECK(!pauses_after(1, 1, 100));          /* several messages, and an answer */
    CHECK(!pauses_after(SHM_SOON + 1, 0, 2)); /* now and then some */
    CHECK(!pauses_after(LOOKS, 0, 2));        /* after a wait that found nothing */
    CHECK(pauses_after(1, 0, SHM_RUN));       /* a stream again */
}
