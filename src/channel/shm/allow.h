/* SPDX-License-Identifier: MIT */
/* Which users and groups may be at the other end of shm:, beside what the permissions of files say. */
#ifndef NARU_CHANNEL_SHM_ALLOW_H
#define NARU_CHANNEL_SHM_ALLOW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/url.h"

enum { SHM_ALLOW_MAX = 16 };

struct shm_allowed {
    size_t uid_count, gid_count;
    uint32_t uids[SHM_ALLOW_MAX], gids[SHM_ALLOW_MAX];
    bool
        own_user; /* where no list was given: only this user, and root. An abstract name has no permissions */
};

/* ?allow-uid= and ?allow-gid=, each with numbers between commas. 0 or -EINVAL with what was expected. */
int shm_allow_parse(struct url *url, struct shm_allowed *ret_allowed);

/* Whether who is at the other end of the connected unix socket may be there: in either list. */
bool shm_allow_peer(const struct shm_allowed *allowed, int fd);

#endif
