/* SPDX-License-Identifier: MIT */
/*
 * The warden: the process that watches over one test. It is the reaper of all the test's orphans
 * (PR_SET_CHILD_SUBREAPER), so no process escapes it, whatever sessions or groups the test made.
 *
 * A test ends when its process ends, when anybody in it fails or skips (a byte on the alarm pipe), or when
 * the time is up. Then all that is left of it is killed, and what it left behind is looked for. It also ends
 * when the runner does, killed or not: so that the warden cleans up then, too, it is in a process group of
 * its own, which neither a terminal's signals nor timeout(1) reach.
 */
#include "runner-internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* What nothing but a hang exceeds: a test takes seconds at most on a quiet machine, and up to twenty times
 * that where programs that spin have all CPUs, or the hypervisor has them. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { TIMEOUT_DEFAULT_S = 300 };
#else
enum { TIMEOUT_DEFAULT_S = 120 };
#endif
/* Numbers of the runner's own descriptors, far above those that a test sees. */
enum { ALARM_FD = 499, RUNNER_FD = 498 };
/* Five seconds for children that are ending, and a minute for those that want a CPU all the while. */
enum { GRACE_ATTEMPTS = 1000, GRACE_MOST = 12000, GRACE_PAUSE_NS = 5000000 };

static void __attribute__((noreturn)) give_up(const char *what)
{
    verdict_add(test_context.verdict, OUTCOME_FAILED, "runner: %s: %s", what, strerror(errno));
    _exit(1);
}

static int timeout_s(void)
{
    const char *text = getenv("NARU_TEST_TIMEOUT");
    int seconds = text ? atoi(text) : 0;
    return seconds > 0 ? seconds : TIMEOUT_DEFAULT_S;
}

/* BASE/run-time layout: BASE/t is test_directory(), BASE/q shows the POSIX queues. */
static void make_directories(char *base, size_t capacity)
{
    const char *parent = getenv("TMPDIR");
    char path[96], run[160];
    snprintf(base, capacity, "%s/naru-XXXXXX", parent && strlen(parent) < 40 ? parent : "/tmp");
    if (!mkdtemp(base) || chmod(base, 0755) < 0)
        give_up("mkdtemp");
    snprintf(path, sizeof(path), "%s/q", base);
    if (mkdir(path, 0700) < 0)
        give_up("mkdir");
    snprintf(test_context.directory, sizeof(test_context.directory), "%s/t", base);
    snprintf(run, sizeof(run), "%s/run", test_context.directory);
    if (mkdir(test_context.directory, 0755) < 0 || mkdir(run, 0700) < 0 ||
        setenv("XDG_RUNTIME_DIR", run, 1) < 0)
        give_up("mkdir");
    leaks_isolate(path);
}

static void __attribute__((noreturn)) become_test(const struct test_case *test_case, int output_fd)
{
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (null < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(output_fd, STDOUT_FILENO) < 0 ||
        dup2(output_fd, STDERR_FILENO) < 0)
        give_up("dup2");
    if (null > STDERR_FILENO)
        close(null);
    close(output_fd);
    leaks_drop_capabilities();
    test_main(test_case);
}

/* The test ended by itself: say what its status means. */
static void judge_status(struct verdict *verdict, int status)
{
    if (WIFSIGNALED(status))
        verdict_add(verdict, OUTCOME_FAILED, "the test was killed by signal %d (%s)", WTERMSIG(status),
                    strsignal(WTERMSIG(status)));
    else if (WEXITSTATUS(status) != 0 && atomic_load(&verdict->outcome) != OUTCOME_FAILED)
        verdict_add(verdict, OUTCOME_FAILED, "the test exited with status %d", WEXITSTATUS(status));
}

static bool all_children_ended(void)
{
    for (;;) {
        pid_t pid = waitpid(-1, NULL, WNOHANG);
        if (pid < 0)
            return true;
        if (pid == 0)
            return false;
    }
}

/* Calls each with every living child of ours, its name and state: by now, all that is left of the test. */
static void for_each_child(void (*each)(pid_t pid, const char *name, char state))
{
    DIR *directory = opendir("/proc");
    if (!directory)
        give_up("/proc");
    const struct dirent *entry;
    while ((entry = readdir(directory))) {
        char path[300], line[512] = "", *name, *end;
        int parent;
        char state;
        snprintf(path, sizeof(path), "/proc/%s/stat", entry->d_name);
        FILE *file = entry->d_name[0] >= '0' && entry->d_name[0] <= '9' ? fopen(path, "re") : NULL;
        if (!file)
            continue;
        bool read = fgets(line, sizeof(line), file) != NULL;
        fclose(file);
        if (!read || !(name = strchr(line, '(')) || !(end = strrchr(line, ')')) ||
            sscanf(end + 1, " %c %d", &state, &parent) != 2 || parent != (int)getpid() || state == 'Z')
            continue;
        *end = '\0';
        each((pid_t)atoi(entry->d_name), name + 1, state);
    }
    closedir(directory);
}

static void report_child(pid_t pid, const char *name, char state)
{
    (void)state;
    verdict_add(test_context.verdict, OUTCOME_FAILED, "left a process running: %d (%s)", (int)pid, name);
}

static void kill_child(pid_t pid, const char *name, char state)
{
    (void)name;
    (void)state;
    kill(pid, SIGKILL);
}

static void kill_everybody(pid_t group)
{
    const struct timespec pause = {.tv_nsec = 1000000};
    kill(-group, SIGKILL);
    while (!all_children_ended()) {
        for_each_child(kill_child); /* killing a child may make its children ours */
        nanosleep(&pause, NULL);
    }
}

static bool some_want_to_run;

static void note_whether_it_wants_to_run(pid_t pid, const char *name, char state)
{
    (void)pid;
    (void)name;
    some_want_to_run |= state == 'R' || state == 'D';
}

static void check_survivors(void)
{
    const struct timespec pause = {.tv_nsec = GRACE_PAUSE_NS};
    some_want_to_run = true;
    for (int i = 0; i < GRACE_MOST && some_want_to_run; i++) {
        if (all_children_ended())
            return;
        nanosleep(&pause, NULL);
        some_want_to_run = i < GRACE_ATTEMPTS;
        if (!some_want_to_run)
            for_each_child(note_whether_it_wants_to_run);
    }
    if (!all_children_ended())
        for_each_child(report_child);
}

static void watch(struct verdict *verdict, pid_t pid, int alarm_fd, int runner_fd)
{
    int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (pidfd < 0)
        give_up("pidfd_open");
    struct pollfd events[] = {{.fd = pidfd, .events = POLLIN},
                              {.fd = alarm_fd, .events = POLLIN},
                              {.fd = runner_fd, .events = POLLIN}};
    int ready = poll(events, 3, timeout_s() * 1000);
    close(pidfd);
    if (ready == 0)
        verdict_add(verdict, OUTCOME_FAILED, "timed out after %d s", timeout_s());
    if (ready > 0 && !(events[1].revents & POLLIN) && (events[0].revents & POLLIN)) {
        int status;
        if (waitpid(pid, &status, 0) != pid)
            give_up("waitpid");
        judge_status(verdict, status);
        if (atomic_load(&verdict->outcome) == OUTCOME_PASSED)
            check_survivors();
    }
    kill_everybody(pid);
}

static void __attribute__((noreturn))
supervise(const struct test_case *test_case, int output_fd, int runner_fd)
{
    static struct leaks before, after;
    char base[64];
    int alarm_fds[2];
    setpgid(0, 0);
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    make_directories(base, sizeof(base));
    leaks_list(&before);
    if (pipe2(alarm_fds, O_CLOEXEC) < 0)
        give_up("pipe2");
    test_context.alarm_fd = fcntl(alarm_fds[1], F_DUPFD_CLOEXEC, ALARM_FD);
    close(alarm_fds[1]);
    pid_t pid = fork();
    if (pid < 0)
        give_up("fork");
    if (pid == 0) {
        close(alarm_fds[0]);
        close(runner_fd);
        become_test(test_case, output_fd);
    }
    setpgid(pid, pid);
    watch(test_context.verdict, pid, alarm_fds[0], runner_fd);
    leaks_list(&after);
    leaks_compare(test_context.verdict, &before, &after);
    if (atomic_load(&test_context.verdict->outcome) == OUTCOME_PASSED)
        leaks_check_directory(test_context.verdict, test_context.directory);
    leaks_remove_tree(base);
    _exit(0);
}

/* A descriptor that is readable once this process has ended. */
static int open_runner(void)
{
    int fd = (int)syscall(SYS_pidfd_open, getpid(), 0), moved;
    if (fd < 0)
        return -1;
    moved = fcntl(fd, F_DUPFD_CLOEXEC, RUNNER_FD);
    close(fd);
    return moved;
}

void warden_run(const struct test_case *test_case, struct verdict *verdict, int output_fd)
{
    static int runner_fd = -1; /* opened by the runner: a warden's parent may be another one by then */
    if (runner_fd < 0)
        runner_fd = open_runner();
    test_context.verdict = verdict;
    pid_t pid = runner_fd < 0 ? -1 : fork();
    if (pid < 0) {
        verdict_add(verdict, OUTCOME_FAILED, "runner: no process for a test: %s", strerror(errno));
        return;
    }
    if (pid == 0)
        supervise(test_case, output_fd, runner_fd);
    int status;
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            break;
    if (status != 0 && atomic_load(&verdict->outcome) != OUTCOME_FAILED)
        verdict_add(verdict, OUTCOME_FAILED, "runner: the warden ended with status 0x%x", (unsigned)status);
}
