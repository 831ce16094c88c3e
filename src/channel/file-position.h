/* SPDX-License-Identifier: MIT */
/* Where a reader of a file begins: ?from=start, end or an offset. */
#ifndef NARU_CHANNEL_FILE_POSITION_H
#define NARU_CHANNEL_FILE_POSITION_H

#include <stdbool.h>
#include <stdint.h>

#include "base/url.h"
#include "naru/channel.h"

struct file_start {
    bool end;       /* behind the last whole record */
    int64_t offset; /* else here: bytes */
};

/* Reads ?from=. 0 or the explained -EINVAL. */
int file_start_option(struct url *url, struct file_start *ret_start);

/* The offset in the open file at which to begin. limit: the largest payload. 0, or an explained -errno:
 * -EINVAL where the offset lies behind the end, -EPROTO where the records up to the end are not framed so. */
int file_start_offset(const char *url, int fd, const struct file_start *start, enum naru_frame frame,
                      size_t limit, int64_t *ret_offset);

#endif
