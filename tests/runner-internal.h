/* SPDX-License-Identifier: MIT */
/* What the runner's parts share: runner.c (choosing, TAP), runner-warden.c (one test's life), runner-check.c
 * (what runs inside the test), runner-leaks.c (what tests leave behind). */
#ifndef TESTS_RUNNER_INTERNAL_H
#define TESTS_RUNNER_INTERNAL_H

#include <stdatomic.h>

#include "runner.h"

enum outcome { OUTCOME_PASSED = 0, OUTCOME_FAILED = 1, OUTCOME_SKIPPED = 2 };

/* In memory that the runner, the warden, the test and all its children share: whoever fails can say why. */
struct verdict {
    _Atomic int outcome;
    atomic_flag writing;
    size_t used;
    char text[16384]; /* lines of diagnostics */
};

/* One case: a test, or a test with one of its parameters. */
struct test_case {
    const struct test *test;
    size_t index;
    char *name;
};

struct verdict *verdict_new(void);
void verdict_reset(struct verdict *verdict);
void verdict_add(struct verdict *verdict, enum outcome outcome, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* What the test's own process needs; set by the warden before it forks the test. */
struct test_context {
    struct verdict *verdict;
    int alarm_fd;        /* one byte here ends the test: the warden reads the other end */
    char directory[128]; /* test_directory() */
    uint64_t seed;
};
extern struct test_context test_context;

/* Runs the case in this process, checks its descriptors and exits. */
void test_main(const struct test_case *test_case) __attribute__((noreturn));

/* Runs one case under supervision, in a process of its own. Its output goes to output_fd. */
void warden_run(const struct test_case *test_case, struct verdict *verdict, int output_fd);

/* Kernel objects with names, as lines of text. */
struct leaks {
    size_t count;
    char lines[512][160];
};

/* Gives this process and its children IPC objects of their own, with mqueue_path (an empty directory) showing
 * the POSIX queues. Where that is not allowed, waits for its turn instead: tests run one at a time. */
void leaks_isolate(const char *mqueue_path);
void leaks_list(struct leaks *ret_leaks);
void leaks_compare(struct verdict *verdict, const struct leaks *before, const struct leaks *after);

/* Sockets and locks in the test's directory are leaks; then removes it all. */
void leaks_check_directory(struct verdict *verdict, const char *path);
void leaks_remove_tree(const char *path);

/* In the test's own process: capabilities that isolating gave, and that would make permission tests lie. */
void leaks_drop_capabilities(void);

#endif
