/* SPDX-License-Identifier: MIT */
/* Shared configuration in a file. Run `config /tmp/my.conf` in one or more terminals, and in another
 * `config /tmp/my.conf colour=blue size=5`. Each reader shows every version that it sees, always a whole one.
 */
#include <naru/naru.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

static int complain(void)
{
    fprintf(stderr, "config: %s\n", naru_explain());
    return 1;
}

static int show(const char *path)
{
    struct naru_file_watch *watch;
    char text[4096];
    int r = naru_file_watch_open(path, &watch); /* before the first read, so that no change is missed */

    if (r < 0)
        return complain();
    do {
        ssize_t n = naru_file_read(path, text, sizeof text);

        if (n >= 0)
            printf("--- %zd bytes\n%.*s", n, (int)n, text);
        else
            printf("--- %s\n", naru_explain());
        fflush(stdout);
        r = naru_file_watch_wait(watch, NARU_FOREVER);
    } while (r == 0);
    naru_file_watch_close(watch);
    return complain();
}

static int set(const char *path, int count, char **settings)
{
    char text[4096];
    size_t used = 0;

    for (int i = 0; i < count; i++) {
        size_t length = strlen(settings[i]);

        if (length + 1 > sizeof text - used)
            return fprintf(stderr, "config: more than %zu bytes of settings\n", sizeof text), 1;
        memcpy(text + used, settings[i], length);
        used += length;
        text[used++] = '\n';
    }
    return naru_file_replace(path, text, used, 0) < 0 ? complain() : 0;
}

int main(int argc, char **argv)
{
    if (argc < 2)
        return fprintf(stderr, "usage: config FILE [KEY=VALUE...]\n"), 2;
    return argc == 2 ? show(argv[1]) : set(argv[1], argc - 2, argv + 2);
}
