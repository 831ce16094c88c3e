/* SPDX-License-Identifier: MIT */
/* A table for people: columns as wide as their widest cell, a bold heading, two spaces between. */
#ifndef CLI_TABLE_H
#define CLI_TABLE_H

#include <stddef.h>
#include <stdio.h>

enum { TABLE_COLUMNS_MAX = 16 };

struct table {
    size_t columns;
    const char *headings[TABLE_COLUMNS_MAX]; /* "<NAME": left-aligned, ">SIZE": right-aligned */
    char ***rows;                            /* each row: columns strings of the table's own */
    size_t row_count, capacity;
};

/* headings: columns of them, as above. */
void table_init(struct table *t, size_t columns, const char *const *headings);
void table_deinit(struct table *t);

/* Adds a row with copies of the cells, made safe to show (escape.h); a NULL cell is "-". 0 or -ENOMEM. */
int table_add(struct table *t, const char *const *cells);
void table_print(const struct table *t, FILE *out);

/* Columns that the text takes on a terminal: UTF-8 characters, Hangul and other East Asian ones as two. */
size_t text_width(const char *text);

#endif
