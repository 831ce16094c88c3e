/* SPDX-License-Identifier: MIT */
/* A ring in memory that two processes share: the parent of `ring 5` measures five times, its child prints. */
#include <naru/naru.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { BYTES = 4096 };

static int print(void *memory)
{
    struct naru_ring_reader ring;
    const void *line;
    ssize_t n = naru_ring_attach_reader(memory, BYTES, &ring);

    while (n >= 0 && (n = naru_ring_peek(&ring, &line)) != 0) { /* an empty message is the end */
        if (n > 0) {
            printf("%.*s\n", (int)n, (const char *)line); /* where it lies */
            n = naru_ring_release(&ring);
            naru_ring_wake_writer(&ring); /* there is room again */
        }
        if (n == -EAGAIN)
            n = naru_ring_wait_message(&ring, NARU_S(60));
    }
    return (int)n;
}

static int measure(void *memory, int count)
{
    struct naru_ring_writer ring;
    int r = naru_ring_attach_writer(memory, BYTES, &ring);

    for (int i = 1; i <= count + 1 && r == 0; i++) {
        char line[64];
        int n = i > count ? 0 : snprintf(line, sizeof line, "%d: %.1f degrees", i, 20 + i / 10.0);

        while ((r = naru_ring_put(&ring, line, (size_t)n)) == -EAGAIN &&
               (r = naru_ring_wait_room(&ring, (size_t)n, NARU_S(60))) == 0)
            ;
        naru_ring_wake_reader(&ring);
    }
    return r;
}

int main(int argc, char **argv)
{
    void *memory = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int r, status = 0, child;

    if (argc != 2 || memory == MAP_FAILED || naru_ring_init(memory, BYTES) < 0)
        return fprintf(stderr, "usage: ring COUNT\n"), 2;
    r = (child = fork()) < 0 ? -errno : child == 0 ? print(memory) : measure(memory, atoi(argv[1]));
    if (r < 0)
        fprintf(stderr, "ring: %s\n", naru_explain());
    return r < 0 || (child > 0 && (waitpid(child, &status, 0) < 0 || status != 0));
}
