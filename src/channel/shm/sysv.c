/* SPDX-License-Identifier: MIT */
/*
 * shm+sysv: a channel in System V shared memory, found by a 32-bit key (shmget(2)).
 *
 * Seats are semaphores in a set of the same key (sysv-set.c), which has a place with two of them for each
 * segment.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <unistd.h>

#include "base/error.h"
#include "base/mapping.h"
#include "base/sysv.h"
#include "channel/shm/sysv-set.h"
#include "channel/table.h"
#include "segment/mirror.h"

/* --- the segment --- */

static int sysv_parse(struct url *url, struct named_place *ret_place)
{
    int id, r = sysv_target(url, &ret_place->key, &id);

    if (r == 0 && id >= 0)
        r = error_set(EINVAL, "%s: a channel is found by its key, as in shm+sysv:0x4d2", url->text);
    return r;
}

static int segment_failed(const char *what, int code, const char *action)
{
    const char *advice = "";

    if (code == EINVAL)
        advice = "; /proc/sys/kernel/shmmax is the largest size: a smaller ?ring= needs less";
    if (code == ENOSPC)
        advice = "; `ipcs -m` shows them, /proc/sys/kernel/shmmni and shmall are the limits";
    if (code == EACCES || code == EPERM)
        advice = "; who listened first decides by ?mode=";
    return error_set(code, "%s: cannot %s it: %s%s", what, action, error_text(code), advice);
}

/* Attaches. 0, NAMED_NOBODY: it has been removed; or explained. */
static int attach(const char *what, int id, struct named_found *ret_found)
{
    struct shmid_ds status;
    void *data = shmat(id, NULL, 0);

    if ((intptr_t)data == -1)
        return sysv_is_gone(errno) ? NAMED_NOBODY
               : errno == EAGAIN
                   ? error_set(mapping_code(errno), "%s: cannot attach it: %s", what, mapping_text(errno))
                   : segment_failed(what, errno, "attach");
    if (shmctl(id, IPC_STAT, &status) < 0) {
        int code = errno;

        (void)shmdt(data);
        return segment_failed(what, code, "read the size of");
    }
    ret_found->data = data;
    /* Whole pages are attached, and to be unmapped. */
    ret_found->bytes = (status.shm_segsz + SHM_PAGE - 1) & ~(size_t)(SHM_PAGE - 1);
    return 0;
}

/* Takes the key from the segment that a dead listener left. 0 or explained. */
static int remove_dead_segment(const struct named_place *place)
{
    struct named_found found;
    int id = shmget(place->key, 0, 0), r;
    bool ours;

    if (id < 0)
        return errno == ENOENT ? 0 : segment_failed(place->what, errno, "open");
    r = attach(place->what, id, &found);
    if (r != 0)
        return r < 0 ? r : 0;
    /* Or its maker was killed before it had filled it in. */
    ours = shared_is_one(found.data) || sysv_set_is_making(place->set);
    (void)munmap(found.data, found.bytes);
    if (!ours)
        return error_set(EEXIST,
                         "%s: there is shared memory with this key, but it is no channel of naru's; "
                         "remove it, or choose another key",
                         place->what);
    return shmctl(id, IPC_RMID, NULL) == 0 || sysv_is_gone(errno)
               ? 0
               : segment_failed(place->what, errno, "remove");
}

/* Likewise from all it left; the key's listener is us. Who was killed while it made a segment makes it no
 * more: as long as it is said, nobody removes the set. */
static int remove_dead(const struct named_place *place)
{
    int r = remove_dead_segment(place);

    if (r == 0)
        sysv_set_say_making(place->set, false);
    return r;
}

/* Fills in the segment of a place. 0 or explained. */
static int fill_segment(const struct named_place *place, const struct named_order *order,
                        struct named_seat *seat)
{
    struct named_found found;
    int r = attach(place->what, seat->id, &found);

    if (r == NAMED_NOBODY)
        return error_set(ENOENT, "%s: the segment was removed while it was being made", place->what);
    if (r < 0)
        return r;
    r = mirror_reserve(place->what, found.data, found.bytes);
    if (r < 0) {
        (void)munmap(found.data, found.bytes);
        return r;
    }
    shared_fill(found.data, order->ring, seat->place, order->word);
    return shm_named_map(place->what, found.data, order->ring, seat);
}

/* Makes the segment of a place, with the key. 0 or explained. */
static int make_segment(const struct named_place *place, const struct named_order *order,
                        struct named_seat *seat)
{
    int r;

    sysv_set_say_making(place->set, true);
    seat->id = shmget(place->key, shared_size(order->ring), IPC_CREAT | IPC_EXCL | (int)order->mode);
    if (seat->id < 0)
        r = segment_failed(place->what, errno, "make");
    else
        r = fill_segment(place, order, seat);
    if (r < 0 && seat->id >= 0)
        (void)shmctl(seat->id, IPC_RMID, NULL);
    sysv_set_say_making(place->set, false);
    return r;
}

static int sysv_make(struct named_place *place, const struct named_order *order, struct named_seat *seat)
{
    int r = order->old ? 0 : sysv_set_take_key(place, IPC_CREAT | (int)order->mode);

    if (r < 0)
        return r;
    seat->set = place->set;
    if (order->old) {
        (void)shmctl(order->old->id, IPC_RMID, NULL); /* or somebody has removed it already */
    } else {
        sysv_set_mode(place->set, order->mode);
        r = remove_dead(place);
    }
    if (r == 0)
        r = sysv_set_take_place(place->what, seat);
    if (r == 0) {
        r = make_segment(place, order, seat);
        if (r < 0)
            sysv_set_leave(seat);
    }
    if (r < 0 && !order->old)
        sysv_set_give_key_back(place);
    return r;
}

static int no_channel(const char *what, const struct named_found *found)
{
    (void)munmap(found->data, found->bytes);
    return error_set(EPROTO, "%s: there is shared memory with this key, but it is no channel of naru's",
                     what);
}

static bool sysv_is_named(const struct named_place *place, const struct named_seat *seat)
{
    struct shmid_ds status;

    (void)place;
    return shmctl(seat->id, IPC_STAT, &status) == 0 && (status.shm_perm.mode & SHM_DEST) == 0;
}

/* What has not been filled yet when it is looked at may have been by the time that MAKING is asked for, and
 * may have been taken away since. */
static bool is_strange(const struct named_place *place, const struct named_seat *seat,
                       const struct named_found *found)
{
    return found->bytes < SHM_PAGE || (!shared_is_one(found->data) && sysv_is_named(place, seat));
}

static int sysv_find(struct named_place *place, struct named_seat *seat, struct named_found *ret_found)
{
    const struct shm_shared *header;
    struct named_found found;
    int r;

    seat->id = shmget(place->key, 0, 0);
    if (seat->id < 0)
        return errno == ENOENT ? NAMED_NOBODY : segment_failed(place->what, errno, "open");
    r = attach(place->what, seat->id, &found);
    if (r != 0)
        return r;
    header = found.data;
    seat->set = sysv_set_find(place->key);
    if (found.bytes < SHM_PAGE || !shared_is_one(header)) {
        if ((seat->set < 0 || !sysv_set_is_making(seat->set)) && is_strange(place, seat, &found))
            return no_channel(place->what, &found);
        (void)munmap(found.data, found.bytes);
        return NAMED_NOBODY;
    }
    seat->place = header->place;
    r = sysv_set_check(place->what, seat->set, seat->place);
    if (r == 0)
        *ret_found = found;
    else
        (void)munmap(found.data, found.bytes);
    return r == -EAGAIN ? NAMED_NOBODY : r;
}

static void sysv_unlisten(struct named_place *place, const struct named_seat *seat)
{
    (void)shmctl(seat->id, IPC_RMID, NULL);
    sysv_set_give_key_back(place);
}

static int sysv_remove(struct named_place *place)
{
    bool found = shmget(place->key, 0, 0) >= 0; /* something of a dead listener's */
    int r = sysv_set_take_key(place, 0);

    if (r == -EADDRINUSE)
        return sysv_set_still_listening(place);
    if (r < 0 && r != -ENOENT)
        return r;
    if (r == -ENOENT && !found)
        return error_set(ENOENT, "%s: there is no channel with this key", place->what);
    found = found || sysv_set_is_making(place->set);
    r = remove_dead(place);
    sysv_set_give_key_back(place);
    if (r == 0 && !found)
        return error_set(ENOENT, "%s: there is no channel with this key", place->what);
    return r;
}

const struct named_kind shm_named_sysv = {
    .parse = sysv_parse,
    .make = sysv_make,
    .find = sysv_find,
    .sit = sysv_set_sit,
    .is_taken = sysv_set_is_taken,
    .leave = sysv_set_leave,
    .adopt = sysv_set_adopt,
    .is_named = sysv_is_named,
    .unlisten = sysv_unlisten,
    .remove = sysv_remove,
};

/* --- the row --- */

static int listen_here(struct naru_listener *l, struct url *url, const struct naru_options *opt)
{
    return shm_named_listen(l, url, opt, &shm_named_sysv);
}

static int connect_here(struct naru_channel *ch, struct url *url, const struct naru_options *opt,
                        int64_t deadline)
{
    return shm_named_connect(ch, url, opt, deadline, &shm_named_sysv);
}

static int remove_here(struct url *url)
{
    return shm_named_remove(url, &shm_named_sysv);
}

const struct channel_ops shm_sysv_ops = {
    .row = {.size = sizeof(struct naru_mechanism),
            .name = "shm+sysv",
            .scheme = "shm+sysv",
            .example = "shm+sysv:0x4d2",
            .also = "shm+sysv:1234, the same key",
            .title = "ring in System V shared memory",
            .use_when = "likewise, with an IPC namespace in common; or the other program attaches by key",
            .medium = "a ring in shared memory with a key; both map and write all of it, and share fate",
            .direction = "both ways",
            .unit = "message",
            .scope = "one machine, by permissions",
            .persistence = "until the last end is closed; the key goes with its listener",
            .limit = "a message fills at most half of the ring, 128 KiB; ?ring=; 64 connections a key",
            .wait = "looks at memory for a while, then sleeps on a futex; a death is seen within 10 ms",
            .options = "ring=SIZE\tthe listener's: bytes in which messages wait, a power of two (256k)\n"
                       "wait=adaptive|spin|sleep\tspin: never sleeps; sleep: at once (adaptive)\n"
                       "prefault=yes\tall memory is there when it opens, so nothing faults later "
                       "(no)\n" CHANNEL_OPTION_MODE,
            .capabilities = NAMED_CAPABILITIES},
    .connect = connect_here,
    .listen = listen_here,
    .remove = remove_here,
    NAMED_OPERATIONS,
};
