/* SPDX-License-Identifier: MIT */
/* Messages in memory: their pieces, the one that is kept because it did not fit, and descriptors that came
 * along. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/discard.h"
#include "base/error.h"
#include "channel/channel.h"

size_t message_length_of_pieces(const struct naru_message *m)
{
    size_t length = 0;

    for (size_t i = 0; i < m->iov_count; i++)
        if (__builtin_add_overflow(length, m->iov[i].iov_len, &length))
            return SIZE_MAX;
    return length;
}

size_t message_scatter(const struct naru_message *m, size_t offset, const void *data, size_t length)
{
    size_t copied = 0;

    for (size_t i = 0; i < m->iov_count && copied < length; i++) {
        size_t room = m->iov[i].iov_len, part;

        if (offset >= room) {
            offset -= room;
            continue;
        }
        part = room - offset < length - copied ? room - offset : length - copied;
        memcpy((uint8_t *)m->iov[i].iov_base + offset, (const uint8_t *)data + copied, part);
        copied += part;
        offset = 0;
    }
    return copied;
}

size_t message_gather(const struct naru_message *m, void *data, size_t capacity)
{
    size_t copied = 0;

    if (m->iov_count == 1 && m->iov->iov_len <= capacity && m->iov->iov_len > 0) {
        memcpy(data, m->iov->iov_base, m->iov->iov_len);
        return m->iov->iov_len;
    }
    for (size_t i = 0; i < m->iov_count && copied < capacity; i++) {
        size_t part = m->iov[i].iov_len < capacity - copied ? m->iov[i].iov_len : capacity - copied;

        if (part)
            memcpy((uint8_t *)data + copied, m->iov[i].iov_base, part);
        copied += part;
    }
    return copied;
}

int channel_keep_reserve(struct naru_channel *ch, size_t capacity)
{
    uint8_t *larger;

    if (ch->kept.capacity >= capacity)
        return 0;
    larger = realloc(ch->kept.data, capacity);
    if (!larger)
        return error_set(ENOMEM, "%s: out of memory for a message of up to %zu bytes", ch->url, capacity);
    ch->kept.data = larger;
    ch->kept.capacity = capacity;
    return 0;
}

int channel_keep(struct naru_channel *ch, const struct naru_message *m, size_t length)
{
    size_t room = message_length(m);

    (void)message_gather(m, ch->kept.data, room);
    ch->kept.length = length;
    ch->kept.meta = *m;
    ch->kept.full = true;
    return channel_no_room(ch, length, room);
}

int channel_keep_bytes(struct naru_channel *ch, void *buf, size_t capacity, const void *data, size_t length,
                       int64_t type, unsigned priority)
{
    struct iovec piece = {buf, capacity};
    struct naru_message m = {.size = sizeof m,
                             .iov = &piece,
                             .iov_count = 1,
                             .type = type,
                             .priority = priority,
                             .sender = {-1, -1, -1}};

    memcpy(buf, data, capacity);
    if (data != ch->kept.data)
        memcpy(ch->kept.data + capacity, (const uint8_t *)data + capacity, length - capacity);
    return channel_keep(ch, &m, length);
}

void channel_keep_fds(struct naru_channel *ch, const int *fds, size_t count)
{
    memcpy(ch->kept.fds, fds, count * sizeof *fds);
    ch->kept.fd_count = count;
}

int channel_no_room(struct naru_channel *ch, size_t length, size_t room)
{
    ch->needed = length;
    return error_set(EMSGSIZE,
                     "%s: the next message has %zu bytes and the buffer only %zu; it is kept, receive it "
                     "into a larger one",
                     ch->url, length, room);
}

int channel_too_large(const struct naru_channel *ch, size_t length, size_t limit, const char *mend)
{
    return error_set(EMSGSIZE, "%s: message of %zu bytes exceeds %zu%s%s", ch->url, length, limit,
                     *mend ? "; " : "", mend);
}

int channel_over_limit(const struct naru_channel *ch, size_t length)
{
    return ch->ops->too_large ? ch->ops->too_large(ch, length)
                              : channel_too_large(ch, length, ch->max_message, ch->limit_mend);
}

void channel_count_dropped(struct naru_channel *ch, int direction, uint64_t dropped)
{
    /* Relaxed: a counter for people; nothing else is read on the strength of it. */
    atomic_fetch_add_explicit(&ch->counters[direction].dropped, dropped, memory_order_relaxed);
}

void channel_give_address(struct naru_message *m, const struct channel_address *address)
{
    socklen_t room = m->address_length;

    if (!m->address)
        return;
    memcpy(m->address, &address->any, address->length < room ? address->length : room);
    m->address_length = address->length;
}

void channel_give_fds(struct naru_channel *ch, struct naru_message *m, const int *fds, size_t count)
{
    size_t given = count < m->fd_capacity ? count : m->fd_capacity;

    if (given)
        memcpy(m->fds, fds, given * sizeof *fds);
    m->fd_count = given;
    if (count > given)
        discard_shared_fds(fds + given, count - given);
    if (count > given)
        channel_count_dropped(ch, CHANNEL_RECEIVING, count - given);
}
