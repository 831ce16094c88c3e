/* SPDX-License-Identifier: MIT */
/*
 * Inside the segment layer: what a handle holds and what a kind of segment must do. A kind is one file and
 * one line in segment.c's table.
 */
#ifndef NARU_SEGMENT_SEGMENT_H
#define NARU_SEGMENT_SEGMENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/url.h"
#include "naru/segment.h"

struct segment_kind;

struct naru_segment {
    const struct segment_kind *kind;
    char *url;
    int fd;        /* -1 for System V */
    int shmid;     /* -1 for all others */
    void *data;    /* NULL while mapped is 0 */
    size_t mapped; /* bytes of the object that the mapping covers, never made smaller */
    size_t placed; /* bytes of address space that are ours at data, for a mirror or huge pages; 0: `mapped` */
    uint64_t generation; /* fork_generation() of the process that opened it: only that one unlinks */
    bool read_only;
    bool unlink;
    bool made; /* it was not there before: an opening that fails takes it away again */
    bool mirror, prefault;
    bool hugetlb; /* made of pages that were reserved as huge ones (MFD_HUGETLB, SHM_HUGETLB) */
    bool backed;  /* what `huge` and `prefault` ask for is done for all that is mapped */
    enum naru_huge_pages huge;
};

/* What was asked for, URL and options merged. */
struct segment_request {
    struct url *url;
    size_t size;
    unsigned mode;
    bool create, exclusive, read_only;
    enum naru_huge_pages huge;
    int (*initialise)(void *data, size_t size, void *argument); /* may be NULL */
    void *argument;
    int told; /* how segment_initialise() failed, explained; 0: it did not */
};

struct segment_kind {
    const char *scheme;
    /* Fills fd or shmid (and, for System V, data and mapped). 0 or -errno, explained. */
    int (*open)(const struct segment_request *request, struct naru_segment *segment);
    /* NULL: has no name. own: only if the name still means this segment; NULL: whatever it means. */
    int (*remove)(struct url *url, const struct naru_segment *own);
    int (*list)(int (*each)(const struct naru_segment_entry *entry, void *argument), void *argument);
};

extern const struct segment_kind segment_memfd, segment_posix, segment_sysv, segment_file;

/* For an object that is there already: -EINVAL (explained) if it has fewer bytes than asked for. */
int segment_check_size(const struct segment_request *request, uint64_t bytes);

/* request->initialise on a new file of the request's size that nobody else sees yet; for publish_create(). 0,
 * or the explained -errno, which request->told keeps as well. */
int segment_initialise(int fd, void *request);

/* Maps what the object has beyond `mapped`, as the options want it. size: fresh from the kernel. 0 or
 * explained. */
int segment_map_up_to(struct naru_segment *segment, size_t size);
/* Before the object grows to that size: whether it could be mapped then, as far as addresses, locked memory
 * and seals go. 0 or explained, nothing changed. */
int segment_try_map(const struct naru_segment *segment, size_t size);
/* Before an object of that size is made: -EINVAL or -ENOTSUP (explained) where the options cannot be had for
 * it. */
int segment_check_backing(const struct naru_segment *segment, size_t size);
void segment_unmap(struct naru_segment *segment);

/* The size of its pages where they are huge ones that the system keeps (MFD_HUGETLB, hugetlbfs); 0: they are
 * not. Of such an object only whole pages can be touched, write(2) is EINVAL, and mremap(2) does not lengthen
 * a mapping. */
size_t segment_kept_page(const struct naru_segment *segment);

/* naru_segment_write() for these: within the object, as it was a moment ago. 0 or explained; no SIGBUS. */
int segment_write_mapped(const struct naru_segment *segment, uint64_t offset, const void *data,
                         size_t length);

/* System V's answers to what other kinds ask of their descriptor. */
ssize_t segment_sysv_size(const struct naru_segment *segment);
void segment_sysv_detach(struct naru_segment *segment);

#endif
