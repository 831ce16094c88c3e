/* SPDX-License-Identifier: MIT */
/* A byte stream made into messages: its memory. Receiving is in stream-recv.c, sending in stream-send.c. */
#include <stdlib.h>

#include "base/discard.h"
#include "channel/stream-state.h"

struct stream *stream_new(enum naru_frame frame, bool read_ahead, bool with_fds)
{
    struct stream *s = calloc(1, sizeof *s);

    if (!s)
        return NULL;
    s->frame = frame;
    s->read_ahead = read_ahead;
    s->capacity = STREAM_BUFFER;
    s->buffer = malloc(s->capacity);
    if (with_fds)
        s->parcels = calloc(STREAM_PARCELS, sizeof *s->parcels);
    if (!s->buffer || (with_fds && !s->parcels))
        return stream_free(s);
    return s;
}

struct stream *stream_free(struct stream *s)
{
    if (!s)
        return NULL;
    for (size_t i = 0; i < s->parcel_count; i++)
        discard_shared_fds(s->parcels[i].fds, s->parcels[i].count);
    free(s->parcels);
    free(s->buffer);
    free(s->rest);
    free(s->batch);
    free(s);
    return NULL;
}

enum naru_frame stream_frame(const struct stream *s)
{
    return s->frame;
}

int stream_slice(const struct naru_message *m, size_t offset, size_t length, struct iovec *iov, int capacity)
{
    int count = 0;

    for (size_t i = 0; i < m->iov_count && length > 0 && count < capacity; i++) {
        struct iovec piece = m->iov[i];

        if (offset >= piece.iov_len) {
            offset -= piece.iov_len;
            continue;
        }
        piece.iov_base = (uint8_t *)piece.iov_base + offset;
        piece.iov_len -= offset;
        offset = 0;
        if (piece.iov_len > length)
            piece.iov_len = length;
        length -= piece.iov_len;
        iov[count++] = piece;
    }
    return count;
}
