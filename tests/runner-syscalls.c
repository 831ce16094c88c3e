/* SPDX-License-Identifier: MIT */
/* Filters of system calls: classic BPF over struct seccomp_data, see seccomp(2). */
#include "runner-syscalls.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "runner.h"

static void install(struct sock_filter *instructions, size_t count)
{
    struct sock_fprog program = {.len = (unsigned short)count, .filter = instructions};

    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0) < 0) {
        if (errno == EINVAL)
            test_skip("this kernel has no filters of system calls");
        test_fail(__FILE__, __LINE__, "seccomp: errno %d", errno);
    }
}

#define LOAD_NUMBER  BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr))
#define LOW_HALF(at) ((at) + (__BYTE_ORDER__ == __ORDER_BIG_ENDIAN__ ? 4 : 0)) /* of 64 bits */
#define RETURN(what) BPF_STMT(BPF_RET | BPF_K, what)

void test_refuse_call(long number, int error)
{
    struct sock_filter filter[] = {LOAD_NUMBER, BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)number, 0, 1),
                                   RETURN(SECCOMP_RET_ERRNO | (unsigned)error), RETURN(SECCOMP_RET_ALLOW)};

    install(filter, sizeof filter / sizeof *filter);
}

void test_refuse_flags(long number, unsigned bits, int error)
{
    struct sock_filter filter[] = {
        LOAD_NUMBER,
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)number, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, LOW_HALF(offsetof(struct seccomp_data, args[2]))),
        BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, bits, 0, 1),
        RETURN(SECCOMP_RET_ERRNO | (unsigned)error),
        RETURN(SECCOMP_RET_ALLOW)};

    install(filter, sizeof filter / sizeof *filter);
}

/* On a machine whose clock cannot be read from user space (vdso(7): some virtual machines' cannot), asking
 * for the time is a system call, and none of ours. */
static bool is_time_asked_of_the_kernel(void)
{
    struct sock_filter filter[] = {LOAD_NUMBER, BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clock_gettime, 0, 1),
                                   RETURN(SECCOMP_RET_KILL_PROCESS), RETURN(SECCOMP_RET_ALLOW)};
    int status, pid = test_fork();

    if (pid == 0) {
        struct timespec now;

        install(filter, sizeof filter / sizeof *filter);
        (void)clock_gettime(CLOCK_MONOTONIC, &now);
        _exit(0);
    }
    CHECK_INT(waitpid(pid, &status, 0), pid);
    return WIFSIGNALED(status);
}

void test_forbid_calls(void)
{
    unsigned time = is_time_asked_of_the_kernel() ? SYS_clock_gettime : SYS_write;
    struct sock_filter filter[] = {LOAD_NUMBER,
                                   BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_write, 3, 0),
                                   BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_exit_group, 2, 0),
                                   BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, time, 1, 0),
                                   RETURN(SECCOMP_RET_KILL_PROCESS),
                                   RETURN(SECCOMP_RET_ALLOW)};

    install(filter, sizeof filter / sizeof *filter);
}

void test_end_without_calls(void)
{
    (void)syscall(SYS_exit_group, 0);
}
