/* SPDX-License-Identifier: MIT */
/* naru signal send|wait|list|show, as a user runs them. */
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "naru/naru.h"
#include "runner-shell.h"
#include "runner.h"

struct command {
    int pid, out;
    int code;        /* exit code, once finished */
    char text[8192]; /* standard output and error */
    size_t length;
};

/* Starts `naru signal WORDS...`. */
static struct command start(const char *first, ...)
{
    char *words[16] = {(char *)(uintptr_t) "naru", (char *)(uintptr_t) "signal", (char *)(uintptr_t)first};
    struct command command = {.code = -1};
    int ends[2], count = 3;
    va_list args;

    va_start(args, first);
    while (count < 15 && (words[count] = va_arg(args, char *)))
        count++;
    va_end(args);
    CHECK_INT(pipe2(ends, O_CLOEXEC), 0);
    command.pid = fork();
    if (command.pid == 0) {
        dup2(ends[1], 1);
        dup2(ends[1], 2);
        execv(shell_command(), words);
        _exit(127);
    }
    close(ends[1]);
    command.out = ends[0];
    return command;
}

static bool read_more(struct command *command)
{
    ssize_t n =
        read(command->out, command->text + command->length, sizeof command->text - 1 - command->length);

    CHECK(n >= 0);
    command->length += (size_t)n;
    return n > 0;
}

static int finish(struct command *command)
{
    int status;

    while (read_more(command))
        ;
    close(command->out);
    CHECK_INT(waitpid(command->pid, &status, 0), command->pid);
    CHECK(WIFEXITED(status));
    command->code = WEXITSTATUS(status);
    return command->code;
}

static void wait_for_text(struct command *command, const char *part)
{
    while (!strstr(command->text, part))
        CHECK(read_more(command));
}

static char *number(int n)
{
    static char texts[4][16];
    static int next;
    char *text = texts[next++ % 4];

    snprintf(text, 16, "%d", n);
    return text;
}

TEST(wait_prints_signal_sender_and_value)
{
    struct command waiter = start("wait", "RTMIN+1", "--timeout", "60s", NULL);
    struct command sender = start("send", "--ready", "--value", "-42", number(waiter.pid), "RTMIN+1", NULL);
    char expected[128];

    CHECK_INT(finish(&sender), 0);
    CHECK_INT(finish(&waiter), 0);
    snprintf(expected, sizeof expected, "SIGRTMIN+1 from %d", sender.pid);
    CHECK_CONTAINS(waiter.text, expected);
    snprintf(expected, sizeof expected, "uid %d value -42\n", (int)getuid());
    CHECK_CONTAINS(waiter.text, expected);
}

TEST(wait_takes_several_signals_and_speaks_json)
{
    struct command waiter = start("wait", "INT", "USR1", "-n", "2", "--json", "-t", "60s", NULL);

    wait_for_text(&waiter, "waiting as process");
    CHECK_INT(kill(waiter.pid, SIGUSR1), 0);
    CHECK_INT(kill(waiter.pid, SIGINT), 0);
    CHECK_INT(finish(&waiter), 0);
    CHECK_CONTAINS(waiter.text, "\"signal\": \"SIGUSR1\"");
    CHECK_CONTAINS(waiter.text, "\"signal\": \"SIGINT\"");
    CHECK_CONTAINS(waiter.text, "\"cause\": \"kill\"");
    CHECK(!strstr(waiter.text, "\"value\""));
}

TEST(wait_times_out_with_124)
{
    struct command waiter = start("wait", "USR1", "-t", "1ms", NULL);

    CHECK_INT(finish(&waiter), 124);
}

TEST(send_ready_does_not_kill_who_is_not_ready)
{
    int child = test_fork();
    struct command sender;

    if (child == 0)
        for (;;)
            pause();
    sender = start("send", "--ready", "-t", "1ms", number(child), "USR1", NULL);
    CHECK_INT(finish(&sender), 124);
    CHECK_CONTAINS(sender.text, "nothing was sent");
    CHECK_INT(kill(child, 0), 0);
    sender = start("send", number(child), "KILL", NULL);
    CHECK_INT(finish(&sender), 0);
    CHECK_INT(waitpid(child, NULL, 0), child);
    sender = start("send", number(child), "KILL", NULL);
    CHECK_INT(finish(&sender), 3);
    CHECK_CONTAINS(sender.text, "No such process");
}

TEST(send_finds_processes_by_name)
{
    char name[16];
    int child = test_fork(), status;
    struct command sender;

    snprintf(name, sizeof name, "naru-t%d", getpid());
    if (child == 0) {
        FILE *comm = fopen("/proc/self/comm", "we");

        CHECK(comm != NULL);
        fprintf(comm, "naru-t%d", getppid());
        fclose(comm);
        CHECK_INT(naru_signal_block(naru_signal_bit(SIGUSR2), NULL), 0);
        CHECK_INT(naru_signal_wait(naru_signal_bit(SIGUSR2), NARU_S(60), NULL), 0);
        _exit(0);
    }
    do { /* until it has its name */
        sender = start("send", "--ready", name, "USR2", NULL);
    } while (finish(&sender) == 3);
    CHECK_INT(sender.code, 0);
    CHECK_INT(waitpid(child, &status, 0), child);
    CHECK_INT(status, 0);
    sender = start("send", name, "USR2", NULL);
    CHECK_INT(finish(&sender), 3);
    CHECK_CONTAINS(sender.text, "there is no process named");
}

TEST(show_prints_the_sets_of_a_process)
{
    struct test_gate ready;
    struct command command;
    int child;

    test_gate_init(&ready);
    child = test_fork();
    if (child == 0) {
        CHECK_INT(naru_signal_block(naru_signal_bit(SIGUSR1) | naru_signal_bit(SIGRTMIN + 2), NULL), 0);
        CHECK_INT(naru_signal_ignore(SIGHUP), 0);
        CHECK_INT(naru_signal_send(getpid(), SIGUSR1), 0);
        test_gate_open(&ready);
        for (;;)
            pause();
    }
    test_gate_wait(&ready);
    command = start("show", number(child), NULL);
    CHECK_INT(finish(&command), 0);
    CHECK_CONTAINS(command.text, "pending             SIGUSR1\n");
    CHECK_CONTAINS(command.text, "blocked             SIGUSR1 SIGRTMIN+2\n");
    CHECK_CONTAINS(command.text, "SIGHUP");
    command = start("show", "--json", number(child), NULL);
    CHECK_INT(finish(&command), 0);
    CHECK_CONTAINS(command.text, "\"queue_limit\": ");
    test_kill(child);
    command = start("show", number(child), NULL);
    CHECK_INT(finish(&command), 3);
}

TEST(list_names_every_signal_with_what_it_does)
{
    struct command command = start("list", NULL);

    CHECK_INT(finish(&command), 0);
    CHECK_CONTAINS(command.text, " 9  SIGKILL       die             nobody can catch, block or ignore it\n");
    CHECK_CONTAINS(command.text, "SIGSEGV       die, dump core");
    CHECK_CONTAINS(command.text, "SIGRTMIN+30");
}

TEST(wrong_command_lines_say_what_was_expected)
{
    static const struct {
        const char *words[4], *part;
    } wrong[] = {
        {{"send", "1234"}, "naru signal send 1234 TERM"},
        {{"send", "1234", "SIGALARM"}, "did you mean SIGALRM?"},
        {{"send", "1234", "TERM", "--value=x"}, "32-bit number"},
        {{"wait"}, "naru signal wait USR1"},
        {{"wait", "SIGCOUNT"}, "did you mean SIGCONT?"},
        {{"show"}, "naru signal show 1234"},
        {{"show", "abc"}, "naru signal show 1234"},
        {{"list", "x"}, "no operand"},
    };

    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        const char *const *w = wrong[i].words;
        struct command command = start(w[0], w[1], w[2], w[3], NULL);

        CHECK_INT(finish(&command), 2);
        CHECK_CONTAINS(command.text, wrong[i].part);
    }
}

TEST(waiting_for_sigkill_is_refused)
{
    struct command command = start("wait", "KILL", NULL);

    CHECK_INT(finish(&command), 2);
    CHECK_CONTAINS(command.text, "nobody has a choice about SIGKILL");
}
