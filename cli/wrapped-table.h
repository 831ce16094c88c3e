/* SPDX-License-Identifier: MIT */
/* A table of sentences that fits the width there is: columns that are too wide are wrapped at words (table.h
 * is for cells that are short). */
#ifndef CLI_WRAPPED_TABLE_H
#define CLI_WRAPPED_TABLE_H

#include <stddef.h>
#include <stdio.h>

enum { WRAPPED_COLUMNS_MAX = 12 };

struct wrapped_table {
    const char *const *titles; /* [columns] */
    int columns;
    const char **cells; /* [rows * columns], borrowed; NULL is empty */
    size_t rows;
};

/* The first column is printed bold and never wrapped. Widths are counted in bytes: for ASCII texts. */
void wrapped_table_print(FILE *out, const struct wrapped_table *table, int width);

/* One text alone, each line indented. */
void wrapped_text_print(FILE *out, const char *text, int indent, int width);

#endif
