/* SPDX-License-Identifier: MIT */
/* Registers and system calls of a traced process on x86-64: see tracee.h. */
#include "tracee.h"

#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>

#include "runner.h"

/* The instruction that an injected call is made with; it stands at the same address in all children. */
void processor_call_instruction(void);
__asm__(".pushsection .text\n"
        "processor_call_instruction:\n"
        "    syscall\n"
        "    ud2\n"
        ".popsection\n");

const char *processor_unsupported(void)
{
    return NULL;
}

void processor_look(int pid, struct processor_state *ret_state)
{
    struct user_regs_struct registers;

    CHECK_INT(ptrace(PTRACE_GETREGS, pid, NULL, &registers), 0);
    *ret_state =
        (struct processor_state){registers.rip, registers.orig_rax, registers.r10, (int64_t)registers.rax};
}

bool processor_is_call(int pid, uint64_t ip)
{
    enum { SYSCALL = 0x050f }; /* its two bytes, 0f 05 */

    return (ptrace(PTRACE_PEEKTEXT, pid, (void *)(uintptr_t)ip, NULL) & 0xffff) == SYSCALL;
}

void processor_retreat(int pid)
{
    enum { SYSCALL_BYTES = 2 };
    struct user_regs_struct before, none;
    int status;

    CHECK_INT(ptrace(PTRACE_GETREGS, pid, NULL, &before), 0);
    none = before;
    none.orig_rax = UINT64_MAX; /* no call there is: ptrace(2), syscall stops */
    CHECK_INT(ptrace(PTRACE_SETREGS, pid, NULL, &none), 0);
    CHECK_INT(ptrace(PTRACE_SYSCALL, pid, NULL, NULL), 0);
    CHECK_INT(waitpid(pid, &status, 0), pid);
    CHECK(WIFSTOPPED(status));
    before.rip -= SYSCALL_BYTES;
    before.rax = before.orig_rax;
    before.orig_rax = UINT64_MAX;
    CHECK_INT(ptrace(PTRACE_SETREGS, pid, NULL, &before), 0);
}

int64_t processor_inject(int pid, long call, uint64_t first, uint64_t second, uint64_t third)
{
    struct user_regs_struct before, registers;
    int status;

    CHECK_INT(ptrace(PTRACE_GETREGS, pid, NULL, &before), 0);
    registers = before;
    registers.rip = (uint64_t)(uintptr_t)processor_call_instruction;
    registers.rax = (uint64_t)call;
    registers.orig_rax = UINT64_MAX; /* it is in no call that would be restarted */
    registers.rdi = first;
    registers.rsi = second;
    registers.rdx = third;
    CHECK_INT(ptrace(PTRACE_SETREGS, pid, NULL, &registers), 0);
    CHECK_INT(ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL), 0);
    CHECK_INT(waitpid(pid, &status, 0), pid);
    CHECK(WIFSTOPPED(status) && WSTOPSIG(status) == SIGTRAP);
    CHECK_INT(ptrace(PTRACE_GETREGS, pid, NULL, &registers), 0);
    CHECK_INT(ptrace(PTRACE_SETREGS, pid, NULL, &before), 0);
    return (int64_t)registers.rax;
}
