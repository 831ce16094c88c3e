/* SPDX-License-Identifier: MIT */
/*
 * Demonstrations: each is one file (demo-NAME.c) that makes something happen between real processes, shows
 * it, and checks that it did happen. They are written to be read beside what they print.
 */
#ifndef CLI_DEMO_H
#define CLI_DEMO_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* How long the processes of a demonstration wait for one another: only a fault, or a machine that stands
 * still, takes longer. */
#define DEMO_PATIENCE NARU_S(60)

struct demo;

struct demo_kind {
    const char *name, *title, *source;
    /* 0, or the -errno of a naru call that failed, which ends the demonstration. */
    int (*run)(struct demo *d);
};

extern const struct demo_kind demo_isolation, demo_race, demo_cycle, demo_parallel, demo_signals;

/* A line for people, kept out of --json. */
void demo_say(struct demo *d, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* A heading for people. */
void demo_heading(struct demo *d, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* A figure for programs, only in --json. */
void demo_number(struct demo *d, const char *key, double value);

/* A claim and whether it held. One that did not makes the demonstration fail. Returns held. */
bool demo_check(struct demo *d, bool held, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* Runs child(argument) in a process of its own, in which every signal has its default action, and which is
 * killed if this one dies. The pid, or -errno. */
pid_t demo_start(int (*child)(void *argument), void *argument);

/* Waits until it has ended: its wait(2) status. */
int demo_end(pid_t pid);

/* Whether that many processes all ended well, having waited for them. */
bool demo_all_end_well(const pid_t *pids, int count);

/* Waits until the process is asleep. false if it has ended instead. */
bool demo_wait_asleep(pid_t pid);

#endif
