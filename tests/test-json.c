/* SPDX-License-Identifier: MIT */
/* What `naru recv --json` writes of a message that its sender changes meanwhile, as it can in its own memory.
 */
#include <string.h>

#include "../cli/json.h"
#include "runner.h"

struct sender {
    char message[16];
    unsigned changes;
    char text[512];
    size_t length;
};

/* Takes what is written, after a change. The stream has no buffer, so that what is passed here is where the
 * writer had it. */
static ssize_t change_and_take(void *cookie, const char *bytes, size_t length)
{
    struct sender *s = cookie;

    memset(s->message, ++s->changes % 2 ? '"' : 'a', sizeof s->message);
    CHECK(length < sizeof s->text - s->length);
    memcpy(s->text + s->length, bytes, length);
    s->length += length;
    return (ssize_t)length;
}

/* Behind a string's opening quote: its closing one. */
static const char *end_of_string(const char *p)
{
    while (*p && *p != '"')
        p += *p == '\\' && p[1] ? 2 : 1;
    return p;
}

TEST(a_message_that_changes_meanwhile_is_one_string_of_json)
{
    static const char begins[] = "{\"data\": \"";

    for (unsigned first = 0; first < 2; first++) {
        struct sender s = {.changes = first};
        FILE *out = fopencookie(&s, "w", (cookie_io_functions_t){.write = change_and_take});
        struct json j = json_begin(out, JSON_ONE_LINE);

        CHECK(out && setvbuf(out, NULL, _IONBF, 0) == 0);
        memset(s.message, 'a', sizeof s.message);
        json_object(&j, NULL);
        json_bytes(&j, "data", s.message, sizeof s.message);
        json_end(&j);
        CHECK(fclose(out) == 0);
        CHECK(s.changes > sizeof s.message && strncmp(s.text, begins, sizeof begins - 1) == 0);
        CHECK_STR(end_of_string(s.text + sizeof begins - 1), "\"}\n");
    }
}
