/* SPDX-License-Identifier: MIT */
/* What a terminal adds: colour, width. Nothing of it reaches a file or a pipe. */
#ifndef CLI_TERM_H
#define CLI_TERM_H

#include <stdbool.h>
#include <stdio.h>

enum style { STYLE_PLAIN, STYLE_BOLD, STYLE_DIM, STYLE_GOOD, STYLE_BAD, STYLE_NOTE };

/* Whether to colour what goes to stream: it is a terminal, NO_COLOR (no-color.org) is unset or empty, and
 * TERM is not "dumb". */
bool term_color(FILE *stream);

/* The escape sequence that turns the style on, or "" if not coloured: print it, the text, then STYLE_PLAIN's.
 */
const char *term_style(FILE *stream, enum style style);

bool term_is_terminal(FILE *stream);

/* Columns of the terminal behind stream; $COLUMNS, or 80, if there is none. */
int term_width(FILE *stream);

#endif
