/* SPDX-License-Identifier: MIT */
/*
 * A ring of 1 GiB, or eight of them, takes longer to make than the second for which a listener waits for a
 * HELLO; one of 64 MiB takes longer than a shorter time. Its connector is hung up on before it has said a
 * word, and has its memory at the next attempt.
 */
#include "channel/shm/test-shm.h"

static struct naru_listener *listen_for_a_short_time(void)
{
    handshake_hello_within = NARU_MS(5);
    return listen_there("?ring=4k");
}

static void check_carries(struct naru_listener *l, struct naru_channel *far)
{
    struct naru_channel *near;
    char text[8];

    CHECK_INT(naru_accept(l, patience, &near), 0);
    CHECK_INT(naru_send(far, "there", 6, patience), 0);
    CHECK_INT(naru_recv(near, text, sizeof text, patience), 6);
    CHECK_STR(text, "there");
    naru_channel_close(far);
    naru_channel_close(near);
}

TEST(who_takes_long_to_make_its_memory_connects_all_the_same)
{
    struct naru_listener *l = listen_for_a_short_time();

    for (int i = 0; i < 5; i++) {
        struct naru_channel *far = NULL;

        CHECK_INT(naru_connect(test_format("%s?ring=64M", url()), NULL, patience, &far), 0);
        check_carries(l, far);
    }
    naru_listener_close(l);
}

/* On a machine that stands still in between, not each time. */
TEST(and_does_so_without_waiting)
{
    struct naru_listener *l = listen_for_a_short_time();
    struct naru_channel *far = NULL;
    int r;

    do
        r = naru_connect(test_format("%s?ring=64M", url()), NULL, NARU_NOWAIT, &far);
    while (r == -EAGAIN);
    CHECK_INT(r, 0);
    CHECK_INT(naru_flush(far, NARU_SENT, patience), 0); /* it is answered */
    check_carries(l, far);
    naru_listener_close(l);
}
