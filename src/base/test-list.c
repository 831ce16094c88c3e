/* SPDX-License-Identifier: MIT */
/* The intrusive list. */
#include "base/list.h"

#include "runner.h"

struct item {
    int value;
    struct list node;
};

static struct list head = LIST_HEAD_INIT(head);

/* The values in order as one decimal number: 1, 2, 3 give 123. */
static int digits(void)
{
    struct list *node;
    int number = 0;

    list_for_each(node, &head) number = number * 10 + list_entry(node, struct item, node)->value;
    return number;
}

TEST(appending_keeps_the_order)
{
    struct item items[3] = {{.value = 1}, {.value = 2}, {.value = 3}};

    CHECK(list_is_empty(&head));
    CHECK_INT(digits(), 0);
    for (int i = 0; i < 3; i++)
        list_append(&head, &items[i].node);
    CHECK(!list_is_empty(&head));
    CHECK_INT(digits(), 123);
}

TEST(removing_takes_one_out_wherever_it_stands)
{
    struct item items[4] = {{.value = 1}, {.value = 2}, {.value = 3}, {.value = 4}};

    for (int i = 0; i < 4; i++)
        list_append(&head, &items[i].node);
    list_remove(&items[1].node);
    CHECK_INT(digits(), 134);
    list_remove(&items[0].node);
    CHECK_INT(digits(), 34);
    list_remove(&items[3].node);
    CHECK_INT(digits(), 3);
    list_remove(&items[2].node);
    CHECK(list_is_empty(&head));
}

TEST(what_is_in_no_list_may_be_removed)
{
    struct item item = {.value = 1};

    list_init(&item.node);
    list_remove(&item.node);
    list_append(&head, &item.node);
    list_remove(&item.node);
    list_remove(&item.node);
    CHECK(list_is_empty(&head));
    list_append(&head, &item.node);
    CHECK_INT(digits(), 1);
}
