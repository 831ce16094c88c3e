/* SPDX-License-Identifier: MIT */
/*
 * The runner proves itself: tests that fail, hang, crash or leave things behind run in a nested instance of
 * this program (they exist only under NARU_TEST_NESTED), and must be reported as what they are.
 */
#include "runner.h"

#include <dirent.h>
#include <fcntl.h>
#include <mqueue.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define NESTED(test_name)                                                                                    \
    static void test_##test_name(void);                                                                      \
    __attribute__((constructor)) static void register_##test_name(void)                                      \
    {                                                                                                        \
        static struct test test = {#test_name, test_##test_name, 0, 0, 0};                                   \
        if (getenv("NARU_TEST_NESTED"))                                                                      \
            test_register(&test);                                                                            \
    }                                                                                                        \
    static void test_##test_name(void)

NESTED(fine)
{
    printf("this output of a good test is not shown\n");
}

NESTED(wrong_number)
{
    printf("what the test printed\n");
    CHECK_INT(1 + 1, 3);
}

NESTED(wrong_condition)
{
    CHECK(getpid() == 0);
}

NESTED(wrong_text)
{
    CHECK_STR("seen", "wanted");
}

NESTED(wrong_part)
{
    CHECK_CONTAINS("haystack", "needle");
}

NESTED(skips)
{
    test_skip("this machine has no %s", "sails");
}

NESTED(hangs)
{
    for (;;)
        pause();
}

NESTED(crashes)
{
    signal(SIGSEGV, SIG_DFL);
    raise(SIGSEGV);
}

NESTED(exits_early)
{
    _exit(7);
}

NESTED(child_fails)
{
    int pid = test_fork();
    if (pid == 0) {
        CHECK_INT(5, 6);
        test_child_end();
    }
    for (;;) /* the child's failure ends the test, whatever we wait for */
        pause();
}

NESTED(child_exits_wrongly)
{
    int pid = test_fork();
    if (pid == 0)
        _exit(9);
    test_join(pid);
}

NESTED(leaks_descriptor)
{
    CHECK(open("/dev/null", O_RDONLY) >= 0);
}

/* It leaves its process group and its parent: only the warden can find it. */
NESTED(leaks_process)
{
    int pid = test_fork();
    if (pid == 0) {
        setsid();
        if (fork() == 0)
            for (;;)
                pause();
        test_child_end();
    }
    test_join(pid);
}

NESTED(leaks_sysv_queue)
{
    CHECK(msgget(0x4e415255, IPC_CREAT | 0600) >= 0);
}

NESTED(leaks_sysv_semaphore)
{
    CHECK(semget(0x4e415255, 1, IPC_CREAT | 0600) >= 0);
}

NESTED(leaks_sysv_memory)
{
    CHECK(shmget(0x4e415255, 4096, IPC_CREAT | 0600) >= 0);
}

NESTED(leaks_posix_memory)
{
    int fd = shm_open("/naru-leaked", O_CREAT | O_RDWR, 0600);
    CHECK(fd >= 0);
    close(fd);
}

NESTED(leaks_posix_queue)
{
    mqd_t queue = mq_open("/naru-leaked", O_CREAT | O_RDWR, 0600, NULL);
    CHECK(queue >= 0);
    mq_close(queue);
}

NESTED(leaks_socket)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof(address.sun_path), "%s/s", test_directory());
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    CHECK(bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0);
    close(fd);
}

NESTED(leaks_lock)
{
    int fd = open(test_format("%s/a.lock", test_directory()), O_CREAT | O_WRONLY, 0600);
    CHECK(fd >= 0);
    close(fd);
}

static const char *colour(size_t index)
{
    static const char *const colours[] = {"red", "blue", NULL};
    return colours[index];
}

TEST_EACH(parameters_are_numbered_as_they_are_named, colour)
{
    CHECK_STR(colour(index), index == 0 ? "red" : "blue");
}

/* Runs this program's test of that name and returns its exit status; text is what it printed. */
static int run_nested(const char *name, char *ret_text, size_t capacity)
{
    int fds[2], status;
    CHECK(pipe2(fds, O_CLOEXEC) == 0);
    int pid = test_fork();
    if (pid == 0) {
        dup2(fds[1], STDOUT_FILENO);
        setenv("NARU_TEST_NESTED", "1", 1);
        setenv("NARU_TEST_TIMEOUT", strcmp(name, "hangs") == 0 ? "1" : "20", 1);
        execl("/proc/self/exe", "test-runner", name, (char *)NULL);
        _exit(127);
    }
    close(fds[1]);
    size_t used = 0;
    ssize_t got;
    while ((got = read(fds[0], ret_text + used, capacity - 1 - used)) > 0)
        used += (size_t)got;
    ret_text[used] = '\0';
    close(fds[0]);
    CHECK(waitpid(pid, &status, 0) == pid);
    CHECK(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static size_t entries_in(const char *path)
{
    DIR *directory = opendir(path);
    size_t count = 0;

    CHECK(directory);
    while (readdir(directory))
        count++;
    closedir(directory);
    return count - 2;
}

/* Nobody is told when a runner is killed: what a test of it had made goes nevertheless. */
TEST(a_runner_that_is_killed_leaves_nothing)
{
    const char *directory = test_format("%s/tmp", test_directory());
    int pid;

    CHECK(mkdir(directory, 0700) == 0);
    pid = test_fork();
    if (pid == 0) {
        CHECK(setenv("NARU_TEST_NESTED", "1", 1) == 0);
        CHECK(setenv("NARU_TEST_TIMEOUT", "20", 1) == 0);
        CHECK(setenv("TMPDIR", directory, 1) == 0);
        execl("/proc/self/exe", "test-runner", "hangs", (char *)NULL);
        _exit(127);
    }
    WAIT_UNTIL(entries_in(directory) == 1);
    test_kill(pid);
    WAIT_UNTIL(entries_in(directory) == 0);
}

struct expectation {
    const char *name;
    int status;
    const char *result, *detail, *summary;
};

static const struct expectation expectations[] = {
    {"fine", 0, "ok 1 - fine\n", "TAP version 13\n1..1\n", "1 passed, 0 failed, 0 skipped\n"},
    {"wrong_number", 1, "not ok 1 - wrong_number\n", "test-runner.c:", "0 passed, 1 failed, 0 skipped\n"},
    {"wrong_number", 1, "1 + 1 is 2, expected 3", "| what the test printed", "NARU_TEST_SEED="},
    {"wrong_condition", 1, "not ok", "getpid() == 0", "1 failed"},
    {"wrong_text", 1, "not ok", "is \"seen\", expected \"wanted\"", "1 failed"},
    {"wrong_part", 1, "not ok", "is \"haystack\", expected it to contain \"needle\"", "1 failed"},
    {"skips", 0, "ok 1 - skips # SKIP this machine has no sails\n", "1..1",
     "0 passed, 0 failed, 1 skipped\n"},
    {"hangs", 1, "not ok 1 - hangs", "timed out after 1 s", "1 failed"},
    {"crashes", 1, "not ok 1 - crashes", "killed by signal 11 (Segmentation fault)", "1 failed"},
    {"exits_early", 1, "not ok", "exited with status 7", "1 failed"},
    {"child_fails", 1, "not ok", "5 is 5, expected 6", "1 failed"},
    {"child_exits_wrongly", 1, "not ok", "exited with status 9", "1 failed"},
    {"leaks_descriptor", 1, "not ok", "leaked descriptor", "/dev/null"},
    {"leaks_process", 1, "not ok", "left a process running", "(exe)"},
    {"leaks_sysv_queue", 1, "not ok", "leaked System V message queue", "(key 0x4e415255)"},
    {"leaks_sysv_semaphore", 1, "not ok", "leaked System V semaphore set", "(key 0x4e415255)"},
    {"leaks_sysv_memory", 1, "not ok", "leaked System V shared memory", "(key 0x4e415255)"},
    {"leaks_posix_memory", 1, "not ok", "leaked POSIX shared memory or semaphore", "/naru-leaked"},
    {"leaks_posix_queue", 1, "not ok", "leaked POSIX message queue", "/naru-leaked"},
    {"leaks_socket", 1, "not ok", "leaked socket", "/t/s"},
    {"leaks_lock", 1, "not ok", "leaked lock", "/t/a.lock"},
};

static const char *expectation_name(size_t index)
{
    bool nested = getenv("NARU_TEST_NESTED") != NULL; /* there, only the others are to run */
    return !nested && index < sizeof(expectations) / sizeof(expectations[0]) ? expectations[index].name
                                                                             : NULL;
}

TEST_EACH(a_nested_test_is_reported_as_what_it_is, expectation_name)
{
    static char text[65536];
    const struct expectation *expected = &expectations[index];
    int status = run_nested(expected->name, text, sizeof(text));
    CHECK_CONTAINS(text, expected->result);
    CHECK_CONTAINS(text, expected->detail);
    CHECK_CONTAINS(text, expected->summary);
    CHECK_INT(status, expected->status);
    if (strcmp(expected->name, "fine") == 0)
        CHECK(!strstr(text, "is not shown"));
}

TEST(a_gate_lets_one_through_for_each_opening)
{
    struct test_gate ready, go;
    test_gate_init(&ready);
    test_gate_init(&go);
    int pid = test_fork();
    if (pid == 0) {
        test_gate_open(&ready);
        test_gate_wait(&go);
        test_child_end();
    }
    test_gate_wait(&ready);
    CHECK_INT(waitpid(pid, NULL, WNOHANG), 0);
    test_gate_open(&go);
    test_join(pid);
}

TEST(a_killed_child_is_reaped)
{
    int pid = test_fork();
    if (pid == 0)
        for (;;)
            pause();
    test_kill(pid);
    CHECK_INT(kill(pid, 0), -1);
}

TEST(the_test_directory_is_ours_and_empty_of_sockets)
{
    CHECK(access(test_directory(), W_OK) == 0);
    CHECK(strlen(test_directory()) < 60); /* a socket's path has 108 bytes */
    CHECK_CONTAINS(getenv("XDG_RUNTIME_DIR"), test_directory());
}
