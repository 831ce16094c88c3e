/* SPDX-License-Identifier: MIT */
/*
 * A socket's path on a file system whose server is silent: who connects there waits for it, as every path
 * walk does, and nobody else in the process. Paths that are longer than an address takes are the ones that
 * are opened for it.
 */
#include <pthread.h>
#include <sys/wait.h>

#include "naru/naru.h"
#include "silent-fuse.h"

static const char *const schemes[] = {"unix", "shm"};

static const char *each_scheme(size_t index)
{
    return index < sizeof schemes / sizeof *schemes ? schemes[index] : NULL;
}

static void *connect_there(void *url)
{
    struct naru_channel *ch = NULL;

    CHECK(naru_connect(url, NULL, NARU_NOWAIT, &ch) < 0 && !ch);
    return NULL;
}

TEST_EACH(who_connects_to_a_silent_file_system_holds_up_no_fork, each_scheme)
{
    int server = mount_silent(S_IFDIR), pid, status;
    pthread_t thread;

    CHECK_INT(
        pthread_create(&thread, NULL, connect_there,
                       (void *)(uintptr_t)test_format("%s://%s/%0120d/s", schemes[index], silent_path(), 0)),
        0);
    WAIT_UNTIL(*lookups > 0);
    pid = test_fork();
    if (pid == 0)
        test_child_end();
    CHECK(waitpid(pid, &status, 0) == pid && status == 0);
    unmount(server);
    CHECK_INT(pthread_join(thread, NULL), 0);
}
