/* SPDX-License-Identifier: MIT */
#include "cli/escape.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "cli/json.h"

/* C0 and DEL, and C1 (U+0080 to U+009F), of which U+009B begins control sequences as ESC [ does (ECMA-48). */
static bool is_control(const unsigned char *p, size_t length)
{
    return *p < 0x20 || *p == 0x7f || (length == 2 && p[0] == 0xc2 && p[1] < 0xa0);
}

void escape_text(const char *text, char *shown, size_t size)
{
    const unsigned char *p = (const unsigned char *)text;
    size_t left = strlen(text), used = 0;

    while (left > 0) {
        size_t length = utf8_length(p, left);
        char piece[ESCAPE_GROWTH + 1];

        if (length > 0 && !is_control(p, length)) {
            (void)snprintf(piece, sizeof piece, "%.*s", (int)length, (const char *)p);
        } else if (*p == '\n' || *p == '\t') {
            (void)snprintf(piece, sizeof piece, "\\%c", *p == '\n' ? 'n' : 't');
            length = 1;
        } else {
            (void)snprintf(piece, sizeof piece, "\\x%02x", *p);
            length = 1;
        }
        if (used + strlen(piece) >= size)
            break;
        memcpy(shown + used, piece, strlen(piece));
        used += strlen(piece);
        p += length;
        left -= length;
    }
    shown[used] = '\0';
}
