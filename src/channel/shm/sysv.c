/* SPDX-License-Identifier: MIT */
/*
 * shm+sysv: a channel in System V shared memory, found by a 32-bit key (shmget(2)).
 *
 * Seats are semaphores in a set of the same key, taken with SEM_UNDO (semop(2)): the kernel gives them back
 * when the process ends, in whatever pid namespace it lives. One set serves all connections that were
 * accepted under the key, so that it can be found and removed whoever was killed:
 *
 *     0          1: the set is about to be removed, and nobody listens with it any more
 *     1          1: a listener lives
 *     2          1: a segment is being made, and may stand under the key with nothing in it
 *     4 + 2 n    seat 0 of place n; 5 + 2 n: seat 1. A segment's header says which place it has
 *
 * A place is given to a new segment when both its seats are free, in one semop(2), and after the segment
 * before has lost its key: who found that one and sits down too late sees that it has no key any more.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <unistd.h>

#include "base/error.h"
#include "base/holder.h"
#include "base/mapping.h"
#include "base/races.h"
#include "base/sysv.h"
#include "channel/shm/named.h"
#include "channel/table.h"
#include "segment/mirror.h"

enum {
    DOOMED = 0,
    LISTENER = 1,
    MAKING = 2,
    FIRST_SEAT = 4,
    PLACES = 64,
    SEMAPHORES = FIRST_SEAT + 2 * PLACES
};

/* --- seats --- */

static unsigned short semaphore_of(unsigned place, int side)
{
    return (unsigned short)(FIRST_SEAT + 2 * place + (unsigned)side);
}

static struct sembuf is_zero(unsigned short number)
{
    return (struct sembuf){.sem_num = number, .sem_op = 0, .sem_flg = IPC_NOWAIT};
}

static struct sembuf change(unsigned short number, short by)
{
    return (struct sembuf){.sem_num = number, .sem_op = by, .sem_flg = IPC_NOWAIT | SEM_UNDO};
}

/* All or none, without waiting. */
static bool operate(int set, struct sembuf *operations, size_t count)
{
    return semop(set, operations, count) == 0;
}

static int value_of(int set, int number)
{
    return semctl(set, number, GETVAL);
}

static bool sysv_sit(struct named_seat *seat)
{
    unsigned short number = semaphore_of(seat->place, seat->side);
    struct sembuf take[] = {is_zero(number), change(number, 1)};

    return operate(seat->set, take, 2);
}

static bool sysv_is_taken(const struct named_seat *seat, int side)
{
    return value_of(seat->set, semaphore_of(seat->place, side)) > 0;
}

/* semop(2): SEM_UNDO is of one process and is not inherited. One less and two more: only where somebody is.
 * Whether that is still this connection's nobody can tell, as a place has no memory of its own: it is not if
 * both who were in it are gone, the peer killed, and the place has been given to others since. */
static bool sysv_adopt(struct named_seat *seat)
{
    unsigned short number = semaphore_of(seat->place, seat->side);
    struct sembuf too[] = {change(number, -1), change(number, 2)};

    return operate(seat->set, too, 2);
}

/* Removes the set if nobody needs it any more. Only whoever may remove it dooms it. */
static void remove_unused(int set)
{
    struct sembuf unused[SEMAPHORES + 1];
    struct semid_ds status;
    uid_t self = geteuid();

    if (semctl(set, 0, IPC_STAT, &status) < 0 ||
        (self != 0 && self != status.sem_perm.uid && self != status.sem_perm.cuid))
        return;
    for (unsigned short i = 0; i < SEMAPHORES; i++)
        unused[i] = is_zero(i);
    unused[SEMAPHORES] = (struct sembuf){.sem_num = DOOMED, .sem_op = 1, .sem_flg = IPC_NOWAIT};
    if (operate(set, unused, SEMAPHORES + 1))
        (void)semctl(set, 0, IPC_RMID);
}

static void sysv_leave(struct named_seat *seat)
{
    struct sembuf leave = change(semaphore_of(seat->place, seat->side), -1);

    (void)operate(seat->set, &leave, 1);
    remove_unused(seat->set);
}

/* --- the set --- */

static int set_failed(const char *what, int code, const char *action)
{
    const char *advice = "";

    if (code == EINVAL)
        return error_set(
            EEXIST, "%s: there are semaphores with this key that are not naru's; choose another key", what);
    if (code == ENOSPC)
        advice = "; `ipcs -s` shows them, /proc/sys/kernel/sem has the limits";
    if (code == EACCES || code == EPERM)
        advice = "; who listened first decides by ?mode=";
    return error_set(code, "%s: cannot %s the semaphores: %s%s", what, action, error_text(code), advice);
}

/* Whether the set is one of ours, as far as its size tells: before anything is done to it. 0; -EAGAIN,
 * without a sentence: it has been removed; or explained. */
static int check_set(const char *what, int set)
{
    struct semid_ds status;

    if (semctl(set, 0, IPC_STAT, &status) < 0)
        return sysv_is_gone(errno) ? -EAGAIN : set_failed(what, errno, "look at");
    return status.sem_nsems == SEMAPHORES ? 0 : set_failed(what, EINVAL, "use");
}

/* The set may have been made for others than may connect now. */
static void set_mode(int set, unsigned mode)
{
    struct semid_ds status;

    if (semctl(set, 0, IPC_STAT, &status) < 0 || (status.sem_perm.mode & 0777) == mode)
        return;
    status.sem_perm.mode = (unsigned short)mode;
    (void)semctl(set, 0, IPC_SET, &status); /* only its owner may; then it stays as it is */
}

/* Becomes the listener of the key. flags: IPC_CREAT and a mode, or 0: -ENOENT, without a sentence, if there
 * is no set. */
static int take_key(struct named_place *place, int flags)
{
    for (int race = 0; race < RACES_MAX; race++) {
        struct sembuf take[] = {is_zero(DOOMED), is_zero(LISTENER), change(LISTENER, 1)};
        /* Linux makes them zero (semget(2)). */
        int set = semget(place->key, SEMAPHORES, flags), r;

        if (set < 0 && errno == ENOENT)
            return -ENOENT;
        if (set < 0)
            return set_failed(place->what, errno, "open");
        r = check_set(place->what, set);
        if (r == -EAGAIN)
            continue;
        if (r < 0)
            return r;
        if (operate(set, take, 3)) {
            place->set = set;
            place->listening = true;
            return 0;
        }
        if (errno != EAGAIN && !sysv_is_gone(errno))
            return set_failed(place->what, errno, "take");
        if (value_of(set, DOOMED) > 0) {
            if (semctl(set, 0, IPC_RMID) < 0 && !sysv_is_gone(errno))
                return set_failed(place->what, errno, "remove");
        } else if (value_of(set, LISTENER) > 0) {
            return error_set(EADDRINUSE, "%s: another process listens there; stop it, or choose another key",
                             place->what);
        }
    }
    return error_set(EAGAIN, "%s: others keep making and removing it", place->what);
}

static void give_key_back(struct named_place *place)
{
    struct sembuf give = change(LISTENER, -1);

    if (!place->listening)
        return;
    (void)operate(place->set, &give, 1);
    place->listening = false;
    remove_unused(place->set);
}

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

static void say_making(int set, int value)
{
    union {
        int value;
        void *pointer; /* semctl(2): as large as union semun */
    } argument = {.value = value};

    (void)semctl(set, MAKING, SETVAL, argument);
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
    ours = shared_is_one(found.data) || value_of(place->set, MAKING) > 0;
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
        say_making(place->set, 0);
    return r;
}

/* A place with both seats free, with us in its seat 0. */
static int take_place(const char *what, struct named_seat *seat)
{
    for (unsigned place = 0; place < PLACES; place++) {
        unsigned short first = semaphore_of(place, 0), second = semaphore_of(place, 1);
        struct sembuf take[] = {is_zero(first), is_zero(second), change(first, 1)};

        if (operate(seat->set, take, 3)) {
            seat->place = place;
            return 0;
        }
        if (errno != EAGAIN)
            return set_failed(what, errno, "take");
    }
    return error_set(EBUSY, "%s: %d connections are open under this key; close one, or use shm:", what,
                     PLACES);
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

    say_making(place->set, 1);
    seat->id = shmget(place->key, shared_size(order->ring), IPC_CREAT | IPC_EXCL | (int)order->mode);
    if (seat->id < 0)
        r = segment_failed(place->what, errno, "make");
    else
        r = fill_segment(place, order, seat);
    if (r < 0 && seat->id >= 0)
        (void)shmctl(seat->id, IPC_RMID, NULL);
    say_making(place->set, 0);
    return r;
}

static int sysv_make(struct named_place *place, const struct named_order *order, struct named_seat *seat)
{
    int r = order->old ? 0 : take_key(place, IPC_CREAT | (int)order->mode);

    if (r < 0)
        return r;
    seat->set = place->set;
    if (order->old) {
        (void)shmctl(order->old->id, IPC_RMID, NULL); /* or somebody has removed it already */
    } else {
        set_mode(place->set, order->mode);
        r = remove_dead(place);
    }
    if (r == 0)
        r = take_place(place->what, seat);
    if (r == 0) {
        r = make_segment(place, order, seat);
        if (r < 0)
            sysv_leave(seat);
    }
    if (r < 0 && !order->old)
        give_key_back(place);
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
    seat->set = semget(place->key, 0, 0);
    if (found.bytes < SHM_PAGE || !shared_is_one(header)) {
        if ((seat->set < 0 || value_of(seat->set, MAKING) <= 0) && is_strange(place, seat, &found))
            return no_channel(place->what, &found);
        (void)munmap(found.data, found.bytes);
        return NAMED_NOBODY;
    }
    seat->place = header->place;
    if (seat->set < 0)
        r = errno == ENOENT ? -EAGAIN : set_failed(place->what, errno, "open");
    else
        r = check_set(place->what, seat->set);
    if (r == 0 && seat->place >= PLACES)
        r = set_failed(place->what, EINVAL, "use");
    if (r == 0)
        *ret_found = found;
    else
        (void)munmap(found.data, found.bytes);
    return r == -EAGAIN ? NAMED_NOBODY : r;
}

static void sysv_unlisten(struct named_place *place, const struct named_seat *seat)
{
    (void)shmctl(seat->id, IPC_RMID, NULL);
    give_key_back(place);
}

/* The explained -EBUSY. Whose the semaphore is is who changed it last: semctl(2), GETPID. */
static int still_listening(const struct named_place *place)
{
    int set = semget(place->key, 0, 0), pid = set < 0 ? 0 : semctl(set, LISTENER, GETPID);
    char name[HOLDER_NAME];

    return error_set(EBUSY, "%s: %s listens there; end it first", place->what, holder_name(pid, name));
}

static int sysv_remove(struct named_place *place)
{
    bool found = shmget(place->key, 0, 0) >= 0; /* something of a dead listener's */
    int r = take_key(place, 0);

    if (r == -EADDRINUSE)
        return still_listening(place);
    if (r < 0 && r != -ENOENT)
        return r;
    if (r == -ENOENT && !found)
        return error_set(ENOENT, "%s: there is no channel with this key", place->what);
    found = found || value_of(place->set, MAKING) > 0;
    r = remove_dead(place);
    give_key_back(place);
    if (r == 0 && !found)
        return error_set(ENOENT, "%s: there is no channel with this key", place->what);
    return r;
}

const struct named_kind shm_named_sysv = {
    .parse = sysv_parse,
    .make = sysv_make,
    .find = sysv_find,
    .sit = sysv_sit,
    .is_taken = sysv_is_taken,
    .leave = sysv_leave,
    .adopt = sysv_adopt,
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
