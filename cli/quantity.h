/* SPDX-License-Identifier: MIT */
/* Numbers as people write and read them: durations, sizes, counts. */
#ifndef CLI_QUANTITY_H
#define CLI_QUANTITY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Each reads all of text or returns false and leaves *ret alone. */
bool parse_number(const char *text, int64_t *ret); /* decimal, or hexadecimal with 0x */
bool parse_size(const char *text, int64_t *ret);   /* bytes; k, M, G: powers of 1024 */
bool parse_duration(const char *text,
                    int64_t *ret); /* ns: 1.5s 500ms 20us 9ns 2m 1h; bare: seconds; forever */

/* Short forms with three digits of precision, in storage that the caller gives: "13.2 us", "64 KiB",
 * "1.25 M". Each returns storage. */
enum { QUANTITY_SIZE = 32 };
const char *format_duration(double ns, char storage[QUANTITY_SIZE]);
const char *format_size(double bytes, char storage[QUANTITY_SIZE]);  /* KiB, MiB, ... */
const char *format_count(double count, char storage[QUANTITY_SIZE]); /* k, M, G: powers of 1000 */

#endif
