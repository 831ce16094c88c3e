/* SPDX-License-Identifier: MIT */
/*
 * Segments: raw shared bytes, chosen by URL. Nothing is stored in them but what programs put there, so a
 * program that never heard of naru (shmget(2), shm_open(3), mmap(2)) sees the same bytes.
 *
 *   memfd:            anonymous memory (memfd_create(2)); shared by fork() or by passing naru_segment_fd()
 *   shm+posix:/name   POSIX shared memory, /dev/shm/name; until removed or reboot
 *   shm+sysv:0x4d2    System V shared memory of that key; until removed or reboot. shm+sysv:?id=N: by its id
 *   mmap:///path      a mapped file; lives on, can grow
 *
 * All of them take ?mirror (mapped twice in a row), ?huge=try|must (of huge pages) and ?prefault (no page
 * fault later): see struct naru_segment_options, which has the same as fields.
 *
 * What a bare pointer risks. Memory of a memfd, POSIX name or file is cut off when somebody who may write the
 * object truncates it: a later access through naru_segment_data() beyond the new end kills the process with
 * SIGBUS (mmap(2)). naru_segment_read() and naru_segment_write() go through the kernel and never do; use them
 * where the others are not trusted to leave the size alone. System V segments cannot be truncated. Space is
 * reserved when naru makes or grows an object (fallocate(2)), so that a full /dev/shm or disk is -ENOSPC then
 * and not SIGBUS later; a sparse file made by somebody else carries that risk still.
 *
 * Threads: the bytes are for the program to guard (naru/mutex.h and others). naru_segment_data(), _size(),
 * _read(), _write(), _fd() and _url() may run in several threads at once; open handles are independent;
 * naru_segment_resize(), _refresh() and _close() need the handle for themselves.
 *
 * Fork: unlike a channel, a segment is inherited on purpose: a forked child uses the handle as its parent
 * does, and each closes its own copy. What ?unlink removes is removed only by the process that opened it.
 *
 * No call here is async-signal-safe but naru_segment_data(). None blocks, apart from a disk that is read.
 */
#ifndef NARU_SEGMENT_H
#define NARU_SEGMENT_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "naru/export.h"

NARU_BEGIN

struct naru_segment;

/* What to do about an object that is not there, or is. */
enum naru_create {
    NARU_CREATE_DEFAULT = 0, /* segments: as NARU_CREATE_YES if a size is given, else as NARU_CREATE_NO */
    NARU_CREATE_NO = 1,      /* -ENOENT if it is missing */
    NARU_CREATE_YES = 2,     /* make it if it is missing */
    NARU_CREATE_NEW = 3      /* make it; -EEXIST if it is there */
};

/* Pages of 2 MiB or so in place of 4 KiB: fewer misses of the processor's translation of addresses. */
enum naru_huge_pages {
    NARU_HUGE_NO = 0,
    NARU_HUGE_TRY = 1, /* as far as they can be had */
    NARU_HUGE_MUST = 2 /* -ENOTSUP without them */
};

/* All zero (NARU_INIT) means the defaults. What the URL says as ?key=value wins over what stands here. */
struct naru_segment_options {
    size_t size;
    enum naru_create create; /* ?create=no|yes|new */
    unsigned mode;           /* ?mode=  permission bits of what is made, exactly (no umask); 0: 0600 */
    int unlink;              /* ?unlink  remove the name or key at naru_segment_close() */
    int read_only;           /* ?read-only  map and open for reading only */
    /*
     * If not NULL: called on the bytes of an object that is made now, before anybody else can see them, so
     * that the others find it filled in whenever its maker is killed (say, with a naru_mutex initialised in
     * it). 0, or a negative errno, which ends the opening. -ENOTSUP for shm+sysv:, which has a name from the
     * first.
     */
    int (*initialise)(void *data, size_t size, void *argument);
    void *argument;
    /*
     * ?mirror  The bytes stand in the address space twice in a row: data[i] and data[i + size] are one, so
     * that what runs over the end goes on at the beginning. The size is to be whole pages (-EINVAL). The
     * compiler takes the two for different objects: access what is not plain data, locks and atomics, in the
     * first copy only.
     */
    int mirror;
    /*
     * ?huge=no|try|must  As far as whole huge pages lie in it, the object is made of them: a memfd or System
     * V memory of such that the system keeps (vm.nr_hugepages), if there are enough and its size is a number
     * of them; otherwise, and what exists already, of ordinary ones that the kernel joins (MADV_COLLAPSE,
     * Linux 6.1), for memory, not for files on disks. A memfd of kept pages is another kind of file: shm:
     * channels take none. It grows by whole pages only, and naru_segment_write() maps it to do so.
     */
    enum naru_huge_pages huge_pages;
    /* ?prefault  All of it is reserved and mapped before the call returns: no access faults later, the first
     * one neither. -ENOTSUP before Linux 5.14. */
    int prefault;
};

/*
 * Opens, or makes, the object and maps it.
 *
 * url: see above. size: bytes; 0 takes the size the object has. A made object is all zeroes and becomes
 * visible under its name only when it has its full size. An object that exists keeps its size and contents.
 * options: NULL means the defaults. *ret_segment is the caller's, to be closed with naru_segment_close().
 *
 * An object of 0 bytes (another program made it and has not sized it yet) opens too: naru_segment_data() is
 * then NULL until naru_segment_refresh() finds more.
 *
 * -EINVAL: a URL or option that makes no sense, options not made by NARU_INIT, size 0 for a new object, or
 * the object that exists is smaller than size. -ENOENT: missing, and not to be made. -EEXIST: there, and to
 * be new. -EACCES, -EPERM: no permission. -ENOSPC: /dev/shm, the disk or the system's number of segments is
 * full. -EFBIG: larger than the file system or RLIMIT_FSIZE allows. -EOPNOTSUPP: the file system cannot
 * reserve space. -ENOTSUP: NARU_HUGE_MUST, and there are no huge pages; or prefault, and the kernel is older
 * than that. -ENOMEM, -EMFILE.
 */
NARU_API NARU_MUST_CHECK int naru_segment_open(const char *url, size_t size,
                                               const struct naru_segment_options *options,
                                               struct naru_segment **ret_segment);

/*
 * A segment over a descriptor that came from somewhere else: naru_segment_fd() of another process passed over
 * a unix socket, an inherited memfd, a regular file. Of the options read_only, mirror, huge_pages and
 * prefault count. On success the segment owns fd and closes it; on failure fd stays the caller's. -EINVAL:
 * not a memfd or regular file. -EACCES: not open for what is wanted. -EPERM: sealed against writing
 * (F_ADD_SEALS in fcntl(2)), and read_only is not set or does not help. -ENOTSUP, -ENOMEM as above; -ENOMEM
 * also if the system keeps too few huge pages for a memfd of such (vm.nr_hugepages).
 */
NARU_API NARU_MUST_CHECK int naru_segment_take_fd(int fd, const struct naru_segment_options *options,
                                                  struct naru_segment **ret_segment);

/* Detaches. Returns NULL; NULL is allowed. Pointers from naru_segment_data() end here. */
NARU_API struct naru_segment *naru_segment_close(struct naru_segment *segment);

/*
 * Where the bytes are; page-aligned, valid until naru_segment_resize(), _refresh() or _close(). NULL while
 * the object has no bytes. See "What a bare pointer risks".
 */
NARU_API void *naru_segment_data(const struct naru_segment *segment);

/*
 * The object's size in bytes, now: asks the kernel each time. More than is mapped when another process has
 * grown it (naru_segment_refresh() then maps the rest), less when one has cut it short. Or -errno.
 */
NARU_API ssize_t naru_segment_size(const struct naru_segment *segment);

/*
 * Follows the object's size: maps what was added. *ret_size, if not NULL, is the number of bytes usable at
 * naru_segment_data() now, whose address may have changed. 0; -ENOMEM: no address space, nothing changed.
 */
NARU_API NARU_MUST_CHECK int naru_segment_refresh(struct naru_segment *segment, size_t *ret_size);

/*
 * Grows the object to size bytes, the new ones zero, and maps them, as the options were; the address may
 * change. An object that already has as many is left as it is. Other processes learn by naru_segment_size()
 * or _refresh().
 *
 * -EINVAL: smaller than now: nothing shrinks here, as that would cut others off; remove it and make a new
 * one. Or no whole pages of what is made of huge ones that the system keeps, or of a mirror. -ENOTSUP: System
 * V segments have one size for life. -ENOMEM: no address space, or more than may be locked, or than the
 * machine has. -ENOSPC, -EFBIG, -EACCES, -EOPNOTSUPP as at open; -EPERM: sealed (F_ADD_SEALS in fcntl(2)).
 * After a failure the segment is as it was. But what huge_pages and prefault ask for comes last: if that
 * fails (-ENOTSUP, -ENOMEM, -ENOSPC), or another thread has taken the address space meanwhile, the object has
 * grown.
 */
NARU_API NARU_MUST_CHECK int naru_segment_resize(struct naru_segment *segment, size_t size);

/*
 * Copies length bytes at offset into data. The number of bytes: fewer than asked for only at the end of the
 * object as it is now, 0 at or after it. Never SIGBUS. Copying is not atomic against writers. -EIO: the disk.
 */
NARU_API NARU_MUST_CHECK ssize_t naru_segment_read(const struct naru_segment *segment, uint64_t offset,
                                                   void *data, size_t length);

/*
 * Copies length bytes of data to offset. Never SIGBUS, never makes the object larger than it was. -ENXIO: it
 * would reach past the object's end as it is now, and nothing was written. -EACCES: opened for reading only.
 * -ENOSPC: the object is sparse and the disk is full. -EPERM: sealed. -EIO: the disk.
 */
NARU_API NARU_MUST_CHECK int naru_segment_write(struct naru_segment *segment, uint64_t offset,
                                                const void *data, size_t length);

/* The descriptor behind it, still the segment's (close-on-exec); -ENOTSUP for System V, which has none. */
NARU_API int naru_segment_fd(const struct naru_segment *segment);

/* The URL it was opened by; the segment's. */
NARU_API const char *naru_segment_url(const struct naru_segment *segment);

/*
 * Removes the name or key; who has it open keeps the bytes until the last one closes. Options in the URL are
 * ignored but for ?id=. It does not ask what the bytes are for: a channel of shm+posix: or shm+sysv: that
 * somebody listens to loses its name; naru_remove() leaves it alone. 0; -ENOENT; -EACCES or -EPERM; -ENOTSUP
 * for memfd:, which has no name; -EINVAL.
 */
NARU_API NARU_MUST_CHECK int naru_segment_remove(const char *url);

/* One object found by naru_segment_list(). */
struct naru_segment_entry {
    size_t size;          /* sizeof(struct naru_segment_entry) of the library */
    const char *url;      /* naru_segment_open() opens it */
    uint64_t bytes;       /* its size */
    int64_t uid, gid;     /* of the owner */
    unsigned mode;        /* permission bits */
    int64_t attached;     /* mappings there are (System V), -1: not told */
    int64_t creator_pid;  /* System V, -1: not told */
    int64_t last_pid;     /* who attached or detached last (System V), -1: not told */
    int64_t changed_at_s; /* seconds since the epoch: last modified (POSIX), created or changed (System V) */
};

/*
 * Calls each(entry, argument) for every object of a kind, "shm+posix" or "shm+sysv", this process may see.
 * The entry and its strings are valid during the call. each returns 0 to go on; anything else ends the list
 * and is returned. Objects made or removed meanwhile may or may not appear. -ENOTSUP: the scheme has no list
 * (memfd:, mmap:). -EINVAL: no such scheme. -ENOMEM; -errno when the kernel's list cannot be read.
 */
NARU_API int naru_segment_list(const char *scheme,
                               int (*each)(const struct naru_segment_entry *entry, void *argument),
                               void *argument);

NARU_END

#endif
