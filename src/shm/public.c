/* SPDX-License-Identifier: MIT */
/* Looking at rings and cells in memory of the user's: see public.h. */
#include "shm/public.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>

#include "base/error.h"
#include "shm/layout.h"

enum { LOOKS = 100 };

int public_check_address(const char *what, const void *memory)
{
    if (memory && (uintptr_t)memory % SHM_LINE == 0)
        return 0;
    return error_set(EINVAL, "%s at %p: expected memory aligned to %d bytes", what, memory, SHM_LINE);
}

int public_validate(const char *what, const void *memory, const struct public_look *look, const void *object,
                    size_t bytes)
{
    char where[64];

    (void)snprintf(where, sizeof where, "%s at %p", what, memory);
    for (int i = 0; i < LOOKS; i++) {
        uint64_t count = look->read_count(object);
        int r = look->check(where, object, bytes);

        if (r == 0 || count == look->read_count(object))
            return r;
    }
    return error_set(EAGAIN, "%s: it changes faster than it can be looked at", where);
}
