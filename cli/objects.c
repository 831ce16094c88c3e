/* SPDX-License-Identifier: MIT */
#include "cli/objects.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <mqueue.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "cli/objects-sync.h"

typedef int visit_function(const struct object *o, void *context);

static struct object object_of(const char *kind)
{
    return (struct object){
        .kind = kind, .id = -1, .uid = -1, .mode = -1, .bytes = -1, .messages = -1, .users = -1, .pid = -1};
}

/* /proc/sysvipc: proc(5). The columns differ in number, and the first four are key, id, perms and a size. */
enum { SYSV_COLUMNS = 10 };

static void name_sysv(struct object *o, int64_t key)
{
    if (key != 0) /* IPC_PRIVATE: no key leads to it */
        (void)snprintf(o->name, sizeof o->name, "%s:0x%" PRIx32, o->kind, (uint32_t)key);
}

static struct object sysv_message_queue(const int64_t *c)
{
    struct object o = object_of("sysvmq");

    o.bytes = c[3];
    o.messages = c[4];
    o.pid = c[5];
    o.uid = c[7];
    return o;
}

static struct object sysv_shared_memory(const int64_t *c)
{
    struct object o = object_of("shm+sysv");

    o.bytes = c[3];
    o.pid = c[4];
    o.users = c[6];
    o.uid = c[7];
    return o;
}

static struct object sysv_semaphores(const int64_t *c)
{
    struct object o = object_of("sem+sysv");

    o.users = c[3];
    o.uid = c[4];
    return o;
}

static int each_sysv(const char *path, struct object (*make)(const int64_t *c), visit_function *visit,
                     void *context)
{
    FILE *list = fopen(path, "re");
    char line[512];
    int r = 0;

    if (!list)
        return errno == ENOENT ? -ENODEV : -errno;
    if (!fgets(line, sizeof line, list)) /* the headings */
        line[0] = '\0';
    while (r == 0 && fgets(line, sizeof line, list)) {
        int64_t c[SYSV_COLUMNS] = {0};
        char *next = line;
        struct object o;

        for (int i = 0; i < SYSV_COLUMNS; i++) /* perms, the third, are octal */
            c[i] = strtoll(next, &next, i == 2 ? 8 : 10);
        o = make(c);
        o.id = c[1];
        o.mode = c[2] & 0777;
        name_sysv(&o, c[0]);
        r = visit(&o, context);
    }
    (void)fclose(list);
    return r;
}

/* How many messages wait; the file in /dev/mqueue tells bytes only, and the queue must be readable for us. */
static void ask_queue(const char *name, struct object *o)
{
    struct mq_attr attributes;
    mqd_t queue = mq_open(name, O_RDONLY | O_NONBLOCK | O_CLOEXEC);

    if (queue == (mqd_t)-1)
        return;
    if (mq_getattr(queue, &attributes) == 0)
        o->messages = attributes.mq_curmsgs;
    (void)mq_close(queue);
}

static void fill_posix_queue(int directory, const char *file, struct object *o)
{
    char text[128] = "", name[NAME_MAX + 2];
    int fd = openat(directory, file, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);

    if (fd >= 0)
        (void)close(fd);
    if (n > 0)
        (void)sscanf(text, "QSIZE:%" SCNd64, &o->bytes); /* mq_overview(7) */
    (void)snprintf(name, sizeof name, "/%s", file);
    ask_queue(name, o);
}

static void fill_posix_memory(int directory, const char *file, struct object *o)
{
    struct stat status;

    if (fstatat(directory, file, &status, AT_SYMLINK_NOFOLLOW) == 0)
        o->bytes = status.st_size;
}

/* What means something in a URL, and what a terminal or JSON could not show, is written as %XX there. */
static void encode(const char *name, char *encoded, size_t size)
{
    size_t used = 0;

    for (; *name && used + 4 < size; name++) {
        unsigned char byte = (unsigned char)*name;
        bool special = byte <= ' ' || byte >= 0x7f || byte == '%' || byte == '?';

        used += (size_t)snprintf(encoded + used, size - used, special ? "%%%02X" : "%c", byte);
    }
    encoded[used] = '\0';
}

static int each_file(const char *path, const char *kind, const char *prefix,
                     void (*fill)(int directory, const char *file, struct object *o), visit_function *visit,
                     void *context)
{
    DIR *directory = opendir(path);
    struct dirent *entry;
    int r = 0;

    if (!directory)
        return errno == ENOENT ? -ENODEV : -errno;
    while (r == 0 && (entry = readdir(directory))) {
        struct object o = object_of(kind);
        struct stat status;
        bool semaphore = strncmp(entry->d_name, "sem.", 4) == 0;
        char encoded[3 * NAME_MAX + 1];

        /* naru's own locks are no plain memory (objects-sync.c). */
        if (strncmp(entry->d_name, "naru.", 5) == 0 && strcmp(kind, "shm+posix") == 0)
            continue;
        if (entry->d_name[0] == '.' || (strcmp(kind, "posixmq") != 0 && semaphore != (*prefix != '\0')))
            continue;
        if (fstatat(dirfd(directory), entry->d_name, &status, AT_SYMLINK_NOFOLLOW) == 0) {
            if (!S_ISREG(status.st_mode))
                continue;
            o.uid = status.st_uid;
            o.mode = status.st_mode & 0777;
        }
        fill(dirfd(directory), entry->d_name, &o);
        encode(entry->d_name + strlen(prefix), encoded, sizeof encoded);
        (void)snprintf(o.name, sizeof o.name, "%s:/%s", kind, encoded);
        r = visit(&o, context);
    }
    (void)closedir(directory);
    return r;
}

static int each_posix_queue(visit_function *visit, void *context)
{
    return each_file("/dev/mqueue", "posixmq", "", fill_posix_queue, visit, context);
}

static int each_posix_memory(visit_function *visit, void *context)
{
    return each_file("/dev/shm", "shm+posix", "", fill_posix_memory, visit, context);
}

/* glibc keeps sem_open("/x") in /dev/shm/sem.x: sem_overview(7). */
static int each_posix_semaphore(visit_function *visit, void *context)
{
    return each_file("/dev/shm", "sem+posix", "sem.", fill_posix_memory, visit, context);
}

/* The kernel's own choice: a NUL (shown as @) and five hexadecimal digits (unix(7), Autobind feature). */
static bool is_autobound(const char *name)
{
    return name[0] == '@' && strlen(name) == 6 && strspn(name + 1, "0123456789abcdef") == 5;
}

/* Whether what follows begin in path is DIGITS, end and one name more. */
static bool is_in_users(const char *path, const char *begin, const char *end)
{
    size_t length = strlen(begin);

    if (strncmp(path, begin, length) != 0)
        return false;
    path += length + strspn(path + length, "0123456789");
    return strncmp(path, end, strlen(end)) == 0 && !strchr(path + strlen(end), '/');
}

/* Whether a seqpacket socket lies where the names of shm: do (docs/shared-memory.md). */
static bool is_rendezvous(const char *path)
{
    const char *run = getenv("XDG_RUNTIME_DIR");
    size_t length = run ? strlen(run) : 0;

    return is_in_users(path, "/run/user/", "/naru/") || is_in_users(path, "/tmp/naru-", "/") ||
           (length && strncmp(path, run, length) == 0 && is_in_users(path + length, "/naru/", ""));
}

static void name_unix(struct object *o, const char *path, unsigned type)
{
    static const char *const options[] = {[1] = "", [2] = "?type=dgram", [5] = "?type=seqpacket"};
    bool shm = type == 5 && is_rendezvous(path);
    char encoded[3 * sizeof(((struct sockaddr_un *)0)->sun_path) + 1];

    o->kind = shm ? "shm" : "unix";
    encode(path, encoded, sizeof encoded);
    (void)snprintf(o->name, sizeof o->name, "%s:%s%s%s", o->kind, encoded[0] == '/' ? "//" : "", encoded,
                   shm ? "" : options[type]);
}

/* /proc/net/unix: Num RefCount Protocol Flags Type St Inode Path. Listening sockets have __SO_ACCEPTCON
 * (0x10000) set; bound datagram sockets are of type 2. */
static int each_socket(const char *kind, visit_function *visit, void *context)
{
    FILE *list = fopen("/proc/net/unix", "re");
    char line[512];
    int r = 0;

    if (!list)
        return errno == ENOENT ? -ENODEV : -errno;
    while (r == 0 && fgets(line, sizeof line, list)) {
        struct object o = object_of(kind);
        unsigned flags, type;
        struct stat status;
        int path = 0;

        if (sscanf(line, "%*s %*s %*s %x %x %*s %*s %n", &flags, &type, &path) < 2 || path == 0)
            continue; /* the headings, or no name */
        line[strcspn(line, "\n")] = '\0';
        if (!line[path] || !(flags & 0x10000 || type == 2) || (type != 1 && type != 2 && type != 5))
            continue;
        if (type == 2 &&
            is_autobound(line + path)) /* a client's address for answers, not a place to send to */
            continue;
        if (line[path] == '/' && stat(line + path, &status) == 0) {
            o.uid = status.st_uid;
            o.mode = status.st_mode & 0777;
        }
        name_unix(&o, line + path, type);
        if (strcmp(o.kind, kind) == 0)
            r = visit(&o, context);
    }
    (void)fclose(list);
    return r;
}

static int each_unix(visit_function *visit, void *context)
{
    return each_socket("unix", visit, context);
}

static int each_shm(visit_function *visit, void *context)
{
    return each_socket("shm", visit, context);
}

static int each_sysv_queue(visit_function *visit, void *context)
{
    return each_sysv("/proc/sysvipc/msg", sysv_message_queue, visit, context);
}

static int each_sysv_memory(visit_function *visit, void *context)
{
    return each_sysv("/proc/sysvipc/shm", sysv_shared_memory, visit, context);
}

static int each_sysv_semaphore(visit_function *visit, void *context)
{
    return each_sysv("/proc/sysvipc/sem", sysv_semaphores, visit, context);
}

static const struct {
    const char *kind, *path;
    int (*each)(visit_function *visit, void *context);
} sources[] = {
    {"sysvmq", "/proc/sysvipc/msg", each_sysv_queue},
    {"posixmq", "/dev/mqueue", each_posix_queue},
    {"shm+sysv", "/proc/sysvipc/shm", each_sysv_memory},
    {"shm+posix", "/dev/shm", each_posix_memory},
    {"sem+sysv", "/proc/sysvipc/sem", each_sysv_semaphore},
    {"sem+posix", "/dev/shm", each_posix_semaphore},
    {"unix", "/proc/net/unix", each_unix},
    {"shm", "/proc/net/unix", each_shm},
};

const char *const object_kinds[] = {"sysvmq",    "posixmq", "shm+sysv",  "shm+posix", "sem+sysv",
                                    "sem+posix", "unix",    "shm",       "mutex",     "rwlock",
                                    "event",     "barrier", "semaphore", NULL};

int objects_each(const char *kind, visit_function *visit, void *context, const char **ret_missing)
{
    int missing = 0, locks;

    for (size_t i = 0; i < sizeof sources / sizeof sources[0]; i++) {
        int r;

        if (kind && strcmp(kind, sources[i].kind) != 0)
            continue;
        r = sources[i].each(visit, context);
        if (r == -ENODEV) {
            *ret_missing = sources[i].path;
            missing = r;
        } else if (r != 0) {
            return r;
        }
    }
    locks = objects_each_sync(kind, visit, context);
    return locks ? locks : missing;
}
