/* SPDX-License-Identifier: MIT */
/*
 * What shared memory can do when both sides spin, each with one copy in and one copy out:
 *
 *  - lines: two cache lines bounced between two CPUs, one each way. Nothing can be faster than that.
 *  - guarded: the same, with the line that is read mapped for reading alone, as naru's receivers map theirs:
 *    a processor may fetch such a line in another way.
 *  - slots: the control, a plain ring of 256 slots of a line each with a head and a tail; larger messages
 *    take several slots. The length of a message is known beforehand and not carried.
 *  - ring: the bare ring, what shm/ring.h does (the commit is the record's header, the next header is zeroed
 *    before, lines are claimed ahead) and nothing else: one mapping for both sides, no checks of what
 *    is found in it, nobody who sleeps, no end, no counters.
 */
#include <errno.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bench/floor-copy.h"
#include "bench/floor.h"

enum {
    LINE = 64,
    SLOTS = 256,
    RING = 256 * 1024, /* as naru's default */
    HEADER = 8,
    CLAIM = 4 * LINE,
    PATIENCE = 1 << 14 /* looks, before whoever waits lets others run: a peer that shares the CPU must */
};

struct line {
    _Alignas(LINE) _Atomic uint64_t number;
    uint8_t payload[LINE - sizeof(uint64_t)];
};

/* A direction's memory; data is behind it. */
struct area {
    struct line line;
    _Alignas(LINE) _Atomic uint64_t head;
    _Alignas(LINE) _Atomic uint64_t tail;
};

enum { PAGE = 4096 };

struct link {
    const struct load *load;
    uint8_t *base;           /* of both directions */
    size_t data;             /* bytes of each direction's ring or slots */
    size_t whole;            /* address space of a direction */
    struct area *tx, *rx;    /* in a child */
    uint8_t *out, *in;       /* their data */
    uint64_t sent, received; /* messages, slots or bytes */
    uint64_t seen;           /* the peer's tail */
    uint64_t slots;          /* of a message */
};

static void wait_a_look(unsigned *looks)
{
    if (++*looks % PATIENCE == 0)
        (void)sched_yield();
}

/* A page, then the data, twice in a row. */
static int map_direction(uint8_t *base, size_t data)
{
    int fd = memfd_create("naru-bench", MFD_CLOEXEC), protection = PROT_READ | PROT_WRITE;
    int flags = MAP_SHARED | MAP_FIXED | MAP_POPULATE, r = 0;

    if (fd < 0)
        return duo_fail_errno("memfd_create");
    if (ftruncate(fd, (off_t)(PAGE + data)) < 0 ||
        mmap(base, PAGE + data, protection, flags, fd, 0) == MAP_FAILED ||
        mmap(base + PAGE + data, data, protection, flags, fd, PAGE) == MAP_FAILED)
        r = duo_fail_errno("mmap");
    (void)close(fd);
    return r;
}

static void close_link(struct link *link)
{
    if (link->base)
        (void)munmap(link->base, 2 * link->whole);
    free(link);
}

static int open_with(const struct load *load, size_t data, struct link **ret_link)
{
    struct link *link = calloc(1, sizeof *link);
    void *base;
    int r;

    if (!link)
        return duo_fail(-ENOMEM, "out of memory");
    link->load = load;
    link->data = data;
    link->whole = PAGE + 2 * data;
    base = mmap(NULL, 2 * link->whole, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED) {
        r = duo_fail_errno("mmap");
        close_link(link);
        return r;
    }
    link->base = base;
    r = map_direction(link->base, data);
    if (r == 0)
        r = map_direction(link->base + link->whole, data);
    if (r < 0)
        close_link(link);
    else
        *ret_link = link;
    return r;
}

static int attach(struct link *link, enum duo_side side)
{
    uint8_t *there = link->base, *back = link->base + link->whole;
    uint8_t *tx = side == DUO_NEAR ? there : back, *rx = side == DUO_NEAR ? back : there;

    link->tx = (struct area *)(void *)tx;
    link->rx = (struct area *)(void *)rx;
    link->out = tx + PAGE;
    link->in = rx + PAGE;
    return 0;
}

/* What comes from the other side cannot be written here. */
static int attach_guarded(struct link *link, enum duo_side side)
{
    int r = attach(link, side);

    return r == 0 && mprotect(link->rx, link->whole, PROT_READ) < 0 ? duo_fail_errno("mprotect") : r;
}

/* --- two lines --- */

static int open_lines(const struct carrier *carrier, const struct load *load, struct link **ret_link)
{
    (void)carrier;
    return open_with(load, PAGE, ret_link);
}

static int send_line(struct link *link, const void *data, size_t length)
{
    struct line *line = &link->tx->line;

    floor_copy(line->payload, data, length);
    atomic_store_explicit(&line->number, ++link->sent, memory_order_release);
    return 0;
}

static ssize_t recv_line(struct link *link, void *buffer, size_t capacity, const void **ret_data)
{
    struct line *line = &link->rx->line;
    unsigned looks = 0;

    (void)capacity;
    while (atomic_load_explicit(&line->number, memory_order_acquire) == link->received)
        wait_a_look(&looks);
    link->received++;
    floor_copy(buffer, line->payload, link->load->size);
    *ret_data = buffer;
    return (ssize_t)link->load->size;
}

/* --- head and tail --- */

/* Slots of a message: a power of two, so that a message never runs over the end. */
static size_t slots_of(size_t size)
{
    size_t slots = 1;

    while (slots * LINE < size)
        slots *= 2;
    return slots;
}

static int open_slots(const struct carrier *carrier, const struct load *load, struct link **ret_link)
{
    size_t slots = slots_of(load->size), all = 4 * slots > SLOTS ? 4 * slots : SLOTS;
    int r = open_with(load, all * LINE, ret_link);

    (void)carrier;
    if (r == 0)
        (*ret_link)->slots = slots;
    return r;
}

static int send_slots(struct link *link, const void *data, size_t length)
{
    uint64_t head = link->sent, count = link->data / LINE;
    unsigned looks = 0;

    while (head + link->slots - atomic_load_explicit(&link->tx->tail, memory_order_acquire) > count)
        wait_a_look(&looks);
    floor_copy(link->out + (head & (count - 1)) * LINE, data, length);
    link->sent = head + link->slots;
    atomic_store_explicit(&link->tx->head, link->sent, memory_order_release);
    return 0;
}

static ssize_t recv_slots(struct link *link, void *buffer, size_t capacity, const void **ret_data)
{
    uint64_t tail = link->received, count = link->data / LINE;
    unsigned looks = 0;

    (void)capacity;
    while (atomic_load_explicit(&link->rx->head, memory_order_acquire) == tail)
        wait_a_look(&looks);
    floor_copy(buffer, link->in + (tail & (count - 1)) * LINE, link->load->size);
    link->received = tail + link->slots;
    atomic_store_explicit(&link->rx->tail, link->received, memory_order_release);
    *ret_data = buffer;
    return (ssize_t)link->load->size;
}

/* --- in band --- */

static int open_ring(const struct carrier *carrier, const struct load *load, struct link **ret_link)
{
    (void)carrier;
    return open_with(load, RING, ret_link);
}

static inline uint64_t record_bytes(uint64_t length)
{
    uint64_t bytes = HEADER + length;

    if (bytes > LINE)
        return (bytes + 7) & ~UINT64_C(7);
    return bytes <= 16 ? 16 : bytes <= 32 ? 32 : LINE;
}

static inline _Atomic uint64_t *header_at(uint8_t *data, uint64_t position)
{
    return (_Atomic uint64_t *)(void *)(data + (position & (RING - 1)));
}

/* As ring_claim() in shm/ring.h, of which this is faster than any distance of prefetching. */
static void claim(struct link *link, uint64_t position, uint64_t next)
{
    uint64_t block = (next & ~(uint64_t)(CLAIM - 1)) + CLAIM;

    if ((position ^ next) < CLAIM || next - position > CLAIM / 2 || block + CLAIM - link->seen > RING)
        return;
    for (uint64_t line = 0; line < CLAIM; line += LINE)
        atomic_store_explicit(header_at(link->out, block + line), 0, memory_order_relaxed);
    atomic_signal_fence(memory_order_seq_cst);
}

static int send_record(struct link *link, const void *data, size_t length)
{
    uint64_t position = link->sent, next = position + record_bytes(length);
    unsigned looks = 0;

    while (next + HEADER - link->seen > RING) {
        link->seen = atomic_load_explicit(&link->tx->tail, memory_order_acquire);
        wait_a_look(&looks);
    }
    atomic_store_explicit(header_at(link->out, next), 0, memory_order_relaxed);
    atomic_signal_fence(memory_order_seq_cst); /* in this order: see ring_put() in shm/ring.h */
    floor_copy(link->out + (position & (RING - 1)) + HEADER, data, length);
    atomic_store_explicit(header_at(link->out, position), length, memory_order_release);
    link->sent = next;
    claim(link, position, next);
    return 0;
}

static ssize_t recv_record(struct link *link, void *buffer, size_t capacity, const void **ret_data)
{
    _Atomic uint64_t *header = header_at(link->in, link->received);
    unsigned looks = 0;
    uint64_t length;

    while ((length = atomic_load_explicit(header, memory_order_acquire)) == 0)
        wait_a_look(&looks);
    if (length > capacity)
        return duo_fail(-EMSGSIZE, "%llu bytes do not fit", (unsigned long long)length);
    floor_copy(buffer, (const uint8_t *)header + HEADER, length);
    link->received += record_bytes(length);
    atomic_store_explicit(&link->rx->tail, link->received, memory_order_release);
    *ret_data = buffer;
    return (ssize_t)length;
}

const struct carrier floor_shm_lines = {.mechanism = "shm-lines",
                                        .max_message = LINE - sizeof(uint64_t),
                                        .answers = true,
                                        .open = open_lines,
                                        .attach = attach,
                                        .close = close_link,
                                        .send = send_line,
                                        .recv = recv_line};
const struct carrier floor_shm_guarded = {.mechanism = "shm-guarded",
                                          .max_message = LINE - sizeof(uint64_t),
                                          .answers = true,
                                          .open = open_lines,
                                          .attach = attach_guarded,
                                          .close = close_link,
                                          .send = send_line,
                                          .recv = recv_line};
const struct carrier floor_shm_slots = {.mechanism = "shm-slots",
                                        .open = open_slots,
                                        .attach = attach,
                                        .close = close_link,
                                        .send = send_slots,
                                        .recv = recv_slots};
const struct carrier floor_shm_ring = {.mechanism = "shm-ring",
                                       .max_message = RING / 2 - 2 * HEADER,
                                       .open = open_ring,
                                       .attach = attach,
                                       .close = close_link,
                                       .send = send_record,
                                       .recv = recv_record};
