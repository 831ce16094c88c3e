/* SPDX-License-Identifier: MIT */
/*
 * shm: between versions. A later naru may talk more layouts than ours, and send more words: as long as ours
 * is among them the two talk it, whoever connects to whom. With none in common both are named to both.
 */
#include "channel/shm/test-shm.h"

enum { LATER = 7, MORE = 72 /* bytes behind the words that there are now */ };

struct longer {
    struct handshake_message m;
    uint8_t more[MORE];
};

/* What it says: layouts from oldest to newest, and words that we know nothing of. */
static struct longer say_later(struct peer *peer, uint32_t oldest, uint32_t newest)
{
    struct longer packet = {.m = peer->m};

    packet.m.oldest = oldest;
    packet.m.layout = newest;
    memset(packet.more, 0x5a, sizeof packet.more);
    peer->length = sizeof packet;
    return packet;
}

/* In the ring of its own memory, where the other side finds it whenever it looks. */
static void put_message(struct peer *peer, const char *text)
{
    static _Atomic uint64_t nothing_taken;
    struct ring_writer w;

    ring_writer_init(&w, sealed_ring(&peer->own), RING, &nothing_taken);
    CHECK_INT(ring_put(&w, RECORD_DATA, text, (uint32_t)strlen(text)), RING_OK);
}

/* The first record of the memory that it was passed. */
static void check_message(int memory, uint64_t ring, const char *text)
{
    _Atomic uint64_t taken = 0;
    struct ring_record record = {0};
    struct ring_reader r;
    struct sealed theirs;

    CHECK_INT(shm_link_attach("test", memory, ring, SHM_POOL_MOST, &theirs), 0);
    ring_reader_init(&r, sealed_ring(&theirs), ring, &taken);
    CHECK_INT(ring_peek(&r, &record), RING_OK);
    CHECK(record.length == strlen(text) && memcmp(record.data, text, record.length) == 0);
    sealed_deinit(&theirs);
}

static void check_talk(struct naru_channel *ch)
{
    char text[16] = "";

    CHECK_INT(naru_recv(ch, text, sizeof text, patience), 5);
    CHECK_STR(text, "later");
    CHECK_INT(naru_send(ch, "now", 3, patience), 0);
}

static void recv_packet(int fd, struct handshake_packet *packet)
{
    struct pollfd ready = {.fd = fd, .events = POLLIN};

    CHECK_INT(poll(&ready, 1, -1), 1);
    fork_hold();
    CHECK_INT(handshake_recv(fd, packet), 0);
    fork_release();
}

TEST(a_later_connector_that_talks_our_layout_too_is_understood)
{
    struct peer peer = honest_peer(HANDSHAKE_HELLO);
    struct longer hello = say_later(&peer, SHM_LAYOUT, SHM_LAYOUT + LATER);
    struct naru_listener *l = listen_there("?service=manual");
    struct handshake_packet packet;
    struct handshake_message word;
    struct naru_channel *ch = NULL;
    int fd = raw_connect();

    put_message(&peer, "later");
    say(fd, &peer, &hello);
    CHECK_INT(naru_accept(l, NARU_NOWAIT, &ch), 0);
    check_talk(ch);
    recv_packet(fd, &packet);
    memcpy(&word, packet.bytes, sizeof word);
    CHECK(word.kind == HANDSHAKE_WELCOME && packet.fd_count == WELCOME_FDS);
    CHECK(word.oldest <= SHM_LAYOUT &&
          word.layout == SHM_LAYOUT); /* by which the later one knows what to talk */
    check_message(packet.fds[WELCOME_MEMORY], word.ring, "now");
    handshake_packet_close(&packet);
    close(fd);
    peer_end(&peer);
    naru_channel_close(ch);
    naru_listener_close(l);
}

TEST(a_later_listener_that_talks_our_layout_too_is_understood)
{
    struct peer peer = honest_peer(HANDSHAKE_WELCOME);
    struct longer welcome = say_later(&peer, SHM_LAYOUT, SHM_LAYOUT + LATER);
    struct naru_channel *ch = NULL;
    int listener = raw_listen(), pid = test_fork();

    if (pid == 0) {
        int fd = accept(listener, NULL, NULL);
        struct handshake_packet packet;
        struct handshake_message hello;

        recv_packet(fd, &packet);
        memcpy(&hello, packet.bytes, sizeof hello);
        CHECK(hello.kind == HANDSHAKE_HELLO && hello.layout == SHM_LAYOUT);
        put_message(&peer, "later");
        say(fd, &peer, &welcome);
        CHECK_INT(recv(fd, &hello, sizeof hello, 0), 0); /* until the other side has closed */
        check_message(packet.fds[HELLO_MEMORY], hello.ring, "now");
        handshake_packet_close(&packet);
        test_child_end();
    }
    CHECK_INT(naru_connect(url(), NULL, patience, &ch), 0);
    check_talk(ch);
    naru_channel_close(ch);
    test_join(pid);
    CHECK_INT(unlink(socket_path()), 0);
    close(listener);
    peer_end(&peer);
}

/* --- with none in common --- */

static const struct {
    const char *label;
    int oldest, newest; /* less ours */
} strangers[] = {{"earlier", -2, -1}, {"later", 1, LATER}};

static const char *each_stranger(size_t index)
{
    return index < sizeof strangers / sizeof *strangers ? strangers[index].label : NULL;
}

static const char *layouts_of(size_t index)
{
    return test_format("talks layouts %d to %d of shared memory, this one %d to %d",
                       SHM_LAYOUT + strangers[index].oldest, SHM_LAYOUT + strangers[index].newest, SHM_LAYOUT,
                       SHM_LAYOUT);
}

static struct longer say_strange(struct peer *peer, size_t index)
{
    return say_later(peer, (uint32_t)(SHM_LAYOUT + strangers[index].oldest),
                     (uint32_t)(SHM_LAYOUT + strangers[index].newest));
}

TEST_EACH(a_connector_of_other_layouts_is_told_ours, each_stranger)
{
    struct peer peer = honest_peer(HANDSHAKE_HELLO);
    struct longer hello = say_strange(&peer, index);
    struct naru_listener *l = listen_there("");
    struct handshake_packet packet;
    struct handshake_message word;
    int fd = raw_connect();

    say(fd, &peer, &hello);
    WAIT_UNTIL(has_hung_up(fd)); /* the word can still be read */
    recv_packet(fd, &packet);
    memcpy(&word, packet.bytes, sizeof word);
    CHECK(word.kind == HANDSHAKE_REFUSED && word.reason == REASON_VERSION && packet.fd_count == 0);
    CHECK(word.oldest <= SHM_LAYOUT && word.layout == SHM_LAYOUT);
    close(fd);
    peer_end(&peer);
    check_still_serves(l);
    naru_listener_close(l);
}

TEST_EACH(a_listener_of_other_layouts_is_named_beside_ours, each_stranger)
{
    struct peer peer = honest_peer(HANDSHAKE_WELCOME);
    struct longer welcome = say_strange(&peer, index);
    struct naru_channel *ch = NULL;
    int listener = raw_listen(), pid = test_fork();

    if (pid == 0) {
        int fd = accept(listener, NULL, NULL);
        char hello[256];

        CHECK(recv(fd, hello, sizeof hello, 0) > 0);
        say(fd, &peer, &welcome);
        test_child_end();
    }
    CHECK_INT(naru_connect(url(), NULL, patience, &ch), -EPROTO);
    CHECK_CONTAINS(naru_explain(), layouts_of(index));
    test_join(pid);
    CHECK_INT(unlink(socket_path()), 0);
    close(listener);
    peer_end(&peer);
}
