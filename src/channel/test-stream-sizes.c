/* SPDX-License-Identifier: MIT */
/* Small, large and empty messages in any order, cut anywhere: the short ways and the long one hand over to
 * each other without losing a byte. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "channel/channel.h"
#include "naru/error.h"
#include "runner.h"

enum { MESSAGES = 400, LARGEST = 300 * 1000 };

static const char *const urls[] = {"pipe:", "pipe:?read-ahead=no", "unix:", "unix:?read-ahead=no"};

static const char *each_url(size_t i)
{
    return i < sizeof urls / sizeof *urls ? urls[i] : NULL;
}

static size_t any_length(void)
{
    static const size_t lengths[] = {0,     1,     64,    4091,  4092,  4093,  8192,   9000,
                                     16379, 16384, 20000, 65532, 65536, 70000, 131072, LARGEST};

    return lengths[test_random() % (sizeof lengths / sizeof *lengths)];
}

static uint8_t byte_at(size_t message, size_t offset)
{
    return (uint8_t)(message * 7 + offset * 31 + offset / 251);
}

static size_t fill(uint8_t *frame, size_t message, size_t length)
{
    uint32_t header = __builtin_bswap32((uint32_t)length);

    memcpy(frame, &header, sizeof header);
    for (size_t i = 0; i < length; i++)
        frame[sizeof header + i] = byte_at(message, i);
    return sizeof header + length;
}

static void write_all(int fd, const uint8_t *bytes, size_t length)
{
    for (size_t done = 0; done < length;) {
        ssize_t n = write(fd, bytes + done, length - done);

        CHECK(n > 0);
        done += (size_t)n;
    }
}

/* What a program that never heard of naru may do: several frames in one write, one frame in many. */
static void write_cut_anywhere(int fd, const size_t *lengths)
{
    uint8_t *bytes = malloc(2 * (LARGEST + 4));
    size_t used = 0;

    CHECK(bytes);
    for (size_t i = 0; i < MESSAGES; i++) {
        used += fill(bytes + used, i, lengths[i]);
        while (used > LARGEST || (i == MESSAGES - 1 && used > 0)) {
            size_t part = 1 + test_random() % used;

            write_all(fd, bytes, part);
            memmove(bytes, bytes + part, used - part);
            used -= part;
        }
    }
    free(bytes);
}

static void check_next(struct naru_channel *ch, uint8_t *buffer, size_t message, size_t length)
{
    size_t room = test_random() % 4 == 0 ? test_random() % (length + 1) : length + test_random() % 5000;
    ssize_t n;

    memset(buffer, 0xa5, length + 5000);
    n = naru_recv(ch, buffer, room, NARU_FOREVER);
    if (room < length) {
        CHECK_INT(n, -EMSGSIZE);
        n = naru_recv(ch, buffer, length, test_random() % 2 ? NARU_FOREVER : NARU_S(60));
    }
    CHECK_INT(n, length);
    for (size_t i = 0; i < length; i++)
        CHECK_INT(buffer[i], byte_at(message, i));
}

TEST_EACH(any_sizes_arrive_whole_however_they_are_cut, each_url)
{
    static size_t lengths[MESSAGES];
    struct naru_channel *ends[2];
    uint8_t *buffer = malloc(LARGEST + 5000);
    int child;

    CHECK(buffer);
    for (size_t i = 0; i < MESSAGES; i++)
        lengths[i] = any_length();
    CHECK_INT(naru_channel_pair(urls[index], NULL, ends), 0);
    child = test_fork();
    if (child == 0) {
        (void)naru_channel_close(ends[1]);
        write_cut_anywhere(ends[0]->wfd, lengths);
        (void)naru_channel_close(ends[0]);
        free(buffer);
        _exit(0);
    }
    (void)naru_channel_close(ends[0]);
    for (size_t i = 0; i < MESSAGES; i++)
        check_next(ends[1], buffer, i, lengths[i]);
    CHECK_INT(naru_recv(ends[1], buffer, LARGEST, NARU_FOREVER), -EPIPE);
    test_join(child);
    (void)naru_channel_close(ends[1]);
    free(buffer);
}

TEST_EACH(a_stream_that_ends_in_a_large_message_says_so, each_url)
{
    static uint8_t frame[100 * 1000 + 4];
    uint8_t *buffer = malloc(100 * 1000);
    struct naru_channel *ends[2];
    size_t length = fill(frame, 0, 100 * 1000);
    int child;

    CHECK(buffer);
    CHECK_INT(naru_channel_pair(urls[index], NULL, ends), 0);
    child = test_fork();
    if (child == 0) {
        (void)naru_channel_close(ends[1]);
        write_all(ends[0]->wfd, frame, length);
        write_all(ends[0]->wfd, frame, length - 1);
        (void)naru_channel_close(ends[0]);
        free(buffer);
        _exit(0);
    }
    (void)naru_channel_close(ends[0]);
    CHECK_INT(naru_recv(ends[1], buffer, 100 * 1000, NARU_FOREVER), 100 * 1000);
    CHECK_INT(naru_recv(ends[1], buffer, 100 * 1000, NARU_FOREVER), -EPROTO);
    CHECK_CONTAINS(naru_explain(), "it ended inside a message");
    test_join(child);
    (void)naru_channel_close(ends[1]);
    free(buffer);
}
