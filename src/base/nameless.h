/* SPDX-License-Identifier: MIT */
/* Files that have no name until they are finished, and vanish with their maker before. */
#ifndef NARU_BASE_NAMELESS_H
#define NARU_BASE_NAMELESS_H

/* One in that directory, which only this process can reach. access_mode: O_WRONLY or O_RDWR. The descriptor;
 * -EOPNOTSUPP: there can be none here (NFS, older overlayfs), or none that could be named, without /proc; or
 * another -errno, without a sentence. */
int nameless_open(int directory_fd, const char *directory, int access_mode);

/* Names it: nothing has that name yet (-EEXIST). 0 or -errno, without a sentence. */
int nameless_link(int fd, int directory_fd, const char *path);

#endif
