/* SPDX-License-Identifier: MIT */
/*
 * shm+posix: a channel in POSIX shared memory (shm_overview(7)), a file in /dev/shm.
 *
 * A seat is a lock on one byte of it, of the kind that belongs to an open file description (fcntl(2),
 * F_OFD_SETLK): the kernel frees it when the last descriptor is closed, in whatever pid namespace its holder
 * lives, and no number is used again meanwhile. A mapping holds on to the description that it was made by,
 * also in a child of fork(), so what is mapped is opened once more than what is locked.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/fd.h"
#include "base/holder.h"
#include "base/mapping.h"
#include "base/races.h"
#include "channel/shm/named.h"
#include "channel/table.h"
#include "segment/publish.h"

/* A new segment has the name with this behind it until it takes the name itself. Whoever changes what stands
 * under a name has that one meanwhile, and sits in it, so that listeners keep off each other. */
static const char next_suffix[] = ".next";

/* --- seats --- */

enum { REMOVING = 2 }; /* a third byte: whoever takes a dead one's name */

static struct flock lock_on(int byte)
{
    return (struct flock){.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1};
}

static bool take_lock(int fd, int byte)
{
    struct flock lock = lock_on(byte);

    return fcntl(fd, F_OFD_SETLK, &lock) == 0;
}

/* By another description. What cannot be asked is taken for alive: nothing of it is removed. */
static bool is_locked(int fd, int byte)
{
    struct flock found = lock_on(byte);

    return fcntl(fd, F_OFD_GETLK, &found) < 0 || found.l_type != F_UNLCK;
}

static bool posix_sit(struct named_seat *seat)
{
    return take_lock(*seat->fd, seat->side);
}

static bool posix_is_taken(const struct named_seat *seat, int side)
{
    return is_locked(*seat->fd, side);
}

/* The lock goes with the descriptor: a child that keeps the channel may have it, too. */
static void posix_leave(struct named_seat *seat)
{
    (void)seat;
}

/* --- names --- */

/* Of a path that is some name's next one: how long that name is, which *ret_name begins with; 0 of others. */
static int length_before_next(const char *path, const char **ret_name)
{
    const char *name = path + sizeof SHM_DIRECTORY;
    size_t length = strlen(name), suffix = sizeof next_suffix - 1;

    *ret_name = name;
    return length > suffix && strcmp(name + length - suffix, next_suffix) == 0 ? (int)(length - suffix) : 0;
}

static int posix_parse(struct url *url, struct named_place *ret_place)
{
    const char *name;
    int r = publish_shm_path(url, sizeof next_suffix - 1, ret_place->path, sizeof ret_place->path), length;

    if (r < 0)
        return r;
    length = length_before_next(ret_place->path, &name);
    return length == 0 ? 0
                       : error_set(EINVAL,
                                   "%s: a name that ends in %s is for the next segment of shm+posix:/%.*s; "
                                   "choose another name",
                                   url->text, next_suffix, length, name);
}

static int open_failed(const char *what, const char *path, int r)
{
    if (r == -EINVAL)
        return publish_in_the_way(EEXIST, what, path);
    return error_set(-r, "%s: cannot open %s: %s%s", what, path, error_text(-r),
                     publish_advice(PUBLISH_OPENING, -r));
}

static bool is_channel(int fd)
{
    struct shm_shared header;

    return pread(fd, &header, sizeof header, 0) == (ssize_t)sizeof header && shared_is_one(&header);
}

/* A segment whose listener is dead stays so: nobody takes the first seat of one that has a name. So the seat
 * is only looked at here, or who connects would see somebody in it; those who remove keep off each other by a
 * lock of their own. 0: removed; -EAGAIN: another look is needed; or explained. */
static int remove_if_dead(const char *what, const char *path, int fd)
{
    if (!is_channel(fd))
        return error_set(
            EEXIST,
            "%s: there is shared memory of that name, %s, but it is no channel of naru's; remove it, "
            "or choose another name",
            what, path);
    if (is_locked(fd, SEAT_LISTENER))
        return error_set(EADDRINUSE, "%s: another listener is there; stop it, or choose another name", what);
    if (!take_lock(fd, REMOVING) || !fd_is_path(fd, path)) /* another is faster, or was */
        return -EAGAIN;
    if (unlink(path) < 0)
        return error_set(errno, "%s: cannot remove %s, which a dead process left: %s", what, path,
                         error_text(errno));
    return 0;
}

/* Takes the name from a segment whose listener is dead. 0; -ENOENT, without a sentence: there is none;
 * -EADDRINUSE: it lives; or explained. */
static int remove_dead(const char *what, const char *path)
{
    for (int race = 0; race < RACES_MAX; race++) {
        FD_CLEANUP int fd = -1;
        int r = publish_open(path, O_RDWR | O_NOFOLLOW, &fd, NULL);

        if (r == -ENOENT)
            return r;
        if (r < 0)
            return open_failed(what, path, r);
        r = remove_if_dead(what, path, fd);
        if (r != -EAGAIN)
            return r;
        (void)sched_yield();
    }
    return error_set(EAGAIN, "%s: others keep making and removing it", what);
}

static void next_path(const struct named_place *place, char *buffer, size_t capacity)
{
    (void)snprintf(buffer, capacity, "%s%s", place->path, next_suffix);
}

/* --- making and finding --- */

/* Maps what stands at path by a description of its own, which is to be the same file as fd. */
static int map(const char *what, const char *path, int fd, size_t bytes, void **ret_data)
{
    FD_CLEANUP int other = -1;
    int r = publish_open(path, O_RDWR | O_NOFOLLOW, &other, NULL);

    if (r < 0 && r != -ENOENT)
        return open_failed(what, path, r);
    if (r < 0 || !fd_is_path(fd, path) || !fd_is_path(other, path))
        return NAMED_NOBODY;
    *ret_data = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, other, 0);
    if (*ret_data == MAP_FAILED)
        return error_set(mapping_code(errno), "%s: cannot map %zu bytes: %s", what, bytes,
                         mapping_text(errno));
    return 0;
}

struct filling {
    const struct named_place *place;
    const struct named_order *order;
    int told;
};

/* Of a file that nobody sees yet; for publish_create(). */
static int fill(int fd, void *argument)
{
    struct filling *f = argument;
    size_t bytes = shared_size(f->order->ring);
    void *data = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

    if (data == MAP_FAILED)
        return f->told = error_set(mapping_code(errno), "%s: cannot map %zu bytes: %s", f->place->what, bytes,
                                   mapping_text(errno));
    shared_fill(data, f->order->ring, 0, f->order->word);
    (void)munmap(data, bytes);
    if (!take_lock(fd, SEAT_LISTENER))
        return f->told = error_set(errno, "%s: cannot lock a file in " SHM_DIRECTORY ": %s", f->place->what,
                                   error_text(errno));
    return 0;
}

/* A new segment with us in its seat 0, under that name, where a dead one's makes way. */
static int make_at(const struct named_place *place, const struct named_order *order, const char *path,
                   int *ret_fd)
{
    size_t bytes = shared_size(order->ring);

    for (int race = 0; race < RACES_MAX; race++) {
        struct filling filling = {place, order, 0};
        int r = remove_dead(place->what, path);

        if (r < 0 && r != -ENOENT)
            return r;
        r = publish_create(path, order->mode, bytes, fill, &filling, ret_fd);
        if (filling.told < 0)
            return filling.told;
        if (r < 0 && r != -EEXIST)
            return error_set(-r, "%s: %s %zu bytes of shared memory: %s%s", place->what,
                             r == -ENOSPC ? "no room for" : "cannot make", bytes, error_text(-r),
                             publish_advice(PUBLISH_MAKING, -r));
        if (r == 0)
            return 0;
    }
    return error_set(EAGAIN, "%s: others keep making and removing it", place->what);
}

static bool is_old(const struct named_place *place, const struct named_order *order)
{
    return order->old && fd_is_path(*order->old->fd, place->path);
}

/* Puts next, which is ours, under the name. As no other listener does so meanwhile, what is found there stays
 * the old one or nobody's; what no listener puts there is not replaced either, unless in that very instant.
 * 0, NAMED_TAKEN or explained. */
static int take_name(const struct named_place *place, const struct named_order *order, const char *next)
{
    for (int race = 0; race < RACES_MAX; race++) {
        unsigned flags = is_old(place, order) ? 0 : RENAME_NOREPLACE;
        int r;

        if (renameat2(AT_FDCWD, next, AT_FDCWD, place->path, flags) == 0)
            return 0;
        if (errno != EEXIST)
            return error_set(errno, "%s: cannot rename %s: %s", place->what, next, error_text(errno));
        if (order->old)
            return NAMED_TAKEN;
        r = remove_dead(place->what, place->path);
        if (r < 0 && r != -ENOENT)
            return r;
    }
    return error_set(EAGAIN, "%s: others keep making and removing it", place->what);
}

/* Into the seat. From next, where nobody else looks for it: what fails after the name was taken would leave a
 * listener without one. 0 or explained. */
static int map_next(const struct named_place *place, const struct named_order *order, const char *next,
                    int fd, struct named_seat *seat)
{
    void *data;
    int r = map(place->what, next, fd, shared_size(order->ring), &data);

    if (r == NAMED_NOBODY)
        return error_set(ENOENT, "%s: the segment was removed while it was being made", place->what);
    return r < 0 ? r : shm_named_map(place->what, data, order->ring, seat);
}

/* A segment of ours under the name. Until that it is at NAME.next, and what has the name keeps it. */
static int posix_make(struct named_place *place, const struct named_order *order, struct named_seat *seat)
{
    char next[sizeof place->path + sizeof next_suffix], holder[HOLDER_NAME];
    FD_CLEANUP int fd = -1;
    int r = order->old ? 0 : remove_dead(place->what, place->path); /* before much is made for nothing */

    if (r < 0 && r != -ENOENT)
        return r;
    next_path(place, next, sizeof next);
    r = make_at(place, order, next, &fd);
    if (r == -EADDRINUSE && order->old) /* whoever is about to listen will find us there, if we are */
        return is_old(place, order) ? -EAGAIN : NAMED_TAKEN;
    if (r == -EADDRINUSE)
        return error_set(EADDRINUSE,
                         "%s: %s is about to listen there, and holds %s; end it, or choose another name",
                         place->what, holder_of_lock_name(next, holder), next);
    if (r < 0)
        return r;
    r = map_next(place, order, next, fd, seat);
    if (r == 0)
        r = take_name(place, order, next);
    if (r == 0)
        *seat->fd = fd_steal(&fd);
    else if (fd_is_path(fd, next))
        (void)unlink(next);
    return r;
}

static int posix_find(struct named_place *place, struct named_seat *seat, struct named_found *ret_found)
{
    struct stat status;
    int r = publish_open(place->path, O_RDWR | O_NOFOLLOW, seat->fd, &status);

    if (r == -ENOENT)
        return NAMED_NOBODY;
    if (r < 0)
        return open_failed(place->what, place->path, r);
    if (status.st_size < SHM_PAGE)
        return error_set(EPROTO, "%s: there is shared memory of that name, but it is no channel of naru's",
                         place->what);
    ret_found->bytes = (size_t)status.st_size;
    return map(place->what, place->path, *seat->fd, ret_found->bytes, &ret_found->data);
}

static bool posix_is_named(const struct named_place *place, const struct named_seat *seat)
{
    return fd_is_path(*seat->fd, place->path);
}

static void posix_unlisten(struct named_place *place, const struct named_seat *seat)
{
    if (fd_is_path(*seat->fd, place->path))
        (void)unlink(place->path);
}

/* What remove_dead() said, for who wanted nothing else. */
static int not_removed(const struct named_place *place, int r)
{
    char holder[HOLDER_NAME];
    const char *name;
    int length;

    if (r == -ENOENT)
        return error_set(ENOENT, "%s: there is no shared memory of that name", place->what);
    if (r != -EADDRINUSE)
        return r;
    (void)holder_of_lock_name(place->path, holder);
    length = length_before_next(place->path, &name);
    if (length == 0)
        return error_set(EBUSY, "%s: %s listens there; end it first", place->what, holder);
    return error_set(EBUSY, "%s: %s holds it, to listen at shm+posix:/%.*s; end it first", place->what,
                     holder, length, name);
}

/* Whoever is about to listen has it for an instant, unless it is stopped there. */
static int posix_say_held_up(const struct named_place *place)
{
    char next[sizeof place->path + sizeof next_suffix], holder[HOLDER_NAME];
    FD_CLEANUP int fd = -1;

    next_path(place, next, sizeof next);
    if (publish_open(next, O_RDWR | O_NOFOLLOW, &fd, NULL) < 0 || !is_locked(fd, SEAT_LISTENER))
        return error_expected(ETIMEDOUT);
    return error_set(ETIMEDOUT,
                     "%s: the time was up: somebody has connected, and to be accepted needs %s, where the "
                     "segment for who comes next is made; %s holds that: end it, or let it go on",
                     place->what, next, holder_of_lock_name(next, holder));
}

/* Of a listener that was killed before it had the name all that there is may be the next segment. */
static int posix_remove(struct named_place *place)
{
    char next[sizeof place->path + sizeof next_suffix];
    int r = remove_dead(place->what, place->path);

    next_path(place, next, sizeof next);
    if ((r == 0 || r == -ENOENT) && remove_dead(place->what, next) == 0)
        return 0;
    return not_removed(place, r);
}

const struct named_kind shm_named_posix = {
    .parse = posix_parse,
    .make = posix_make,
    .find = posix_find,
    .sit = posix_sit,
    .is_taken = posix_is_taken,
    .leave = posix_leave,
    .is_named = posix_is_named,
    .unlisten = posix_unlisten,
    .say_held_up = posix_say_held_up,
    .remove = posix_remove,
};

/* --- the row --- */

static int listen_here(struct naru_listener *l, struct url *url, const struct naru_options *opt)
{
    return shm_named_listen(l, url, opt, &shm_named_posix);
}

static int connect_here(struct naru_channel *ch, struct url *url, const struct naru_options *opt,
                        int64_t deadline)
{
    return shm_named_connect(ch, url, opt, deadline, &shm_named_posix);
}

/* A next segment, too: no channel is called so, but a killed listener may have left one, and a live one's
 * is not to be taken for something else. */
static int remove_here(struct url *url)
{
    struct named_place place = {.what = url->text};
    const char *name;
    int r = publish_shm_path(url, 0, place.path, sizeof place.path);

    if (r < 0 || length_before_next(place.path, &name) == 0)
        return shm_named_remove(url, &shm_named_posix);
    r = remove_dead(place.what, place.path);
    return r < 0 ? not_removed(&place, r) : 0;
}

const struct channel_ops shm_posix_ops = {
    .row = {.size = sizeof(struct naru_mechanism),
            .name = "shm+posix",
            .scheme = "shm+posix",
            .example = "shm+posix:/name",
            .title = "ring in POSIX shared memory",
            .use_when = "shm: where there can be no socket: the two share /dev/shm and nothing else",
            .medium = "a ring in /dev/shm/name; both map and write all of it, and share fate",
            .direction = "both ways",
            .unit = "message",
            .scope = "one machine, by file permissions",
            .persistence = "until the last end is closed; the name goes with its listener",
            .limit = "a message fills at most half of the ring, 128 KiB; ?ring=",
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
