/* SPDX-License-Identifier: MIT */
/*
 * Files that appear under their name only when they are whole: full size reserved, contents filled in,
 * permissions set. Who finds the name finds a finished object, and a maker killed at any point leaves no
 * half-made one. POSIX shared memory is such a file in /dev/shm; named locks are too (sync/named.c).
 */
#ifndef NARU_SEGMENT_PUBLISH_H
#define NARU_SEGMENT_PUBLISH_H

#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include "base/url.h"

#define SHM_DIRECTORY "/dev/shm" /* where glibc's shm_open(3) and sem_open(3) put theirs */

/* Opens the regular file at path for reading, and writing unless open_flags say O_RDONLY. O_NOFOLLOW may be
 * added. 0, or -errno without a sentence; -EINVAL when it is no regular file, but a directory, a socket or a
 * symbolic link that is not to be followed, say: publish_in_the_way() tells that. */
int publish_open(const char *path, int open_flags, int *ret_fd, struct stat *ret_status);

/* Makes the file: size bytes reserved, fill(fd, argument) called if not NULL, then linked as path with
 * exactly these permission bits. -EEXIST: somebody was first; otherwise 0 or -errno, without a sentence. */
int publish_create(const char *path, unsigned mode, size_t size, int (*fill)(int fd, void *argument),
                   void *argument, int *ret_fd);

/* Reserves space up to size and makes the file that long unless it is longer already; never shorter. 0, or
 * -errno without a sentence, the length then being as before. Signals may wait for it to end. */
int publish_reserve(int fd, size_t size);

/* Fills the first bytes of a new file that only memory backs: they are reserved then, and as their pages are
 * not only there but zeroed, one fault maps many of them (fallocate(2) leaves that to whoever touches each
 * first). 0, or -errno without a sentence: -EFBIG, -ENOMEM, -ENOSPC. */
int publish_write_zeros(int fd, size_t size);

/* Makes the file that long unless it is longer already, and reserves nothing. 0 or -errno, without a
 * sentence. For files that nobody else lengthens. */
int publish_lengthen(int fd, size_t size);

/* The sentence for what is no regular file. Returns -code. */
int publish_in_the_way(int code, const char *what, const char *path);

enum publish_doing { PUBLISH_OPENING, PUBLISH_MAKING, PUBLISH_CHANGING };

/* Adds to a sentence what helps against that errno: "; free some space, ..." or "". */
const char *publish_advice(enum publish_doing doing, int code);

/* "/name" or "name" to /dev/shm/name; shm_open(3) takes one slash, in front. longer: bytes that other names
 * have beyond it. 0 or -EINVAL, explained. */
int publish_shm_path(const struct url *url, size_t longer, char *buffer, size_t capacity);

/* Calls for each regular file in SHM_DIRECTORY, in no order, until a call gives something other than 0; that,
 * or the explained -errno where the directory cannot be read. */
int publish_list_shm(int (*each)(const char *name, const struct stat *status, void *argument),
                     void *argument);

#endif
