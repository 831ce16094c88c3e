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

/* What naru_remove() returned: it says that there is no channel. -EINVAL: channels have no such names, or no
 * ?id=. -EACCES: it may not be read and written by us; then the kernel lets us remove it only if it is our
 * own, which we could open if it was a channel of ours (but with a ?mode= that shuts ourselves out), and says
 * who may if it is not. After all else a listener may live there, which could not be looked for. */
static bool is_no_channel(int result)
{
    return result == -ENOENT || result == -EEXIST || result == -EINVAL || result == -EACCES;
}

int remove_segment(const char *url)
{
    int r;

    if (!is_of_channels(url))
        return naru_segment_remove(url);
    r = naru_remove(url);
    return is_no_channel(r) ? naru_segment_remove(url) : r;
}
