/* SPDX-License-Identifier: MIT */
#include "cli/command.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/exit.h"
#include "cli/report.h"

/* What we leave alone: it stops and continues us as any process, or tells of a fault of our own. */
static const int not_forwarded[] = {SIGKILL, SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU, SIGCONT, SIGSEGV,  SIGBUS,
                                    SIGFPE,  SIGILL,  SIGTRAP, SIGSYS,  SIGABRT, SIGURG,  SIGWINCH, SIGPIPE};

static void signals_to_wait_for(sigset_t *set)
{
    (void)sigfillset(set);
    for (size_t i = 0; i < sizeof not_forwarded / sizeof *not_forwarded; i++)
        (void)sigdelset(set, not_forwarded[i]);
}

/* In the child. Does not return. */
static void become(const struct command *command, pid_t parent, const sigset_t *mask)
{
    int code = NARU_EXIT_OK, error;

    if (command->die_with_us)
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL); /* cannot fail: a valid signal */
    if (getppid() != parent)
        _exit(NARU_EXIT_FAILED); /* it died before prctl() */
    (void)sigprocmask(SIG_SETMASK, mask, NULL);
    if (command->prepare)
        code = command->prepare(command->argument);
    if (code != NARU_EXIT_OK)
        _exit(code);
    (void)execvp(command->argv[0], command->argv);
    error = errno;
    (void)report_errno(error, "cannot run '%s'", command->argv[0]);
    _exit(error == ENOENT ? NARU_EXIT_NO_COMMAND : NARU_EXIT_CANNOT_RUN);
}

static void forward(pid_t child, const siginfo_t *info)
{
    /* From the kernel: the terminal's keys, which it has sent to the command as well. */
    if (info->si_code > 0)
        return;
    /* Real-time signals keep their value. It cannot have gone: nobody has waited for it yet. */
    if (info->si_code == SI_QUEUE)
        (void)sigqueue(child, info->si_signo, info->si_value);
    else
        (void)kill(child, info->si_signo);
}

static int wait_for(pid_t child, const sigset_t *set)
{
    for (;;) {
        siginfo_t info;
        int status;
        pid_t ended = waitpid(child, &status, WNOHANG);

        if (ended < 0)
            return report_errno(errno, "cannot wait for the command");
        if (ended == child)
            return WIFSIGNALED(status) ? NARU_EXIT_SIGNAL + WTERMSIG(status) : WEXITSTATUS(status);
        if (sigwaitinfo(set, &info) > 0 && info.si_signo != SIGCHLD)
            forward(child, &info);
    }
}

int command_run(const struct command *command)
{
    const struct sigaction usual = {.sa_handler = SIG_DFL};
    sigset_t set, mask;
    pid_t parent = getpid(), child;
    int code;

    signals_to_wait_for(&set);
    (void)sigaction(SIGCHLD, &usual,
                    NULL); /* ignored, as some start us, children leave no status (wait(2)) */
    (void)sigprocmask(SIG_BLOCK, &set, &mask);
    child = fork();
    if (child == 0)
        become(command, parent, &mask);
    code = child < 0 ? report_errno(errno, "cannot start a process") : wait_for(child, &set);
    (void)sigprocmask(SIG_SETMASK, &mask, NULL);
    return code;
}
