/* SPDX-License-Identifier: MIT */
/* The rendezvous of shm: against connectors that lie, bring the wrong things, or say nothing. */
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/timerfd.h>

#include "channel/shm/test-shm.h"

/* --- connectors --- */

static int limitless_memfd(unsigned flags, off_t size)
{
    int fd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING | flags);

    CHECK(fd < 0 || ftruncate(fd, size) == 0);
    return fd;
}

static void replace(int *fd, int with)
{
    if (with < 0)
        test_skip("this kernel has no such descriptor: %s", strerror(errno));
    close(*fd);
    *fd = with;
}

static void lie_about_magic(struct peer *p)
{
    p->m.magic++;
}
static void lie_about_kind(struct peer *p)
{
    p->m.kind = HANDSHAKE_WELCOME;
}
static void refuse_first(struct peer *p)
{
    p->m.kind = HANDSHAKE_REFUSED;
    p->m.reason = REASON_VERSION;
}
static void be_of_another_kind(struct peer *p)
{
    p->m.kind = UINT32_MAX;
}
static void be_too_new(struct peer *p)
{
    p->m.layout = p->m.oldest = SHM_LAYOUT + 1;
}
static void have_another_line(struct peer *p)
{
    p->m.line = 4;
}
static void announce_a_larger_ring(struct peer *p)
{
    p->m.ring *= 2;
}
static void announce_a_smaller_ring(struct peer *p)
{
    p->m.ring /= 2;
}
static void announce_no_power_of_two(struct peer *p)
{
    p->m.ring += 4096;
}
static void announce_a_huge_ring(struct peer *p)
{
    p->m.ring = 1 << 30;
}
static void announce_no_lanes(struct peer *p)
{
    p->m.lanes = 0;
}
static void announce_too_many_lanes(struct peer *p)
{
    p->m.lanes = SHM_LANES + 1;
}
static void announce_lanes_that_are_not_there(struct peer *p)
{
    p->m.lanes = 2;
}
static void map_little(struct peer *p)
{
    p->m.ring_max = 4096;
}
static void say_half(struct peer *p)
{
    p->length = sizeof p->m / 2;
}
static void say_nothing(struct peer *p)
{
    p->length = 0;
}
static void bring_nothing(struct peer *p)
{
    for (size_t i = 0; i < p->fd_count; i++)
        close(p->fds[i]);
    p->fd_count = 0;
}
static void bring_too_little(struct peer *p)
{
    close(p->fds[--p->fd_count]);
}
static void bring_to(struct peer *p, size_t count)
{
    while (p->fd_count < count) {
        p->fds[p->fd_count] = dup(p->fds[HELLO_MEMORY]);
        CHECK(p->fds[p->fd_count++] >= 0);
    }
}
static void bring_one_too_many(struct peer *p)
{
    bring_to(p, HELLO_FDS + 1);
}
static void bring_far_too_many(struct peer *p)
{
    bring_to(p, sizeof p->fds / sizeof *p->fds);
}
static void bring_loop_bells(struct peer *p, int listeners, int connectors)
{
    CHECK(listeners >= 0 && connectors >= 0);
    p->fds[HELLO_LISTENERS_LOOP_BELL] = listeners;
    p->fds[HELLO_CONNECTORS_LOOP_BELL] = connectors;
    p->fd_count = HELLO_FDS_MOST;
}
static int make_loop_bell(void)
{
    return eventfd(1, EFD_CLOEXEC);
}
static void bring_one_loop_bell(struct peer *p)
{
    p->fds[p->fd_count++] = make_loop_bell();
}
static void bring_three_loop_bells(struct peer *p)
{
    bring_loop_bells(p, make_loop_bell(), make_loop_bell());
    bring_one_loop_bell(p);
}
static void bring_a_timer_as_loop_bell(struct peer *p)
{
    bring_loop_bells(p, timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC), make_loop_bell());
}
static void bring_an_epoll_as_loop_bell(struct peer *p)
{
    bring_loop_bells(p, make_loop_bell(), epoll_create1(EPOLL_CLOEXEC));
}
/* A reader who is held up by a page fault holds up who writes. */
static void bring_pipes_as_loop_bells(struct peer *p)
{
    int pipe_fds[2];

    CHECK(pipe2(pipe_fds, O_CLOEXEC) == 0);
    bring_loop_bells(p, pipe_fds[0], pipe_fds[1]);
}
static void bring_a_file_named_like_one(struct peer *p)
{
    int fd =
        open(test_format("%s/anon_inode:[eventfd]", test_directory()), O_CREAT | O_RDWR | O_CLOEXEC, 0600);

    bring_loop_bells(p, fd, make_loop_bell());
    CHECK_INT(unlink(test_format("%s/anon_inode:[eventfd]", test_directory())), 0);
}
/* As it should be in all but its seals, so that nothing else is found wrong with it. */
static void bring_unsealed_memory(struct peer *p)
{
    int fd = limitless_memfd(0, sizeof(struct shm_page) + RING);

    CHECK_INT(posix_fallocate(fd, 0, sizeof(struct shm_page) + RING), 0);
    CHECK_INT(pwrite(fd, p->own.base, sizeof(struct shm_page), 0), sizeof(struct shm_page));
    replace(&p->fds[HELLO_MEMORY], fd);
}
static void bring_half_sealed_memory(struct peer *p)
{
    bring_unsealed_memory(p);
    CHECK(fcntl(p->fds[HELLO_MEMORY], F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0);
}
/* As it should be, but for the descriptor, of which nothing can be mapped. */
static void bring_memory_for_writing_only(struct peer *p)
{
    replace(&p->fds[HELLO_MEMORY],
            open(test_format("/proc/self/fd/%d", p->fds[HELLO_MEMORY]), O_WRONLY | O_CLOEXEC));
}
static void bring_memory_that_nobody_writes(struct peer *p)
{
    bring_unsealed_memory(p);
    CHECK(fcntl(p->fds[HELLO_MEMORY], F_ADD_SEALS,
                F_SEAL_WRITE | F_SEAL_FUTURE_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0);
}
static void bring_huge_pages(struct peer *p)
{
    int fd = limitless_memfd(MFD_HUGETLB, 2 << 20);

    replace(&p->fds[HELLO_MEMORY], fd);
    CHECK(fcntl(fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0);
}
static void bring_a_file(struct peer *p)
{
    replace(&p->fds[HELLO_MEMORY], open(test_directory(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
    CHECK(ftruncate(p->fds[HELLO_MEMORY], sizeof(struct shm_page) + RING) == 0);
}
static void bring_a_socket_as_memory(struct peer *p)
{
    replace(&p->fds[HELLO_MEMORY], socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
}
static void bring_a_file_of_proc(struct peer *p)
{
    replace(&p->fds[HELLO_MEMORY], open("/proc/self/mem", O_RDWR | O_CLOEXEC));
}
/* A descriptor that nothing can be done with: open(2), O_PATH. */
static void bring_a_mere_path(struct peer *p)
{
    replace(&p->fds[HELLO_MEMORY], open(test_directory(), O_PATH | O_CLOEXEC));
}
static void bring_an_event_as_memory(struct peer *p)
{
    replace(&p->fds[HELLO_MEMORY], eventfd(0, EFD_CLOEXEC));
}
static void bring_another_layout(struct peer *p)
{
    ((struct shm_page *)(void *)p->own.base)->layout++;
}
static void bring_another_magic(struct peer *p)
{
    ((struct shm_page *)(void *)p->own.base)->magic = 0;
}
static void bring_a_pipe_as_bell(struct peer *p)
{
    int pipe_fds[2];

    CHECK(pipe2(pipe_fds, O_CLOEXEC) == 0);
    replace(&p->fds[HELLO_RECEIVER_BELL], pipe_fds[0]);
    close(pipe_fds[1]);
}
static void bring_a_datagram_bell(struct peer *p)
{
    int pair[2];

    CHECK(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, pair) == 0);
    replace(&p->fds[HELLO_SENDER_BELL], pair[0]);
    close(pair[1]);
}
static void bring_a_network_bell(struct peer *p)
{
    replace(&p->fds[HELLO_SENDER_BELL], socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
}
static void bring_a_lone_bell(struct peer *p)
{
    replace(&p->fds[HELLO_RECEIVER_BELL], socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
}

static const struct {
    const char *label;
    void (*lie)(struct peer *peer);
    enum handshake_reason reason;
} lies[] = {
    {"another magic number", lie_about_magic, REASON_PROTOCOL},
    {"a WELCOME", lie_about_kind, REASON_PROTOCOL},
    {"a REFUSED", refuse_first, REASON_PROTOCOL},
    {"an unknown kind", be_of_another_kind, REASON_PROTOCOL},
    {"too new", be_too_new, REASON_VERSION},
    {"another cache line", have_another_line, REASON_VERSION},
    {"larger than it is", announce_a_larger_ring, REASON_PROTOCOL},
    {"smaller than it is", announce_a_smaller_ring, REASON_PROTOCOL},
    {"no power of two", announce_no_power_of_two, REASON_PROTOCOL},
    {"a gigabyte", announce_a_huge_ring, REASON_SIZE},
    {"no lanes", announce_no_lanes, REASON_PROTOCOL},
    {"nine lanes", announce_too_many_lanes, REASON_PROTOCOL},
    {"lanes that are not there", announce_lanes_that_are_not_there, REASON_PROTOCOL},
    {"maps little", map_little, REASON_SIZE},
    {"half a word", say_half, REASON_PROTOCOL},
    {"no word", say_nothing, REASON_PROTOCOL},
    {"no descriptors", bring_nothing, REASON_PROTOCOL},
    {"two descriptors", bring_too_little, REASON_PROTOCOL},
    {"four descriptors", bring_one_too_many, REASON_PROTOCOL},
    {"64 descriptors", bring_far_too_many, REASON_PROTOCOL},
    {"one loop bell", bring_one_loop_bell, REASON_PROTOCOL},
    {"three loop bells", bring_three_loop_bells, REASON_PROTOCOL},
    {"a timer as loop bell", bring_a_timer_as_loop_bell, REASON_PROTOCOL},
    {"an epoll as loop bell", bring_an_epoll_as_loop_bell, REASON_PROTOCOL},
    {"pipes as loop bells", bring_pipes_as_loop_bells, REASON_PROTOCOL},
    {"a file named like one", bring_a_file_named_like_one, REASON_PROTOCOL},
    {"unsealed", bring_unsealed_memory, REASON_PROTOCOL},
    {"a file of proc", bring_a_file_of_proc, REASON_PROTOCOL},
    {"a mere path", bring_a_mere_path, REASON_PROTOCOL},
    {"an event as memory", bring_an_event_as_memory, REASON_PROTOCOL},
    {"half sealed", bring_half_sealed_memory, REASON_PROTOCOL},
    {"for writing only", bring_memory_for_writing_only, REASON_PROTOCOL},
    {"written by nobody", bring_memory_that_nobody_writes, REASON_PROTOCOL},
    {"huge pages", bring_huge_pages, REASON_PROTOCOL},
    {"a file", bring_a_file, REASON_PROTOCOL},
    {"a socket as memory", bring_a_socket_as_memory, REASON_PROTOCOL},
    {"another layout", bring_another_layout, REASON_PROTOCOL},
    {"another page", bring_another_magic, REASON_PROTOCOL},
    {"a pipe as bell", bring_a_pipe_as_bell, REASON_PROTOCOL},
    {"a datagram bell", bring_a_datagram_bell, REASON_PROTOCOL},
    {"a network bell", bring_a_network_bell, REASON_PROTOCOL},
    {"a lone bell", bring_a_lone_bell, REASON_PROTOCOL},
};

static const char *each_lie(size_t index)
{
    return index < sizeof lies / sizeof *lies ? lies[index].label : NULL;
}

static void expect_refusal(int fd, enum handshake_reason reason)
{
    struct handshake_message mine = handshake_make(HANDSHAKE_HELLO, RING), word;
    struct handshake_packet packet;

    WAIT_UNTIL(has_hung_up(fd)); /* the word can still be read */
    fork_hold();
    CHECK_INT(handshake_recv(fd, &packet), 0);
    CHECK_INT(handshake_read(packet.bytes, packet.length, &mine, &word), REASON_NONE);
    CHECK_INT(word.kind, HANDSHAKE_REFUSED);
    CHECK_INT(word.reason, reason);
    CHECK_INT(packet.fd_count, 0);
    CHECK_INT(handshake_recv(fd, &packet), -EPIPE);
    fork_release();
}

static void lie_to(const char *query, const struct peer *peer, enum handshake_reason reason)
{
    struct naru_listener *l = listen_there(query);
    struct naru_channel *ch = NULL;
    int fd = raw_connect();

    say(fd, peer, NULL);
    if (*query) { /* nobody else answers */
        CHECK(test_is_readable(naru_listener_fd(l)));
        CHECK_INT(naru_accept(l, NARU_NOWAIT, &ch), -EAGAIN);
    }
    expect_refusal(fd, reason);
    CHECK_INT(naru_accept(l, NARU_NOWAIT, &ch), -EAGAIN);
    CHECK(ch == NULL && !test_is_readable(naru_listener_fd(l)));
    close(fd);
    check_still_serves(l);
    naru_listener_close(l);
}

TEST_EACH(a_liar_is_refused_and_the_next_one_served, each_lie)
{
    size_t before = open_descriptors();
    struct peer peer = honest_peer(HANDSHAKE_HELLO);

    lies[index].lie(&peer); /* which may skip the test */
    lie_to("?service=manual", &peer, lies[index].reason);
    lie_to("", &peer, lies[index].reason);
    peer_end(&peer);
    WAIT_UNTIL(open_descriptors() == before);
}

/* Where the peer says that it hears its loop's, that one is rung: one is taken of it. */
TEST(a_peer_with_loop_bells_is_rung_there)
{
    struct peer peer = honest_peer(HANDSHAKE_HELLO);
    struct naru_listener *l = listen_there("?service=manual&ring=16k");
    struct shm_page *page = (struct shm_page *)(void *)peer.own.base;
    struct naru_channel *ch = NULL;
    int fd = raw_connect();

    bring_loop_bells(&peer, make_loop_bell(), make_loop_bell());
    say(fd, &peer, NULL);
    CHECK_INT(naru_accept(l, NARU_NOWAIT, &ch), 0);
    for (uint32_t i = 0; i < 3; i++) { /* the first ring empties it */
        atomic_store(&page->receiver_asleep, (i + 1) | WAKEUP_LOOP);
        CHECK_INT(naru_send(ch, "x", 1, NARU_NOWAIT), 0);
        CHECK(!test_is_readable(peer.fds[HELLO_CONNECTORS_LOOP_BELL]));
        CHECK(test_is_readable(peer.fds[HELLO_LISTENERS_LOOP_BELL]));
        CHECK_INT(test_is_readable(peer.ends[0]), i > 0);
    }
    naru_channel_close(ch);
    naru_listener_close(l);
    close(fd);
    peer_end(&peer);
}

TEST(an_honest_peer_is_welcome_and_known)
{
    struct naru_channel_info info = NARU_INIT(struct naru_channel_info);
    struct peer peer = honest_peer(HANDSHAKE_HELLO);
    struct naru_listener *l = listen_there("?service=manual&ring=16k");
    struct handshake_message mine = handshake_make(HANDSHAKE_HELLO, RING), word;
    struct handshake_packet packet;
    struct naru_channel *ch = NULL;
    struct sealed theirs;
    int fd = raw_connect();

    say(fd, &peer, NULL);
    CHECK_INT(naru_accept(l, NARU_NOWAIT, &ch), 0);
    fork_hold();
    CHECK_INT(handshake_recv(fd, &packet), 0);
    fork_release();
    CHECK_INT(handshake_read(packet.bytes, packet.length, &mine, &word), REASON_NONE);
    CHECK(word.kind == HANDSHAKE_WELCOME && packet.fd_count == WELCOME_FDS && word.ring == 16 * 1024);
    CHECK_INT(shm_link_attach("test", packet.fds[0], word.ring, 0, &theirs), 0);
    CHECK_INT(naru_channel_info(ch, &info), 0);
    CHECK(info.peer.pid == getpid() && info.peer.uid == geteuid() && info.peer.gid == getegid());
    sealed_deinit(&theirs);
    handshake_packet_close(&packet);
    close(fd);
    peer_end(&peer); /* without a word, as the dead do */
    CHECK_INT(naru_recv(ch, NULL, 0, patience), -EOWNERDEAD);
    CHECK_INT(naru_send(ch, "x", 1, patience), -EOWNERDEAD);
    naru_channel_close(ch);
    naru_listener_close(l);
}
