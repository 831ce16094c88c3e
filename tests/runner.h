/* SPDX-License-Identifier: MIT */
/*
 * The test runner. A test file includes this and holds nothing but tests:
 *
 *     TEST(recv_returns_owner_dead_after_sender_is_killed)
 *     {
 *         CHECK(naru_send(ch, "x", 1, NARU_NOWAIT) == 0);
 *     }
 *
 * Each test runs in a forked child in a process group of its own, which is killed when the test ends or takes
 * too long (NARU_TEST_TIMEOUT seconds), and, where the machine allows it, in IPC and mount namespaces of its
 * own. A test that leaves a descriptor, a process, a queue, a semaphore, shared memory or a socket behind has
 * failed. Output is TAP 13; the last line is `N passed, N failed, N skipped`.
 *
 * A test program takes parts of test names as arguments (all tests without any), or --list.
 */
#ifndef TESTS_RUNNER_H
#define TESTS_RUNNER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct test {
    const char *name;
    void (*run)(void);                /* TEST */
    void (*run_each)(size_t);         /* TEST_EACH */
    const char *(*parameter)(size_t); /* TEST_EACH: the name of the i-th parameter; NULL: there is none */
    struct test *next;
};

void test_register(struct test *test);

#define TEST(test_name)                                                                                      \
    static void test_##test_name(void);                                                                      \
    __attribute__((constructor)) static void register_##test_name(void)                                      \
    {                                                                                                        \
        static struct test test = {#test_name, test_##test_name, 0, 0, 0};                                   \
        test_register(&test);                                                                                \
    }                                                                                                        \
    static void test_##test_name(void)

/*
 * A test for each of a list of parameters, each a test of its own, named "test_name [parameter]":
 *
 *     TEST_EACH(keeps_the_order, mechanism_name)      const char *mechanism_name(size_t index)
 *     {
 *         ... mechanisms[index] ...
 *     }
 */
#define TEST_EACH(test_name, parameter_name)                                                                 \
    static void test_##test_name(size_t index);                                                              \
    __attribute__((constructor)) static void register_##test_name(void)                                      \
    {                                                                                                        \
        static struct test test = {#test_name, 0, test_##test_name, parameter_name, 0};                      \
        test_register(&test);                                                                                \
    }                                                                                                        \
    static void test_##test_name(size_t index)

/* Ends the test (also from a child process that the test forked) as failed, with file, line and what was
 * seen. */
void test_fail(const char *file, int line, const char *format, ...)
    __attribute__((format(printf, 3, 4), noreturn));

/* Ends the test as skipped; only for what this machine cannot do. */
void test_skip(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));

/* A line beside the test's result, however it ends: how much was tried, for instance. */
void test_note(const char *format, ...) __attribute__((format(printf, 1, 2)));

void test_check_int(const char *file, int line, const char *expression, long long actual, long long expected);
void test_check_str(const char *file, int line, const char *expression, const char *actual,
                    const char *expected);
void test_check_contains(const char *file, int line, const char *expression, const char *actual,
                         const char *part);

#define CHECK(condition)                                                                                     \
    do {                                                                                                     \
        if (!(condition))                                                                                    \
            test_fail(__FILE__, __LINE__, "%s", #condition);                                                 \
    } while (0)
#define CHECK_INT(actual, expected)                                                                          \
    test_check_int(__FILE__, __LINE__, #actual, (long long)(actual), (long long)(expected))
#define CHECK_STR(actual, expected)  test_check_str(__FILE__, __LINE__, #actual, actual, expected)
#define CHECK_CONTAINS(actual, part) test_check_contains(__FILE__, __LINE__, #actual, actual, part)

/* A directory of this test's own, removed after it; XDG_RUNTIME_DIR is its subdirectory run/. A socket or a
 * *.lock file left in it (run/ excepted) is a leak. */
const char *test_directory(void);

/* Formats a path in it, or anything else that the test needs until its end (a URL, for instance). */
const char *test_format(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Random numbers; a failed test tells NARU_TEST_SEED, which repeats them. */
uint64_t test_random(void);

/* Zeroed memory that the test shares with the processes it forks; unmapped with the test's end. */
void *test_shared(size_t size);

/* fork() whose child must end with test_child_end() or _exit(0); a failed CHECK in it fails the test. */
int test_fork(void);
void test_child_end(void) __attribute__((noreturn));

/* Waits for the child; fails the test unless it exited with 0. */
void test_join(int pid);

/* Kills the child with SIGKILL and reaps it; it may have ended well before, but not have failed. */
void test_kill(int pid);

/* Waits until the process sleeps in the kernel; whether a thread of this process does. */
void test_wait_asleep(int pid);
bool test_is_thread_asleep(int tid);

/* How often this process went to sleep by itself, so far. */
long test_sleeps(void);

/* Whether poll(2) finds the descriptor readable now. */
bool test_is_readable(int fd);

/* Lets the process have so many descriptors more than it has, until the test's end; SIZE_MAX: as many as
 * before the first call. */
void test_limit_descriptors(size_t more);

/* A UDP socket on 127.0.0.1; *ret_port is the kernel's choice. */
int test_udp_socket(uint16_t *ret_port);

/* A port of 127.0.0.1, TCP's and UDP's, for who must know it before it is bound: below those that the kernel
 * gives to who asks for any, so that it goes to no other test meanwhile. */
int test_unused_port(void);

/* Skips the test unless it runs as root; to be asked before anything is made that a skipped test would leave.
 */
void test_need_root(void);

/* As test_fork(), by root; the child is nobody (uid and gid 65534). */
int test_fork_as_nobody(void);

/* Synchronisation without sleeps: a pipe-backed gate between a test and the processes it forks afterwards.
 * Each test_gate_open() lets one test_gate_wait() through. */
struct test_gate {
    int fds[2];
};
void test_gate_init(struct test_gate *gate);
void test_gate_open(struct test_gate *gate);
void test_gate_wait(struct test_gate *gate); /* also ends the test if nobody is left who could open it */

/* Waits until the condition holds, for what nothing announces; fails the test after a minute. */
#define WAIT_UNTIL(condition)                                                                                \
    do {                                                                                                     \
        for (int attempts_ = 0; !(condition); attempts_++)                                                   \
            test_pause(__FILE__, __LINE__, #condition, attempts_);                                           \
    } while (0)
void test_pause(const char *file, int line, const char *condition, int attempt);

#endif
