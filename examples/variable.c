/* SPDX-License-Identifier: MIT */
/* Shared memory as a variable, with its lock beside it. `variable shm+posix:/x` shows the value and each
 * change; in other terminals `variable shm+posix:/x 3` sets it, and `variable shm+posix:/x + 1000000` adds 1
 * so often, without losing one to others who do the same, killed half-way or not. mmap:///tmp/x keeps it over
 * a reboot.
 */
#include <naru/naru.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct variable {
    struct naru_mutex mutex;
    struct naru_event changed;
    long long value;
};

static int complain(void)
{
    fprintf(stderr, "variable: %s\n", naru_explain());
    return 1;
}

/* Runs once, before anybody else can see the new segment. */
static int initialise(void *data, size_t size, void *argument)
{
    struct variable *v = data;
    int r = naru_mutex_init(&v->mutex);

    (void)size;
    (void)argument;
    return r < 0 ? r : naru_event_init(&v->changed, NARU_EVENT_AUTO);
}

/* A long long is written whole, so a writer that died has left nothing to put right. */
static int lock(struct variable *v)
{
    int r = naru_mutex_lock(&v->mutex, NARU_FOREVER);

    return r == -EOWNERDEAD ? naru_mutex_consistent(&v->mutex) : r;
}

static int show(struct variable *v)
{
    do {
        if (lock(v) < 0)
            return complain();
        printf("%lld\n", v->value);
        fflush(stdout);
        naru_mutex_unlock(&v->mutex);
    } while (naru_event_wait(&v->changed, NARU_FOREVER) == 0);
    return complain();
}

static int change(struct variable *v, int adds, long long number)
{
    for (long long i = 0; i < (adds ? number : 1); i++) {
        if (lock(v) < 0)
            return complain();
        v->value = adds ? v->value + 1 : number;
        naru_mutex_unlock(&v->mutex);
    }
    return naru_event_set(&v->changed) < 0 ? complain() : 0;
}

int main(int argc, char **argv)
{
    struct naru_segment_options options = NARU_INIT(struct naru_segment_options);
    struct naru_segment *segment;
    struct variable *v;
    int adds = argc == 4 && strcmp(argv[2], "+") == 0, code;

    if (argc < 2 || argc > 4 || (argc == 4 && !adds))
        return fprintf(stderr, "usage: variable URL [NUMBER | + TIMES]\n"), 2;
    options.initialise = initialise;
    if (naru_segment_open(argv[1], sizeof *v, &options, &segment) < 0)
        return complain();
    v = naru_segment_data(segment);
    code = argc == 2 ? show(v) : change(v, adds, strtoll(argv[argc - 1], NULL, 0));
    naru_segment_close(segment);
    return code;
}
