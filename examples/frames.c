/* SPDX-License-Identifier: MIT */
/* Camera frames of 1 MiB, none of them copied; the watcher keeps the three brightest. Run
 * `frames shm:///tmp/camera` in one terminal, and `frames shm:///tmp/camera 100` in another. */
#include <naru/naru.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FRAME = 1 << 20, KEPT = 3 };

static int brightness(const struct naru_view *frame)
{
    return frame->data ? *(const unsigned char *)frame->data : -1;
}

static int watch(const char *url)
{
    struct naru_view frame = NARU_INIT(struct naru_view), kept[KEPT] = {frame, frame, frame};
    struct naru_listener *listener;
    struct naru_channel *camera;
    int r;
    if (naru_listen(url, NULL, &listener) < 0 || naru_accept(listener, NARU_FOREVER, &camera) < 0)
        return fprintf(stderr, "frames: %s\n", naru_explain()), 1;
    while ((r = naru_borrow(camera, NARU_FOREVER, &frame)) == 0) {
        for (int i = 0; i < KEPT; i++) /* sorted: each takes the place of a darker one */
            if (brightness(&frame) > brightness(&kept[i])) {
                struct naru_view darker = kept[i];
                kept[i] = frame;
                frame = darker;
            }
        naru_release(&frame); /* in any order; harmless if it is none */
    }
    naru_listener_close(listener);
    naru_channel_close(camera); /* what is kept stays */
    for (int i = 0; i < KEPT; naru_release(&kept[i++]))
        printf("a frame of brightness %d\n", brightness(&kept[i]));
    return r == -EPIPE ? 0 : (fprintf(stderr, "frames: %s\n", naru_explain()), 1);
}

static int film(const char *url, int frames)
{
    struct naru_loan frame = NARU_INIT(struct naru_loan);
    struct naru_channel *watcher = NULL;
    int r = naru_connect(url, NULL, NARU_S(10), &watcher);
    for (int i = 0; i < frames && r == 0 && (r = naru_loan(watcher, FRAME, NARU_FOREVER, &frame)) == 0; i++) {
        memset(frame.data, i * 37 % 200, FRAME);
        r = naru_commit(&frame, FRAME, NULL);
    }
    naru_channel_close(watcher);
    return r == 0 ? 0 : (fprintf(stderr, "frames: %s\n", naru_explain()), 1);
}

int main(int argc, char **argv)
{
    if (argc < 2)
        return fprintf(stderr, "usage: frames URL [COUNT]\n"), 2;
    return argc == 2 ? watch(argv[1]) : film(argv[1], atoi(argv[2]));
}
