/* SPDX-License-Identifier: MIT */
/* Finding and making System V queues, for sysvmq.c. */
#ifndef NARU_CHANNEL_SYSVMQ_OPEN_H
#define NARU_CHANNEL_SYSVMQ_OPEN_H

#include "channel/queue.h"

enum {
    SYSVMQ_MSGMAX_USUAL = 8192, /* bytes: /proc/sys/kernel/msgmax as the kernel sets it (MSGMAX) */
    SYSVMQ_MSGMNB_USUAL = 16384 /* bytes: /proc/sys/kernel/msgmnb likewise */
};

/* What a URL asks for. */
struct sysvmq_target {
    key_t key;
    int id; /* -1: by key */
    long send_type, receive_type;
    struct queue_request request;
};

/* 0 or the explained -EINVAL, also for an option that nobody knows: before anything is made or waited for. */
int sysvmq_parse(struct url *url, const struct naru_options *opt, bool listens,
                 struct sysvmq_target *ret_target);

/* The queue's id, with ?buffer= set if it was asked for; or -errno. -ENOENT for a key comes without an
 * explanation: there is none, and none is to be made. What this call made it removes again if it fails. */
int sysvmq_find(const struct url *url, const struct sysvmq_target *target, const struct naru_options *opt);

/* The explained failure to do `what`: "open it". */
int sysvmq_open_failed(const struct url *url, int code, const char *what);

#endif
