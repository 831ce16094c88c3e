/* SPDX-License-Identifier: MIT */
/*
 * A process that is stopped wherever others could notice its death: at each of its stores to shared memory
 * that it alone can write (mappings of memfd:naru; of shm+posix: and shm+sysv:, which
 * others can write as well), and at each of its system calls. ptrace(2), x86-64.
 *
 * How a store is found: these mappings are made read-only behind the process's back (an mprotect(2) injected
 * into it), so the processor itself reports each store, with its address, before it has happened; then they
 * are made writable, the one instruction is stepped, and they are protected again. So no instruction has to
 * be decoded, a store of the value that was there already counts too (a comparison of the memory's contents
 * would not see it), and code between two stores runs at full speed. The kernel's own stores are not seen by
 * this: they are part of the system call, and for those calls that store there (madvise(2), to reserve
 * memory) the protection is lifted; another that fails with EFAULT fails the test.
 *
 * An instruction that stores repeatedly (rep movs) is stepped one repetition at a time.
 *
 * It may have threads. One of them goes on at a time, the current one, until it sleeps in a call and
 * tracee_switch() makes another one current, the oldest that can go on: so runs with threads are alike, too.
 */
#ifndef TESTS_TRACEE_H
#define TESTS_TRACEE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum event_kind {
    EVENT_STORE, /* the process is about to store */
    EVENT_CALL, /* ... to make a system call; but for those that give it memory of its own, which nobody sees,
                   and which come as the allocator likes */
    EVENT_END   /* it has ended by a signal */
};

struct event {
    enum event_kind kind;
    uint64_t ip;    /* the instruction */
    uint64_t where; /* EVENT_STORE: bytes from its mapping's beginning; EVENT_CALL: the call's number */
};

/* CALL_ENDED: the process has, and is reaped. */
enum call_state { CALL_DONE, CALL_RUNS, CALL_SLEEPS, CALL_ENDED };

enum { TRACEE_REGIONS = 12, TRACEE_THREADS = 4 };

struct tracee_thread {
    int tid;
    uint64_t call; /* the number of the system call it is in, or was last */
    bool in_call;  /* it was let go into it, and has not come back */
};

struct tracee {
    int pid;
    size_t threads, current;
    struct tracee_thread thread[TRACEE_THREADS]; /* the oldest first */
    bool open;                                   /* the memory is not protected now */
    int status;                                  /* of a process that has ended; what wait(2) gave */
    size_t regions;
    struct {
        uint64_t begin, end;
    } region[TRACEE_REGIONS];
};

/* NULL, or why this machine cannot do it. */
const char *tracee_unsupported(void);

/* In the process itself: is traced from here on, by its parent, which may be late. */
void tracee_begin(void);

/* In the parent: waits for that. The process must be a child that nobody else waits for. stores: whether it
 * is to be stopped at its stores. */
void tracee_take(struct tracee *t, int pid, bool stores);

/* Runs the process up to its next event, which has not happened yet. */
void tracee_next(struct tracee *t, struct event *ret_event);

/* At an EVENT_STORE: one step of the instruction; whether it is done. Until it is, nothing else may be asked
 * for. */
bool tracee_store(struct tracee *t);

/* At an EVENT_CALL: lets it be made, and then asks how it goes until it says CALL_DONE or CALL_ENDED. It is
 * CALL_RUNS as long as any thread is on its way. A thread that ends by its call leaves its place to another,
 * whose call it is that this tells of from then on. */
void tracee_call(struct tracee *t);
enum call_state tracee_call_state(struct tracee *t);

/* At CALL_SLEEPS: makes a thread that can go on the current one. false: there is none. */
bool tracee_switch(struct tracee *t);

/* Where it stands. */
uint64_t tracee_place(const struct tracee *t);

/* One instruction further, between two events. false: the next one is an event. */
bool tracee_step(struct tracee *t);

/* Runs at full speed to the next time that it comes to the instruction at ip, where it does not stand now: by
 * a trap in its code, which costs half of a step here, as the processor's debug registers are the
 * hypervisor's. false: it does not come there before its next event (or its end), which is lost. */
bool tracee_run_to(struct tracee *t, uint64_t ip);

/* Kills it, wherever it is, and reaps it; all its files are closed then. */
void tracee_kill(struct tracee *t);

/* Whether the process (all of its threads), or one thread, sleeps in a system call until somebody else does
 * something; whether it has ended, unreaped. */
bool process_sleeps(int pid);
bool thread_sleeps(int pid, int tid);
bool process_has_ended(int pid);

/* What differs between processors: tracee-x86-64.c, tracee-none.c. */

/* NULL, or what is missing. */
const char *processor_unsupported(void);

/* Where the process stands, and its system call's number and result. */
struct processor_state {
    uint64_t ip, call, fourth; /* argument of the call */
    int64_t result;
};
void processor_look(int pid, struct processor_state *ret_state);

/* Whether that instruction makes a system call. */
bool processor_is_call(int pid, uint64_t ip);

/* Takes a process that is at the beginning of a system call back to before it, as if it had never begun. */
void processor_retreat(int pid);

/* Puts a trap in the place of the instruction at ip, which the process gets SIGTRAP at; what stood there. Of
 * a process that has run into it: puts that back, and the process before it. */
long processor_break(int pid, uint64_t ip);
void processor_mend(int pid, uint64_t ip, long word);

/* Stops the process when it comes to the one-byte nop at ip: it gets SIGTRAP there, and goes on behind it. */
void processor_break_at_nop(int pid, uint64_t ip);

/* A register by the name that an assembler gives it ("%rax", "%r12d"), as wide as that says. */
int64_t processor_register(int pid, const char *name);

/* Makes the process make a system call, and puts it back where it was. The call's result. */
int64_t processor_inject(int pid, long call, uint64_t first, uint64_t second, uint64_t third);

#endif
