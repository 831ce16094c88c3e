/* SPDX-License-Identifier: MIT */
/* watch.c: every way in which a path can come, change and go wakes a waiter. */
#include "base/watch.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "runner.h"

static char place[PATH_MAX];

static const char *in_directory(const char *name)
{
    (void)snprintf(place, sizeof place, "%s/%s", test_directory(), name);
    return place;
}

static void touch(const char *path)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

    CHECK(fd >= 0);
    fd_close(fd);
}

/* Waits until the path exists, as a caller does. */
static void wait_for(struct watch *w, const char *path)
{
    while (access(path, F_OK) != 0)
        CHECK_INT(watch_wait(w, NARU_FOREVER), 0);
}

TEST(nothing_happens_until_the_deadline)
{
    struct watch w;

    CHECK_INT(watch_init(&w, in_directory("x")), 0);
    CHECK(!w.weak);
    CHECK_INT(watch_wait(&w, 0), -ETIMEDOUT);
    CHECK_INT(watch_wait(&w, deadline_after(NARU_MS(5))), -ETIMEDOUT);
    watch_deinit(&w);
    watch_deinit(&w);
}

TEST(what_happened_before_the_wait_ends_it)
{
    struct watch w;

    CHECK_INT(watch_init(&w, in_directory("x")), 0);
    touch(place);
    CHECK_INT(watch_wait(&w, 0), 0);
    CHECK_INT(watch_wait(&w, 0), -ETIMEDOUT);
    touch(place); /* an existing file: opened, closed */
    CHECK_INT(watch_wait(&w, 0), 0);
    watch_deinit(&w);
}

TEST(other_names_in_the_directory_do_not_wake)
{
    struct watch w;

    CHECK_INT(watch_init(&w, in_directory("x")), 0);
    touch(in_directory("xy"));
    touch(in_directory("y"));
    CHECK_INT(watch_wait(&w, 0), -ETIMEDOUT);
    watch_deinit(&w);
}

TEST(wakes_when_another_process_makes_the_file)
{
    struct watch w;
    int child;

    CHECK_INT(watch_init(&w, in_directory("x")), 0);
    child = test_fork();
    if (child == 0) {
        touch(place);
        test_child_end();
    }
    wait_for(&w, place);
    test_join(child);
    watch_deinit(&w);
}

TEST(wakes_when_missing_directories_come_one_by_one)
{
    struct watch w;
    char path[PATH_MAX];
    int child;

    (void)snprintf(path, sizeof path, "%s", in_directory("a/b/c"));
    CHECK_INT(watch_init(&w, path), 0);
    CHECK(!w.weak);
    child = test_fork();
    if (child == 0) {
        CHECK_INT(mkdir(in_directory("a"), 0700), 0);
        CHECK_INT(mkdir(in_directory("a/b"), 0700), 0);
        touch(path);
        test_child_end();
    }
    wait_for(&w, path);
    test_join(child);
    watch_deinit(&w);
}

TEST(wakes_when_the_file_is_renamed_into_place_removed_and_made_again)
{
    struct watch w;
    char path[PATH_MAX];

    (void)snprintf(path, sizeof path, "%s", in_directory("x"));
    CHECK_INT(watch_init(&w, path), 0);
    touch(in_directory("temporary"));
    CHECK_INT(rename(place, path), 0);
    CHECK_INT(watch_wait(&w, 0), 0);
    CHECK_INT(unlink(path), 0);
    CHECK_INT(watch_wait(&w, 0), 0);
    while (watch_wait(&w, 0) == 0)
        ;
    touch(path);
    CHECK_INT(watch_wait(&w, 0), 0);
    watch_deinit(&w);
}

TEST(wakes_when_a_fifo_is_opened)
{
    struct watch w;
    int fd;

    CHECK_INT(mkfifo(in_directory("fifo"), 0600), 0);
    CHECK_INT(watch_init(&w, place), 0);
    CHECK_INT(open(place, O_WRONLY | O_NONBLOCK | O_CLOEXEC), -1);
    CHECK_INT(errno, ENXIO);
    CHECK_INT(watch_wait(&w, 0), -ETIMEDOUT); /* our own attempt does not wake us */
    fd = open(place, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    CHECK(fd >= 0);
    CHECK_INT(watch_wait(&w, 0), 0);
    fd_close(fd);
    watch_deinit(&w);
}

TEST(watching_changes_ignores_who_only_opens)
{
    struct watch w;
    int fd;

    touch(in_directory("x"));
    CHECK_INT(watch_init_events(&w, place, WATCH_CHANGES), 0);
    fd = open(place, O_RDWR | O_CLOEXEC);
    CHECK_INT(watch_wait(&w, 0), -ETIMEDOUT);
    CHECK_INT(write(fd, "x", 1), 1);
    CHECK_INT(watch_wait(&w, 0), 0);
    CHECK_INT(unlink(place), 0);
    CHECK(watch_drain(&w));
    CHECK(!watch_drain(&w));
    fd_close(fd);
    watch_deinit(&w);
}

TEST(a_dangling_links_target_is_found_by_back_off)
{
    struct watch w;
    char target[PATH_MAX];

    CHECK_INT(mkdir(in_directory("elsewhere"), 0700), 0);
    (void)snprintf(target, sizeof target, "%s", in_directory("elsewhere/target"));
    CHECK_INT(symlink(target, in_directory("link")), 0);
    CHECK_INT(watch_init(&w, place), 0);
    CHECK(w.weak);
    CHECK_INT(watch_wait(&w, 0), -ETIMEDOUT);
    touch(target);
    wait_for(&w, place);
    CHECK_INT(watch_wait(&w, deadline_after(NARU_S(60))), 0);
    CHECK(!w.weak);
    watch_deinit(&w);
}

TEST(a_full_event_queue_wakes)
{
    struct watch w;
    char limit[32] = "";
    FILE *file = fopen("/proc/sys/fs/inotify/max_queued_events", "re");
    long events;

    CHECK(file && fgets(limit, sizeof limit, file));
    (void)fclose(file);
    events = strtol(limit, NULL, 10);
    if (events > 100000)
        test_skip("max_queued_events is %ld: too many to overflow in a test", events);
    CHECK_INT(watch_init(&w, in_directory("x")), 0);
    /* Two names by turns: the kernel merges equal neighbours. None of them is ours. */
    for (long i = 0; i <= events / 2; i++) {
        touch(in_directory(i % 2 ? "a" : "b"));
        CHECK_INT(unlink(place), 0);
    }
    CHECK_INT(watch_wait(&w, 0), 0);
    watch_deinit(&w);
}

TEST(without_inotify_it_backs_off)
{
    struct watch w;
    int child;

    CHECK_INT(watch_init(&w, in_directory("x")), 0);
    w.fd = fd_close(w.fd); /* as if inotify_init1 had said EMFILE */
    child = test_fork();
    if (child == 0) {
        touch(place);
        test_child_end();
    }
    wait_for(&w, place);
    test_join(child);
    CHECK_INT(watch_wait(&w, 0), -ETIMEDOUT);
    watch_deinit(&w);
}
