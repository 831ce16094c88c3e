/* SPDX-License-Identifier: MIT */
/*
 * signal: real-time signals as a channel of 4-byte messages (signal(7), "Real-time signals"; sigqueue(3)).
 *
 *   receiver  naru_listen("signal:?sig=RTMIN+1")       blocks the signal; sigtimedwait(2) takes it, a
 * signalfd (for polling) says when; no handler runs anywhere sender    naru_connect("signal:PID?sig=RTMIN+1")
 * pidfd_send_signal(2) with SI_QUEUE and an int
 *
 * A real-time signal that is neither blocked nor caught kills the process (its default action). Therefore the
 * listener checks that every thread of its process blocks it, and connecting waits until every thread of the
 * receiver does (?check=no skips that). It stays blocked when the receiving end is closed: senders may not
 * have noticed.
 *
 * A pidfd, and not a number, is sent to: a number may mean another process by the time of the call. A process
 * that has ended but not been waited for takes signals still, with success (kill(2), NOTES); so each send
 * looks first whether the receiver lives. (Looking afterwards would call lost what the receiver took as its
 * last.)
 *
 * The queue is the receiving user's, for all processes and signals together (RLIMIT_SIGPENDING); nothing
 * announces room in it, so a sender waits by back-off.
 */
#include "sync/signal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/pidfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/fd.h"
#include "channel/channel.h"
#include "channel/table.h"

typedef int32_t payload; /* what a sigval carries on every architecture */

struct endpoint {
    int sig;
    int64_t pid, uid; /* the sender's own, to say who it is */
};

static int parse_signal(struct url *url, int *ret_sig)
{
    const char *name = url_option(url, "sig");
    int sig = name ? naru_signal_by_name(name) : SIGRTMIN;

    if (sig < 0)
        return error_set(EINVAL, "%s: ?sig=%s is no signal; expected RTMIN to RTMIN+%d", url->text, name,
                         SIGRTMAX - SIGRTMIN);
    if (sig < SIGRTMIN)
        return error_set(
            EINVAL,
            "%s: %s does not queue, two sent at once arrive as one; expected a real-time signal, RTMIN "
            "to RTMIN+%d",
            url->text, naru_signal_name(sig), SIGRTMAX - SIGRTMIN);
    *ret_sig = sig;
    return 0;
}

static struct endpoint *endpoint_new(const char *url, int sig)
{
    struct endpoint *endpoint = malloc(sizeof *endpoint);

    if (!endpoint) {
        (void)error_set(ENOMEM, "%s: out of memory", url);
        return NULL;
    }
    *endpoint = (struct endpoint){.sig = sig, .pid = getpid(), .uid = getuid()};
    return endpoint;
}

/* --- the sender --- */

static bool has_ended(int pidfd)
{
    struct pollfd process = {.fd = pidfd, .events = POLLIN}; /* pidfd_open(2): readable when it has ended */

    return fd_poll(&process, 1, 0) > 0;
}

struct target {
    const char *url;
    int64_t pid;
    int sig;
    bool check; /* that it would survive the signal */
    struct signal_doubt doubt;
};

/* Whether the process would take the signal and live: 0 with *ret_peer; -EAGAIN while it would not
 * (explained, for when the time is up); other errors are final. */
static int look_at_receiver(struct target *to, int pidfd, struct naru_peer *ret_peer)
{
    struct signal_status thread, process;
    uint64_t bit = naru_signal_bit(to->sig);
    int r;

    if (pidfd_send_signal(pidfd, 0, NULL, 0) < 0 && errno == EPERM)
        return error_set(EPERM,
                         "%s: not permitted; process %" PRId64 " belongs to another user (only root may)",
                         to->url, to->pid);
    r = to->check ? signal_find_open_thread(to->pid, bit, &thread) : SIGNAL_BLOCKED;
    if (r == SIGNAL_OPEN && !(thread.sets.caught & bit))
        return error_set(
            EAGAIN,
            "%s: thread %" PRId64 " (%s) does not block %s, and would be killed by it; it must "
            "naru_listen() for it or block it (if it sleeps in sigwait, which hides that: ?check=no)",
            to->url, thread.pid, thread.name, naru_signal_name(to->sig));
    if (r == SIGNAL_UNSURE && !signal_is_lasting(&to->doubt, to->pid, &thread))
        return error_set(
            EAGAIN, "%s: process %" PRId64 " blocks everything at this moment, perhaps for this moment only",
            to->url, to->pid);
    if (r >= 0)
        r = signal_status_read(to->pid, &process);
    if (r < 0 && !to->check) { /* who it belongs to is then all that is missing */
        process.uid = process.gid = -1;
        r = 0;
    }
    if (r == -ESRCH || has_ended(pidfd)) /* else all we read was of the process behind the pidfd */
        return error_set(EAGAIN, "%s: there is no process %" PRId64, to->url, to->pid);
    if (r < 0)
        return error_set(-r,
                         "%s: whether process %" PRId64 " would survive it cannot be said: %s; ?check=no "
                         "sends without asking",
                         to->url, to->pid, signal_status_text(-r));
    *ret_peer = (struct naru_peer){to->pid, process.uid, process.gid};
    return 0;
}

/* One look. On success *ret_pidfd is the caller's. */
static int find_receiver(struct target *to, struct naru_peer *ret_peer, int *ret_pidfd)
{
    FD_CLEANUP int pidfd = pidfd_open((pid_t)to->pid, 0);
    int r;

    if (pidfd < 0 && errno == ESRCH)
        return error_set(EAGAIN, "%s: there is no process %" PRId64, to->url, to->pid);
    if (pidfd < 0 && errno == EINVAL) /* pidfd_open(2): a thread that is not its process's first */
        return error_set(EINVAL, "%s: %" PRId64 " is a thread, not a process", to->url, to->pid);
    if (pidfd < 0)
        return error_set(errno, "%s: pidfd_open: %s", to->url, error_text(errno));
    r = look_at_receiver(to, pidfd, ret_peer);
    if (r == 0)
        *ret_pidfd = fd_steal(&pidfd);
    return r;
}

static int try_receiver(struct naru_channel *ch, struct target *to)
{
    int r;

    fork_hold();
    r = find_receiver(to, &ch->peer, &ch->peer_pidfd);
    /* Always writable: a send is worth a try at any time, for all that anybody can know. */
    if (r == 0 && (ch->wfd = eventfd(0, EFD_CLOEXEC)) < 0)
        r = error_set(errno, "%s: eventfd: %s", to->url, error_text(errno));
    fork_release();
    return r;
}

static int parse_target(struct url *url, struct target *to)
{
    int r = parse_signal(url, &to->sig);

    if (r == 0)
        r = url_target_number(url, "a process, as in signal:1234?sig=RTMIN+1", 1, INT32_MAX, &to->pid);
    if (r == 0)
        r = url_option_flag(url, "check", &to->check);
    return r == 0 ? url_check_unused(url) : r;
}

static int connect_signal(struct naru_channel *ch, struct url *url, const struct naru_options *opt,
                          int64_t deadline)
{
    struct target to = {.url = url->text, .check = true};
    int64_t step = 0;
    int r;

    if (opt->direction & NARU_DIRECTION_RECEIVE)
        return error_set(ENOTSUP, "%s: the end that connects sends; to receive, naru_listen()", url->text);
    r = parse_target(url, &to);
    if (r < 0)
        return r;
    while ((r = try_receiver(ch, &to)) == -EAGAIN)
        if (!backoff_sleep(&step, deadline))
            return -ETIMEDOUT; /* explained by the last look */
    if (r < 0)
        return r;
    ch->state = endpoint_new(url->text, to.sig);
    if (!ch->state)
        return -ENOMEM;
    ch->direction = NARU_DIRECTION_SEND;
    ch->max_message = sizeof(payload);
    ch->limit_mend =
        "a signal carries one int and nothing more, in binary (`naru signal send --value` takes it as text)";
    return 0;
}

static int send_signal(struct naru_channel *ch, const struct naru_message *m, bool block)
{
    const struct endpoint *endpoint = ch->state;
    size_t length = message_length(m);
    payload value;
    int r;

    (void)block;                /* the kernel has no call that waits for room */
    if (length != sizeof value) /* longer ones exceed max_message, and are refused before */
        return error_set(EINVAL,
                         "%s: message of %zu bytes; a signal carries exactly one int of %zu bytes, in binary "
                         "(`naru signal "
                         "send --value` takes it as text)",
                         ch->url, length, sizeof value);
    (void)message_gather(m, &value, sizeof value);
    r = has_ended(ch->peer_pidfd)
            ? -ESRCH
            : signal_queue(ch->peer_pidfd, endpoint->sig, value, endpoint->pid, endpoint->uid);
    if (r == -ESRCH)
        return channel_peer_gone(ch);
    if (r < 0 && r != -EAGAIN)
        return error_set(-r, "%s: pidfd_send_signal: %s", ch->url, error_text(-r));
    return r;
}

/* Signals are one bit in /proc, however many are queued; and the bit is of all senders together. So this
 * never says too early that ours were taken. */
static int64_t untaken(struct naru_channel *ch)
{
    const struct endpoint *endpoint = ch->state;
    struct signal_status status;
    int r = signal_status_read(ch->peer.pid, &status);

    if (r == -ESRCH || has_ended(ch->peer_pidfd))
        return channel_peer_gone(ch);
    if (r < 0)
        return error_set(-r, "%s: reading /proc/%" PRId64 "/status: %s", ch->url, ch->peer.pid,
                         signal_status_text(-r));
    return status.sets.process_pending & naru_signal_bit(endpoint->sig) ? 1 : 0;
}

/* --- the receiver --- */

/* Whether a descriptor of this process takes the signal already: two receivers would each get some. */
static bool is_signalfd_of(const char *name, int sig)
{
    char path[64], line[128];
    uint64_t set = 0;
    FILE *file;

    (void)snprintf(path, sizeof path, "/proc/self/fdinfo/%.20s", name);
    file = fopen(path, "re");
    if (!file)
        return false; /* closed meanwhile */
    while (set == 0 && fgets(line, sizeof line, file))
        (void)sscanf(line, "sigmask: %" SCNx64, &set);
    (void)fclose(file);
    return set & naru_signal_bit(sig);
}

static int check_unclaimed(const struct url *url, int sig)
{
    DIR *descriptors = opendir("/proc/self/fdinfo");
    struct dirent *entry;
    bool claimed = false;

    if (!descriptors)
        return error_set(errno == ENOENT ? ENOTSUP : errno, "%s: looking at /proc/self/fdinfo: %s", url->text,
                         signal_status_text(errno == ENOENT ? ENOTSUP : errno));
    while (!claimed && (entry = readdir(descriptors)))
        claimed = entry->d_name[0] != '.' && is_signalfd_of(entry->d_name, sig);
    (void)closedir(descriptors);
    if (claimed)
        return error_set(EADDRINUSE, "%s: this process receives %s already; choose another ?sig=", url->text,
                         naru_signal_name(sig));
    return 0;
}

static int check_target_is_this_process(const struct url *url)
{
    int64_t pid = getpid();
    int r = *url->target ? url_target_number(url, "a process", 1, INT32_MAX, &pid) : 0;

    if (r == 0 && pid != getpid())
        return error_set(
            EINVAL,
            "%s: a process receives its own signals only; listen on signal:?sig=..., this is process %d",
            url->text, getpid());
    return r;
}

/* Says which process, so that it can be handed to senders as it is. */
static int resolve_url(struct naru_listener *l, int sig)
{
    char *resolved;

    if (asprintf(&resolved, "signal:%d?sig=%s", getpid(), naru_signal_name(sig) + strlen("SIG")) < 0)
        return error_set(ENOMEM, "%s: out of memory", l->url);
    free(l->url);
    l->url = resolved;
    return 0;
}

static int listen_signal(struct naru_listener *l, struct url *url, const struct naru_options *opt)
{
    int sig, r = check_target_is_this_process(url);

    if (r == 0 && (opt->direction & NARU_DIRECTION_SEND))
        r = error_set(ENOTSUP, "%s: the end that listens receives; to send, naru_connect()", url->text);
    if (r == 0)
        r = parse_signal(url, &sig);
    if (r == 0)
        r = url_check_unused(url);
    if (r == 0)
        r = check_unclaimed(url, sig);
    if (r == 0)
        r = signal_block_everywhere(naru_signal_bit(sig), url->text);
    if (r == 0)
        r = resolve_url(l, sig);
    if (r < 0)
        return r;
    l->fd = signal_open_fd(naru_signal_bit(sig), url->text);
    if (l->fd < 0)
        return l->fd;
    l->state = endpoint_new(url->text, sig);
    if (!l->state)
        l->fd = fd_close(l->fd);
    return l->state ? 0 : -ENOMEM;
}

static void unlisten(struct naru_listener *l, bool owner)
{
    (void)owner; /* there is no name to remove */
    free(l->state);
}

static int accept_signal(struct naru_listener *l, struct naru_channel *ch)
{
    const struct endpoint *endpoint = l->state;

    ch->rfd = fcntl(l->fd, F_DUPFD_CLOEXEC, 0);
    if (ch->rfd < 0)
        return error_set(errno, "%s: %s", l->url, error_text(errno));
    ch->state = endpoint_new(l->url, endpoint->sig);
    if (!ch->state)
        return -ENOMEM;
    ch->direction = NARU_DIRECTION_RECEIVE;
    ch->max_message = sizeof(payload);
    ch->limit_mend =
        "a signal carries one int and nothing more, in binary (`naru signal send --value` takes it as text)";
    return 0;
}

static int keep(struct naru_channel *ch, struct naru_message *m, payload value)
{
    memcpy(ch->kept.data, &value, sizeof value);
    (void)message_scatter(m, 0, &value, sizeof value);
    return channel_keep(ch, m, sizeof value);
}

/* The signalfd is non-blocking, and sleeping is done in poll(2). Not in sigwaitinfo(2), which would be one
 * call instead of three: while a thread sleeps there the kernel lifts the block of what it waits for, and to
 * a connecting sender the receiver would look as if the signal killed it. */
static ssize_t read_signal(struct naru_channel *ch, struct signalfd_siginfo *raw, bool block)
{
    struct pollfd pending = {.fd = ch->rfd, .events = POLLIN};
    ssize_t length = read(ch->rfd, raw, sizeof *raw);

    if (length < 0 && errno == EAGAIN && block && poll(&pending, 1, -1) > 0)
        length = read(ch->rfd, raw, sizeof *raw);
    return length < 0 ? -errno : length;
}

static int recv_signal(struct naru_channel *ch, struct naru_message *m, bool block)
{
    struct naru_signal_info info = NARU_INIT(struct naru_signal_info);
    struct signalfd_siginfo raw;
    bool fits = message_length(m) >= sizeof(payload);
    /* Reserved before it is needed: once taken, a signal must not be lost for want of memory. */
    ssize_t r = fits ? 0 : channel_keep_reserve(ch, sizeof(payload));

    if (r < 0)
        return (int)r;
    r = read_signal(ch, &raw, block);
    if (r == -EAGAIN || r == -EINTR)
        return (int)r;
    if (r < 0)
        return error_set((int)-r, "%s: reading the signalfd: %s", ch->url, error_text((int)-r));
    signal_info_fill_from_fd(&info, &raw);
    m->type = 0;
    m->priority = 0;
    m->sender = info.sender;
    m->length = sizeof(payload);
    if (!fits)
        return keep(ch, m, info.value);
    (void)message_scatter(m, 0, &info.value, sizeof(payload));
    return 0;
}

static int wait_signal(struct naru_channel *ch, int event, int64_t deadline)
{
    return event == NARU_OUT ? channel_wait_backoff(ch, event, deadline)
                             : channel_wait_poll(ch, event, deadline);
}

static void close_signal(struct naru_channel *ch, bool owner)
{
    (void)owner;
    free(ch->state);
}

const struct channel_ops signal_ops = {
    .row =
        {
            .size = sizeof(struct naru_mechanism),
            .name = "signal",
            .scheme = "signal",
            .example = "signal:?sig=RTMIN+1",
            .also = "to send: signal:PID?sig=RTMIN+1",
            .title = "real-time signal",
            .use_when = "a number is all there is to say, to a process whose pid you know",
            .medium = "the kernel's queue of pending signals",
            .direction = "one way",
            .unit = "4-byte int",
            .scope = "one machine, same user",
            .persistence = "until the receiving process ends",
            .limit = "as many queued as the receiving user's RLIMIT_SIGPENDING (ulimit -i)",
            .wait = "poll(2) and read(2) on a signalfd; a sender to a full queue by back-off",
            .options = "sig=RTMIN+N\twhich real-time signal (RTMIN)\n"
                       "check=no\tsend without looking whether the process blocks it",
            .capabilities = NARU_CAN_CONNECT | NARU_CAN_LISTEN | NARU_CAN_SURVIVE_SENDER |
                            NARU_CAN_SEE_RECEIVER | NARU_CAN_BE_RELIABLE | NARU_CAN_POLL |
                            NARU_CAN_PUSH_BACK | NARU_CAN_TELL_TAKEN,
            .max_message = sizeof(payload),
        },
    .connect = connect_signal,
    .listen = listen_signal,
    .accept = accept_signal,
    .unlisten = unlisten,
    .send = send_signal,
    .recv = recv_signal,
    .wait = wait_signal,
    .untaken = untaken,
    .close = close_signal,
};
