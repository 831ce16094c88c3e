/* SPDX-License-Identifier: MIT */
/*
 * Where a reader of a file begins. The end is not simply the file's size: a record that is being written may
 * be there in part, and who began in the middle of it would receive its tail as a record. So "end" is behind
 * the last whole record: found backwards where records end with a delimiter, and otherwise by going through
 * their lengths from the start.
 */
#include "channel/file-position.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "channel/frame.h"

enum { CHUNK = 64 * 1024 };

int file_start_option(struct url *url, struct file_start *ret_start)
{
    const char *from = url_option(url, "from");
    struct file_start start = {0};

    if (from && strcmp(from, "end") == 0)
        start.end = true;
    else if (from && strcmp(from, "start") != 0 &&
             url_option_number(url, "from", 0, INT64_MAX, &start.offset) < 0)
        return error_set(EINVAL, "%s: expected ?from=start, end or an offset in bytes, got '%s'", url->text,
                         from);
    *ret_start = start;
    return 0;
}

static int read_failed(const char *url)
{
    return error_set(errno, "%s: read: %s", url, error_text(errno));
}

/* Reads up to length bytes at offset. The count, or an explained -errno. */
static ssize_t read_at(const char *url, int fd, void *buffer, size_t length, int64_t offset)
{
    ssize_t n;

    do
        n = pread(fd, buffer, length, offset);
    while (n < 0 && errno == EINTR);
    return n < 0 ? read_failed(url) : n;
}

/* Behind the last delimiter before `size`, or 0. */
static int find_backwards(const char *url, int fd, int64_t size, char delimiter, char *chunk,
                          int64_t *ret_offset)
{
    for (int64_t end = size; end > 0;) {
        int64_t begin = end > CHUNK ? end - CHUNK : 0;
        ssize_t n = read_at(url, fd, chunk, (size_t)(end - begin), begin);
        const char *last = n > 0 ? memrchr(chunk, delimiter, (size_t)n) : NULL;

        if (n < 0)
            return (int)n;
        if (last) {
            *ret_offset = begin + (last - chunk) + 1;
            return 0;
        }
        end = begin;
    }
    *ret_offset = 0;
    return 0;
}

/* From record to record, up to the one of which a part is missing. */
static int walk(const char *url, int fd, int64_t size, enum naru_frame frame, size_t limit, char *chunk,
                int64_t *ret_offset)
{
    int64_t offset = 0;

    while (offset < size) {
        ssize_t n = read_at(url, fd, chunk, CHUNK, offset);
        size_t used = 0;
        struct frame_span span = {0};

        if (n < 0)
            return (int)n;
        for (;;) {
            size_t scanned = 0;
            int r = frame_parse(frame, (uint8_t *)chunk + used, (size_t)n - used, &scanned, limit, &span);

            if (r < 0)
                return error_set(EPROTO,
                                 "%s: the file is not framed as ?frame=%s says: at byte %" PRId64 " it %s",
                                 url, frame_name(frame), offset + (int64_t)used, span.complaint);
            if (r != FRAME_WHOLE)
                break;
            used += span.end;
        }
        /* What begins at `used` goes beyond the chunk: skip it if it is all there, or look at it from its
         * start. */
        if (span.known && offset + (int64_t)(used + span.end) <= size)
            used += span.end;
        else if (used == 0)
            break;
        offset += (int64_t)used;
    }
    *ret_offset = offset;
    return 0;
}

static int find_end(const char *url, int fd, int64_t size, enum naru_frame frame, size_t limit,
                    int64_t *ret_offset)
{
    char *chunk;
    int r;

    if (frame == NARU_FRAME_RAW) {
        *ret_offset = size;
        return 0;
    }
    chunk = malloc(CHUNK);
    if (!chunk)
        return error_set(ENOMEM, "%s: out of memory to look for the last record", url);
    if (frame == NARU_FRAME_LINE || frame == NARU_FRAME_NUL)
        r = find_backwards(url, fd, size, frame == NARU_FRAME_LINE ? '\n' : '\0', chunk, ret_offset);
    else
        r = walk(url, fd, size, frame, limit, chunk, ret_offset);
    free(chunk);
    return r;
}

int file_start_offset(const char *url, int fd, const struct file_start *start, enum naru_frame frame,
                      size_t limit, int64_t *ret_offset)
{
    struct stat status;

    if (fstat(fd, &status) < 0)
        return read_failed(url);
    if (start->end)
        return find_end(url, fd, status.st_size, frame, limit, ret_offset);
    if (start->offset > status.st_size)
        return error_set(EINVAL,
                         "%s: ?from=%" PRId64 " lies behind the end of the file, which has %" PRId64 " bytes",
                         url, start->offset, (int64_t)status.st_size);
    *ret_offset = start->offset;
    return 0;
}
