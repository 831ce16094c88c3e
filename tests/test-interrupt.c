/* SPDX-License-Identifier: MIT */
/* The command's signals: the first asks it to tidy up, a second one ends it at once, and what timeout(1)
 * does, which signals the command and then its group, is one request even where it has to wait for a CPU
 * between the two. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "cli/exit.h"
#include "cli/interrupt.h"
#include "runner.h"

/* A command that tidies up for ever; it says "r" when it is ready and "t" when it begins with that. */
static int start_command(int *ret_fd)
{
    int fds[2], pid;

    CHECK_INT(pipe(fds), 0);
    pid = test_fork();
    if (pid == 0) {
        struct pollfd asked;

        close(fds[0]);
        interrupt_install();
        CHECK_INT(interrupt_graceful(), 0);
        CHECK_INT(write(fds[1], "r", 1), 1);
        asked = (struct pollfd){.fd = interrupt_fd(), .events = POLLIN};
        while (poll(&asked, 1, -1) < 0)
            CHECK_INT(errno, EINTR);
        CHECK_INT(interrupt_signal(), SIGTERM);
        CHECK_INT(write(fds[1], "t", 1), 1);
        for (;;)
            (void)pause();
    }
    close(fds[1]);
    *ret_fd = fds[0];
    return pid;
}

static void expect_byte(int fd, char expected)
{
    char byte = 0;

    CHECK_INT(read(fd, &byte, 1), 1);
    CHECK_INT(byte, expected);
}

/* Longer than the signals of one request of different senders may be apart. */
static void let_time_pass(void)
{
    struct timespec left = {0, 400000000};

    while (nanosleep(&left, &left) < 0)
        CHECK_INT(errno, EINTR);
}

/* Sends the second signal, of this process or of another one. */
static void send_again(int pid, bool another)
{
    int other;

    if (!another) {
        CHECK_INT(kill(pid, SIGTERM), 0);
        return;
    }
    other = test_fork();
    if (other == 0) {
        CHECK_INT(kill(pid, SIGTERM), 0);
        test_child_end();
    }
    test_join(other);
}

TEST(a_second_signal_ends_it_at_once_unless_the_same_process_sent_it)
{
    for (int another = 0; another < 2; another++) {
        int fd, pid = start_command(&fd), status = 0;

        expect_byte(fd, 'r');
        CHECK_INT(kill(pid, SIGTERM), 0);
        expect_byte(fd, 't');
        let_time_pass();
        send_again(pid, another);
        if (another) {
            CHECK_INT(waitpid(pid, &status, 0), pid);
            CHECK(WIFEXITED(status));
            CHECK_INT(WEXITSTATUS(status), NARU_EXIT_SIGNAL + SIGTERM);
        } else {
            test_wait_asleep(pid);
            CHECK_INT(waitpid(pid, &status, WNOHANG), 0);
            test_kill(pid);
        }
        close(fd);
    }
}
