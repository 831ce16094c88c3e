/* SPDX-License-Identifier: MIT */
/* The machine as /proc, /sys and the compiler tell it. */
#include "bench/environment.h"

#include <gnu/libc-version.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <time.h>

#include "bench/duo.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define BUILD "sanitized"
#elif defined(__OPTIMIZE__)
#define BUILD "optimised"
#else
#define BUILD "not optimised"
#endif

static void first_line(const char *path, char text[ENVIRONMENT_TEXT])
{
    FILE *file = fopen(path, "re");

    if (!file)
        return;
    if (fgets(text, ENVIRONMENT_TEXT, file))
        text[strcspn(text, "\n")] = '\0';
    (void)fclose(file);
}

/* "model name : AMD EPYC" and the hypervisor flag; other architectures' files have neither. */
static void read_cpuinfo(struct environment *e)
{
    FILE *file = fopen("/proc/cpuinfo", "re");
    char *line = NULL;
    size_t capacity = 0;

    if (!file)
        return;
    while (getline(&line, &capacity, file) > 0) {
        char *value = strchr(line, ':');

        if (!value)
            continue;
        value += strspn(value, ": \t");
        value[strcspn(value, "\n")] = '\0';
        if (strncmp(line, "model name", 10) == 0)
            (void)snprintf(e->cpu, sizeof e->cpu, "%s", value);
        if (strncmp(line, "flags", 5) == 0)
            e->hypervisor = strstr(value, " hypervisor") ? "yes" : "no";
    }
    free(line);
    (void)fclose(file);
}

struct environment environment_read(void)
{
    struct environment e = {.cpu = "unknown",
                            .clocksource = "unknown",
                            .hypervisor = "unknown",
                            .build = BUILD,
                            .cpus = duo_cpu_count(),
                            .load = -1};
    struct utsname name;
    struct tm utc;
    time_t now = time(NULL);
    double load;

    if (gmtime_r(&now, &utc))
        (void)strftime(e.time, sizeof e.time, "%Y-%m-%dT%H:%M:%SZ", &utc);
    if (uname(&name) == 0)
        (void)snprintf(e.kernel, sizeof e.kernel, "%.20s %.60s %.20s", name.sysname, name.release,
                       name.machine);
    first_line("/sys/devices/system/clocksource/clocksource0/current_clocksource", e.clocksource);
    read_cpuinfo(&e);
#ifdef __clang__
    (void)snprintf(e.compiler, sizeof e.compiler, "%s", __VERSION__);
#else
    (void)snprintf(e.compiler, sizeof e.compiler, "gcc %s", __VERSION__);
#endif
    (void)snprintf(e.libc, sizeof e.libc, "glibc %s", gnu_get_libc_version());
    if (getloadavg(&load, 1) == 1)
        e.load = load;
    return e;
}

int environment_is_busy(const struct environment *e)
{
    return e->load > 0.5 * e->cpus;
}
