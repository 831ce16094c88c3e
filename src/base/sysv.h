/* SPDX-License-Identifier: MIT */
/* What System V's queues, shared memory and semaphores have in common (sysvipc(7)): keys and ids. */
#ifndef NARU_BASE_SYSV_H
#define NARU_BASE_SYSV_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/url.h"

/* The object that a URL names: by its key (the target: 32 bits, not 0), or by ?id= in its place. *ret_id is
 * -1 for a key. 0 or the explained -EINVAL. */
int sysv_target(struct url *url, key_t *ret_key, int *ret_id);

/* Whether errno says that an id's object is gone, or its slot has been given away again. */
bool sysv_is_gone(int code);

#endif
