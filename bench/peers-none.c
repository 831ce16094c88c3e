/* SPDX-License-Identifier: MIT */
/*
 * What a program has that is not linked with other libraries: nothing to compare with. A program that has
 * bench/peers/ defines this table itself, and the linker leaves this file in the archive.
 */
#include "bench/comparison.h"

const struct comparison comparisons_peers[] = {{0}};
