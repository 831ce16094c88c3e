/* SPDX-License-Identifier: MIT */
/* The IPC objects with names that exist on this machine now, as the kernel lists them in /proc/sysvipc,
 * /dev/mqueue, /dev/shm and /proc/net/unix, and naru's own locks, semaphores, events and barriers. */
#ifndef CLI_OBJECTS_H
#define CLI_OBJECTS_H

#include <stdint.h>
#include <sys/types.h>

enum { OBJECT_NAME_MAX = 1024 };

struct object {
    const char *kind; /* "sysvmq", "posixmq", "shm+sysv", "shm+posix", "sem+sysv", "sem+posix", "unix", "shm";
                         "mutex" ... */
    char name[OBJECT_NAME_MAX]; /* the URL or name to open it by; "" for a System V object without a key */
    int64_t id;                 /* System V identifier; -1 */
    int64_t uid;                /* owner; -1: not told */
    int64_t mode;               /* permission bits; -1: not told */
    int64_t bytes, messages;    /* contents; -1: not told */
    int64_t users;              /* attached, or semaphores in the set; -1: not told */
    int64_t pid;                /* last sender, creator or attacher; -1: not told */
    char state[64];             /* how it stands, in words; "": only as the numbers say */
};

/* Calls visit for each object of that kind (NULL: of all). 0, or the first non-zero that visit returned, or
 * -errno. -ENODEV: the kernel's list of this kind is not mounted (*ret_missing: the path). */
int objects_each(const char *kind, int (*visit)(const struct object *o, void *context), void *context,
                 const char **ret_missing);

/* The kinds, NULL-terminated. */
extern const char *const object_kinds[];

#endif
