/* SPDX-License-Identifier: MIT */
/*
 * The words that two sides of shm: say to each other before they share memory, over a unix seqpacket socket:
 *
 *     connector -> listener   HELLO    with its memory, the listener's ends of two bells, two more for loops
 *     listener -> connector   WELCOME  with its memory; of another user's: the connector's ends of two bells
 *                          or REFUSED  with a reason
 *
 * and then the socket stays open, for descriptors (fds.c). Every word is one struct handshake_message. A
 * later naru may add to its end: what is longer is read as far as it is known here. What comes is input, from
 * whoever may open the socket.
 *
 * A connector keeps copies of what it passes, if it likes, and the kernel has a mutex for each socket's
 * readers: one that reads the listener's end of a bell into memory whose page fault nobody answers
 * (userfaultfd(2), FUSE) would hold up the listener's recv(2) where no signal reaches. So a listener sleeps
 * in what came with the HELLO only where the connector is its own user, who could stop it otherwise, too. For
 * others it makes bells of its own, keeps their ends for itself, and only rings the connector's. That
 * connector sleeps in ends it has made.
 */
#ifndef NARU_CHANNEL_SHM_HANDSHAKE_H
#define NARU_CHANNEL_SHM_HANDSHAKE_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* "naruhi" and two zero bytes, as a little-endian machine reads them. */
#define HANDSHAKE_MAGIC UINT64_C(0x000069687572616e)

enum handshake_kind { HANDSHAKE_HELLO = 1, HANDSHAKE_WELCOME = 2, HANDSHAKE_REFUSED = 3 };

enum handshake_reason {
    REASON_NONE = 0,
    REASON_PROTOCOL = 1,   /* what came was no such word, or came with other descriptors */
    REASON_VERSION = 2,    /* the two know no layout in common */
    REASON_SIZE = 3,       /* one's ring is larger than the other maps */
    REASON_PERMISSION = 4, /* the allow-list does not have the peer */
    REASON_TYPE = 6,       /* the payloads are of another type */
    REASON_SHORT = 5       /* the listener is short of memory or descriptors: worth another try */
};

/* Of the payloads; all 0: not said. */
struct handshake_type {
    uint64_t bytes;
    uint32_t alignment, version;
    char name[48]; /* ends with a 0 */
};

struct handshake_message {
    uint64_t magic;
    uint32_t kind;   /* enum handshake_kind */
    uint32_t reason; /* enum handshake_reason, of REFUSED */
    /* The layouts of shared memory (SHM_LAYOUT) that this side can talk. */
    uint32_t layout, oldest;
    uint32_t line, page; /* SHM_LINE, SHM_PAGE */
    uint64_t ring;       /* bytes of the ring that it sends in */
    uint64_t ring_max;   /* the most of the other side's rings, all together, that it maps */
    struct handshake_type type;
    uint64_t pool_max; /* the largest pool of the other side that it maps */
    uint32_t lanes;    /* rings that it sends in, each of that size */
    uint32_t cpu;      /* the only one that its thread may run on, counted from 1; 0: it has several */
};

static_assert(sizeof(struct handshake_message) == 128, "wire format");
static_assert(offsetof(struct handshake_message, magic) == 0, "wire format");
static_assert(offsetof(struct handshake_message, kind) == 8, "wire format");
static_assert(offsetof(struct handshake_message, reason) == 12, "wire format");
static_assert(offsetof(struct handshake_message, layout) == 16, "wire format");
static_assert(offsetof(struct handshake_message, oldest) == 20, "wire format");
static_assert(offsetof(struct handshake_message, line) == 24, "wire format");
static_assert(offsetof(struct handshake_message, page) == 28, "wire format");
static_assert(offsetof(struct handshake_message, ring) == 32, "wire format");
static_assert(offsetof(struct handshake_message, ring_max) == 40, "wire format");
static_assert(offsetof(struct handshake_message, type) == 48, "wire format");
static_assert(offsetof(struct handshake_type, alignment) == 8, "wire format");
static_assert(offsetof(struct handshake_type, version) == 12, "wire format");
static_assert(offsetof(struct handshake_type, name) == 16, "wire format");
static_assert(offsetof(struct handshake_message, pool_max) == 112, "wire format");
static_assert(offsetof(struct handshake_message, lanes) == 120, "wire format");
static_assert(offsetof(struct handshake_message, cpu) == 124, "wire format");

/* Descriptors, in this order. */
enum { HELLO_MEMORY, HELLO_RECEIVER_BELL, HELLO_SENDER_BELL, HELLO_FDS };
/* And behind them both or none of the bells for event loops: in which the listener's receiver, or the
 * connector's, is rung. */
enum { HELLO_LISTENERS_LOOP_BELL = HELLO_FDS, HELLO_CONNECTORS_LOOP_BELL, HELLO_FDS_MOST };
/* And behind it both bells or none: in which the connector rings the listener's receiver and sender. */
enum {
    WELCOME_MEMORY,
    WELCOME_FDS,
    WELCOME_RECEIVER_BELL = WELCOME_FDS,
    WELCOME_SENDER_BELL,
    WELCOME_FDS_MOST
};

/* In one packet: SCM_MAX_FD of include/net/scm.h. There is room for all, so that it is we who close them. */
enum { HANDSHAKE_FDS_MAX = 253 };

/* A word as it came. */
struct handshake_packet {
    uint8_t bytes[256];
    size_t length; /* more than there is room for: SIZE_MAX */
    int fds[HANDSHAKE_FDS_MAX];
    size_t fd_count;
    bool fds_lost; /* some were sent for which there was no room in this process */
};

/* How long a listener waits for a HELLO: a second, in nanoseconds. Only tests change it, which want to come
 * late. */
extern int64_t handshake_hello_within;

/* What this side says of itself, with a ring of its own of that size. */
struct handshake_message handshake_make(enum handshake_kind kind, uint64_t ring);

/* Reads a word. own: what this side says. REASON_NONE: *ret_m is a REFUSED, or a HELLO or WELCOME with which
 * own can go on; otherwise why not, and *ret_m is what there was to read (zero if nothing). Asks nothing of
 * the kernel. */
enum handshake_reason handshake_read(const void *bytes, size_t length, const struct handshake_message *own,
                                     struct handshake_message *ret_m);

/* Sends a word with descriptors, without waiting. 0 or -errno (no sentence). */
int handshake_send(int fd, const struct handshake_message *m, const int *fds, size_t count);

/* Sends a REFUSED; whether it arrives is the peer's business. */
void handshake_refuse(int fd, enum handshake_reason reason, const struct handshake_message *own);

/* Receives a word without waiting. Forks are held off. 0: the packet's descriptors are to be closed by
 * handshake_packet_close(). -EAGAIN: nothing yet; -EPIPE: the peer has closed; -errno (no sentence). */
int handshake_recv(int fd, struct handshake_packet *ret_packet);

/* Closes the descriptors that have not been stolen from it. */
void handshake_packet_close(struct handshake_packet *packet);

/* Before that. 0, or the explained -EMFILE: it might bring more descriptors whose closing waits than there
 * may be (base/discard.h). What stays unread flushes nothing. */
int handshake_check_discards(const char *what);

/* What comes next, without taking it. Nobody else reads there, so handshake_recv() takes what was seen. */
enum handshake_next {
    NEXT_NOTHING,
    NEXT_WORD,   /* or the end, or whatever handshake_recv() says of it */
    NEXT_STRANGE /* of a program that does not talk this at all: bytes that do not begin as a word does, and
                    no descriptors. It stays there, unread, so that the kernel tells its sender when this side
                    hangs up */
};
enum handshake_next handshake_look(int fd);

/* Closes the socket, and every descriptor that still is on its way to it, without waiting. Forks are held
 * off. Returns -1. */
int handshake_hang_up(int fd);

/* Whether a unix socket takes descriptors. Since Linux 6.16; the number that x86, Arm, RISC-V and most others
 * have (asm-generic/socket.h). */
#ifndef SO_PASSRIGHTS
#define SO_PASSRIGHTS 83
#endif

/* From now on no descriptors can be sent to it, whose closing might wait, where the kernel knows how. One
 * that we have made, or that somebody of our own user has passed. */
void handshake_bar_bell(int fd);

/* Whether a descriptor can be a bell: a connected unix stream socket with nothing in it. own: somebody of our
 * own user has passed it; then it is barred. setsockopt(2) waits for the socket's lock, which whoever has a
 * copy can hold, by an option that stands in a page that never comes: of others it is not asked. */
bool handshake_is_bell(int fd, bool own);

/* Closes one that somebody else has passed, and may have put something into: without waiting for that. Forks
 * are held off. Returns -1. */
int handshake_close_bell(int fd);

/* The explained -errno for a reason, found here or told by the other side's REFUSED (theirs; own otherwise
 * compares with it). what: the URL. */
int handshake_failed(const char *what, enum handshake_reason reason, const struct handshake_message *own,
                     const struct handshake_message *theirs);

#endif
