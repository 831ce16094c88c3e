/* SPDX-License-Identifier: MIT */
/*
 * SIGINT, SIGTERM and SIGHUP. A command that has nothing to clean up ends at once with 128 + the signal's
 * number. One that has (a socket file it made, messages received and not yet printed) calls
 * interrupt_graceful(): then the signal ends its waits instead (interrupt_fd() becomes readable), and the
 * command finishes in order. A second signal always ends it.
 */
#ifndef CLI_INTERRUPT_H
#define CLI_INTERRUPT_H

/* Installs the handlers; called once by main(). Signals that were ignored (nohup) stay ignored. SIGPIPE gets
 * an empty handler: writes fail with EPIPE, and unlike SIG_IGN it is not inherited by commands we run. */
void interrupt_install(void);

/* From now on signals end waits and not the process. 0 or -errno, explained to the user by the caller. */
int interrupt_graceful(void);

/* Readable once a signal came, to be polled beside other descriptors. -1 before interrupt_graceful(). */
int interrupt_fd(void);

/* The signal that came, or 0. */
int interrupt_signal(void);

/* 128 + the signal that came; NARU_EXIT_INTERRUPTED if none did. */
int interrupt_exit_code(void);

#endif
