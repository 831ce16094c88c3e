/* SPDX-License-Identifier: MIT */
/* Where nobody has written down how system calls are injected: tests that trace are skipped (tracee.h). */
#include "tracee.h"

#include "runner.h"

const char *processor_unsupported(void)
{
    return "stores are traced on x86-64 only";
}

void processor_look(int pid, struct processor_state *ret_state)
{
    (void)ret_state;
    test_skip("cannot trace %d: %s", pid, processor_unsupported());
}

bool processor_is_call(int pid, uint64_t ip)
{
    (void)ip;
    test_skip("cannot trace %d: %s", pid, processor_unsupported());
}

void processor_retreat(int pid)
{
    test_skip("cannot trace %d: %s", pid, processor_unsupported());
}

long processor_break(int pid, uint64_t ip)
{
    (void)ip;
    test_skip("cannot trace %d: %s", pid, processor_unsupported());
}

void processor_mend(int pid, uint64_t ip, long word)
{
    (void)ip, (void)word;
    test_skip("cannot trace %d: %s", pid, processor_unsupported());
}

void processor_break_at_nop(int pid, uint64_t ip)
{
    (void)ip;
    test_skip("cannot trace %d: %s", pid, processor_unsupported());
}

int64_t processor_register(int pid, const char *name)
{
    test_skip("cannot look at %s of %d: %s", name, pid, processor_unsupported());
}

int64_t processor_inject(int pid, long call, uint64_t first, uint64_t second, uint64_t third)
{
    (void)first, (void)second, (void)third;
    test_skip("cannot inject call %ld into %d: %s", call, pid, processor_unsupported());
}
