/* SPDX-License-Identifier: MIT */
/*
 * What stream.c, stream-recv.c and stream-send.c share and nobody else looks into.
 *
 * Invariants
 * I1  head <= tail <= capacity; `consumed` is the stream offset of buffer[head].
 * I2  direct > 0 only between an attempt that said -EAGAIN (or -EINTR) and the next call of stream_recv() or
 *     stream_pause_recv() with the same message; the buffer then holds the frame's header and the payload's
 *     first bytes, and nothing behind.
 * I3  sent > 0 only likewise for sending; rest_length > 0 only while sent == 0.
 * I4  After `cut` is set nothing more is written, and after `broken` is set no byte is interpreted any more:
 * framing is lost for good.
 */
#ifndef NARU_CHANNEL_STREAM_STATE_H
#define NARU_CHANNEL_STREAM_STATE_H

#include "channel/stream.h"

enum {
    STREAM_BUFFER =
        128 * 1024, /* read-ahead; 64 KiB (a pipe's default) and the tail of a message before it */
    STREAM_BUFFER_KEPT = 1024 * 1024, /* one that had to grow beyond this is shrunk when it is empty again */
    STREAM_LARGE = 16 * 1024,         /* the copy of a payload this large costs more than a read of its own */
    STREAM_PIECES = 64,               /* of an iovec that is built on the stack */
    STREAM_PARCELS = 2                /* sets of descriptors that can wait for their frame */
};

struct stream_parcel {
    uint64_t chunk_end; /* stream offset of the end of the read they came with */
    size_t count;
    int fds[CHANNEL_FDS_MAX];
};

struct stream {
    enum naru_frame frame;
    bool read_ahead;
    bool ended;         /* read returned 0 */
    const char *broken; /* why framing is lost */
    bool in_buffer;     /* the current frame was paused: complete it in the buffer */
    bool large;         /* the last payload was large, so the next may be, too */
    uint8_t *buffer;
    size_t capacity, head, tail, scanned, direct;
    uint64_t consumed;
    struct stream_parcel *parcels; /* NULL where the mechanism passes none */
    size_t parcel_count;

    size_t sent; /* bytes of the current frame that went out */
    bool cut;    /* an error left half a frame in the stream: nothing can follow it */
    uint8_t *rest;
    size_t rest_offset, rest_length, rest_capacity;
    uint8_t *batch;
};

/* A buffer that had to grow for a large message goes back to its usual size. */
void stream_shrink(struct stream *s);

/* Reads behind what is held, minding descriptors and the end. As ops->read. */
ssize_t stream_read(struct naru_channel *ch, const struct iovec *iov, int count, bool block);

/* The short way after a large message, for another one: length and payload by one read, the payload straight
 * to where it is wanted, with nothing held. As channel_received() takes it. */
int stream_recv_large(struct naru_channel *ch, void *buf, size_t capacity, size_t *ret_length);

/* The pieces of m from byte offset on, length bytes at most, into iov. Returns how many pieces. */
int stream_slice(const struct naru_message *m, size_t offset, size_t length, struct iovec *iov, int capacity);

#endif
