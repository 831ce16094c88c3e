/* SPDX-License-Identifier: MIT */
/* Objects under a name: files /dev/shm/naru.KIND.NAME, published whole (segment/publish.h). */
#ifndef NARU_SYNC_NAMED_H
#define NARU_SYNC_NAMED_H

#include <stddef.h>

#include "naru/sync.h"

/*
 * Opens the object, or makes it: init(object, argument) fills memory that nobody else sees yet. *ret_object
 * is mapped and its head checked; named_close() unmaps it. 0 or -errno, explained; naru/sync.h lists them.
 */
int named_open(enum naru_sync_kind kind, const char *name, const struct naru_sync_options *options,
               size_t size, int (*init)(void *object, void *argument), void *argument, void **ret_object);

void named_close(void *object, size_t size);

#endif
