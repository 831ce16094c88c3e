/* SPDX-License-Identifier: MIT */
/* A process stopped at its stores and system calls: see tracee.h. */
#include "tracee.h"

#include <errno.h>
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

static struct tracee_thread *current(struct tracee *t)
{
    return &t->thread[t->current];
}

static int current_tid(const struct tracee *t)
{
    return t->thread[t->current].tid;
}

/* Lets the current thread go on, up to its next system call's beginning or end. */
static void resume(const struct tracee *t, int signal)
{
    CHECK_INT(ptrace(PTRACE_SYSCALL, current_tid(t), NULL, (void *)(intptr_t)signal), 0);
}

/* Waits until the current thread stops. false: it has ended. */
static bool wait_stop(const struct tracee *t, int *ret_status)
{
    CHECK_INT(waitpid(current_tid(t), ret_status, __WALL), current_tid(t));
    return WIFSTOPPED(*ret_status);
}

static void set_protection(const struct tracee *t, int protection)
{
    for (size_t i = 0; i < t->regions; i++)
        CHECK_INT(processor_inject(current_tid(t), SYS_mprotect, t->region[i].begin,
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
            processor_inject(current_tid(t), SYS_mprotect, begin, end - begin, PROT_READ | PROT_WRITE) != 0)
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

    *t = (struct tracee){.pid = pid, .threads = 1, .thread = {{.tid = pid}}};
    CHECK(wait_stop(t, &status));
    CHECK_INT(WSTOPSIG(status), SIGSTOP);
    CHECK_INT(
        ptrace(PTRACE_SETOPTIONS, pid, NULL, PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACECLONE | PTRACE_O_EXITKILL),
        0);
    if (stores)
        find_regions(t);
}

/* Whether the process stands before a store to its shared memory. */
static bool is_store(const struct tracee *t, struct event *ret_event)
{
    struct processor_state state;
    siginfo_t info;

    CHECK_INT(ptrace(PTRACE_GETSIGINFO, current_tid(t), NULL, &info), 0);
    for (size_t i = 0; i < t->regions; i++) {
        uint64_t address = (uint64_t)(uintptr_t)info.si_addr;

        if (address < t->region[i].begin || address >= t->region[i].end)
            continue;
        processor_look(current_tid(t), &state);
        *ret_event = (struct event){EVENT_STORE, state.ip, address - t->region[i].begin};
        return true;
    }
    return false;
}

static bool takes_own_memory(const struct processor_state *state)
{
    return state->call == SYS_brk || (state->call == SYS_mmap && (state->fourth & MAP_ANONYMOUS));
}

/* At the beginning of a system call: makes it if it is one that is no event. */
static bool pass_own_memory(const struct tracee *t, const struct processor_state *state)
{
    int status;

    if (!takes_own_memory(state))
        return false;
    resume(t, 0);
    CHECK(wait_stop(t, &status));
    CHECK_INT(WSTOPSIG(status), CALL_STOP);
    return true;
}

void tracee_next(struct tracee *t, struct event *ret_event)
{
    struct processor_state state;
    int status, pass = 0;

    for (;;) {
        resume(t, pass);
        if (!wait_stop(t, &status)) {
            t->status = status;
            *ret_event = (struct event){EVENT_END, 0, 0};
            return;
        }
        if (WSTOPSIG(status) == CALL_STOP) {
            processor_look(current_tid(t), &state);
            current(t)->call = state.call;
            pass = 0;
            if (pass_own_memory(t, &state))
                continue;
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

    processor_look(current_tid(t), &before);
    if (!t->open)
        set_protection(t, PROT_READ | PROT_WRITE);
    CHECK_INT(ptrace(PTRACE_SINGLESTEP, current_tid(t), NULL, NULL), 0);
    CHECK(wait_stop(t, &status));
    CHECK_INT(WSTOPSIG(status), SIGTRAP);
    processor_look(current_tid(t), &after);
    t->open = after.ip == before.ip;
    if (!t->open)
        set_protection(t, PROT_READ);
    return !t->open;
}

void tracee_call(struct tracee *t)
{
    int status;

    if (current(t)->call == SYS_madvise) {
        processor_retreat(current_tid(t));
        set_protection(t, PROT_READ | PROT_WRITE);
        t->open = true;
        resume(t, 0);
        CHECK(wait_stop(t, &status));
        CHECK_INT(WSTOPSIG(status), CALL_STOP);
    }
    current(t)->in_call = true;
    resume(t, 0);
}

/* The current thread, in a call, has made another, which is traced, too, and stops before its first
 * instruction. */
static void take_thread(struct tracee *t)
{
    unsigned long tid;
    int status;

    CHECK_INT(ptrace(PTRACE_GETEVENTMSG, current_tid(t), NULL, &tid), 0);
    CHECK_INT(waitpid((int)tid, &status, __WALL), (int)tid);
    CHECK(WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP);
    CHECK(t->threads < TRACEE_THREADS);
    t->thread[t->threads++] = (struct tracee_thread){.tid = (int)tid};
    resume(t, 0);
}

static void forget_thread(struct tracee *t, size_t i)
{
    CHECK(i > 0); /* the first is the process's, of which there is word only when it is the last */
    t->threads--;
    memmove(&t->thread[i], &t->thread[i + 1], (t->threads - i) * sizeof t->thread[0]);
    if (t->current >= i)
        t->current--;
}

/* What became of a thread since it was last looked at. false: the process has ended. */
static bool look_after(struct tracee *t, size_t i)
{
    struct tracee_thread *thread = &t->thread[i];
    int status, r = waitpid(thread->tid, &status, __WALL | WNOHANG);

    CHECK(r >= 0);
    if (r == 0)
        return true;
    if (!WIFSTOPPED(status)) {
        t->status = status;
        if (i > 0)
            forget_thread(t, i);
        return i > 0;
    }
    if (status >> 16 == PTRACE_EVENT_CLONE && i == t->current) {
        take_thread(t);
        return true;
    }
    if (WSTOPSIG(status) != CALL_STOP)
        test_fail(__FILE__, __LINE__, "signal %d inside system call %llu", WSTOPSIG(status),
                  (unsigned long long)thread->call);
    thread->in_call = false;
    return true;
}

/* The current thread's call is done. */
static void end_call(struct tracee *t)
{
    uint64_t call = current(t)->call;
    struct processor_state state;

    processor_look(current_tid(t), &state);
    if (state.result == -EFAULT)
        test_fail(__FILE__, __LINE__, "system call %llu stores to memory that is protected for tracing",
                  (unsigned long long)call);
    if (t->open)
        set_protection(t, PROT_READ);
    t->open = false;
    if (call == SYS_mmap || call == SYS_munmap || call == SYS_mremap || call == SYS_shmat)
        find_regions(t);
}

enum call_state tracee_call_state(struct tracee *t)
{
    for (size_t i = t->threads; i > 0; i--)
        if (!look_after(t, i - 1))
            return CALL_ENDED;
    for (size_t i = 0; i < t->threads; i++)
        if (t->thread[i].in_call && !thread_sleeps(t->pid, t->thread[i].tid))
            return CALL_RUNS;
    if (current(t)->in_call)
        return CALL_SLEEPS;
    end_call(t);
    return CALL_DONE;
}

bool tracee_switch(struct tracee *t)
{
    size_t i = 0;

    while (i < t->threads && t->thread[i].in_call)
        i++;
    if (i == t->threads)
        return false;
    t->current = i;
    end_call(t);
    return true;
}

uint64_t tracee_place(const struct tracee *t)
{
    struct processor_state state;

    processor_look(current_tid(t), &state);
    return state.ip;
}

/* Whether the next instruction is a system call that is an event. */
static bool is_before_event_call(const struct tracee *t)
{
    struct processor_state state;

    processor_look(current_tid(t), &state);
    if (!processor_is_call(current_tid(t), state.ip))
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
    CHECK_INT(ptrace(PTRACE_SINGLESTEP, current_tid(t), NULL, NULL), 0);
    CHECK(wait_stop(t, &status));
    if (WSTOPSIG(status) == SIGSEGV && is_store(t, &event))
        return false;
    CHECK_INT(WSTOPSIG(status), SIGTRAP);
    return true;
}

bool tracee_run_to(struct tracee *t, uint64_t ip)
{
    long word = processor_break(current_tid(t), ip);
    struct processor_state state;
    int status;

    for (;;) {
        resume(t, 0);
        if (!wait_stop(t, &status)) {
            t->status = status;
            return false;
        }
        if (WSTOPSIG(status) != CALL_STOP)
            break;
        processor_look(current_tid(t), &state);
        if (!pass_own_memory(t, &state))
            return false;
    }
    if (WSTOPSIG(status) != SIGTRAP)
        return false;
    processor_mend(current_tid(t), ip, word);
    return true;
}

void tracee_kill(struct tracee *t)
{
    int status;

    CHECK_INT(kill(t->pid, SIGKILL), 0);
    for (size_t i = t->threads; i > 0; i--) /* the process's own comes when the others are reaped */
        do
            CHECK_INT(waitpid(t->thread[i - 1].tid, &status, __WALL), t->thread[i - 1].tid);
        while (WIFSTOPPED(status));
}
