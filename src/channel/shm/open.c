/* SPDX-License-Identifier: MIT */
/* How a channel over shared memory comes to be: its options, and pairs. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include "base/error.h"
#include "base/fd.h"
#include "channel/shm/shm.h"

static const char *const wait_words[] = {"adaptive", "spin", "sleep", NULL};

/* What opt says of the payloads' type. 0 or -EINVAL with what was expected. */
static int take_type(const char *what, const struct naru_options *opt, struct shm_options *options)
{
    const struct naru_type *type = &opt->type;
    struct handshake_type *said = &options->type;

    if (!type->name)
        return 0;
    if (!*type->name || type->bytes == 0 || type->alignment == 0 || type->alignment > UINT32_MAX)
        return error_set(
            EINVAL, "%s: options.type has no name, size or alignment; use NARU_TYPE(struct yours, 1)", what);
    (void)snprintf(said->name, sizeof said->name, "%s", type->name);
    said->bytes = type->bytes;
    said->alignment = (uint32_t)type->alignment;
    said->version = type->version;
    return 0;
}

int shm_parse_options(struct url *url, const struct naru_options *opt, bool named,
                      struct shm_options *ret_options)
{
    struct shm_options options = {.ring = SHM_RING_DEFAULT,
                                  .lanes = 1,
                                  .pool = SHM_POOL_DEFAULT,
                                  .backlog = SHM_BACKLOG_DEFAULT,
                                  .how = WAIT_ADAPTIVE,
                                  .cpu = shm_sole_cpu()};
    int r = url_option_size(url, "ring", SHM_PAGE, 1 << 30, &options.ring);

    if (r == 0)
        r = url_option_size(url, "pool", 0, SHM_POOL_MOST, &options.pool);
    if (r == 0 && strcmp(url->scheme, "shm") == 0)
        r = url_option_count(url, "lanes", 1, SHM_LANES, &options.lanes);
    if (r == 0)
        r = url_option_word(url, "wait", wait_words, &options.how);
    if (r == 0 && (options.ring & (options.ring - 1)) != 0)
        r = error_set(EINVAL, "%s: ?ring= is %zu; expected a power of two, as 64k, 256k or 1M", url->text,
                      options.ring);
    if (r == 0)
        r = url_option_flag(url, "prefault", &options.prefault);
    if (r == 0)
        r = url_option_flag(url, "huge", &options.huge);
    if (r == 0 && named)
        r = url_option_count(url, "backlog", 1, 4096, &options.backlog);
    if (r == 0 && named)
        r = shm_allow_parse(url, &options.allowed);
    if (r == 0)
        r = take_type(url->text, opt, &options);
    if (r == 0)
        r = sealed_check_sizes(url->text, sizeof(struct shm_page),
                               options.ring); /* pages may be larger here */
    options.pool = (options.pool + SHM_PAGE - 1) & ~(size_t)(SHM_PAGE - 1);
    options.pool_max = options.pool > opt->max_message
                           ? options.pool
                           : (opt->max_message + SHM_PAGE - 1) & ~(size_t)(SHM_PAGE - 1);
    if (r == 0)
        *ret_options = options;
    return r;
}

struct handshake_message shm_say(enum handshake_kind kind, const struct shm_options *options)
{
    struct handshake_message m = handshake_make(kind, options->ring);

    m.lanes = (uint32_t)options->lanes;
    if (m.ring_max < m.ring * m.lanes)
        m.ring_max = m.ring * m.lanes;
    m.pool_max = options->pool_max;
    m.type = options->type;
    m.cpu = options->cpu;
    return m;
}

uint32_t shm_sole_cpu(void)
{
    cpu_set_t set;

    if (sched_getaffinity(0, sizeof set, &set) < 0 || CPU_COUNT(&set) != 1)
        return 0;
    for (uint32_t cpu = 0; cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET(cpu, &set))
            return cpu + 1;
    return 0;
}

void shm_set_patience(struct naru_channel *ch, bool one_cpu)
{
    struct shm *shm = ch->state;

    shm->spins = shm->how == WAIT_SLEEP || (shm->how == WAIT_ADAPTIVE && one_cpu) ? 0 : SHM_SPINS;
    ch->looks = shm->how == WAIT_SPIN ? CHANNEL_LOOKS_FOR_EVER : shm->spins;
}

void shm_note_cpu(struct naru_channel *ch, uint32_t theirs)
{
    shm_set_patience(ch, theirs != 0 && theirs == shm_sole_cpu());
}

/* ?huge and ?prefault, before anybody uses the memory. 0 or an explained -errno. */
static int back_memory(const char *what, const struct shm_options *options, struct sealed *own,
                       struct sealed *theirs)
{
    int r = options->huge ? sealed_align(what, own) : 0;

    if (r == 0 && options->huge)
        r = sealed_align(what, theirs);
    if (r == 0 && options->prefault)
        r = sealed_prefault(what, own, true);
    if (r == 0 && options->prefault)
        r = sealed_prefault(what, theirs, false);
    if (r == 0 && options->huge) {
        sealed_make_huge(own, options->prefault);
        sealed_make_huge(theirs, options->prefault);
    }
    return r;
}

/* All of both pools is there: nothing is asked of the kernel later. */
static void note_prefaulted(struct shm *shm)
{
    shm->pool.reached = shm->pool.size;
    shm->their_pool.reached = shm->their_pool.size;
}

int shm_prepare(const char *what, const struct shm_options *options, struct sealed *own,
                struct sealed *theirs, struct shm **ret_shm)
{
    struct shm *shm = calloc(1, sizeof *shm);
    int r = shm ? back_memory(what, options, own, theirs)
                : error_set(ENOMEM, "%s: out of memory for a channel", what);

    if (r < 0)
        free(shm);
    else
        *ret_shm = shm;
    return r;
}

void shm_open_channel(struct naru_channel *ch, const struct shm_options *options, uint64_t pool_max,
                      struct sealed *own, struct sealed *theirs, struct shm *shm)
{
    size_t most;

    shm_link_init(&shm->link, own, theirs, ch->rfd, ch->wfd);
    shm->link.their_receiver.loop_fd = ch->their_loop_bell;
    if (ch->their_rfd >= 0) {
        shm->link.their_receiver.fd = ch->their_rfd;
        shm->link.their_sender.fd = ch->their_wfd;
    }
    pool_init(&shm->pool, &shm->link.own, shm->link.their_page);
    if (shm->pool.size > pool_max)
        shm->pool.size = pool_max & ~(uint64_t)(SHM_PAGE - 1);
    pool_reader_init(&shm->their_pool, &shm->link.theirs, shm->link.page);
    shm->fds_most = SHM_FDS_OUT;
    if (options->prefault)
        note_prefaulted(shm);
    for (unsigned i = 0; i < shm->link.lanes_in; i++)
        held_init(&shm->held[i], shm_link_rx(&shm->link, i), &shm->link.page->lane[i]);
    shm->how = (enum wait_how)options->how;
    ch->state = shm;
    shm_set_patience(ch, shm_sole_cpu() != 0);
    ch->direction = NARU_DIRECTION_BOTH;
    ch->room_event = EPOLLIN;
    ch->in_event = EPOLLIN | EPOLLRDHUP | EPOLLET; /* shm_holds() takes what it shows */
    shm->receive_max = ch->max_message;
    shm->inline_max = ch->short_max = record_max(shm->link.own.ring);
    most = shm->pool.size > shm->inline_max ? shm->pool.size : shm->inline_max;
    ch->limit_mend = "raise it with ?max-message= and ?pool= at both ends";
    if (ch->max_message > most) {
        ch->max_message = most;
        ch->limit_mend =
            most == shm->inline_max
                ? "it may fill half of the ring; make room for it with ?pool=, or a larger ?ring="
            : shm->pool.size < shm->link.own.pool
                ? "the receiver maps no more of a pool than its own ?pool= or ?max-message=; make those "
                  "larger"
                : "it may fill all of the pool; make that larger with ?pool=";
    }
}

int shm_make_bell(const char *what, int *ret_end, int *ret_other_end)
{
    int fds[2];

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
        return error_set(errno, "%s: socketpair: %s", what, error_text(errno));
    for (int i = 0; i < 2; i++)
        handshake_bar_bell(fds[i]);
    *ret_end = fds[0];
    *ret_other_end = fds[1];
    return 0;
}

/* From which more can be taken than a peer lives to take: each takes one. */
bool shm_make_loop_bell(int *ret_fd)
{
    FD_CLEANUP int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK | EFD_SEMAPHORE);

    if (fd < 0 || eventfd_write(fd, UINT64_C(1) << 62) < 0)
        return false;
    *ret_fd = fd_steal(&fd);
    return true;
}

/* One for each side's receiver, or none. */
static void make_loop_bells(struct naru_channel *ch[2])
{
    for (int i = 0; i < 2; i++) {
        int other = -1;

        if (shm_make_loop_bell(&ch[i]->loop_bell))
            other = fcntl(ch[i]->loop_bell, F_DUPFD_CLOEXEC, 0);
        if (other < 0)
            ch[i]->loop_bell = fd_close(ch[i]->loop_bell);
        ch[!i]->their_loop_bell = other;
    }
}

/* For descriptors, both ways. */
static int make_passage(const char *what, struct naru_channel *ch[2])
{
    int fds[2];

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) < 0)
        return error_set(errno, "%s: socketpair: %s", what, error_text(errno));
    for (int i = 0; i < 2; i++)
        ch[i]->side_fd = fds[i];
    return 0;
}

int shm_pair(struct naru_channel *ch[2], struct url *url, const struct naru_options *opt)
{
    struct shm_options options;
    struct sealed own[2] = {{0}, {0}}, theirs[2] = {{0}, {0}};
    int memory[2] = {-1, -1}, r;

    if (*url->target)
        return error_set(EINVAL, "%s: a pair has no name; expected shm:, or naru_connect() to shm://name",
                         url->text);
    r = shm_parse_options(url, opt, false, &options);
    if (r == 0)
        r = shm_make_bell(url->text, &ch[0]->rfd, &ch[1]->rfd);
    if (r == 0)
        r = shm_make_bell(url->text, &ch[0]->wfd, &ch[1]->wfd);
    if (r == 0)
        r = make_passage(url->text, ch);
    if (r == 0)
        make_loop_bells(ch);
    for (int i = 0; i < 2 && r == 0; i++)
        r = shm_link_make_lanes(url->text, options.ring, (unsigned)options.lanes, options.pool, &own[i],
                                &memory[i]);
    for (int i = 0; i < 2 && r == 0; i++)
        r = shm_link_attach_lanes(url->text, memory[!i], options.ring, (unsigned)options.lanes, options.pool,
                                  &theirs[i]);
    for (int i = 0; i < 2 && r == 0; i++) {
        struct shm *shm;

        r = shm_prepare(url->text, &options, &own[i], &theirs[i], &shm);
        if (r < 0)
            break;
        shm_open_channel(ch[i], &options, options.pool, &own[i], &theirs[i], shm);
        shm->pair = true;
    }
    for (int i = 0; i < 2; i++) {
        memory[i] = fd_close(memory[i]);
        sealed_deinit(&own[i]);
        sealed_deinit(&theirs[i]);
        if (r < 0 && ch[i]->state) {
            shm_free(ch[i]->state);
            ch[i]->state = NULL;
        }
    }
    return r;
}
