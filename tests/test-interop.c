/* SPDX-License-Identifier: MIT */
/*
 * naru and programs that have never heard of it: socat, textbook programs of System V and POSIX queues and of
 * pipe+fork (tests/plain), util-linux's ipcmk, ipcs and ipcrm, Python's socket, os.mkfifo and signal.
 */
#include "naru/naru.h"
#include "runner-shell.h"
#include "runner.h"

#include <unistd.h>

static void need(const char *program)
{
    struct shell s = shell_wait(shell_start(test_format("command -v %s", program)));
    int code = s.code;

    shell_free(&s);
    if (code != 0)
        test_skip("there is no %s here", program);
}

/* Shell functions: until somebody has bound the UDP port (nothing announces it); socat that waits for the
 * other side to listen. */
#define BOUND "bound() { until grep -qi \":$(printf %04x \"$1\") \" /proc/net/$2; do sleep 0.01; done; }; "
#define RETRY ",retry=1200,interval=0.05"

/* --- socat --- */

TEST(socat_sends_over_a_unix_stream)
{
    need("socat");
    SHELL(0, "1\n2\n3\n", "",
          "naru recv 'unix:s?frame=line' & seq 3 | socat -u - UNIX-CONNECT:s" RETRY "; wait $!");
}

TEST(socat_receives_over_a_unix_stream)
{
    need("socat");
    SHELL(0, "1\n2\n3\n", "", "socat -u UNIX-LISTEN:s - & seq 3 | naru send 'unix:s?frame=line'; wait $!");
}

TEST(socat_meets_an_abstract_name)
{
    need("socat");
    SHELL(0, "1\n2\n3\n", "",
          "naru recv \"unix:@naru-test-$$?frame=line\" & "
          "seq 3 | socat -u - ABSTRACT-CONNECT:naru-test-$$" RETRY "; wait $!");
}

TEST(socat_exchanges_seqpackets)
{
    need("socat");
    SHELL(0, "whole", "",
          "naru recv -f raw 'unix:s?type=seqpacket' & printf whole | socat -u - UNIX-CONNECT:s,type=5" RETRY
          "; wait $!");
    SHELL(0, "onetwo", "",
          "socat -u UNIX-LISTEN:t,type=5 - & naru send -m one -m two 'unix:t?type=seqpacket'; wait $!");
}

TEST(socat_exchanges_unix_datagrams)
{
    need("socat");
    SHELL(0, "hello\n", "",
          "naru recv -n 1 'unix:s?type=dgram' & waits s $!; "
          "printf hello | socat -u - UNIX-SENDTO:s; wait $!");
    SHELL(
        0, "hello", "",
        "socat -u UNIX-RECV:t SYSTEM:'head -c 5' & naru send -m hello 'unix:t?type=dgram'; wait $!; rm -f t");
}

TEST(socat_echoes_over_tcp)
{
    need("socat");
    SHELL(0, "a\nb\n", "",
          "socat TCP-LISTEN:$port,bind=127.0.0.1,reuseaddr PIPE & "
          "printf 'a\\nb\\n' | naru cat - tcp://127.0.0.1:$port; wait $!");
    SHELL(0, "1\n2\n3\n", "",
          "naru recv \"tcp://127.0.0.1:$port?frame=line\" & "
          "seq 3 | socat -u - TCP:127.0.0.1:$port" RETRY "; wait $!");
}

TEST(socat_meets_tcp_over_ipv6)
{
    need("socat");
    SHELL(0, "1\n2\n3\n", "",
          "socat -u TCP6-LISTEN:$port,bind=[::1],reuseaddr - & "
          "seq 3 | naru send \"tcp://[::1]:$port?frame=line\"; wait $!");
}

TEST(socat_exchanges_udp_datagrams)
{
    need("socat");
    SHELL(0, "hello\n", "",
          BOUND "naru recv -n 1 udp://127.0.0.1:$port & bound $port udp; "
                "printf hello | socat -u - UDP-SENDTO:127.0.0.1:$port; wait $!");
    SHELL(0, "hello", "",
          BOUND "socat -u UDP-RECV:$port,bind=127.0.0.1 SYSTEM:'head -c 5' & bound $port udp; "
                "naru send -m hello udp://127.0.0.1:$port; wait $!");
}

TEST(socat_and_a_fifo)
{
    need("socat");
    SHELL(0, "1\n2\n3\n", "",
          "naru recv 'fifo:f?frame=line' & waits f $!; "
          "seq 3 | socat -u - OPEN:f,wronly; wait $!; rm f");
    SHELL(0, "1\n2\n3\n", "",
          "mkfifo g; socat -u OPEN:g,rdonly - & "
          "seq 3 | naru send 'fifo:g?frame=line'; wait $!; rm g");
}

TEST(socat_on_both_sides_of_a_pipe)
{
    need("socat");
    SHELL(0, "1\n2\n3\n", "", "socat -u SYSTEM:'seq 3' - | naru cat -u - - | socat -u - STDOUT");
    SHELL(0, "1\n2\n3\n", "", "seq 3 | naru cat - 'exec:socat - -'");
}

TEST(a_megabyte_through_socat_is_whole)
{
    need("socat");
    SHELL(0, "same\n", "",
          "head -c 1000000 /dev/urandom > in; socat -u UNIX-LISTEN:s,unlink-close=1 CREATE:out & "
          "naru send -f whole 'unix:s?frame=raw' < in; wait $!; cmp in out && echo same");
}

TEST(length_framing_is_what_the_manual_says)
{
    need("socat");
    SHELL(0, "\\0\\0\\0002hi\\0\\0\\0\\0\n", "",
          "socat -u UNIX-LISTEN:s CREATE:out & naru send -m hi -m '' unix:s; wait $!; "
          "od -An -v -c out | tr -d ' \\n'; echo");
}

/* --- programs of the textbook --- */

TEST(a_plain_system_v_program_receives)
{
    SHELL(0, "5 hello\n1 world\n", "",
          "plain-sysvmq recv 2 & naru send -T 5 -m hello sysvmq:1234 && naru send -m world sysvmq:0x4d2; "
          "wait $!; naru rm sysvmq:1234");
}

TEST(a_plain_system_v_program_sends_and_types_are_chosen)
{
    SHELL(0, "b\na\n", "",
          "plain-sysvmq send 1 a; plain-sysvmq send 2 b; naru recv -n 1 -T 2 sysvmq:1234; "
          "naru recv -n 1 sysvmq:1234; naru rm sysvmq:1234");
}

TEST(plain_system_v_programs_talk_both_ways_by_types)
{
    SHELL(0, "2 pong\nping\n", "",
          "plain-sysvmq recv 1 2 & plain-sysvmq send 1 ping; naru recv -n 1 -T 1 sysvmq:1234 > got; "
          "naru send -T 2 -m pong sysvmq:1234; wait; cat got; naru rm sysvmq:1234");
}

TEST(a_plain_posix_queue_program_receives_by_priority)
{
    SHELL(0, "9 urgent\n0 later\n", "",
          "naru create posixmq:/plain; naru send -m later posixmq:/plain; "
          "naru send -p 9 -m urgent posixmq:/plain; plain-posixmq recv /plain 2; naru rm posixmq:/plain");
}

TEST(a_plain_posix_queue_program_sends)
{
    SHELL(0, "urgent\nlater\n", "",
          "plain-posixmq send /plain 0 later; plain-posixmq send /plain 9 urgent; "
          "naru recv -n 2 posixmq:/plain; naru rm posixmq:/plain");
}

TEST(a_plain_program_of_pipe_and_fork_writes_and_reads)
{
    SHELL(0, "one\ntwo\nthree\n", "", "plain-pipe-fork write naru recv -");
    SHELL(0, "parent read 1\nparent read 2\n", "", "plain-pipe-fork read naru send -m 1 -m 2 -");
    SHELL(0, "one\ntwo\nthree\n", "", "naru recv 'exec:plain-pipe-fork write cat'");
}

TEST(the_shells_pipes)
{
    SHELL(0, "a.txt\n", "", "mkdir d; cd d; touch a.txt b.c; ls | naru cat - 'exec:grep txt'");
}

/* --- util-linux --- */

TEST(ipcs_sees_what_waits_in_our_queue)
{
    need("ipcs");
    SHELL(0, "3 messages of 15 bytes\n", "",
          "naru create sysvmq:0x4e41; naru send -m one -m three -m further sysvmq:0x4e41; "
          "ipcs -q | awk '$1 == \"0x00004e41\" {print $6 \" messages of \" $5 \" bytes\"}'; "
          "naru rm sysvmq:0x4e41");
}

TEST(a_queue_made_by_ipcmk_is_used)
{
    need("ipcmk");
    SHELL(0, "hello\n", "",
          "id=$(ipcmk -Q | grep -o '[0-9]*$'); key=$(ipcs -q | awk -v id=$id '$2 == id {print $1}'); "
          "naru send -m hello sysvmq:$key; naru recv -n 1 sysvmq:$key; ipcrm -q $id");
}

TEST(ipcrm_underneath_a_receiver_is_said)
{
    need("ipcrm");
    SHELL(1, "x\n", "removed",
          "naru create sysvmq:0x4e42; naru recv sysvmq:0x4e42 & "
          "naru send --taken -m x sysvmq:0x4e42; ipcrm -Q 0x4e42; wait $!");
}

TEST(what_ipcmk_makes_is_listed)
{
    need("ipcmk");
    SHELL(0, "-m yes\n-s yes\n-q yes\n", "",
          "m=$(ipcmk -M 4096 | grep -o '[0-9]*$'); s=$(ipcmk -S 3 | grep -o '[0-9]*$'); "
          "q=$(ipcmk -Q | grep -o '[0-9]*$'); naru ls 2>/dev/null >list; "
          "for kind in \"-m $m\" \"-s $s\" \"-q $q\"; do set -- $kind; "
          "    key=$(ipcs $1 | awk -v id=$2 '$2 == id {print $1}'); grep -q \"$(printf 0x%x $key)\" list && "
          "echo $1 yes; "
          "done; grep -q '4 KiB' list; ipcrm -m $m -s $s -q $q");
}

/* --- Python --- */

TEST(pythons_sockets_speak_len32)
{
    need("python3");
    SHELL(0, "hello\nworld\n", "",
          "cat > c.py <<'END'\n"
          "import socket, struct, time\n"
          "s = socket.socket(socket.AF_UNIX)\n"
          "while True:\n"
          "    try: s.connect('s'); break\n"
          "    except (FileNotFoundError, ConnectionRefusedError): time.sleep(0.01)\n"
          "for m in (b'hello', b'world'): s.sendall(struct.pack('>I', len(m)) + m)\n"
          "s.close()\n"
          "END\n"
          "naru recv unix:s & python3 c.py; wait $!");
}

TEST(a_python_server_answers_over_tcp)
{
    need("python3");
    SHELL(0, "HELLO\nWORLD\n", "",
          "cat > c.py <<'END'\n"
          "import socket, sys\n"
          "s = socket.create_server(('127.0.0.1', int(sys.argv[1])))\n"
          "c, _ = s.accept()\n"
          "f = c.makefile('rwb', buffering=0)\n"
          "for line in f: f.write(line.upper())\n"
          "END\n"
          "python3 c.py $port & printf 'hello\\nworld\\n' | naru cat - tcp://127.0.0.1:$port; wait $!");
}

TEST(python_exchanges_udp_datagrams_of_any_length)
{
    need("python3");
    SHELL(0, "[b'', b'x', b'yyyyyyyy']\n", "",
          "cat > c.py <<'END'\n"
          "import socket, sys\n"
          "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
          "s.bind(('127.0.0.1', int(sys.argv[1])))\n"
          "print([s.recv(100) for _ in range(3)])\n"
          "END\n" BOUND "python3 c.py $port & bound $port udp; "
          "naru send -m '' -m x -m yyyyyyyy udp://127.0.0.1:$port; wait $!");
}

/* Python's side of SCM_RIGHTS and SCM_CREDENTIALS: socket.send_fds(). */
TEST(python_passes_a_descriptor_and_is_known)
{
    struct naru_channel_info info = NARU_INIT(struct naru_channel_info);
    struct naru_message m = NARU_INIT(struct naru_message);
    struct naru_listener *l;
    struct naru_channel *ch;
    char text[16] = "", content[16] = "";
    struct iovec room = {text, sizeof text};
    struct shell s;
    int fd = -1, pid;

    need("python3");
    m.iov = &room;
    m.iov_count = 1;
    m.fds = &fd;
    m.fd_capacity = 1;
    CHECK_INT(naru_listen(test_format("unix://%s/s?type=seqpacket", test_directory()), NULL, &l), 0);
    pid = shell_start("exec python3 -c '\n"
                      "import socket\n"
                      "open(\"f\", \"w\").write(\"inside\")\n"
                      "s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)\n"
                      "s.connect(\"s\")\n"
                      "f = open(\"f\")\n"
                      "socket.send_fds(s, [b\"take this\"], [f.fileno()])\n"
                      "assert s.recv(100) == b\"thanks\"'");
    CHECK_INT(naru_accept(l, NARU_S(60), &ch), 0);
    CHECK_INT(naru_recv_message(ch, &m, NARU_S(60)), 0);
    CHECK_STR(text, "take this");
    CHECK_INT(m.fd_count, 1);
    CHECK_INT(read(fd, content, sizeof content), 6);
    CHECK_STR(content, "inside");
    CHECK_INT(naru_channel_info(ch, &info), 0);
    CHECK_INT(info.peer.pid, pid);
    CHECK_INT(info.peer.uid, getuid());
    CHECK_INT(naru_send(ch, "thanks", 6, NARU_NOWAIT), 0);
    s = shell_wait(pid);
    CHECK_STR(s.err, "");
    CHECK_INT(s.code, 0);
    shell_free(&s);
    close(fd);
    naru_channel_close(ch);
    naru_listener_close(l);
}

TEST(pythons_mkfifo_is_read_and_written)
{
    need("python3");
    SHELL(0, "from python\n", "",
          "python3 -c 'import os; os.mkfifo(\"f\", 0o600); open(\"f\", \"w\").write(\"from python\\n\")' & "
          "until [ -p f ]; do sleep 0.01; done; naru recv 'fifo:f?frame=line'; wait $!; rm f");
    SHELL(0, "from naru\n", "",
          "python3 -c 'import os; os.mkfifo(\"g\"); print(open(\"g\").read(), end=\"\")' & "
          "naru send -m 'from naru' 'fifo:g?frame=line'; wait $!; rm g");
}

TEST(python_waits_for_our_signal)
{
    need("python3");
    SHELL(0, "RTMIN+3 queued by another process\n", "",
          "cat > c.py <<'END'\n"
          "import os, signal\n"
          "sig = signal.SIGRTMIN + 3\n"
          "signal.pthread_sigmask(signal.SIG_BLOCK, [sig])\n"
          "open('ready.new', 'w').write(str(os.getpid()))\n"
          "os.rename('ready.new', 'ready')\n"
          "info = signal.sigwaitinfo([sig])\n"
          "if info.si_signo == sig and info.si_code == -1 and info.si_pid != os.getpid():\n"
          "    print('RTMIN+3 queued by another process')\n"
          "END\n"
          "python3 c.py & until [ -e ready ]; do sleep 0.01; done; "
          "naru signal send $(cat ready) RTMIN+3 -v 42; wait $!");
}

TEST(a_signal_from_python_is_received)
{
    need("python3");
    SHELL(
        0, "\"data\": \"\\u0000\\u0000\\u0000\\u0000\"}\n", "",
        "cat > c.py <<'END'\n"
        "import os, signal, sys, time\n"
        "pid, sig = int(sys.argv[1]), signal.SIGRTMIN + 4\n"
        "def blocks():\n"
        "    for line in open(f'/proc/{pid}/status'):\n"
        "        if line.startswith('SigBlk'): return int(line.split()[1], 16) >> (sig - 1) & 1\n"
        "while not blocks(): time.sleep(0.01)\n"
        "os.kill(pid, sig)\n"
        "END\n"
        "naru recv --json -n 1 'signal:?sig=RTMIN+4' >got & python3 c.py $!; wait $!; grep -o '.data.*' got");
}
