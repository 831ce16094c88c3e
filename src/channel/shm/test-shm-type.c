/* SPDX-License-Identifier: MIT */
/* shm: two programs that mean different things by a message are told so before the first one. */
#include <errno.h>
#include <stdbool.h>
#include <sys/wait.h>
#include <unistd.h>

#include "naru/naru.h"
#include "runner.h"

struct pose {
    double x, y, heading;
};

static const char *url(void)
{
    return test_format("shm://%s/pose", test_directory());
}

/* Connects in a child with that type. What naru_connect() says there, and whether its sentence has the words.
 */
static int connect_with(struct naru_type type, int expected, const char *words)
{
    int child = test_fork();

    if (child == 0) {
        struct naru_options options = NARU_INIT(struct naru_options);
        struct naru_channel *ch = NULL;

        options.type = type;
        CHECK_INT(naru_connect(url(), &options, NARU_S(60), &ch), expected);
        if (*words)
            CHECK_CONTAINS(naru_explain(), words);
        if (expected == 0) {
            struct pose pose = {1, 2, 3};

            CHECK_INT(naru_send(ch, &pose, sizeof pose, NARU_FOREVER), 0);
        }
        (void)naru_channel_close(ch);
        _exit(0);
    }
    return child;
}

static struct naru_listener *listen_for(struct naru_type type)
{
    struct naru_options options = NARU_INIT(struct naru_options);
    struct naru_listener *l;

    options.type = type;
    CHECK_INT(naru_listen(url(), &options, &l), 0);
    return l;
}

static bool has_ended(int child)
{
    siginfo_t info = {.si_pid = 0};

    return waitid(P_PID, (id_t)child, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid == child;
}

static void check_accepted(struct naru_listener *l, int child)
{
    struct naru_channel *ch;
    struct pose pose;

    CHECK_INT(naru_accept(l, NARU_S(60), &ch), 0);
    CHECK_INT(naru_recv(ch, &pose, sizeof pose, NARU_S(60)), sizeof pose);
    CHECK(pose.heading == 3);
    test_join(child);
    (void)naru_channel_close(ch);
}

TEST(one_type_or_none_meets)
{
    const struct naru_type none = {NULL, 0, 0, 0};
    struct naru_listener *l = listen_for(NARU_TYPE(struct pose, 2));

    check_accepted(l, connect_with(NARU_TYPE(struct pose, 2), 0, ""));
    check_accepted(l, connect_with(none, 0, "")); /* a tool that only passes bytes on */
    (void)naru_listener_close(l);
    l = listen_for(none);
    check_accepted(l, connect_with(NARU_TYPE(struct pose, 9), 0, ""));
    (void)naru_listener_close(l);
}

TEST(another_type_is_refused_with_both_descriptions)
{
    struct naru_listener *l = listen_for(NARU_TYPE(struct pose, 2));
    const struct naru_type larger = {"struct pose", sizeof(struct pose) + 8, 8, 2},
                           packed = {"struct pose", 24, 1, 2}, named = {"struct posture", 24, 8, 2},
                           odd = {"\033[31mred\nlonger than the forty-seven bytes that are compared", 24, 8,
                                  2};
    struct naru_channel *ch;
    int children[] = {
        connect_with(NARU_TYPE(struct pose, 1), -EPROTOTYPE,
                     "our messages are struct pose version 1 (24 bytes, aligned to 8), the peer's struct "
                     "pose version 2 "
                     "(24 bytes, aligned to 8)"),
        connect_with(larger, -EPROTOTYPE, "version 2 (32 bytes"),
        connect_with(packed, -EPROTOTYPE, "aligned to 1)"),
        connect_with(named, -EPROTOTYPE, "struct posture version 2"),
        connect_with(odd, -EPROTOTYPE,
                     "our messages are ?[31mred?longer than the forty-seven bytes that version 2"),
    };
    int right = connect_with(NARU_TYPE(struct pose, 2), 0, "");

    check_accepted(l, right); /* the others do not disturb */
    for (size_t i = 0; i < sizeof children / sizeof *children; i++) {
        while (!has_ended(children[i]))
            CHECK_INT(naru_accept(l, NARU_MS(50), &ch), -ETIMEDOUT);
        test_join(children[i]);
    }
    (void)naru_listener_close(l);
}

/* What is compared is the declarations: several in a row go, and what is cut off is the receiver's to see. */
TEST(messages_of_a_type_have_any_length)
{
    struct naru_options options = NARU_INIT(struct naru_options);
    struct naru_listener *l = listen_for(NARU_TYPE(struct pose, 2));
    struct pose poses[3] = {{1, 2, 3}, {4, 5, 6}, {7, 8, 9}}, got[3];
    struct naru_view view = NARU_INIT(struct naru_view);
    struct naru_channel *far, *near;

    options.type = NARU_TYPE(struct pose, 2);
    CHECK_INT(naru_connect(url(), &options, NARU_S(60), &far), 0);
    CHECK_INT(naru_accept(l, NARU_S(60), &near), 0);
    CHECK_INT(naru_send(far, poses, sizeof poses, NARU_FOREVER), 0);
    CHECK_INT(naru_recv(near, got, sizeof got, NARU_FOREVER), sizeof got);
    CHECK(got[2].heading == 9);
    for (size_t length = 0; length < sizeof *poses; length++) {
        CHECK_INT(naru_send(far, poses, length, NARU_FOREVER), 0);
        CHECK_INT(naru_borrow(near, NARU_FOREVER, &view), 0);
        CHECK_INT(view.length, length);
        CHECK_INT((uintptr_t)view.data % 8, 0);
        naru_release(&view);
    }
    naru_channel_close(far);
    naru_channel_close(near);
    naru_listener_close(l);
}

TEST(half_a_type_is_refused_at_once)
{
    struct naru_options options = NARU_INIT(struct naru_options);
    struct naru_listener *l;

    options.type.name = "struct pose";
    CHECK_INT(naru_listen(url(), &options, &l), -EINVAL);
    CHECK_CONTAINS(naru_explain(), "NARU_TYPE(struct yours, 1)");
}
