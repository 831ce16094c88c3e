/* SPDX-License-Identifier: MIT */
/*
 * The thread that answers for a busy program: see keeper.h.
 *
 * I1  Locks are taken in this order: forks are held off, `current_lock`, a keeper's `lock`, whatever a task
 *     takes. As forks are held off around all of them, a child finds none of them locked.
 * I2  A task's attend() is called under its keeper's lock, and only while the task is in the list: so who has
 *     taken it out of the list, under that lock, knows that it is not running and will not be called again,
 *     though epoll_wait(2) may have given the thread its address just before.
 * I3  Nobody joins the thread while holding forks off: it may itself wait for a fork to be over (base/fork.c:
 *     a fork that waits goes before those who come later).
 * I4  `current` has a task, or is NULL; who takes the last one makes it NULL in the same locked section, so
 *     that whoever adds one meanwhile starts another keeper instead of one that is about to end.
 */
#include "channel/keeper.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/error.h"
#include "base/fork.h"
#include "base/mapping.h"

struct keeper {
    struct fork_guard guard;
    int epoll_fd, end_fd; /* end_fd: an eventfd, readable when the thread is to end */
    pthread_t thread;
    pthread_mutex_t lock; /* of the tasks */
    struct list tasks;
};

static pthread_mutex_t current_lock = PTHREAD_MUTEX_INITIALIZER;
static struct keeper *current;

/* --- the thread --- */

static bool has_task(const struct keeper *k, const struct keeper_task *task)
{
    const struct list *node;

    list_for_each(node, &k->tasks) if (list_entry(node, const struct keeper_task, node) == task) return true;
    return false;
}

static void attend(struct keeper *k, struct keeper_task *task)
{
    fork_hold();
    (void)pthread_mutex_lock(&k->lock);
    if (has_task(k, task)) /* I2 */
        task->attend(task->data);
    (void)pthread_mutex_unlock(&k->lock);
    fork_release();
}

/* The first malloc(3) of a thread makes an arena, by four system calls: now, and not while somebody who
 * connects waits for it. volatile: or the compiler leaves both calls out. */
static void make_arena(void)
{
    void *volatile memory = malloc(1);

    free(memory);
}

static void *keep(void *argument)
{
    struct keeper *k = argument;
    struct epoll_event event;

    (void)pthread_setname_np(pthread_self(), "naru-keeper");
    make_arena();
    for (;;) {
        int n = epoll_wait(k->epoll_fd, &event, 1, -1);

        /* EINTR: glibc's setuid(3) is told to all threads by a signal that cannot be blocked. Anything else
         * is a program that closed descriptors which are not its own: no reason to spin. */
        if (n < 0 && errno != EINTR)
            return NULL;
        if (n == 1 && !event.data.ptr)
            return NULL;
        if (n == 1)
            attend(k, event.data.ptr);
    }
}

/* Whether a thread's stack can be had: 0, or the errno. pthread_create(3) says EAGAIN of that, too. */
static int try_stack(void)
{
    pthread_attr_t usual;
    size_t size = 0;

    if (pthread_getattr_default_np(&usual) != 0)
        return 0;
    (void)pthread_attr_getstacksize(&usual, &size); /* cannot fail */
    (void)pthread_attr_destroy(&usual);
    return mapping_try(size);
}

static int no_thread(const char *what, int code)
{
    int no_stack = try_stack();

    if (no_stack)
        return error_set(
            mapping_code(no_stack),
            "%s: no memory for the stack of a thread to answer those who connect while the program "
            "is busy: %s; `ulimit -s` makes stacks smaller, ?service=manual does without",
            what, mapping_text(no_stack));
    return error_set(code,
                     "%s: no thread to answer those who connect while the program is busy: %s; %s, or do "
                     "without by ?service=manual",
                     what, error_text(code),
                     code == EAGAIN ? "raise RLIMIT_NPROC" : "let the sandbox (seccomp) allow it");
}

/* The thread inherits the mask it is created under: the program's signals are the program's. */
static int start_thread(const char *what, struct keeper *k)
{
    sigset_t all, usual;
    int r;

    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &usual);
    r = pthread_create(&k->thread, NULL, keep, k);
    (void)pthread_sigmask(SIG_SETMASK, &usual, NULL);
    return r == 0 ? 0 : no_thread(what, r);
}

/* --- its tasks --- */

/* task NULL: the thread's own end. */
static int watch(const char *what, struct keeper *k, int fd, struct keeper_task *task)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = task};

    return epoll_ctl(k->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0
               ? error_set(errno, "%s: epoll_ctl: %s", what, error_text(errno))
               : 0;
}

static void free_keeper(struct keeper *k)
{
    fork_guard_close(&k->guard);
    (void)pthread_mutex_destroy(&k->lock);
    free(k);
}

/* Without its thread. 0 or explained. */
static int make_keeper(const char *what, struct keeper **ret_keeper)
{
    struct keeper *k = calloc(1, sizeof *k);
    int r;

    if (!k)
        return error_set(ENOMEM, "%s: out of memory for a listener", what);
    (void)pthread_mutex_init(&k->lock, NULL); /* cannot fail with default attributes */
    list_init(&k->tasks);
    fork_guard_init(&k->guard);
    fork_guard_add(&k->guard, &k->epoll_fd);
    fork_guard_add(&k->guard, &k->end_fd);
    k->end_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    k->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    r = k->end_fd < 0 || k->epoll_fd < 0
            ? error_set(errno, "%s: no descriptor for a listener: %s", what, error_text(errno))
            : watch(what, k, k->end_fd, NULL);
    if (r < 0)
        free_keeper(k);
    else
        *ret_keeper = k;
    return r;
}

int keeper_add(const char *what, struct keeper_task *task, int fd, void (*attend_call)(void *data),
               void *data)
{
    struct keeper *k;
    bool fresh;
    int r = 0;

    (void)pthread_mutex_lock(&current_lock);
    k = current;
    fresh = !k || !fork_guard_is_mine(&k->guard); /* the parent's is freed with the listeners it had */
    if (fresh)
        r = make_keeper(what, &k);
    if (r == 0) {
        *task = (struct keeper_task){.fd = fd, .attend = attend_call, .data = data};
        (void)pthread_mutex_lock(&k->lock); /* the thread may know of it before the list does */
        r = watch(what, k, fd, task);
        if (r == 0 && fresh)
            r = start_thread(what, k);
        if (r == 0) {
            list_append(&k->tasks, &task->node);
            task->keeper = current = k;
        }
        (void)pthread_mutex_unlock(&k->lock);
        if (r < 0 && fresh)
            free_keeper(k);
    }
    (void)pthread_mutex_unlock(&current_lock);
    return r;
}

/* Whether it was the last one: then nobody else knows the keeper any more. */
static bool take_out(struct keeper *k, struct keeper_task *task, bool mine)
{
    bool last;

    fork_hold();
    (void)pthread_mutex_lock(&current_lock);
    (void)pthread_mutex_lock(&k->lock);
    list_remove(&task->node);
    task->keeper = NULL;
    if (mine)
        (void)epoll_ctl(k->epoll_fd, EPOLL_CTL_DEL, task->fd, NULL); /* it was added */
    last = list_is_empty(&k->tasks);
    (void)pthread_mutex_unlock(&k->lock);
    if (last && current == k)
        current = NULL;
    (void)pthread_mutex_unlock(&current_lock);
    fork_release();
    return last;
}

void keeper_remove(struct keeper_task *task)
{
    struct keeper *k = task->keeper;
    bool mine;

    if (!k)
        return;
    mine = fork_guard_is_mine(&k->guard);
    if (!take_out(k, task, mine))
        return;
    if (mine) {
        (void)eventfd_write(k->end_fd, 1); /* an empty eventfd has room */
        (void)pthread_join(k->thread, NULL);
    }
    free_keeper(k);
}
