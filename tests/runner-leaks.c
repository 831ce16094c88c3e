/* SPDX-License-Identifier: MIT */
/*
 * What tests leave behind. Each test gets IPC and mount namespaces of its own (ipc_namespaces(7)), so that
 * whatever is in them after the test is the test's, whoever else runs on the machine. Without root they come
 * with a user namespace; where that is forbidden too, a lock lets one test run at a time, and what is new and
 * of our uid counts.
 */
#include "runner-internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <linux/capability.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static bool isolated, in_user_namespace;
static char mqueue_directory[128] = "/dev/mqueue";
static struct verdict *directory_verdict;
static size_t directory_length;

static bool write_file(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    ssize_t written = write(fd, text, strlen(text));
    close(fd);
    return written == (ssize_t)strlen(text);
}

static bool enter_user_namespace(void)
{
    char uids[64], gids[64];
    snprintf(uids, sizeof(uids), "%u %u 1", geteuid(), geteuid());
    snprintf(gids, sizeof(gids), "%u %u 1", getegid(), getegid());
    if (unshare(CLONE_NEWUSER | CLONE_NEWIPC | CLONE_NEWNS) < 0)
        return false;
    in_user_namespace = true;
    return write_file("/proc/self/setgroups", "deny") && write_file("/proc/self/uid_map", uids) &&
           write_file("/proc/self/gid_map", gids);
}

/* Scripts, which tests/run starts with the lock in its hands, may run tests themselves. */
static void take_turns(void)
{
    char path[64];
    if (getenv("NARU_TEST_TURN"))
        return;
    snprintf(path, sizeof(path), "/tmp/naru-test-%u.lock", geteuid());
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd >= 0 && flock(fd, LOCK_EX) < 0)
        close(fd);
}

/* All POSIX queues of a user share one account (RLIMIT_MSGQUEUE, getrlimit(2)), across namespaces too, and
 * the kernel gives back what a test left there only some time after its namespace has gone: where it may, a
 * test has no limit. */
static void lift_queue_limit(void)
{
    const struct rlimit none = {RLIM_INFINITY, RLIM_INFINITY};

    (void)setrlimit(RLIMIT_MSGQUEUE, &none); /* EPERM without CAP_SYS_RESOURCE */
}

void leaks_isolate(const char *mqueue_path)
{
    lift_queue_limit();
    if (unshare(CLONE_NEWIPC | CLONE_NEWNS) < 0 && !enter_user_namespace()) {
        take_turns();
        return;
    }
    isolated = true;
    snprintf(mqueue_directory, sizeof(mqueue_directory), "%s", mqueue_path);
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
        mount("naru-test", "/dev/shm", "tmpfs", 0, "mode=1777") < 0 ||
        mount("naru-test", mqueue_path, "mqueue", 0, NULL) < 0) {
        fprintf(stderr, "runner: cannot mount private /dev/shm and mqueue: %s\n", strerror(errno));
        _exit(1);
    }
}

void leaks_drop_capabilities(void)
{
    if (!in_user_namespace)
        return;
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct none[2] = {{0}};
    CHECK(syscall(SYS_capset, &header, none) == 0);
}

static void add_line(struct leaks *leaks, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void add_line(struct leaks *leaks, const char *format, ...)
{
    if (leaks->count == sizeof(leaks->lines) / sizeof(leaks->lines[0]))
        return;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(leaks->lines[leaks->count++], sizeof(leaks->lines[0]), format, arguments);
    va_end(arguments);
}

/* One table of proc_sysvipc: first the key and the id, and the creator's uid in the given column. */
static void list_sysv(struct leaks *leaks, const char *path, const char *what, int creator_column)
{
    FILE *file = fopen(path, "re");
    if (!file)
        return;
    char line[512];
    bool header = true;
    while (fgets(line, sizeof(line), file)) {
        if (header) {
            header = false;
            continue;
        }
        long long columns[16] = {0};
        char *at = line;
        for (int i = 0; i < 16; i++)
            columns[i] = strtoll(at, &at, 10);
        if (isolated || columns[creator_column] == (long long)geteuid())
            add_line(leaks, "%s %lld (key 0x%x)", what, columns[1], (unsigned)columns[0]);
    }
    fclose(file);
}

static void list_names(struct leaks *leaks, const char *path, const char *what)
{
    DIR *directory = opendir(path);
    if (!directory)
        return;
    const struct dirent *entry;
    while ((entry = readdir(directory))) {
        struct stat status;
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0 ||
            fstatat(dirfd(directory), entry->d_name, &status, AT_SYMLINK_NOFOLLOW) < 0)
            continue;
        if (isolated || status.st_uid == geteuid())
            add_line(leaks, "%s /%s", what, entry->d_name);
    }
    closedir(directory);
}

void leaks_list(struct leaks *ret_leaks)
{
    ret_leaks->count = 0;
    list_sysv(ret_leaks, "/proc/sysvipc/msg", "System V message queue", 9);
    list_sysv(ret_leaks, "/proc/sysvipc/sem", "System V semaphore set", 6);
    list_sysv(ret_leaks, "/proc/sysvipc/shm", "System V shared memory", 9);
    list_names(ret_leaks, "/dev/shm", "POSIX shared memory or semaphore");
    list_names(ret_leaks, mqueue_directory, "POSIX message queue");
}

void leaks_compare(struct verdict *verdict, const struct leaks *before, const struct leaks *after)
{
    for (size_t i = 0; i < after->count; i++) {
        bool old = false;
        for (size_t j = 0; j < before->count && !old; j++)
            old = strcmp(before->lines[j], after->lines[i]) == 0;
        if (!old)
            verdict_add(verdict, OUTCOME_FAILED, "leaked %s", after->lines[i]);
    }
}

static int check_entry(const char *path, const struct stat *status, int type, struct FTW *ftw)
{
    (void)type;
    (void)ftw;
    const char *inside = path + directory_length;
    size_t length = strlen(path);
    bool runtime = strncmp(inside, "/run/", 5) == 0;
    bool lock = length > 5 && strcmp(path + length - 5, ".lock") == 0;
    if (S_ISSOCK(status->st_mode))
        verdict_add(directory_verdict, OUTCOME_FAILED, "leaked socket %s", path);
    else if (lock && !runtime)
        verdict_add(directory_verdict, OUTCOME_FAILED, "leaked lock %s", path);
    return 0;
}

void leaks_check_directory(struct verdict *verdict, const char *path)
{
    directory_verdict = verdict;
    directory_length = strlen(path);
    nftw(path, check_entry, 16, FTW_PHYS | FTW_MOUNT);
}

static int remove_entry(const char *path, const struct stat *status, int type, struct FTW *ftw)
{
    (void)status;
    (void)type;
    (void)ftw;
    remove(path);
    return 0;
}

void leaks_remove_tree(const char *path)
{
    char queues[PATH_MAX];

    /* The queues shown there are of this process's own namespace; a place that is mounted on cannot be
     * removed. */
    snprintf(queues, sizeof(queues), "%s/q", path);
    umount2(queues, MNT_DETACH);
    nftw(path, remove_entry, 16, FTW_PHYS | FTW_DEPTH | FTW_MOUNT);
}
