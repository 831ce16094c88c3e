/* SPDX-License-Identifier: MIT */
/*
 * Shared memory with somebody who sleeps: a message lies in a box that both map, and the kernel wakes. For
 * ping-pong alone, where the answer says that the box may be used again.
 *
 *  - futex: one FUTEX_WAKE and one FUTEX_WAIT a message.
 *  - eventfd: one write(2) and one read(2), which sleeps.
 *  - epoll: the same with epoll_wait(2) before the read, as in an event loop.
 */
#include <errno.h>
#include <linux/futex.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "bench/floor-copy.h"
#include "bench/floor.h"

struct box {
    _Alignas(64) _Atomic uint32_t number; /* of messages that lay in it: what the futex waits on */
    _Alignas(64) uint8_t payload[];
};

struct link {
    const struct load *load;
    uint8_t *memory; /* both boxes */
    size_t bytes;    /* of each */
    bool futex, epolls;
    int bells[2]; /* eventfds, by the side that receives */
    struct box *tx, *rx;
    uint32_t sent, received;
    int bell, their_bell, epoll;
};

static int close_fd(int fd)
{
    if (fd >= 0)
        (void)close(fd);
    return -1;
}

static void let_go(struct link *link)
{
    for (int i = 0; i < 2; i++)
        link->bells[i] = close_fd(link->bells[i]);
}

static void close_link(struct link *link)
{
    let_go(link);
    duo_unshare(link->memory, 2 * link->bytes);
    free(link);
}

static int open_box(const struct load *load, bool futex, bool epolls, struct link **ret_link)
{
    struct link *link = calloc(1, sizeof *link);
    int r = 0;

    if (!link)
        return duo_fail(-ENOMEM, "out of memory");
    link->load = load;
    link->futex = futex;
    link->epolls = epolls;
    link->bells[0] = link->bells[1] = link->epoll = -1;
    link->bytes = (sizeof(struct box) + load->size + 4095) / 4096 * 4096;
    link->memory = duo_share(2 * link->bytes);
    if (!link->memory)
        r = duo_fail_errno("mmap");
    for (int i = 0; i < 2 && r == 0 && !futex; i++) {
        link->bells[i] = eventfd(0, EFD_CLOEXEC);
        r = link->bells[i] < 0 ? duo_fail_errno("eventfd") : 0;
    }
    if (r < 0)
        close_link(link);
    else
        *ret_link = link;
    return r;
}

static int open_futex(const struct carrier *carrier, const struct load *load, struct link **ret_link)
{
    (void)carrier;
    return open_box(load, true, false, ret_link);
}

static int open_eventfd(const struct carrier *carrier, const struct load *load, struct link **ret_link)
{
    (void)carrier;
    return open_box(load, false, false, ret_link);
}

static int open_epoll(const struct carrier *carrier, const struct load *load, struct link **ret_link)
{
    (void)carrier;
    return open_box(load, false, true, ret_link);
}

static int attach(struct link *link, enum duo_side side)
{
    enum duo_side other = side == DUO_NEAR ? DUO_FAR : DUO_NEAR;
    struct epoll_event event = {.events = EPOLLIN};

    link->tx = (struct box *)(void *)(link->memory + (size_t)other * link->bytes);
    link->rx = (struct box *)(void *)(link->memory + (size_t)side * link->bytes);
    link->bell = link->bells[side];
    link->their_bell = link->bells[other];
    if (!link->epolls)
        return 0;
    link->epoll = epoll_create1(EPOLL_CLOEXEC);
    return link->epoll < 0 || epoll_ctl(link->epoll, EPOLL_CTL_ADD, link->bell, &event) < 0
               ? duo_fail_errno("epoll")
               : 0;
}

static int send_futex(struct link *link, const void *data, size_t length)
{
    floor_copy(link->tx->payload, data, length);
    atomic_store_explicit(&link->tx->number, ++link->sent, memory_order_release);
    return syscall(SYS_futex, &link->tx->number, FUTEX_WAKE, 1, NULL, NULL, 0) < 0 ? duo_fail_errno("futex")
                                                                                   : 0;
}

static ssize_t recv_futex(struct link *link, void *buffer, size_t capacity, const void **ret_data)
{
    (void)capacity;
    while (atomic_load_explicit(&link->rx->number, memory_order_acquire) == link->received)
        if (syscall(SYS_futex, &link->rx->number, FUTEX_WAIT, link->received, NULL, NULL, 0) < 0 &&
            errno != EAGAIN && errno != EINTR)
            return duo_fail_errno("futex");
    link->received++;
    floor_copy(buffer, link->rx->payload, link->load->size);
    *ret_data = buffer;
    return (ssize_t)link->load->size;
}

static int send_bell(struct link *link, const void *data, size_t length)
{
    static const uint64_t one = 1;

    floor_copy(link->tx->payload, data, length);
    return write(link->their_bell, &one, sizeof one) == sizeof one ? 0 : duo_fail_errno("write");
}

static ssize_t recv_bell(struct link *link, void *buffer, size_t capacity, const void **ret_data)
{
    struct epoll_event event;
    uint64_t count;

    (void)capacity;
    while (link->epolls && epoll_wait(link->epoll, &event, 1, -1) != 1)
        if (errno != EINTR)
            return duo_fail_errno("epoll_wait");
    if (read(link->bell, &count, sizeof count) != sizeof count)
        return duo_fail_errno("read");
    floor_copy(buffer, link->rx->payload, link->load->size);
    *ret_data = buffer;
    return (ssize_t)link->load->size;
}

#define BOX_FLOOR(row, open_function, send_function, recv_function)                                          \
    {                                                                                                        \
        .mechanism = (row), .answers = true, .open = (open_function), .let_go = let_go, .attach = attach,    \
        .close = close_link, .send = (send_function), .recv = (recv_function)                                \
    }

const struct carrier floor_shm_futex = BOX_FLOOR("shm-futex", open_futex, send_futex, recv_futex);
const struct carrier floor_shm_eventfd = BOX_FLOOR("shm-eventfd", open_eventfd, send_bell, recv_bell);
const struct carrier floor_shm_epoll = BOX_FLOOR("shm-epoll", open_epoll, send_bell, recv_bell);
