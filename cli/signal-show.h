/* SPDX-License-Identifier: MIT */
/* naru signal list and show; and the names of processes. */
#ifndef CLI_SIGNAL_SHOW_H
#define CLI_SIGNAL_SHOW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Every signal, with its number and what it does to who prepared nothing. */
void signal_list(bool json);

/* What a process has pending, blocks, ignores and catches. 0, or what naru_signal_sets() said. */
int signal_show(int64_t pid, bool json);

/* A process's name as ps(1) shows it; "" if it has ended. */
void process_name(int64_t pid, char *name, size_t size);

#endif
