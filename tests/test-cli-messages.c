/* SPDX-License-Identifier: MIT */
/* naru send and naru recv: what is sent arrives, whichever way it is cut, and whoever starts first. */
#include <unistd.h>

#include "runner-shell.h"
#include "runner.h"

TEST(lines_arrive_in_order)
{
    SHELL(0, "1\n2\n3\n", "", "naru recv unix://$PWD/s & seq 3 | naru send unix://$PWD/s && wait $!");
}

TEST(receiver_may_start_after_the_sender)
{
    SHELL(0, "x\n", "", "naru send -m x unix://$PWD/s & naru recv unix://$PWD/s && wait $!");
}

TEST(every_mechanism_with_a_name_carries_lines)
{
    SHELL(
        0, "", "",
        "for url in unix://$PWD/a 'unix://'$PWD'/b?type=seqpacket' unix:@naru-test-$$ tcp://127.0.0.1:$port "
        "fifo://$PWD/f; do"
        "  naru recv \"$url\" > got & seq 5000 | naru send \"$url\" && wait $! || echo \"$url: $?\";"
        "  cmp got <(seq 5000) || echo $url;"
        "done");
}

/* A queue never ends, so the receiver counts. */
TEST(queues_carry_lines)
{
    SHELL(0, "", "",
          "for url in 'unix://'$PWD'/d?type=dgram' sysvmq:0x4d2 posixmq:/naru-test-$$; do"
          "  naru recv -n 500 \"$url\" > got & seq 500 | naru send \"$url\" && wait $! || echo \"$url: $?\";"
          "  cmp got <(seq 500) || echo $url;"
          "done;"
          "naru rm sysvmq:0x4d2 posixmq:/naru-test-$$");
}

TEST(half_a_million_lines_arrive_unchanged)
{
    SHELL(0, "", "",
          "naru recv unix://$PWD/s > got & seq 500000 | naru send unix://$PWD/s && wait $! && cmp got <(seq "
          "500000)");
}

TEST(a_last_line_without_newline_is_a_message)
{
    SHELL(0, "a\nb\n", "", "naru recv unix://$PWD/s & printf 'a\\nb' | naru send unix://$PWD/s && wait $!");
}

TEST(empty_lines_are_empty_messages)
{
    SHELL(0, "a\n\nb\n", "",
          "naru recv unix://$PWD/s & printf 'a\\n\\nb\\n' | naru send unix://$PWD/s && wait $!");
}

TEST(input_is_cut_as_asked)
{
    SHELL(0, "a\nb|c|", "",
          "naru recv -f nul unix://$PWD/s | tr '\\0' '|' & printf 'a\\nb\\0c' | naru send -f nul "
          "unix://$PWD/s && wait $!");
    SHELL(0, "1\n2\n", "",
          "naru recv -f raw unix://$PWD/s & seq 2 | naru send -f whole unix://$PWD/s && wait $!");
    SHELL(0, "00 00 00 02 68 69 00 00 00 00\n", "",
          "naru recv -f len32 unix://$PWD/s > got & naru send -m hi -m '' unix://$PWD/s && wait $! &&"
          "od -An -tx1 got | sed 's/^ //'");
    SHELL(0, "hi\n\n", "",
          "naru recv unix://$PWD/s & printf '\\0\\0\\0\\2hi\\0\\0\\0\\0' | naru send -f len32 unix://$PWD/s "
          "&& wait $!");
}

TEST(input_that_ends_inside_a_message_is_reported)
{
    SHELL(1, "", "naru send: standard input ended inside a message",
          "naru recv unix://$PWD/s & printf '\\0\\0\\0\\5hi' | naru send -f len32 unix://$PWD/s; r=$?; wait; "
          "exit $r");
}

TEST(binary_survives_raw_and_whole)
{
    SHELL(0, "", "",
          "head -c 3000000 /dev/urandom > in;"
          "naru recv -f raw unix://$PWD/s > got & naru send -f raw unix://$PWD/s < in && wait $! && cmp in "
          "got &&"
          "{ naru recv -f raw unix://$PWD/s > got & } && naru send -f whole unix://$PWD/s < in && wait $! && "
          "cmp in got");
}

TEST(a_line_longer_than_the_buffer_stays_one_message)
{
    SHELL(0, "300001\n1\n", "",
          "naru recv unix://$PWD/s > got & { head -c 300000 /dev/zero | tr '\\0' x; echo; } | naru send "
          "unix://$PWD/s &&"
          "wait $! && wc -c < got && wc -l < got");
}

TEST(count_stops_both_sides)
{
    SHELL(0, "1\n2\n", "", "naru recv -n 2 unix://$PWD/s & seq 2 | naru send -n 2 unix://$PWD/s && wait $!");
    SHELL(0, "a\nb\na\n", "", "naru recv unix://$PWD/s & naru send -n 3 -m a -m b unix://$PWD/s && wait $!");
}

TEST(fewer_messages_than_asked_for_is_a_failure)
{
    SHELL(1, "x\n", "the sender closed after 1 of 5 messages",
          "naru send -m x unix://$PWD/s & naru recv -n 5 unix://$PWD/s");
}

TEST(json_tells_all_there_is)
{
    SHELL(0, "{\"length\": 2, \"data\": \"\\u0001\\\"\"}\n{\"length\": 2, \"data_base64\": \"//4=\"}\n", "",
          "naru recv --json tcp://127.0.0.1:$port &"
          "naru send -m $'\\x01\"' -m $'\\xff\\xfe' tcp://127.0.0.1:$port && wait $!");
    SHELL(0, test_format("%d\n", (int)getuid()), "",
          "naru recv --json -n 1 \"unix://$PWD/s?type=seqpacket\" > got & naru send -m x "
          "\"unix://$PWD/s?type=seqpacket\" &&"
          "wait $! && python3 -c 'import json; print(json.load(open(\"got\"))[\"sender\"][\"uid\"])'");
}

/* Any bytes come back from the JSON, as text where they are text. */
TEST(json_holds_any_bytes)
{
    SHELL(0, "300 True True\n", "",
          "cat > make.py <<'E'\n"
          "import os, random, struct, sys\n"
          "random.seed(int(sys.argv[1]))\n"
          "alphabets = [bytes(range(256)), bytes(range(128)), "
          "'\"\\\\/\\u007f\\u00e9\\ub098\\U0001f6f6'.encode(), b'\\xed\\xa0\\x80\\xc0']\n"
          "for i in range(300):\n"
          "    a = random.choice(alphabets)\n"
          "    m = bytes(random.choice(a) for _ in range(random.randrange(40)))\n"
          "    if i % 2: m = m.decode('utf-8', 'ignore').encode()\n"
          "    sys.stdout.buffer.write(struct.pack('>I', len(m)) + m)\n"
          "E\n"
          "cat > check.py <<'E'\n"
          "import base64, json, struct\n"
          "raw, seen, texts, binaries = open('in', 'rb').read(), 0, 0, 0\n"
          "for line in open('got', encoding='utf-8'):\n"
          "    n, = struct.unpack('>I', raw[:4]); want, raw = raw[4:4 + n], raw[4 + n:]\n"
          "    m = json.loads(line)\n"
          "    got = m['data'].encode() if 'data' in m else base64.b64decode(m['data_base64'])\n"
          "    assert got == want and m['length'] == n, (got, want)\n"
          "    seen += 1; texts += 'data' in m; binaries += 'data' not in m\n"
          "print(seen, texts > 100, binaries > 20)\n"
          "E\n"
          "python3 make.py $RANDOM > in; naru recv --json tcp://127.0.0.1:$port > got &"
          "naru send -f len32 tcp://127.0.0.1:$port < in; wait; python3 check.py");
}

TEST(verbose_describes_messages_on_stderr)
{
    SHELL(0, "x\n", "naru recv: 1 byte, type 7\n",
          "naru create sysvmq:0x4d2; naru send -T 7 -m x sysvmq:0x4d2; naru recv -v -n 1 sysvmq:0x4d2;"
          "naru rm sysvmq:0x4d2");
}

TEST(priorities_overtake)
{
    SHELL(0, "high\nlow\n", "",
          "q=posixmq:/naru-test-$$; naru create $q;"
          "naru send -p 1 -m low $q && naru send -p 9 -m high $q && naru recv -n 2 $q; naru rm $q");
}

TEST(types_are_chosen_by)
{
    SHELL(
        0, "two\none\n", "",
        "q=sysvmq:0x4d2; naru create $q;"
        "naru send -T 1 -m one $q && naru send -T 2 -m two $q && naru recv -n 1 -T 2 $q && naru recv -n 1 $q;"
        "naru rm $q");
}

TEST(keep_goes_on_with_the_next_sender)
{
    SHELL(0, "1\n2\n", "",
          "naru recv --keep -n 2 unix://$PWD/s & naru send -m 1 unix://$PWD/s && naru send -m 2 "
          "unix://$PWD/s && wait $!");
}

TEST(several_senders_are_received_from_until_all_have_closed)
{
    SHELL(0, "1\tfirst\n2\tsecond\n1\tlast\n", "",
          "for u in shm://$PWD/s unix://$PWD/s; do\n"
          "    mkfifo in out; naru recv --from $u > out & r=$!; exec 8<> in 9< out\n"
          "    naru send $u < in & a=$!; echo first >&8; read -r one <&9\n"
          "    naru send -m second $u && read -r two <&9; echo last >&8; read -r three <&9\n"
          "    kill -KILL $a; wait $a; exec 8>&-; wait $r; code=$?; rm in out\n"
          "    [ $u = shm://$PWD/s ] || printf '%s\\n' \"$one\" \"$two\" \"$three\"\n"
          "    [ $code -ne 0 ] || exit 1; # one of them was killed, which is told\n"
          "done 2> told; grep -q 'was killed' told");
    SHELL(0, "{\"length\": 1, \"from\": 1", "",
          "naru recv --json --from unix://$PWD/s > got & naru send -m x unix://$PWD/s && wait $!; head -c 23 "
          "got");
}

/* One after the other, as they have their seats: the second has sent all and gone before the first ends. */
TEST(a_sender_whose_turn_is_still_to_come_is_waited_for)
{
    SHELL(0, "first\nsecond\nfirst\nsecond\n", "",
          "for u in shm+posix:/naru-test-$$ shm+sysv:$((0x6e000000 + $$)); do\n"
          "    mkfifo in; naru recv $u > out & r=$!; exec 8<> in\n"
          "    naru send $u < in 8>&- & echo first >&8; until [ -s out ]; do sleep 0.01; done\n"
          "    naru send -m second $u 8>&- && exec 8>&-; wait $r || exit; cat out; rm in out\n"
          "done");
}

/* Who comes while a receiver ends is received from by it, or by the next, or is told otherwise: never
 * believes itself received from. The last one's message ends the last receiver. */
TEST(a_sender_that_comes_at_the_very_end_loses_nothing_unawares)
{
    static const char *const urls[] = {"shm://$PWD/s", "unix://$PWD/s", "unix://$PWD/s?type=seqpacket"};

    for (size_t i = 0; i < sizeof urls / sizeof *urls; i++)
        SHELL(0, "", "",
              test_format(
                  "url=%s; for round in 1 2 3 4 5 6 7 8; do rm -f ok.*; : > got; senders=\n"
                  "    until grep -qx last got; do naru recv $url >> got 2>> told; done &\n"
                  "    for k in 1 2 3 4 5; do seq 1000 | { naru send $url 2> said.$k && "
                  "touch ok.$k; } & senders+=\" $!\"; done; wait $senders\n"
                  "    until naru send -m last $url 2>> said.last; do :; done; wait\n"
                  "    sent=$(ls | grep -c '^ok'); [ $(wc -l < got) -gt $((sent * 1000)) ] || echo lost\n"
                  "done",
                  urls[i]));
}

TEST(a_sender_goes_on_with_the_next_receiver)
{
    SHELL(0, "first\nlater\nfirst\nlater\n", "the next call connects again",
          "for u in shm://$PWD/s unix://$PWD/s; do\n"
          "    mkfifo in; naru recv -n 1 $u & r=$!; exec 8<> in; naru send --reconnect $u < in & s=$!\n"
          "    echo first >&8; wait $r || exit; naru recv -n 1 $u & r=$!\n"
          "    until ! kill -0 $r 2>/dev/null; do echo later >&8; sleep 0.01; done; wait $r || exit\n"
          "    exec 8>&-; kill $s; wait $s; rm in\n"
          "done; true");
    SHELL(124, "", "wait longer (--timeout) (1 sent before)\n",
          "mkfifo in; naru recv -n 1 shm://$PWD/s > got & r=$!; exec 8<> in; until [ -S s ]; do sleep 0.01; "
          "done\n"
          "naru send --reconnect -t 5s shm://$PWD/s < in 8>&- & s=$!; echo x >&8; wait $r || exit 7\n"
          "echo y >&8; wait $s");
    SHELL(2, "", "--reconnect is for the side that connects", "naru send --reconnect --listen unix:s");
    SHELL(1, "", "the other end was closed (1 sent before)",
          "mkfifo in; naru recv -n 1 unix://$PWD/s > got & r=$!; exec 8<> in\n"
          "naru send unix://$PWD/s?reconnect=50ms < in & s=$!; echo x >&8; wait $r || exit 7\n"
          "for i in 1 2 3 4 5; do echo y >&8; sleep 0.02; done; wait $s");
}

TEST(a_receiver_that_was_killed_is_told_though_there_is_room)
{
    SHELL(
        1, "x\n", "at the other end was killed",
        "mkfifo in; naru recv shm://$PWD/s > got & r=$!; exec 8<> in; naru send shm://$PWD/s < in & s=$!\n"
        "echo x >&8; until [ -s got ]; do sleep 0.01; done; kill -9 $r; wait $r; echo y >&8; wait $s; c=$?\n"
        "cat got; rm -f in got s s.lock; exit $c");
}

TEST(the_sender_may_listen)
{
    SHELL(0, "x\n", "",
          "naru send --listen -m x unix://$PWD/s & naru recv --connect unix://$PWD/s && wait $!");
}

TEST(newlines_within_lines_are_pointed_out)
{
    SHELL(0, "a\nb\n", "message 1 holds the mark that ends each",
          "naru recv unix://$PWD/s & naru send -m $'a\\nb' unix://$PWD/s && wait $!");
}

/* What arrived is printed at once, though the sender goes on: the reader sees it before the sender's input
 * ends. */
TEST(a_slow_stream_is_printed_as_it_comes)
{
    SHELL(0, "first\nsecond\n", "",
          "mkfifo in out; naru recv unix://$PWD/s > out & naru send unix://$PWD/s < in &"
          "exec 8> in 9< out; echo first >&8; read -r line <&9; echo $line; echo second >&8; read -r line "
          "<&9; echo $line;"
          "exec 8>&- 9<&-; wait");
}

TEST(everything_was_taken_when_asked_to_wait)
{
    SHELL(0, "x\n", "", "naru recv unix://$PWD/s & naru send --taken -m x unix://$PWD/s && wait $!");
    SHELL(124, "",
          "naru send: posixmq:/naru-cli-taken: the receiver has not taken everything in time (1 sent)",
          "naru create posixmq:/naru-cli-taken; naru send --taken -t 20ms -m x posixmq:/naru-cli-taken; r=$?;"
          "naru rm posixmq:/naru-cli-taken; exit $r");
}
