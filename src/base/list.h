/* SPDX-License-Identifier: MIT */
/* An intrusive doubly linked list. The head is a node whose neighbours are the last and the first element. */
#ifndef NARU_BASE_LIST_H
#define NARU_BASE_LIST_H

#include <stdbool.h>
#include <stddef.h>

struct list {
    struct list *next, *previous;
};

#define LIST_HEAD_INIT(head)                                                                                 \
    {                                                                                                        \
        &(head), &(head)                                                                                     \
    }
#define list_entry(node, type, member) ((type *)(void *)((char *)(node)-offsetof(type, member)))
#define list_for_each(node, head)      for ((node) = (head)->next; (node) != (head); (node) = (node)->next)

static inline void list_init(struct list *node)
{
    node->next = node->previous = node;
}

static inline bool list_is_empty(const struct list *head)
{
    return head->next == head;
}

/* Adds node before head: at the end of the list. */
static inline void list_append(struct list *head, struct list *node)
{
    node->previous = head->previous;
    node->next = head;
    head->previous->next = node;
    head->previous = node;
}

/* Takes node out; a node that is in no list (after list_init) may be removed too. */
static inline void list_remove(struct list *node)
{
    node->previous->next = node->next;
    node->next->previous = node->previous;
    list_init(node);
}

#endif
