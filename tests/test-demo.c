/* SPDX-License-Identifier: MIT */
/* naru demo: each demonstration runs, and what it claims happened did happen. */
#include <fcntl.h>
#include <libgen.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runner-shell.h"
#include "runner.h"

struct outcome {
    int status;
    char out[16384];
};

/* Runs `naru demo NAME [--json]` and keeps what it prints. */
static struct outcome run_demo(const char *name, const char *option)
{
    struct outcome outcome = {.status = -1};
    size_t length = 0;
    ssize_t n;
    int ends[2], pid;

    CHECK_INT(pipe2(ends, O_CLOEXEC), 0);
    pid = fork();
    if (pid == 0) {
        dup2(ends[1], 1);
        dup2(ends[1], 2);
        execl(shell_command(), "naru", "demo", name, option, (char *)NULL);
        _exit(127);
    }
    close(ends[1]);
    while ((n = read(ends[0], outcome.out + length, sizeof outcome.out - 1 - length)) > 0)
        length += (size_t)n;
    close(ends[0]);
    CHECK_INT(waitpid(pid, &outcome.status, 0), pid);
    return outcome;
}

static int count(const char *text, const char *part)
{
    int found = 0;

    for (const char *at = text; (at = strstr(at, part)); at += strlen(part))
        found++;
    return found;
}

/* The value of a number in the JSON. */
static double number(const struct outcome *outcome, const char *key)
{
    char quoted[64];
    const char *at;

    snprintf(quoted, sizeof quoted, "\"%s\": ", key);
    at = strstr(outcome->out, quoted);
    if (!at)
        test_fail(__FILE__, __LINE__, "no %s in %s", quoted, outcome->out);
    return strtod(at + strlen(quoted), NULL);
}

static struct outcome run_json(const char *name, int claims)
{
    struct outcome outcome = run_demo(name, "--json");

    if (outcome.status != 0)
        test_fail(__FILE__, __LINE__, "naru demo %s ended with status %d: %s", name, outcome.status,
                  outcome.out);
    CHECK_CONTAINS(outcome.out, "\"ok\": true");
    CHECK_INT(count(outcome.out, "\"held\": true"), claims);
    CHECK_INT(count(outcome.out, "\"held\": false"), 0);
    return outcome;
}

/* Root in a container may not have the right to see page frames (proc(5), CAP_SYS_ADMIN). */
static bool can_see_frames(void)
{
    uint64_t entry = 0, variable = 1;
    int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    off_t page = (off_t)((uintptr_t)&variable / (uintptr_t)sysconf(_SC_PAGESIZE));

    if (fd < 0)
        return false;
    CHECK_INT(pread(fd, &entry, sizeof entry, page * (off_t)sizeof entry), sizeof entry);
    close(fd);
    return (entry & ((UINT64_C(1) << 55) - 1)) != 0;
}

TEST(isolation_shows_two_values_of_one_variable_and_one_page_at_two_addresses)
{
    struct outcome outcome = run_json("isolation", can_see_frames() ? 9 : 6);

    CHECK_INT(number(&outcome, "parent_value"), 10);
    CHECK_INT(number(&outcome, "child_value"), 20);
}

TEST(race_loses_updates_without_a_lock_and_none_with_one)
{
    struct outcome outcome = run_json("race", 4);

    CHECK(number(&outcome, "none_lost") > 0);
    CHECK_INT(number(&outcome, "semaphore_lost"), 0);
    CHECK_INT(number(&outcome, "mutex_lost"), 0);
    CHECK_INT(number(&outcome, "atomic_lost"), 0);
    CHECK(number(&outcome, "mutex_updates") >= 100000);
    CHECK(number(&outcome, "mutex_ns") > 0);
}

TEST(cycle_wakes_the_reader_by_event_semaphore_and_signal)
{
    struct outcome outcome = run_json("cycle", 9);

    CHECK(number(&outcome, "event_wake_us") > 0);
    CHECK(number(&outcome, "semaphore_wake_us") > 0);
    CHECK(number(&outcome, "signal_wake_us") > 0);
}

TEST(cycle_prints_the_time_line)
{
    struct outcome outcome = run_demo("cycle", NULL);
    const char *at = outcome.out;

    CHECK_INT(outcome.status, 0);
    for (int way = 0; way < 3; way++) {
        static const char *const steps[] = {"T1  ", "T2  ", "T3  ", "T4  ", "T5  ", "T6  "};

        for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
            at = strstr(at, steps[i]);
            CHECK(at != NULL);
        }
    }
}

/* The figure of one team, or of one of its workers. */
static double team_number(const struct outcome *outcome, int workers, const char *what)
{
    char key[48];

    snprintf(key, sizeof key, "workers_%d_%s", workers, what);
    return number(outcome, key);
}

/* The demonstration's three teams: alone, by two, by as many as there are CPUs and four at least. */
struct teams {
    int sizes[3];
};

static struct teams teams_of(const struct outcome *outcome)
{
    int cpus = (int)number(outcome, "cpus");

    return (struct teams){{1, 2, cpus > 4 ? cpus < 64 ? cpus : 64 : 4}};
}

TEST(parallel_gets_the_right_result_with_any_number_of_workers)
{
    struct outcome outcome = run_json("parallel", 6);
    struct teams teams = teams_of(&outcome);

    for (size_t t = 0; t < 3; t++)
        CHECK(team_number(&outcome, teams.sizes[t], "ms") > 0);
    CHECK_INT(count(outcome.out, "100 of 100 results came back: 148933 primes"), 3);
}

/* Each process is one of its own, each did some of the jobs, and together they did each job once. */
TEST(parallel_shares_the_work_out_among_different_processes)
{
    struct outcome outcome = run_json("parallel", 6);
    struct teams teams = teams_of(&outcome);

    for (size_t t = 0; t < 3; t++) {
        double pids[64], jobs = 0; /* all of a team live at the same time: no pid can have come back */

        for (int i = 1; i <= teams.sizes[t]; i++) {
            char what[16];
            double pid, share;

            snprintf(what, sizeof what, "pid_%d", i);
            pid = team_number(&outcome, teams.sizes[t], what);
            snprintf(what, sizeof what, "jobs_%d", i);
            share = team_number(&outcome, teams.sizes[t], what);
            CHECK(pid > 1 && pid < 4194305); /* PID_MAX_LIMIT, proc(5) */
            CHECK(share > 0);
            for (int k = 0; k < i - 1; k++)
                CHECK(pids[k] < pid || pids[k] > pid);
            pids[i - 1] = pid;
            jobs += share;
        }
        CHECK_INT(jobs, 100);
    }
}

TEST(parallel_prints_speed_ups_that_follow_from_its_times)
{
    struct outcome json = run_json("parallel", 6), text = run_demo("parallel", NULL);
    struct teams teams = teams_of(&json);
    double alone = team_number(&json, 1, "ms"), printed_alone = 0;
    const char *at = text.out;

    CHECK_INT(text.status, 0);
    for (size_t t = 0; t < 3; t++) {
        double expected = alone / team_number(&json, teams.sizes[t], "ms"), ms, times;
        double error = team_number(&json, teams.sizes[t], "speedup") - expected;
        char heading[32];

        CHECK(error < 1e-6 * expected && error > -1e-6 * expected);

        snprintf(heading, sizeof heading, "%2d worker", teams.sizes[t]);
        at = strstr(at, heading);
        CHECK(at != NULL);
        at += strlen(heading) + 1;
        CHECK_INT(sscanf(at, "%lf ms, %lf times as fast", &ms, &times), 2);
        printed_alone = t == 0 ? ms : printed_alone;
        /* What rounding to 0.1 ms and 0.01 times leaves open. */
        CHECK(times <= (printed_alone + 0.05) / (ms - 0.05) + 0.0051);
        CHECK(times >= (printed_alone - 0.05) / (ms + 0.05) - 0.0051);
    }
}

TEST(signals_shows_each_thing_that_a_process_can_do)
{
    struct outcome outcome = run_json("signals", 18);
    static const char *const shown[] = {"SIGINT, nothing prepared",
                                        "SIGINT, ignored",
                                        "SIGINT, with a handler",
                                        "0000000000000200",
                                        "10, 20 and 30",
                                        "SIGALRM",
                                        "SIGTSTP",
                                        "SIGCONT",
                                        "SIGSEGV",
                                        "SIGSTOP stops the process",
                                        "SIGKILL ends the process"};

    for (size_t i = 0; i < sizeof shown / sizeof *shown; i++)
        CHECK_CONTAINS(outcome.out, shown[i]);
}

TEST(a_claim_that_does_not_hold_makes_the_demonstration_fail)
{
    struct rlimit nothing_queues = {0, 0};
    struct outcome outcome;

    CHECK_INT(setrlimit(RLIMIT_SIGPENDING, &nothing_queues), 0);
    outcome = run_demo("signals", "--json");
    CHECK(WIFEXITED(outcome.status));
    CHECK_INT(WEXITSTATUS(outcome.status), 1);
    CHECK_CONTAINS(outcome.out, "\"ok\": false");
    CHECK_CONTAINS(outcome.out, "RLIMIT_SIGPENDING");
}

TEST(each_demonstration_names_its_source_and_uses_no_colour_in_a_pipe)
{
    static const char *const names[] = {"isolation", "race", "cycle", "parallel", "signals"};

    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct outcome outcome = run_demo(names[i], NULL);
        char path[4096], line[64], tree[] = __FILE__;

        CHECK_INT(outcome.status, 0);
        snprintf(line, sizeof line, "The source: cli/demo-%s.c\n", names[i]);
        CHECK_CONTAINS(outcome.out, line);
        CHECK(!strchr(outcome.out, '\033'));
        snprintf(path, sizeof path, "%s/../cli/demo-%s.c", dirname(tree), names[i]);
        CHECK_INT(access(path, R_OK), 0);
    }
}

TEST(a_demonstration_that_does_not_exist_is_a_wrong_command_line)
{
    struct outcome outcome = run_demo("magic", NULL);

    CHECK(WIFEXITED(outcome.status));
    CHECK_INT(WEXITSTATUS(outcome.status), 2);
    CHECK_CONTAINS(outcome.out, "isolation");
}
