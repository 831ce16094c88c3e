/* SPDX-License-Identifier: MIT */
/*
 * Cuts a byte stream (standard input, a command's output) into messages. Reads in large blocks and hands out
 * pointers into them; nothing is copied but the beginning of a message whose end has not been read yet.
 */
#ifndef CLI_CUTTER_H
#define CLI_CUTTER_H

#include <stdbool.h>
#include <stddef.h>

#include "cli/output.h"

struct cutter {
    int fd;
    enum mark mark;
    size_t raw_max; /* MARK_RAW: a message is this long at most */
    char *data;
    size_t capacity, start, end; /* data[start..end) is not handed out yet */
    size_t scanned;              /* data[start..scanned) holds no mark */
    bool ended;                  /* the stream's end was read */
    bool done;                   /* MARK_WHOLE: handed out */
};

/* 0 or -ENOMEM. */
int cutter_init(struct cutter *c, int fd, enum mark mark, size_t raw_max);
void cutter_deinit(struct cutter *c);

/* The next message that is wholly here: 1 and where it lies (valid until cutter_fill), or 0: none; read on,
 * or if c->ended, that was all. -EPROTO: the stream ended inside a message. -EMSGSIZE: a length beyond 2 GiB.
 */
int cutter_next(struct cutter *c, const char **ret_data, size_t *ret_length);

/* Waits for more and reads it once. 0 (c->ended may be set), -ECANCELED after a signal (interrupt.h),
 * -ENOMEM, or -errno of read(2). */
int cutter_fill(struct cutter *c);

/* Reports what one of these returned, naming the stream, and returns the exit code. */
int cutter_report(int error, const char *stream);

#endif
