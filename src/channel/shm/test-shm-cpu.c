/* SPDX-License-Identifier: MIT */
/* Who looks before sleeping, by the CPUs that the two sides may run on. */
#include <sched.h>

#include "channel/channel.h"
#include "channel/shm/shm.h"
#include "channel/shm/test-shm.h"

/* The number-th CPU of those that the test began with; beyond them: all. */
static void pin(int number)
{
    static cpu_set_t all;
    cpu_set_t set;

    if (CPU_COUNT(&all) == 0)
        CHECK_INT(sched_getaffinity(0, sizeof all, &all), 0);
    if (CPU_COUNT(&all) < 2)
        test_skip("there is one CPU");
    set = all;
    for (size_t cpu = 0; cpu < CPU_SETSIZE && number < CPU_COUNT(&all); cpu++)
        if (CPU_ISSET(cpu, &all) && number-- == 0) {
            CPU_ZERO(&set);
            CPU_SET(cpu, &set);
            break;
        }
    CHECK_INT(sched_setaffinity(0, sizeof set, &set), 0);
}

enum { FIRST, SECOND, ALL = CPU_SETSIZE };

static const struct {
    const char *name, *query;
    int listens_on, connects_on;
    bool look;
} ways[] = {{"one CPU for both", "", FIRST, FIRST, false},
            {"one CPU for both, no keeper", "?service=manual", SECOND, SECOND, false},
            {"a CPU each", "", FIRST, SECOND, true},
            {"a CPU each, no keeper", "?service=manual", SECOND, FIRST, true},
            {"the listener is pinned", "", FIRST, ALL, true},
            {"the connector is pinned", "", ALL, FIRST, true},
            {"nobody is pinned", "", ALL, ALL, true}};

static const char *each_way(size_t index)
{
    return index < sizeof ways / sizeof *ways ? ways[index].name : NULL;
}

/* A listener's thread that is pinned once it listens, or let free, and then accepts. */
static const struct {
    const char *name, *query;
    int listens_on, accepts_on;
    bool look;
} later[] = {{"to that of the connector", "", ALL, FIRST, false},
             {"to that of the connector, no keeper", "?service=manual", ALL, FIRST, false},
             {"from that of the connector", "", FIRST, SECOND, true},
             {"to all", "", FIRST, ALL, true}};

static const char *each_later(size_t index)
{
    return index < sizeof later / sizeof *later ? later[index].name : NULL;
}

static bool looks(const struct naru_channel *ch)
{
    return ((const struct shm *)ch->state)->spins > 0;
}

TEST_EACH(only_two_with_one_cpu_between_them_sleep_at_once, each_way)
{
    struct naru_channel *near = NULL;
    struct naru_listener *l;
    pthread_t thread;
    void *far;

    pin(ways[index].listens_on);
    l = listen_there(ways[index].query);
    pin(ways[index].connects_on);
    CHECK_INT(pthread_create(&thread, NULL, connect_thread, (void *)(uintptr_t) "?ring=16k"),
              0); /* as we are */
    pin(ways[index].listens_on);
    CHECK_INT(naru_accept(l, patience, &near), 0);
    CHECK_INT(pthread_join(thread, &far), 0);
    CHECK_INT(looks(near), ways[index].look);
    CHECK_INT(looks(far), ways[index].look);
    naru_channel_close(near);
    naru_channel_close(far);
    naru_listener_close(l);
}

TEST_EACH(who_accepts_is_told_of_as_it_is_then, each_later)
{
    struct naru_channel *near = NULL;
    struct naru_listener *l;
    pthread_t thread;
    void *far;

    pin(later[index].listens_on);
    l = listen_there(later[index].query);
    pin(later[index].accepts_on);
    CHECK_INT(naru_accept(l, NARU_NOWAIT, &near), -EAGAIN);
    pin(FIRST);
    CHECK_INT(pthread_create(&thread, NULL, connect_thread, (void *)(uintptr_t) "?ring=16k"),
              0); /* as we are */
    pin(later[index].accepts_on);
    CHECK_INT(naru_accept(l, patience, &near), 0);
    CHECK_INT(pthread_join(thread, &far), 0);
    CHECK_INT(looks(near), later[index].look);
    CHECK_INT(looks(far), later[index].look);
    naru_channel_close(near);
    naru_channel_close(far);
    naru_listener_close(l);
}
