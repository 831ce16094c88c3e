/* SPDX-License-Identifier: MIT */
/*
 * The semaphores of shm+sysv:, a set of the same key as the segment, taken with SEM_UNDO (semop(2)): the
 * kernel gives them back when the process ends, in whatever pid namespace it lives. One set serves all
 * connections that were accepted under the key, so that it can be found and removed whoever was killed:
 *
 *     0          1: the set is about to be removed, and nobody listens with it any more
 *     1          1: a listener lives
 *     2          1: a segment is being made, and may stand under the key with nothing in it
 *     4 + 2 n    seat 0 of place n; 5 + 2 n: seat 1. A segment's header says which place it has
 *
 * A place is given to a new segment when both its seats are free, in one semop(2), and after the segment
 * before has lost its key: who found that one and sits down too late sees that it has no key any more.
 */
#include "channel/shm/sysv-set.h"

#include <errno.h>
#include <sys/ipc.h>
#include <sys/sem.h>
#include <unistd.h>

#include "base/error.h"
#include "base/holder.h"
#include "base/races.h"
#include "base/sysv.h"

enum {
    DOOMED = 0,
    LISTENER = 1,
    MAKING = 2,
    FIRST_SEAT = 4,
    PLACES = 64,
    SEMAPHORES = FIRST_SEAT + 2 * PLACES
};

/* --- the set --- */

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

int sysv_set_find(key_t key)
{
    int set = semget(key, 0, 0);

    return set < 0 ? -errno : set;
}

int sysv_set_check(const char *what, int set, unsigned place)
{
    int r;

    if (set < 0)
        return set == -ENOENT ? -EAGAIN : set_failed(what, -set, "open");
    r = check_set(what, set);
    return r == 0 && place >= PLACES ? set_failed(what, EINVAL, "use") : r;
}

void sysv_set_mode(int set, unsigned mode)
{
    struct semid_ds status;

    if (semctl(set, 0, IPC_STAT, &status) < 0 || (status.sem_perm.mode & 0777) == mode)
        return;
    status.sem_perm.mode = (unsigned short)mode;
    (void)semctl(set, 0, IPC_SET, &status); /* only its owner may; then it stays as it is */
}

bool sysv_set_is_making(int set)
{
    return value_of(set, MAKING) > 0;
}

void sysv_set_say_making(int set, bool making)
{
    union {
        int value;
        void *pointer; /* semctl(2): as large as union semun */
    } argument = {.value = making};

    (void)semctl(set, MAKING, SETVAL, argument);
}

/* --- seats --- */

bool sysv_set_sit(struct named_seat *seat)
{
    unsigned short number = semaphore_of(seat->place, seat->side);
    struct sembuf take[] = {is_zero(number), change(number, 1)};

    return operate(seat->set, take, 2);
}

/* What cannot be asked is taken for dead, where posix.c takes it for alive: the set was removed (ipcrm(1)),
 * or is no longer ours to read, and no death would be noticed from then on. What a dead one left is removed
 * only by who has the listener's semaphore in that set. */
bool sysv_set_is_taken(const struct named_seat *seat, int side)
{
    return value_of(seat->set, semaphore_of(seat->place, side)) > 0;
}

/* semop(2): SEM_UNDO is of one process and is not inherited. One less and two more: only where somebody is.
 * Whether that is still this connection's nobody can tell, as a place has no memory of its own: it is not if
 * both who were in it are gone, the peer killed, and the place has been given to others since. */
bool sysv_set_adopt(struct named_seat *seat)
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

void sysv_set_leave(struct named_seat *seat)
{
    struct sembuf leave = change(semaphore_of(seat->place, seat->side), -1);

    (void)operate(seat->set, &leave, 1);
    remove_unused(seat->set);
}

int sysv_set_take_place(const char *what, struct named_seat *seat)
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

/* --- the key --- */

int sysv_set_take_key(struct named_place *place, int flags)
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
            return error_set(EADDRINUSE, "%s: another listener is there; stop it, or choose another key",
                             place->what);
        }
    }
    return error_set(EAGAIN, "%s: others keep making and removing it", place->what);
}

void sysv_set_give_key_back(struct named_place *place)
{
    struct sembuf give = change(LISTENER, -1);

    if (!place->listening)
        return;
    (void)operate(place->set, &give, 1);
    place->listening = false;
    remove_unused(place->set);
}

/* Whose the semaphore is is who changed it last: semctl(2), GETPID. */
int sysv_set_still_listening(const struct named_place *place)
{
    int set = semget(place->key, 0, 0), pid = set < 0 ? 0 : semctl(set, LISTENER, GETPID);
    char name[HOLDER_NAME];

    return error_set(EBUSY, "%s: %s listens there; end it first", place->what, holder_name(pid, name));
}
