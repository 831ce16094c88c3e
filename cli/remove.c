/* SPDX-License-Identifier: MIT */
#include "cli/remove.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "naru/channel.h"
#include "naru/segment.h"

static bool is_of_channels(const char *url)
{
    return strncmp(url, "shm+posix:", 10) == 0 || strncmp(url, "shm+sysv:", 9) == 0;
}

/* A channel's two ends both write, so shared memory that its owner made for reading only is none. */
static bool can_only_be_read(const char *url)
{
    struct naru_segment_options options = NARU_INIT(struct naru_segment_options);
    char *bare = strndup(url, strcspn(url, "?"));
    struct naru_segment *segment = NULL;
    int r = -ENOMEM;

    options.read_only = 1;
    if (bare)
        r = naru_segment_open(bare, 0, &options, &segment);
    (void)naru_segment_close(segment);
    free(bare);
    return r == 0;
}

/* What naru_remove() returned: it says that there is no channel. -EINVAL: channels have no such names, or no
 * ?id=. After all else a listener may live there, which could not be looked for. */
static bool is_no_channel(const char *url, int result)
{
    return result == -ENOENT || result == -EEXIST || result == -EINVAL ||
           (result == -EACCES && can_only_be_read(url));
}

int remove_segment(const char *url)
{
    int r;

    if (!is_of_channels(url))
        return naru_segment_remove(url);
    r = naru_remove(url);
    return is_no_channel(url, r) ? naru_segment_remove(url) : r;
}
