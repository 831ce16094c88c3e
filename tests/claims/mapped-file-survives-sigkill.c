/* SPDX-License-Identifier: MIT */
/* What was written to a shared mapping of a file is in the file, also if the process is killed at once and
 * never called msync(2): the mapped page is the page cache's, which read(2) sees too. (msync(2) is for power
 * cuts.) */
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "claim.h"

int main(void)
{
    char path[] = "/tmp/claim-XXXXXX", text[8] = "";
    int fd = MUST(mkstemp(path)), child, status;
    char *memory;

    MUST(unlink(path));
    MUST(ftruncate(fd, sizeof text));
    memory = MUST(mmap(NULL, sizeof text, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
    child = MUST(fork());
    if (child == 0) {
        strcpy(memory, "written");
        raise(SIGKILL);
    }
    MUST(waitpid(child, &status, 0));
    MUST(munmap(memory, sizeof text));
    MUST(pread(fd, text, sizeof text, 0));
    return seen(WIFSIGNALED(status) && strcmp(text, "written") == 0,
                "the writer was killed in the next instruction; read(2) finds \"%s\"", text);
}
