/* SPDX-License-Identifier: MIT */
/* Writing to regular files, where a limit on their size must not kill the program. */
#ifndef NARU_BASE_FILE_IO_H
#define NARU_BASE_FILE_IO_H

#include <stdbool.h>
#include <sys/types.h>
#include <sys/uio.h>

/* Whether this process may make files of any size (RLIMIT_FSIZE, setrlimit(2)). */
bool file_io_unlimited(void);

/* writev(2), with SIGXFSZ held back unless unlimited: beyond the limit it gives -EFBIG. The count, or -errno
 * (not explained). */
ssize_t file_io_write(int fd, const struct iovec *iov, int count, bool unlimited);

/* What a write that was cut short in a file now ending at `end` would have said next: EFBIG or ENOSPC. */
int file_io_why_short(off_t end);

#endif
