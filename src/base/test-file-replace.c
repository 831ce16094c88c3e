/* SPDX-License-Identifier: MIT */
/* naru/file.h: a file is replaced whole or not at all, and whoever watches it learns of it. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "naru/naru.h"
#include "runner-syscalls.h"
#include "runner.h"

static const int64_t patience = NARU_S(60);

static const char *path(void)
{
    return test_format("%s/config", test_directory());
}

static void check_file(const char *file, const char *expected)
{
    char text[256];
    ssize_t n = naru_file_read(file, text, sizeof text - 1);

    CHECK_INT(n, strlen(expected));
    text[n] = '\0';
    CHECK_STR(text, expected);
}

static unsigned mode_of(const char *file)
{
    struct stat status;

    CHECK_INT(stat(file, &status), 0);
    return status.st_mode & 07777;
}

static int count_leftovers(void)
{
    DIR *directory = opendir(test_directory());
    struct dirent *entry;
    int count = 0;

    CHECK(directory != NULL);
    while ((entry = readdir(directory)))
        count += strncmp(entry->d_name, ".naru-", 6) == 0;
    (void)closedir(directory);
    return count;
}

TEST(makes_and_replaces_with_the_mode_it_is_told)
{
    (void)umask(077);
    CHECK_INT(naru_file_replace(path(), "one", 3, 0), 0);
    check_file(path(), "one");
    CHECK_INT(mode_of(path()), 0600);
    CHECK_INT(naru_file_replace(path(), "two", 3, 0664), 0);
    check_file(path(), "two");
    CHECK_INT(mode_of(path()), 0664);
    CHECK_INT(naru_file_replace(path(), "", 0, 0), 0); /* keeps the mode */
    check_file(path(), "");
    CHECK_INT(mode_of(path()), 0664);
    CHECK_INT(count_leftovers(), 0);
}

TEST(a_mode_is_exact_to_the_bits_that_others_lose)
{
    int pid;

    test_need_root();
    CHECK_INT(chmod(test_directory(), 0777), 0);
    CHECK_INT(naru_file_replace(path(), "root's", 6, 04777), 0);
    CHECK_INT(mode_of(path()), 04777);
    pid = test_fork_as_nobody();
    if (pid == 0) {
        CHECK_INT(naru_file_replace(path(), "mine", 4, 0), 0);
        CHECK_INT(mode_of(path()), 0777); /* nobody's own now, and no program to be run as him */
        CHECK_INT(naru_file_replace(path(), "mine", 4, 04755), 0);
        CHECK_INT(mode_of(path()), 04755);
        CHECK_INT(naru_file_replace(path(), "again", 5, 0), 0);
        CHECK_INT(mode_of(path()), 04755);
        _exit(0);
    }
    test_join(pid);
    check_file(path(), "again");
}

TEST(works_without_proc)
{
    int pid;

    test_need_root();
    pid = test_fork();
    if (pid == 0) {
        if (unshare(CLONE_NEWNS) < 0)
            test_skip("no right to make namespaces: %s", strerror(errno));
        CHECK_INT(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
        CHECK_INT(mount("none", "/proc", "tmpfs", 0, NULL), 0);
        CHECK_INT(naru_file_replace(path(), "one", 3, 0), 0);
        CHECK_INT(naru_file_replace(path(), "two", 3, 0), 0);
        _exit(0);
    }
    test_join(pid);
    check_file(path(), "two");
    CHECK_INT(count_leftovers(), 0);
}

TEST(works_relative_to_the_current_directory)
{
    CHECK_INT(chdir(test_directory()), 0);
    CHECK_INT(naru_file_replace("here", "x", 1, 0), 0);
    check_file("here", "x");
    CHECK_INT(chdir("/"), 0);
}

TEST(a_symbolic_link_stays_a_link)
{
    const char *link = test_format("%s/link", test_directory());
    struct stat status;

    CHECK_INT(naru_file_replace(path(), "old", 3, 0640), 0);
    CHECK_INT(symlink("config", link), 0);
    CHECK_INT(naru_file_replace(link, "new", 3, 0), 0);
    CHECK_INT(lstat(link, &status), 0);
    CHECK(S_ISLNK(status.st_mode));
    check_file(path(), "new");
    CHECK_INT(mode_of(path()), 0640);
}

TEST(a_link_to_what_is_not_there_yet_stays_one)
{
    const char *first = test_format("%s/first", test_directory());
    struct stat status;

    CHECK_INT(symlink("second", first), 0);
    CHECK_INT(symlink(path(), test_format("%s/second", test_directory())), 0);
    CHECK_INT(naru_file_replace(first, "new", 3, 0), 0);
    CHECK(lstat(first, &status) == 0 && S_ISLNK(status.st_mode));
    check_file(path(), "new");
    CHECK_INT(chdir(test_directory()), 0);
    CHECK_INT(symlink("there", "here"), 0);
    CHECK_INT(naru_file_replace("here", "x", 1, 0), 0);
    CHECK(lstat("here", &status) == 0 && S_ISLNK(status.st_mode));
    check_file("there", "x");
    CHECK_INT(chdir("/"), 0);
    CHECK_INT(symlink("loop", test_format("%s/loop", test_directory())), 0);
    CHECK_INT(naru_file_replace(test_format("%s/loop", test_directory()), "x", 1, 0), -ELOOP);
}

TEST(who_has_it_open_keeps_the_old_contents)
{
    char text[8] = "";
    int fd;

    CHECK_INT(naru_file_replace(path(), "old", 3, 0), 0);
    fd = open(path(), O_RDONLY | O_CLOEXEC);
    CHECK_INT(naru_file_replace(path(), "newer", 5, 0), 0);
    CHECK_INT(read(fd, text, sizeof text), 3);
    CHECK_STR(text, "old");
    (void)close(fd);
}

enum { VERSION_SIZE = 10000 };

/* Replaces the file by versions of one repeated letter each, until killed. */
static void replace_for_ever(void)
{
    static char text[VERSION_SIZE];

    for (int i = 0;; i++) {
        memset(text, 'a' + i % 26, sizeof text);
        CHECK_INT(naru_file_replace(path(), text, sizeof text, 0), 0);
    }
}

TEST(readers_see_whole_versions_only_also_of_a_killed_writer)
{
    static char text[VERSION_SIZE + 1];

    CHECK_INT(naru_file_replace(path(), memset(text, 'a', VERSION_SIZE), VERSION_SIZE, 0), 0);
    for (int kills = 0; kills < 20; kills++) {
        int writer = test_fork();

        if (writer == 0)
            replace_for_ever();
        for (int i = 0; i < 20; i++) {
            CHECK_INT(naru_file_read(path(), text, sizeof text), VERSION_SIZE);
            for (size_t j = 1; j < VERSION_SIZE; j++)
                CHECK_INT(text[j], text[0]);
        }
        test_kill(writer);
    }
}

TEST(a_failure_leaves_the_old_contents_and_nothing_else)
{
    struct rlimit limit;

    CHECK_INT(naru_file_replace(path(), "old", 3, 0), 0);
    CHECK_INT(getrlimit(RLIMIT_FSIZE, &limit), 0);
    limit.rlim_cur = 10;
    CHECK_INT(setrlimit(RLIMIT_FSIZE, &limit), 0);
    CHECK_INT(naru_file_replace(path(), "longer than ten", 15, 0), -EFBIG);
    CHECK_CONTAINS(naru_explain(), "cannot write the new contents: File too large; the old contents stand");
    check_file(path(), "old");
    CHECK_INT(count_leftovers(), 0);
}

/* What no disk of this machine says by itself. */
TEST(a_quota_that_is_full_leaves_the_old_contents)
{
    CHECK_INT(naru_file_replace(path(), "old", 3, 0), 0);
    test_refuse_call(SYS_writev, EDQUOT);
    CHECK_INT(naru_file_replace(path(), "new", 3, 0), -EDQUOT);
    CHECK_CONTAINS(naru_explain(), "the old contents stand");
    check_file(path(), "old");
    CHECK_INT(count_leftovers(), 0);
}

TEST(where_nothing_can_be_written_the_old_contents_stand)
{
    CHECK_INT(naru_file_replace(path(), "old", 3, 0), 0);
    if (mount(test_directory(), test_directory(), NULL, MS_BIND, NULL) < 0)
        test_skip("cannot mount here: %s", strerror(errno));
    CHECK_INT(mount(NULL, test_directory(), NULL, MS_BIND | MS_REMOUNT | MS_RDONLY, NULL), 0);
    CHECK_INT(naru_file_replace(path(), "new", 3, 0), -EROFS);
    CHECK_CONTAINS(naru_explain(), "Read-only file system; the old contents stand");
    check_file(path(), "old");
    CHECK_INT(umount(test_directory()), 0);
}

TEST(misuse_is_explained)
{
    char text[2];

    CHECK_INT(naru_file_replace("", "x", 1, 0), -EINVAL);
    CHECK_INT(naru_file_replace(path(), "x", 1, 0100644), -EINVAL);
    CHECK_INT(naru_file_replace(test_directory(), "x", 1, 0), -EISDIR);
    CHECK_CONTAINS(naru_explain(), "is a directory");
    CHECK_INT(naru_file_replace(test_format("%s/new/", test_directory()), "x", 1, 0), -EISDIR);
    CHECK_INT(naru_file_replace(test_format("%s/no/config", test_directory()), "x", 1, 0), -ENOENT);
    CHECK_CONTAINS(naru_explain(), "cannot open its directory");
    CHECK_INT(naru_file_read(path(), text, sizeof text), -ENOENT);
    CHECK_INT(naru_file_read(test_directory(), text, sizeof text), -EISDIR);
    CHECK_INT(naru_file_replace(path(), "xyz", 3, 0), 0);
    CHECK_INT(naru_file_read(path(), text, sizeof text), -EMSGSIZE);
    CHECK_CONTAINS(naru_explain(), "the file has 3 bytes and the buffer only 2");
}

TEST(a_directory_of_others_refuses)
{
    int child;

    test_need_root();
    CHECK_INT(naru_file_replace(path(), "old", 3, 0644), 0);
    CHECK_INT(chmod(test_directory(), 0755), 0);
    child = test_fork_as_nobody();
    if (child == 0) {
        CHECK_INT(naru_file_replace(path(), "new", 3, 0), -EACCES);
        CHECK_CONTAINS(naru_explain(), "the old contents stand");
        check_file(path(), "old");
        test_child_end();
    }
    test_join(child);
}

TEST(a_watcher_learns_of_every_last_version)
{
    enum { VERSIONS = 200 };
    struct naru_file_watch *watch = NULL;
    int child = test_fork(), last = -1;

    if (child == 0) {
        for (int i = 0; i <= VERSIONS; i++) {
            const char *text = test_format("%d", i);

            CHECK_INT(naru_file_replace(path(), text, strlen(text), 0), 0);
        }
        test_child_end();
    }
    CHECK_INT(naru_file_watch_open(path(), &watch), 0);
    while (last < VERSIONS) {
        char text[16] = "";

        if (naru_file_read(path(), text, sizeof text - 1) > 0) {
            CHECK(atoi(text) >= last);
            last = atoi(text);
        }
        if (last < VERSIONS)
            CHECK_INT(naru_file_watch_wait(watch, patience), 0);
    }
    test_join(child);
    naru_file_watch_close(watch);
}

TEST(a_watch_sees_what_happens_and_nothing_else)
{
    struct naru_file_watch *watch = NULL;
    struct pollfd poll_fd = {.events = POLLIN};
    char text[8];
    int fd;

    CHECK_INT(naru_file_watch_open(path(), &watch), 0);
    poll_fd.fd = naru_file_watch_fd(watch);
    CHECK(poll_fd.fd >= 0);
    CHECK_INT(naru_file_watch_wait(watch, NARU_NOWAIT), -EAGAIN);
    CHECK_INT(naru_file_watch_wait(watch, NARU_MS(1)), -ETIMEDOUT);
    CHECK_INT(naru_file_replace(test_format("%s/other", test_directory()), "x", 1, 0), 0);
    CHECK_INT(naru_file_watch_wait(watch, NARU_NOWAIT), -EAGAIN);
    CHECK_INT(naru_file_replace(path(), "one", 3, 0), 0);
    CHECK_INT(poll(&poll_fd, 1, 0), 1);
    CHECK_INT(naru_file_watch_wait(watch, NARU_NOWAIT), 0);
    while (naru_file_watch_wait(watch, NARU_NOWAIT) == 0)
        ;
    CHECK_INT(naru_file_read(path(), text, sizeof text), 3); /* reading is no change */
    CHECK_INT(poll(&poll_fd, 1, 0), 0);
    CHECK_INT(naru_file_watch_wait(watch, NARU_NOWAIT), -EAGAIN);
    fd = open(path(), O_WRONLY | O_CLOEXEC); /* in place, same size, same tick */
    CHECK_INT(pwrite(fd, "two", 3, 0), 3);
    CHECK_INT(naru_file_watch_wait(watch, NARU_NOWAIT), 0);
    CHECK_INT(pwrite(fd, "six", 3, 0), 3);
    CHECK_INT(naru_file_watch_wait(watch, NARU_NOWAIT), 0);
    (void)close(fd);
    CHECK_INT(unlink(path()), 0);
    CHECK_INT(naru_file_watch_wait(watch, NARU_NOWAIT), 0);
    naru_file_watch_close(watch);
}

TEST(where_inotify_cannot_see_a_watch_looks)
{
    const char *link = test_format("%s/link", test_directory());
    struct naru_file_watch *watch = NULL;
    int child;

    CHECK_INT(mkdir(test_format("%s/far", test_directory()), 0700), 0);
    CHECK_INT(symlink("far/config", link), 0);
    CHECK_INT(naru_file_watch_open(link, &watch), 0);
    CHECK_INT(naru_file_watch_fd(watch), -ENOTSUP);
    CHECK_CONTAINS(naru_explain(), "inotify cannot see");
    CHECK_INT(naru_file_watch_wait(watch, NARU_MS(20)), -ETIMEDOUT);
    child = test_fork();
    if (child == 0) {
        CHECK_INT(naru_file_watch_wait(watch, NARU_NOWAIT), -ECHILD);
        naru_file_watch_close(watch);
        CHECK_INT(naru_file_replace(test_format("%s/far/config", test_directory()), "x", 1, 0), 0);
        test_child_end();
    }
    CHECK_INT(naru_file_watch_wait(watch, patience), 0);
    test_join(child);
    naru_file_watch_close(watch);
}
