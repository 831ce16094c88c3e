/* SPDX-License-Identifier: MIT */
/* What a sender's pool may cost its receiver: no more than the receiver's own ?pool= or ?max-message=. */
#include "channel/channel.h"
#include "channel/shm/shm.h"
#include "channel/shm/test-shm.h"

enum { BUDGET = 64 * 1024 };

static struct shm *shm_of(struct naru_channel *ch)
{
    return ch->state;
}

/* Two ends that met, one with a large pool, which sends, and one with a small one. */
static void meet(struct naru_listener **ret_l, struct naru_channel **ret_large,
                 struct naru_channel **ret_small)
{
    pthread_t thread;
    void *far;

    *ret_l = listen_there("?ring=4k&pool=64k&max-message=10k");
    CHECK_INT(pthread_create(&thread, NULL, connect_thread, (void *)(uintptr_t) "?ring=4k&pool=1G"), 0);
    CHECK_INT(naru_accept(*ret_l, patience, ret_small), 0);
    CHECK_INT(pthread_join(thread, &far), 0);
    *ret_large = far;
}

static void part(struct naru_listener *l, struct naru_channel *large, struct naru_channel *small)
{
    naru_channel_close(large);
    naru_channel_close(small);
    naru_listener_close(l);
}

TEST(a_sender_uses_no_more_of_its_pool_than_the_receiver_maps)
{
    static char message[BUDGET + 1], got[BUDGET];
    struct naru_channel *large, *small;
    struct naru_listener *l;

    meet(&l, &large, &small);
    CHECK_INT(shm_of(small)->link.theirs.pool, BUDGET);
    CHECK_INT(naru_send(large, message, BUDGET + 1, NARU_NOWAIT), -EMSGSIZE);
    CHECK_CONTAINS(naru_explain(), "the receiver maps no more of a pool than its own ?pool=");
    for (size_t i = 0; i < 200; i++) { /* each somewhere else, as two are out */
        size_t length = 8 * 1024 + 100 * i;

        memset(message, (int)i, length);
        CHECK_INT(naru_send(large, message, length, NARU_NOWAIT), 0);
        CHECK_INT(naru_send(large, message, length, NARU_NOWAIT), 0);
        for (int k = 0; k < 2; k++) {
            CHECK_INT(naru_recv(small, got, sizeof got, NARU_NOWAIT), length);
            CHECK(memcmp(got, message, length) == 0);
        }
    }
    part(l, large, small);
}

TEST(a_sender_who_waits_for_room_hears_what_the_receiver_maps)
{
    static char message[BUDGET / 2];
    struct naru_channel *large, *small;
    struct naru_listener *l;
    int r = 0;

    meet(&l, &large, &small);
    for (int i = 0; r == 0 && i < 10; i++)
        r = naru_send(large, message, sizeof message, NARU_MS(1));
    CHECK_INT(r, -ETIMEDOUT);
    CHECK_CONTAINS(naru_explain(), test_format("of this end's ?pool= the receiver maps %d bytes", BUDGET));
    part(l, large, small);
}

TEST(what_a_sender_keeps_beyond_is_nonsense)
{
    static char got[BUDGET];
    struct naru_channel *large, *small;
    struct naru_listener *l;

    for (uint64_t beyond = 0; beyond < 2; beyond++) {
        struct shm_chunk chunk = {.place = (uint32_t)(BUDGET * beyond),
                                  .length = BUDGET - (uint32_t)beyond + 1};
        uint8_t *payload = NULL;

        meet(&l, &large, &small);
        CHECK_INT(ring_reserve(&shm_of(large)->link.tx, sizeof chunk, &payload), RING_OK);
        memcpy(payload, &chunk, sizeof chunk);
        ring_commit(&shm_of(large)->link.tx, RECORD_CHUNK, sizeof chunk);
        CHECK_INT(naru_recv(small, got, sizeof got, NARU_NOWAIT), -EPROTO);
        part(l, large, small);
    }
}

/* Who says how large a message may be is asked, and who does not has the limit of the channel. */
TEST(what_is_borrowed_has_at_most_the_largest_message_and_what_is_received_fits_the_buffer)
{
    static const size_t lengths[] = {101, 3000}; /* of the ring, and of the pool */
    static char message[3000], got[3000];
    struct naru_view view = NARU_INIT(struct naru_view);
    struct naru_listener *l = listen_there("?max-message=100&pool=64k");
    struct naru_channel *small;
    pthread_t thread;
    void *far;

    CHECK_INT(pthread_create(&thread, NULL, connect_thread, (void *)(uintptr_t) "?ring=4k"), 0);
    CHECK_INT(naru_accept(l, patience, &small), 0);
    CHECK_INT(pthread_join(thread, &far), 0);
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        CHECK_INT(naru_send(far, message, lengths[i], NARU_NOWAIT), 0);
        CHECK_INT(naru_borrow(small, NARU_FOREVER, &view), -EMSGSIZE);
        CHECK_CONTAINS(naru_explain(),
                       test_format("has %zu bytes, and ?max-message= lets 100 be borrowed", lengths[i]));
        CHECK_INT(naru_recv(small, got, 100, NARU_FOREVER), -EMSGSIZE);
        CHECK_INT(naru_recv(small, got, lengths[i], NARU_FOREVER), lengths[i]);
    }
    CHECK_INT(naru_send(far, message, 100, NARU_NOWAIT), 0);
    CHECK_INT(naru_borrow(small, NARU_FOREVER, &view), 0);
    naru_release(&view);
    part(l, far, small);
}

/* With nothing said, a receiver maps as much as the largest message that it receives. */
TEST(a_receiver_maps_what_its_largest_message_needs)
{
    static char message[BUDGET], got[BUDGET];
    struct naru_channel *small;
    struct naru_listener *l = listen_there("?ring=4k&pool=0&max-message=50000");
    pthread_t thread;
    void *far;

    CHECK_INT(pthread_create(&thread, NULL, connect_thread, (void *)(uintptr_t) "?ring=4k&pool=1G"), 0);
    CHECK_INT(naru_accept(l, patience, &small), 0);
    CHECK_INT(pthread_join(thread, &far), 0);
    CHECK_INT(shm_of(small)->link.theirs.pool, 13 * SHM_PAGE);
    CHECK_INT(naru_send(far, message, 50000, NARU_NOWAIT), 0);
    CHECK_INT(naru_recv(small, got, sizeof got, NARU_NOWAIT), 50000);
    part(l, far, small);
}
