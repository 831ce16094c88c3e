/* SPDX-License-Identifier: MIT */
/*
 * Boost.Interprocess: a message_queue in shared memory for each direction, with room for as many bytes as
 * naru's ring has by default, or for 1024 messages. `sleep` calls receive() and send(), which wait on a
 * condition variable that processes share (a futex). `spin` calls try_receive() and try_send() again and
 * again, and lets others run now and then, as a peer that shares the CPU must. It copies in and out; messages
 * have priorities, here all the same.
 */
#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <sched.h>
#include <unistd.h>

#include <boost/interprocess/ipc/message_queue.hpp>
#include <boost/version.hpp>

#include "bench/peers/peers.h"

namespace ipc = boost::interprocess;

enum {
    NAME_MAX_BYTES = 64,
    QUEUE_BYTES = 256 * 1024,
    MESSAGES_MAX = 1024,
    MESSAGES_MIN = 4,
    PATIENCE = 1 << 14
};

struct link {
    bool spins;
    char names[2][NAME_MAX_BYTES]; /* [side]: where that side receives */
    std::unique_ptr<ipc::message_queue> queues[2];
    ipc::message_queue *tx, *rx; /* in a child */
};

static int failed(const char *what, const std::exception &e)
{
    return duo_fail(-EIO, "%s: %s", what, e.what());
}

/* No exception goes past a function that C calls. */
static void close_link(struct link *link)
{
    for (const char *name : link->names)
        (void)ipc::message_queue::remove(name); /* says whether there was one */
    delete link;
}

static int make_queues(struct link *link, size_t size)
{
    size_t most = std::clamp<size_t>(QUEUE_BYTES / size, MESSAGES_MIN, MESSAGES_MAX);

    try {
        for (int side = DUO_NEAR; side <= DUO_FAR; side++)
            link->queues[side] =
                std::make_unique<ipc::message_queue>(ipc::create_only, link->names[side], most, size);
    } catch (const std::exception &e) {
        return failed("message_queue", e);
    }
    return 0;
}

static int open_link(bool spins, const struct load *load, struct link **ret_link)
{
    struct link *link = new (std::nothrow) struct link();
    int r;

    if (!link)
        return duo_fail(-ENOMEM, "out of memory");
    link->spins = spins;
    for (int side = DUO_NEAR; side <= DUO_FAR; side++)
        (void)std::snprintf(link->names[side], sizeof link->names[side], "naru-bench-%d-%d", (int)getpid(),
                            side);
    r = make_queues(link, load->size);
    if (r < 0)
        close_link(link);
    else
        *ret_link = link;
    return r;
}

static int open_spin(const struct carrier *, const struct load *load, struct link **ret_link)
{
    return open_link(true, load, ret_link);
}

static int open_sleep(const struct carrier *, const struct load *load, struct link **ret_link)
{
    return open_link(false, load, ret_link);
}

/* The mappings were inherited. */
static int attach(struct link *link, enum duo_side side)
{
    link->rx = link->queues[side].get();
    link->tx = link->queues[side == DUO_NEAR ? DUO_FAR : DUO_NEAR].get();
    return 0;
}

template <typename Attempt> static void spin(Attempt attempt)
{
    for (unsigned looks = 1; !attempt(); looks++)
        if (looks % PATIENCE == 0)
            (void)sched_yield();
}

static int send_one(struct link *link, const void *data, size_t length)
{
    try {
        if (link->spins)
            spin([&] { return link->tx->try_send(data, length, 0); });
        else
            link->tx->send(data, length, 0);
    } catch (const std::exception &e) {
        return failed("send", e);
    }
    return 0;
}

static ssize_t recv_one(struct link *link, void *buffer, size_t capacity, const void **ret_data)
{
    ipc::message_queue::size_type length = 0;
    unsigned priority;

    try {
        if (link->spins)
            spin([&] { return link->rx->try_receive(buffer, capacity, length, priority); });
        else
            link->rx->receive(buffer, capacity, length, priority);
    } catch (const std::exception &e) {
        return failed("receive", e);
    }
    *ret_data = buffer;
    return (ssize_t)length;
}

#define ABOUT "Boost " BOOST_LIB_VERSION ", message_queue, "

extern "C" const struct carrier peer_boost_spin = {.mechanism = "boost",
                                                   .about =
                                                       ABOUT "try_send() and try_receive() until they do",
                                                   .open = open_spin,
                                                   .attach = attach,
                                                   .close = close_link,
                                                   .send = send_one,
                                                   .recv = recv_one};
extern "C" const struct carrier peer_boost_sleep = {.mechanism = "boost",
                                                    .slow = true,
                                                    .about = ABOUT "send() and receive(), which sleep",
                                                    .open = open_sleep,
                                                    .attach = attach,
                                                    .close = close_link,
                                                    .send = send_one,
                                                    .recv = recv_one};
