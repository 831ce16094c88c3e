/* SPDX-License-Identifier: MIT */
/* naru cat and naru listen: bytes in both directions, half-closes, many connections, programs that are not
 * ours. */
#include "runner-shell.h"
#include "runner.h"

/* Ends when the listener $1 that logs to the file err says that it listens. */
#define LISTENING "until grep -qs 'listening on' err; do sleep 0.01; done;"

TEST(ls_through_grep_as_the_shell_pipes_it)
{
    SHELL(0, "b.txt\n", "", "touch a.c b.txt; ls | naru cat - 'exec:grep .txt'");
    SHELL(0, "b.txt\n", "", "touch a.c b.txt; naru cat --one-way exec:ls 'exec:grep .txt'");
}

TEST(cat_passes_the_end_of_input_on)
{
    SHELL(0, "a\nb\n", "", "printf 'b\\na\\n' | naru cat exec:sort");
}

TEST(cat_goes_both_ways_at_once)
{
    SHELL(0, "", "", "head -c 5000000 /dev/urandom > in; naru cat exec:cat < in > got && cmp in got");
}

TEST(a_port_that_the_kernel_chose_is_told)
{
    SHELL(0, "hi\n", "",
          "for scheme in tcp udp; do rm -f err; naru recv -n 1 \"$scheme://127.0.0.1:0?max-message=9\" > got "
          "2> err & "
          "p=$!;" LISTENING
          "naru send -m hi \"$(sed 's/.* //; s/?.*//' err)\" && wait $p || exit 1; done; cat got");
    SHELL(124, "", "tcp://127.0.0.1:0: nobody connected in time", "naru cat -t 10ms -l tcp://127.0.0.1:0");
    SHELL(124, "", "tcp://127.0.0.1:0: nobody connected in time",
          "naru send -t 10ms -lm x tcp://127.0.0.1:0");
    SHELL(124, "", "unix://nobody: nobody listens there", "naru cat -t 10ms - unix://nobody");
}

TEST(listen_tells_how_to_understand_naru_send)
{
    SHELL(0, "hi\n", "",
          "u=unix://$PWD/s; naru listen -n 1 $u > garbled 2> err & waits s $!;"
          "naru send -m hi $u; wait $!; grep -q 'add ?frame=len32 to the URL here' err || cat err >&2;"
          "naru listen -n 1 $u?frame=len32 2> err & waits s $!;"
          "naru send -m hi $u; wait $!; cat err >&2");
}

TEST(cat_joins_two_processes)
{
    SHELL(0, "from client\nfrom server\n", "",
          "echo 'from server' | naru cat --listen unix://$PWD/s > got & echo 'from client' | naru cat "
          "unix://$PWD/s > answer;"
          "wait $! && cat got answer");
}

TEST(cat_talks_with_socat)
{
    SHELL(0, "HELLO\n", "",
          "socat unix-listen:$PWD/s 'exec:tr a-z A-Z' & echo hello | naru cat unix://$PWD/s; wait");
    SHELL(0, "HELLO\n", "",
          "naru cat -l unix://$PWD/s 'exec:tr a-z A-Z' & waits s $!;"
          "echo hello | socat -t 10 - unix-connect:$PWD/s; wait $!");
}

TEST(cat_is_a_proxy)
{
    SHELL(
        0, "hello\n", "",
        "naru listen -n 1 --echo unix://$PWD/behind & naru cat -l tcp://127.0.0.1:$port unix://$PWD/behind &"
        "echo hello | naru cat tcp://127.0.0.1:$port && wait");
}

TEST(cat_reads_and_writes_fifos)
{
    SHELL(0, "hello\n", "", "naru cat fifo://$PWD/f & echo hello | naru cat - fifo://$PWD/f && wait $!");
    SHELL(0, "hello\n", "", "mkfifo g; cat g & echo hello | naru cat - fifo://$PWD/g && wait $!");
}

TEST(cat_gives_datagrams_time_to_answer)
{
    SHELL(0, "hello\n", "",
          "naru listen -v --echo udp://127.0.0.1:$port 2> err & p=$!;" LISTENING
          "echo hello | naru cat -q 3s udp://127.0.0.1:$port; kill $p; wait $p; [ $? = 143 ]");
}

TEST(cat_counts_when_asked)
{
    SHELL(0, "abc", "naru cat: - to exec:cat: 3 bytes; back: 3 bytes", "printf abc | naru cat -v - exec:cat");
}

TEST(cat_reports_what_it_cannot_write)
{
    SHELL(1, "", "No space left on device", "echo x | naru cat exec:cat > /dev/full");
    SHELL(1, "", "closed while there was more to send", "seq 100000 | naru cat - 'exec:head -n 1 > got'");
}

TEST(cat_to_a_reader_that_went_away_ends_quietly)
{
    SHELL(0, "1\n141\n", "", "naru cat 'exec:seq 1000000' < /dev/null | head -n 1; echo ${PIPESTATUS[0]}");
}

TEST(cat_ends_at_an_interrupt)
{
    SHELL(130, "", "",
          "mkfifo in; env --default-signal=INT naru cat -l unix://$PWD/s < in & exec 8> in;"
          "waits s $!; kill -INT $!; wait $!; r=$?; find . -name 's*'; exit $r");
    SHELL(130, "x\n", "",
          "mkfifo in2; env --default-signal=INT naru cat exec:cat < in2 > got & exec 8> in2; echo x >&8;"
          "until [ -s got ]; do sleep 0.01; done; kill -INT $!; wait $!; r=$?; cat got; exit $r");
}

TEST(a_command_that_fails_is_reported)
{
    SHELL(1, "", "exit status 3", "naru cat 'exec:exit 3' < /dev/null");
}

TEST(listen_prints_lines_of_all)
{
    SHELL(0, "a\nb\nc\nd\n", "",
          "naru listen -n 2 unix://$PWD/s > got & printf 'a\\nb' | socat -u - "
          "unix-connect:$PWD/s,retry=6000,interval=0.01;"
          "printf 'c\\nd\\n' | naru cat unix://$PWD/s; wait; sort got");
}

TEST(listen_echoes_to_fifty_at_once)
{
    SHELL(0, "50\n", "",
          "naru listen -n 50 --echo unix://$PWD/s & for i in {1..50}; do"
          " (echo $i | naru cat unix://$PWD/s > $i.got) & done; wait; cat *.got | sort -n | uniq | wc -l");
}

TEST(listen_answers)
{
    SHELL(0, "pong\npong\nq1\nq2\n", "",
          "naru listen -n 1 --reply pong unix://$PWD/s > got & printf 'q1\\nq2\\n' | naru cat unix://$PWD/s; "
          "wait; cat got");
}

TEST(listen_runs_a_command_for_each)
{
    SHELL(0, "HELLO\nIT'S $HOME\n", "",
          "naru listen -n 2 unix://$PWD/s -- tr a-z A-Z & echo hello | naru cat unix://$PWD/s;"
          "echo \"it's \\$home\" | naru cat unix://$PWD/s; wait");
    SHELL(0, "it's $HOME \"x\"\n", "",
          "naru listen -n 1 unix://$PWD/s -- echo \"it's \\$HOME\" '\"x\"' & naru cat unix://$PWD/s < "
          "/dev/null; wait");
}

TEST(listen_waits_its_turn_beyond_max)
{
    SHELL(0, "a\nb\n", "",
          "naru listen --max 1 -n 2 --echo unix://$PWD/s & echo a | naru cat unix://$PWD/s; echo b | naru "
          "cat unix://$PWD/s;"
          "wait");
}

TEST(listen_ends_at_a_signal_with_connections_open)
{
    SHELL(143, "x\n", "",
          "mkfifo in; naru listen -m 1 --echo unix://$PWD/s & p=$!; naru cat unix://$PWD/s < in > got & exec "
          "8> in;"
          "echo x >&8; until [ -s got ]; do sleep 0.01; done; kill -TERM $p; wait $p; r=$?; exec 8>&-; wait; "
          "cat got;"
          "find . -name 's*'; exit $r");
}

TEST(listen_serves_queues_and_datagrams)
{
    SHELL(143, "x\n", "",
          "naru listen posixmq:/naru-test-$$ > got & p=$!; naru send -m x posixmq:/naru-test-$$;"
          "until [ -s got ]; do sleep 0.01; done; kill $p; wait $p; r=$?; cat got; naru rm "
          "posixmq:/naru-test-$$; exit $r");
}

TEST(listen_stops_when_it_cannot_print)
{
    SHELL(1, "", "could not be written to standard output",
          "naru listen unix://$PWD/s > /dev/full & p=$!; echo x | naru cat unix://$PWD/s; wait $p");
}

TEST(listen_says_who_comes)
{
    SHELL(0, "", "naru listen: connection 1 ended: 2 bytes received, 2 sent",
          "naru listen -v -n 1 --echo unix://$PWD/s & echo x | naru cat unix://$PWD/s > got; wait");
}
