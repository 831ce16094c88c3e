/* SPDX-License-Identifier: MIT */
#include "cli/remove.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "naru/channel.h"
#include "naru/segment.h"

static bool is_of_channels(const char *url)
{
    return strncmp(url, "shm+posix:", 10) == 0 || strncmp(url, "shm+sysv:", 9) == 0;
}

int remove_segment(const char *url)
{
    int r = is_of_channels(url) ? naru_remove(url) : -ENOENT;

    return r == 0 || r == -EBUSY ? r : naru_segment_remove(url);
}
