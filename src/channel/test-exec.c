/* SPDX-License-Identifier: MIT */
/* exec: real commands, how they end, and that none is left behind. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "naru/naru.h"
#include "runner.h"

static const int64_t patience = NARU_S(60);

static struct naru_channel *run_with(const char *url, const struct naru_options *opt)
{
    struct naru_channel *ch = NULL;

    CHECK_INT(naru_connect(url, opt, NARU_NOWAIT, &ch), 0);
    return ch;
}

static struct naru_channel *run(const char *url)
{
    return run_with(url, NULL);
}

/* One that comes to its end by itself, which is waited for. */
static struct naru_channel *run_to_its_end(const char *url)
{
    struct naru_options options = NARU_INIT(struct naru_options);

    options.linger_ns = patience;
    return run_with(url, &options);
}

static void check_recv(struct naru_channel *ch, const char *expected)
{
    char buffer[256];
    ssize_t n = naru_recv(ch, buffer, sizeof buffer - 1, patience);

    CHECK_INT(n, strlen(expected));
    buffer[n] = '\0';
    CHECK_STR(buffer, expected);
}

static void check_end(struct naru_channel *ch, int code)
{
    char buffer[16];

    CHECK_INT(naru_recv(ch, buffer, sizeof buffer, patience), code);
}

static struct naru_channel_info info_of(const struct naru_channel *ch)
{
    struct naru_channel_info info = NARU_INIT(struct naru_channel_info);

    CHECK_INT(naru_channel_info(ch, &info), 0);
    return info;
}

static void check_no_child(void)
{
    CHECK_INT(waitpid(-1, NULL, WNOHANG), -1);
    CHECK_INT(errno, ECHILD);
}

TEST(talks_with_a_filter_both_ways)
{
    struct naru_channel *ch = run("exec:while read -r line; do echo \"<$line>\"; done");

    CHECK_INT(info_of(ch).exit_status, -1);
    CHECK(info_of(ch).peer.pid > 0);
    CHECK_INT(info_of(ch).peer.uid, geteuid());
    for (int i = 0; i < 3; i++) {
        CHECK_INT(naru_send(ch, "hello?", 6, patience), 0);
        check_recv(ch, "<hello?>");
    }
    naru_channel_close(ch);
    check_no_child();
}

TEST(the_whole_url_behind_the_colon_is_the_command)
{
    struct naru_channel *ch = run_to_its_end("exec:echo '//a?b=c&d%41' | cat");

    check_recv(ch, "//a?b=c&d%41");
    check_end(ch, -EPIPE);
    naru_channel_close(ch);
}

TEST(an_exit_status_is_told)
{
    struct naru_channel *ch = run_to_its_end("exec:echo out; exit 3");

    check_recv(ch, "out");
    check_end(ch, -EREMOTEIO);
    CHECK_CONTAINS(naru_explain(), "the command ended with exit status 3");
    check_end(ch, -EREMOTEIO);
    CHECK_INT(WEXITSTATUS(info_of(ch).exit_status), 3);
    naru_channel_close(ch);

    ch = run_to_its_end("exec:printf unterminated; exit 0");
    check_recv(ch, "unterminated");
    check_end(ch, -EPIPE);
    CHECK_INT(info_of(ch).exit_status, 0);
    naru_channel_close(ch);

    ch = run_to_its_end("exec:/no/such/program 2>/dev/null");
    check_end(ch, -EREMOTEIO);
    CHECK_CONTAINS(naru_explain(), "exit status 127: the shell did not find it");
    naru_channel_close(ch);

    ch = run_to_its_end("exec:/etc/passwd 2>/dev/null");
    check_end(ch, -EREMOTEIO);
    CHECK_CONTAINS(naru_explain(), "exit status 126: it cannot be executed");
    naru_channel_close(ch);

    ch = run_to_its_end("exec:sh -c 'kill -TERM $$'; exit $?");
    check_end(ch, -EREMOTEIO);
    CHECK_CONTAINS(naru_explain(), "exit status 143, as shells report SIGTERM");
    naru_channel_close(ch);
    check_no_child();
}

TEST(death_by_a_signal_is_told)
{
    struct naru_channel *ch = run_to_its_end("exec:echo out; kill -9 $$");

    check_recv(ch, "out");
    check_end(ch, -EOWNERDEAD);
    CHECK_CONTAINS(naru_explain(), "the command was killed by signal 9 (SIGKILL)");
    CHECK_INT(WTERMSIG(info_of(ch).exit_status), SIGKILL);
    CHECK_INT(naru_send(ch, "x", 1, patience), -EOWNERDEAD);
    naru_channel_close(ch);
    check_no_child();
}

TEST(killing_it_ends_a_receive_that_waits)
{
    struct naru_channel *ch = run_to_its_end("exec:exec sleep 1000");
    pid_t victim = (pid_t)info_of(ch).peer.pid;
    int child = test_fork();
    char buffer[16];

    if (child == 0) {
        CHECK_INT(kill(victim, SIGKILL), 0);
        test_child_end();
    }
    CHECK_INT(naru_recv(ch, buffer, sizeof buffer, NARU_FOREVER), -EOWNERDEAD);
    test_join(child);
    naru_channel_close(ch);
}

TEST(sending_to_a_command_that_ended_or_does_not_listen)
{
    struct naru_channel *ch = run("exec:exec <&-; echo ready; exec sleep 1000");

    check_recv(ch, "ready");
    CHECK_INT(naru_send(ch, "x", 1, patience), -EPIPE);
    CHECK_CONTAINS(naru_explain(), "the command has closed its input");
    CHECK_INT(kill((pid_t)info_of(ch).peer.pid, SIGTERM), 0);
    naru_channel_close(ch);

    ch = run_to_its_end("exec:exit 4");
    check_end(ch, -EREMOTEIO);
    CHECK_INT(naru_send(ch, "x", 1, patience), -EREMOTEIO);
    CHECK_CONTAINS(naru_explain(), "exit status 4");
    naru_channel_close(ch);
    ch = run_to_its_end("exec:true");
    check_end(ch, -EPIPE);
    CHECK_INT(naru_send(ch, "x", 1, patience), -EPIPE);
    CHECK_CONTAINS(naru_explain(), "the command has ended");
    naru_channel_close(ch);
}

TEST(a_command_that_closes_its_output_and_goes_on_is_waited_for_briefly)
{
    struct naru_options options = NARU_INIT(struct naru_options);
    struct naru_channel *ch;

    options.linger_ns = NARU_MS(20);
    ch = run_with("exec:echo last; exec >&-; read -r line; exec sleep 1000", &options);
    check_recv(ch, "last");
    check_end(ch, -EPIPE);
    CHECK_CONTAINS(naru_explain(), "has closed its output and still runs");
    naru_channel_close(ch);

    options.linger_ns = patience;
    ch = run_with("exec:exec >&-; read -r line; exit 5", &options);
    {
        char buffer[8];

        CHECK_INT(naru_recv(ch, buffer, sizeof buffer, NARU_NOWAIT), -EAGAIN);
        CHECK_INT(naru_recv(ch, buffer, sizeof buffer, NARU_MS(2)), -ETIMEDOUT);
    }
    CHECK_INT(naru_send(ch, "end", 3, patience), 0);
    check_end(ch, -EREMOTEIO);
    naru_channel_close(ch);
    check_no_child();
}

TEST(close_delivers_what_was_sent_and_waits_for_the_end)
{
    const char *file = test_format("%s/out", test_directory());
    struct naru_options options = NARU_INIT(struct naru_options);
    struct naru_channel *ch;
    char text[1024] = "";
    FILE *stream;

    options.linger_ns = patience;
    /* Its own output is not read by us any more, and larger than a pipe: it must not stop or kill it. */
    ch = run_with(test_format("exec:cat >%s.new; seq 20000; mv %s.new %s", file, file, file), &options);
    CHECK_INT(naru_send(ch, "kept", 4, patience), 0);
    naru_channel_close(ch);
    stream = fopen(file, "re");
    CHECK(stream && fgets(text, sizeof text, stream));
    (void)fclose(stream);
    CHECK_STR(text, "kept\n");
    check_no_child();
}

static struct naru_signal_sets signals_of(int pid)
{
    struct naru_signal_sets sets = NARU_INIT(struct naru_signal_sets);

    CHECK_INT(naru_signal_sets(pid, &sets), 0);
    return sets;
}

/* Whoever blocks the question still has it before it when it is dead, as our child by then: whether it had a
 * CPU meanwhile does not matter. */
TEST(close_asks_and_gives_a_second_before_it_kills)
{
    struct naru_options options = NARU_INIT(struct naru_options);
    struct naru_channel *ch;
    char number[32] = "";
    int pid, status;
    int64_t start;

    CHECK_INT(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
    options.linger_ns = NARU_MS(1);
    ch = run_with("exec:env --block-signal=TERM sh -c 'echo $$; exec sleep 1000' & wait", &options);
    CHECK(naru_recv(ch, number, sizeof number - 1, patience) > 0);
    pid = atoi(number);
    CHECK(signals_of(pid).blocked & naru_signal_bit(SIGTERM));
    start = clock_now();
    naru_channel_close(ch);
    CHECK(clock_now() - start >= NARU_S(1));
    CHECK(signals_of(pid).process_pending & naru_signal_bit(SIGTERM));
    CHECK_INT(waitpid(pid, &status, 0), pid);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    check_no_child();
}

TEST(close_kills_what_does_not_end)
{
    struct naru_options options = NARU_INIT(struct naru_options);
    struct naru_channel *ch;

    options.linger_ns = NARU_MS(1);
    ch = run_with("exec:trap '' TERM; echo ready; while :; do sleep 0.01; done", &options);
    check_recv(ch, "ready");
    naru_channel_close(ch);
    ch = run_with("exec:echo ready; exec yes", &options); /* never falls silent */
    check_recv(ch, "ready");
    naru_channel_close(ch);
    ch = run_with("exec:echo ready; kill -STOP $$", &options); /* asleep: only SIGKILL reaches it */
    check_recv(ch, "ready");
    naru_channel_close(ch);
    check_no_child();
}

/* What a shell has started does not die with it by itself. */
TEST(close_ends_what_the_shell_has_started)
{
    static const char *const commands[] = {
        "exec:sleep 1000 & echo $!; wait; sleep 1000",
        "exec:sh -c 'echo $$; exec sleep 1000' | cat", /* a pipeline */
        "exec:(trap '' TERM; sh -c 'echo $PPID'; while :; do sleep 0.01; done) & wait; exit",
    };
    struct naru_options options = NARU_INIT(struct naru_options);

    options.linger_ns = NARU_MS(1);
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
        struct naru_channel *ch = run_with(commands[i], &options);
        struct pollfd started = {.events = POLLIN};
        char number[32] = "";

        CHECK(naru_recv(ch, number, sizeof number - 1, patience) > 0);
        started.fd = pidfd_open((pid_t)atoi(number), 0);
        CHECK(started.fd >= 0);
        naru_channel_close(ch);
        CHECK_INT(poll(&started, 1, 60000), 1);
        (void)close(started.fd);
    }
    check_no_child();
}

TEST(the_child_starts_clean)
{
    struct naru_channel *ch;
    char ignored[64] = "";
    sigset_t all;
    ssize_t n;
    int fd = open("/dev/null", O_RDONLY); /* not close-on-exec, as other code's may be */

    CHECK(fd >= 0);
    (void)sigfillset(&all);
    CHECK_INT(sigprocmask(SIG_BLOCK, &all, NULL), 0);
    CHECK(signal(SIGPIPE, SIG_IGN) != SIG_ERR);
    ch = run_to_its_end("exec:grep -E '^Sig(Blk|Ign)' /proc/self/status; ls /proc/self/fd | tr '\\n' ' '");
    check_recv(ch, "SigBlk:\t0000000000000000");
    n = naru_recv(ch, ignored, sizeof ignored - 1, patience);
    CHECK(n > 8);
    CHECK_INT(strtoull(ignored + 8, NULL, 16) >> (SIGPIPE - 1) & 1, 0);
    check_recv(ch, "0 1 2 3 "); /* 3: the directory that ls reads */
    check_end(ch, -EPIPE);
    naru_channel_close(ch);
    (void)close(fd);
}

TEST(works_while_our_own_standard_streams_are_closed)
{
    int output = dup(STDOUT_FILENO), input = dup(STDIN_FILENO);
    struct naru_channel *ch;

    (void)close(STDIN_FILENO);
    (void)close(STDOUT_FILENO);
    ch = run("exec:cat");
    CHECK_INT(naru_send(ch, "x", 1, patience), 0);
    check_recv(ch, "x");
    naru_channel_close(ch);
    CHECK_INT(dup2(output, STDOUT_FILENO), STDOUT_FILENO);
    (void)close(output);
    if (input >= 0) {
        CHECK_INT(dup2(input, STDIN_FILENO), STDIN_FILENO);
        (void)close(input);
    }
}

TEST(one_direction_only)
{
    struct naru_options options = NARU_INIT(struct naru_options);
    struct naru_channel *ch;
    char buffer[8];

    options.direction = NARU_DIRECTION_RECEIVE;
    ch = run_with("exec:cat; echo end of input", &options); /* gets none */
    check_recv(ch, "end of input");
    CHECK_INT(naru_send(ch, "x", 1, patience), -ENOTSUP);
    naru_channel_close(ch);
    options.direction = NARU_DIRECTION_SEND;
    options.linger_ns = patience;
    ch = run_with(test_format("exec:cat >%s/out", test_directory()), &options);
    CHECK_INT(naru_recv(ch, buffer, sizeof buffer, patience), -ENOTSUP);
    CHECK_INT(naru_send(ch, "x", 1, patience), 0);
    naru_channel_close(ch);
    CHECK_INT(access(test_format("%s/out", test_directory()), F_OK), 0);
}

TEST(the_descriptor_shows_output_and_end)
{
    struct naru_channel *ch = run_to_its_end("exec:exec <&-; read -r x </dev/null; exec sleep 1000");
    struct pollfd poll_fd = {.fd = naru_channel_fd(ch), .events = POLLIN};
    pid_t pid = (pid_t)info_of(ch).peer.pid;
    char buffer[8];

    CHECK(poll_fd.fd >= 0);
    /* Its closed input alone is no reason to wake up. */
    while (naru_send(ch, "x", 1, patience) == 0)
        ;
    CHECK_INT(poll(&poll_fd, 1, 0), 0);
    CHECK_INT(kill(pid, SIGKILL), 0);
    CHECK_INT(poll(&poll_fd, 1, 60000), 1);
    while (naru_recv(ch, buffer, sizeof buffer, NARU_NOWAIT) == -EAGAIN)
        CHECK_INT(poll(&poll_fd, 1, 60000), 1);
    CHECK_INT(naru_recv(ch, buffer, sizeof buffer, NARU_NOWAIT), -EOWNERDEAD);
    naru_channel_close(ch);
}

TEST(a_reaped_or_ignored_child_is_no_trouble)
{
    struct naru_channel *ch = run_to_its_end("exec:exit 6");
    int status;

    CHECK_INT(waitpid((pid_t)info_of(ch).peer.pid, &status, 0), info_of(ch).peer.pid);
    check_end(ch, -EPIPE);
    CHECK_CONTAINS(naru_explain(), "its exit status is unknown");
    CHECK_INT(info_of(ch).exit_status, -1);
    naru_channel_close(ch);
    CHECK(signal(SIGCHLD, SIG_IGN) != SIG_ERR);
    ch = run("exec:cat");
    CHECK_INT(naru_send(ch, "x", 1, patience), 0);
    check_recv(ch, "x");
    naru_channel_close(ch);
}

TEST(a_forked_child_leaves_the_command_alone)
{
    struct naru_channel *ch = run("exec:cat");
    int child = test_fork();

    if (child == 0) {
        CHECK_INT(naru_send(ch, "x", 1, NARU_NOWAIT), -ECHILD);
        naru_channel_close(ch);
        test_child_end();
    }
    test_join(child);
    CHECK_INT(naru_send(ch, "still here", 10, patience), 0);
    check_recv(ch, "still here");
    naru_channel_close(ch);
}

TEST(an_empty_command_is_refused)
{
    struct naru_channel *ch = NULL;

    CHECK_INT(naru_connect("exec:", NULL, NARU_NOWAIT, &ch), -EINVAL);
    CHECK_CONTAINS(naru_explain(), "expected a shell command, as in exec:sort -u");
    CHECK_INT(naru_connect("exec: ", NULL, NARU_NOWAIT, &ch), -EINVAL);
}
