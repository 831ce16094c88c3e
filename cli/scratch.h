/* SPDX-License-Identifier: MIT */
/* A directory of this command's own for names in the file system, gone when it ends. */
#ifndef CLI_SCRATCH_H
#define CLI_SCRATCH_H

#include <stdbool.h>

/* Makes it in $TMPDIR, $XDG_RUNTIME_DIR, /tmp or /var/tmp, whichever can be written to. Its path, static
 * until scratch_remove(); or NULL, reported. One at a time. */
const char *scratch_make(void);

/* Removes it and the files in it (no directories below are expected). Nothing happens without one. false: it
 * could not be removed, which has been reported. */
bool scratch_remove(void);

#endif
