/* SPDX-License-Identifier: MIT */
/*
 * Tests of commands: a bash script is run in the test's directory with the built naru first in PATH, and its
 * exit code, standard output and standard error are compared.
 *
 *     SHELL(0, "1\n2\n", "", "naru recv unix:s & seq 2 | naru send unix:s; wait");
 *
 * The script finds an unused TCP and UDP port in $port. */
#ifndef TESTS_RUNNER_SHELL_H
#define TESTS_RUNNER_SHELL_H

/* The naru under test. Valid until the end of the test. */
const char *shell_command(void);

/* What a script did; to be ended with shell_free(). */
struct shell {
    int code; /* exit code; 128 + signal if it was killed */
    char *out, *err;
};

/* The directory of the programs under test. */
const char *shell_build_directory(void);

/* Starts the script, and waits for it. shell_start() returns its pid, a group leader's. SIGINT and SIGPIPE
 * have their default action there, whatever the runner was started with. */
int shell_start(const char *script);
struct shell shell_wait(int pid);
void shell_free(struct shell *s);

/* Runs it; fails the test unless it ends with that code, prints exactly out, and err holds err_part (or, if
 * that is
 * "", is empty). */
void shell_check(const char *file, int line, int code, const char *out, const char *err_part,
                 const char *script);

#define SHELL(code, out, err_part, script) shell_check(__FILE__, __LINE__, code, out, err_part, script)

#endif
