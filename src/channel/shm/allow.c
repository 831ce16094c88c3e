/* SPDX-License-Identifier: MIT */
/* Allow-lists: a peer's user and groups as the kernel knows them (unix(7): SO_PEERCRED, SO_PEERGROUPS). */
#include "channel/shm/allow.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/error.h"

static int parse_list(struct url *url, const char *key, uint32_t *ret_ids, size_t *ret_count)
{
    const char *text = url_option(url, key);
    size_t count = 0;

    while (text) {
        char *end = NULL;
        unsigned long long id = *text >= '0' && *text <= '9' ? strtoull(text, &end, 10) : UINT64_MAX;

        /* (uid_t)-1 is no user: setresuid(2) */
        if (id >= UINT32_MAX || (*end != ',' && *end != '\0') || count == SHM_ALLOW_MAX)
            return error_set(EINVAL, "%s: ?%s=%s: expected up to %d numbers between commas, as in %s=0,1000",
                             url->text, key, url_option(url, key), SHM_ALLOW_MAX, key);
        ret_ids[count++] = (uint32_t)id;
        text = *end == ',' ? end + 1 : NULL;
    }
    *ret_count = count;
    return 0;
}

int shm_allow_parse(struct url *url, struct shm_allowed *ret_allowed)
{
    struct shm_allowed allowed = {0};
    int r = parse_list(url, "allow-uid", allowed.uids, &allowed.uid_count);

    if (r == 0)
        r = parse_list(url, "allow-gid", allowed.gids, &allowed.gid_count);
    if (r < 0)
        return r;
    allowed.own_user = url->target[0] == '@' && allowed.uid_count + allowed.gid_count == 0;
    *ret_allowed = allowed;
    return 0;
}

static bool has(const uint32_t *ids, size_t count, uint32_t id)
{
    for (size_t i = 0; i < count; i++)
        if (ids[i] == id)
            return true;
    return false;
}

/* Of the groups that a process has besides its own. */
static bool has_one_of_its_groups(const struct shm_allowed *allowed, int fd)
{
    socklen_t length = 0;
    bool found = false;
    gid_t *groups;

    if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, NULL, &length) == 0 || errno != ERANGE)
        return false; /* it has none, or the kernel cannot tell */
    groups = malloc(length);
    if (!groups)
        return false;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &length) == 0)
        for (size_t i = 0; i < length / sizeof *groups && !found; i++)
            found = has(allowed->gids, allowed->gid_count, groups[i]);
    free(groups);
    return found;
}

bool shm_allow_peer(const struct shm_allowed *allowed, int fd)
{
    struct ucred who;
    socklen_t length = sizeof who;

    if (allowed->uid_count + allowed->gid_count == 0 && !allowed->own_user)
        return true;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &length) < 0)
        return false;
    if (allowed->own_user)
        return who.uid == geteuid() || who.uid == 0;
    return has(allowed->uids, allowed->uid_count, who.uid) ||
           has(allowed->gids, allowed->gid_count, who.gid) ||
           (allowed->gid_count > 0 && has_one_of_its_groups(allowed, fd));
}
