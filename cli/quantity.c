/* SPDX-License-Identifier: MIT */
#include "cli/quantity.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "naru/time.h"

bool parse_number(const char *text, int64_t *ret)
{
    const char *digits = text + (*text == '-');
    bool hex = digits[0] == '0' && (digits[1] == 'x' || digits[1] == 'X');
    char *end;
    long long value;

    if (!isdigit((unsigned char)digits[0]) || (hex && !isxdigit((unsigned char)digits[2])))
        return false;
    errno = 0;
    value = strtoll(text, &end, hex ? 16 : 10);
    if (errno || *end)
        return false;
    *ret = value;
    return true;
}

bool parse_size(const char *text, int64_t *ret)
{
    static const char units[] = "kMGT";
    char digits[32];
    size_t length = strlen(text);
    const char *unit;
    int64_t value;
    int shift = 0;

    if (length == 0 || length >= sizeof digits)
        return false;
    memcpy(digits, text, length + 1);
    unit = strchr(units, digits[length - 1] == 'K' ? 'k' : digits[length - 1]);
    if (unit && *unit) {
        shift = 10 * (int)(unit - units + 1);
        digits[length - 1] = '\0';
    }
    if (!parse_number(digits, &value) || value < 0 ||
        __builtin_mul_overflow(value, INT64_C(1) << shift, &value))
        return false;
    *ret = value;
    return true;
}

bool parse_duration(const char *text, int64_t *ret)
{
    static const struct {
        const char *name;
        double ns;
    } units[] = {{"", 1e9}, {"ns", 1}, {"us", 1e3}, {"ms", 1e6}, {"s", 1e9}, {"m", 60e9}, {"h", 3600e9}};
    double value, ns;
    char *end;

    if (strcmp(text, "forever") == 0) {
        *ret = NARU_FOREVER;
        return true;
    }
    /* strtod() also reads "inf", "nan", "0x1p3" and a sign: none of them a duration. */
    if (strspn(text, "0123456789.") == 0)
        return false;
    value = strtod(text, &end);
    if (end == text || strspn(text, "0123456789.") != (size_t)(end - text))
        return false;
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        if (strcmp(end, units[i].name) != 0)
            continue;
        ns = value * units[i].ns;
        if (ns >= 9.2e18)
            return false;
        *ret = (int64_t)(ns + 0.5);
        return true;
    }
    return false;
}

/* Three significant digits: 9.87, 98.7, 987. */
static const char *format(double value, const char *unit, char *storage)
{
    int decimals = value < 9.995 ? 2 : value < 99.95 ? 1 : 0;

    if (value < 1000 && value == (double)(int)value)
        decimals = 0;
    (void)snprintf(storage, QUANTITY_SIZE, "%.*f%s%s", decimals, value, *unit ? " " : "", unit);
    return storage;
}

static const char *format_steps(double value, double step, const char *const *units, char *storage)
{
    while (value >= step && units[1]) {
        value /= step;
        units++;
    }
    return format(value, *units, storage);
}

const char *format_duration(double ns, char storage[QUANTITY_SIZE])
{
    static const char *const units[] = {"ns", "us", "ms", "s", NULL};

    return format_steps(ns, 1000, units, storage);
}

const char *format_size(double bytes, char storage[QUANTITY_SIZE])
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", NULL};

    return format_steps(bytes, 1024, units, storage);
}

const char *format_count(double count, char storage[QUANTITY_SIZE])
{
    static const char *const units[] = {"", "k", "M", "G", "T", NULL};

    return format_steps(count, 1000, units, storage);
}
