/* SPDX-License-Identifier: MIT */
/* Where the two sides of shm: meet. */
#ifndef NARU_CHANNEL_SHM_NAME_H
#define NARU_CHANNEL_SHM_NAME_H

#include <stdbool.h>

#include "channel/unix-path.h"

/*
 * The socket that stands for a URL: shm://NAME is the file NAME in the user's own directory (see name.c),
 * shm:///path is that path, shm:@name an abstract name. make: makes that directory. 0 or explained: -EINVAL,
 * -ENAMETOOLONG, -EACCES (the directory is not the user's alone), -errno of mkdir(2) and open(2).
 */
int shm_name_parse(const struct url *url, bool make, struct unix_name *ret_name);

#endif
