/* SPDX-License-Identifier: MIT */
/* Whoever has connected is not lost by an accept that finds no memory: it stays, with what it has sent. The
 * linker puts the function below before calloc(3). */
#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "naru/naru.h"
#include "runner.h"

void *__real_calloc(size_t count, size_t size);
void *__wrap_calloc(size_t count, size_t size);

/* Of this thread: how many calls succeed before one that does not; less: none fails. */
static _Thread_local long left = -1;

void *__wrap_calloc(size_t count, size_t size)
{
    if (left >= 0 && left-- == 0) {
        errno = ENOMEM;
        return NULL;
    }
    return __real_calloc(count, size);
}

static const int64_t patience = NARU_S(60);

/* Behind the '@' comes a name that no other test has: those of sockets are the whole machine's. */
static const char *const urls[] = {"shm:@", "shm:@?service=manual",
                                   "shm:@?prefault&ring=16k&pool=64k&max-message=64k", "shm+posix:/naru-test",
                                   "shm+sysv:0x4d5"};

static const char *each_url(size_t index)
{
    return index < sizeof urls / sizeof *urls ? urls[index] : NULL;
}

static const char *url_of(size_t index)
{
    const char *options = strchr(urls[index], '@');

    return options ? test_format("shm:@naru%s%s", test_directory(), options + 1) : urls[index];
}

/* One that has its answer, and has sent. */
static struct naru_channel *come(struct naru_listener *l)
{
    const char *url = naru_listener_url(l);
    struct naru_channel *ch = NULL;

    CHECK_INT(naru_connect(url, NULL, NARU_NOWAIT, &ch), 0);
    if (strncmp(url, "shm:", 4) == 0)
        WAIT_UNTIL(naru_listener_dispatch(l) == 1); /* or the keeper has it in hand */
    CHECK_INT(naru_send(ch, "early", 6, patience), 0);
    return ch;
}

TEST_EACH(who_has_come_stays_where_there_is_no_memory_for_it, each_url)
{
    struct naru_listener *l;
    bool failed = true;

    CHECK_INT(naru_listen(url_of(index), NULL, &l), 0);
    for (long calls = 0; failed; calls++) {
        struct naru_channel *far = come(l), *near = NULL;
        char text[8];
        int r;

        left = calls;
        r = naru_accept(l, NARU_NOWAIT, &near);
        failed = left < 0;
        left = -1;
        if (r < 0) {
            CHECK(failed);
            CHECK_INT(r, -ENOMEM);
            CHECK_CONTAINS(naru_explain(), "memory");
            CHECK_INT(naru_accept(l, NARU_NOWAIT, &near), 0);
        }
        CHECK_INT(naru_recv(near, text, sizeof text, patience), 6);
        CHECK_STR(text, "early");
        CHECK_INT(naru_send(near, "late", 5, patience), 0);
        CHECK_INT(naru_recv(far, text, sizeof text, patience), 5);
        naru_channel_close(far);
        naru_channel_close(near);
        CHECK(calls < 100 && (calls > 0 || failed));
    }
    CHECK_INT(naru_accept(l, NARU_NOWAIT, &(struct naru_channel *){NULL}), -EAGAIN);
    naru_listener_close(l);
}
