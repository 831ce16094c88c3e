/* SPDX-License-Identifier: MIT */
/* The runner's part that works inside a test: checks, children, gates, and the count of descriptors. */
#include "runner-internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { GATES_MAX = 256, DESCRIPTORS_MAX = 65536, STRINGS_MAX = 4096 };

struct test_context test_context;
static struct test_gate gates[GATES_MAX];
static size_t gate_count;
static char *strings[STRINGS_MAX];
static size_t string_count;
static bool descriptors_before[DESCRIPTORS_MAX];

static void __attribute__((noreturn)) end_test(enum outcome outcome)
{
    fflush(NULL);
    ssize_t written = write(test_context.alarm_fd, "", 1);
    _exit(written == 1 && outcome == OUTCOME_SKIPPED ? 0 : 1);
}

void test_fail(const char *file, int line, const char *format, ...)
{
    char text[2048];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    verdict_add(test_context.verdict, OUTCOME_FAILED, "%s:%d: %s", file, line, text);
    end_test(OUTCOME_FAILED);
}

void test_skip(const char *format, ...)
{
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    verdict_add(test_context.verdict, OUTCOME_SKIPPED, "%s", text);
    end_test(OUTCOME_SKIPPED);
}

void test_note(const char *format, ...)
{
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    verdict_add(test_context.verdict, OUTCOME_PASSED, "%s", text);
}

void test_check_int(const char *file, int line, const char *expression, long long actual, long long expected)
{
    if (actual != expected)
        test_fail(file, line, "%s is %lld, expected %lld", expression, actual, expected);
}

void test_check_str(const char *file, int line, const char *expression, const char *actual,
                    const char *expected)
{
    if (!actual || strcmp(actual, expected) != 0)
        test_fail(file, line, "%s is \"%s\", expected \"%s\"", expression, actual ? actual : "(null)",
                  expected);
}

void test_check_contains(const char *file, int line, const char *expression, const char *actual,
                         const char *part)
{
    if (!actual || !strstr(actual, part))
        test_fail(file, line, "%s is \"%s\", expected it to contain \"%s\"", expression,
                  actual ? actual : "(null)", part);
}

const char *test_directory(void)
{
    return test_context.directory;
}

const char *test_format(const char *format, ...)
{
    CHECK(string_count < STRINGS_MAX);
    va_list arguments;
    va_start(arguments, format);
    int length = vasprintf(&strings[string_count], format, arguments);
    va_end(arguments);
    CHECK(length >= 0);
    return strings[string_count++];
}

void *test_shared(size_t size)
{
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(memory != MAP_FAILED);
    return memory;
}

uint64_t test_random(void)
{
    /* splitmix64: any seed will do */
    uint64_t z = (test_context.seed += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

int test_fork(void)
{
    fflush(NULL);
    int pid = fork();
    if (pid < 0)
        test_fail(__FILE__, __LINE__, "fork: %s", strerror(errno));
    return pid;
}

void test_child_end(void)
{
    _exit(0);
}

static int reap(int pid)
{
    int status;
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            test_fail(__FILE__, __LINE__, "waitpid(%d): %s", pid, strerror(errno));
    return status;
}

void test_join(int pid)
{
    int status = reap(pid);
    if (WIFSIGNALED(status))
        test_fail(__FILE__, __LINE__, "child %d was killed by signal %d (%s)", pid, WTERMSIG(status),
                  strsignal(WTERMSIG(status)));
    if (WEXITSTATUS(status) != 0)
        test_fail(__FILE__, __LINE__, "child %d exited with status %d", pid, WEXITSTATUS(status));
}

void test_kill(int pid)
{
    kill(pid, SIGKILL);
    int status = reap(pid);
    if (WIFSIGNALED(status) && WTERMSIG(status) != SIGKILL)
        test_fail(__FILE__, __LINE__, "child %d was killed by signal %d (%s) before we did", pid,
                  WTERMSIG(status), strsignal(WTERMSIG(status)));
    if (WIFEXITED(status) && WEXITSTATUS(status) != 0)
        test_fail(__FILE__, __LINE__, "child %d exited with status %d", pid, WEXITSTATUS(status));
}

/* Descriptors of the runner's own stand far up, where they do not change the numbers that a test sees. */
static int move_up(int fd)
{
    int moved = fcntl(fd, F_DUPFD_CLOEXEC, 500);
    close(fd);
    return moved;
}

void test_gate_init(struct test_gate *gate)
{
    CHECK(gate_count < GATES_MAX);
    CHECK(pipe2(gate->fds, O_CLOEXEC) == 0);
    gate->fds[0] = move_up(gate->fds[0]);
    gate->fds[1] = move_up(gate->fds[1]);
    CHECK(gate->fds[0] >= 0 && gate->fds[1] >= 0);
    gates[gate_count++] = *gate;
}

void test_gate_open(struct test_gate *gate)
{
    while (write(gate->fds[1], "", 1) != 1)
        CHECK(errno == EINTR);
}

void test_gate_wait(struct test_gate *gate)
{
    char byte;
    while (read(gate->fds[0], &byte, 1) != 1)
        CHECK(errno == EINTR);
}

static int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

void test_pause(const char *file, int line, const char *condition, int attempt)
{
    static _Thread_local int64_t start;
    if (attempt == 0)
        start = now_ns();
    if (now_ns() - start > (int64_t)60 * 1000000000)
        test_fail(file, line, "a minute has passed, and still not: %s", condition);
    struct timespec nap = {.tv_nsec = attempt < 100 ? 20000 : 2000000};
    nanosleep(&nap, NULL);
}

static void list_descriptors(void (*each)(int fd))
{
    DIR *directory = opendir("/proc/self/fd");
    CHECK(directory != NULL);
    const struct dirent *entry;
    while ((entry = readdir(directory))) {
        int fd = atoi(entry->d_name);
        if (entry->d_name[0] != '.' && fd != dirfd(directory) && fd < DESCRIPTORS_MAX)
            each(fd);
    }
    closedir(directory);
}

static void remember_descriptor(int fd)
{
    descriptors_before[fd] = true;
}

static size_t new_descriptors;

static void count_new_descriptor(int fd)
{
    new_descriptors += !descriptors_before[fd];
}

static bool has_threads(void)
{
    DIR *directory = opendir("/proc/self/task");
    int count = 0;

    CHECK(directory != NULL);
    for (const struct dirent *entry; (entry = readdir(directory));)
        count += entry->d_name[0] != '.';
    closedir(directory);
    return count > 1;
}

/* What a thread of the library's is closing at this moment (base/discard.h) is waited for, as long as there
 * is a thread besides this one; a sanitizer has one of its own. */
static bool has_new_descriptors(void)
{
    const struct timespec nap = {.tv_nsec = 5000000};
    int64_t until = now_ns() + (int64_t)60 * 1000000000;

    for (;;) {
        bool may_close = has_threads() && now_ns() < until;

        new_descriptors = 0;
        list_descriptors(count_new_descriptor);
        if (new_descriptors == 0 || !may_close)
            return new_descriptors > 0;
        nanosleep(&nap, NULL);
    }
}

static void report_descriptor(int fd)
{
    if (descriptors_before[fd])
        return;
    char link[64], target[256];
    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, target, sizeof(target) - 1);
    target[length < 0 ? 0 : length] = '\0';
    verdict_add(test_context.verdict, OUTCOME_FAILED, "leaked descriptor %d -> %s", fd, target);
}

void test_main(const struct test_case *test_case)
{
    list_descriptors(remember_descriptor);
    if (test_case->test->run)
        test_case->test->run();
    else
        test_case->test->run_each(test_case->index);
    for (size_t i = 0; i < gate_count; i++) {
        close(gates[i].fds[0]);
        close(gates[i].fds[1]);
    }
    if (has_new_descriptors())
        list_descriptors(report_descriptor);
    for (size_t i = 0; i < string_count; i++)
        free(strings[i]);
    exit(0); /* not _exit: LeakSanitizer looks now */
}
