/* SPDX-License-Identifier: MIT */
/*
 * without CALL=ERRNO... COMMAND [ARGUMENTS]: runs a command to which the kernel refuses a system call, as a
 * sandbox or an older kernel would (seccomp(2)). CALL is one of those below, ERRNO one of ENOSYS, EPERM,
 * EINVAL.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* A call, or one whose argument has this value. */
static const struct call {
    const char *name;
    long number;
    int argument; /* which, from 0 on; -1: whatever they are */
    unsigned value;
} calls[] = {
    {"membarrier", SYS_membarrier, -1, 0},
    {"memfd_create", SYS_memfd_create, -1, 0},
    {"add-seals", SYS_fcntl, 1, F_ADD_SEALS},
    {"get-seals", SYS_fcntl, 1, F_GET_SEALS},
    {"fallocate", SYS_fallocate, -1, 0},
    {"pwritev", SYS_pwritev, -1, 0},
    {"populate-read", SYS_madvise, 2, MADV_POPULATE_READ},
    {"populate-write", SYS_madvise, 2, MADV_POPULATE_WRITE},
    {"wipe-on-fork", SYS_madvise, 2, MADV_WIPEONFORK},
    {"pidfd_open", SYS_pidfd_open, -1, 0},
    {"timerfd_create", SYS_timerfd_create, -1, 0},
};

static const struct {
    const char *name;
    unsigned number;
} errors[] = {{"ENOSYS", ENOSYS}, {"EPERM", EPERM}, {"EINVAL", EINVAL}};

static int refuse(const struct call *call, unsigned error)
{
    unsigned at = (unsigned)offsetof(struct seccomp_data, args) +
                  8 * (unsigned)(call->argument < 0 ? 0 : call->argument);
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)call->number, 0, call->argument < 0 ? 1 : 3),
        /* with an argument these two are in between; its lower half, as all of them fit */
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, at),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, call->value, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {.len = sizeof filter / sizeof *filter, .filter = filter};

    if (call->argument < 0) {
        filter[2] = filter[4];
        filter[3] = filter[5];
        program.len = 4;
    }
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
                   prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0
               ? -1
               : 0;
}

/* NAME=ERRNO. 0, or -1 if there is no such. */
static int refuse_named(const char *word)
{
    size_t length = strcspn(word, "=");

    for (size_t c = 0; c < sizeof calls / sizeof *calls; c++)
        for (size_t e = 0; e < sizeof errors / sizeof *errors; e++)
            if (strlen(calls[c].name) == length && strncmp(calls[c].name, word, length) == 0 &&
                strcmp(errors[e].name, word + length + 1) == 0)
                return refuse(&calls[c], errors[e].number);
    errno = EINVAL;
    return -1;
}

int main(int argc, char **argv)
{
    int i = 1;

    for (; i < argc && strchr(argv[i], '='); i++)
        if (refuse_named(argv[i]) < 0) {
            fprintf(stderr, "without: %s: %s\n", argv[i], strerror(errno));
            return 125;
        }
    if (i == argc)
        return 125;
    execvp(argv[i], &argv[i]);
    perror(argv[i]);
    return 127;
}
