/* SPDX-License-Identifier: MIT */
/*
 * The orders of src/shm/ring.h, wakeup.h and link.h under C11's memory model, by relacy: these very files, compiled
 * as C++ over a stdatomic.h whose words are relacy's, so there is no transcription that could fall behind. A load
 * may see what is no longer the last store, if nothing orders it; a payload that is read or written while its
 * other side may be at it is a data race, and found as one. The kernel's part (membarrier(2), a socket) is modelled
 * below.
 *
 * weak-memory CHECK membarrier|fence|refused [BROKEN]. CHECK: one of the table's at the end. membarrier, fence: what the
 * waker relies on (with fence, the sleeper's call succeeds and reaches nobody); refused: the waker relies on
 * membarrier(2), which fails, so its sleeper settles before it looks. BROKEN: the tag of an access of the sources whose order is relaxed in this run (tools/check-models
 * puts tagged() there), or `membarrier`, `fence` or `settle`, which then does nothing. 0: all was right; 1: not; 2: misuse.
 */
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <iostream>
#include <linux/membarrier.h>
#include <poll.h>
#include <relacy/relacy.hpp>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#undef errno /* relacy has one of its own */
#define errno (*__errno_location())
#define _Alignas alignas

static const char *broken = "";
static bool was_broken;

bool is_broken(const char *what)
{
    if (strcmp(broken, what) != 0)
        return false;
    was_broken = true;
    return true;
}

/* ---- What stands for the kernel ---- */

static bool registered; /* the waker's process, so that membarrier(2) reaches it */
static bool refused;    /* that it calls membarrier(2) */
static int rung;        /* bytes written to the socket */

static long model_membarrier(int command)
{
    if (command != MEMBARRIER_CMD_GLOBAL_EXPEDITED)
        return registered ? 0 : -1;
    if (refused)
        return -1;
    if (registered && !is_broken("membarrier"))
        rl::systemwide_fence($);
    return 0;
}

/* By the end of sleeper_settle() what the other side stored is in memory. */
static int model_settle()
{
    if (!is_broken("settle"))
        rl::systemwide_fence($);
    return 0;
}

static ssize_t model_send()
{
    rung++;
    return 1;
}

#define syscall(number, command, ...) model_membarrier(command)
#define send(...)                     model_send()
#define clock_nanosleep(...)          model_settle()
#define WAKER_FENCES                  1
#define recv(...)                     (errno = EAGAIN, (ssize_t)-1) /* no check sleeps in fact */

#include "stdatomic.h"

/* What none of the checks calls needs more of the library; the linker leaves it out (--gc-sections). */
#include "shm/flat.c"
#include "shm/link.c"
#include "shm/ring.c"
#include "shm/wakeup.c"

/* Bells that are words are none of these checks, nor is a kernel that has no memory for a byte. */
void bell_ring(struct waker *)
{
    abort();
}

int64_t clock_now(void)
{
    abort();
}

/* Nor is anybody asked after. */
uint32_t clock_tick(void)
{
    return 0;
}

int fd_poll(struct pollfd *, size_t, int64_t)
{
    abort();
}

/* ---- The memory ---- */

static rl::atomic<uint64_t> *cell_model_of(const void *address);

enum { RING = 64, CELLS = RING / 8, SENDER = 0, RECEIVER = 1 };

/* What a side's memory holds: the addresses, which the sources compute with. */
struct side_memory {
    struct shm_page page;
    uint8_t ring[2 * RING];
};
static side_memory memory[2];

/* What is in it, as far as two threads meet there. An old payload may pass for a header. */
struct model {
    rl::atomic<uint64_t> word[CELLS], taken, receiver_asleep, sender_asleep, sender_fences, end[2];
    rl::var<uint64_t> payload[CELLS];
};
static model *model;

static int cell_of(const void *address)
{
    return (int)(((const uint8_t *)address - memory[SENDER].ring) % RING / 8);
}

rl::atomic<uint64_t> *model_of(const void *address)
{
    const uint8_t *byte = (const uint8_t *)address;

    if (byte >= memory[SENDER].ring && byte < memory[SENDER].ring + RING)
        return &model->word[cell_of(address)];
    if (address == &memory[RECEIVER].page.lane[0].taken)
        return &model->taken;
    if (address == &memory[RECEIVER].page.receiver_asleep)
        return &model->receiver_asleep;
    if (address == &memory[SENDER].page.sender_asleep)
        return &model->sender_asleep;
    if (address == &memory[SENDER].page.sender_fences)
        return &model->sender_fences;
    for (int side = 0; side < 2; side++)
        if (address == &memory[side].page.end)
            return &model->end[side];
    return cell_model_of(address);
}

static void write_payload(uint8_t *payload, uint32_t length, uint64_t value)
{
    for (uint32_t i = 0; i < length; i += 8) {
        int cell = cell_of(payload + i);

        model->payload[cell]($) = value;
        model->word[cell].store(record_word(RECORD_DATA, 8), rl::mo_relaxed, $);
    }
}

static void check_payload(const ring_record *record, uint64_t value)
{
    for (uint32_t i = 0; i < record->length; i += 8)
        RL_ASSERT((uint64_t)model->payload[cell_of(record->data + i)]($) == value);
}

/* ---- The two sides ---- */

/* As an event loop, before its last look. */
static void go_to_sleep(struct sleeper *s)
{
    sleeper_arm(s);
    sleeper_settle(s);
}

/* Every check's beginning: a link from side 0 to side 1 over memory that is all zero. */
template <typename check> struct over_a_link : rl::test_suite<check, 2> {
    struct model m;
    struct shm_link link[2];

    void before()
    {
        memset(memory, 0, sizeof memory);
        model = &m;
        rung = 0;
        for (int i = 0; i < CELLS; i++) {
            m.word[i].store(0, rl::mo_relaxed, $);
            m.payload[i]($) = 0;
        }
        for (rl::atomic<uint64_t> *word :
             {&m.taken, &m.receiver_asleep, &m.sender_asleep, &m.sender_fences, &m.end[0], &m.end[1]})
            word->store(0, rl::mo_relaxed, $);
        for (int side = 0; side < 2; side++) {
            sealed own = seal(side), theirs = seal(!side);

            shm_link_init(&link[side], &own, &theirs, 3, 4);
            shm_link_claim(&link[side]);
        }
    }

    static sealed seal(int side)
    {
        sealed s = {};

        s.base = (uint8_t *)&memory[side];
        s.plain = sizeof(struct shm_page);
        s.ring = RING;
        return s;
    }

    /* Whether there was room. */
    bool send_one(uint32_t length, uint64_t value)
    {
        uint8_t *payload;
        enum ring_state state = ring_reserve(&link[SENDER].tx, length, &payload);

        RL_ASSERT(state != RING_BROKEN);
        if (state != RING_OK)
            return false;
        write_payload(payload, length, value);
        ring_commit(&link[SENDER].tx, RECORD_DATA, length);
        waker_published(&link[SENDER].their_receiver);
        return true;
    }

    bool receive_one(uint64_t value)
    {
        ring_record record;
        enum ring_state state = ring_peek(&link[RECEIVER].rx, &record);

        RL_ASSERT(state != RING_BROKEN);
        if (state != RING_OK)
            return false;
        check_payload(&record, value);
        ring_release(&link[RECEIVER].rx, record.length);
        waker_published(&link[RECEIVER].their_sender);
        return true;
    }
};

/* Commit and position: records of both lengths, twice round the ring. */
struct records : over_a_link<records> {
    enum { COUNT = 6 };

    void thread(unsigned side)
    {
        for (uint64_t i = 1; i <= COUNT; i++)
            while (!(side == SENDER ? send_one(i % 2 ? 16 : 8, i) : receive_one(i)))
                rl::yield(1, $);
    }
};

/* Batches of two, round and round the ring: who sees the first sees the other. */
struct batches : over_a_link<batches> {
    enum { COUNT = 6 };

    bool send_two(uint64_t value)
    {
        struct ring_writer *tx = &link[SENDER].tx;
        struct ring_batch batch = ring_batch_begin(tx);
        uint8_t *payload;

        for (int i = 0; i < 2; i++) {
            enum ring_state state = ring_batch_add(tx, &batch, RECORD_DATA, 8, &payload);

            RL_ASSERT(state != RING_BROKEN);
            if (state != RING_OK)
                return false; /* nothing of it was published */
            write_payload(payload, 8, value + i);
        }
        ring_batch_publish(tx, &batch);
        waker_published(&link[SENDER].their_receiver);
        return true;
    }

    void thread(unsigned side)
    {
        for (uint64_t i = 1; i <= COUNT; i += 2)
            if (side == SENDER) {
                while (!send_two(i))
                    rl::yield(1, $);
            } else {
                while (!receive_one(i))
                    rl::yield(1, $);
                RL_ASSERT(receive_one(i + 1));
            }
    }
};

/* The same in memory that is mapped once: padding before the end. */
struct flat_records : over_a_link<flat_records> {
    enum { COUNT = 6 };

    bool put(uint32_t length, uint64_t value)
    {
        uint8_t *payload;
        enum ring_state state = flat_reserve(&link[SENDER].tx, length, &payload);

        RL_ASSERT(state != RING_BROKEN);
        if (state != RING_OK)
            return false;
        RL_ASSERT(payload + length <= memory[SENDER].ring + RING);
        write_payload(payload, length, value);
        ring_commit(&link[SENDER].tx, RECORD_DATA, length);
        return true;
    }

    bool take(uint64_t value)
    {
        ring_record record;
        enum ring_state state = flat_peek(&link[RECEIVER].rx, &record);

        RL_ASSERT(state != RING_BROKEN);
        if (state != RING_OK)
            return false;
        check_payload(&record, value);
        ring_release(&link[RECEIVER].rx, record.length);
        return true;
    }

    void thread(unsigned side)
    {
        for (uint64_t i = 1; i <= COUNT; i++)
            while (!(side == SENDER ? put(i % 2 ? 16 : 8, i) : take(i)))
                rl::yield(1, $);
    }
};

/* A receiver that goes to sleep while a record comes. */
struct record_wakes : over_a_link<record_wakes> {
    bool sleeps;

    void thread(unsigned side)
    {
        ring_record record;

        if (side == SENDER) {
            RL_ASSERT(send_one(8, 1));
            return;
        }
        go_to_sleep(&link[RECEIVER].receiver);
        sleeps = ring_peek(&link[RECEIVER].rx, &record) == RING_EMPTY;
    }

    void after() { RL_ASSERT(!sleeps || rung > 0); }
};

/* A sender that has to ring fences at its next publication, says so meanwhile, and takes it back; its receiver is
 * about to sleep before each record. */
struct fences_wake : over_a_link<fences_wake> {
    enum { COUNT = 4 };
    bool sleeps;

    void before()
    {
        over_a_link<fences_wake>::before();
        sleeps = false;
    }

    void thread(unsigned side)
    {
        for (uint64_t i = 1; i <= COUNT && !sleeps; i++) {
            ring_record record;

            if (side == SENDER) {
                (void)send_one(8, i); /* no room: the receiver sleeps, or has not come far enough */
                continue;
            }
            go_to_sleep(&link[RECEIVER].receiver);
            sleeps = ring_peek(&link[RECEIVER].rx, &record) == RING_EMPTY;
            if (!sleeps)
                (void)receive_one(i);
            if (!sleeps)
                sleeper_disarm(&link[RECEIVER].receiver);
        }
    }

    /* There was a record behind the last look: then its ticket was seen, and rung for. */
    void after()
    {
        struct shm_link *sender = &link[SENDER], *receiver = &link[RECEIVER];

        RL_ASSERT(!sleeps || sender->tx.position == receiver->rx.position ||
                  sender->their_receiver.seen == receiver->receiver.last);
    }
};

/* A sender that goes to sleep while room is made. */
struct room_wakes : over_a_link<room_wakes> {
    bool sleeps;

    void before()
    {
        over_a_link<room_wakes>::before();
        while (send_one(16, 1))
            ;
        rung = 0;
    }

    void thread(unsigned side)
    {
        uint8_t *payload;

        if (side == RECEIVER) {
            RL_ASSERT(receive_one(1));
            return;
        }
        go_to_sleep(&link[SENDER].sender);
        sleeps = ring_reserve(&link[SENDER].tx, 16, &payload) == RING_FULL;
    }

    void after() { RL_ASSERT(!sleeps || rung > 0); }
};

/* A receiver that goes to sleep while the end is said: it is woken, and then finds what was sent before. */
struct end_wakes : over_a_link<end_wakes> {
    bool sleeps;

    void thread(unsigned side)
    {
        ring_record record;

        if (side == SENDER) {
            RL_ASSERT(send_one(8, 1));
            shm_link_end(&link[SENDER], SHM_FINISHED);
            return;
        }
        /* As in shm_find_record(): the end first. */
        if (shm_link_their_end(&link[RECEIVER]) != SHM_GOES_ON)
            RL_ASSERT(ring_peek(&link[RECEIVER].rx, &record) == RING_OK);
        go_to_sleep(&link[RECEIVER].receiver);
        sleeps = ring_peek(&link[RECEIVER].rx, &record) == RING_EMPTY ||
                 shm_link_their_end(&link[RECEIVER]) == SHM_GOES_ON;
    }

    void after() { RL_ASSERT(!sleeps || rung > 0); }
};

/* ---- The shared variable ---- */

#include "cell.h"

/* ---- Running them ---- */

template <typename check> static bool holds(rl::scheduler_type_e search, rl::iteration_t iterations)
{
    static std::ostream nowhere(nullptr);
    rl::test_params params;
    bool right;

    params.search_type = search;
    params.iteration_count = iterations;
    params.output_stream = &std::cerr; /* what went wrong, step by step */
    params.progress_stream = &nowhere;
    right = rl::simulate<check>(params);
    printf("%llu executions%s\n", (unsigned long long)params.stop_iteration,
           right && search == rl::sched_full ? ", all there are" : "");
    return right;
}

static const struct {
    const char *name;
    bool (*run)(rl::scheduler_type_e, rl::iteration_t);
    rl::scheduler_type_e search;
    rl::iteration_t iterations; /* of a search at random */
} checks[] = {
    {"records", holds<records>, rl::sched_random, 100000},
    {"batches", holds<batches>, rl::sched_random, 100000},
    {"flat-records", holds<flat_records>, rl::sched_random, 100000},
    {"record-wakes", holds<record_wakes>, rl::sched_full, 0},
    {"fences-wake", holds<fences_wake>, rl::sched_random, 200000},
    {"room-wakes", holds<room_wakes>, rl::sched_full, 0},
    {"end-wakes", holds<end_wakes>, rl::sched_full, 0},
    {"cell-values", holds<cell_values>, rl::sched_random, 100000},
    {"value-wakes", holds<value_wakes>, rl::sched_full, 0},
};

int main(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "";
    bool right;

    registered = argc < 3 || strcmp(argv[2], "fence") != 0;
    refused = argc >= 3 && strcmp(argv[2], "refused") == 0;
    broken = argc > 3 ? argv[3] : "";
    for (auto &check : checks) {
        if (strcmp(check.name, name) != 0)
            continue;
        right = check.run(check.search, check.iterations);
        if (*broken && !was_broken) {
            fprintf(stderr, "%s: there is no %s in what is checked\n", name, broken);
            return 2;
        }
        return right ? 0 : 1;
    }
    fprintf(stderr, "usage: weak-memory CHECK membarrier|fence|refused [BROKEN]\n");
    return 2;
}
