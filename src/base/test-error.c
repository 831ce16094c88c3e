/* SPDX-License-Identifier: MIT */
/* Errors: the sentence belongs to the thread, expected outcomes cost nothing, and nothing is cut off its end.
 */
#include "base/error.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>

#include "runner.h"

TEST(there_is_no_error_before_the_first)
{
    CHECK_STR(naru_explain(), "no error");
}

TEST(a_set_error_returns_its_code_and_keeps_the_sentence)
{
    CHECK_INT(error_set(ENOENT, "unix://%s: %s", "/x", error_text(ENOENT)), -ENOENT);
    CHECK_STR(naru_explain(), "unix:///x: No such file or directory");
    CHECK_STR(naru_explain(), "unix:///x: No such file or directory"); /* reading does not use it up */
}

TEST(expected_outcomes_have_fixed_texts)
{
    CHECK_INT(error_set(EINVAL, "before"), -EINVAL);
    CHECK_INT(error_expected(EAGAIN), -EAGAIN);
    CHECK_STR(naru_explain(),
              "it would have had to wait, and was not to (NARU_NOWAIT, or a call that never waits)");
    CHECK_INT(error_expected(ETIMEDOUT), -ETIMEDOUT);
    CHECK_STR(naru_explain(), "the time was up before it could be done");
    CHECK_INT(error_expected(ECANCELED), -ECANCELED);
    CHECK_STR(naru_explain(), "the wait was ended by naru_interrupt()");
    CHECK_INT(error_expected(EPIPE), -EPIPE);
    CHECK_STR(naru_explain(), "the other end was closed");
    CHECK_INT(error_set(EINVAL, "after"), -EINVAL);
    CHECK_STR(naru_explain(), "after");
}

TEST(a_long_sentence_is_cut_in_the_middle)
{
    char name[4000];
    size_t length;

    memset(name, 'n', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    CHECK_INT(error_set(EMSGSIZE, "unix:///%s: too large; send less", name), -EMSGSIZE);
    length = strlen(naru_explain());
    CHECK(length > 900 && length < sizeof name);
    CHECK(strncmp(naru_explain(), "unix:///nnnn", 12) == 0);
    CHECK_CONTAINS(naru_explain(), "n...n");
    CHECK_STR(naru_explain() + length - 25, "nnn: too large; send less");
}

static void *fail_elsewhere(void *arg)
{
    (void)error_set(EIO, "another thread's");
    return arg;
}

TEST(each_thread_has_its_own_sentence)
{
    pthread_t thread;

    CHECK_INT(error_set(EINVAL, "mine"), -EINVAL);
    CHECK_INT(pthread_create(&thread, NULL, fail_elsewhere, NULL), 0);
    CHECK_INT(pthread_join(thread, NULL), 0);
    CHECK_STR(naru_explain(), "mine");
}

TEST(the_text_of_any_number_is_a_text)
{
    CHECK_STR(error_text(EPERM), "Operation not permitted");
    CHECK_STR(error_text(987654), "unknown error");
    CHECK_STR(error_text(-1), "unknown error");
}
