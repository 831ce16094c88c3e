/* SPDX-License-Identifier: MIT */
#include "cli/output.h"

#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/exit.h"
#include "cli/report.h"

enum { OUTPUT_CAPACITY = 64 * 1024 };

const char *const mark_words[] = {"line", "nul", "len32", "raw", "whole", NULL};
const char *const mark_output_words[] = {"line", "nul", "len32", "raw", NULL};

int output_init(struct output *out, int fd)
{
    char *data = malloc(OUTPUT_CAPACITY);

    if (!data)
        return -ENOMEM;
    *out = (struct output){.fd = fd, .data = data};
    return 0;
}

void output_deinit(struct output *out)
{
    free(out->data);
    *out = (struct output){.fd = -1};
}

/* The descriptor may be non-blocking: whoever shares it decides, not we. */
static int write_all(int fd, const char *data, size_t length)
{
    while (length > 0) {
        ssize_t n = write(fd, data, length);

        if (n < 0 && errno == EAGAIN) {
            struct pollfd room = {.fd = fd, .events = POLLOUT};

            (void)poll(&room, 1, -1); /* EINTR: the write tells */
            continue;
        }
        if (n < 0 && errno != EINTR)
            return -errno;
        if (n > 0) {
            data += n;
            length -= (size_t)n;
        }
    }
    return 0;
}

int output_flush(struct output *out)
{
    int r = write_all(out->fd, out->data, out->used);

    if (r < 0)
        return r;
    out->used = 0;
    out->held = 0;
    return 0;
}

int output_bytes(struct output *out, const void *data, size_t length)
{
    if (length > OUTPUT_CAPACITY - out->used) {
        int r = output_flush(out);

        if (r < 0)
            return r;
    }
    if (length > OUTPUT_CAPACITY)
        return write_all(out->fd, data, length);
    if (length > 0)
        memcpy(out->data + out->used, data, length);
    out->used += length;
    return 0;
}

int output_message(struct output *out, enum mark mark, const void *data, size_t length)
{
    uint32_t prefix = htonl((uint32_t)length);
    int r = 0;

    if (mark == MARK_LEN32 && length > UINT32_MAX)
        return -EMSGSIZE;
    out->held++;
    if (mark == MARK_LEN32)
        r = output_bytes(out, &prefix, sizeof prefix);
    if (r == 0)
        r = output_bytes(out, data, length);
    if (r == 0 && (mark == MARK_LINE || mark == MARK_NUL))
        r = output_bytes(out, mark == MARK_LINE ? "\n" : "", 1);
    return r;
}

int output_report(const struct output *out, int error)
{
    if (error == -EPIPE)
        return NARU_EXIT_BROKEN_PIPE;
    if (out->held <= 1)
        return report_errno(-error, "a message was received and could not be written to standard output");
    return report_errno(
        -error, "the last %" PRIu64 " messages were received and could not all be written to standard output",
        out->held);
}
