/* SPDX-License-Identifier: MIT */
/*
 * A program as in the textbook, that has never heard of naru: pipe and fork, parent to child in one
 * direction.
 *
 *     plain-pipe-fork write COMMAND...    the parent writes three lines, the child runs COMMAND on them
 *     plain-pipe-fork read COMMAND...     the child runs COMMAND, the parent prints what it writes
 */
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static int finish(pid_t child)
{
    int status;

    return waitpid(child, &status, 0) == child && WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

static void run(int end, int standard, const int *fds, char **command)
{
    dup2(end, standard);
    close(fds[0]);
    close(fds[1]);
    execvp(command[0], command);
    perror(command[0]);
    _exit(127);
}

int main(int argc, char **argv)
{
    char text[512];
    int fds[2];
    pid_t child;
    FILE *file;

    if (argc < 3 || pipe(fds) < 0)
        return 2;
    child = fork();
    if (strcmp(argv[1], "write") == 0) {
        if (child == 0)
            run(fds[0], STDIN_FILENO, fds, argv + 2);
        close(fds[0]);
        if (write(fds[1], "one\ntwo\nthree\n", 14) != 14)
            return 1;
        close(fds[1]);
        return finish(child);
    }
    if (child == 0)
        run(fds[1], STDOUT_FILENO, fds, argv + 2);
    close(fds[1]);
    file = fdopen(fds[0], "r");
    while (file && fgets(text, sizeof text, file))
        printf("parent read %s", text);
    return finish(child);
}
