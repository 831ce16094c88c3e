/* SPDX-License-Identifier: MIT */
/* The naru command: finds the verb, takes its arguments apart, runs it, and makes sure that what was printed
 * has arrived. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/arguments.h"
#include "cli/exit.h"
#include "cli/help.h"
#include "cli/interrupt.h"
#include "cli/report.h"
#include "cli/verb.h"

/* Standard descriptors that the caller closed are filled, so that no socket of ours becomes descriptor 1:
 * reading from or writing to the filled ones fails with EBADF, as it would have. */
static void fill_standard_descriptors(void)
{
    for (int fd = 0; fd <= 2; fd++)
        if (fcntl(fd, F_GETFD) < 0 && errno == EBADF)
            (void)open("/dev/null", (fd == 0 ? O_WRONLY : O_RDONLY)); /* the lowest free one: fd */
}

/* A reader that went away (`naru ... | head`) ends us as it would any other tool: by SIGPIPE, silently. */
static int end_by_broken_pipe(void)
{
    (void)signal(SIGPIPE, SIG_DFL);
    (void)raise(SIGPIPE);
    return NARU_EXIT_BROKEN_PIPE;
}

/* Why an earlier write failed is forgotten by now; a pipe without a reader still says so: poll(2). */
static bool reader_is_gone(void)
{
    struct pollfd out = {.fd = STDOUT_FILENO};

    return poll(&out, 1, 0) == 1 && (out.revents & POLLERR) != 0;
}

/* What stdio still holds is written and verified: a full disk is not to be found out by the reader. */
static int finish_output(int code)
{
    bool failed = ferror(stdout) != 0;

    if (code == NARU_EXIT_BROKEN_PIPE)
        return end_by_broken_pipe();
    errno = 0;
    if (fflush(stdout) == 0 && !failed)
        return code;
    if (errno == EPIPE || (errno == 0 && reader_is_gone()))
        return end_by_broken_pipe();
    if (errno)
        (void)report_errno(errno, "standard output");
    else
        (void)report(NARU_EXIT_FAILED, "standard output: not everything could be written");
    return code == NARU_EXIT_OK ? NARU_EXIT_FAILED : code;
}

static int run_verb(const struct verb *verb, char **argv)
{
    struct invocation in;
    bool help;
    int code;

    report_set_verb(verb->name);
    code = arguments_parse(verb, argv, &in, &help);
    if (code == NARU_EXIT_OK && help)
        help_print_verb(stdout, verb);
    else if (code == NARU_EXIT_OK)
        code = verb->run(&in);
    arguments_free(&in);
    return code;
}

static int run(char **argv)
{
    const struct verb *verb;

    if (!argv[0]) {
        help_print_all(stderr);
        return NARU_EXIT_USAGE;
    }
    if (strcmp(argv[0], "--help") == 0 || strcmp(argv[0], "-h") == 0) {
        help_print_all(stdout);
        return NARU_EXIT_OK;
    }
    if (strcmp(argv[0], "--version") == 0 || strcmp(argv[0], "-V") == 0) {
        (void)printf("naru %s\n", NARU_VERSION);
        return NARU_EXIT_OK;
    }
    if (argv[0][0] == '-')
        return report_usage("unknown option '%s'; the verb comes first", argv[0]);
    verb = verb_find(argv[0]);
    return verb ? run_verb(verb, argv + 1) : help_unknown_verb(argv[0]);
}

int main(int argc, char **argv)
{
    fill_standard_descriptors();
    interrupt_install();
    return finish_output(run(argv + (argc > 0)));
}
