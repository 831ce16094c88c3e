/* SPDX-License-Identifier: MIT */
#include "cli/term.h"

#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "cli/quantity.h"

bool term_is_terminal(FILE *stream)
{
    return isatty(fileno(stream)) == 1;
}

bool term_color(FILE *stream)
{
    const char *no_color = getenv("NO_COLOR");
    const char *term = getenv("TERM");

    return term_is_terminal(stream) && !(no_color && *no_color) && term && strcmp(term, "dumb") != 0;
}

const char *term_style(FILE *stream, enum style style)
{
    /* SGR parameters (ECMA-48 8.3.117): bold, faint, and the terminal's own green, red and yellow. */
    static const char *const sequences[] = {"\033[0m",  "\033[1m",  "\033[2m",
                                            "\033[32m", "\033[31m", "\033[33m"};

    return term_color(stream) ? sequences[style] : "";
}

int term_width(FILE *stream)
{
    const char *columns = getenv("COLUMNS"); /* what shells and test scripts say; a terminal knows better */
    struct winsize size;
    int64_t width;

    if (term_is_terminal(stream) && ioctl(fileno(stream), TIOCGWINSZ, &size) == 0 && size.ws_col > 0)
        return size.ws_col;
    if (columns && parse_number(columns, &width) && width >= 20 && width <= 1000)
        return (int)width;
    return 80;
}
