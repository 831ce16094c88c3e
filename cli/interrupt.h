/* SPDX-License-Identifier: MIT */
/*
 * SIGINT, SIGTERM and SIGHUP. A command that has nothing to clean up ends at once with 128 + the signal's
 * number. One that has (a socket file it made, messages received and not yet printed) calls
 * interrupt_graceful(): then the signal ends its waits instead (naru_interrupt() on the channels it watches,
 * and interrupt_fd() becomes readable), and the command finishes in order. A second signal always ends it.
 */
#ifndef CLI_INTERRUPT_H
#define CLI_INTERRUPT_H

struct naru_channel;

/* Installs the handlers; called once by main(). Signals that were ignored (nohup) stay ignored. SIGPIPE gets
 * an empty handler: writes fail with EPIPE, and unlike SIG_IGN it is not inherited by commands we run. */
void interrupt_install(void);

/* From now on signals end waits and not the process. 0 or -errno, explained to the user by the caller. */
int interrupt_graceful(void);

/* A channel (opened with options.interruptible) whose waits a signal ends; INTERRUPT_WATCH_MAX at once. */
enum { INTERRUPT_WATCH_MAX = 8 };
void interrupt_watch(struct naru_channel *ch);
void interrupt_unwatch(struct naru_channel *ch); /* before closing it */

/* Readable once a signal came, to be polled beside other descriptors. -1 before interrupt_graceful(). */
int interrupt_fd(void);

/* Ends waits on interrupt_fd() as a signal would, with none having come: for a thread that saw the command
 * fail. */
void interrupt_wake(void);

/* The signal that came, or 0. */
int interrupt_signal(void);

/* 128 + the signal that came; NARU_EXIT_INTERRUPTED if none did. */
int interrupt_exit_code(void);

#endif
