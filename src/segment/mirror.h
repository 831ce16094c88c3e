/* SPDX-License-Identifier: MIT */
/*
 * A ring that stands in the address space twice in a row, made of memory that is mapped already, whatever it
 * is: what sealed.h does by mapping a descriptor, for memory that has none (System V).
 */
#ifndef NARU_SEGMENT_MIRROR_H
#define NARU_SEGMENT_MIRROR_H

#include "segment/sealed.h"

/* Maps [source, source + plain + ring), which is shared memory, once more, with its ring twice, for writing.
 * All of it is reserved: what is missing is an error here and no SIGBUS later. The source stays as it is, and
 * is not needed afterwards. sealed_deinit() unmaps the result; nothing about it is sealed. 0 or an explained
 * -errno. what: the URL. */
int mirror_map(const char *what, void *source, size_t plain, size_t ring, struct sealed *ret_memory);

/* Reserves what is mapped, shared memory of whatever kind, for writing. 0 or the explained -ENOMEM. */
int mirror_reserve(const char *what, void *data, size_t length);

#endif
