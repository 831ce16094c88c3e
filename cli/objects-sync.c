/* SPDX-License-Identifier: MIT */
#include "cli/objects-sync.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "naru/event.h"
#include "naru/mutex.h"
#include "naru/semaphore.h"
#include "naru/sync.h"

struct visiting {
    const char *kind;
    int (*visit)(const struct object *o, void *context);
    void *context;
};

static const struct naru_sync_options existing = {.size = sizeof existing, .create = NARU_CREATE_NO};

static void describe_mutex(struct object *o)
{
    struct naru_mutex *mutex;
    int64_t holder;

    if (naru_mutex_open(o->name, &existing, &mutex) < 0)
        return;
    holder = naru_mutex_holder(mutex);
    if (holder > 0)
        (void)snprintf(o->state, sizeof o->state, "held by process %" PRId64, holder);
    else
        (void)snprintf(o->state, sizeof o->state, "free");
    (void)naru_mutex_close(mutex);
}

static void describe_semaphore(struct object *o)
{
    struct naru_semaphore_info info = NARU_INIT(struct naru_semaphore_info);
    struct naru_semaphore *semaphore;

    if (naru_semaphore_open(o->name, &existing, 0, 0, &semaphore) < 0)
        return;
    if (naru_semaphore_info(semaphore, &info) == 0)
        (void)snprintf(o->state, sizeof o->state, "%" PRIu32 " free, %" PRIu32 " held", info.value,
                       info.held);
    (void)naru_semaphore_close(semaphore);
}

static void describe_event(struct object *o)
{
    struct naru_event *event;

    if (naru_event_open(o->name, &existing, NARU_EVENT_AUTO, &event) < 0 &&
        naru_event_open(o->name, &existing, NARU_EVENT_MANUAL, &event) < 0)
        return;
    (void)snprintf(o->state, sizeof o->state, "%s, %s-reset",
                   naru_event_is_set(event) == 1 ? "set" : "not set",
                   naru_event_mode(event) == NARU_EVENT_MANUAL ? "manual" : "auto");
    (void)naru_event_close(event);
}

/* Looking at a lock takes it for a moment, and its memory is believed (naru/sync.h, Trust). So it is looked
 * at only if the one who made it is the one who looks, or root: not, as root, what anybody left in /dev/shm.
 */
static bool is_trusted(const struct naru_sync_entry *entry)
{
    return entry->uid == geteuid() || entry->uid == 0;
}

static int visit_entry(const struct naru_sync_entry *entry, void *argument)
{
    const struct visiting *v = argument;
    struct object o = {.kind = naru_sync_kind_name(entry->kind),
                       .id = -1,
                       .uid = entry->uid,
                       .mode = entry->mode,
                       .bytes = -1,
                       .messages = -1,
                       .users = -1,
                       .pid = -1,
                       .state = "-"}; /* also of those that we do not open */

    if (v->kind && strcmp(v->kind, o.kind) != 0)
        return 0;
    (void)snprintf(o.name, sizeof o.name, "%s", entry->name);
    if (!is_trusted(entry))
        return v->visit(&o, v->context);
    if (entry->kind == NARU_SYNC_MUTEX)
        describe_mutex(&o);
    else if (entry->kind == NARU_SYNC_SEMAPHORE)
        describe_semaphore(&o);
    else if (entry->kind == NARU_SYNC_EVENT)
        describe_event(&o);
    return v->visit(&o, v->context);
}

int objects_each_sync(const char *kind, int (*visit)(const struct object *o, void *context), void *context)
{
    struct visiting v = {kind, visit, context};

    return naru_sync_list(visit_entry, &v);
}
