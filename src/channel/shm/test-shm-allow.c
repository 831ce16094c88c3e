/* SPDX-License-Identifier: MIT */
/* Who may be at the other end of shm: the lists of users and groups, of a listener and of a connector. */
#include <grp.h>
#include <unistd.h>

#include "channel/shm/test-shm.h"

TEST(allow_lists_are_lists_of_numbers)
{
    static const char *const bad[] = {"",           "?",   "root",
                                      "1,",         ",1",  "1,,2",
                                      "1 ,2",       " 1",  "-1",
                                      "4294967295", "1x",  "99999999999999999999",
                                      "0x10",       "1;2", "1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17"};

    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        check_refused(test_format("%s?allow-uid=%s", url(), bad[i]), -EINVAL, "allow-uid");
        check_refused(test_format("%s?allow-gid=%s", url(), bad[i]), -EINVAL, "allow-gid");
    }
    naru_listener_close(
        listen_there("?allow-uid=1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16&allow-gid=4294967294"));
}

/* A connect in a child, as nobody, with the supplementary group 4242. */
static int fork_nobody(const char *text, int code)
{
    const gid_t groups[] = {4242};
    int pid;

    pid = test_fork();
    if (pid == 0) {
        struct naru_channel *ch = NULL;

        CHECK(setgroups(1, groups) == 0 && setgid(65534) == 0 && setuid(65534) == 0);
        CHECK_INT(naru_connect(text, NULL, patience, &ch), code);
        if (code < 0)
            CHECK_CONTAINS(naru_explain(), "permission denied");
        naru_channel_close(ch);
        test_child_end();
    }
    return pid;
}

static const struct {
    const char *label, *query;
    bool abstract, allowed;
} lists[] = {
    {"none", "", false, true},
    {"another user", "&allow-uid=65533", false, false},
    {"user", "&allow-uid=7,65534", false, true},
    {"group", "&allow-gid=65534", false, true},
    {"another group", "&allow-gid=65533", false, false},
    {"one of its groups", "&allow-gid=1,4242", false, true},
    {"user or group", "&allow-uid=7&allow-gid=4242", false, true},
    {"abstract, none", "", true, false},
    {"abstract, user", "&allow-uid=65534", true, true},
};

static const char *each_list(size_t index)
{
    return index < sizeof lists / sizeof *lists ? lists[index].label : NULL;
}

TEST_EACH(a_list_decides_who_may_connect, each_list)
{
    const char *text = lists[index].abstract ? test_format("shm:@naru%s", test_directory()) : url();
    const char *mode = lists[index].abstract ? "" : "&mode=0666"; /* a name has no permissions */
    struct naru_listener *l = NULL;
    struct naru_channel *ch = NULL;
    int pid, r;

    test_need_root();
    CHECK_INT(naru_listen(test_format("%s?service=manual%s%s", text, mode, lists[index].query), NULL, &l), 0);
    pid = fork_nobody(text, lists[index].allowed ? 0 : -EACCES);
    WAIT_UNTIL(test_is_readable(naru_listener_fd(l)));
    while ((r = naru_accept(l, NARU_NOWAIT, &ch)) == -EAGAIN && lists[index].allowed)
        WAIT_UNTIL(test_is_readable(naru_listener_fd(l)));
    CHECK_INT(r, lists[index].allowed ? 0 : -EAGAIN);
    test_join(pid);
    ch = naru_channel_close(ch);
    naru_listener_close(l);
    CHECK_INT(naru_listen(test_format("%s?service=keeper%s%s", text, mode, lists[index].query), NULL, &l), 0);
    test_join(fork_nobody(text, lists[index].allowed ? 0 : -EACCES)); /* answered by the keeper */
    CHECK_INT(naru_accept(l, NARU_NOWAIT, &ch), lists[index].allowed ? 0 : -EAGAIN);
    naru_channel_close(ch);
    naru_listener_close(l);
}

TEST(a_connector_has_a_list_of_its_own)
{
    struct naru_listener *l = listen_there("");
    struct naru_channel *ch = NULL;

    CHECK_INT(naru_connect(test_format("%s?allow-uid=%u", url(), getuid() + 1), NULL, patience, &ch),
              -EACCES);
    CHECK_CONTAINS(naru_explain(), "permission denied");
    naru_listener_close(l);
}
