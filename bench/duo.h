/* SPDX-License-Identifier: MIT */
/*
 * Two processes and their supervisor. What is measured runs between two forked children, so that the
 * supervisor is never blocked in a mechanism: it sees either child end or fail, ends the other, keeps a time
 * limit, heeds the user's interrupt, and is there afterwards to remove what was left.
 */
#ifndef BENCH_DUO_H
#define BENCH_DUO_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum duo_side { DUO_NEAR, DUO_FAR }; /* the one that begins, and the one that answers */

enum duo_pin {
    DUO_PIN_APART,    /* each on a CPU of its own */
    DUO_PIN_TOGETHER, /* both on one */
    DUO_PIN_NONE      /* wherever the scheduler puts them */
};

enum { DUO_WHY_MAX = 400 };

/* What a child says about itself; in memory that all three share. */
struct duo_report {
    int result; /* 0, or the -errno of what failed; -ECHILD until it has ended in order */
    char why[DUO_WHY_MAX];
};

struct duo {
    enum duo_pin pin;
    int64_t limit_ns; /* for the whole run; more while its processes are at work on a loaded machine */
    int stop_fd;      /* readable when the user wants to end; -1: none */
    struct duo_report *reports; /* [2], shared; made by duo_init() */
};

/* 0 or -errno. */
int duo_init(struct duo *duo, enum duo_pin pin, int64_t limit_ns, int stop_fd);
void duo_deinit(struct duo *duo);

/* Shared, zeroed memory for what the children report; NULL and errno. */
void *duo_share(size_t size);
void duo_unshare(void *memory, size_t size);

/*
 * Forks two children that run body(context, side), and waits for both. after_fork (may be NULL) runs in the
 * supervisor once both exist: to close its copies of what they inherited. A body returns 0, or a -errno after
 * duo_fail(). 0; the first failing child's -errno (ret_why then holds its sentence); -ETIMEDOUT at the limit;
 * -ECANCELED if the user ended it. The children are gone in every case.
 */
int duo_run(struct duo *duo, int (*body)(void *context, enum duo_side side),
            void (*after_fork)(void *context), void *context, char ret_why[DUO_WHY_MAX]);

/* In a child that has not been pinned yet: to where that side belongs. 0, or -errno after duo_fail(). */
int duo_pin(enum duo_pin how, enum duo_side side);

/* In a child: leaves the sentence for the supervisor. Returns code. */
int duo_fail(int code, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* As duo_fail(), with what the kernel says of errno: "msgsnd: invalid argument". Returns -errno. */
int duo_fail_errno(const char *what);

/* In the supervisor: what its own last duo_fail() said. */
const char *duo_sentence(void);

/* How many CPUs this process may run on. */
int duo_cpu_count(void);

#endif
