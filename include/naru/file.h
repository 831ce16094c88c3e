/* SPDX-License-Identifier: MIT */
/*
 * A file as shared state: configuration that one process replaces and others watch. (A file as a stream of
 * messages is the channel file:///path, naru/channel.h.)
 *
 * Who opens the file sees either all of the old contents or all of the new, also when the writer is killed or
 * the power fails: naru_file_replace() writes a new file and then gives it the name (rename(2)). No lock is
 * involved, so no reader can hold up a writer, nor a dead writer a reader.
 *
 *     struct naru_file_watch *watch;                                  // in the readers
 *     int r = naru_file_watch_open("/etc/my.conf", &watch);
 *     while (r == 0) {
 *         ssize_t n = naru_file_read("/etc/my.conf", text, sizeof text);
 *         ... use it, or say what naru_explain() says ...
 *         r = naru_file_watch_wait(watch, NARU_FOREVER);              // until it was replaced
 *     }
 */
#ifndef NARU_FILE_H
#define NARU_FILE_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "naru/export.h"
#include "naru/time.h"

NARU_BEGIN

struct naru_file_watch;

/*
 * Replaces what path holds by length bytes at data, in one step that is on disk when this returns. The file
 * need not exist; its directory must, and must be writable. A symbolic link stays, and what it leads to is
 * replaced.
 *
 * mode: permission bits, exactly (no umask); 0: those of the file so far, or 0600 of a new one. The owner and
 * group of the file so far are kept where this process may give them (root), and become its own elsewhere.
 * Other hard links keep the old contents.
 *
 * Of several at a time the last wins. Waits for the disk (fsync(2)). Any thread, also in forked children; not
 * async-signal-safe. When it fails the old contents stand, with one exception: -EIO from the disk after the
 * rename, which the explanation says. A process killed in it leaves the old or the new, and in the worst of
 * moments a file named .naru-PID-N beside it.
 *
 * -EACCES, -EPERM, -EROFS: the directory cannot be written to. -ENOENT: there is no such directory. -EISDIR:
 * path is one. -ENOSPC, -EDQUOT, -EFBIG: no room. -EIO: the disk.
 */
NARU_API NARU_MUST_CHECK int naru_file_replace(const char *path, const void *data, size_t length,
                                               unsigned mode);

/*
 * Reads all of path into buf, from one version of it. Returns its length in bytes, which may be 0. Any
 * thread, also in forked children; does not block on a regular file.
 *
 * -EMSGSIZE: it is larger than cap bytes; the explanation says both sizes. -ENOENT, -EACCES: as open(2).
 * -EISDIR, -EINVAL: path is not a regular file.
 */
NARU_API NARU_MUST_CHECK ssize_t naru_file_read(const char *path, void *buf, size_t cap);

/*
 * Starts to watch path, which need not exist yet, nor its directory. Watch first and read then, and no change
 * is missed.
 *
 * *ret_watch: the caller's, ended with naru_file_watch_close(). One thread at a time. Fork: it belongs to the
 * process that opened it, and is closed in forked children, where calls on it return -ECHILD. -ENOMEM.
 */
NARU_API NARU_MUST_CHECK int naru_file_watch_open(const char *path, struct naru_file_watch **ret_watch);

/*
 * Waits until the file was changed, replaced, made, renamed or removed since the last call (the first: since
 * the open). 0: it may have been; rather once too often than missed. Only whoever changes a file in place,
 * without naru_file_replace(), can show it half changed.
 *
 * Sleeps in the kernel (inotify(7)); looks every 10 ms at most where inotify cannot see: a directory that we
 * may not read, a link that leads nowhere yet, fs.inotify limits used up. Changes by another machine on a
 * network file system are not seen.
 *
 * -ETIMEDOUT, -EAGAIN (NARU_NOWAIT): nothing has happened. -ECHILD.
 */
NARU_API NARU_MUST_CHECK int naru_file_watch_wait(struct naru_file_watch *watch, int64_t timeout_ns);

/* A descriptor for event loops: readable when naru_file_watch_wait(NARU_NOWAIT) is worth a call. It is the
 * watch's: do not close or read it. -ENOTSUP where inotify cannot see: wait with a timeout instead. -ECHILD.
 */
NARU_API NARU_MUST_CHECK int naru_file_watch_fd(struct naru_file_watch *watch);

/* Ends it. NULL is allowed; returns NULL. Never blocks. */
NARU_API struct naru_file_watch *naru_file_watch_close(struct naru_file_watch *watch);

NARU_END

#endif
