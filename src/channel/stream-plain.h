/* SPDX-License-Identifier: MIT */
/*
 * What most messages of a byte stream are: small, in one piece, behind a 32-bit length, with nothing begun
 * before them and nothing beside them. The loops of stream-send.c and stream-recv.c would do the same in five
 * times the instructions, and a pipe's write takes no longer than 1,500 of them. Inline, because each return
 * that follows a system call is mispredicted where the kernel empties the processor's return stack, as it
 * does against speculation attacks: what calls write(2) should be called by the program.
 */
#ifndef NARU_CHANNEL_STREAM_PLAIN_H
#define NARU_CHANNEL_STREAM_PLAIN_H

#include <string.h>

#include "channel/stream-state.h"

/* A frame this small is copied together: cheaper than two pieces in the kernel (measured). */
enum { STREAM_COPY_MAX = 4096 };

/* Not an empty one: its pointer may be NULL. */
static inline bool plain_can_send(const struct stream *s, size_t length)
{
    return s->frame == NARU_FRAME_LEN32 && !s->sent && !s->rest_length && !s->cut &&
           length - 1 < STREAM_COPY_MAX - sizeof(uint32_t);
}

/* Returns the frame's length. */
static inline size_t plain_frame(uint8_t frame[static STREAM_COPY_MAX], const void *payload, size_t length)
{
    uint32_t big_endian = __builtin_bswap32((uint32_t)length);

    memcpy(frame, &big_endian, sizeof big_endian);
    memcpy(frame + sizeof big_endian, payload, length);
    return sizeof big_endian + length;
}

/* After a write of the frame: 1 if all of it went, 0 if a part, which the long way finishes. */
static inline int plain_sent(struct stream *s, size_t length, size_t written)
{
    if (__builtin_expect(written == sizeof(uint32_t) + length, 1))
        return 1;
    s->sent = written;
    return 0;
}

/* The frame at head has been delivered. */
static inline void stream_consume(struct stream *s, size_t length)
{
    s->head += length < s->tail - s->head ? length : s->tail - s->head;
    s->consumed += length;
    s->scanned = 0;
    s->direct = 0;
    s->large = length >= STREAM_LARGE;
    s->in_buffer = false;
    if (s->head != s->tail)
        return;
    s->head = s->tail = 0;
    if (__builtin_expect(s->capacity > STREAM_BUFFER_KEPT, 0))
        stream_shrink(s);
}

/* The length of the message whose header is at head, if it is a plain one and has room; 0: the long way is to
 * judge. */
static inline size_t plain_announced(const struct naru_channel *ch, size_t capacity)
{
    const struct stream *s = ch->stream;
    uint32_t length;

    if (s->tail - s->head < sizeof length || s->frame != NARU_FRAME_LEN32 || s->parcel_count || s->broken)
        return 0;
    memcpy(&length, s->buffer + s->head, sizeof length);
    length = __builtin_bswap32(length);
    return length <= ch->max_message && length <= capacity ? length : 0;
}

/* Delivers the message at head, if it is a plain one and whole: 1. 0: the long way is to judge. */
static inline int plain_take(const struct naru_channel *ch, void *buf, size_t capacity, size_t *ret_length)
{
    struct stream *s = ch->stream;
    size_t length = plain_announced(ch, capacity);

    if (length == 0 || length > s->tail - s->head - sizeof(uint32_t))
        return 0;
    memcpy(buf, s->buffer + s->head + sizeof(uint32_t), length);
    stream_consume(s, sizeof(uint32_t) + length);
    *ret_length = length;
    return 1;
}

/* Whether nothing is held, so that a read may begin at the buffer's start. */
static inline bool plain_can_fill(const struct stream *s)
{
    return s->head == s->tail && s->frame == NARU_FRAME_LEN32 && !s->ended && !s->broken;
}

#endif
