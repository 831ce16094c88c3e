/* SPDX-License-Identifier: MIT */
#include "cli/exit.h"

#include <errno.h>

#include "cli/interrupt.h"

int exit_code(long result)
{
    if (result >= 0)
        return NARU_EXIT_OK;
    switch (-result) {
    case EINVAL:
        return NARU_EXIT_USAGE;
    case ENOENT:
    case ESRCH:
    case ENODEV:
    case ENXIO:
        return NARU_EXIT_NOT_FOUND;
    case EACCES:
    case EPERM:
    case EROFS:
        return NARU_EXIT_PERMISSION;
    case ETIMEDOUT:
    case EAGAIN: /* a timeout of zero */
        return NARU_EXIT_TIMEOUT;
    case ECANCELED:
        return interrupt_exit_code();
    default:
        return NARU_EXIT_FAILED;
    }
}
