/* SPDX-License-Identifier: MIT */
/* What every survivor of a kill point does: waits for its turn, complains, leaves nothing (killpoints.h). */
#include "killpoints.h"

#include <dirent.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "runner.h"

void kill_complain(struct kill_run *run, const char *format, ...)
{
    va_list arguments;

    if (atomic_exchange(&run->complained, true))
        return;
    va_start(arguments, format);
    vsnprintf(run->complaint, sizeof run->complaint, format, arguments);
    va_end(arguments);
}

bool kill_may_act(struct kill_run *run)
{
    char byte;

    return read(run->gate[0], &byte, 1) == 1;
}

size_t kill_count_descriptors(void)
{
    DIR *directory = opendir("/proc/self/fd");
    size_t count = 0;

    CHECK(directory);
    while (readdir(directory))
        count++;
    closedir(directory);
    return count;
}

void kill_check_leaks(struct kill_run *run)
{
    size_t count = kill_count_descriptors();
    char line[512];
    FILE *maps;

    if (count != run->descriptors + 1) /* the gate */
        kill_complain(run, "the survivor leaked descriptors: %zu, not %zu", count, run->descriptors + 1);
    maps = fopen("/proc/self/maps", "re");
    CHECK(maps);
    while (fgets(line, sizeof line, maps))
        if (strstr(line, "memfd:naru") || strstr(line, " /dev/shm/") || strstr(line, " /SYSV"))
            kill_complain(run, "the survivor leaked a mapping: %s", line);
    fclose(maps);
}
