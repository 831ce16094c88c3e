/* SPDX-License-Identifier: MIT */
/* The sentence about a public struct whose size is none: see sized.h. */
#include "base/sized.h"

#include <errno.h>

#include "base/error.h"

int sized_refuse(const char *where, const char *what, const char *type, size_t size)
{
    return error_set(EINVAL, "%s: %s.size is %zu, not sizeof(struct %s); start from NARU_INIT()", where, what,
                     size, type);
}
