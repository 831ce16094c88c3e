/* SPDX-License-Identifier: MIT */
/*
 * Children that fork() did not make, so that no handler of pthread_atfork(3) ran: clone(2) by itself,
 * vfork(2), posix_spawn(3). Those that are copies are told that the handles are not theirs; those that become
 * another program inherit nothing; and the parent's channels go on.
 */
#include <errno.h>
#include <linux/close_range.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "naru/naru.h"
#include "runner.h"

static const char *const urls[] = {"unix:s",
                                   "unix:q?type=seqpacket",
                                   "unix:d?type=dgram",
                                   "tcp://127.0.0.1:0",
                                   "udp://127.0.0.1:0",
                                   "fifo:f",
                                   "sysvmq:0x7b",
                                   "posixmq:/naru-test?maxmsg=2&msgsize=64",
                                   "file:log",
                                   "exec:cat",
                                   "pipe:",
                                   "unix:"};

static const char *url_name(size_t index)
{
    return index < sizeof urls / sizeof *urls ? urls[index] : NULL;
}

struct ends {
    struct naru_listener *listener;
    struct naru_channel *near, *far;
};

static struct ends ends_open(const char *url)
{
    struct ends ends = {NULL, NULL, NULL};
    struct naru_channel *pair[2];

    CHECK_INT(chdir(test_directory()), 0);
    if (strcmp(url, "pipe:") == 0 || strcmp(url, "unix:") == 0) {
        CHECK_INT(naru_channel_pair(url, NULL, pair), 0);
        ends.near = pair[0];
        ends.far = pair[1];
    } else if (strcmp(url, "exec:cat") == 0) {
        CHECK_INT(naru_connect(url, NULL, NARU_S(60), &ends.near), 0);
    } else {
        CHECK_INT(naru_listen(url, NULL, &ends.listener), 0);
        CHECK_INT(naru_connect(naru_listener_url(ends.listener), NULL, NARU_S(60), &ends.near), 0);
        CHECK_INT(naru_accept(ends.listener, NARU_S(60), &ends.far), 0);
    }
    return ends;
}

static void ends_close(struct ends *ends, const char *url)
{
    naru_channel_close(ends->near);
    naru_channel_close(ends->far);
    naru_listener_close(ends->listener);
    if (strstr(url, "mq:"))
        CHECK_INT(naru_remove(url), 0);
}

static void check_alive(const struct ends *ends)
{
    char buffer[16];

    CHECK_INT(naru_send(ends->near, "text", 4, NARU_S(60)), 0);
    CHECK_INT(naru_recv(ends->far ? ends->far : ends->near, buffer, sizeof buffer, NARU_S(60)), 4);
    CHECK(memcmp(buffer, "text", 4) == 0);
}

static void check_ended_well(int pid)
{
    int status;

    CHECK_INT(waitpid(pid, &status, 0), pid);
    CHECK_INT(status, 0);
}

TEST_EACH(a_copy_made_by_clone_alone_is_told_that_the_handle_is_its_parents, url_name)
{
    struct ends ends = ends_open(urls[index]);
    char buffer[16];
    int pid;

    check_alive(&ends);
    pid = (int)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
    if (pid == 0) {
        CHECK_INT(naru_send(ends.near, "stolen", 6, NARU_NOWAIT), -ECHILD);
        CHECK_CONTAINS(naru_explain(), "belongs to the parent process");
        CHECK_INT(naru_recv(ends.near, buffer, sizeof buffer, NARU_NOWAIT), -ECHILD);
        naru_channel_close(ends.near); /* frees memory only: the command and the names are the parent's */
        naru_listener_close(ends.listener);
        _exit(0);
    }
    CHECK(pid > 0);
    check_ended_well(pid);
    check_alive(&ends);
    ends_close(&ends, urls[index]);
}

/* The shell fails if it has anything open besides its standard descriptors (the directory that it looked into
 * is closed again when it looks at what it found). */
static char *const look_for_descriptors[] = {
    (char *)"sh", (char *)"-c",
    (char *)"for f in /proc/$$/fd/*; do case $f in */[012]) ;; *) [ ! -h $f ] || exit 1;; esac; done", NULL};

TEST_EACH(a_spawned_program_inherits_nothing, url_name)
{
    struct ends ends;
    int pid;

    CHECK_INT(close_range(3, ~0U, CLOSE_RANGE_CLOEXEC), 0); /* what the test's own caller left open */
    ends = ends_open(urls[index]);
    CHECK(naru_channel_fd(ends.near) >= 0 || strstr(urls[index], "sysvmq:"));
    CHECK_INT(posix_spawnp(&pid, "sh", NULL, NULL, look_for_descriptors, environ), 0);
    check_ended_well(pid);
    check_alive(&ends);
    pid = vfork();
    if (pid == 0) {
        execvp("sh", look_for_descriptors);
        _exit(127);
    }
    CHECK(pid > 0);
    check_ended_well(pid);
    check_alive(&ends);
    ends_close(&ends, urls[index]);
}
