/* SPDX-License-Identifier: MIT */
/* Opening regular files as file: asks for, and what its URLs can say. */
#ifndef NARU_CHANNEL_FILE_OPEN_H
#define NARU_CHANNEL_FILE_OPEN_H

#include <stdbool.h>

#include "base/url.h"
#include "channel/file-position.h"

/* Both ends take all options, so that one URL serves both; each heeds those that concern it. */
struct file_options {
    struct file_start start; /* ?from=    the reader's first record */
    bool follow;             /* ?follow=  the end of the file is not the end */
    bool unlink;             /* ?unlink=  the listener removes the file when it closes */
    bool create; /* ?create=  by default yes, for whoever appends, and whoever listens and follows */
    bool sync;   /* ?sync=each  fdatasync(2) after each record */
};

/* Also checks that there is a path and no option that nobody knows: before anything is made. 0 or -EINVAL. */
int file_parse(struct url *url, struct file_options *ret_options);

/* Opens the file that is there: -EAGAIN (not explained) if there is none, or an explained -errno. */
int file_open_reader(const char *url, const char *path, int *ret_fd);
int file_open_appender(const char *url, const char *path, int *ret_fd);

/* Makes the file with just these permission bits whatever the umask, and opens it for appending. -EAGAIN:
 * there is one already. */
int file_create(const char *url, const char *path, unsigned mode, int *ret_fd);

/* The explained refusal of what is not a regular file. type: st_mode & S_IFMT. */
int file_refuse(const char *url, unsigned type);

#endif
