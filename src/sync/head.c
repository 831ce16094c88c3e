/* SPDX-License-Identifier: MIT */
/* What an object is. */
#include "sync/head.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>

#include "base/error.h"
#include "sync/owner.h"

enum { MAGIC = 0x7572616e, /* "naru" */ VERSION = 1 };

/* The kernel's robust list and glibc's mutex depend on the word size. */
static const uint32_t abi = (uint32_t)(sizeof(void *) << 16 | sizeof(pthread_mutex_t));

const char *naru_sync_kind_name(enum naru_sync_kind kind)
{
    static const char *const names[] = {NULL, "mutex", "rwlock", "semaphore", "event", "barrier"};

    return kind >= NARU_SYNC_MUTEX && kind <= NARU_SYNC_BARRIER ? names[kind] : NULL;
}

int head_check_address(const void *object, enum naru_sync_kind kind)
{
    if ((uintptr_t)object % 8 == 0 && object)
        return 0;
    return error_set(EINVAL, "%s at %p: expected memory aligned to 8 bytes", naru_sync_kind_name(kind),
                     object);
}

void head_finish(struct head *head, enum naru_sync_kind kind)
{
    head->kind = (uint16_t)kind;
    head->version = VERSION;
    head->abi = abi;
    head->namespace = owner_namespace();
    /* [H1] release: pairs with [H2]; who sees the magic sees the whole object. */
    atomic_store_explicit(&head->magic, MAGIC, memory_order_release);
}

void head_clear(struct head *head)
{
    atomic_store_explicit(&head->magic, 0, memory_order_relaxed); /* nobody else uses it any more */
}

int head_check(const struct head *head, enum naru_sync_kind kind)
{
    /* [H2] acquire: pairs with [H1]. */
    uint32_t magic = atomic_load_explicit(&head->magic, memory_order_acquire);
    const char *name = naru_sync_kind_name(kind);
    /* Nobody holds an event, so pids do not matter there; and it may be used in a signal handler. */
    bool known = magic == MAGIC && head->kind == kind && head->version == VERSION && head->abi == abi;

    if (__builtin_expect(known && (kind == NARU_SYNC_EVENT || head->namespace == owner_namespace()), 1))
        return 0;
    if (magic != MAGIC)
        return error_set(EPROTO,
                         "there is no %s at %p: it was never initialised, has ended or was overwritten", name,
                         (const void *)head);
    if (head->kind != kind)
        return error_set(EPROTO, "it is no %s but a %s", name,
                         naru_sync_kind_name((enum naru_sync_kind)head->kind)
                             ? naru_sync_kind_name((enum naru_sync_kind)head->kind)
                             : "thing of no known kind");
    if (head->version != VERSION || head->abi != abi)
        return error_set(EPROTO,
                         "the %s was made by a naru of another version or word size (version %u, ours %u); "
                         "remove it, and let all its users be of one version",
                         name, head->version, VERSION);
    if (owner_namespace() == 0 || head->namespace == 0)
        return error_set(
            EXDEV,
            "whether process ids in the %s mean the same here cannot be said: /proc was not mounted "
            "%s",
            name, owner_namespace() == 0 ? "for this process" : "for who made it");
    return error_set(EXDEV,
                     "the %s was made in another PID namespace (container), where process ids mean something "
                     "else; let its users share one",
                     name);
}
