/* SPDX-License-Identifier: MIT */
/*
 * exec: a command run by /bin/sh, its standard input and output being the channel (popen(3) in both
 * directions at once). Its standard error stays ours.
 *
 * The child is held by a pidfd from the moment it is made until it is reaped, so no signal can hit a process
 * that got its number later. It is looked at with WNOWAIT and reaped only when the channel closes: until then
 * its exit status can be asked for by any thread.
 *
 * A command that ends shows the end of its output a moment before its exit status (do_exit() in kernel/exit.c
 * closes files first). As the status decides what the end means, a receive waits for it; but not for ever,
 * because a command may close its output and go on.
 *
 * What does not end when the channel closes is asked to, the shell and what it has started itself: a shell
 * that waits for a command dies of SIGTERM alone and leaves the command running (dash does, even where the
 * command is all of its text). No process group of its own: it would lose the terminal, and Ctrl-C.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/fd.h"
#include "base/process.h"
#include "channel/pipe-io.h"
#include "channel/stream.h"
#include "channel/table.h"

/* Instead of what wait(2) says of a child that has ended. */
enum { STATUS_RUNNING = -1, STATUS_UNKNOWN = -2 /* somebody else reaped it, or SIGCHLD is ignored */ };

static const int64_t until_killed = NARU_S(1); /* from SIGTERM to SIGKILL */

enum { CHILDREN_MAX = FORK_GUARD_FDS }; /* of the shell, that are ended with it: a pipeline's commands */

struct exec {
    int64_t linger; /* nanoseconds */
    int64_t
        output_over; /* until when the exit status is waited for after the end of the output; 0: no end yet */
    /* While it is ended: itself, and what it has started. Here and not on the stack of whoever closes, which
     * a child that is forked meanwhile may use for something else. */
    int ending[1 + CHILDREN_MAX];
    struct fork_guard guard;
};

/* --- starting --- */

/* A pipe whose ends cannot be mistaken for the child's 0, 1 and 2, even if those are closed here. */
static int make_pipe(int fds[2])
{
    if (pipe2(fds, O_CLOEXEC) < 0)
        return -errno;
    for (int i = 0; i < 2; i++) {
        int moved = fds[i] > STDERR_FILENO ? fds[i] : fcntl(fds[i], F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
        int code = errno;

        if (moved < 0) {
            fds[0] = fd_close(fds[0]);
            fds[1] = fd_close(fds[1]);
            return -code;
        }
        if (moved != fds[i])
            (void)fd_close(fds[i]);
        fds[i] = moved;
    }
    return 0;
}

/* The child's descriptors: its ends of the pipes, our standard error, and nothing else of ours. input -1: it
 * gets none; output -1: it shares ours. */
static int plan_files(posix_spawn_file_actions_t *files, int input, int output)
{
    int r = input >= 0 ? posix_spawn_file_actions_adddup2(files, input, STDIN_FILENO)
                       : posix_spawn_file_actions_addopen(files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);

    if (r == 0 && output >= 0)
        r = posix_spawn_file_actions_adddup2(files, output, STDOUT_FILENO);
    if (r == 0)
        r = posix_spawn_file_actions_addclosefrom_np(files, STDERR_FILENO + 1);
    return r;
}

/* No signal blocked, and SIGPIPE as usual: what the caller set for itself must not keep `yes | head` running.
 */
static int plan_signals(posix_spawnattr_t *attributes)
{
    sigset_t none, usual;
    int r;

    (void)sigemptyset(&none);
    (void)sigemptyset(&usual);
    (void)sigaddset(&usual, SIGPIPE);
    r = posix_spawnattr_setsigmask(attributes, &none);
    if (r == 0)
        r = posix_spawnattr_setsigdefault(attributes, &usual);
    if (r == 0)
        r = posix_spawnattr_setflags(attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    return r;
}

static int spawn(const char *command, int input, int output, pid_t *ret_pid)
{
    char *const arguments[] = {"sh", "-c", (char *)(uintptr_t)command, NULL};
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attributes;
    int r = posix_spawn_file_actions_init(&files);

    if (r != 0)
        return -r;
    r = posix_spawnattr_init(&attributes);
    if (r == 0) {
        r = plan_files(&files, input, output);
        if (r == 0)
            r = plan_signals(&attributes);
        if (r == 0)
            r = posix_spawn(ret_pid, "/bin/sh", &files, &attributes, arguments, environ);
        (void)posix_spawnattr_destroy(&attributes);
    }
    (void)posix_spawn_file_actions_destroy(&files);
    return -r;
}

/* Starts the command and holds it by a pidfd. */
static int start(struct naru_channel *ch, const char *command, int input, int output)
{
    pid_t pid;
    int r = spawn(command, input, output, &pid);

    if (r < 0)
        return error_set(-r, "%s: cannot start /bin/sh: %s", ch->url, error_text(-r));
    /* The pid is the child's until it is reaped, which only we do. */
    ch->peer_pidfd = pidfd_open(pid, 0);
    if (ch->peer_pidfd < 0) {
        r = -errno;
        (void)kill(pid, SIGKILL);
        (void)waitpid(pid, NULL, 0);
        return error_set(-r, "%s: pidfd_open: %s", ch->url, error_text(-r));
    }
    ch->peer = (struct naru_peer){pid, geteuid(), getegid()};
    return 0;
}

static int open_pipes(struct naru_channel *ch, const struct naru_options *opt, int *ret_input,
                      int *ret_output)
{
    int fds[2], r;

    if (ch->direction & NARU_DIRECTION_SEND) {
        r = make_pipe(fds);
        if (r < 0)
            return error_set(-r, "%s: pipe: %s", ch->url, error_text(-r));
        *ret_input = fds[0];
        ch->wfd = fds[1];
        r = pipe_io_set_buffer(ch->url, ch->wfd, opt);
        if (r < 0)
            return r;
    }
    if (ch->direction & NARU_DIRECTION_RECEIVE) {
        r = make_pipe(fds);
        if (r < 0)
            return error_set(-r, "%s: pipe: %s", ch->url, error_text(-r));
        ch->rfd = fds[0];
        *ret_output = fds[1];
        return pipe_io_set_buffer(ch->url, ch->rfd, opt);
    }
    return 0;
}

static int open_command(struct naru_channel *ch, struct url *url, const struct naru_options *opt)
{
    FD_CLEANUP int input = -1;
    FD_CLEANUP int output = -1;
    struct exec *x;
    int r;

    if (!url->target[strspn(url->target, " \t\n")])
        return error_set(EINVAL, "%s: expected a shell command, as in exec:sort -u", url->text);
    ch->direction = opt->direction ? opt->direction : NARU_DIRECTION_BOTH;
    r = open_pipes(ch, opt, &input, &output);
    if (r < 0)
        return r;
    x = calloc(1, sizeof *x);
    if (!x)
        return error_set(ENOMEM, "%s: out of memory for a channel", url->text);
    x->linger = opt->linger_ns > 0 ? opt->linger_ns : NARU_S(1);
    r = channel_make_stream(ch, opt, NARU_FRAME_LINE, false);
    if (r == 0)
        r = start(ch, url->target, input, output);
    if (r < 0)
        free(x);
    else
        ch->state = x;
    return r;
}

static int exec_connect(struct naru_channel *ch, struct url *url, const struct naru_options *opt,
                        int64_t deadline)
{
    int r;

    (void)deadline; /* nothing to wait for */
    fork_hold();    /* the command's ends of the pipes, too: a child that has one keeps it from its end */
    r = open_command(ch, url, opt);
    fork_release();
    return r;
}

/* --- how it ended --- */

static int peek_status(const struct naru_channel *ch)
{
    siginfo_t info = {0};

    if (waitid(P_PIDFD, (id_t)ch->peer_pidfd, &info, WEXITED | WNOHANG | WNOWAIT) < 0)
        return STATUS_UNKNOWN;
    if (info.si_pid == 0)
        return STATUS_RUNNING;
    switch (info.si_code) {
    case CLD_EXITED:
        return W_EXITCODE(info.si_status, 0);
    case CLD_DUMPED:
        return info.si_status | WCOREFLAG;
    default:
        return info.si_status;
    }
}

static int exec_status(const struct naru_channel *ch)
{
    int status = peek_status(ch);

    return status < 0 ? -1 : status;
}

static int explain_exit(const struct naru_channel *ch, int code)
{
    const char *name = code > 128 ? sigabbrev_np(code - 128) : NULL;

    if (code == 127)
        return error_set(EREMOTEIO, "%s: the command ended with exit status 127: the shell did not find it",
                         ch->url);
    if (code == 126)
        return error_set(EREMOTEIO, "%s: the command ended with exit status 126: it cannot be executed",
                         ch->url);
    if (name)
        return error_set(EREMOTEIO, "%s: the command ended with exit status %d, as shells report SIG%s",
                         ch->url, code, name);
    return error_set(EREMOTEIO, "%s: the command ended with exit status %d", ch->url, code);
}

/* The explained end of a child that has ended. */
static int explain_status(const struct naru_channel *ch, int status)
{
    const char *name;

    if (status == STATUS_UNKNOWN)
        return error_set(
            EPIPE,
            "%s: the command has ended; its exit status is unknown, because this program ignores "
            "SIGCHLD or has waited for it",
            ch->url);
    if (WIFEXITED(status))
        return WEXITSTATUS(status) == 0 ? error_expected(EPIPE) : explain_exit(ch, WEXITSTATUS(status));
    name = sigabbrev_np(WTERMSIG(status));
    return error_set(EOWNERDEAD, "%s: the command was killed by signal %d (SIG%s)", ch->url, WTERMSIG(status),
                     name ? name : "RT");
}

/* At the end of the output: what it means, or -EAGAIN while that is about to be known. */
static int end_of_output(struct naru_channel *ch)
{
    struct exec *x = ch->state;
    int status = peek_status(ch);

    if (status != STATUS_RUNNING)
        return explain_status(ch, status);
    if (x->output_over == 0)
        x->output_over = deadline_after(x->linger);
    if (deadline_left(x->output_over) > 0)
        return -EAGAIN;
    return error_set(EPIPE, "%s: the command has closed its output and still runs", ch->url);
}

static int exec_recv(struct naru_channel *ch, struct naru_message *m, bool block)
{
    int r = stream_recv(ch, m, block);

    return r == -EPIPE || r == -EOWNERDEAD ? end_of_output(ch) : r;
}

/* After the end of the output the pipe is readable for ever; what is waited for then is the child's end. */
static int exec_wait(struct naru_channel *ch, int event, int64_t deadline)
{
    struct exec *x = ch->state;
    int64_t until;
    int r;

    if (event == NARU_OUT || x->output_over == 0)
        return channel_wait_poll(ch, event, deadline);
    if (ch->poll_fd < 0) {
        fork_hold();
        ch->poll_fd = fcntl(ch->peer_pidfd, F_DUPFD_CLOEXEC, 0);
        fork_release();
    }
    if (ch->poll_fd < 0)
        return channel_wait_backoff(ch, event, deadline);
    until = deadline < x->output_over ? deadline : x->output_over;
    r = channel_wait_poll(ch, event, until);
    return r == -ETIMEDOUT && until < deadline ? 0 : r;
}

static int send_failed(struct naru_channel *ch, int r)
{
    int status = peek_status(ch);

    if (r != -EPIPE && r != -EOWNERDEAD)
        return r;
    if (status == STATUS_RUNNING)
        return error_set(EPIPE, "%s: the command has closed its input", ch->url);
    r = explain_status(ch, status);
    return r == -EPIPE ? error_set(EPIPE, "%s: the command has ended", ch->url) : r;
}

static int exec_send(struct naru_channel *ch, const struct naru_message *m, bool block)
{
    int r = stream_send(ch, m, block);

    return r < 0 ? send_failed(ch, r) : 0;
}

static ssize_t exec_send_batch(struct naru_channel *ch, const struct naru_message *m, size_t n, bool block)
{
    ssize_t r = stream_send_batch(ch, m, n, block);

    return r < 0 ? send_failed(ch, (int)r) : r;
}

/* --- ending --- */

/* Throws away what the command still writes, so that it can come to its end. false: its output is closed. */
static bool discard_output(int fd)
{
    char waste[16384];

    ssize_t n = read(fd, waste, sizeof waste);

    return n > 0 || (n < 0 && (errno == EINTR || errno == EAGAIN));
}

/* Waits until that process has ended, and reads on meanwhile. false: it has not, by the deadline. */
static bool await_end(int pidfd, int output, int64_t deadline)
{
    struct pollfd fds[2] = {{.fd = pidfd, .events = POLLIN}, {.fd = output, .events = POLLIN}};

    for (;;) {
        if (fd_poll(fds, 2, deadline) <= 0)
            return false;
        if (fds[0].revents)
            return true;
        if (!discard_output(fds[1].fd))
            fds[1].fd = -1;
        if (deadline_left(deadline) == 0) /* it may write for ever */
            return false;
    }
}

/* SIGTERM to all, time to obey, SIGKILL to who did not. The first is the shell: it starts no more. */
static void end_processes(const int *pidfds, int count, int output)
{
    int64_t deadline;

    for (int i = 0; i < count; i++)
        (void)pidfd_send_signal(pidfds[i], SIGTERM, NULL, 0);
    deadline = deadline_after(until_killed);
    for (int i = 0; i < count; i++)
        if (!await_end(pidfds[i], output, deadline))
            (void)pidfd_send_signal(pidfds[i], SIGKILL, NULL, 0);
}

static void end_command(const struct naru_channel *ch)
{
    struct exec *x = ch->state;
    int children;

    x->ending[0] = ch->peer_pidfd;
    fork_hold();
    children = process_open_children((pid_t)ch->peer.pid, x->ending + 1, CHILDREN_MAX);
    fork_guard_init(&x->guard);
    for (int i = 1; i <= children; i++)
        fork_guard_add(&x->guard, &x->ending[i]);
    fork_release();
    /* It is there still, so its pid was its own when its children were asked for. */
    if (pidfd_send_signal(ch->peer_pidfd, 0, NULL, 0) == 0)
        end_processes(x->ending, 1 + children, ch->rfd);
    fork_guard_close(&x->guard);
}

static void end_child(struct naru_channel *ch, int64_t linger)
{
    siginfo_t info;

    fork_close(&ch->wfd); /* the end of its input: most commands end upon that */
    if (!await_end(ch->peer_pidfd, ch->rfd, deadline_after(linger)))
        end_command(ch);
    /* Sleeps only for what SIGKILL takes. ECHILD: it was reaped by somebody else. */
    while (waitid(P_PIDFD, (id_t)ch->peer_pidfd, &info, WEXITED) < 0 && errno == EINTR)
        ;
}

static void exec_close(struct naru_channel *ch, bool owner)
{
    struct exec *x = ch->state;

    if (owner)
        end_child(ch, x->linger);
    free(x);
}

const struct channel_ops exec_ops = {
    .row = {.size = sizeof(struct naru_mechanism),
            .name = "exec",
            .scheme = "exec",
            .example = "exec:tr a-z A-Z",
            .title = "child process (popen)",
            .use_when = "a filter or another program's output is wanted, as in a shell pipeline",
            .medium = "kernel pipe buffers",
            .direction = "both ways",
            .unit = "byte stream (lines)",
            .scope = "a process and the command it started",
            .persistence = "until the command ends; it is ended with the channel",
            .limit = "64 KiB buffered each way; F_SETPIPE_SZ up to /proc/sys/fs/pipe-max-size",
            .wait = "blocking read or write, poll; pidfd for the end",
            .capabilities = NARU_CAN_DUPLEX | NARU_CAN_CONNECT | NARU_CAN_CREDENTIALS |
                            NARU_CAN_SURVIVE_SENDER | NARU_CAN_KNOW_DEATH | NARU_CAN_SEE_CLOSE |
                            NARU_CAN_SEE_RECEIVER | NARU_CAN_BE_RELIABLE | NARU_CAN_POLL | NARU_CAN_FRAME |
                            NARU_CAN_SEND_EMPTY | NARU_CAN_PUSH_BACK | NARU_CAN_TELL_TAKEN},
    .connect = exec_connect,
    .send = exec_send,
    .send_batch = exec_send_batch,
    .recv = exec_recv,
    .write = pipe_io_write,
    .read = pipe_io_read,
    .wait = exec_wait,
    .untaken = pipe_io_untaken,
    .exit_status = exec_status,
    .close = exec_close,
};
