/* SPDX-License-Identifier: MIT */
/* What `naru tour` prints. */
#ifndef CLI_TOUR_PRINT_H
#define CLI_TOUR_PRINT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "bench/environment.h"
#include "cli/tour.h"

/* A row of the table: what the textbook says, and what was measured. */
struct tour_row {
    const char *name, *title, *use_when, *medium, *direction, *unit, *scope, *persistence, *limit, *wait;
    bool synchronises; /* carries no data; what was timed is the hand-off */
    struct tour_result result;
};

void tour_print_heading(FILE *out);
void tour_print_result(FILE *out, const struct tour_file *file, const char *name,
                       const struct tour_result *r);
void tour_print_textbook(FILE *out, int width, const struct tour_row *rows, size_t count);
void tour_print_json(FILE *out, const struct tour_file *file, const struct tour_row *rows, size_t count);

#endif
