/* SPDX-License-Identifier: MIT */
/* Paths that are longer than struct sockaddr_un takes: listened at, connected to, reclaimed and removed. */
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "naru/naru.h"
#include "runner.h"

static const char *const kinds[] = {"unix://%s/%s?type=stream", "unix://%s/%s?type=seqpacket",
                                    "unix://%s/%s?type=dgram", "shm://%s/%s", NULL};

/* A directory of `length` bytes at least, made of parts that are as long as they may be. */
static const char *long_directory(size_t length)
{
    static char path[5000];

    (void)snprintf(path, sizeof path, "%s", test_directory());
    while (strlen(path) < length) {
        size_t left = length - strlen(path), part = left > 200 ? 200 : left < 2 ? 1 : left - 1;

        (void)snprintf(path + strlen(path), sizeof path - strlen(path), "/%0*d", (int)part, 0);
        CHECK_INT(mkdir(path, 0700), 0);
    }
    return path;
}

/* The same by a caller's format, which the compiler cannot check. */
static const char *url_of(const char *kind, const char *directory, const char *name)
{
    static char url[8192];
    const char *rest = strchr(kind, '?');

    (void)snprintf(url, sizeof url, "%.*s://%s/%s%s", (int)strcspn(kind, ":"), kind, directory, name,
                   rest ? rest : "");
    return url;
}

static void send_from_a_child(const char *url)
{
    int pid = test_fork();

    if (pid == 0) {
        struct naru_channel *ch = NULL;

        CHECK_INT(naru_connect(url, NULL, NARU_S(60), &ch), 0);
        CHECK_INT(naru_send(ch, "from afar", 9, NARU_S(60)), 0);
        CHECK_INT(naru_flush(ch, NARU_TAKEN, NARU_S(60)), 0);
        naru_channel_close(ch);
        test_child_end();
    }
}

static void receive(const char *url)
{
    struct naru_listener *listener = NULL;
    struct naru_channel *ch = NULL;
    char text[16];

    CHECK_INT(naru_listen(url, NULL, &listener), 0);
    CHECK_STR(naru_listener_url(listener), url);
    CHECK_INT(naru_accept(listener, NARU_S(60), &ch), 0);
    CHECK_INT(naru_recv(ch, text, sizeof text, NARU_S(60)), 9);
    naru_channel_close(ch);
    naru_listener_close(listener);
    while (wait(NULL) > 0)
        ;
}

/* From just too long for an address to just too long for a path; who connects is there first, and waits. */
TEST(messages_come_by_paths_of_any_length)
{
    static const size_t lengths[] = {100, 107, 108, 109, 300, 2000, 4000};

    for (const char *const *kind = kinds; *kind; kind++)
        for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
            size_t length = lengths[i] - strlen("/a.socket");
            const char *directory = test_directory(), *url;

            if (strlen(directory) < length)
                directory = long_directory(length);
            url = url_of(*kind, directory, "a.socket");
            send_from_a_child(url);
            receive(url);
            if (strlen(directory) > strlen(test_directory())) {
                char command[8300];

                CHECK(access(test_format("%s/a.socket", directory), F_OK) < 0 && errno == ENOENT);
                (void)snprintf(command, sizeof command, "rm -r %s/0*", test_directory());
                CHECK_INT(system(command), 0);
            }
        }
}

TEST(a_live_listener_is_not_robbed_and_a_dead_one_is_followed)
{
    const char *directory = long_directory(500);

    for (const char *const *kind = kinds; *kind; kind++) {
        const char *url = url_of(*kind, directory, "a.socket");
        struct naru_listener *listener = NULL;
        struct test_gate gate;
        struct stat status;
        int pid;

        test_gate_init(&gate);
        pid = test_fork();
        if (pid == 0) {
            CHECK_INT(naru_listen(url, NULL, &listener), 0);
            test_gate_open(&gate);
            for (;;)
                (void)pause();
        }
        test_gate_wait(&gate);
        CHECK_INT(naru_listen(url, NULL, &listener), -EADDRINUSE);
        CHECK_INT(naru_remove(url), -EBUSY);
        test_kill(pid);
        CHECK_INT(stat(test_format("%s/a.socket", directory), &status), 0);
        CHECK_INT(naru_listen(url, NULL, &listener), 0);
        naru_listener_close(listener);
        CHECK_INT(naru_remove(url), -ENOENT);
    }
}

TEST(nobody_at_a_long_path_is_nobody)
{
    struct naru_channel *ch = NULL;
    const char *directory = long_directory(500);

    CHECK_INT(naru_connect(url_of(kinds[0], directory, "nobody"), NULL, NARU_MS(20), &ch), -ETIMEDOUT);
    CHECK_CONTAINS(naru_explain(), "nobody listens there");
    CHECK_INT(naru_connect(url_of(kinds[3], directory, "none/nobody"), NULL, NARU_MS(20), &ch), -ETIMEDOUT);
    CHECK_INT(naru_connect(url_of(kinds[0], "/dev/null", directory + 1), NULL, NARU_NOWAIT, &ch), -ENOTDIR);
}

TEST(what_is_too_long_all_the_same_is_explained)
{
    struct naru_listener *listener = NULL;
    const char *directory = long_directory(120);
    char last[84];

    (void)snprintf(last, sizeof last, "%082d", 0);
    CHECK_INT(naru_listen(url_of(kinds[0], directory, last), NULL, &listener), 0);
    naru_listener_close(listener);
    (void)snprintf(last, sizeof last, "%083d", 0);
    CHECK_INT(naru_listen(url_of(kinds[0], directory, last), NULL, &listener), -ENAMETOOLONG);
    CHECK_CONTAINS(naru_explain(), "may have 107 bytes, or its last part 82, and this one's has 83");
    CHECK_INT(naru_listen(test_format("unix:@%0107d", 0), NULL, &listener), -ENAMETOOLONG);
    CHECK_CONTAINS(naru_explain(), "an abstract name may have 107 bytes, this one has 108");
    CHECK_INT(naru_listen(test_format("unix:///%04090d/s", 0), NULL, &listener), -ENAMETOOLONG);
    CHECK_CONTAINS(naru_explain(), "a path may have 4090 bytes");
}

TEST(without_proc_the_old_limit_is_told)
{
    const char *directory = long_directory(500);
    struct naru_listener *listener = NULL;
    struct naru_channel *ch = NULL;
    int pid;

    test_need_root();
    pid = test_fork();
    if (pid == 0) {
        if (unshare(CLONE_NEWNS) < 0)
            test_skip("no right to make namespaces: %s", strerror(errno));
        CHECK_INT(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
        CHECK_INT(mount("none", "/proc", "tmpfs", 0, NULL), 0);
        CHECK_INT(naru_listen(url_of(kinds[0], directory, "s"), NULL, &listener), -ENAMETOOLONG);
        CHECK_CONTAINS(naru_explain(), "a socket's path may have 107 bytes where /proc is not mounted");
        CHECK_INT(naru_connect(url_of(kinds[3], directory, "s"), NULL, NARU_NOWAIT, &ch), -ENAMETOOLONG);
        CHECK_CONTAINS(naru_explain(), "where /proc is not mounted");
        CHECK_INT(naru_listen(test_format("unix://%s/s", test_directory()), NULL, &listener), 0);
        naru_listener_close(listener);
        _exit(0);
    }
    test_join(pid);
}
