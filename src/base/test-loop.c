/* SPDX-License-Identifier: MIT */
/* The event loop: what it calls, when, and what removing things in the middle does. */
#include "base/loop.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/timers.h"
#include "naru/error.h"
#include "runner.h"

static struct naru_loop *loop_new(void)
{
    struct naru_loop *loop = NULL;

    CHECK_INT(naru_loop_new(&loop), 0);
    return loop;
}

/* An eventfd that is readable from the start. */
static int ready_fd(void)
{
    int fd = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK);

    CHECK(fd >= 0);
    return fd;
}

struct seen {
    int calls;
    uint32_t events;
    int result;
    struct naru_source *remove;
};

static int see(struct naru_source *source, uint32_t events, void *data)
{
    struct seen *seen = data;

    (void)source;
    seen->calls++;
    seen->events = events;
    if (seen->remove)
        seen->remove = naru_source_remove(seen->remove);
    return seen->result;
}

TEST(loop_calls_for_a_readable_descriptor_and_not_for_a_quiet_one)
{
    struct naru_loop *loop = loop_new();
    struct seen loud = {0}, quiet = {0};
    int fd = ready_fd(), silent = eventfd(0, EFD_CLOEXEC);

    CHECK_INT(naru_loop_add_fd(loop, fd, NARU_IN, see, &loud, NULL), 0);
    CHECK_INT(naru_loop_add_fd(loop, silent, NARU_IN, see, &quiet, NULL), 0);
    CHECK_INT(naru_loop_run_once(loop, NARU_FOREVER), 1);
    CHECK_INT(loud.calls, 1);
    CHECK_INT(loud.events, NARU_IN);
    CHECK_INT(quiet.calls, 0);
    CHECK_INT(naru_loop_run_once(loop, NARU_FOREVER), 1); /* level-triggered: again */
    CHECK(naru_loop_free(loop) == NULL);
    close(fd);
    close(silent);
}

TEST(loop_events_can_be_changed_and_switched_off)
{
    struct naru_loop *loop = loop_new();
    struct naru_source *source;
    struct seen seen = {0};
    int ends[2];

    CHECK_INT(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    CHECK_INT(naru_loop_add_fd(loop, ends[0], NARU_IN, see, &seen, &source), 0);
    CHECK_INT(naru_loop_run_once(loop, NARU_NOWAIT), 0);
    CHECK_INT(naru_source_set_events(source, NARU_IN | NARU_OUT), 0);
    CHECK_INT(naru_loop_run_once(loop, NARU_NOWAIT), 1);
    CHECK_INT(seen.events, NARU_OUT);
    close(ends[1]);
    CHECK_INT(naru_source_set_events(source, NARU_IN), 0);
    CHECK_INT(naru_loop_run_once(loop, NARU_FOREVER), 1);
    CHECK_INT(seen.events, NARU_IN | NARU_HANGUP);
    CHECK_INT(naru_source_set_events(source, 0), 0);
    CHECK_INT(naru_loop_run_once(loop, NARU_NOWAIT), 0); /* not even the hang-up */
    CHECK_INT(naru_source_set_events(source, 0x400), -EINVAL);
    naru_loop_free(loop);
    close(ends[0]);
}

TEST(loop_refuses_what_cannot_be_watched_and_says_why)
{
    struct naru_loop *loop = loop_new();
    int fd = ready_fd(), file = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);

    CHECK_INT(naru_loop_add_fd(loop, file, NARU_IN, see, NULL, NULL), -EPERM);
    CHECK_CONTAINS(naru_explain(), "regular file");
    CHECK_INT(naru_loop_add_fd(loop, 1000000, NARU_IN, see, NULL, NULL), -EBADF);
    CHECK_INT(naru_loop_add_fd(loop, fd, NARU_IN, see, NULL, NULL), 0);
    CHECK_INT(naru_loop_add_fd(loop, fd, NARU_IN, see, NULL, NULL), -EEXIST);
    CHECK_CONTAINS(naru_explain(), "watched by this loop already");
    CHECK_INT(naru_loop_add_timer(loop, -1, 0, see, NULL, NULL), -EINVAL);
    CHECK_INT(naru_loop_add_timer(loop, 0, 0, NULL, NULL, NULL), -EINVAL);
    CHECK_CONTAINS(naru_explain(), "no function to call");
    CHECK_INT(naru_loop_add_fd(loop, file, NARU_IN, NULL, NULL, NULL), -EINVAL);
    CHECK_INT(naru_loop_defer(loop, NULL, NULL), -EINVAL);
    naru_loop_free(loop);
    close(fd);
    close(file);
}

TEST(loop_a_source_may_remove_itself_and_another_that_is_ready_too)
{
    struct naru_loop *loop = loop_new();
    struct naru_source *a, *b;
    struct seen first = {0}, second = {0};
    int fds[2] = {ready_fd(), ready_fd()};

    /* Whichever of the two is called first removes the other, whose event is in the same batch. */
    CHECK_INT(naru_loop_add_fd(loop, fds[0], NARU_IN, see, &first, &a), 0);
    CHECK_INT(naru_loop_add_fd(loop, fds[1], NARU_IN, see, &second, &b), 0);
    first.remove = b;
    second.remove = a;
    CHECK_INT(naru_loop_run_once(loop, NARU_FOREVER), 1);
    CHECK_INT(first.calls + second.calls, 1);
    (first.calls ? &first : &second)->remove = first.calls ? a : b; /* now itself */
    CHECK_INT(naru_loop_run_once(loop, NARU_FOREVER), 1);
    CHECK_INT(naru_loop_run_once(loop, NARU_NOWAIT), 0);
    naru_loop_free(loop);
    close(fds[0]);
    close(fds[1]);
}

TEST(loop_survives_a_descriptor_closed_before_its_source)
{
    struct naru_loop *loop = loop_new();
    struct naru_source *source;
    struct seen seen = {0};
    int fd = ready_fd(), duplicate = fcntl(fd, F_DUPFD_CLOEXEC, 0);

    /* epoll(7): the duplicate keeps the registration alive, and nothing can take it out any more. */
    CHECK_INT(naru_loop_add_fd(loop, fd, NARU_IN, see, &seen, &source), 0);
    close(fd);
    CHECK(naru_source_remove(source) == NULL);
    CHECK_INT(naru_loop_run_once(loop, NARU_NOWAIT), 0);
    CHECK_INT(seen.calls, 0);
    naru_loop_free(loop);
    close(duplicate);
}

TEST(loop_returns_a_callbacks_error_and_calls_the_rest_next_time)
{
    struct naru_loop *loop = loop_new();
    struct seen seen = {.result = -ENXIO};
    int fds[2] = {ready_fd(), ready_fd()};

    CHECK_INT(naru_loop_add_fd(loop, fds[0], NARU_IN, see, &seen, NULL), 0);
    CHECK_INT(naru_loop_add_fd(loop, fds[1], NARU_IN, see, &seen, NULL), 0);
    CHECK_INT(naru_loop_run(loop), -ENXIO);
    CHECK_INT(seen.calls, 1);
    seen.result = 0;
    CHECK_INT(naru_loop_run_once(loop, NARU_NOWAIT), 2);
    naru_loop_free(loop);
    close(fds[0]);
    close(fds[1]);
}

static int run_again(struct naru_source *source, uint32_t events, void *data)
{
    (void)events;
    *(int *)data = naru_loop_run_once(naru_source_loop(source), NARU_NOWAIT);
    return 0;
}

TEST(loop_refuses_to_run_inside_its_own_callback)
{
    struct naru_loop *loop = loop_new();
    int inner = 1;

    CHECK_INT(naru_loop_add_timer(loop, 0, 0, run_again, &inner, NULL), 0);
    CHECK_INT(naru_loop_run_once(loop, NARU_FOREVER), 1);
    CHECK_INT(inner, -EBUSY);
    naru_loop_free(loop);
}

static struct {
    int order[16];
    int count;
} fired;

static int fire(struct naru_source *source, uint32_t events, void *data)
{
    (void)source;
    CHECK_INT(events, 0);
    fired.order[fired.count++] = (int)(intptr_t)data;
    return 0;
}

TEST(timers_fire_in_the_order_of_their_deadlines_and_never_early)
{
    struct naru_loop *loop = loop_new();
    int64_t earliest[8],
        latest[8]; /* that each deadline can be: some time may pass between two of the calls */

    for (int i = 0; i < 8; i++) {
        int ms = i * 5 % 8;

        earliest[ms] = clock_now() + NARU_MS(ms);
        CHECK_INT(naru_loop_add_timer(loop, NARU_MS(ms), 0, fire, (void *)(intptr_t)ms, NULL), 0);
        latest[ms] = clock_now() + NARU_MS(ms);
    }
    while (fired.count < 8) {
        int before = fired.count;

        CHECK(naru_loop_run_once(loop, NARU_FOREVER) >= 0);
        for (int i = before; i < fired.count; i++)
            CHECK(clock_now() >= earliest[fired.order[i]]);
    }
    for (int i = 1; i < 8; i++)
        CHECK(earliest[fired.order[i - 1]] <= latest[fired.order[i]]);
    CHECK_INT(naru_loop_run_once(loop, NARU_MS(1)), 0); /* once each */
    naru_loop_free(loop);
}

TEST(a_periodic_timer_repeats_until_it_is_set_to_never)
{
    struct naru_loop *loop = loop_new();
    struct naru_source *timer;

    CHECK_INT(naru_loop_add_timer(loop, NARU_FOREVER, 0, fire, NULL, &timer), 0);
    CHECK_INT(naru_loop_run_once(loop, NARU_MS(1)), 0);
    CHECK_INT(naru_source_set_timer(timer, 0, NARU_US(200)), 0);
    while (fired.count < 5)
        CHECK(naru_loop_run_once(loop, NARU_FOREVER) >= 0);
    CHECK_INT(naru_source_set_timer(timer, NARU_FOREVER, 0), 0);
    CHECK_INT(naru_loop_run_once(loop, NARU_MS(2)), 0);
    CHECK_INT(naru_source_set_events(timer, NARU_IN), -EINVAL);
    naru_loop_free(loop);
}

TEST(a_late_periodic_timer_is_called_once_and_keeps_its_grid)
{
    struct naru_loop *loop = loop_new();
    int64_t step = 0;

    CHECK_INT(naru_loop_add_timer(loop, NARU_US(100), NARU_US(100), fire, NULL, NULL), 0);
    for (int64_t until = clock_now() + NARU_MS(3); clock_now() < until;)
        backoff_sleep(&step, until);
    CHECK_INT(naru_loop_run_once(loop, NARU_FOREVER), 1);
    CHECK_INT(fired.count, 1);
    naru_loop_free(loop);
}

TEST(the_heap_of_timers_keeps_its_order_under_random_changes)
{
    struct timers timers = {0};
    struct timer all[200] = {0};
    int64_t last = 0;

    srand(7);
    CHECK_INT(timers_reserve(&timers, 200), 0);
    for (int i = 0; i < 20000; i++) {
        struct timer *timer = &all[rand() % 200];

        if (rand() % 3)
            timers_set(&timers, timer, rand() % 1000);
        else
            timers_unset(&timers, timer);
        for (size_t place = 2; place <= timers.count; place++)
            CHECK(timers.heap[place / 2 - 1]->deadline <= timers.heap[place - 1]->deadline);
    }
    while (timers.count) {
        struct timer *first = timers_first(&timers);

        CHECK(first->deadline >= last);
        last = first->deadline;
        timers_unset(&timers, first);
    }
    timers_deinit(&timers);
}

static int count_call(void *data)
{
    ++*(int *)data;
    return 0;
}

static int stop_call(void *data)
{
    naru_loop_stop(data);
    return 0;
}

static void *defer_many(void *data)
{
    struct naru_loop *loop = ((void **)data)[0];

    for (int i = 0; i < 1000; i++)
        CHECK_INT(naru_loop_defer(loop, count_call, ((void **)data)[1]), 0);
    CHECK_INT(naru_loop_defer(loop, stop_call, loop), 0);
    return NULL;
}

TEST(deferred_calls_of_another_thread_are_all_made_in_order)
{
    struct naru_loop *loop = loop_new();
    int calls = 0;
    void *data[2] = {loop, &calls};
    pthread_t thread;

    CHECK_INT(pthread_create(&thread, NULL, defer_many, data), 0);
    CHECK_INT(naru_loop_run(loop), 0);
    CHECK_INT(calls, 1000); /* the stop was deferred last */
    CHECK_INT(pthread_join(thread, NULL), 0);
    CHECK_INT(naru_loop_defer(loop, count_call, &calls), 0);
    naru_loop_free(loop); /* drops it */
    CHECK_INT(calls, 1000);
}

TEST(a_stop_before_the_run_is_not_lost)
{
    struct naru_loop *loop = loop_new();

    naru_loop_stop(loop);
    CHECK_INT(naru_loop_run(loop), 0);
    naru_loop_wake(loop);
    CHECK_INT(naru_loop_run_once(loop, NARU_FOREVER), 0);
    naru_loop_free(loop);
}

static struct naru_loop *handled;

static void stop_in_handler(int sig)
{
    (void)sig;
    naru_loop_stop(handled);
}

static int raise_signal(struct naru_source *source, uint32_t events, void *data)
{
    (void)source;
    (void)events;
    CHECK_INT(raise((int)(intptr_t)data), 0);
    return 0;
}

TEST(a_signal_handler_can_stop_the_loop)
{
    struct sigaction action = {.sa_handler = stop_in_handler};

    handled = loop_new();
    CHECK_INT(sigaction(SIGUSR1, &action, NULL), 0);
    CHECK_INT(naru_loop_add_timer(handled, NARU_MS(1), 0, raise_signal, (void *)(intptr_t)SIGUSR1, NULL), 0);
    CHECK_INT(naru_loop_run(handled), 0);
    naru_loop_free(handled);
}

TEST(a_loop_can_be_nested_in_another)
{
    struct naru_loop *outer = loop_new(), *inner = loop_new();
    struct seen seen = {0};
    int calls = 0;

    CHECK_INT(naru_loop_add_fd(outer, naru_loop_fd(inner), NARU_IN, see, &seen, NULL), 0);
    CHECK_INT(naru_loop_run_once(outer, NARU_NOWAIT), 0);
    CHECK_INT(naru_loop_add_timer(inner, NARU_MS(1), 0, fire, NULL, NULL), 0);
    CHECK_INT(naru_loop_run_once(outer, NARU_FOREVER), 1);
    CHECK_INT(naru_loop_run_once(inner, NARU_NOWAIT), 1);
    CHECK_INT(fired.count, 1);
    CHECK_INT(naru_loop_run_once(outer, NARU_NOWAIT), 0); /* nothing left to do: not readable any more */
    CHECK_INT(naru_loop_defer(inner, count_call, &calls), 0);
    CHECK_INT(naru_loop_run_once(outer, NARU_FOREVER), 1);
    CHECK_INT(naru_loop_run_once(inner, NARU_NOWAIT), 1);
    CHECK_INT(calls, 1);
    naru_loop_free(outer);
    naru_loop_free(inner);
}

TEST(a_child_is_refused_and_leaves_the_parents_loop_alone)
{
    struct naru_loop *loop = loop_new();
    struct naru_source *source;
    struct seen seen = {0};
    int fd = ready_fd(), child;

    CHECK_INT(naru_loop_add_fd(loop, fd, NARU_IN, see, &seen, &source), 0);
    child = test_fork();
    if (child == 0) {
        CHECK_INT(naru_loop_run_once(loop, NARU_NOWAIT), -ECHILD);
        CHECK_INT(naru_loop_defer(loop, count_call, NULL), -ECHILD);
        naru_source_remove(source); /* must not take it out of the parent's epoll */
        naru_loop_free(loop);
        _exit(0);
    }
    test_join(child);
    CHECK_INT(naru_loop_run_once(loop, NARU_FOREVER), 1);
    naru_loop_free(loop);
    close(fd);
}
