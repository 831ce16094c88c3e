/* SPDX-License-Identifier: MIT */
/* What tests want to know of processes and descriptors, and somebody else to be. */
#include "runner.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { NOBODY = 65534 };

/* The state in a stat file of proc(5), behind the name in parentheses: 'R', 'S', 'Z' ... */
static char state_of(const char *path)
{
    char line[512] = "", *end;
    FILE *file = fopen(path, "re");

    if (!file)
        return '?';
    if (!fgets(line, sizeof line, file))
        line[0] = '\0';
    fclose(file);
    end = strrchr(line, ')');
    return end ? end[2] : '?';
}

void test_wait_asleep(int pid)
{
    char path[64];

    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    WAIT_UNTIL(state_of(path) == 'S');
}

bool test_is_thread_asleep(int tid)
{
    char path[64];

    snprintf(path, sizeof path, "/proc/self/task/%d/stat", tid);
    return state_of(path) == 'S';
}

long test_sleeps(void)
{
    struct rusage usage;

    CHECK_INT(getrusage(RUSAGE_SELF, &usage), 0);
    return usage.ru_nvcsw;
}

bool test_is_readable(int fd)
{
    struct pollfd ready = {.fd = fd, .events = POLLIN};

    return poll(&ready, 1, 0) == 1;
}

int test_udp_socket(uint16_t *ret_port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    CHECK(fd >= 0);
    CHECK_INT(bind(fd, (struct sockaddr *)&address, length), 0);
    CHECK_INT(getsockname(fd, (struct sockaddr *)&address, &length), 0);
    *ret_port = ntohs(address.sin_port);
    return fd;
}

static bool is_unused(int port, int type)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);
    bool unused;

    CHECK(fd >= 0);
    unused = bind(fd, (struct sockaddr *)&address, sizeof address) == 0;
    close(fd);
    return unused;
}

int test_unused_port(void)
{
    enum { LEAST = 2000, MOST_TESTS = 1000, USUAL_FIRST = 32768, APART = 7919 };
    static int next;
    int first = USUAL_FIRST, ports;
    FILE *file = fopen("/proc/sys/net/ipv4/ip_local_port_range", "re"); /* ip(7) */

    if (file) {
        CHECK_INT(fscanf(file, "%d", &first), 1);
        fclose(file);
    }
    if (first <
        LEAST + MOST_TESTS) /* all are given to who asks for any: one is taken by chance then, and seldom */
        first = USUAL_FIRST;
    ports = first - LEAST;
    for (int i = 0; i < ports; i++) {
        /* The second of a process is not the first of the next one. */
        int port = LEAST + (int)((getpid() + (long)APART * next++) % ports);

        if (is_unused(port, SOCK_STREAM) && is_unused(port, SOCK_DGRAM))
            return port;
    }
    test_fail(__FILE__, __LINE__, "no unused port from %d to %d", LEAST, first - 1);
}

void test_need_root(void)
{
    if (geteuid() != 0)
        test_skip("only root can become somebody else");
}

int test_fork_as_nobody(void)
{
    int pid = test_fork();

    if (pid == 0) {
        CHECK_INT(setgid(NOBODY), 0);
        CHECK_INT(setuid(NOBODY), 0);
    }
    return pid;
}

void test_limit_descriptors(size_t more)
{
    static struct rlimit usual;
    struct rlimit limit;

    CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    if (usual.rlim_cur == 0)
        usual = limit;
    if (more == SIZE_MAX) {
        limit.rlim_cur = usual.rlim_cur;
    } else {
        int next = dup(STDERR_FILENO);

        CHECK(next >= 0);
        close(next);
        limit.rlim_cur = (rlim_t)next + more;
    }
    CHECK_INT(setrlimit(RLIMIT_NOFILE, &limit), 0);
}
