/* SPDX-License-Identifier: MIT */
#include "runner-shell.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runner.h"

const char *shell_build_directory(void)
{
    static char path[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", path, sizeof path - 1);

    CHECK(n > 0);
    path[n] = '\0';
    *strrchr(path, '/') = '\0';
    return path;
}

const char *shell_command(void)
{
    return test_format("%s/naru", shell_build_directory());
}

static const char *stream_path(int pid, const char *stream)
{
    return test_format("%s/.%d.%s", test_directory(), pid, stream);
}

static void redirect(int fd, const char *path)
{
    int file = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

    CHECK(file >= 0 && dup2(file, fd) == fd);
    close(file);
}

/* waits PATH PID: until that process has made this file and sleeps then: there are things to be done between
 * the two, and a name is not served while they are. */
static const char prelude[] = "waits() { until [ -e \"$1\" ]; do sleep 0.01; done\n"
                              "while read -r _ _ state _ </proc/$2/stat && [ $state != S ] && [ $state != Z "
                              "]; do sleep 0.01; done; }\n";

int shell_start(const char *script)
{
    static const int usual[] = {SIGINT, SIGQUIT, SIGTERM, SIGHUP, SIGPIPE};
    const char *build = shell_build_directory(), *directory = test_directory();
    int pid = fork();

    CHECK(pid >= 0);
    if (pid > 0)
        return pid;
    for (size_t i = 0; i < sizeof usual / sizeof usual[0]; i++)
        signal(usual[i], SIG_DFL);
    redirect(STDOUT_FILENO, stream_path(getpid(), "out"));
    redirect(STDERR_FILENO, stream_path(getpid(), "err"));
    CHECK(chdir(directory) == 0);
    setenv("PATH", test_format("%s:%s", build, getenv("PATH")), 1);
    setenv("port", test_format("%d", test_unused_port()), 1);
    setenv("LC_ALL", "C.UTF-8", 1);
    execlp("bash", "bash", "-c", test_format("%s%s", prelude, script), (char *)NULL);
    _exit(127);
}

static char *slurp(const char *path)
{
    FILE *file = fopen(path, "r");
    char *text = NULL;
    size_t size = 0;
    ssize_t n;

    CHECK(file != NULL);
    n = getdelim(&text, &size, '\0', file); /* scripts under test print no NUL, or look at it themselves */
    fclose(file);
    unlink(path);
    if (n >= 0)
        return text;
    free(text);
    return strdup("");
}

struct shell shell_wait(int pid)
{
    struct shell s;
    int status;

    while (waitpid(pid, &status, 0) < 0)
        CHECK(errno == EINTR);
    s.code = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
    s.out = slurp(stream_path(pid, "out"));
    s.err = slurp(stream_path(pid, "err"));
    return s;
}

void shell_free(struct shell *s)
{
    free(s->out);
    free(s->err);
}

void shell_check(const char *file, int line, int code, const char *out, const char *err_part,
                 const char *script)
{
    struct shell s = shell_wait(shell_start(script));

    if (s.code != code)
        test_fail(file, line, "exit code %d, expected %d: %s\nstdout: %s\nstderr: %s", s.code, code, script,
                  s.out, s.err);
    test_check_str(file, line, script, s.out, out);
    if (*err_part)
        test_check_contains(file, line, script, s.err, err_part);
    else
        test_check_str(file, line, script, s.err, "");
    shell_free(&s);
}
