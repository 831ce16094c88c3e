/* SPDX-License-Identifier: MIT */
/* What naru says and returns when something is wrong: the sentence and the exit code of each. */
#include <sys/mount.h>
#include <unistd.h>

#include "runner-shell.h"
#include "runner.h"

TEST(unknown_words_suggest_the_nearest)
{
    SHELL(2, "", "naru: there is no verb 'sned'; did you mean 'send'? (see `naru --help`)", "naru sned");
    SHELL(2, "", "naru: there is no verb 'xyzzy' (see `naru --help`)", "naru xyzzy");
    SHELL(2, "", "naru recv: unknown option '--jsn'; did you mean '--json'? (see `naru recv --help`)",
          "naru recv --jsn unix:s");
    SHELL(2, "", "naru recv: unknown option '-x'", "naru recv -x unix:s");
    SHELL(2, "", "naru: unknown option '--json'; the verb comes first", "naru --json recv");
    SHELL(2, "", "did you mean 'bash'?", "naru completion bsh");
    SHELL(2, "", "naru help: there is no verb or mechanism 'shmm'; did you mean 'shm'?", "naru help shmm");
    SHELL(2, "", "naru help: there is no verb or mechanism 'rcv'; did you mean 'recv'?", "naru help rcv");
    SHELL(2, "", "'xyzzy'; `naru help urls` describes all", "naru help xyzzy");
}

TEST(no_verb_prints_help_on_stderr)
{
    SHELL(2, "", "Usage: naru VERB", "naru");
}

TEST(wrong_values_say_what_was_expected)
{
    SHELL(2, "", "post 5: --max 2 allows fewer", "naru sem naru-cli-post -x 2 post 5");
    SHELL(3, "", "naru-cli-post", "naru sem naru-cli-post get");
    SHELL(2, "", "rm: 'junk' is one operand too many", "naru segment shm+posix:/naru-cli-none rm junk");
    SHELL(2, "", "--duration is more than 0", "naru bench -d 0 pipe");
    SHELL(2, "", "naru recv: --timeout: expected a duration such as 500ms, 2s, 1m or forever, got '5x'",
          "naru recv -t 5x unix:s");
    SHELL(2, "", "naru recv: --count: expected a number from 1 to", "naru recv -n 0 unix:s");
    SHELL(2, "", "naru recv: --count: expected a number from 1 to", "naru recv --count=many unix:s");
    SHELL(2, "", "naru send: --frame: expected one of line, nul, len32, raw, whole, got 'lines'",
          "naru send -f lines unix:s");
    SHELL(2, "", "naru recv: --timeout needs a value: DURATION", "naru recv --timeout");
    SHELL(2, "", "naru recv: --json takes no value", "naru recv --json=yes unix:s");
    SHELL(2, "", "naru recv: expected URL", "naru recv");
    SHELL(2, "", "naru recv: unexpected 'more' (see", "naru recv unix:s more");
    SHELL(2, "", "naru send: unexpected 'hello'; a text to send goes behind -m (see",
          "naru send unix:s hello");
    SHELL(2, "", "naru completion: unexpected 'zsh'", "naru completion bash zsh");
    SHELL(2, "", "naru demo: unexpected 'cycle'", "naru demo race cycle");
    SHELL(2, "", "naru recv: --json prints a line for each message", "naru recv --json -f nul unix:s");
    SHELL(2, "", "naru send: --taken: udp does not tell", "naru send --taken -m x udp://127.0.0.1:$port");
    SHELL(2, "", "naru recv: --keep waits for further senders", "naru recv --keep --connect unix:s");
    SHELL(2, "", "naru listen: --echo, --reply and a command exclude each other",
          "naru listen --echo unix:s -- cat");
    SHELL(2, "", "naru listen: expected a command behind '--'", "naru listen unix:s --");
    SHELL(2, "", "naru listen: unexpected 'cat'; a command goes behind '--'", "naru listen unix:s cat");
}

TEST(wrong_urls_say_what_was_expected)
{
    SHELL(2, "", "naru recv: unknwon:x: unknown scheme 'unknwon'; expected one of", "naru recv unknwon:x");
    SHELL(2, "", "naru recv: '/tmp/x' is not a URL; expected scheme:target", "naru recv /tmp/x");
    SHELL(2, "", "shm-posix:/x: unknown scheme 'shm-posix'; expected one of", "naru recv shm-posix:/x");
    SHELL(2, "", "expected host:port", "naru recv tcp://nowhere");
    SHELL(2, "", "expected ?lanes= a number from 1 to 8, got '9'", "naru recv 'shm:@x?lanes=9'");
    SHELL(2, "", "expected ?backlog= a number from 1 to 4096, got '0'", "naru recv 'shm:@x?backlog=0'");
    SHELL(2, "", "?reconnect= is for the end that connects; leave it out here",
          "naru recv \"unix://$PWD/s?reconnect=yes\"");
    SHELL(2, "", "shm:@: expected a path or an abstract name, as in shm:///run/my.sock or shm:@name",
          "naru recv shm:@");
    SHELL(1, "", test_format("as in shm:%s/d/name", test_directory()), "mkdir d; naru recv shm:$PWD/d");
    SHELL(1, "", test_format("as in shm:%s/d/name", test_directory()), "naru recv shm:///$PWD/d");
    SHELL(1, "", "that is a directory; name the socket that is to be in it", "naru recv shm:$PWD");
    SHELL(2, "", "option 'mod' means nothing to unix", "naru recv \"unix://$PWD/s?mod=0600\"");
    SHELL(2, "", "expected ?mode= octal permission bits", "naru recv \"unix://$PWD/s?mode=999\"");
    SHELL(2, "", "naru send: --priority: tcp has no priorities; use posixmq:, or shm: with ?lanes=",
          "naru send -p 1 -m x tcp://127.0.0.1:$port");
    SHELL(2, "",
          "naru recv: --type: tcp has no message types; use sysvmq:", "naru recv -T 1 tcp://127.0.0.1:$port");
}

TEST(a_command_line_in_the_wrong_order_is_put_right)
{
    SHELL(2, "", "naru lock: unexpected 'true'; a command goes behind '--'", "naru lock deploy true");
    SHELL(2, "", "expected the process first, then the signal: naru signal send 1 HUP",
          "naru signal send HUP 1");
    SHELL(2, "", "expected set, reset, wait, pulse, get or rm behind the name, not 'ready'",
          "naru event set ready");
}

TEST(messages_that_do_not_suit_the_mechanism_say_what_would)
{
    SHELL(2, "", "a signal carries exactly one int of 4 bytes, in binary (`naru signal send --value`",
          "naru recv signal: & naru send -m hi signal:$!; r=$?; kill $!; wait; exit $r");
    SHELL(2, "", "`naru cat` for bytes as they are", "printf 'a\\nb' | naru send -f whole exec:cat");
    SHELL(1, "", "?frame=line receives lines of text, ?frame=raw any bytes",
          "naru recv unix://$PWD/s & waits s $!; echo some text |"
          "socat -u - unix-connect:$PWD/s; wait $!");
}

TEST(what_belongs_to_another_user_is_told_to_be_its_owners)
{
    SHELL(4, "", "its owner may, and root",
          "n=naru-own-$$; naru segment shm+posix:/$n create 1; chmod 755 .; b=$(dirname $(command -v naru));"
          "cp $b/naru $b/libnaru.so.* .; export LD_LIBRARY_PATH=$PWD; if [ $(id -u) = 0 ]; then setpriv "
          "--reuid=65534 --regid=65534 --clear-groups ./naru rm shm+posix:/$n; else echo its owner may, and "
          "root >&2; (exit 4); fi; r=$?; naru rm shm+posix:/$n; exit $r");
}

/* With nobody there, at once and not when somebody comes. */
TEST(a_sender_refuses_a_misspelt_option_before_it_waits)
{
    SHELL(2, "", "option 'typ' means nothing to unix", "naru send -m x \"unix://$PWD/s?typ=stream\"");
    SHELL(2, "", "option 'typ' means nothing to tcp", "naru send -m x \"tcp://127.0.0.1:$port?typ=stream\"");
    SHELL(2, "", "option 'typ' means nothing to fifo", "naru send -m x \"fifo://$PWD/f?typ=stream\"");
}

TEST(a_sender_does_not_wait_for_a_file_to_become_a_socket)
{
    SHELL(1, "", "something that is not a socket is there; choose another path",
          "naru send -m x unix://$PWD");
    SHELL(1, "", "something that is not a socket is there", "touch f; naru send -m x unix://$PWD/f");
}

TEST(roles_that_a_mechanism_does_not_have_are_refused)
{
    SHELL(2, "", "pipe:: pipe has no name under which another program could find it", "naru recv pipe:");
    SHELL(2, "", "exec:cat: nobody can connect to exec; leave out --listen", "naru cat -l exec:cat");
    SHELL(2, "", "exec:cat: nobody can connect to that", "naru listen exec:cat");
    SHELL(0, "1\n2\n", "", "naru recv 'exec:seq 2'; seq 3 | naru recv -n 2 - | tail -n 0");
}

TEST(a_missing_path_is_not_found)
{
    SHELL(3, "", "/none/s", "naru recv unix://$PWD/none/s");
    SHELL(3, "", "/none/f", "naru recv fifo://$PWD/none/f");
    SHELL(3, "", "naru rm: ", "naru rm fifo://$PWD/f");
    SHELL(3, "", "naru rm: ", "naru rm posixmq:/naru-none-$$");
    SHELL(0, "", "", "naru rm -f fifo://$PWD/f posixmq:/naru-none-$$");
}

/* Whatever waits for somebody new ends when its name is removed; what is connected goes on. */
TEST(a_name_removed_underneath_ends_the_wait)
{
    SHELL(3, "", "the FIFO was removed or replaced, so that nobody can open it any more; listen again",
          "naru recv fifo://$PWD/f & waits f $!; rm f; wait $!");
    SHELL(3, "", "the name was removed or replaced, so that nobody can connect here any more; listen again",
          "naru recv unix://$PWD/s & waits s $!; rm s; wait $!");
    SHELL(3, "kept\n", "the name was removed or replaced, so that nobody can connect here any more",
          "mkfifo in; naru listen --reply ok \"unix://$PWD/s?frame=line\" > got 2> said & p=$!;"
          "naru cat - unix://$PWD/s < in > out & exec 3> in; echo kept >&3; until [ -s got ]; do sleep 0.01;"
          "done; rm s; until [ -s said ]; do sleep 0.01; done; echo kept on >&3;"
          "until grep -q on got; do sleep 0.01; done; exec 3>&-; wait $p; r=$?; wait; head -n 1 got;"
          "cat said >&2; exit $r");
}

TEST(an_endpoint_in_use_is_refused_and_left_alone)
{
    SHELL(1, "here\n", "the port is in use",
          "u=\"tcp://127.0.0.1:$port?frame=line\"; naru listen $u > got & p=$!; naru send -m here $u;"
          "naru recv $u; r=$?; until [ -s got ]; do sleep 0.01; done; kill $p; wait; cat got; exit $r");
    SHELL(1, "here\n", "naru recv: ",
          "naru recv unix://$PWD/s > got & waits s $!; naru recv unix://$PWD/s; r=$?;"
          "naru send -m here unix://$PWD/s; wait; cat got; exit $r");
}

TEST(nobody_there_is_a_timeout)
{
    SHELL(124, "", "naru send: unix:///", "naru send -t 50ms -m x unix://$PWD/s");
    SHELL(124, "", "naru recv: unix:///", "naru recv -t 50ms unix://$PWD/s");
    SHELL(124, "", "nobody listens there", "naru recv -c -t 50ms unix://$PWD/s");
    SHELL(124, "", "nobody", "naru cat -t 50ms tcp://127.0.0.1:$port < /dev/null");
    SHELL(124, "x\n", "no further message came in time",
          "q=posixmq:/naru-test-$$; naru create $q; naru send -m x $q; naru recv -t 50ms $q; r=$?; naru rm "
          "$q; exit $r");
}

/* Each of them is seen to come and go before the next: the time is the message's, not theirs. The loop ends
 * with what it tries. */
TEST(senders_that_bring_nothing_do_not_prolong_the_wait)
{
    SHELL(124, "", "no message came in time",
          "for u in unix://$PWD/s shm://$PWD/s fifo://$PWD/f; do rm -f s f\n"
          "    timeout -s KILL 100 naru recv --keep -t 300ms $u & r=$!\n"
          "    while kill -0 $r 2>/dev/null; do naru send -t 100ms $u < /dev/null 2>/dev/null; done\n"
          "    wait $r; code=$?; [ $code = 124 ] || break\n"
          "done; exit $code");
}

/* With few enough the loader fails, with most of the rest naru; each says that it is descriptors.
 * LeakSanitizer would need some of its own. */
TEST(a_want_of_descriptors_is_called_one)
{
    for (int url = 0; url < 2; url++)
        SHELL(0, "", "`ulimit -n` allows more",
              test_format("u=%s; for n in 3 4 5 6 7 8 9 10 11 12; do (ulimit -n $n; "
                          "ASAN_OPTIONS=detect_leaks=0 naru recv -t 1ms $u); done 2>&1 | grep -v 'error "
                          "while loading shared\\|no message came' > all; cat all >&2;"
                          "! grep -v '`ulimit -n` allows more' all",
                          url ? "shm+posix:/naru-test-$$" : "shm://$PWD/s"));
}

/* The memory of the next connection is made when one is accepted; there is room for that of the first alone.
 */
TEST(without_room_for_another_the_sender_who_has_come_is_received_from)
{
    if (mount("small", "/dev/shm", "tmpfs", 0, "size=400k") < 0)
        test_skip("no right to mount");
    SHELL(0, "1\n2\n3\n", "", /* nobody else is wanted */
          "u=shm+posix:/naru-test?ring=64k; naru recv $u > got & r=$!; waits /dev/shm/naru-test $r;"
          "fallocate -l 200k /dev/shm/filler || exit 7; seq 3 | naru send $u || exit 8; wait $r; code=$?; "
          "cat got;"
          "rm /dev/shm/filler; exit $code");
    SHELL(
        0, "1\n2\n3\n1\n2\n3\n", "no room for",
        "u=shm+posix:/naru-test?ring=64k; naru recv --keep -n 6 $u > got & r=$!; waits /dev/shm/naru-test $r;"
        "fallocate -l 200k /dev/shm/filler || exit 7; seq 3 | naru send $u && seq 3 | naru send $u || exit 8;"
        "wait $r; code=$?; cat got; rm /dev/shm/filler; exit $code");
    CHECK(umount("/dev/shm") == 0);
}

/* Something else stands where that memory would have its name until it takes the right one. It stays until
 * somebody removes it, so who waits for others is told, and ends after the last who could come. */
TEST(with_the_place_of_another_taken_the_sender_who_has_come_is_received_from)
{
    for (int keep = 0; keep < 2; keep++)
        SHELL(0, "1\n2\n3\n", keep ? "no channel of naru's" : "",
              test_format(
                  "n=naru-test-$$; naru recv %s shm+posix:/$n > got & r=$!; waits /dev/shm/$n $r;"
                  "head -c 9999 /dev/zero > /dev/shm/$n.next; seq 3 | naru send shm+posix:/$n || exit 8;"
                  "wait $r; code=$?; cat got; rm /dev/shm/$n.next || exit 9; exit $code",
                  keep ? "--keep -n 3" : ""));
    SHELL(1, "1\n2\n3\n1\n", "no channel of naru's",
          "n=naru-test-$$; naru recv --keep shm+posix:/$n > got 2> err & r=$!; waits /dev/shm/$n $r;"
          "head -c 9999 /dev/zero > /dev/shm/$n.next; seq 3 | naru send shm+posix:/$n || exit 8;"
          "wait $r; code=$?; cat got; cat err >&2; grep -c \"no channel of naru's\" err;"
          "rm /dev/shm/$n.next || exit 9; exit $code");
}

TEST(a_receiver_that_takes_nothing_is_named)
{
    SHELL(124, "", "bytes of the ring wait to be received: the receiver is too slow, or stopped (",
          "naru recv shm://$PWD/s > got & r=$!; waits s $r;"
          "(echo first; until [ -e stopped ]; do sleep 0.01; done; yes | head -c 4000000) |"
          "naru send -t 2s shm://$PWD/s & s=$!; until [ -s got ]; do sleep 0.01; done;"
          "kill -STOP $r; touch stopped; wait $s; code=$?; kill -CONT $r; wait $r; exit $code");
}

TEST(a_full_queue_makes_the_sender_wait_and_time_out)
{
    SHELL(124, "", "(2 sent before)",
          "q=posixmq:/naru-test-$$; naru create \"$q?maxmsg=2\"; naru send -t 50ms -n 3 -m x $q; r=$?; naru "
          "rm $q; exit $r");
}

TEST(limits_of_queues_are_explained)
{
    SHELL(1, "", "message of 9000 bytes exceeds msgsize=8192; create the queue with ?msgsize=9000",
          "q=posixmq:/naru-test-$$; naru create $q; head -c 9000 /dev/zero | naru send -f whole $q; r=$?; "
          "naru rm $q; exit $r");
    SHELL(2, "", "?maxmsg=", "naru create 'posixmq:/naru-test?maxmsg=0'");
    SHELL(1, "", "exceeds",
          "q=sysvmq:0x4d3; naru create $q; head -c 100000 /dev/zero | naru send -f whole $q; r=$?;"
          "naru rm $q; exit $r");
}

TEST(an_oversize_message_is_refused_at_both_ends)
{
    SHELL(1, "",
          "message of 2000 bytes exceeds 1000; raise it with ?max-message= at both ends (0 sent before)",
          "u=\"unix://$PWD/s?max-message=1000\"; naru recv $u > got & head -c 2000 /dev/zero | naru send -f "
          "whole $u;"
          "r=$?; wait; exit $r");
    SHELL(1, "", "naru recv: unix:///",
          "head -c 2000 /dev/zero | naru send -f whole unix://$PWD/t 2> sent & naru recv "
          "\"unix://$PWD/t?max-message=1000\"");
}

TEST(a_file_removed_underneath_is_reported)
{
    SHELL(3, "x\n", "the file was removed or renamed; all that it held has been received",
          "naru recv file://$PWD/log > got & p=$!; naru send -m x file://$PWD/log; until [ -s got ]; do "
          "sleep 0.01; done;"
          "rm log; wait $p; r=$?; cat got; exit $r");
}

/* Fifteen idle connections leave a server with 24 descriptors no room: it must go on when they are gone. */
TEST(a_server_out_of_descriptors_goes_on)
{
    SHELL(0, "again\n", "",
          "(ulimit -n 24; exec naru listen --echo tcp://127.0.0.1:$port 2> err) & p=$!; python3 -c '\n"
          "import socket, sys, time\n"
          "held = []\n"
          "while len(held) < 15:\n"
          "    try: held.append(socket.create_connection((\"127.0.0.1\", int(sys.argv[1]))))\n"
          "    except ConnectionRefusedError: time.sleep(0.01)\n"
          "while \"connections at once\" not in open(\"err\").read(): time.sleep(0.01)' $port;"
          "until [ \"$(echo again | naru cat tcp://127.0.0.1:$port 2> /dev/null)\" = again ]; do sleep 0.01; "
          "done; echo again;"
          "kill $p; wait");
}

TEST(a_queue_removed_underneath_is_reported)
{
    SHELL(1, "x\n", "naru recv: sysvmq:0x4d4: the queue has been removed",
          "naru create sysvmq:0x4d4; naru recv sysvmq:0x4d4 > got & p=$!; naru send -m x sysvmq:0x4d4;"
          "until [ -s got ]; do sleep 0.01; done; naru rm sysvmq:0x4d4; wait $p; r=$?; cat got; exit $r");
}

/* $nobody runs a copy of naru that another user can reach, as that user. */
#define NOBODY                                                                                               \
    "chmod 755 . ..; cp \"$(command -v naru)\" .; nobody='setpriv --reuid 65534 --regid 65534 "              \
    "--clear-groups';"

TEST(permission_denied_says_so)
{
    if (geteuid() != 0)
        test_skip("needs root, to become another user");
    SHELL(4, "", "permission denied",
          NOBODY "naru create fifo://$PWD/f; $nobody ./naru send -t 5s -m x fifo://$PWD/f");
    SHELL(4, "", "permission denied",
          NOBODY "naru listen unix://$PWD/s & waits s $!;"
                 "$nobody ./naru send -t 5s -m x unix://$PWD/s; r=$?; kill $!; wait; exit $r");
    SHELL(4, "", "permission denied",
          NOBODY
          "q=sysvmq:0x4d5; naru create $q; $nobody ./naru send -t 5s -m x $q; r=$?; naru rm $q; exit $r");
    SHELL(4, "", "permission denied",
          NOBODY "q=posixmq:/naru-test-$$; naru create $q; $nobody ./naru send -t 5s -m x $q; r=$?; naru rm "
                 "$q; exit $r");
    SHELL(4, "", "only the queue's owner and root may remove it",
          NOBODY "q=posixmq:/naru-test-$$; naru create $q; $nobody ./naru rm $q; r=$?; naru rm $q; exit $r");
    SHELL(4, "", "permission denied", NOBODY "$nobody ./naru recv unix://$PWD/mine");
    SHELL(2, "", "without CAP_SYS_RESOURCE they may be",
          NOBODY "$nobody ./naru create \"posixmq:/naru-test-$$?maxmsg=65000\"");
    SHELL(1, "", "RLIMIT_MSGQUEUE", NOBODY "ulimit -q 1000; $nobody ./naru create posixmq:/naru-test-$$");
}

TEST(what_belongs_to_another_in_the_place_of_the_next_one_is_no_matter)
{
    if (geteuid() != 0)
        test_skip("needs root, to become another user");
    SHELL(0, "1\n2\n3\n", "",
          NOBODY "n=naru-test-$$; $nobody ./naru recv shm+posix:/$n > got & r=$!; waits /dev/shm/$n $r;"
                 "(umask 077; head -c 9999 /dev/zero > /dev/shm/$n.next); seq 3 | $nobody ./naru send "
                 "shm+posix:/$n || exit 8;"
                 "wait $r; code=$?; cat got; rm /dev/shm/$n.next || exit 9; exit $code");
}

TEST(a_privileged_port_says_who_may_have_it)
{
    struct shell s =
        shell_wait(shell_start("[ $(cat /proc/sys/net/ipv4/ip_unprivileged_port_start) -gt 80 ]"));

    shell_free(&s);
    if (geteuid() != 0 || s.code != 0)
        test_skip("needs root, to become another user, and ports that only root may have");
    SHELL(4, "", "ports below 1024 need root", NOBODY "$nobody ./naru listen tcp://127.0.0.1:80");
}

TEST(a_full_disk_is_reported_with_what_is_lost)
{
    SHELL(1, "",
          "the last 5 messages were received and could not all be written to standard output: No space left",
          "seq 5 | naru send unix://$PWD/s & naru recv unix://$PWD/s > /dev/full");
    SHELL(1, "", "naru recv: a message was received and could not be written",
          "naru send -m x unix://$PWD/s & naru recv -n 1 --json unix://$PWD/s > /dev/full");
    SHELL(1, "", "naru: standard output: No space left on device", "naru --help > /dev/full");
    SHELL(1, "", "standard output: No space left on device", "naru ls --json > /dev/full");
    SHELL(1, "", "standard output: No space left on device", "naru completion bash > /dev/full");
}

TEST(closed_standard_descriptors_are_reported)
{
    SHELL(1, "", "naru send: standard input: Bad file descriptor",
          "naru recv unix://$PWD/s & naru send unix://$PWD/s <&-; r=$?; wait; exit $r");
    SHELL(1, "", "Bad file descriptor", "naru send -m x unix://$PWD/s & naru recv unix://$PWD/s >&-");
    SHELL(1, "", "Bad file descriptor", "naru --version >&-");
    SHELL(2, "", "", "naru sned 2>&-");
}

TEST(a_reader_that_went_away_ends_quietly)
{
    SHELL(0, "1\n141\n", "",
          "seq 100000 > in; naru send unix://$PWD/s < in 2> /dev/null &"
          "naru recv unix://$PWD/s | head -n 1; echo ${PIPESTATUS[0]}; wait");
    SHELL(141, "", "", "mkfifo p; exec 8<>p 9>p 8>&-; exec naru --help >&9");
}

TEST(an_interrupt_ends_with_130_and_leaves_nothing)
{
    SHELL(130, "", "",
          "env --default-signal=INT naru recv unix://$PWD/s & waits s $!; kill -INT "
          "$!; wait $!;"
          "r=$?; find . -name 's*'; exit $r");
    SHELL(143, "", "",
          "naru listen unix://$PWD/s & waits s $!; kill -TERM $!; wait $!; r=$?; "
          "find . -name 's*'; exit $r");
    SHELL(129, "", "",
          "naru send --listen -m x unix://$PWD/s & waits s $!; kill -HUP $!; wait "
          "$!; r=$?; find . -name 's*'; exit $r");
}

/* timeout(1) signals the command, and then the command's group: two signals are one wish to end. */
TEST(a_signal_that_comes_twice_leaves_nothing_either)
{
    SHELL(0, "", "",
          "for i in $(seq 20); do naru recv unix://$PWD/s & waits s $!;"
          "kill -TERM $! && kill -HUP $!; wait $!; [ $? -gt 128 ] || exit 1; find . -name 's*'; done 2> err");
}

TEST(an_interrupt_ends_a_wait_on_every_mechanism)
{
    SHELL(0, "run\n", "",
          "mkfifo in; exec 8<>in;"
          "for u in fifo://$PWD/f unix://$PWD/s \"unix://$PWD/s?type=dgram\" \"unix://$PWD/s?type=seqpacket\""
          " tcp://127.0.0.1:$port udp://127.0.0.1:$port sysvmq:0x4d6 posixmq:/naru-test-$$ file://$PWD/log"
          " 'signal:?sig=RTMIN+2'; do"
          "  for v in recv listen 'cat -u' 'cat -l'; do"
          "    env --default-signal=INT naru $v \"$u\" < in 2> err & p=$!;"
          "    until grep -q '^State:.S' /proc/$p/status && grep -q naru /proc/$p/comm; do :; done;"
          "    kill -INT $p; wait $p; r=$?; [ $r = 130 ] && [ ! -s err ] || { echo $v $u: $r; cat err; };"
          "  done;"
          "done; naru rm sysvmq:0x4d6 posixmq:/naru-test-$$; rm -f f in log err; ls");
}

TEST(what_arrived_before_an_interrupt_is_printed)
{
    SHELL(130, "x\n", "",
          "mkfifo in; env --default-signal=INT naru recv unix://$PWD/s > got & naru send unix://$PWD/s < in "
          "& exec 8> in;"
          "echo x >&8; until [ -s got ]; do sleep 0.01; done; kill -INT %1; wait %1; r=$?; cat got; exec "
          "8>&-; wait; exit $r");
}

/* A sender that waits for its receiver has nothing to clean up, and must not need a second signal. */
TEST(an_interrupt_ends_a_sender_that_waits_for_its_receiver)
{
    SHELL(130, "", "",
          "env --default-signal=INT naru send -m x unix://$PWD/s & until grep -qs naru /proc/$!/comm; do "
          "sleep 0.01; done;"
          "kill -INT $!; wait $!");
}

TEST(a_killed_sender_is_told_from_a_closed_one)
{
    SHELL(1, "x\n", "was killed",
          "mkfifo in; naru recv unix://$PWD/s > got & naru send unix://$PWD/s < in & exec 8> in; echo x >&8;"
          "until [ -s got ]; do sleep 0.01; done; kill -KILL %2; wait %1; r=$?; cat got; exec 8>&-; wait "
          "2>/dev/null; exit $r");
}
