/* SPDX-License-Identifier: MIT */
/*
 * The survivors of a victim at the other end of a channel over shared memory, and the messages that they know
 * from their number alone: of 0, 8, 56, 64 bytes (a header and they fill a cache line), a KiB and odd
 * lengths.
 */
#ifndef TESTS_KILLPOINTS_SHM_H
#define TESTS_KILLPOINTS_SHM_H

#include <sys/types.h>

#include "killpoints.h"

enum {
    MESSAGE_MAX = 3000,
    LARGE = 1000, /* from this number on most are too large for a ring of 4 KiB, and go by the pool */
    VAST = 2000   /* from here on memcpy(3) may use one instruction that stores repeatedly */
};

/* The message, made before anything is traced: a loop over its bytes would be stepped through. */
const uint8_t *message_of(uint64_t number, size_t *ret_length);

/* How many descriptors go with it, where some do. */
size_t descriptors_of(uint64_t number);

/* Whether what was received is that message. */
bool message_is(const uint8_t *message, ssize_t length, uint64_t number);

/* What an event loop polls for on the channel's descriptor, poll(2). */
short loop_events(struct naru_channel *ch);

/* That validate.h accepts the channel. The other side is dead, or sleeps in the kernel: what it has left, and
 * what is ours, can be so. */
void kill_check_valid(struct kill_run *run, const struct naru_channel *ch);

/* Receives until the end. Not eager: takes a message whenever the victim sleeps, and the rest when it is
 * dead. */
void survive_receiving(struct kill_run *run, struct naru_channel *ch);

/* The same, of messages with descriptors. */
void survive_receiving_descriptors(struct kill_run *run, struct naru_channel *ch);

/* The same from an event loop; only eager. */
void survive_receiving_in_a_loop(struct kill_run *run, struct naru_channel *ch);

/* Sends until the other side is gone. */
void survive_sending(struct kill_run *run, struct naru_channel *ch);
void survive_sending_from_a_loop(struct kill_run *run, struct naru_channel *ch);

/* Likewise, each message when the last was received: by three lanes in turn; with descriptors. Only eager. */
void survive_sending_in_lanes(struct kill_run *run, struct naru_channel *ch);
void survive_sending_descriptors(struct kill_run *run, struct naru_channel *ch);

/* Sends a message and waits until it was released, until the other side is gone; only eager. */
void survive_flushing(struct kill_run *run, struct naru_channel *ch);

/* Sends a message and receives it back, until the other side is gone; only eager. */
void survive_asking(struct kill_run *run, struct naru_channel *ch);

#endif
