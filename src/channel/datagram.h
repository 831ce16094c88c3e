/* SPDX-License-Identifier: MIT */
/* Attempts on sockets that keep message boundaries: unix seqpacket and dgram, UDP. */
#ifndef NARU_CHANNEL_DATAGRAM_H
#define NARU_CHANNEL_DATAGRAM_H

#include <pthread.h>

#include "channel/channel.h"

/* What ch->state points to (or begins with) where these attempts are used. */
struct datagram {
    size_t
        largest; /* bytes of the largest message that can arrive; smaller rooms get an overflow area behind */
    bool ends;   /* seqpacket: the peer's close is seen, as 0 bytes without credentials */
    bool reply;  /* not connected: a message without an address goes to the last sender */
    pthread_mutex_t lock;            /* of reply_to, which one thread sets and another uses */
    struct channel_address reply_to; /* length 0: nobody has sent yet */
    uint32_t overflows;              /* SO_RXQ_OVFL's running count as last seen */
};

/* All zero but for largest. To be freed with free(). NULL after an explained -ENOMEM. */
struct datagram *datagram_new(const struct naru_channel *ch, size_t largest);

/* The send, send_batch and recv of such mechanisms. Descriptors go along where the row says NARU_CAN_FDS. */
int datagram_send(struct naru_channel *ch, const struct naru_message *m, bool block);
ssize_t datagram_send_batch(struct naru_channel *ch, const struct naru_message *m, size_t n, bool block);
int datagram_recv(struct naru_channel *ch, struct naru_message *m, bool block);

/* Their short ways: see channel_ops. */
int datagram_send_bytes(struct naru_channel *ch, const void *data, size_t length);
ssize_t datagram_recv_bytes(struct naru_channel *ch, void *buf, size_t capacity, int64_t timeout_ns);

/* In a row of channel_ops. */
#define DATAGRAM_MESSAGES                                                                                    \
    .send = datagram_send, .send_batch = datagram_send_batch, .recv = datagram_recv,                         \
    .send_bytes = datagram_send_bytes, .recv_bytes = datagram_recv_bytes

#endif
