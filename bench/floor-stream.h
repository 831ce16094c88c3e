/* SPDX-License-Identifier: MIT */
/* What the floors of byte streams share: length-prefixed messages over two descriptors. */
#ifndef BENCH_FLOOR_STREAM_H
#define BENCH_FLOOR_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum bare_reads {
    BARE_READ_AHEAD,  /* all there is, many messages a call */
    BARE_READ_SINGLY, /* the length, then the payload: nothing of the next message */
    BARE_READ_EXACTLY /* one message a call: its size is known */
};

struct bare_stream {
    int rfd, wfd;
    enum bare_reads reads;
    bool control;    /* read by recvmsg(2), with room for descriptors */
    size_t size;     /* bytes of each payload */
    uint8_t *buffer; /* [head, tail) is read and not handed out */
    size_t head, tail, capacity;
};

/* The descriptors stay the caller's. 0, or -ENOMEM after duo_fail(). */
int bare_stream_init(struct bare_stream *s, int rfd, int wfd, size_t size, enum bare_reads reads);
void bare_stream_deinit(struct bare_stream *s);

int bare_stream_send(struct bare_stream *s, const void *data, size_t length);
ssize_t bare_stream_recv(struct bare_stream *s, const void **ret_data);

#endif
