/* SPDX-License-Identifier: MIT */
#include "cli/scratch.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/report.h"

static char path[256];

const char *scratch_make(void)
{
    const char *const places[] = {getenv("TMPDIR"), getenv("XDG_RUNTIME_DIR"), "/tmp", "/var/tmp"};
    int error = 0;

    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        int length;

        if (!places[i] || !*places[i])
            continue;
        length = snprintf(path, sizeof path, "%s/naru-run-XXXXXX", places[i]);
        /* Longer ones would leave no room for a socket's name, 108 bytes (unix(7)). */
        if (length < 80 && mkdtemp(path))
            return path;
        error = length < 80 ? errno : ENAMETOOLONG;
    }
    path[0] = '\0';
    (void)report_errno(error,
                       "no directory for temporary files can be made in /tmp; set TMPDIR to one that can");
    return NULL;
}

bool scratch_remove(void)
{
    bool removed = true;
    int fd = path[0] ? open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    DIR *directory = fd < 0 ? NULL : fdopendir(fd);

    while (directory) {
        const struct dirent *entry = readdir(directory);

        if (!entry)
            break;
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            (void)unlinkat(fd, entry->d_name, 0); /* what resists shows in rmdir() */
    }
    if (directory)
        (void)closedir(directory);
    else if (fd >= 0)
        (void)close(fd);
    if (path[0] && rmdir(path) < 0) {
        (void)report_errno(errno, "%s could not be removed", path);
        removed = false;
    }
    path[0] = '\0';
    return removed;
}
