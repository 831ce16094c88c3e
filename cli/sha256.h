/* SPDX-License-Identifier: MIT */
/*
 * SHA-256 (FIPS 180-4). `naru tour` has both ends hash what they carried: a checksum that users can compare
 * with sha256sum(1), and that no reordering or bad luck passes. libc has none, the kernel's (AF_ALG) is a
 * module that many machines do not load, and OpenSSL would be the command's only dependency: so, sixty lines.
 */
#ifndef CLI_SHA256_H
#define CLI_SHA256_H

#include <stddef.h>
#include <stdint.h>

enum { SHA256_SIZE = 32, SHA256_BLOCK = 64, SHA256_TEXT = 2 * SHA256_SIZE + 1 };

struct sha256 {
    uint32_t state[8];
    uint64_t length; /* bytes so far */
    uint8_t block[SHA256_BLOCK];
};

void sha256_init(struct sha256 *h);
void sha256_update(struct sha256 *h, const void *data, size_t length);
void sha256_final(struct sha256 *h, uint8_t ret_digest[SHA256_SIZE]);

/* As sha256sum(1) prints it. */
const char *sha256_text(const uint8_t digest[SHA256_SIZE], char storage[SHA256_TEXT]);

#endif
