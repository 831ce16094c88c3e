/* SPDX-License-Identifier: MIT */
/*
 * Segments: the public calls, and what all kinds with a descriptor have in common.
 *
 * The object's size belongs to the kernel and can change under us, so it is asked for (fstat) at each call
 * that depends on it and never remembered; what is remembered is how much of it the mapping covers.
 */
#include "segment/segment.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/fd.h"
#include "base/fork.h"
#include "base/mapping.h"
#include "base/sized.h"
#include "segment/publish.h"

static const struct segment_kind *const kinds[] = {
    &segment_memfd,
    &segment_posix,
    &segment_sysv,
    &segment_file,
};

static const struct segment_kind *find_kind(const char *scheme)
{
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (strcmp(kinds[i]->scheme, scheme) == 0)
            return kinds[i];
    return NULL;
}

static int unknown_kind(const char *text)
{
    return error_set(EINVAL,
                     "%s: expected a segment: memfd:, shm+posix:/name, shm+sysv:0x4d2 or mmap:///path", text);
}

int segment_check_size(const struct segment_request *request, uint64_t bytes)
{
    if (bytes >= request->size)
        return 0;
    return error_set(EINVAL,
                     "%s: it exists with %" PRIu64
                     " bytes, fewer than the %zu asked for; open it with size 0 "
                     "and naru_segment_resize() it, or remove it",
                     request->url->text, bytes, request->size);
}

int segment_initialise(int fd, void *argument)
{
    struct segment_request *request = argument;
    void *data;
    int r;

    if (!request->initialise)
        return 0;
    data = mmap(NULL, request->size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (data == MAP_FAILED)
        return request->told = error_set(mapping_code(errno), "%s: cannot map %zu bytes: %s",
                                         request->url->text, request->size, mapping_text(errno));
    r = request->initialise(data, request->size, request->argument);
    (void)munmap(data, request->size);
    if (r < 0)
        request->told = error_set(-r, "%s: options.initialise refused to fill it in: %s", request->url->text,
                                  error_text(-r));
    return request->told;
}

ssize_t naru_segment_size(const struct naru_segment *segment)
{
    struct stat status;

    if (segment->fd < 0)
        return segment_sysv_size(segment);
    if (fstat(segment->fd, &status) < 0) {
        int code = errno;

        return error_set(code, "%s: cannot read its size: %s", segment->url, error_text(code));
    }
    return (ssize_t)status.st_size;
}

int naru_segment_refresh(struct naru_segment *segment, size_t *ret_size)
{
    ssize_t size = naru_segment_size(segment);
    int r;

    if (size < 0)
        return (int)size;
    r = segment_map_up_to(segment, (size_t)size);
    if (r == 0 && ret_size)
        *ret_size = (size_t)size < segment->mapped ? (size_t)size : segment->mapped;
    return r;
}

static int read_request(struct url *url, const struct naru_segment_options *options,
                        struct segment_request *request, bool *ret_unlink)
{
    static const char *const create_words[] = {"no", "yes", "new", NULL};
    int create = options ? (int)options->create - NARU_CREATE_NO : -1;
    int r = url_option_word(url, "create", create_words, &create);

    if (r == 0)
        r = url_option_mode(url, "mode", &request->mode);
    if (r == 0)
        r = url_option_flag(url, "read-only", &request->read_only);
    if (r == 0)
        r = url_option_flag(url, "unlink", ret_unlink);
    if (r < 0)
        return r;
    if (create > 2 || request->mode > 0777)
        return error_set(EINVAL, "%s: expected options made by NARU_INIT and permission bits up to 0777",
                         url->text);
    request->create = create < 0 ? request->size > 0 : create > 0;
    request->exclusive = create == 2;
    return 0;
}

/* How it is to be mapped and backed. */
static int read_backing(struct url *url, const struct naru_segment_options *options,
                        struct naru_segment *segment)
{
    static const char *const huge_words[] = {"no", "try", "must", NULL};
    int huge = options ? (int)options->huge_pages : NARU_HUGE_NO, r = 0;

    segment->mirror = options && options->mirror;
    segment->prefault = options && options->prefault;
    if (url)
        r = url_option_flag(url, "mirror", &segment->mirror);
    if (url && r == 0)
        r = url_option_flag(url, "prefault", &segment->prefault);
    if (url && r == 0)
        r = url_option_word(url, "huge", huge_words, &huge);
    if (r == 0 && (huge < NARU_HUGE_NO || huge > NARU_HUGE_MUST))
        r = error_set(EINVAL, "%s: options.huge_pages is %d; expected NARU_HUGE_NO, _TRY or _MUST",
                      segment->url, huge);
    if (r == 0)
        segment->huge = (enum naru_huge_pages)huge;
    return r;
}

/* What was made for an opening that has failed, whose sentence stays. */
static void take_away(struct url *url, const struct naru_segment *segment)
{
    char *sentence = segment->made && segment->kind->remove ? strdup(naru_explain()) : NULL;

    if (!sentence)
        return;
    (void)segment->kind->remove(url, segment);
    (void)error_set(EINVAL, "%s", sentence);
    free(sentence);
}

static int open_url(struct url *url, size_t size, const struct naru_segment_options *options,
                    struct naru_segment *segment)
{
    struct segment_request request = {
        .url = url,
        .size = size,
        .mode = options && options->mode ? options->mode : 0600,
        .read_only = options && options->read_only,
        .initialise = options ? options->initialise : NULL,
        .argument = options ? options->argument : NULL,
    };
    int r;

    segment->unlink = options && options->unlink;
    segment->kind = find_kind(url->scheme);
    if (!segment->kind)
        return unknown_kind(url->text);
    r = read_request(url, options, &request, &segment->unlink);
    if (r < 0)
        return r;
    if (size > PTRDIFF_MAX)
        return error_set(EINVAL, "%s: %zu bytes are more than an address space has", url->text, size);
    segment->read_only = request.read_only;
    r = read_backing(url, options, segment);
    if (r == 0)
        r = segment_check_backing(segment, size);
    if (r < 0)
        return r;
    request.huge = segment->huge;
    r = segment->kind->open(&request, segment);
    if (r < 0)
        return r;
    r = naru_segment_refresh(segment, NULL);
    if (r < 0)
        take_away(url, segment);
    return r;
}

/* A handle that owns nothing yet. */
static struct naru_segment *segment_new(const char *url)
{
    struct naru_segment *segment = calloc(1, sizeof *segment);

    if (!segment)
        return NULL;
    segment->fd = segment->shmid = -1;
    segment->generation = fork_generation();
    segment->url = strdup(url);
    if (!segment->url) {
        free(segment);
        return NULL;
    }
    return segment;
}

/* Everything but the name. */
static struct naru_segment *segment_free(struct naru_segment *segment)
{
    segment_unmap(segment);
    (void)fd_close(segment->fd);
    free(segment->url);
    free(segment);
    return NULL;
}

int naru_segment_open(const char *url_text, size_t size, const struct naru_segment_options *options,
                      struct naru_segment **ret_segment)
{
    struct naru_segment *segment;
    struct url url;
    int r = options ? SIZED_CHECK(url_text, "options", naru_segment_options, options) : 0;

    if (r == 0)
        r = url_parse(url_text, &url);
    if (r < 0)
        return r;
    segment = segment_new(url_text);
    if (!segment) {
        url_deinit(&url);
        return error_set(ENOMEM, "%s: out of memory", url_text);
    }
    r = open_url(&url, size, options, segment);
    url_deinit(&url);
    if (r < 0) {
        (void)segment_free(segment);
        return r;
    }
    *ret_segment = segment;
    return 0;
}

int naru_segment_take_fd(int fd, const struct naru_segment_options *options,
                         struct naru_segment **ret_segment)
{
    bool read_only = options && options->read_only;
    int flags = fcntl(fd, F_GETFL);
    struct naru_segment *segment;
    int r = options ? SIZED_CHECK("naru_segment_take_fd()", "options", naru_segment_options, options) : 0;

    if (r < 0)
        return r;
    if (flags < 0 || fd_type(fd) != S_IFREG)
        return error_set(EINVAL, "descriptor %d: expected a memfd, POSIX shared memory or a regular file",
                         fd);
    if ((flags & O_ACCMODE) == O_WRONLY || (!read_only && (flags & O_ACCMODE) != O_RDWR))
        return error_set(EACCES, "descriptor %d: it is not open for reading and writing; %s", fd,
                         (flags & O_ACCMODE) == O_RDONLY ? "set options.read_only" : "open it with O_RDWR");
    segment = segment_new("memfd:");
    if (!segment)
        return error_set(ENOMEM, "descriptor %d: out of memory", fd);
    segment->kind = &segment_memfd;
    segment->read_only = read_only;
    segment->fd = fd;
    r = read_backing(NULL, options, segment);
    if (r == 0)
        r = naru_segment_refresh(segment, NULL);
    if (r < 0) {
        segment->fd = -1; /* stays the caller's */
        (void)segment_free(segment);
        return r;
    }
    (void)fcntl(fd, F_SETFD, FD_CLOEXEC); /* cannot fail: the descriptor is open */
    *ret_segment = segment;
    return 0;
}

struct naru_segment *naru_segment_close(struct naru_segment *segment)
{
    if (!segment)
        return NULL;
    if (segment->unlink && segment->kind->remove && segment->generation == fork_generation()) {
        struct url url;

        /* Somebody else may have removed it: closing has nothing to report. */
        if (url_parse(segment->url, &url) == 0) {
            (void)segment->kind->remove(&url, segment);
            url_deinit(&url);
        }
    }
    return segment_free(segment);
}

void *naru_segment_data(const struct naru_segment *segment)
{
    return segment->data;
}

int naru_segment_fd(const struct naru_segment *segment)
{
    if (segment->fd < 0)
        return error_set(ENOTSUP, "%s: System V shared memory has no descriptor", segment->url);
    return segment->fd;
}

const char *naru_segment_url(const struct naru_segment *segment)
{
    return segment->url;
}

int naru_segment_resize(struct naru_segment *segment, size_t size)
{
    ssize_t now = naru_segment_size(segment);
    size_t kept = segment_kept_page(segment);
    int r;

    if (now < 0)
        return (int)now;
    if (size < (size_t)now)
        return error_set(EINVAL, "%s: it has %zd bytes and cannot shrink to %zu, others would be cut off",
                         segment->url, now, size);
    if (size == (size_t)now)
        return naru_segment_refresh(segment, NULL);
    if (segment->fd < 0)
        return error_set(ENOTSUP, "%s: System V shared memory keeps the size it was made with, %zd bytes",
                         segment->url, now);
    if (segment->read_only)
        return error_set(EACCES, "%s: it was opened for reading only", segment->url);
    if (kept && size % kept != 0)
        return error_set(EINVAL, "%s: it is made of huge pages of %zu bytes, and %zu are not whole ones",
                         segment->url, kept, size);
    r = segment_try_map(segment, size);
    if (r < 0)
        return r;
    r = publish_reserve(segment->fd, size);
    if (r < 0)
        return error_set(-r, "%s: cannot grow from %zd to %zu bytes: %s%s", segment->url, now, size,
                         error_text(-r),
                         kept && r == -ENOSPC ? "; the system keeps no more huge pages (vm.nr_hugepages)"
                                              : publish_advice(PUBLISH_CHANGING, -r));
    return naru_segment_refresh(segment, NULL);
}

/* How many of length bytes at offset there are in size. */
static size_t clamp(uint64_t offset, size_t length, size_t size)
{
    if (offset >= size)
        return 0;
    return length < size - offset ? length : (size_t)(size - offset);
}

ssize_t naru_segment_read(const struct naru_segment *segment, uint64_t offset, void *data, size_t length)
{
    ssize_t size = naru_segment_size(segment);
    size_t done = 0;

    if (size < 0)
        return size;
    length = clamp(offset, length, (size_t)size);
    if (segment->fd < 0) {
        if (length) /* nobody can truncate it: plain memory is safe */
            memcpy(data, (const char *)segment->data + offset, length);
        return (ssize_t)length;
    }
    while (done < length) {
        ssize_t n = pread(segment->fd, (char *)data + done, length - done, (off_t)(offset + done));

        if (n == 0)
            break; /* cut short since we looked */
        if (n > 0) {
            done += (size_t)n;
        } else if (errno != EINTR) {
            int code = errno;

            return error_set(code, "%s: cannot read: %s", segment->url, error_text(code));
        }
    }
    return (ssize_t)done;
}

static int write_file(struct naru_segment *segment, uint64_t offset, const char *data, size_t length)
{
    while (length > 0) {
        ssize_t n = pwrite(segment->fd, data, length, (off_t)offset);

        if (n >= 0) {
            data += n;
            offset += (uint64_t)n;
            length -= (size_t)n;
        } else if (errno == EINVAL && segment_kept_page(segment)) {
            return segment_write_mapped(segment, offset, data, length);
        } else if (errno != EINTR) {
            int code = errno;

            return error_set(code, "%s: cannot write: %s%s", segment->url, error_text(code),
                             publish_advice(PUBLISH_CHANGING, code));
        }
    }
    return 0;
}

int naru_segment_write(struct naru_segment *segment, uint64_t offset, const void *data, size_t length)
{
    ssize_t size;

    if (segment->read_only)
        return error_set(EACCES, "%s: it was opened for reading only", segment->url);
    size = naru_segment_size(segment);
    if (size < 0)
        return (int)size;
    if (clamp(offset, length, (size_t)size) < length)
        return error_set(ENXIO, "%s: %zu bytes at %" PRIu64 " reach past its end at %zd", segment->url,
                         length, offset, size);
    if (segment->fd >= 0)
        return write_file(segment, offset, data, length);
    if (length)
        memcpy((char *)segment->data + offset, data, length);
    return 0;
}

int naru_segment_remove(const char *url_text)
{
    const struct segment_kind *kind;
    struct url url;
    int r = url_parse(url_text, &url);

    if (r < 0)
        return r;
    kind = find_kind(url.scheme);
    if (!kind)
        r = unknown_kind(url_text);
    else if (!kind->remove)
        r = error_set(ENOTSUP, "%s: it has no name to remove; it goes when the last one closes it", url_text);
    else
        r = kind->remove(&url, NULL);
    url_deinit(&url);
    return r;
}

int naru_segment_list(const char *scheme, int (*each)(const struct naru_segment_entry *entry, void *argument),
                      void *argument)
{
    const struct segment_kind *kind = find_kind(scheme);

    if (!kind)
        return unknown_kind(scheme);
    if (!kind->list)
        return error_set(ENOTSUP, "%s: the kernel keeps no list of these", scheme);
    return kind->list(each, argument);
}
