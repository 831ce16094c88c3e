/* SPDX-License-Identifier: MIT */
/* Keys and ids of System V objects. */
#include "base/sysv.h"

#include <errno.h>
#include <stdint.h>

#include "base/error.h"

int sysv_target(struct url *url, key_t *ret_key, int *ret_id)
{
    int64_t key = 0, id = -1;
    int r = url_option_number(url, "id", 0, INT32_MAX, &id);

    if (r == 0 && id < 0)
        r = url_target_number(url, "a System V key", 1, UINT32_MAX, &key);
    else if (r == 0 && *url->target)
        r = error_set(EINVAL, "%s: expected a key or ?id=, not both", url->text);
    if (r < 0)
        return r;
    *ret_key = (key_t)(uint32_t)key; /* keys print as 0x%08x and are signed in C: the same 32 bits */
    *ret_id = (int)id;
    return 0;
}

bool sysv_is_gone(int code)
{
    return code == EINVAL || code == EIDRM;
}
