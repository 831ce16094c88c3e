/* SPDX-License-Identifier: MIT */
/* A commit whose arguments make no sense leaves its loan out: they are mended, and it is committed again. */
#include <errno.h>
#include <string.h>

#include "channel/channel.h"
#include "naru/naru.h"
#include "runner.h"

/* In the ring, in the pool, and in a buffer that the kernel copies. */
static const struct {
    const char *label, *url;
    size_t size;
} places[] = {{"shm:, in the ring", "shm:", 100},
              {"shm:, in the pool", "shm:", 300 * 1000},
              {"unix:", "unix:", 100},
              {"unix:?type=seqpacket", "unix:?type=seqpacket", 100},
              {"unix:?frame=line", "unix:?frame=line", 100}};

static const char *each_place(size_t index)
{
    return index < sizeof places / sizeof *places ? places[index].label : NULL;
}

struct lent {
    struct naru_channel *ch[2];
    struct naru_loan loan;
    size_t size;
};

static void lend(struct lent *l, size_t index)
{
    *l = (struct lent){.loan = NARU_INIT(struct naru_loan), .size = places[index].size};
    CHECK_INT(naru_channel_pair(places[index].url, NULL, l->ch), 0);
    CHECK_INT(naru_loan(l->ch[0], l->size, NARU_NOWAIT, &l->loan), 0);
    memset(l->loan.data, 'a', l->size);
}

static void refuse(struct lent *l, size_t length, const struct naru_message *meta)
{
    struct naru_loan other = NARU_INIT(struct naru_loan);
    void *data = l->loan.data;

    CHECK_INT(naru_commit(&l->loan, length, meta), -EINVAL);
    CHECK(l->loan.data == data);
    CHECK_INT(naru_loan(l->ch[0], 1, NARU_NOWAIT, &other), -EBUSY);
}

/* All that can be wrong, each by itself. */
static void refuse_all(struct lent *l)
{
    static int fds[CHANNEL_FDS_MAX + 1];
    struct naru_message meta = NARU_INIT(struct naru_message);

    refuse(l, l->loan.capacity + 1, NULL);
    meta.size = 1;
    refuse(l, l->size, &meta);
    meta.size = sizeof meta;
    meta.fds = fds;
    meta.fd_count = CHANNEL_FDS_MAX + 1;
    refuse(l, l->size, &meta);
}

static void refuse_priorities(struct lent *l)
{
    struct naru_message meta = NARU_INIT(struct naru_message);
    int fd = 0;

    meta.priority = 3; /* there is one lane */
    refuse(l, l->size, &meta);
    meta.fds = &fd;
    meta.fd_count = 1;
    refuse(l, l->size, &meta);
}

static void refuse_a_newline(struct lent *l)
{
    memset(l->loan.data, '\n', 1);
    refuse(l, l->size, NULL);
    memset(l->loan.data, 'a', 1);
}

static void arrive(struct lent *l)
{
    struct naru_view view = NARU_INIT(struct naru_view);

    CHECK_INT(naru_borrow(l->ch[1], NARU_S(60), &view), 0);
    CHECK_INT(view.length, l->size);
    for (size_t i = 0; i < view.length; i++)
        CHECK(((const char *)view.data)[i] == 'a');
    naru_release(&view);
}

static void end(struct lent *l)
{
    CHECK_INT(naru_recv(l->ch[1], NULL, 0, NARU_NOWAIT), -EAGAIN); /* nothing else was sent */
    for (int i = 0; i < 2; i++)
        l->ch[i] = naru_channel_close(l->ch[i]);
}

TEST_EACH(a_commit_with_wrong_arguments_leaves_the_loan_out, each_place)
{
    struct lent l;

    lend(&l, index);
    for (int i = 0; i < 3; i++) {
        refuse_all(&l);
        if (strncmp(places[index].url, "shm:", 4) == 0)
            refuse_priorities(&l);
        if (strstr(places[index].url, "line"))
            refuse_a_newline(&l);
    }
    CHECK_INT(naru_commit(&l.loan, l.size, NULL), 0);
    arrive(&l);
    end(&l);
}

TEST_EACH(a_loan_that_was_not_committed_so_is_cancelled, each_place)
{
    struct lent l;

    lend(&l, index);
    refuse_all(&l);
    naru_loan_cancel(&l.loan);
    CHECK_INT(naru_loan(l.ch[0], l.size, NARU_NOWAIT, &l.loan), 0);
    memset(l.loan.data, 'a', l.size);
    CHECK_INT(naru_commit(&l.loan, l.size, NULL), 0);
    arrive(&l);
    end(&l);
}
