/* SPDX-License-Identifier: MIT */
/* signal: programs that know nothing of naru as receivers. */
#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "naru/naru.h"
#include "runner.h"

static const char *url_of(int pid, const char *sig)
{
    static char url[64];

    snprintf(url, sizeof url, "signal:%d?sig=%s", pid, sig);
    return url;
}

static void add_up(int sig, siginfo_t *info, void *context)
{
    (void)sig;
    (void)context;
    if (info->si_value.sival_int == 5)
        _exit(0);
}

TEST(a_plain_program_with_a_handler_can_be_the_receiver)
{
    struct sigaction action = {.sa_sigaction = add_up, .sa_flags = SA_SIGINFO};
    struct naru_channel *out = NULL;
    int32_t value = 5;
    int child = test_fork();

    if (child == 0) {
        CHECK_INT(sigaction(SIGRTMIN + 5, &action, NULL), 0);
        for (;;)
            pause();
    }
    CHECK_INT(naru_connect(url_of(child, "RTMIN+5"), NULL, NARU_S(60), &out), 0);
    CHECK_INT(naru_send(out, &value, sizeof value, NARU_NOWAIT), 0);
    test_join(child);
    naru_channel_close(out);
}

static bool sleeps_in_sigwait(int pid)
{
    char path[64], number[16] = "";
    FILE *file;

    snprintf(path, sizeof path, "/proc/%d/syscall", pid);
    file = fopen(path, "re");
    CHECK(file != NULL);
    if (!fgets(number, sizeof number, file))
        number[0] = '\0'; /* it is being started */
    fclose(file);
    return atoi(number) == SYS_rt_sigtimedwait;
}

TEST(a_plain_program_that_sleeps_in_sigwait_needs_check_no)
{
    struct naru_channel *out = NULL;
    int32_t value = 1;
    int child = test_fork();

    if (child == 0) {
        siginfo_t info;
        sigset_t set;

        sigemptyset(&set);
        sigaddset(&set, SIGRTMIN + 7);
        CHECK_INT(sigprocmask(SIG_BLOCK, &set, NULL), 0);
        CHECK_INT(sigwaitinfo(&set, &info), SIGRTMIN + 7);
        CHECK_INT(info.si_value.sival_int, 1);
        _exit(0);
    }
    WAIT_UNTIL(sleeps_in_sigwait(child));
    CHECK_INT(naru_connect(url_of(child, "RTMIN+7"), NULL, NARU_NOWAIT, &out), -EAGAIN);
    CHECK_CONTAINS(naru_explain(), "?check=no");
    CHECK_INT(naru_connect(url_of(child, "RTMIN+7&check=no"), NULL, NARU_NOWAIT, &out), 0);
    CHECK_INT(naru_send(out, &value, sizeof value, NARU_NOWAIT), 0);
    test_join(child);
    naru_channel_close(out);
}
