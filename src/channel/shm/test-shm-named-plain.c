/* SPDX-License-Identifier: MIT */
/* shm+posix: and shm+sysv: with a peer that has never heard of naru: tests/plain/shm-named.c. */
#include <errno.h>
#include <libgen.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "naru/naru.h"
#include "runner.h"

static const char *const names[] = {"/plain", "0x706c61"};

static const char *each_name(size_t index)
{
    return index < sizeof names / sizeof *names ? names[index] : NULL;
}

static const char *build_directory(void)
{
    char path[4096];
    ssize_t n = readlink("/proc/self/exe", path, sizeof path - 1);

    CHECK(n > 0);
    path[n] = '\0';
    return test_format("%s", dirname(path));
}

TEST_EACH(a_plain_program_reads_a_message_and_answers, each_name)
{
    const char *scheme = names[index][0] == '/' ? "shm+posix" : "shm+sysv";
    struct naru_channel *ch = NULL;
    struct naru_listener *l = NULL;
    char text[32] = "";
    int out[2], pid;

    CHECK_INT(naru_listen(test_format("%s:%s?wait=sleep", scheme, names[index]), NULL, &l), 0);
    CHECK(pipe(out) == 0);
    pid = test_fork();
    if (pid == 0) {
        const char *program = test_format("%s/plain-shm-named", build_directory());

        CHECK(dup2(out[1], STDOUT_FILENO) >= 0);
        close(out[0]);
        (void)execl(program, program, names[index], "well read", NULL);
        test_fail(__FILE__, __LINE__, "%s cannot be run", program);
    }
    close(out[1]);
    CHECK_INT(naru_accept(l, NARU_S(60), &ch), 0);
    CHECK_INT(naru_send(ch, "to whom it may concern", 22, NARU_S(60)), 0);
    CHECK_INT(naru_flush(ch, NARU_TAKEN, NARU_S(60)), 0);
    CHECK_INT(naru_recv(ch, text, sizeof text, NARU_S(60)), 9);
    CHECK_STR(text, "well read");
    CHECK_INT(naru_recv(ch, text, sizeof text, NARU_S(60)), -EPIPE);
    test_join(pid);
    CHECK_INT(read(out[0], text, sizeof text), 23);
    CHECK(memcmp(text, "to whom it may concern\n", 23) == 0);
    close(out[0]);
    naru_channel_close(ch);
    naru_listener_close(l);
}
