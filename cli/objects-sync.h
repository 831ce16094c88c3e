/* SPDX-License-Identifier: MIT */
/* naru's own named locks, semaphores, events and barriers, for `naru ls`. */
#ifndef CLI_OBJECTS_SYNC_H
#define CLI_OBJECTS_SYNC_H

#include "cli/objects.h"

/* Calls visit for each of that kind ("mutex", "semaphore", ...; NULL: all), as objects_each() does. */
int objects_each_sync(const char *kind, int (*visit)(const struct object *o, void *context), void *context);

#endif
