/* SPDX-License-Identifier: MIT */
/* A verb's manual page in scdoc(5), made from the verb table as its --help is. */
#ifndef CLI_MANUAL_H
#define CLI_MANUAL_H

#include <stdio.h>

struct verb;

void manual_print(FILE *out, const struct verb *verb);

#endif
