/* SPDX-License-Identifier: MIT */
/* A gather and many processes: those who come and go, those who are killed, flood, or lie; and a thousand. */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "mechanism.h"
#include "naru/naru.h"

static const struct {
    const char *name, *url; /* %s: the test's directory */
    bool survives, knows_death;
} ways[] = {{"shm", "shm://%s/s?ring=16k", true, true},
            {"unix-stream", "unix://%s/s", true, true},
            {"unix-seqpacket", "unix://%s/s?type=seqpacket", true, true},
            {"tcp", "tcp://127.0.0.1:0%.0s", false, false}};

static const char *each_way(size_t index)
{
    return index < sizeof ways / sizeof *ways ? ways[index].name : NULL;
}

static const int64_t patience = NARU_S(60);

/* Returns the URL to connect to. */
static const char *open_gather(size_t way, struct naru_gather **ret_g)
{
    const char *url;
    char asked[300];

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    snprintf(asked, sizeof asked, ways[way].url, test_directory());
#pragma GCC diagnostic pop
    CHECK_OK(naru_gather_new(ret_g));
    CHECK_OK(naru_gather_listen(*ret_g, asked, NULL, &url));
    return url;
}

struct word {
    uint32_t sender, number;
};

static void send_word(struct naru_channel *ch, uint32_t sender, uint32_t number)
{
    struct word word = {sender, number};

    CHECK_OK(naru_send(ch, &word, sizeof word, patience));
}

static struct naru_channel *join(const char *url)
{
    struct naru_channel *ch;

    CHECK_OK(naru_connect(url, NULL, patience, &ch));
    return ch;
}

enum { SENDERS = 6, WORDS = 3000 };

/* Some hurry and some stroll, so that some are found busy and others asleep. */
static void send_words(const char *url, uint32_t sender)
{
    const struct timespec pause = {.tv_nsec = 200 * 1000};
    struct naru_channel *ch = join(url);
    char answer[8];

    for (uint32_t i = 0; i < WORDS; i++) {
        send_word(ch, sender, i);
        if (sender % 2 && i % 50 == 0)
            nanosleep(&pause, NULL);
    }
    CHECK_INT(naru_recv(ch, answer, sizeof answer, patience), 3);
    naru_channel_close(ch);
    test_child_end();
}

TEST_EACH(every_word_of_every_sender_comes_in_order_and_then_its_end, each_way)
{
    struct naru_gather_from from = NARU_INIT(struct naru_gather_from);
    uint32_t next[SENDERS] = {0}, who[SENDERS + 1] = {0};
    struct naru_gather *g;
    const char *url = open_gather(index, &g);
    int pids[SENDERS], left = 0;

    for (uint32_t i = 0; i < SENDERS; i++)
        if ((pids[i] = test_fork()) == 0)
            send_words(url, i);
    while (left < SENDERS) {
        struct word word;
        ssize_t n = naru_gather_recv(g, &word, sizeof word, patience, &from);

        if (from.left) {
            CHECK_INT(n, -EPIPE);
            CHECK_INT(next[who[from.number]], WORDS);
            left++;
            continue;
        }
        CHECK_INT(CHECK_OK(n), sizeof word);
        CHECK(from.number >= 1 && from.number <= SENDERS && word.sender < SENDERS);
        if (word.number == 0)
            who[from.number] = word.sender;
        CHECK_INT(who[from.number], word.sender);
        CHECK_INT(word.number, next[word.sender]++);
        if (word.number == WORDS - 1)
            CHECK_OK(naru_send(from.channel, "bye", 3, patience));
    }
    for (int i = 0; i < SENDERS; i++)
        test_join(pids[i]);
    CHECK_INT(naru_gather_peers(g), 0);
    naru_gather_close(g);
}

static void *send_for_ever(void *channel)
{
    char flood[512] = "flood";

    while (naru_send(channel, flood, sizeof flood, NARU_FOREVER) == 0)
        ;
    return NULL;
}

/* It ends only if the quiet one gets through, again and again, beside those who always have something. */
TEST_EACH(who_floods_does_not_starve_the_others, each_way)
{
    struct naru_gather_from from = NARU_INIT(struct naru_gather_from);
    struct naru_gather *g;
    const char *url = open_gather(index, &g);
    struct test_gate flood;
    uint64_t flooded = 0;
    int pids[3];

    test_gate_init(&flood);
    for (int i = 0; i < 3; i++) {
        pids[i] = test_fork();
        if (pids[i] == 0 && i < 2) {
            send_for_ever(join(url));
            test_child_end();
        }
        if (pids[i] == 0) {
            struct naru_channel *ch = join(url);

            test_gate_wait(&flood);
            for (uint32_t k = 0; k < 300; k++) {
                char answer[4];

                send_word(ch, 0, k);
                CHECK_INT(naru_recv(ch, answer, sizeof answer, patience), 2);
            }
            naru_channel_close(ch);
            test_child_end();
        }
    }
    while (from.left != -EPIPE) {
        char buf[512];
        ssize_t n = naru_gather_recv(g, buf, sizeof buf, patience, &from);

        if (n == sizeof(struct word))
            CHECK_OK(naru_send(from.channel, "ok", 2, patience));
        else if (!from.left && CHECK_OK(n) == sizeof buf && flooded++ == 0)
            test_gate_open(&flood); /* now there is something to get through beside */
    }
    CHECK(flooded > 0);
    naru_gather_close(g);
    for (int i = 0; i < 3; i++)
        test_kill(pids[i]);
}

/* --- killed senders --- */

enum { AT_ONCE = 14 };

static unsigned rounds(void)
{
    return 1010 / AT_ONCE / (sizeof ways / sizeof *ways) + 1;
}

/* A round: all send as fast as they can and are killed at some moment, one by one, while the gather receives.
 */
static uint64_t kill_senders(size_t way)
{
    _Atomic uint32_t *accepted = test_shared(AT_ONCE * sizeof *accepted);
    struct naru_gather_from from = NARU_INIT(struct naru_gather_from);
    uint32_t next[AT_ONCE] = {0};
    struct naru_gather *g;
    const char *url = open_gather(way, &g);
    int pids[AT_ONCE], killed = 0, left = 0;
    uint64_t total = 0;

    for (uint32_t i = 0; i < AT_ONCE; i++) {
        pids[i] = test_fork();
        if (pids[i] == 0) {
            struct naru_channel *ch = join(url);

            for (uint32_t k = 0;; k++) {
                send_word(ch, i, k);
                atomic_store(&accepted[i], k + 1);
            }
        }
    }
    CHECK_INT(CHECK_OK(naru_gather_wait_peers(g, AT_ONCE, patience)), AT_ONCE);
    while (left < AT_ONCE) {
        struct word word;
        ssize_t n = naru_gather_recv(g, &word, sizeof word, patience, &from);

        if (killed < AT_ONCE && test_random() % 50 == 0)
            CHECK_INT(kill(pids[killed++], SIGKILL), 0);
        if (from.left) {
            /* EPROTO: in the middle of a frame; tcp: what the network says */
            CHECK(n == -EOWNERDEAD || n == -EPROTO ||
                  (!ways[way].knows_death && (n == -EPIPE || n == -ECONNRESET)));
            left++;
            continue;
        }
        CHECK_INT(CHECK_OK(n), sizeof word);
        CHECK_INT(word.number, next[word.sender]++);
    }
    for (int i = 0; i < AT_ONCE; i++) {
        test_kill(pids[i]);
        if (ways[way].survives)
            CHECK(next[i] >= accepted[i] && next[i] <= accepted[i] + 1);
        total += next[i];
    }
    naru_gather_close(g);
    return total;
}

/* How many wait in the queue of who listens at a port: tcp(7)'s list has it in place of the bytes unread. */
static int come_to(unsigned port)
{
    FILE *file = fopen("/proc/net/tcp", "re");
    unsigned local, state, waiting;
    int come = -1;
    char line[256];

    CHECK(file);
    while (fgets(line, sizeof line, file))
        if (sscanf(line, " %*u: %*8[0-9A-F]:%x %*[0-9A-F:] %x %*x:%x", &local, &state, &waiting) == 3 &&
            local == port && state == 0x0a)
            come = (int)waiting;
    fclose(file);
    return come;
}

/* connect(2) of tcp returns when the other side's answer is here; it has this side's a moment later. */
static void await_all_come(const char *url)
{
    unsigned port;

    if (sscanf(url, "tcp://127.0.0.1:%u", &port) == 1)
        WAIT_UNTIL(come_to(port) == SENDERS);
}

TEST_EACH(finishing_loses_nobody_who_has_come_and_lets_in_nobody_else, each_way)
{
    struct naru_gather_from from = NARU_INIT(struct naru_gather_from);
    struct naru_gather *g;
    struct naru_channel *late;
    struct word word;
    int words = 0, left = 0;
    ssize_t n;
    char *url = strdup(open_gather(index, &g));

    for (uint32_t i = 0; i < SENDERS; i++) {
        struct naru_channel *ch = join(url);

        send_word(ch, i, 0);
        send_word(ch, i, 1);
        naru_channel_close(ch);
    }
    await_all_come(url);
    CHECK_INT(naru_gather_finish(g), SENDERS);
    CHECK_INT(naru_connect(url, NULL, NARU_MS(20), &late), -ETIMEDOUT);
    while ((n = naru_gather_recv(g, &word, sizeof word, patience, &from)) >= 0 || from.left) {
        left += from.left != 0;
        words += n == sizeof word;
    }
    CHECK_INT(n, -ENOTCONN);
    CHECK_INT(words, 2 * SENDERS);
    CHECK_INT(left, SENDERS);
    CHECK_INT(naru_gather_finish(g), 0);
    naru_gather_close(g);
    free(url);
}

TEST_EACH(what_was_accepted_arrives_though_its_senders_are_killed, each_way)
{
    uint64_t total = 0;

    for (unsigned i = 0; i < rounds(); i++)
        total += kill_senders(index);
    CHECK(total > 0);
    test_note("%u senders killed", rounds() * AT_ONCE);
}

TEST(a_run_kills_at_least_a_thousand_senders)
{
    CHECK(rounds() * AT_ONCE * (sizeof ways / sizeof *ways) >= 1000);
}

/* --- strangers --- */

static int raw_connect(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    CHECK(fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof address) == 0);
    return fd;
}

TEST(a_peer_that_breaks_off_inside_a_message_or_lies_of_its_length_is_dropped)
{
    struct naru_gather_from from = NARU_INIT(struct naru_gather_from);
    const char *path = test_format("%s/s", test_directory());
    struct naru_channel *honest;
    struct naru_gather *g;
    struct word word;
    int cut, liar;

    CHECK_OK(naru_gather_new(&g));
    CHECK_OK(naru_gather_listen(g, test_format("unix://%s?max-message=1000", path), NULL, NULL));
    cut = raw_connect(path);
    liar = raw_connect(path);
    honest = join(test_format("unix://%s", path));
    CHECK_INT(naru_gather_wait_peers(g, 3, patience), 3);
    CHECK_INT(write(cut, "\0\0\0\7abc", 7), 7);
    CHECK_INT(write(liar, "\377\377\377\377abc", 7), 7);
    send_word(honest, 1, 1);
    close(cut);
    for (int ends = 0; ends < 2;) {
        ssize_t n = naru_gather_recv(g, &word, sizeof word, patience, &from);

        CHECK_INT(n, from.number == 3 ? (long long)sizeof word : -EPROTO);
        ends += from.left == -EPROTO;
    }
    for (uint32_t i = 0; i < 100; i++)
        send_word(honest, 1, i);
    for (uint32_t i = 0; i < 100; i++) {
        ssize_t n = naru_gather_recv(g, &word, sizeof word, patience, &from);

        if (from.number == 3)
            CHECK_INT(n, sizeof word);
    }
    close(liar);
    naru_channel_close(honest);
    naru_gather_close(g);
}

TEST_EACH(more_than_the_limit_wait_until_somebody_goes, each_way)
{
    struct naru_gather_from from = NARU_INIT(struct naru_gather_from);
    struct naru_gather *g;
    const char *url = open_gather(index, &g);
    int pids[4], ended = 0;
    uint32_t heard = 0;

    CHECK_OK(naru_gather_limit(g, 2));
    for (uint32_t i = 0; i < 4; i++) {
        pids[i] = test_fork();
        if (pids[i] == 0) {
            struct naru_channel *ch = join(url);

            send_word(ch, i, 0);
            naru_channel_close(ch);
            test_child_end();
        }
    }
    while (ended < 4) {
        struct word word;
        ssize_t n = naru_gather_recv(g, &word, sizeof word, patience, &from);

        CHECK(naru_gather_peers(g) <= 2);
        ended += from.left != 0;
        if (!from.left && CHECK_OK(n) == sizeof word)
            heard |= 1U << word.sender;
    }
    CHECK_INT(heard, 15);
    for (int i = 0; i < 4; i++)
        test_join(pids[i]);
    naru_gather_close(g);
}

TEST(several_mechanisms_are_one_gather)
{
    struct naru_gather_from from = NARU_INIT(struct naru_gather_from);
    const char *urls[2] = {test_format("shm://%s/a", test_directory()),
                           test_format("unix://%s/b", test_directory())};
    struct naru_channel *pair[2];
    struct naru_gather *g;
    uint32_t heard = 0;
    int pids[2], ended = 0;

    CHECK_OK(naru_gather_new(&g));
    CHECK_OK(naru_channel_pair("pipe:", NULL, pair));
    CHECK_OK(naru_gather_add(g, pair[1], NULL));
    send_word(pair[0], 2, 0);
    naru_channel_close(pair[0]);
    for (uint32_t i = 0; i < 2; i++) {
        CHECK_OK(naru_gather_listen(g, urls[i], NULL, NULL));
        pids[i] = test_fork();
        if (pids[i] == 0) {
            struct naru_channel *ch = join(urls[i]);

            send_word(ch, i, 0);
            naru_channel_close(ch);
            test_child_end();
        }
    }
    while (ended < 3) {
        struct word word;
        ssize_t n = naru_gather_recv(g, &word, sizeof word, patience, &from);

        ended += from.left != 0;
        if (!from.left && CHECK_OK(n) == sizeof word)
            heard |= 1U << word.sender;
    }
    CHECK_INT(heard, 7);
    for (int i = 0; i < 2; i++)
        test_join(pids[i]);
    naru_gather_close(g);
}

TEST(a_name_that_was_removed_is_told_and_who_is_there_stays)
{
    const char *path = test_format("%s/s", test_directory()), *url = test_format("unix://%s", path);
    struct naru_gather_from from = NARU_INIT(struct naru_gather_from);
    struct naru_channel *ch;
    struct naru_gather *g;
    struct word word;

    CHECK_OK(naru_gather_new(&g));
    CHECK_OK(naru_gather_listen(g, url, NULL, NULL));
    ch = join(url);
    CHECK_INT(naru_gather_wait_peers(g, 1, patience), 1);
    CHECK_INT(unlink(path), 0);
    CHECK_INT(naru_gather_recv(g, &word, sizeof word, patience, &from), -ENOENT);
    CHECK(from.number == 0 && !from.left);
    send_word(ch, 1, 1);
    CHECK_INT(naru_gather_recv(g, &word, sizeof word, patience, &from), sizeof word);
    naru_channel_close(ch);
    CHECK_INT(naru_gather_recv(g, &word, sizeof word, patience, &from), -EPIPE);
    CHECK_INT(naru_gather_recv(g, &word, sizeof word, patience, &from), -ENOTCONN);
    naru_gather_close(g);
}

static void *connect_thread(void *url)
{
    return join(url);
}

TEST(a_lack_of_descriptors_is_told_once_and_overcome)
{
    struct naru_gather_from from = NARU_INIT(struct naru_gather_from);
    const char *url = test_format("unix://%s/s", test_directory());
    struct naru_channel *there, *late;
    struct naru_gather *g;
    pthread_t thread;
    struct word word;
    void *result;
    int r, spare;

    CHECK_OK(naru_gather_new(&g));
    CHECK_OK(naru_gather_listen(g, url, NULL, NULL));
    there = join(url);
    CHECK_INT(naru_gather_wait_peers(g, 1, patience), 1);
    CHECK_INT(pthread_create(&thread, NULL, connect_thread, (void *)(uintptr_t)url), 0);
    CHECK_INT(pthread_join(thread, &result), 0);
    late = result;
    spare = dup(0);
    test_limit_descriptors(0);
    CHECK_INT(naru_gather_recv(g, &word, sizeof word, patience, &from), -EMFILE);
    CHECK(from.number == 0);
    send_word(there, 1, 1);
    CHECK_INT(naru_gather_recv(g, &word, sizeof word, patience, &from), sizeof word);
    CHECK_INT(naru_gather_recv(g, &word, sizeof word, NARU_MS(250), &from), -ETIMEDOUT); /* tried, not told */
    close(spare);
    naru_channel_close(there); /* two descriptors are free */
    do
        r = (int)naru_gather_recv(g, &word, sizeof word, patience, &from);
    while (r == -EMFILE);
    CHECK_INT(r, -EPIPE);
    send_word(late, 2, 2);
    CHECK_INT(naru_gather_recv(g, &word, sizeof word, patience, &from), sizeof word);
    CHECK_INT(from.number, 2);
    naru_channel_close(late);
    naru_gather_close(g);
}

/* How many descriptors are left when somebody comes: too few for what comes then. */
static const struct {
    const char *name;
    size_t way, left;
} straits[] = {{"shm, one left", 0, 1},
               {"shm, four left", 0, 4},
               {"unix-stream, none left", 1, 0},
               {"unix-seqpacket, none left", 2, 0}};

static const char *each_strait(size_t index)
{
    return index < sizeof straits / sizeof *straits ? straits[index].name : NULL;
}

/* As an event loop: calls when it is woken, and not before. */
static int call_when_woken(struct naru_gather *g, int fd)
{
    struct naru_gather_from from = NARU_INIT(struct naru_gather_from);
    struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
    struct word word;

    CHECK_INT(poll(&poll_fd, 1, (int)(patience / NARU_MS(1))), 1);
    return (int)naru_gather_recv(g, &word, sizeof word, NARU_NOWAIT, &from);
}

TEST_EACH(an_event_loop_is_woken_to_try_again_what_a_lack_of_descriptors_held_up, each_strait)
{
    struct naru_gather *g;
    const char *url = open_gather(straits[index].way, &g);
    int fd = naru_gather_fd(g), pid, r;
    struct test_gate short_of;
    int64_t start;

    CHECK(fd >= 0 && !test_is_readable(fd));
    test_gate_init(&short_of);
    pid = test_fork();
    if (pid == 0) {
        struct naru_channel *ch;

        test_gate_wait(&short_of);
        ch = join(url);
        send_word(ch, 1, 1);
        CHECK_OK(naru_flush(ch, NARU_TAKEN, patience));
        naru_channel_close(ch);
        test_child_end();
    }
    test_limit_descriptors(straits[index].left);
    test_gate_open(&short_of);
    while ((r = call_when_woken(g, fd)) != -EMFILE)
        CHECK_INT(r, -EAGAIN);
    start = clock_now();
    for (int i = 0; i < 3; i++) /* it is tried, and not told */
        CHECK_INT(call_when_woken(g, fd), -EAGAIN);
    CHECK(clock_now() - start >= NARU_MS(200)); /* the loop sleeps in between */
    test_limit_descriptors(SIZE_MAX);
    while ((r = call_when_woken(g, fd)) == -EAGAIN)
        ;
    CHECK_INT(r, sizeof(struct word));
    while ((r = call_when_woken(g, fd)) == -EAGAIN)
        ;
    CHECK_INT(r, -EPIPE);
    CHECK(!test_is_readable(fd)); /* the timer, too, is at rest */
    test_join(pid);
    naru_gather_close(g);
}

/* --- a thousand --- */

enum { MANY = 1000, EACH = 20 };

static void raise_limit(void)
{
    struct rlimit limit;

    CHECK_INT(getrlimit(RLIMIT_NOFILE, &limit), 0);
    if (limit.rlim_max < 8 * MANY)
        test_skip("only %llu descriptors a process here", (unsigned long long)limit.rlim_max);
    limit.rlim_cur = limit.rlim_max;
    CHECK_INT(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

static void be_many(const char *url)
{
    static struct naru_channel *all[MANY];

    for (int i = 0; i < MANY; i++)
        all[i] = join(url);
    for (uint32_t k = 0; k < EACH; k++)
        for (uint32_t i = 0; i < MANY; i++)
            send_word(all[i], i, k);
    for (int i = 0; i < MANY; i++)
        naru_channel_close(all[i]);
    test_child_end();
}

TEST_EACH(a_thousand_senders_are_no_trouble, each_way)
{
    static uint32_t next[MANY];
    struct naru_gather_from from = NARU_INIT(struct naru_gather_from);
    struct naru_gather *g;
    const char *url;
    int pid, left = 0;

    raise_limit();
    url = open_gather(index, &g);
    if (index == 0)
        url = test_format("shm://%s/s?ring=4k&pool=0", test_directory());
    pid = test_fork();
    if (pid == 0)
        be_many(url);
    CHECK_INT(CHECK_OK(naru_gather_wait_peers(g, MANY, patience)), MANY);
    while (left < MANY) {
        struct word word;
        ssize_t n = naru_gather_recv(g, &word, sizeof word, patience, &from);

        if (from.left) {
            CHECK_INT(n, -EPIPE);
            left++;
        } else {
            CHECK_INT(CHECK_OK(n), sizeof word);
            CHECK(word.sender < MANY);
            CHECK_INT(word.number, next[word.sender]++);
        }
    }
    for (int i = 0; i < MANY; i++)
        CHECK_INT(next[i], EACH);
    test_join(pid);
    naru_gather_close(g);
}

/* --- in an event loop --- */

static struct naru_gather *looped;
static int words, ends;

static int on_ready(struct naru_source *source, uint32_t events, void *data)
{
    struct naru_gather_from from = NARU_INIT(struct naru_gather_from);
    struct word word;
    ssize_t n;

    (void)events, (void)data;
    while ((n = naru_gather_recv(looped, &word, sizeof word, NARU_NOWAIT, &from)) >= 0 || from.left) {
        words += n == sizeof word;
        ends += from.left == -EPIPE;
        if (n >= 0)
            CHECK_OK(naru_send(from.channel, "bye", 3, patience));
    }
    CHECK_INT(n, -EAGAIN);
    if (ends == 3)
        naru_loop_stop(naru_source_loop(source));
    return 0;
}

TEST_EACH(a_gather_lives_in_an_event_loop, each_way)
{
    const char *url = open_gather(index, &looped);
    struct naru_loop *loop;
    int pids[3];

    words = ends = 0;
    for (uint32_t i = 0; i < 3; i++) {
        pids[i] = test_fork();
        if (pids[i] == 0) {
            struct naru_channel *ch = join(url);
            char answer[4];

            for (uint32_t k = 0; k < 200; k++) {
                send_word(ch, i, k);
                CHECK_INT(naru_recv(ch, answer, sizeof answer, patience), 3);
            }
            naru_channel_close(ch);
            test_child_end();
        }
    }
    CHECK_OK(naru_loop_new(&loop));
    CHECK_OK(naru_loop_add_fd(loop, naru_gather_fd(looped), NARU_IN, on_ready, NULL, NULL));
    CHECK_OK(naru_loop_run(loop));
    CHECK_INT(words, 600);
    naru_loop_free(loop);
    for (int i = 0; i < 3; i++)
        test_join(pids[i]);
    looped = naru_gather_close(looped);
}
