/* SPDX-License-Identifier: MIT */
/* The URL parser: each production of the grammar, and each rejection with its sentence. */
#include "base/url.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "naru/error.h"
#include "runner.h"

static struct url parsed(const char *text)
{
    struct url url;

    if (url_parse(text, &url) < 0)
        test_fail(__FILE__, __LINE__, "%s was refused: %s", text, naru_explain());
    return url;
}

static void expect_parts(const char *text, const char *scheme, const char *target)
{
    struct url url = parsed(text);

    CHECK_STR(url.text, text);
    CHECK_STR(url.scheme, scheme);
    CHECK_STR(url.target, target);
    url_deinit(&url);
}

static void expect_refusal(const char *text, const char *sentence)
{
    struct url url, before;

    memset(&url, 0x5a, sizeof url);
    before = url;
    CHECK_INT(url_parse(text, &url), -EINVAL);
    CHECK_STR(naru_explain(), sentence);
    CHECK(memcmp(&url, &before, sizeof url) == 0); /* outputs are untouched on failure */
}

TEST(scheme_and_target_are_told_apart)
{
    expect_parts("unix:///run/my.sock", "unix", "/run/my.sock");
    expect_parts("unix:/run/my.sock", "unix", "/run/my.sock");
    expect_parts("unix:@name", "unix", "@name");
    expect_parts("fifo:relative", "fifo", "relative");
    expect_parts("tcp://host:80", "tcp", "host:80");
    expect_parts("shm+posix:/name", "shm+posix", "/name");
    expect_parts("pipe:", "pipe", "");
    expect_parts("fd:0", "fd", "0");
    expect_parts("a://///", "a", "///"); /* one pair of slashes is the separator, the rest is the target */
}

TEST(a_dash_is_the_standard_streams)
{
    struct url url = parsed("-?frame=nul");

    CHECK_STR(url.scheme, "-");
    CHECK_STR(url.target, "");
    CHECK_STR(url_option(&url, "frame"), "nul");
    url_deinit(&url);
    expect_parts("-", "-", "");
}

TEST(exec_takes_the_rest_as_it_stands)
{
    expect_parts("exec:ls -l | grep '?' & echo 100% //x", "exec", "ls -l | grep '?' & echo 100% //x");
    expect_parts("exec:///bin/true", "exec", "///bin/true");
}

TEST(percent_codes_are_decoded_in_targets_and_options)
{
    struct url url = parsed("unix:///a%3fb%20c?k%26y=v%3D1%25");

    CHECK_STR(url.target, "/a?b c");
    CHECK_STR(url_option(&url, "k&y"), "v=1%");
    CHECK_INT(url_check_unused(&url), 0);
    url_deinit(&url);
}

TEST(options_keep_their_order_and_a_missing_value_means_yes)
{
    struct url url = parsed("x:y?a=1&b&c=&d=p=q");
    bool flag = false;

    CHECK_INT(url.option_count, 4);
    CHECK_STR(url.options[0].key, "a");
    CHECK_STR(url_option(&url, "b"), "yes");
    CHECK_STR(url_option(&url, "c"), "");
    CHECK_STR(url_option(&url, "d"), "p=q"); /* the first = separates */
    CHECK(url_option(&url, "e") == NULL);
    CHECK_INT(url_option_flag(&url, "b", &flag), 0);
    CHECK(flag);
    url_deinit(&url);
}

TEST(what_is_no_url_is_refused_with_an_example)
{
    expect_refusal(NULL, "expected a URL such as unix:///run/my.sock, got an empty string");
    expect_refusal("", "expected a URL such as unix:///run/my.sock, got an empty string");
    expect_refusal("/run/my.sock", "'/run/my.sock' is not a URL; expected scheme:target as in "
                                   "unix:///run/my.sock or tcp://host:port");
    expect_refusal("--", "'--' is not a URL; expected scheme:target as in unix:///run/my.sock or "
                         "tcp://host:port");
    expect_refusal(":x",
                   "':x' is not a URL; expected scheme:target as in unix:///run/my.sock or tcp://host:port");
    expect_refusal(
        "9p:x", "'9p:x' is not a URL; expected scheme:target as in unix:///run/my.sock or tcp://host:port");
}

TEST(bad_percent_codes_are_refused)
{
    const char *mend = "expected two hexadecimal digits after '%'; write %25 for a percent sign";
    const char *const bad[] = {"x:%", "x:a%2", "x:%g0", "x:%0g", "x:y?k%=v", "x:y?k=%zz"};

    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char sentence[256];

        (void)snprintf(sentence, sizeof sentence, "%s: %s", bad[i], mend);
        expect_refusal(bad[i], sentence);
    }
    expect_refusal("x:a%00b", "x:a%00b: %00 cannot be part of a name");
    expect_refusal("x:y?k=%00", "x:y?k=%00: %00 cannot be part of a name");
}

TEST(bad_option_lists_are_refused)
{
    expect_refusal("x:y?", "x:y?: expected ?key=value&key=value after the name");
    expect_refusal("x:y?a=1&", "x:y?a=1&: expected ?key=value&key=value after the name");
    expect_refusal("x:y?=1", "x:y?=1: expected ?key=value&key=value after the name");
    expect_refusal("-?", "-?: expected ?key=value&key=value after the name");
    expect_refusal("x:y?a=1&b&%61=2", "x:y?a=1&b&%61=2: option 'a' is given twice");
}

TEST(sixteen_options_fit_and_seventeen_are_refused)
{
    const char *sixteen = "x:y?a&b&c&d&e&f&g&h&i&j&k&l&m&n&o&p";
    struct url url = parsed(sixteen);
    char seventeen[64];

    CHECK_INT(url.option_count, URL_OPTIONS_MAX);
    CHECK_STR(url_option(&url, "p"), "yes");
    url_deinit(&url);
    (void)snprintf(seventeen, sizeof seventeen, "%s&q", sixteen);
    expect_refusal(seventeen, "x:y?a&b&c&d&e&f&g&h&i&j&k&l&m&n&o&p&q: more than 16 options");
}

TEST(length_is_limited)
{
    char *text = malloc(URL_LENGTH_MAX + 2);
    struct url url;

    CHECK(text != NULL);
    memset(text, 'x', URL_LENGTH_MAX + 1);
    text[1] = ':';
    text[URL_LENGTH_MAX + 1] = '\0';
    CHECK_INT(url_parse(text, &url), -EINVAL);
    CHECK_STR(naru_explain(),
              "x:xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx...: a URL may have "
              "8192 bytes at most");
    text[URL_LENGTH_MAX] = '\0';
    url = parsed(text);
    url_deinit(&url);
    free(text);
}

static void expect_number(const char *value, int r, int64_t expected)
{
    char text[64];
    struct url url;
    int64_t number = 77;

    (void)snprintf(text, sizeof text, "x:y?n=%s", value);
    url = parsed(text);
    CHECK_INT(url_option_number(&url, "n", -100, 4096, &number), r);
    CHECK_INT(number, r < 0 ? 77 : expected);
    url_deinit(&url);
}

TEST(number_options_are_whole_and_in_range)
{
    const char *const bad[] = {"",    "x",    "1x", "+1", "%201", "1%20", "--1", "0x",
                               "0xg", "1.5",  "1k", "-",  "4097", "-101", "1e3", "99999999999999999999",
                               "0X",  "-0x7d"};

    expect_number("0", 0, 0);
    expect_number("-100", 0, -100);
    expect_number("4096", 0, 4096);
    expect_number("0x1F", 0, 31);
    expect_number("010", 0, 10); /* a leading zero does not mean octal */
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        expect_number(bad[i], -EINVAL, 0);
    expect_number("5000", -EINVAL, 0);
    CHECK_STR(naru_explain(), "x:y?n=5000: expected ?n= a number from -100 to 4096, got '5000'");
}

static void expect_size(const char *value, int r, size_t expected)
{
    char text[64];
    struct url url;
    size_t size = 77;

    (void)snprintf(text, sizeof text, "x:y?s=%s", value);
    url = parsed(text);
    CHECK_INT(url_option_size(&url, "s", 2, (size_t)3 << 30, &size), r);
    CHECK_INT(size, r < 0 ? 77 : expected);
    url_deinit(&url);
}

TEST(size_options_take_binary_suffixes)
{
    const char *const bad[] = {"1", "-2", "4G", "2kk", "2b", "k", "9999999999999G", ""};

    expect_size("2", 0, 2);
    expect_size("64k", 0, 64 << 10);
    expect_size("64K", 0, 64 << 10);
    expect_size("8M", 0, 8 << 20);
    expect_size("3G", 0, (size_t)3 << 30);
    expect_size("0x10k", 0, 16 << 10);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        expect_size(bad[i], -EINVAL, 0);
    expect_size("1", -EINVAL, 0);
    CHECK_STR(naru_explain(), "x:y?s=1: expected ?s= a size from 2 to 3221225472 bytes (k, M and G may "
                              "follow), got '1'");
}

static void expect_duration(const char *value, int r, int64_t expected)
{
    struct url url;
    int64_t duration = 77;
    char text[64];

    (void)snprintf(text, sizeof text, "x:y?d=%s", value);
    url = parsed(text);
    CHECK_INT(url_option_duration(&url, "d", &duration), r);
    CHECK_INT(duration, r < 0 ? 77 : expected);
    url_deinit(&url);
}

TEST(duration_options_have_a_unit_or_are_yes_or_no)
{
    const char *const bad[] = {"1",   "0s", "-2s", " 1s",      "1.5s",
                               "2us", "s",  "",    "2562048h", "99999999999999999999s"};

    expect_duration("no", 0, 0);
    expect_duration("yes", 0, INT64_MAX);
    expect_duration("500ms", 0, 500 * (int64_t)1000000);
    expect_duration("2s", 0, 2 * (int64_t)1000000000);
    expect_duration("1m", 0, 60 * (int64_t)1000000000);
    expect_duration("2562047h", 0, 2562047 * (int64_t)3600 * 1000000000);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        expect_duration(bad[i], -EINVAL, 0);
    expect_duration("maybe", -EINVAL, 0);
    CHECK_STR(naru_explain(),
              "x:y?d=maybe: expected ?d= no, yes or how long, as 500ms, 2s or 1m, got 'maybe'");
}

TEST(flag_options_have_eight_spellings)
{
    struct url url = parsed("x:y?a=yes&b=on&c=true&d=1&e=no&f=off&g=false&h=0&i=maybe");
    const char *const keys[] = {"a", "b", "c", "d", "e", "f", "g", "h"};

    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        bool flag = i >= 4;

        CHECK_INT(url_option_flag(&url, keys[i], &flag), 0);
        CHECK(flag == (i < 4));
    }
    CHECK_INT(url_option_flag(&url, "i", &(bool){false}), -EINVAL);
    CHECK_STR(naru_explain(), "x:y?a=yes&b=on&c=true&d=1&e=no&f=off&g=false&h=0&i=maybe: expected "
                              "?i=no|yes|off|on|false|true|0|1, got 'maybe'");
    url_deinit(&url);
}

TEST(mode_options_are_octal_permission_bits)
{
    const char *const bad[] = {"x:y?m=", "x:y?m=8", "x:y?m=-1", "x:y?m=01000", "x:y?m=0x1ff", "x:y?m=rw"};
    struct url url = parsed("x:y?m=0640&n=777");
    unsigned mode = 1;

    CHECK_INT(url_option_mode(&url, "m", &mode), 0);
    CHECK_INT(mode, 0640);
    CHECK_INT(url_option_mode(&url, "n", &mode), 0);
    CHECK_INT(mode, 0777);
    url_deinit(&url);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        url = parsed(bad[i]);
        CHECK_INT(url_option_mode(&url, "m", &mode), -EINVAL);
        CHECK_INT(mode, 0777);
        url_deinit(&url);
    }
    CHECK_STR(naru_explain(), "x:y?m=rw: expected ?m= octal permission bits such as 0660, got 'rw'");
}

TEST(word_options_are_one_of_a_list)
{
    static const char *const words[] = {"stream", "seqpacket", "dgram", NULL};
    struct url url = parsed("unix:/x?type=dgram&other=packet");
    int word = -7;

    CHECK_INT(url_option_word(&url, "type", words, &word), 0);
    CHECK_INT(word, 2);
    CHECK_INT(url_option_word(&url, "other", words, &word), -EINVAL);
    CHECK_STR(naru_explain(), "unix:/x?type=dgram&other=packet: expected ?other=stream|seqpacket|dgram, got "
                              "'packet'");
    CHECK_INT(word, 2);
    url_deinit(&url);
}

TEST(absent_options_leave_the_default)
{
    static const char *const words[] = {"a", NULL};
    struct url url = parsed("x:y");
    int64_t number = 7;
    size_t size = 7;
    unsigned mode = 7;
    int word = 7;
    bool flag = true;

    CHECK_INT(url_option_number(&url, "k", 0, 1, &number), 0);
    CHECK_INT(url_option_size(&url, "k", 0, 1, &size), 0);
    CHECK_INT(url_option_mode(&url, "k", &mode), 0);
    CHECK_INT(url_option_word(&url, "k", words, &word), 0);
    CHECK_INT(url_option_flag(&url, "k", &flag), 0);
    CHECK(number == 7 && size == 7 && mode == 7 && word == 7 && flag);
    url_deinit(&url);
}

TEST(an_option_that_nobody_asks_for_is_refused)
{
    struct url url = parsed("tcp://h:1?nodelay&bufer=4k");

    CHECK(url_option(&url, "nodelay") != NULL);
    CHECK_INT(url_check_unused(&url), -EINVAL);
    CHECK_STR(naru_explain(),
              "tcp://h:1?nodelay&bufer=4k: option 'bufer' means nothing to tcp here; see `naru help tcp`");
    CHECK(url_option(&url, "bufer") != NULL);
    CHECK_INT(url_check_unused(&url), 0);
    url_deinit(&url);
}

TEST(numeric_targets_say_what_they_are)
{
    struct url url = parsed("sysvmq:0x4d2");
    int64_t key = 0;

    CHECK_INT(url_target_number(&url, "a System V key", 0, 0xffffffff, &key), 0);
    CHECK_INT(key, 1234);
    url_deinit(&url);
    url = parsed("sysvmq:jobs");
    CHECK_INT(url_target_number(&url, "a System V key", 0, 0xffffffff, &key), -EINVAL);
    CHECK_STR(naru_explain(),
              "sysvmq:jobs: expected a System V key, a number from 0 to 4294967295, got 'jobs'");
    CHECK_INT(key, 1234);
    url_deinit(&url);
}

static void expect_host_port(const char *text, const char *host, const char *port)
{
    struct url url = parsed(text);
    char buffer[64];
    const char *ret_host, *ret_port;

    CHECK_INT(url_target_host_port(&url, buffer, sizeof buffer, &ret_host, &ret_port), 0);
    CHECK_STR(ret_host, host);
    CHECK_STR(ret_port, port);
    url_deinit(&url);
}

TEST(host_and_port_are_told_apart)
{
    expect_host_port("tcp://127.0.0.1:5000", "127.0.0.1", "5000");
    expect_host_port("tcp://example.org:0", "example.org", "0");
    expect_host_port("tcp://:65535", "", "65535");
    expect_host_port("tcp://[::1]:5000", "::1", "5000");
    expect_host_port("udp:[fe80::1%25eth0]:7", "fe80::1%eth0", "7");
}

static void refuse_host_port(const char *text, size_t capacity, const char *sentence)
{
    struct url url = parsed(text);
    char buffer[64];
    const char *host = "h", *port = "p";

    CHECK_INT(url_target_host_port(&url, buffer, capacity, &host, &port), -EINVAL);
    CHECK_STR(naru_explain(), sentence);
    CHECK_STR(host, "h");
    CHECK_STR(port, "p");
    url_deinit(&url);
}

TEST(bad_hosts_and_ports_are_refused_with_examples)
{
    const char *const shapes[] = {"tcp://h",     "tcp:",          "tcp://::1:80",
                                  "tcp://[::1]", "tcp://[::1:80", "tcp://[]:80"};
    const char *const ports[][2] = {
        {"tcp://h:", ""},         {"tcp://h:65536", "65536"},   {"tcp://h:-1", "-1"},
        {"tcp://h:http", "http"}, {"tcp://h:000080", "000080"}, {"tcp://[::1]:80/", "80/"}};
    char sentence[256];

    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        (void)snprintf(sentence, sizeof sentence,
                       "%s: expected host:port, as in tcp://127.0.0.1:5000, tcp://[::1]:5000 or tcp://:5000",
                       shapes[i]);
        refuse_host_port(shapes[i], 64, sentence);
    }
    for (size_t i = 0; i < sizeof ports / sizeof *ports; i++) {
        (void)snprintf(sentence, sizeof sentence,
                       "%s: expected a port from 0 to 65535 behind the last ':', got '%s'", ports[i][0],
                       ports[i][1]);
        refuse_host_port(ports[i][0], 64, sentence);
    }
    /* "host:port" has nine bytes and needs ten. */
    refuse_host_port("tcp:host:5000", 9,
                     "tcp:host:5000: expected host:port, as in tcp://127.0.0.1:5000, tcp://[::1]:5000 or "
                     "tcp://:5000");
}
