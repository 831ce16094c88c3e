/* SPDX-License-Identifier: MIT */
/* naru ls, create, rm, help and the completions. */
#include <errno.h>
#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "naru/channel.h"
#include "runner-shell.h"
#include "runner-syscalls.h"
#include "runner.h"

TEST(ls_shows_objects_of_other_programs)
{
    SHELL(0, "1\n", "",
          "id=$(ipcmk -Q -p 0640 | grep -o '[0-9]*$'); naru ls sysvmq | grep -c '0640.*0 messages'; ipcrm -q "
          "$id");
    SHELL(0, "1\n", "",
          "id=$(ipcmk -M 4096 | grep -o '[0-9]*$'); naru ls shm+sysv | grep -c '4 KiB, 0 attached'; ipcrm -m "
          "$id");
    SHELL(0, "1\n", "",
          "id=$(ipcmk -S 3 | grep -o '[0-9]*$'); naru ls sem+sysv | grep -c '3 semaphores'; ipcrm -s $id");
    SHELL(0, "1\n", "",
          "head -c 8192 /dev/zero > /dev/shm/naru-test-$$; naru ls shm+posix | grep -c "
          "\"shm+posix:/naru-test-$$ .*8 KiB\";"
          "rm /dev/shm/naru-test-$$");
    /* It listens a moment after its path is there: the flag is __SO_ACCEPTCON. */
    SHELL(0, "1\n", "",
          "socat unix-listen:$PWD/s - < /dev/null & "
          "until grep -q \" 00010000 .*$PWD/s$\" /proc/net/unix; do sleep 0.01; done;"
          "naru ls unix | grep -c \"unix://$PWD/s \"; kill $!; wait; rm -f s");
}

TEST(names_of_shared_memory_are_listed_used_and_removed)
{
    SHELL(0, "1\none\ntwo\n", "",
          "naru recv shm://name > got & s=$XDG_RUNTIME_DIR/naru/name;"
          "until grep -q \" 00010000 .*$s$\" /proc/net/unix; do sleep 0.01; done;"
          "naru ls shm | grep -c \"shm://$s \"; ! naru ls unix 2>/dev/null | grep $s; printf 'one\\ntwo\\n' "
          "| naru send "
          "shm://name; wait; cat got;"
          "! [ -e $s ] && ! [ -e $s.lock ]");
    SHELL(0, "", "naru rm: shm://name: process ",
          "naru recv shm://name & waits $XDG_RUNTIME_DIR/naru/name $!;"
          "naru rm shm://name && exit 1; kill -9 $!; wait; [ -S $XDG_RUNTIME_DIR/naru/name ] || exit 2;"
          "naru rm shm://name; [ -z \"$(ls -A $XDG_RUNTIME_DIR/naru)\" ]");
}

TEST(ls_json_is_json)
{
    SHELL(0, "sysvmq:0x4d2 1 5\n", "",
          "naru create sysvmq:0x4d2; naru send -m hello sysvmq:0x4d2; naru ls --json sysvmq | python3 -c '"
          "import json, sys\n"
          "for o in json.load(sys.stdin): print(o[\"url\"], o[\"messages\"], o[\"bytes\"])'; naru rm "
          "sysvmq:0x4d2");
    SHELL(
        0, "True\n", "",
        "naru ls --mechanisms --json | python3 -c 'import json, sys; print(len(json.load(sys.stdin)) > 9)'");
}

/* Of sockets all the machine's are listed, where anybody may listen: but for a network of its own. */
TEST(ls_of_nothing_prints_nothing)
{
    SHELL(0, "", "naru ls: there are no sysvmq objects now", "naru ls sysvmq");
    SHELL(0, "", "(shm+posix and shm+sysv are kinds of their own)",
          "for alone in 'unshare --net' 'unshare --map-root-user --net' ''; do $alone true 2>/dev/null && "
          "break; done;"
          "$alone naru ls shm");
    SHELL(0, "[]\n", "", "naru ls --json sysvmq");
    SHELL(2, "", "expected one of sysvmq, posixmq", "naru ls sysvqm");
}

TEST(create_sets_sizes_and_permissions)
{
    SHELL(0, "prw-r----- \n", "", "naru create \"fifo://$PWD/f?mode=0640\"; ls -l f | cut -c 1-11");
    SHELL(
        0, "0640\n", "",
        "naru create 'sysvmq:0x4d2?mode=0640'; naru ls --json sysvmq | grep -o '0640'; naru rm sysvmq:0x4d2");
    SHELL(2, "", "exists only while somebody uses it", "naru create unix://$PWD/s");
}

TEST(rm_removes_what_naru_makes_by_name)
{
    SHELL(0, "", "naru rm: rwlock 'naru-look': cannot remove",
          "naru lock naru-look -- true; naru event naru-look set; naru sem naru-look post;"
          ": > /dev/shm/naru.rwlock.naru-look; : > /dev/shm/naru.barrier.naru-look;"
          "naru rm mutex:naru-look event:naru-look semaphore:naru-look rwlock:naru-look barrier:naru-look &&"
          "naru rm -f mutex:naru-look rwlock:naru-look && ! naru rm rwlock:naru-look &&"
          "! ls /dev/shm/naru.*.naru-look 2> /dev/null");
    SHELL(1, "", "held by process",
          "naru lock naru-look -- naru rm mutex:naru-look; r=$?; naru rm mutex:naru-look || exit 9; exit $r");
    SHELL(2, "", "leaves nothing behind that could be removed", "naru rm tcp://127.0.0.1:1");
    SHELL(2, "", "expected fifo, unix, shm, ", "naru rm lock:naru-look");
    SHELL(2, "", "mutex:naru-look, posixmq:/naru-look? `naru ls`", "naru rm naru-look");
    SHELL(1, "", "is not a FIFO, and is left alone", "echo hi > f; naru rm fifo:$PWD/f; r=$?; rm f; exit $r");
}

TEST(rm_removes_each_and_reports_each)
{
    SHELL(3, "", "naru rm: ",
          "naru create fifo://$PWD/f sysvmq:0x4d2; naru rm fifo://$PWD/f fifo://$PWD/none sysvmq:0x4d2;"
          "r=$?; ls f 2> /dev/null; naru ls sysvmq 2> /dev/null; exit $r");
}

TEST(rm_leaves_live_endpoints_alone)
{
    SHELL(1, "x\n", "naru rm: unix:///",
          "naru recv unix://$PWD/s > got & waits s $!; naru rm unix://$PWD/s; r=$?;"
          "naru send -m x unix://$PWD/s; wait; cat got; exit $r");
}

TEST(rm_of_segments_leaves_live_channels_alone)
{
    static const char *const urls[] = {"shm+posix:/naru-test", "shm+sysv:0x4d3"};

    for (size_t i = 0; i < sizeof urls / sizeof *urls; i++)
        SHELL(
            0, "x\n", "naru segment: ",
            test_format(
                "u=%s; naru recv $u > got & p=$!; until naru ls ${u%%%%:*} 2>/dev/null | grep -q .; do sleep "
                "0.01; done;"
                "naru segment $u rm 2> err && exit 1; cat err >&2; grep -q \"process $p listens there\" "
                "err || exit 2;"
                "naru send -m x $u; wait; cat got;"
                "naru segment $u create 64 && naru segment $u rm && ! naru segment $u size 2> /dev/null",
                urls[i]));
    SHELL(3, "", "naru segment: mmap:", "naru segment mmap:$PWD/none rm");
}

/* As long as a listener is about to take the name with it. */
TEST(rm_leaves_the_next_segment_of_a_live_listener_alone)
{
    struct flock seat = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = 1};
    const char *name = test_format("naru-test-%d", getpid()), *path = test_format("/dev/shm/%s.next", name);
    struct naru_listener *l = NULL;
    int fd;

    CHECK_INT(naru_listen(test_format("shm+posix:/%s", name), NULL, &l), 0);
    SHELL(0, "", "", test_format("cp /dev/shm/%s %s", name, path));
    fd = open(path, O_RDWR | O_CLOEXEC);
    CHECK_INT(fcntl(fd, F_OFD_SETLK, &seat), 0);
    for (int segment = 0; segment < 2; segment++)
        SHELL(1, "", test_format("process %d holds it, to listen at shm+posix:/%s", getpid(), name),
              test_format("naru %s shm+posix:/%s.next%s", segment ? "segment" : "rm", name,
                          segment ? " rm" : ""));
    CHECK_INT(access(path, F_OK), 0);
    close(fd);
    SHELL(0, "", "", test_format("naru rm shm+posix:/%s.next", name));
    CHECK_INT(access(path, F_OK), -1);
    naru_listener_close(l);
}

/* Where it cannot be told whether somebody listens, the name stays; without System V semaphores, say, or with
 * no descriptor left (of all that these commands open, naru alone says O_NOFOLLOW). */
TEST(rm_of_segments_leaves_alone_what_it_cannot_look_at)
{
    const char *posix = test_format("shm+posix:/naru-test-%d", getpid());
    const char *sysv = test_format("shm+sysv:0x%x", 0x6e000000u + (unsigned)getpid());
    struct naru_listener *first = NULL, *second = NULL;
    struct naru_channel *ch = NULL;
    int pid;

    CHECK_INT(naru_listen(posix, NULL, &first), 0);
    CHECK_INT(naru_listen(sysv, NULL, &second), 0);
    pid = test_fork();
    if (pid == 0) {
        test_refuse_flags(SYS_openat, O_NOFOLLOW, EMFILE);
        test_refuse_call(SYS_semop, ENOMEM);
        test_refuse_call(SYS_semtimedop, ENOMEM);
        SHELL(1, "", "`ulimit -n` allows more", test_format("naru segment %s rm", posix));
        SHELL(1, "", "`ulimit -n` allows more", test_format("naru rm %s", posix));
        SHELL(1, "", "cannot take the semaphores", test_format("naru rm %s", sysv));
        test_child_end();
    }
    test_join(pid);
    CHECK_INT(naru_connect(posix, NULL, 0, &ch), 0);
    naru_channel_close(ch);
    CHECK_INT(naru_connect(sysv, NULL, 0, &ch), 0);
    naru_channel_close(ch);
    naru_listener_close(first);
    naru_listener_close(second);
}

/* As some user: root may write all. */
TEST(rm_removes_segments_that_their_owner_may_only_read)
{
    SHELL(0, "", "",
          test_format("chmod 755 . ..; cp \"$(command -v naru)\" .; u=shm+posix:/naru-test-$$;"
                      "%s sh -c './naru segment \"$1?mode=0444\" create 64 && ./naru segment $1 rm' - $u",
                      geteuid() == 0 ? "setpriv --reuid 65534 --regid 65534 --clear-groups" : ""));
}

TEST(version_is_told)
{
    SHELL(0, "naru 0.1.0\n", "", "naru --version");
}

TEST(every_verb_describes_itself)
{
    SHELL(0, "", "",
          "verbs=$(naru --help | sed -n 's/^  \\([a-z]*\\)  .*/\\1/p'); [ $(wc -w <<<$verbs) -ge 9 ] || echo "
          "too few: $verbs;"
          "for v in $verbs; do"
          "  cmp <(naru help $v) <(naru $v --help); naru $v -h | grep -q \"^Usage: naru $v\" || echo $v: no "
          "usage;"
          "done");
}

TEST(every_verb_is_in_the_manual)
{
    SHELL(0, "", "",
          "build=$(dirname $(command -v naru)); page=$(sed -n 's/^CMAKE_HOME_DIRECTORY:INTERNAL=//p' "
          "$build/CMakeCache.txt)/man/naru.1.scd;"
          "for v in $(naru --help | sed -n 's/^  \\([a-z]*\\)  .*/\\1/p'); do"
          "  grep -q \"^\\*$v\\*\" $page || echo $v; naru help --man $v | grep -q '^# OPTIONS' || echo $v;"
          "done");
}

TEST(one_mechanism_is_described)
{
    SHELL(0, "1\n2\n", "",
          "naru help urls posixmq > out; grep -c '^posixmq:/' out; grep -Ec '^ +[?](maxmsg|mode)=' out;"
          "! grep tcp: out; rm out");
    SHELL(0, "3\n", "", "naru help urls unix | grep -c '^unix:'");
    SHELL(0, "1\n", "", "naru help urls unix-dgram | grep -c '^unix:'");
    SHELL(2, "", "there is no mechanism 'smoke'; `naru help urls` describes", "naru help urls smoke");
    SHELL(0, "", "",
          "naru help urls shm > urls && naru help shm | cmp - urls && grep -q 'also.*shm:@' urls; rm urls");
    SHELL(2, "", "naru: there is no verb 'shm'; `naru help shm` describes the mechanism", "naru shm");
    SHELL(2, "", "naru help: unexpected 'now'", "naru help send now");
}

TEST(urls_are_described_from_the_table)
{
    SHELL(0, "", "",
          "naru help urls > urls; naru ls -m --json | python3 -c '"
          "import json, sys\n"
          "text = \" \".join(open(\"urls\").read().split())\n"
          "for m in json.load(sys.stdin):\n"
          "    if m[\"example\"] not in text or m[\"limit\"] not in text: print(m[\"name\"])'");
}

/* What bash would offer behind the line. */
#define COMPLETE(line)                                                                                       \
    "source <(naru completion bash); COMP_LINE='" line "'; COMP_POINT=${#COMP_LINE}; _naru;"                 \
    "printf '%s\\n' \"${COMPREPLY[@]}\" | sort | tr '\\n' ' '"

TEST(bash_completes_verbs_options_words_and_urls)
{
    SHELL(0, "recv ", "", COMPLETE("naru rec"));
    SHELL(0, "--json ", "", COMPLETE("naru recv --js"));
    SHELL(0, "len32 line ", "", COMPLETE("naru recv --frame l"));
    SHELL(0, "nul ", "", COMPLETE("naru send -f n"));
    SHELL(0, "line ", "", COMPLETE("naru recv --frame=li"));
    SHELL(0, "unix: ", "", COMPLETE("naru send uni"));
    SHELL(0, "bash ", "", COMPLETE("naru completion b"));
    SHELL(0, "sysvmq ", "", COMPLETE("naru ls sys"));
    SHELL(0, "urls ", "", COMPLETE("naru help url"));
    SHELL(0, " ", "", COMPLETE("naru recv --timeout 5"));
}

TEST(bash_completes_paths_within_urls)
{
    SHELL(0, "//landing.sock ", "", "touch landing.sock;" COMPLETE("naru send unix://landing.s"));
}

TEST(zsh_accepts_its_completion)
{
    if (access("/bin/zsh", X_OK) != 0 && access("/usr/bin/zsh", X_OK) != 0)
        test_skip("zsh is not installed");
    SHELL(0, "", "", "naru completion zsh > _naru && zsh -n _naru");
    SHELL(0, "", "",
          "naru completion zsh > _naru && zsh -f -c 'autoload -U compinit; compinit -D -u; source ./_naru'");
}
