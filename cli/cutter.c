/* SPDX-License-Identifier: MIT */
#include "cli/cutter.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/exit.h"
#include "cli/interrupt.h"
#include "cli/report.h"

enum { CUTTER_BLOCK = 64 * 1024 };
static const size_t message_max = (size_t)1 << 31;

int cutter_init(struct cutter *c, int fd, enum mark mark, size_t raw_max)
{
    char *data = malloc(CUTTER_BLOCK);

    if (!data)
        return -ENOMEM;
    *c = (struct cutter){.fd = fd, .mark = mark, .raw_max = raw_max, .data = data, .capacity = CUTTER_BLOCK};
    if (c->raw_max == 0 || c->raw_max > CUTTER_BLOCK)
        c->raw_max = CUTTER_BLOCK;
    return 0;
}

void cutter_deinit(struct cutter *c)
{
    free(c->data);
    *c = (struct cutter){.fd = -1};
}

/* Hands out length bytes that stand behind a prefix and before a suffix. */
static int take(struct cutter *c, size_t prefix, size_t length, size_t suffix, const char **ret_data,
                size_t *ret_length)
{
    *ret_data = c->data + c->start + prefix;
    *ret_length = length;
    c->start += prefix + length + suffix;
    c->scanned = c->start;
    return 1;
}

static int next_marked(struct cutter *c, char mark, const char **ret_data, size_t *ret_length)
{
    const char *found = memchr(c->data + c->scanned, mark, c->end - c->scanned);

    if (found)
        return take(c, 0, (size_t)(found - (c->data + c->start)), 1, ret_data, ret_length);
    c->scanned = c->end;
    if (c->ended && c->end > c->start) /* the last line may lack its mark */
        return take(c, 0, c->end - c->start, 0, ret_data, ret_length);
    return 0;
}

static int next_counted(struct cutter *c, const char **ret_data, size_t *ret_length)
{
    size_t held = c->end - c->start;
    uint32_t length;

    if (held >= sizeof length) {
        memcpy(&length, c->data + c->start, sizeof length);
        length = ntohl(length);
        if (length > message_max)
            return -EMSGSIZE;
        if (held - sizeof length >= length)
            return take(c, sizeof length, length, 0, ret_data, ret_length);
    }
    return c->ended && held > 0 ? -EPROTO : 0;
}

int cutter_next(struct cutter *c, const char **ret_data, size_t *ret_length)
{
    size_t held = c->end - c->start;

    switch (c->mark) {
    case MARK_LINE:
        return next_marked(c, '\n', ret_data, ret_length);
    case MARK_NUL:
        return next_marked(c, '\0', ret_data, ret_length);
    case MARK_LEN32:
        return next_counted(c, ret_data, ret_length);
    case MARK_RAW:
        if (held == 0)
            return 0;
        return take(c, 0, held < c->raw_max ? held : c->raw_max, 0, ret_data, ret_length);
    case MARK_WHOLE:
        if (!c->ended || c->done)
            return 0;
        c->done = true;
        return take(c, 0, held, 0, ret_data, ret_length);
    }
    return 0;
}

/* Makes room behind the data: moves it to the front, and grows when it fills more than half. */
static int make_room(struct cutter *c)
{
    size_t held = c->end - c->start;

    if (c->start > 0) {
        memmove(c->data, c->data + c->start, held);
        c->scanned -= c->start;
        c->start = 0;
        c->end = held;
    }
    if (held > c->capacity / 2) {
        char *data;

        if (held > message_max)
            return -EMSGSIZE;
        data = realloc(c->data, c->capacity * 2);
        if (!data)
            return -ENOMEM;
        c->data = data;
        c->capacity *= 2;
    }
    return 0;
}

/* Waits until there is something to read; also when the descriptor is non-blocking, or a signal may come
 * between looking at interrupt_signal() and a blocking read(2). */
static int wait_readable(int fd)
{
    struct pollfd fds[2] = {{.fd = fd, .events = POLLIN}, {.fd = interrupt_fd(), .events = POLLIN}};

    while (poll(fds, 2, -1) < 0)
        if (errno != EINTR)
            return -errno;
    return fds[1].revents ? -ECANCELED : 0;
}

int cutter_fill(struct cutter *c)
{
    bool wait = interrupt_fd() >= 0;
    int r = make_room(c);

    while (r == 0) {
        ssize_t n;

        if (wait)
            r = wait_readable(c->fd);
        if (r < 0)
            break;
        n = read(c->fd, c->data + c->end, c->capacity - c->end);
        if (n < 0 && (errno == EINTR || errno == EAGAIN)) {
            wait = true;
            continue;
        }
        if (n < 0)
            return -errno;
        c->end += (size_t)n;
        c->ended = n == 0;
        break;
    }
    return r;
}

int cutter_report(int error, const char *stream)
{
    switch (-error) {
    case ECANCELED:
        return interrupt_exit_code();
    case EPROTO:
        return report(NARU_EXIT_FAILED, "%s ended inside a message", stream);
    case EMSGSIZE:
        return report(NARU_EXIT_FAILED, "%s: a message of more than 2 GiB; is it marked off as --frame says?",
                      stream);
    default:
        return report_errno(-error, "%s", stream);
    }
}
