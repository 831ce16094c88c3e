/* SPDX-License-Identifier: MIT */
/* The words of the handshake of shm:, read without a socket: which can be gone on with, and which not. */
#include "channel/shm/test-shm.h"

static struct handshake_message own(void)
{
    return handshake_make(HANDSHAKE_WELCOME, RING);
}

static enum handshake_reason read_word(const struct handshake_message *m)
{
    struct handshake_message mine = own(), ret;

    return handshake_read(m, sizeof *m, &mine, &ret);
}

TEST(a_hello_of_our_own_is_understood)
{
    struct handshake_message m = handshake_make(HANDSHAKE_HELLO, RING), mine = own(), ret;

    CHECK_INT(handshake_read(&m, sizeof m, &mine, &ret), REASON_NONE);
    CHECK(memcmp(&m, &ret, sizeof m) == 0);
}

TEST(a_longer_word_is_read_as_far_as_it_is_known_and_a_shorter_one_is_none)
{
    struct handshake_message mine = own(), ret;
    struct {
        struct handshake_message m;
        char more[100];
    } later = {handshake_make(HANDSHAKE_HELLO, RING), {1, 2, 3}};

    CHECK_INT(handshake_read(&later, sizeof later, &mine, &ret), REASON_NONE);
    for (size_t length = 0; length < sizeof later.m; length++)
        CHECK_INT(handshake_read(&later, length, &mine, &ret), REASON_PROTOCOL);
    CHECK_INT(handshake_read(&later, SIZE_MAX, &mine, &ret), REASON_PROTOCOL);
}

TEST(versions_meet_at_a_layout_that_both_know)
{
    struct handshake_message m = handshake_make(HANDSHAKE_HELLO, RING);

    m.layout = SHM_LAYOUT + 5; /* newer, and still talks ours */
    m.oldest = SHM_LAYOUT;
    CHECK_INT(read_word(&m), REASON_NONE);
    m.oldest = SHM_LAYOUT + 1; /* too new */
    CHECK_INT(read_word(&m), REASON_VERSION);
    m.line = 128; /* and then nothing else is looked at: it may mean something else */
    m.ring = 12345;
    CHECK_INT(read_word(&m), REASON_VERSION);
    m = handshake_make(HANDSHAKE_HELLO, RING);
    m.line = 128;
    CHECK_INT(read_word(&m), REASON_VERSION);
    m = handshake_make(HANDSHAKE_HELLO, RING);
    m.page = 16384;
    CHECK_INT(read_word(&m), REASON_VERSION);
    m = handshake_make(HANDSHAKE_HELLO, RING);
    m.oldest = m.layout + 1; /* nonsense */
    CHECK_INT(read_word(&m), REASON_PROTOCOL);
    m.oldest = 0;
    CHECK_INT(read_word(&m), REASON_PROTOCOL);
}

TEST(a_ring_has_to_be_a_power_of_two_that_the_other_side_maps)
{
    static const uint64_t nonsense[] = {0, 1, 2048, 4095, 4097, 12288, UINT64_C(1) << 31, UINT64_MAX};
    struct handshake_message m = handshake_make(HANDSHAKE_HELLO, RING), mine = own(), ret;

    for (size_t i = 0; i < sizeof nonsense / sizeof *nonsense; i++) {
        m.ring = nonsense[i];
        CHECK_INT(read_word(&m), REASON_PROTOCOL);
    }
    m.ring = mine.ring_max;
    CHECK_INT(read_word(&m), REASON_NONE);
    m.ring = 2 * mine.ring_max;
    CHECK_INT(read_word(&m), REASON_SIZE);
    mine = handshake_make(HANDSHAKE_WELCOME, m.ring); /* ours is as large */
    m = handshake_make(HANDSHAKE_HELLO, m.ring);
    CHECK_INT(handshake_read(&m, sizeof m, &mine, &ret), REASON_NONE);
    m = handshake_make(HANDSHAKE_HELLO, RING);
    m.ring_max = RING / 2; /* it would not map ours */
    CHECK_INT(read_word(&m), REASON_SIZE);
}
