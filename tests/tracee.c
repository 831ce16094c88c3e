/* SPDX-License-Identifier: MIT */
/* A process stopped at its stores and system calls: see tracee.h. */
#include "tracee.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runner.h"

enum { CALL_STOP = SIGTRAP | 0x80 }; /* PTRACE_O_TRACESYSGOOD */

const char *tracee_unsupported(void)
{
    const char *missing = processor_unsupported();
    int status, pid;

    if (missing)
        return missing;
    pid = fork();
    if (pid == 0)
        _exit(ptrace(PTRACE_TRACEME, 0, NULL, NULL) < 0 ? 77 : 0);
    CHECK(pid > 0 && waitpid(pid, &status, 0) == pid);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? NULL : "ptrace is not allowed here";
}

void tracee_begin(void)
{
    CHECK_INT(ptrace(PTRACE_TRACEME, 0, NULL, NULL), 0);
    CHECK_INT(raise(SIGSTOP), 0);
}

/* Waits for a stop. false: it has ended. */
static bool wait_stop(const struct tracee *t, int *ret_status)
{
    CHECK_INT(waitpid(t->pid, ret_status, 0), t->pid);
    return WIFSTOPPED(*ret_status);
}

static void set_protection(const struct tracee *t, int protection)
{
    for (size_t i = 0; i < t->regions; i++)
        CHECK_INT(processor_inject(t->pid, SYS_mprotect, t->region[i].begin,
                                   t->region[i].end - t->region[i].begin, (uint64_t)protection),
                  0);
}

/* A line of /proc/PID/maps: memory of shm:, shm+posix: or shm+sysv:. */
static bool is_shared(const char *line)
{
    return strstr(line, "/memfd:naru") || strstr(line, " /dev/shm/") || strstr(line, " /SYSV");
}

/* Finds what the process can write and others read: mappings that touch are one region, for the two copies of
 * a ring. Protects them. */
static void find_regions(struct tracee *t)
{
    char path[64], line[512];
    FILE *maps;

    snprintf(path, sizeof path, "/proc/%d/maps", t->pid);
    maps = fopen(path, "re");
    CHECK(maps);
    t->regions = 0;
    while (fgets(line, sizeof line, maps)) {
        unsigned long begin, end;
        char rights[5];

        if (!is_shared(line) || sscanf(line, "%lx-%lx %4s", &begin, &end, rights) != 3 || rights[3] != 's')
            continue;
        /* What is read-only is the other side's, which the seals keep so, or was protected by us. */
        if (rights[1] != 'w' &&
            processor_inject(t->pid, SYS_mprotect, begin, end - begin, PROT_READ | PROT_WRITE) != 0)
            continue;
        if (t->regions > 0 && t->region[t->regions - 1].end == begin) {
            t->region[t->regions - 1].end = end;
            continue;
        }
        CHECK(t->regions < TRACEE_REGIONS);
        t->region[t->regions].begin = begin;
        t->region[t->regions++].end = end;
    }
    fclose(maps);
    set_protection(t, PROT_READ);
}

void tracee_take(struct tracee *t, int pid, bool stores)
{
    int status;

    *t = (struct tracee){.pid = pid};
    CHECK(wait_stop(t, &status));
    CHECK_INT(WSTOPSIG(status), SIGSTOP);
    CHECK_INT(ptrace(PTRACE_SETOPTIONS, pid, NULL, PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL), 0);
    if (stores)
        find_regions(t);
}

/* Whether the process stands before a store to its shared memory. */
static bool is_store(const struct tracee *t, struct event *ret_event)
{
    struct processor_state state;
    siginfo_t info;

    CHECK_INT(ptrace(PTRACE_GETSIGINFO, t->pid, NULL, &info), 0);
    for (size_t i = 0; i < t->regions; i++) {
        uint64_t address = (uint64_t)(uintptr_t)info.si_addr;

        if (address < t->region[i].begin || address >= t->region[i].end)
            continue;
        processor_look(t->pid, &state);
        *ret_event = (struct event){EVENT_STORE, state.ip, address - t->region[i].begin};
        return true;
    }
    return false;
}

static bool takes_own_memory(const struct processor_state *state)
{
    return state->call == SYS_brk || (state->call == SYS_mmap && (state->fourth & MAP_ANONYMOUS));
}

void tracee_next(struct tracee *t, struct event *ret_event)
{
    struct processor_state state;
    int status, pass = 0;

    for (;;) {
        CHECK_INT(ptrace(PTRACE_SYSCALL, t->pid, NULL, (void *)(intptr_t)pass), 0);
        if (!wait_stop(t, &status)) {
            t->status = status;
            *ret_event = (struct event){EVENT_END, 0, 0};
            return;
        }
        if (WSTOPSIG(status) == CALL_STOP) {
            processor_look(t->pid, &state);
            t->call = state.call;
            pass = 0;
            if (takes_own_memory(&state)) {
                CHECK_INT(ptrace(PTRACE_SYSCALL, t->pid, NULL, NULL), 0);
                CHECK(wait_stop(t, &status));
                CHECK_INT(WSTOPSIG(status), CALL_STOP);
                continue;
            }
            *ret_event = (struct event){EVENT_CALL, state.ip, state.call};
            return;
        }
        if (WSTOPSIG(status) == SIGSEGV && is_store(t, ret_event))
            return;
        pass = WSTOPSIG(status);
    }
}

bool tracee_store(struct tracee *t)
{
    struct processor_state before, after;
    int status;

    processor_look(t->pid, &before);
    if (!t->open)
        set_protection(t, PROT_READ | PROT_WRITE);
    CHECK_INT(ptrace(PTRACE_SINGLESTEP, t->pid, NULL, NULL), 0);
    CHECK(wait_stop(t, &status));
    CHECK_INT(WSTOPSIG(status), SIGTRAP);
    processor_look(t->pid, &after);
    t->open = after.ip == before.ip;
    if (!t->open)
        set_protection(t, PROT_READ);
    return !t->open;
}

void tracee_call(struct tracee *t)
{
    int status;

    if (t->call == SYS_madvise) {
        processor_retreat(t->pid);
        set_protection(t, PROT_READ | PROT_WRITE);
        t->open = true;
        CHECK_INT(ptrace(PTRACE_SYSCALL, t->pid, NULL, NULL), 0);
        CHECK(wait_stop(t, &status));
        CHECK_INT(WSTOPSIG(status), CALL_STOP);
    }
    CHECK_INT(ptrace(PTRACE_SYSCALL, t->pid, NULL, NULL), 0);
}

/* Calls that may sleep until somebody else does something. Others may for a moment, in the kernel's locks. */
static bool may_sleep(uint64_t call)
{
    return call == SYS_recvfrom || call == SYS_recvmsg || call == SYS_read || call == SYS_poll ||
           call == SYS_ppoll || call == SYS_epoll_wait || call == SYS_epoll_pwait || call == SYS_accept4 ||
           call == SYS_connect || call == SYS_sendto || call == SYS_sendmsg || call == SYS_futex;
}

enum call_state tracee_call_state(struct tracee *t)
{
    struct processor_state state;
    int status, r = waitpid(t->pid, &status, WNOHANG);

    CHECK(r >= 0);
    if (r == 0)
        return process_sleeps(t->pid) ? CALL_SLEEPS : CALL_RUNS;
    if (!WIFSTOPPED(status)) {
        t->status = status;
        return CALL_ENDED;
    }
    if (WSTOPSIG(status) != CALL_STOP)
        test_fail(__FILE__, __LINE__, "signal %d inside system call %llu", WSTOPSIG(status),
                  (unsigned long long)t->call);
    processor_look(t->pid, &state);
    if (state.result == -EFAULT)
        test_fail(__FILE__, __LINE__, "system call %llu stores to memory that is protected for tracing",
                  (unsigned long long)t->call);
    if (t->open)
        set_protection(t, PROT_READ);
    t->open = false;
    if (t->call == SYS_mmap || t->call == SYS_munmap || t->call == SYS_mremap || t->call == SYS_shmat)
        find_regions(t);
    return CALL_DONE;
}

uint64_t tracee_place(const struct tracee *t)
{
    struct processor_state state;

    processor_look(t->pid, &state);
    return state.ip;
}

/* Whether the next instruction is a system call that is an event. */
static bool is_before_event_call(const struct tracee *t)
{
    struct processor_state state;

    processor_look(t->pid, &state);
    if (!processor_is_call(t->pid, state.ip))
        return false;
    state.call = (uint64_t)state.result; /* it is not in the call yet: its number stands where results do */
    return !takes_own_memory(&state);
}

bool tracee_step(struct tracee *t)
{
    struct event event;
    int status;

    if (is_before_event_call(t))
        return false;
    CHECK_INT(ptrace(PTRACE_SINGLESTEP, t->pid, NULL, NULL), 0);
    CHECK(wait_stop(t, &status));
    if (WSTOPSIG(status) == SIGSEGV && is_store(t, &event))
        return false;
    CHECK_INT(WSTOPSIG(status), SIGTRAP);
    return true;
}

void tracee_kill(struct tracee *t)
{
    int status;

    CHECK_INT(kill(t->pid, SIGKILL), 0);
    do
        CHECK_INT(waitpid(t->pid, &status, 0), t->pid);
    while (WIFSTOPPED(status));
}

/* A file of proc(5); "" if there is none. */
static void read_proc(int pid, const char *name, char text[512])
{
    ssize_t n;
    int fd;

    snprintf(text, 512, "/proc/%d/%s", pid, name);
    fd = open(text, O_RDONLY | O_CLOEXEC);
    n = fd < 0 ? 0 : read(fd, text, 511);
    if (fd >= 0)
        close(fd);
    text[n > 0 ? n : 0] = '\0';
}

static char process_state(int pid)
{
    char text[512], *end;

    read_proc(pid, "stat", text);
    end = strrchr(text, ')');
    return end ? end[2] : '?';
}

/* Its state alone does not tell: a process sleeps interruptibly inside the kernel, too. */
bool process_sleeps(int pid)
{
    char text[512];
    unsigned long call;

    if (process_state(pid) != 'S')
        return false;
    read_proc(pid, "syscall", text);
    return sscanf(text, "%lu", &call) == 1 && may_sleep(call);
}

bool process_has_ended(int pid)
{
    return process_state(pid) == 'Z';
}
