/* SPDX-License-Identifier: MIT */
/* Registers and system calls of a traced process on x86-64: see tracee.h. */
#include "tracee.h"

#include <stddef.h>
#include <string.h>
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
    CHECK_INT(waitpid(pid, &status, __WALL), pid);
    CHECK(WIFSTOPPED(status));
    before.rip -= SYSCALL_BYTES;
    before.rax = before.orig_rax;
    before.orig_rax = UINT64_MAX;
    CHECK_INT(ptrace(PTRACE_SETREGS, pid, NULL, &before), 0);
}

long processor_break(int pid, uint64_t ip)
{
    enum { INT3 = 0xcc };
    long word = ptrace(PTRACE_PEEKTEXT, pid, (void *)(uintptr_t)ip, NULL);
    long trap = (long)(((unsigned long)word & ~0xffUL) | INT3);

    CHECK_INT(ptrace(PTRACE_POKETEXT, pid, (void *)(uintptr_t)ip, (void *)trap), 0);
    return word;
}

void processor_mend(int pid, uint64_t ip, long word)
{
    struct user_regs_struct registers;

    CHECK_INT(ptrace(PTRACE_POKETEXT, pid, (void *)(uintptr_t)ip, (void *)word), 0);
    CHECK_INT(ptrace(PTRACE_GETREGS, pid, NULL, &registers), 0);
    CHECK_INT(registers.rip, ip + 1); /* the trap is one byte, and was executed */
    registers.rip = ip;
    CHECK_INT(ptrace(PTRACE_SETREGS, pid, NULL, &registers), 0);
}

void processor_break_at_nop(int pid, uint64_t ip)
{
    enum { NOP = 0x90 };

    CHECK_INT(processor_break(pid, ip) & 0xff, NOP);
}

#define R(name) offsetof(struct user_regs_struct, name)
static const struct {
    const char *wide, *narrow;
    size_t offset;
} registers_by_name[] = {{"%rax", "%eax", R(rax)},  {"%rbx", "%ebx", R(rbx)},  {"%rcx", "%ecx", R(rcx)},
                         {"%rdx", "%edx", R(rdx)},  {"%rsi", "%esi", R(rsi)},  {"%rdi", "%edi", R(rdi)},
                         {"%rbp", "%ebp", R(rbp)},  {"%rsp", "%esp", R(rsp)},  {"%r8", "%r8d", R(r8)},
                         {"%r9", "%r9d", R(r9)},    {"%r10", "%r10d", R(r10)}, {"%r11", "%r11d", R(r11)},
                         {"%r12", "%r12d", R(r12)}, {"%r13", "%r13d", R(r13)}, {"%r14", "%r14d", R(r14)},
                         {"%r15", "%r15d", R(r15)}};

int64_t processor_register(int pid, const char *name)
{
    struct user_regs_struct registers;
    uint64_t value;

    CHECK_INT(ptrace(PTRACE_GETREGS, pid, NULL, &registers), 0);
    for (size_t i = 0; i < sizeof registers_by_name / sizeof *registers_by_name; i++) {
        bool narrow = strcmp(name, registers_by_name[i].narrow) == 0;

        if (!narrow && strcmp(name, registers_by_name[i].wide) != 0)
            continue;
        memcpy(&value, (const char *)&registers + registers_by_name[i].offset, sizeof value);
        return narrow ? (int32_t)(uint32_t)value : (int64_t)value;
    }
    test_fail(__FILE__, __LINE__, "no register %s is known here", name);
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
    CHECK_INT(waitpid(pid, &status, __WALL), pid);
    CHECK(WIFSTOPPED(status) && WSTOPSIG(status) == SIGTRAP);
    CHECK_INT(ptrace(PTRACE_GETREGS, pid, NULL, &registers), 0);
    CHECK_INT(ptrace(PTRACE_SETREGS, pid, NULL, &before), 0);
    return (int64_t)registers.rax;
}
