/* SPDX-License-Identifier: MIT */
/*
 * A file system of a process of its own (FUSE) that does not answer when a file is flushed, nor when a name
 * is looked up. It is one file, or one directory, and its server ten lines of the kernel's protocol
 * (linux/fuse.h).
 */
#ifndef TESTS_SILENT_FUSE_H
#define TESTS_SILENT_FUSE_H

#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "runner.h"

/* What the server was asked for, and did not answer. */
static _Atomic unsigned *flushes, *lookups;

static inline void silent_answer(int device, uint64_t unique, int error, const void *body, size_t length)
{
    struct fuse_out_header header = {
        .len = (uint32_t)(sizeof header + length), .error = error, .unique = unique};
    struct iovec pieces[] = {{&header, sizeof header}, {(void *)(uintptr_t)body, length}};

    (void)!writev(device, pieces, length ? 2 : 1); /* ENOENT: who asked was killed meanwhile */
}

static inline void silent_serve(int device, mode_t mode, const struct fuse_in_header *request)
{
    static const struct fuse_init_out init = {
        .major = FUSE_KERNEL_VERSION, .minor = 31, .max_write = 4096, .max_background = 8};
    const struct fuse_attr_out attributes = {
        .attr = {.ino = FUSE_ROOT_ID, .mode = mode | 0777, .nlink = 1, .blksize = 4096}};
    static const struct fuse_open_out opened = {.fh = 1};

    switch (request->opcode) {
    case FUSE_INIT:
        silent_answer(device, request->unique, 0, &init, sizeof init);
        break;
    case FUSE_OPEN:
        silent_answer(device, request->unique, 0, &opened, sizeof opened);
        break;
    case FUSE_GETATTR:
        if (*flushes == 0)
            silent_answer(device, request->unique, 0, &attributes, sizeof attributes);
        break;
    case FUSE_FLUSH:
        ++*flushes;
        break;
    case FUSE_LOOKUP:
        ++*lookups;
        break;
    case FUSE_RELEASE:
        silent_answer(device, request->unique, 0, NULL, 0);
        break;
    case FUSE_FORGET:
    case FUSE_INTERRUPT:
        break;
    default:
        silent_answer(device, request->unique, -ENOSYS, NULL, 0);
    }
}

static inline const char *silent_path(void)
{
    return test_format("%s/silent", test_directory());
}

/* Mounted on silent_path(), which is made to be S_IFREG or S_IFDIR; the server's pid. Skips the test where
 * there is no FUSE. */
static inline int mount_silent(mode_t mode)
{
    union {
        struct fuse_in_header header;
        char bytes[FUSE_MIN_READ_BUFFER + 4096];
    } request;
    int device, fd, pid;

    test_need_root();
    device = open("/dev/fuse", O_RDWR | O_CLOEXEC);
    if (device < 0)
        test_skip("no FUSE here: /dev/fuse: %s", strerror(errno));
    if (mode == S_IFDIR) {
        CHECK_INT(mkdir(silent_path(), 0700), 0);
    } else {
        fd = open(silent_path(), O_CREAT | O_RDWR | O_CLOEXEC, 0600);
        CHECK(fd >= 0 && close(fd) == 0);
    }
    if (mount("naru-test", silent_path(), "fuse", MS_NOSUID | MS_NODEV,
              test_format("fd=%d,rootmode=%o,user_id=0,group_id=0", device, mode)) < 0)
        test_skip("cannot mount a FUSE file system here: %s", strerror(errno));
    flushes = test_shared(sizeof *flushes);
    lookups = test_shared(sizeof *lookups);
    pid = test_fork();
    while (pid == 0) {
        if (read(device, &request, sizeof request) > 0)
            silent_serve(device, mode, &request.header);
        else if (errno != EINTR && errno != ENOENT && errno != EAGAIN)
            _exit(0); /* unmounted */
    }
    CHECK_INT(close(device), 0);
    return pid;
}

/* The server first: even a process that is killed waits for it when its files are closed. */
static inline void unmount(int server)
{
    test_kill(server); /* from now on all that is asked fails at once */
    CHECK_INT(umount2(silent_path(), MNT_DETACH), 0);
}

#endif
