/* SPDX-License-Identifier: MIT */
/*
 * An unfriendly machine: /proc hidden or gone, no inotify, full disks, limits, connections that are reset,
 * names that command terminals, lock files that somebody wrote over. Nothing crashes, hangs, or says what is
 * not so.
 */
#include <stdlib.h>
#include <unistd.h>

#include "runner-shell.h"
#include "runner.h"

/* $nobody and $other run a copy of naru that other users can reach, as two of them. */
#define STRANGERS                                                                                            \
    "chmod 755 . ..; cp \"$(command -v naru)\" .; become() { setpriv --reuid $1 --regid $1 --clear-groups "  \
    "\"${@:2}\"; }; nobody='become 65534'; other='become 65533';"

static void need_root(void)
{
    if (geteuid() != 0)
        test_skip("needs root, to mount and to become other users");
}

/* A container's root may not have the right. */
static void need_namespaces(const char *options)
{
    struct shell s = shell_wait(shell_start(test_format("unshare %s true", options)));
    int code = s.code;

    shell_free(&s);
    if (code != 0)
        test_skip("no right to make namespaces: unshare %s", options);
}

/* Runs the script in a mount namespace of its own. */
static const char *mounting(const char *script)
{
    need_root();
    need_namespaces("--mount");
    CHECK(setenv("script", script, 1) == 0);
    return "exec unshare --mount --propagation private bash -c \"$script\"";
}

TEST(a_process_that_proc_hides_is_not_said_to_be_missing)
{
    SHELL(4, "", "/proc hides other users' processes here",
          mounting("mount -t proc -o hidepid=2 proc /proc;" STRANGERS
                   "sleep 100 & p=$!; $nobody ./naru signal show $p; r=$?; kill $p; exit $r"));
    SHELL(4, "", "/proc hides other users' processes here",
          mounting("mount -t proc -o hidepid=2 proc /proc;" STRANGERS
                   "sleep 100 & p=$!; $nobody ./naru signal send --ready $p TERM; r=$?; kill $p; exit $r"));
    SHELL(3, "", "No such process",
          mounting("mount -t proc -o hidepid=2 proc /proc;" STRANGERS
                   "sleep 0 & p=$!; wait $p; $nobody ./naru signal show $p"));
}

/* The holder's death is known without /proc: the kernel still tells whether there is such a process. */
TEST(a_unit_of_a_holder_that_proc_hides_comes_back_when_he_is_killed)
{
    SHELL(0, "held\nback\n", "no unit became free",
          mounting("mount -t proc -o hidepid=2 proc /proc;" STRANGERS "mkfifo -m 666 told never;"
                   "$nobody ./naru sem -m 666 s run -- sh -c 'echo $$ > told; exec cat never' & "
                   "holder=$(cat told);"
                   "$other ./naru sem --try s run -- echo too early || echo held; kill -9 $holder;"
                   "$other ./naru sem -t 60s s run -- echo back; wait; naru sem s rm"));
}

TEST(without_proc_what_can_work_does_and_the_rest_says_what_is_missing)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    test_skip("the sanitizers need /proc themselves");
#endif
    SHELL(0, "stream\nlocked\nunit\n", "",
          mounting(
              "umount -l /proc; naru recv -n 1 unix:s & naru send -m stream unix:s; wait;"
              "naru lock l -- echo locked; naru lock --remove l; naru sem s run -- echo unit; naru sem s rm;"
              "naru event e set; naru event e wait; naru event e rm;"
              "for u in sysvmq:0x77 posixmq:/q file:$PWD/f; do "
              "naru recv -n 1 $u > got & naru send -m x $u; wait; [ \"$(cat got)\" = x ] || echo $u; done;"
              "naru rm sysvmq:0x77 posixmq:/q"));
    SHELL(1, "", "/proc, which tells it, is not mounted; as root: mount -t proc proc /proc",
          mounting("umount -l /proc; naru recv -n 1 signal:"));
    SHELL(1, "", "?check=no sends without asking",
          mounting("umount -l /proc; printf abcd | naru send -f whole signal:$$"));
    SHELL(
        0, "", "",
        mounting("trap '' RTMIN; umount -l /proc; printf abcd | naru send -f whole \"signal:$$?check=no\""));
    SHELL(1, "", "/proc, which tells it, is not mounted", mounting("umount -l /proc; naru signal show $$"));
    SHELL(1, "", "processes are found by name in /proc, which is not mounted",
          mounting("umount -l /proc; naru signal send bash CONT"));
    SHELL(1, "", "/proc was not mounted for this process",
          mounting("naru lock l -- true; umount -l /proc; naru lock l -- true; r=$?; naru lock --remove l;"
                   "exit $r"));
}

TEST(without_inotify_who_waits_still_finds_who_comes)
{
    static const char *const urls[] = {"unix:s", "'unix:s?type=seqpacket'", "'unix:s?type=dgram'",
                                       "fifo:$PWD/f", "file:$PWD/log"};

    need_namespaces("-Ur");
    SHELL(0, "", "", "unshare -Ur sh -c 'echo 0 > /proc/sys/user/max_inotify_instances' 2>/dev/null");
    for (size_t i = 0; i < sizeof urls / sizeof *urls; i++) {
        CHECK(setenv("script",
                     test_format("echo 0 > /proc/sys/user/max_inotify_instances; naru send -m first %s & "
                                 "naru recv -n 1 %s; wait; rm -f f log; naru recv -n 1 %s & naru send -m "
                                 "second %s; wait",
                                 urls[i], urls[i], urls[i], urls[i]),
                     1) == 0);
        SHELL(0, "first\nsecond\n", "", "exec unshare -Ur bash -c \"$script\"");
    }
}

TEST(a_full_disk_keeps_whole_messages_and_counts_them)
{
    SHELL(0, "1 32768 32768\n1 0\n", "the disk, or the quota, is full",
          mounting(
              "mkdir d; mount -t tmpfs -o size=64k tmpfs d; yes | naru send file:$PWD/d/log 2> err; r=$?;"
              "echo $r $(grep -c '^y$' d/log) $(sed 's/.*(\\([0-9]*\\) sent before)/\\1/' err); cat err >&2;"
              "rm d/log; head -c 100000 /dev/zero | naru send -f whole 'file:d/big?frame=raw' 2>> err;"
              "echo $? $(stat -c %s d/big); umount d"));
    SHELL(1, "", "free some space, for /dev/shm",
          mounting("mount -t tmpfs -o size=64k tmpfs /dev/shm; head -c 65536 /dev/zero > /dev/shm/fill;"
                   "naru lock l -- echo never"));
    SHELL(1, "", "`df` and `df -i` show what is used up",
          mounting("mkdir d; mount -t tmpfs -o nr_inodes=1 tmpfs d; naru create fifo:d/f; r=$?; umount d;"
                   "exit $r"));
}

/* Without a handler of naru's, SIGXFSZ would end it without a word. */
TEST(the_limit_of_file_sizes_is_an_error_and_no_death)
{
    SHELL(1, "", "File too large", "ulimit -f 1; seq 10000 | naru recv - > out");
    SHELL(1, "", "File too large",
          "(ulimit -f 0; exec naru sem 'sem+posix:/naru-test?create&value=2' post 2>&1) | cat >&2; exit "
          "${PIPESTATUS[0]}");
    SHELL(0, "default\n", "",
          "naru lock l -- sh -c 'grep -q ^SigIgn:.*[1-9a-f]....... /proc/self/status || echo default';"
          "naru lock --remove l");
}

TEST(what_was_not_inherited_is_nobodys_descriptor)
{
    SHELL(1, "", "fd:3: this command was started without that descriptor", "naru recv -n 1 fd:3 3<&-");
    SHELL(1, "", "fd:4: this command was started without that descriptor",
          "naru cat fd:3 fd:4 3< /dev/null 4<&-");
    SHELL(0, "through\n", "", "naru recv -n 1 fd:3 3< <(echo through)");
}

TEST(names_of_others_do_not_command_the_terminal)
{
    SHELL(0, "mutex  e\\x1b[31m\\nmutex  forged  root\n1\n", "",
          "n=$'e\\e[31m\\nmutex  forged  root'; naru lock \"$n\" -- true;"
          "naru ls mutex | tail -n 1 | sed 's/  [^ ]* *0600.*//'; naru ls mutex | tail -n +2 | wc -l;"
          "naru lock --remove \"$n\"");
    SHELL(0, "shm+posix:/a%1B%25%0Ab\n", "",
          "naru segment shm+posix:/a%1b%25%0ab create 1; u=$(naru ls shm+posix | sed -n "
          "'s/^shm.posix  \\([^ ]*\\).*/\\1/p');"
          "echo $u; naru rm $u");
    SHELL(3, "", "mutex 'no\\nsuch\\x1b[2J\\xff': cannot open", "naru lock --status $'no\\nsuch\\e[2J\\xff'");
    SHELL(2, "", "'; `naru help urls` describes all mechanisms (see `naru help --help`)",
          "naru help $(head -c 100000 /dev/zero | tr '\\0' A) 2>&1 | sed 's/AAA*/.../g' >&2; exit "
          "${PIPESTATUS[0]}");
}

/* Who looks at a lock takes it for a moment. Root does not take what a stranger may write over meanwhile. */
TEST(ls_does_not_touch_the_locks_of_strangers)
{
    need_root();
    SHELL(0, "-\n-\n-\n", "",
          STRANGERS "$nobody ./naru lock a -- true; $nobody ./naru sem b post; $nobody ./naru event c set;"
                    "for k in mutex semaphore event; do naru ls --json $k | sed -n 's/.*\"state\": "
                    "\"\\(.*\\)\"/\\1/p'; done;"
                    "rm /dev/shm/naru.*");
}

TEST(half_a_message_is_not_counted_as_sent)
{
    SHELL(0, "124 whole\n", "",
          "mkfifo f; exec 5<> f; naru send -t 50ms -n 100000 -m 'a text of twenty-four.' 'fifo:f?frame=line' "
          "2> err;"
          "echo $? $(python3 -c 'import os, re\nos.set_blocking(5, False)\ndata = b\"\"\n"
          "try:\n  while True: data += os.read(5, 65536)\nexcept BlockingIOError: pass\n"
          "told = re.search(r\"\\((\\d+) sent before(, and a part of one)?\\)\", open(\"err\").read())\n"
          "print(\"whole\" if int(told[1]) == data.count(b\"\\n\") and bool(told[2]) != "
          "data.endswith(b\"\\n\") "
          "else told[0])')");
}

#define PYTHON(script) "python3 -c 'import socket, struct, sys, time\n" script "'"
#define RESET          "s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack(\"ii\", 1, 0)); s.close()\n"
#define CONNECT                                                                                              \
    "while True:\n  try: s = socket.create_connection((\"127.0.0.1\", int(sys.argv[1]))); break\n"           \
    "  except OSError: pass\n"

TEST(a_reset_is_told_to_who_receives_and_to_who_sends)
{
    SHELL(1, "one\n", "the peer reset the connection",
          "naru recv \"tcp://127.0.0.1:$port?frame=line\" > got & p=$!;" PYTHON(
              CONNECT
              "s.sendall(b\"one\\n\")\nwhile not open(\"got\").read(): pass\n" RESET) " $port;"
                                                                                      "wait $p; r=$?; cat "
                                                                                      "got; exit $r");
    SHELL(1, "", "the peer reset the connection",
          "naru send -l -n 10000000 -m text tcp://127.0.0.1:$port & p=$!;" PYTHON(
              CONNECT "s.recv(100)\n" RESET) " $port; wait $p");
    SHELL(1, "", "the peer reset the connection",
          "naru recv tcp://127.0.0.1:$port & p=$!;" PYTHON(
              CONNECT "s.sendall(b\"\\0\\0\\0\\5ab\")\n" RESET) " $port; wait $p");
}

TEST(a_peer_that_closes_one_half_still_gets_its_answer)
{
    SHELL(0, "one\nanswer\n", "",
          "naru listen -n 1 -r answer tcp://127.0.0.1:$port & p=$!;" PYTHON(
              CONNECT
              "s.sendall(b\"one\\n\"); s.shutdown(socket.SHUT_WR); f = s.makefile()\n"
              "answer = f.read()\nopen(\"answer\", \"w\").write(answer)") " $port; wait $p; cat answer");
}

TEST(a_lock_file_cut_short_while_it_is_used_ends_the_command_with_a_sentence)
{
    SHELL(1, "", "was cut short while it was used; remove it",
          "naru lock l -- truncate -s 0 /dev/shm/naru.mutex.l; r=$?; rm /dev/shm/naru.mutex.l; exit $r");
    SHELL(1, "", "has 0 bytes where 128 were expected; remove it",
          "touch /dev/shm/naru.mutex.l; naru lock l -- true; r=$?; rm /dev/shm/naru.mutex.l; exit $r");
}
