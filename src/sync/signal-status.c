/* SPDX-License-Identifier: MIT */
/* Signal sets of processes and threads, as the kernel prints them (proc(5), /proc/PID/status). */
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/error.h"
#include "base/sized.h"
#include "sync/signal.h"

enum { PATH_ROOM = 96 };

static bool parse_set(const char *line, const char *key, uint64_t *ret_set)
{
    size_t length = strlen(key);

    if (strncmp(line, key, length) != 0)
        return false;
    *ret_set = strtoull(line + length, NULL, 16);
    return true;
}

static void parse_line(const char *line, struct signal_status *status)
{
    struct naru_signal_sets *sets = &status->sets;

    if (parse_set(line, "SigPnd:", &sets->thread_pending) ||
        parse_set(line, "ShdPnd:", &sets->process_pending) || parse_set(line, "SigBlk:", &sets->blocked) ||
        parse_set(line, "SigIgn:", &sets->ignored) || parse_set(line, "SigCgt:", &sets->caught))
        return;
    if (sscanf(line, "SigQ: %" SCNu64 "/%" SCNu64, &sets->queued, &sets->queue_limit) == 2)
        return;
    if (sscanf(line, "Name: %63[^\n]", status->name) == 1 || sscanf(line, "State: %c", &status->state) == 1)
        return;
    if (sscanf(line, "Pid: %" SCNd64, &status->pid) == 1 || sscanf(line, "Uid: %" SCNd64, &status->uid) == 1)
        return;
    (void)sscanf(line, "Gid: %" SCNd64, &status->gid); /* the last that can match */
}

static int read_status(const char *path, struct signal_status *ret_status)
{
    struct signal_status status = {.sets.size = sizeof status.sets, .pid = -1, .uid = -1, .gid = -1};
    char line[256]; /* of a longer one (Groups) the rest looks like nothing we want */
    FILE *file = fopen(path, "re");
    int r = 0;

    if (!file)
        return errno == ENOENT ? -ESRCH : -errno;
    errno = 0;
    while (fgets(line, sizeof line, file))
        parse_line(line, &status);
    if (ferror(file))
        r = errno ? -errno : -EIO; /* ESRCH: it ended meanwhile */
    else if (status.pid < 0)
        r = -ESRCH;
    (void)fclose(file); /* it was read from only */
    if (r == 0)
        *ret_status = status;
    return r;
}

/* No entry in /proc says that there is no such process only if kill(2) does not know it either. */
static int why_absent(int64_t pid)
{
    if (access("/proc/self", F_OK) < 0)
        return -ENOTSUP;
    if (pid > 0 && pid <= INT32_MAX && (kill((pid_t)pid, 0) == 0 || errno == EPERM))
        return -EACCES;
    return -ESRCH;
}

const char *signal_status_text(int code)
{
    switch (code) {
    case ENOTSUP:
        return "/proc, which tells it, is not mounted; as root: mount -t proc proc /proc";
    case EACCES:
        return "/proc hides other users' processes here (hidepid, proc(5)); its own user may look, and root";
    default:
        return error_text(code);
    }
}

int signal_status_read(int64_t pid, struct signal_status *ret_status)
{
    char path[64];
    int r;

    (void)snprintf(path, sizeof path, "/proc/%" PRId64 "/status", pid);
    r = read_status(pid == 0 ? "/proc/thread-self/status" : path, ret_status);
    return r == -ESRCH ? why_absent(pid) : r;
}

int naru_signal_sets(int64_t pid, struct naru_signal_sets *ret_sets)
{
    struct signal_status status;
    int r = SIZED_CHECK("naru_signal_sets()", "sets", naru_signal_sets, ret_sets);

    if (r < 0)
        return r;
    r = pid < 0 ? -ESRCH : signal_status_read(pid, &status);
    if (r < 0)
        return error_set(-r, "reading the signal sets of process %" PRId64 ": %s", pid,
                         signal_status_text(-r));
    status.sets.size = ret_sets->size;
    *ret_sets = status.sets;
    return 0;
}

static int thread_reception(const struct signal_status *thread, uint64_t set)
{
    const uint64_t not_for_programs =
        naru_signal_bit(SIGKILL) | naru_signal_bit(SIGSTOP) | naru_signal_bit(32) | naru_signal_bit(33);

    if (set & ~thread->sets.blocked)
        return SIGNAL_OPEN;
    /* 'D', uninterruptible: in vfork(2), or for a page */
    if ((thread->sets.blocked | not_for_programs) == UINT64_MAX && strchr("RD", thread->state) &&
        thread->pid != gettid())
        return SIGNAL_UNSURE;
    return SIGNAL_BLOCKED;
}

/* tasks: an open /proc/PID/task; path: room for the names below it, which is its first length bytes. */
static int look_at_threads(DIR *tasks, char *path, size_t length, uint64_t set,
                           struct signal_status *ret_thread)
{
    int found = SIGNAL_BLOCKED, threads = 0;
    struct dirent *entry;

    while ((errno = 0, entry = readdir(tasks))) {
        struct signal_status thread;
        int r;

        if (entry->d_name[0] == '.')
            continue;
        (void)snprintf(path + length, PATH_ROOM - length, "/%.20s/status", entry->d_name);
        r = read_status(path, &thread);
        if (r == -ESRCH || (r == 0 && strchr("ZX", thread.state)))
            continue; /* that thread has ended */
        if (r < 0)
            return r;
        threads++;
        r = thread_reception(&thread, set);
        if (r == SIGNAL_BLOCKED)
            continue;
        *ret_thread = thread;
        if (r == SIGNAL_OPEN)
            return r;
        found = r;
    }
    if (errno && errno != ESRCH)
        return -errno;
    return threads ? found : -ESRCH;
}

int signal_find_open_thread(int64_t pid, uint64_t set, struct signal_status *ret_thread)
{
    char path[PATH_ROOM];
    int length = pid == 0 ? snprintf(path, sizeof path, "/proc/self/task")
                          : snprintf(path, sizeof path, "/proc/%" PRId64 "/task", pid);
    DIR *tasks = opendir(path);
    int r;

    if (!tasks)
        return errno == ENOENT ? why_absent(pid) : -errno;
    r = look_at_threads(tasks, path, (size_t)length, set, ret_thread);
    (void)closedir(tasks);
    return r;
}

/* The clock of a process's CPU time, or of a thread's of this one, as the kernel makes them up
 * (include/linux/posix-timers_types.h): clock_getcpuclockid(3) has none for a thread's number. */
static clockid_t cpu_clock(int64_t pid, int64_t tid)
{
    enum { OF_PROCESS = 2, OF_THREAD = 6 };

    return (clockid_t)(~(uint32_t)(pid ? pid : tid) << 3 | (pid ? OF_PROCESS : OF_THREAD));
}

bool signal_is_lasting(struct signal_doubt *doubt, int64_t pid, const struct signal_status *thread)
{
    enum { LOOKS = 12 };
    struct timespec taken = {.tv_nsec = doubt->cpu_ns + 1}; /* where it cannot be told each look counts */
    int64_t cpu_ns;

    (void)clock_gettime(cpu_clock(pid, thread->pid), &taken);
    cpu_ns = NARU_S(taken.tv_sec) + taken.tv_nsec;
    if (cpu_ns == doubt->cpu_ns)
        return false;
    doubt->cpu_ns = cpu_ns;
    return ++doubt->looks >= LOOKS;
}
