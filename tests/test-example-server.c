/* SPDX-License-Identifier: MIT */
/* examples/server.c: serves several clients at once, and closes in order when it is told to. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "naru/naru.h"
#include "runner-shell.h"
#include "runner.h"

static void say_and_hear(struct naru_channel *ch, const char *text)
{
    char answer[64];

    CHECK_INT(naru_send(ch, text, strlen(text), NARU_S(60)), 0);
    CHECK_INT(naru_recv(ch, answer, sizeof answer, NARU_S(60)), (long long)strlen(text));
    CHECK(memcmp(answer, text, strlen(text)) == 0);
}

TEST(the_server_answers_two_clients_and_closes_in_order_when_told_to)
{
    static const int signals[] = {SIGTERM, SIGINT};

    for (size_t i = 0; i < 2; i++) {
        struct naru_channel *a, *b;
        struct shell shell;
        char path[256], url[300], byte;
        int server = shell_start("exec example-server unix:s");

        snprintf(path, sizeof path, "%s/s", test_directory());
        snprintf(url, sizeof url, "unix://%s", path);
        CHECK_INT(naru_connect(url, NULL, NARU_S(60), &a), 0);
        CHECK_INT(naru_connect(url, NULL, NARU_S(60), &b), 0);
        say_and_hear(a, "from a");
        say_and_hear(b, "from b");
        say_and_hear(a, "again from a");
        naru_channel_close(b);
        CHECK_INT(naru_signal_send(server, signals[i]), 0);
        CHECK_INT(naru_recv(a, &byte, 1, NARU_S(60)), -EPIPE); /* closed, not killed */
        naru_channel_close(a);
        shell = shell_wait(server);
        CHECK_INT(shell.code, 0);
        CHECK_CONTAINS(shell.err, i == 0 ? "server: SIGTERM, closing" : "server: SIGINT, closing");
        CHECK(access(path, F_OK) < 0);
        shell_free(&shell);
    }
}

TEST(the_server_answers_those_who_type_lines_at_naru_cat)
{
    SHELL(0, "hi\n", "server: SIGTERM, closing",
          "example-server \"unix://$PWD/s?frame=line\" & until [ -S s ]; do sleep 0.01; done;"
          "echo hi | naru cat - unix://$PWD/s; kill $!; wait $!");
}

TEST(the_server_says_why_it_cannot_start)
{
    SHELL(1, "", "server: nonsense:", "example-server nonsense:");
    SHELL(2, "", "usage: server URL", "example-server");
}
