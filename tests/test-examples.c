/* SPDX-License-Identifier: MIT */
/* The examples that are over in a moment do what their first comment says. */
#include <sys/syscall.h>

#include "runner-shell.h"
#include "runner.h"

TEST(objects_are_serialised_sent_in_order_and_made_again)
{
    SHELL(0,
          "order 1: 3 x tea (32 bytes)\norder 2: 1 x kettle (35 bytes)\norder 3: 12 x cup (33 bytes)\n"
          "order 1: 3 x tea (49 bytes)\norder 2: 1 x kettle (52 bytes)\norder 3: 12 x cup (50 bytes)\n"
          "order 1: 3 x tea (11 bytes)\norder 2: 1 x kettle (14 bytes)\norder 3: 12 x cup (11 bytes)\n",
          "",
          "for as in json xml binary; do\n"
          "    example-objects fifo:orders & example-objects fifo:orders $as && wait $! || exit\n"
          "done\n"
          "rm orders");
}

TEST(what_is_no_object_is_refused)
{
    SHELL(1, "", "objects: that is no order: {\"id\":1}",
          "example-objects unix:orders & naru send -m '{\"id\":1}' unix:orders; wait $!");
    SHELL(2, "", "usage: objects URL", "example-objects");
}

TEST(jobs_are_produced_and_consumed_over_any_mechanism)
{
    SHELL(0,
          "job: first\njob: second\njob: first\njob: second\njob: first\njob: second\njob: first\njob: "
          "second\n",
          "",
          "for url in unix:jobs fifo:jobs.fifo tcp://127.0.0.1:$port shm://$PWD/jobs.shm; do\n"
          "    example-jobs $url & example-jobs $url first second && wait $! || exit\n"
          "done\n"
          "rm jobs.fifo");
}

TEST(questions_are_answered_by_a_program_with_its_own_loop)
{
    SHELL(0, "you said one\nyou said two\nyou said one\nyou said two\nyou said one\nyou said two\n", "",
          "for url in shm://$PWD/ask unix:ask tcp://127.0.0.1:$port; do\n"
          "    example-ask $url >said & example-ask $url one && example-ask $url two || exit\n"
          "    kill $!; wait $!\n"
          "done\n"
          "rm -f said ask ask.lock");
    /* One with no descriptor to poll. */
    SHELL(1, "", "ask: shm+posix:/naru-ask: shm+posix has no descriptor to poll",
          "example-ask shm+posix:/naru-ask; r=$?; naru rm -f shm+posix:/naru-ask; exit $r");
    SHELL(2, "", "ask: expected URL", "example-ask");
}

TEST(votes_are_gathered_once_all_voters_are_there)
{
    SHELL(0, "voter N has gone\nvoter N has gone\nvoter N: coffee\nvoter N: tea\n", "",
          "for url in shm://$PWD/votes unix:votes; do\n"
          "    example-gather $url 2 >said & example-gather $url vote tea & example-gather $url vote coffee "
          "&&\n"
          "        wait || exit\n"
          "    sed 's/voter [12]/voter N/; s/ (.*//; s/gone:.*/gone/' said | sort >$(basename $url).said\n"
          "done\n"
          "cmp votes.said unix:votes.said && cat votes.said; rm said ./*.said");
    SHELL(2, "", "usage: gather URL", "example-gather");
}

#define TEXT_OF(number) #number
#define TEXT(number)    TEXT_OF(number)
#define FUTEX           TEXT(SYS_futex) /* where a reader sleeps, by proc(5) */

TEST(a_reader_sleeps_until_a_writer_has_set_the_value_and_told)
{
    SHELL(0, "21.5\n22\n21.5\n22\n", "",
          "mkfifo shown\n"
          "for segment in mmap:$PWD/c shm+posix:/naru-cycle; do\n"
          "    example-cycle $segment >shown & exec 3<shown\n"
          "    for value in 21.5 22; do\n"
          "        call=; until [ \"$call\" = " FUTEX
          " ]; do read -r call rest </proc/$!/syscall || exit; done\n"
          "        example-cycle $segment $value && read -r line <&3 && echo $line || exit\n"
          "    done\n"
          "    kill $!; wait $!; naru rm $segment\n"
          "done; rm shown");
    SHELL(2, "", "usage: cycle SEGMENT", "example-cycle");
}

TEST(a_parent_measures_into_a_ring_and_its_child_prints)
{
    SHELL(0, "1: 20.1 degrees\n2: 20.2 degrees\n3: 20.3 degrees\n", "", "example-ring 3");
    SHELL(0, "1000: 120.0 degrees\n", "", "example-ring 1000 | tail -n 1"); /* twice round it, and more */
    SHELL(2, "", "usage: ring COUNT", "example-ring");
}

TEST(frames_are_kept_in_any_order)
{
    SHELL(0,
          "a frame of brightness 199\na frame of brightness 198\na frame of brightness 197\n"
          "a frame of brightness 199\na frame of brightness 198\na frame of brightness 197\n",
          "",
          "for url in shm://$PWD/camera unix:camera; do\n"
          "    example-frames $url & example-frames $url 200 && wait $! || exit\n"
          "done");
    SHELL(2, "", "usage: frames URL", "example-frames");
}
