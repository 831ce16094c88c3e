/* SPDX-License-Identifier: MIT */
/*
 * Other people's semaphores: POSIX ones by name (sem_open(3)) or in memory (sem_init(3)), and System V sets
 * (semget(2)). naru adds only URLs, deadlines and error texts; what these cannot promise stands in
 * naru/semaphore.h.
 */
#include "naru/semaphore.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <semaphore.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/sem.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/quiet-write.h"
#include "base/races.h"
#include "base/sysv.h"
#include "base/url.h"
#include "segment/publish.h"

enum { NS_PER_S = 1000000000, SYSV_VALUE_MAX = 32767 };

/* How long a System V set made by somebody else may go without its first value before we think that its maker
 * died, or never gives one. */
#define INITIALISE_PATIENCE NARU_MS(200)

struct naru_raw_semaphore {
    sem_t *posix;  /* NULL for System V */
    bool borrowed; /* posix is the caller's */
    int id;        /* of the System V set */
    unsigned short index;
    bool undo;
    char *url;
};

struct request {
    struct url url;
    bool create, exclusive, undo;
    unsigned mode;
    int64_t value, index, key;
    char name[NAME_MAX]; /* of a POSIX one, with its slash */
};

static int failed(const char *url, int code, const char *what)
{
    const char *advice = code == ENOENT ? "; ?create makes it" : publish_advice(PUBLISH_OPENING, code);

    if (code == ENOSPC && strncmp(url, "sem+sysv:", strlen("sem+sysv:")) == 0)
        advice = "; /proc/sys/kernel/sem has the limits, `ipcs -s` shows what is there";
    return error_set(code, "%s: cannot %s: %s%s", url, what, error_text(code), advice);
}

static int parse_target(struct request *request)
{
    const struct url *url = &request->url;
    const char *name = url->target + (url->target[0] == '/');

    if (strcmp(url->scheme, "sem+sysv") == 0)
        return url_target_number(url, "a System V key", 1, UINT32_MAX, &request->key);
    if (strcmp(url->scheme, "sem+posix") != 0)
        return error_set(EINVAL, "%s: expected sem+posix:/name or sem+sysv:0x4d2", url->text);
    if (!*name || strchr(name, '/') || strlen(name) > NAME_MAX - 4 || strcmp(name, ".") == 0 ||
        strcmp(name, "..") == 0)
        return error_set(EINVAL, "%s: expected a name of 1 to %d bytes without '/', as in sem+posix:/name",
                         url->text, NAME_MAX - 4);
    (void)snprintf(request->name, sizeof request->name, "/%s", name);
    return 0;
}

static int parse_options(struct request *request)
{
    static const char *const create_words[] = {"no", "yes", "new", NULL};
    struct url *url = &request->url;
    bool sysv = strcmp(url->scheme, "sem+sysv") == 0;
    int create = 0;
    int r = url_option_word(url, "create", create_words, &create);

    if (r == 0)
        r = url_option_mode(url, "mode", &request->mode);
    if (r == 0)
        r = url_option_number(url, "value", 0, sysv ? SYSV_VALUE_MAX : INT_MAX, &request->value);
    if (r == 0 && sysv)
        r = url_option_number(url, "index", 0, 31999, &request->index); /* SEMMSL's most, semget(2) */
    if (r == 0 && sysv)
        r = url_option_flag(url, "undo", &request->undo);
    request->create = create > 0;
    request->exclusive = create == 2;
    return r < 0 ? r : url_check_unused(url);
}

static int parse(const char *text, struct request *request)
{
    int r;

    *request = (struct request){.mode = 0600, .undo = true};
    r = url_parse(text, &request->url);
    if (r < 0)
        return r;
    r = parse_target(request);
    if (r == 0)
        r = parse_options(request);
    if (r < 0)
        url_deinit(&request->url);
    return r;
}

/* The C library writes a file, which beyond RLIMIT_FSIZE raises SIGXFSZ. */
static sem_t *make_posix(const struct request *request)
{
    struct quiet quiet;
    sem_t *posix;

    quiet_begin(&quiet, SIGXFSZ);
    posix = sem_open(request->name, O_CREAT | O_EXCL, request->mode, (unsigned)request->value);
    quiet_end(&quiet, SIGXFSZ, posix == SEM_FAILED && errno == EFBIG);
    return posix;
}

static int open_posix(const struct request *request, struct naru_raw_semaphore *semaphore)
{
    const char *text = request->url.text;
    char path[sizeof SHM_DIRECTORY "/sem." + NAME_MAX];

    for (int race = 0; race < RACES_MAX; race++) {
        sem_t *posix = SEM_FAILED;

        if (!request->exclusive) {
            posix = sem_open(request->name, 0);
            if (posix == SEM_FAILED && (errno != ENOENT || !request->create))
                return failed(text, errno, "open it");
        }
        if (posix == SEM_FAILED) {
            posix = make_posix(request);
            if (posix == SEM_FAILED && (errno != EEXIST || request->exclusive))
                return failed(text, errno, "make it");
            /* sem_open() takes umask(2) off the mode, which is not what ?mode= asked for. */
            (void)snprintf(path, sizeof path, SHM_DIRECTORY "/sem.%s", request->name + 1);
            if (posix != SEM_FAILED && chmod(path, request->mode) < 0 && errno != ENOENT) {
                int code = errno;

                (void)sem_close(posix);
                return failed(text, code, "set its mode");
            }
        }
        if (posix != SEM_FAILED) {
            semaphore->posix = posix;
            return 0;
        }
    }
    return error_set(EAGAIN, "%s: others keep making and removing it", text);
}

union semun {
    int val;
    struct semid_ds *buf;
    unsigned short *array;
};

/*
 * A new set has the value 0 and no time of a first operation. Its maker adds the value by one operation,
 * which sets that time (semop(2)), so who finds none knows that the maker is not done. If it stays so, the
 * maker died: add the value in its place, but only to a semaphore that is still 0.
 */
static int initialise(const struct request *request, int id)
{
    unsigned short index = (unsigned short)request->index;
    struct sembuf add[2] = {{index, 0, IPC_NOWAIT}, {index, (short)request->value, IPC_NOWAIT}};

    if (semop(id, add, 2) == 0 || errno == EAGAIN)
        return 0;
    return failed(request->url.text, errno, "give it its first value");
}

static int wait_initialised(const struct request *request, int id)
{
    int64_t deadline = deadline_after(INITIALISE_PATIENCE), step = 0;
    struct semid_ds status;

    do {
        if (semctl(id, 0, IPC_STAT, (union semun){.buf = &status}) < 0)
            return failed(request->url.text, errno, "read its state");
        if (status.sem_otime != 0)
            return 0;
        if (semctl(id, (int)request->index, GETVAL) > 0)
            return 0; /* by SETVAL, as plain programs do, which sets no time */
    } while (backoff_sleep(&step, deadline));
    return initialise(request, id);
}

static int open_sysv(const struct request *request, struct naru_raw_semaphore *semaphore)
{
    const char *text = request->url.text;
    key_t key = (key_t)(uint32_t)request->key;
    int count = (int)request->index + 1;

    for (int race = 0; race < RACES_MAX; race++) {
        int id = request->exclusive ? -1 : semget(key, count, 0);
        int r = 0;

        if (id >= 0) {
            semaphore->id = id;
            return request->create ? wait_initialised(request, id) : 0;
        }
        if (!request->exclusive && errno == EINVAL)
            return error_set(EINVAL, "%s: that set has fewer than %d semaphores", text, count);
        if (!request->exclusive && (errno != ENOENT || !request->create))
            return failed(text, errno, "open it");
        id = semget(key, count, IPC_CREAT | IPC_EXCL | (int)request->mode);
        if (id >= 0) {
            r = initialise(request, id);
            semaphore->id = id;
            return r;
        }
        if (errno != EEXIST || request->exclusive)
            return failed(text, errno, "make it");
    }
    return error_set(EAGAIN, "%s: others keep making and removing it", text);
}

int naru_raw_semaphore_open(const char *url, struct naru_raw_semaphore **ret_semaphore)
{
    struct naru_raw_semaphore *semaphore;
    struct request request;
    int r = parse(url, &request);

    if (r < 0)
        return r;
    semaphore = calloc(1, sizeof *semaphore);
    if (semaphore)
        semaphore->url = strdup(url);
    if (!semaphore || !semaphore->url) {
        r = error_set(ENOMEM, "%s: out of memory", url);
    } else {
        semaphore->index = (unsigned short)request.index;
        semaphore->undo = request.undo;
        r = *request.name ? open_posix(&request, semaphore) : open_sysv(&request, semaphore);
    }
    url_deinit(&request.url);
    if (r < 0) {
        (void)naru_raw_semaphore_close(semaphore);
        return r;
    }
    *ret_semaphore = semaphore;
    return 0;
}

int naru_raw_semaphore_borrow(void *posix_sem_t, struct naru_raw_semaphore **ret_semaphore)
{
    struct naru_raw_semaphore *semaphore = calloc(1, sizeof *semaphore);

    if (semaphore)
        semaphore->url = strdup("sem_t in memory");
    if (!semaphore || !semaphore->url) {
        free(semaphore);
        return error_set(ENOMEM, "semaphore: out of memory");
    }
    semaphore->posix = posix_sem_t;
    semaphore->borrowed = true;
    *ret_semaphore = semaphore;
    return 0;
}

struct naru_raw_semaphore *naru_raw_semaphore_close(struct naru_raw_semaphore *semaphore)
{
    if (semaphore) {
        if (semaphore->posix && !semaphore->borrowed)
            (void)sem_close(semaphore->posix); /* can only fail for what sem_open() did not give */
        free(semaphore->url);
        free(semaphore);
    }
    return NULL;
}

static int wait_posix(sem_t *posix, int64_t deadline)
{
    struct timespec until = {.tv_sec = deadline / NS_PER_S, .tv_nsec = deadline % NS_PER_S};
    int r;

    do
        r = deadline == 0              ? sem_trywait(posix)
            : deadline == NARU_FOREVER ? sem_wait(posix)
                                       : sem_clockwait(posix, CLOCK_MONOTONIC, &until);
    while (r < 0 && errno == EINTR);
    return r < 0 ? -errno : 0;
}

static int operate(const struct naru_raw_semaphore *semaphore, short change, int64_t deadline)
{
    struct sembuf operation = {
        .sem_num = semaphore->index,
        .sem_op = change,
        .sem_flg = (short)((semaphore->undo ? SEM_UNDO : 0) | (deadline == 0 ? IPC_NOWAIT : 0)),
    };
    struct timespec left;

    for (;;) {
        if (semtimedop(semaphore->id, &operation, 1, deadline_left_timespec(deadline, &left)) == 0)
            return 0;
        /* The kernel restarts neither after a signal handler (signal(7)). EAGAIN is also the end of time. */
        if (errno == EAGAIN)
            return deadline == 0 ? -EAGAIN : -ETIMEDOUT;
        if (errno != EINTR)
            return -errno;
    }
}

static int explain(const struct naru_raw_semaphore *semaphore, int r)
{
    if (r == 0)
        return 0;
    if (r == -EAGAIN || r == -ETIMEDOUT)
        return error_expected(-r);
    if (sysv_is_gone(-r))
        return error_set(EIDRM, "%s: it has been removed", semaphore->url);
    if (r == -EOVERFLOW || r == -ERANGE)
        return error_set(EOVERFLOW, "%s: it has as many units as it can count", semaphore->url);
    return failed(semaphore->url, -r, "use it");
}

int naru_raw_semaphore_wait(struct naru_raw_semaphore *semaphore, int64_t timeout_ns)
{
    int64_t deadline = deadline_after(timeout_ns);

    return explain(semaphore, semaphore->posix ? wait_posix(semaphore->posix, deadline)
                                               : operate(semaphore, -1, deadline));
}

int naru_raw_semaphore_post(struct naru_raw_semaphore *semaphore)
{
    if (!semaphore->posix)
        return explain(semaphore, operate(semaphore, 1, NARU_FOREVER)); /* adding never waits */
    return explain(semaphore, sem_post(semaphore->posix) < 0 ? -errno : 0);
}

int64_t naru_raw_semaphore_value(struct naru_raw_semaphore *semaphore)
{
    int value, r = semaphore->posix ? sem_getvalue(semaphore->posix, &value)
                                    : (value = semctl(semaphore->id, semaphore->index, GETVAL));

    if (r < 0)
        return explain(semaphore, -errno);
    return value;
}

static int cannot_remove(const char *url, int code)
{
    return error_set(code, "%s: cannot remove it: %s%s", url, error_text(code),
                     code == EPERM || code == EACCES ? "; its owner may, and root" : "");
}

int naru_raw_semaphore_remove(const char *url)
{
    struct request request;
    int id, r = parse(url, &request);

    if (r < 0)
        return r;
    if (*request.name) {
        r = sem_unlink(request.name) < 0 ? cannot_remove(url, errno) : 0;
    } else {
        id = semget((key_t)(uint32_t)request.key, 0, 0);
        if (id < 0 || semctl(id, 0, IPC_RMID) < 0)
            r = cannot_remove(url, sysv_is_gone(errno) ? ENOENT : errno);
    }
    url_deinit(&request.url);
    return r;
}
