/* SPDX-License-Identifier: MIT */
/* The textbook's cycle: wait, write a value, signal, wake, read, wait again. `cycle shm+posix:/c` sleeps
 * until it is told and prints each value; in another terminal `cycle shm+posix:/c 21.5` sets one and signals.
 */
#include <naru/naru.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

struct shared {
    struct naru_mutex mutex;
    struct naru_event told;
    char value[32];
};

/* Runs once, before anybody else can see the new segment. */
static int initialise(void *data, size_t size, void *argument)
{
    struct shared *s = data;
    int r = naru_mutex_init(&s->mutex);

    (void)size;
    (void)argument;
    return r < 0 ? r : naru_event_init(&s->told, NARU_EVENT_AUTO);
}

static int copy(struct shared *s, char *to, const char *from)
{
    int r = naru_mutex_lock(&s->mutex, NARU_FOREVER);

    if (r == -EOWNERDEAD) /* killed while it wrote: the value may be half of one, until the next is set */
        r = naru_mutex_consistent(&s->mutex);
    if (r == 0)
        r = (memcpy(to, from, sizeof s->value), naru_mutex_unlock(&s->mutex));
    return r;
}

int main(int argc, char **argv)
{
    struct naru_segment_options options = {.size = sizeof options, .initialise = initialise};
    struct naru_segment *segment = NULL;
    struct shared *s;
    char value[sizeof s->value] = "";
    int r;

    if (argc < 2 || argc > 3 || (argc == 3 && strlen(argv[2]) >= sizeof value))
        return fprintf(stderr, "usage: cycle SEGMENT [VALUE]\n"), 2;
    r = naru_segment_open(argv[1], sizeof *s, &options, &segment);
    s = r == 0 ? naru_segment_data(segment) : NULL;
    if (s && argc == 3 && (r = copy(s, s->value, strcpy(value, argv[2]))) == 0)
        r = naru_event_set(&s->told);
    while (s && argc == 2 && (r = naru_event_wait(&s->told, NARU_FOREVER)) == 0 &&
           (r = copy(s, value, s->value)) == 0)
        (void)(puts(value) < 0 || fflush(stdout));
    if (r < 0)
        fprintf(stderr, "cycle: %s\n", naru_explain());
    naru_segment_close(segment);
    return r < 0;
}
