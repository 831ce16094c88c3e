/* SPDX-License-Identifier: MIT */
/* Length-prefixed messages with bare read(2) and write(2); see floor.h for what is fair. */
#include "bench/floor-stream.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "bench/duo.h"

enum { HEADER = 4, BUFFER = 128 * 1024, TOGETHER_MAX = 1024 };

int bare_stream_init(struct bare_stream *s, int rfd, int wfd, size_t size, enum bare_reads reads)
{
    size_t capacity = size + HEADER > BUFFER ? size + HEADER : BUFFER;

    *s = (struct bare_stream){.rfd = rfd, .wfd = wfd, .size = size, .reads = reads, .capacity = capacity};
    s->buffer = malloc(capacity);
    return s->buffer ? 0 : duo_fail(-ENOMEM, "out of memory");
}

void bare_stream_deinit(struct bare_stream *s)
{
    free(s->buffer);
    s->buffer = NULL;
}

/* The part of a message that the first call did not take. */
static int send_rest(struct bare_stream *s, const uint8_t *data, size_t left)
{
    while (left > 0) {
        ssize_t n = write(s->wfd, data, left);

        if (n < 0 && errno != EINTR)
            return duo_fail_errno("write");
        if (n > 0) {
            data += n;
            left -= (size_t)n;
        }
    }
    return 0;
}

int bare_stream_send(struct bare_stream *s, const void *data, size_t length)
{
    uint32_t header = __builtin_bswap32((uint32_t)length);
    ssize_t n;

    if (length <= TOGETHER_MAX) {
        uint8_t together[HEADER + TOGETHER_MAX];

        memcpy(together, &header, HEADER);
        memcpy(together + HEADER, data, length);
        n = write(s->wfd, together, HEADER + length);
    } else {
        struct iovec pieces[2] = {{&header, HEADER}, {(void *)(uintptr_t)data, length}};

        n = writev(s->wfd, pieces, 2);
    }
    if (n == (ssize_t)(HEADER + length))
        return 0;
    if (n < 0)
        return duo_fail_errno("write");
    if (n < HEADER)
        return duo_fail(-EIO, "a header was cut in two"); /* no kernel does this to a blocking write */
    return send_rest(s, (const uint8_t *)data + (n - HEADER), length + HEADER - (size_t)n);
}

static ssize_t read_some(struct bare_stream *s, void *data, size_t most)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(253 * sizeof(int))]; /* SCM_MAX_FD, unix(7) */
    } control;
    struct iovec piece = {data, most};
    struct msghdr header = {.msg_iov = &piece,
                            .msg_iovlen = 1,
                            .msg_control = control.bytes,
                            .msg_controllen = sizeof control.bytes};

    return s->control ? recvmsg(s->rfd, &header, MSG_CMSG_CLOEXEC) : read(s->rfd, data, most);
}

/* Reads more behind tail, at most `most` bytes. */
static int more(struct bare_stream *s, size_t most)
{
    ssize_t n;

    if (s->tail == s->capacity || s->head == s->tail) {
        memmove(s->buffer, s->buffer + s->head, s->tail - s->head);
        s->tail -= s->head;
        s->head = 0;
    }
    if (most > s->capacity - s->tail)
        most = s->capacity - s->tail;
    do
        n = read_some(s, s->buffer + s->tail, most);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return duo_fail_errno("read");
    if (n == 0)
        return duo_fail(-EPIPE, "the other end was closed");
    s->tail += (size_t)n;
    return 0;
}

ssize_t bare_stream_recv(struct bare_stream *s, const void **ret_data)
{
    size_t wanted = HEADER;
    uint32_t length = 0;

    for (;;) {
        size_t held = s->tail - s->head;
        int r;

        if (wanted == HEADER && held >= HEADER) {
            memcpy(&length, s->buffer + s->head, HEADER);
            length = __builtin_bswap32(length);
            wanted = HEADER + length;
            if (wanted > s->capacity)
                return duo_fail(-EPROTO, "a length of %u bytes arrived", length);
        }
        if (held >= wanted && wanted > HEADER) {
            *ret_data = s->buffer + s->head + HEADER;
            s->head += wanted;
            return (ssize_t)length;
        }
        r = more(s, s->reads == BARE_READ_AHEAD    ? s->capacity
                    : s->reads == BARE_READ_SINGLY ? wanted - held
                                                   : HEADER + s->size - held);
        if (r < 0)
            return r;
    }
}
