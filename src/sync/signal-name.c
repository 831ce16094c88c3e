/* SPDX-License-Identifier: MIT */
/* Names of signals, both ways; and for the names that textbooks misprint (SIGALARM, SIGSTP, SIGCOUNT) the
 * nearest one that exists. */
#include <ctype.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/error.h"
#include "naru/signal.h"

enum { NAME_MAX_LENGTH = 24 };

/* signal(7); the numbers differ between architectures, the names do not. */
static const char *const names[] = {
    [SIGHUP] = "SIGHUP",     [SIGINT] = "SIGINT",   [SIGQUIT] = "SIGQUIT",     [SIGILL] = "SIGILL",
    [SIGTRAP] = "SIGTRAP",   [SIGABRT] = "SIGABRT", [SIGBUS] = "SIGBUS",       [SIGFPE] = "SIGFPE",
    [SIGKILL] = "SIGKILL",   [SIGUSR1] = "SIGUSR1", [SIGSEGV] = "SIGSEGV",     [SIGUSR2] = "SIGUSR2",
    [SIGPIPE] = "SIGPIPE",   [SIGALRM] = "SIGALRM", [SIGTERM] = "SIGTERM",     [SIGSTKFLT] = "SIGSTKFLT",
    [SIGCHLD] = "SIGCHLD",   [SIGCONT] = "SIGCONT", [SIGSTOP] = "SIGSTOP",     [SIGTSTP] = "SIGTSTP",
    [SIGTTIN] = "SIGTTIN",   [SIGTTOU] = "SIGTTOU", [SIGURG] = "SIGURG",       [SIGXCPU] = "SIGXCPU",
    [SIGXFSZ] = "SIGXFSZ",   [SIGPROF] = "SIGPROF", [SIGVTALRM] = "SIGVTALRM", [SIGIO] = "SIGIO",
    [SIGWINCH] = "SIGWINCH", [SIGPWR] = "SIGPWR",   [SIGSYS] = "SIGSYS",
};
enum { NAMES = sizeof names / sizeof *names };

static const struct {
    const char *name;
    int sig;
} aliases[] = {{"SIGIOT", SIGABRT}, {"SIGCLD", SIGCHLD}, {"SIGPOLL", SIGIO}};

#define RT(n) "SIGRTMIN+" #n
static const char *const real_time_names[] = {
    "SIGRTMIN", RT(1),  RT(2),  RT(3),  RT(4),  RT(5),  RT(6),  RT(7),  RT(8),  RT(9),  RT(10),
    RT(11),     RT(12), RT(13), RT(14), RT(15), RT(16), RT(17), RT(18), RT(19), RT(20), RT(21),
    RT(22),     RT(23), RT(24), RT(25), RT(26), RT(27), RT(28), RT(29), RT(30), RT(31), RT(32),
};
#undef RT

const char *naru_signal_name(int sig)
{
    if (sig > 0 && sig < NAMES)
        return names[sig];
    if (sig >= SIGRTMIN && sig <= SIGRTMAX)
        return real_time_names[sig - SIGRTMIN];
    return NULL;
}

/* How many letters must be put in, taken out or replaced to turn one name into the other (Levenshtein). */
static int distance(const char *a, const char *b)
{
    int row[NAME_MAX_LENGTH + 1];
    int length = (int)strlen(b);

    for (int j = 0; j <= length; j++)
        row[j] = j;
    for (int i = 1; a[i - 1]; i++) {
        int diagonal = row[0];

        row[0] = i;
        for (int j = 1; j <= length; j++) {
            int replaced = diagonal + (a[i - 1] != b[j - 1]);
            int shorter = (row[j] < row[j - 1] ? row[j] : row[j - 1]) + 1;

            diagonal = row[j];
            row[j] = replaced < shorter ? replaced : shorter;
        }
    }
    return row[length];
}

static int unknown(const char *given, const char *full)
{
    const char *nearest[2] = {NULL, NULL}; /* SIGSTP is as near to SIGSTOP as to SIGTSTP */
    int best = 3;                          /* further off it is not a misprint */

    for (int sig = 1; sig < NAMES; sig++) {
        int d = names[sig] ? distance(full, names[sig]) : best;

        if (d < best)
            nearest[0] = nearest[1] = NULL;
        if (d < best || (d == best && nearest[0] && names[sig]))
            nearest[nearest[0] != NULL] = names[sig];
        if (d < best)
            best = d;
    }
    if (nearest[0])
        return error_set(EINVAL, "there is no signal \"%s\"; did you mean %s%s%s?", given, nearest[0],
                         nearest[1] ? " or " : "", nearest[1] ? nearest[1] : "");
    return error_set(
        EINVAL,
        "there is no signal \"%s\"; expected a name such as INT, SIGTERM or RTMIN+1, or a number up "
        "to %d",
        given, SIGRTMAX);
}

/* "+3" or "-3" behind base; a number outside the real-time signals gives -1. */
static int real_time(const char *offset, int base)
{
    char *end;
    long n;

    if (!*offset)
        return base;
    if ((*offset != '+' && *offset != '-') || !isdigit((unsigned char)offset[1]))
        return -1;
    n = strtol(offset, &end, 10);
    if (*end || n < -64 || n > 64 || base + n < SIGRTMIN || base + n > SIGRTMAX)
        return -1;
    return base + (int)n;
}

static int by_number(const char *text)
{
    char *end;
    long n = strtol(text, &end, 10);

    return *end || n < 1 || n > SIGRTMAX || !naru_signal_name((int)n) ? -1 : (int)n;
}

static int by_full_name(const char *full)
{
    for (int sig = 1; sig < NAMES; sig++)
        if (names[sig] && strcmp(names[sig], full) == 0)
            return sig;
    for (size_t i = 0; i < sizeof aliases / sizeof *aliases; i++)
        if (strcmp(aliases[i].name, full) == 0)
            return aliases[i].sig;
    if (strncmp(full, "SIGRTMIN", 8) == 0)
        return real_time(full + 8, SIGRTMIN);
    if (strncmp(full, "SIGRTMAX", 8) == 0)
        return real_time(full + 8, SIGRTMAX);
    return -1;
}

int naru_signal_by_name(const char *name)
{
    char full[NAME_MAX_LENGTH] = "SIG";
    size_t length = strlen(name), prefix = strncasecmp(name, "SIG", 3) == 0 ? 0 : 3;
    int sig;

    if (isdigit((unsigned char)*name)) {
        sig = by_number(name);
        return sig > 0 ? sig : unknown(name, "");
    }
    if (prefix + length >= sizeof full)
        return unknown(name, "");
    for (size_t i = 0; i < length; i++)
        full[prefix + i] = (char)toupper((unsigned char)name[i]);
    sig = by_full_name(full);
    return sig > 0 ? sig : unknown(name, full);
}
