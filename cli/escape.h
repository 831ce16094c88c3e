/* SPDX-License-Identifier: MIT */
/* Text that others chose (names, paths, messages in error sentences), made safe to show on a terminal. */
#ifndef CLI_ESCAPE_H
#define CLI_ESCAPE_H

#include <stddef.h>

/* How much longer a text may become: a byte turns into "\xHH". */
enum { ESCAPE_GROWTH = 4 };

/* Copies text to shown, which has room for size bytes, with newlines and tabs as \n and \t, and what else is
 * a control character or no UTF-8 as \xHH. Cut to what has room; always ended by a NUL. */
void escape_text(const char *text, char *shown, size_t size);

#endif
