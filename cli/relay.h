/* SPDX-License-Identifier: MIT */
/*
 * Carries messages between two channels in both directions at once, with a thread for each: works on every
 * mechanism, also where there is nothing to poll, and a full receiver in one direction does not stop the
 * other.
 */
#ifndef CLI_RELAY_H
#define CLI_RELAY_H

#include <stdbool.h>
#include <stdint.h>

#include "naru/channel.h"

struct relay_end {
    struct naru_channel *channel; /* opened with options.interruptible */
    const char *url;              /* as the user wrote it, for messages */
    bool sends, receives;         /* whether we send to it, and receive from it */
    bool standard;    /* standard input and output: a reader that went away ends us as any tool, silently */
    bool interactive; /* a terminal: once the other end has nothing more to say, there is no use in typing */
};

struct relay_result {
    uint64_t messages[2], bytes[2]; /* from the first end to the second, and back */
};

/* Returns when both directions have ended: at the end of what the one side sends, the other is told
 * (naru_channel_finish), or, where that cannot be told (datagrams), has linger_ns to answer. Returns the exit
 * code of what was reported; a signal (interrupt.h) ends it when the caller interrupts both channels. */
int relay_run(struct relay_end *first, struct relay_end *second, int64_t linger_ns,
              struct relay_result *ret_result);

#endif
