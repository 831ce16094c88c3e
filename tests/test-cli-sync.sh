#!/bin/bash
# SPDX-License-Identifier: MIT
# naru lock, sem and event as a shell uses them: who gets in, what is passed on, and what a kill leaves behind.
# Speaks TAP, as tests/run expects. NARU_BUILD: where the naru command is.
# shellcheck disable=SC2016 # single quotes: what is in them is for the shell that naru runs
set -u
naru=${NARU_BUILD:?expected the build directory}/naru
scratch=$(mktemp -d)
id=cli-test-$$
key=0x6d$(printf %06x $((BASHPID & 0xffffff)))

# shellcheck source=tests/script.sh
. "$(dirname "$0")/script.sh"
cleanup() {
    local kind
    # bash runs it in a background job, too, that is killed before it has begun (SIGTERM between fork and exec).
    [ "$BASHPID" = $$ ] || return 0
    for kind in mutex semaphore event; do rm -f /dev/shm/naru.$kind.$id-*; done
    "$naru" rm -f "sem+sysv:$key" 2>/dev/null
    "$naru" rm -f "sem+posix:/$id" "shm+posix:/$id" "shm+sysv:$key" 2>/dev/null
    rm -rf "$scratch"
}
trap cleanup EXIT

# expect CODE COMMAND...: runs it, its output in $scratch/out and $scratch/err
expect() {
    local wanted=$1 got
    shift
    timeout 100 "$@" >"$scratch/out" 2>"$scratch/err"
    got=$?
    [ $got -eq "$wanted" ] || fail "$* ended with $got instead of $wanted: $(cat "$scratch/err")"
}

says() { grep -qF -- "$2" "$scratch/$1" || fail "no '$2' in: $(cat "$scratch/$1")"; }

# until COMMAND...: waits until it succeeds, a minute at most
until_true() {
    local i
    for ((i = 0; i < 6000; i++)); do
        "$@" >/dev/null 2>&1 && return 0
        sleep 0.01
    done
    fail "never came true: $*"
}

exit_status_is_passed_on() {
    expect 7 "$naru" lock $id-a -- sh -c 'exit 7' && expect 0 "$naru" lock $id-a -- true &&
        expect 137 "$naru" lock $id-a -- sh -c 'kill -9 $$' &&
        expect 5 "$naru" sem $id-a run -- sh -c 'exit 5' &&
        expect 127 "$naru" lock $id-a -- ./no-such-command && says err "cannot run './no-such-command'" &&
        expect 126 "$naru" lock $id-a -- /etc/passwd && expect 127 "$naru" sem $id-a run -- ./no-such-command
}

holding() { [ -e "$scratch/held" ]; }

hold() { # VERB-AND-NAME...: runs a command that holds it until $scratch/held goes; $holder is naru's pid
    rm -f "$scratch/held"
    "$naru" "$@" -- bash -c 'echo $$ >$0/pid; : >$0/held; while [ -e $0/held ]; do sleep 0.02; done; exit 0' \
        "$scratch" &
    holder=$!
    until_true holding
}

let_go() { rm -f "$scratch/held"; wait "$holder"; }

a_held_lock_is_waited_for_or_not() {
    hold lock $id-b || return 1
    expect 124 "$naru" lock --try $id-b -- true && says err "held by process $holder" &&
        expect 124 "$naru" lock --timeout 50ms $id-b -- true &&
        expect 0 "$naru" lock --status $id-b && says out "held by process $holder" &&
        expect 0 "$naru" lock --status --json $id-b && says out '"held": true' &&
        expect 1 "$naru" lock --remove $id-b && says err "held by process $holder" || return 1
    let_go || fail "the holder ended with $?" || return 1
    expect 0 "$naru" lock --try $id-b -- true && expect 0 "$naru" lock --status $id-b && says out free &&
        expect 0 "$naru" lock --remove $id-b || return 1
    echo 'no lock' >/dev/shm/naru.mutex.$id-b
    expect 0 "$naru" lock --remove $id-b && expect 3 "$naru" lock --remove $id-b
}

count_under_lock() {
    local i
    for ((i = 0; i < 25; i++)); do
        "$naru" lock $id-c -- sh -c 'n=$(cat "$0"); echo $((n + 1)) >"$0"' "$scratch/counter" || return 1
    done
}

no_update_is_lost() {
    local i pids=()
    echo 0 >"$scratch/counter"
    for ((i = 0; i < 4; i++)); do
        count_under_lock &
        pids+=($!)
    done
    for i in "${pids[@]}"; do wait "$i" || fail "a worker failed" || return 1; done
    [ "$(cat "$scratch/counter")" = 100 ] || fail "counted to $(cat "$scratch/counter") instead of 100"
}

# Nobody may have asked for its status: what was orphaned is for init to reap, which in a container may not.
is_gone() { ! kill -0 "$1" || grep -q ') Z' "/proc/$1/stat"; }

a_killed_holder_hands_the_lock_over_and_the_next_is_told() {
    local command
    hold lock $id-d || return 1
    command=$(cat "$scratch/pid")
    kill -9 "$holder"
    expect 0 "$naru" lock -t 60s $id-d -- echo mine && says out mine && says err "process $holder, which held it, died" &&
        expect 0 "$naru" lock --status --json $id-d && says out "\"last_dead\": $holder" &&
        until_true is_gone "$command" && expect 0 "$naru" lock $id-d -- true &&
        { [ ! -s "$scratch/err" ] || fail "said twice: $(cat "$scratch/err")"; }
}

signals_reach_the_command() {
    rm -f "$scratch/held"
    "$naru" lock $id-e -- bash -c 'trap "exit 42" USR1; : >$0/held; while :; do sleep 0.02; done' \
        "$scratch" &
    holder=$!
    until_true holding || return 1
    kill -USR1 "$holder"
    wait "$holder"
    [ $? -eq 42 ] || fail "USR1 did not reach it" || return 1
    hold lock $id-e || return 1
    kill -TERM "$holder"
    wait "$holder"
    [ $? -eq 143 ] || fail "TERM did not end it" || return 1
    expect 0 "$naru" lock --try $id-e -- true
}

a_waiter_is_ended_by_a_signal() {
    local waiter code
    hold lock $id-f || return 1
    # An interactive Ctrl-C; what runs in the background of a script ignores it otherwise.
    (trap - INT; exec "$naru" lock $id-f -- touch "$scratch/never") &
    waiter=$!
    until_true grep -q ') S' /proc/$waiter/stat || return 1
    kill -TERM $waiter
    wait "$waiter"
    code=$?
    [ $code -eq 143 ] || fail "the waiter ended with $code" || return 1
    let_go
    [ ! -e "$scratch/never" ] || fail "its command ran"
}

what_makes_no_sense_is_refused() {
    expect 2 "$naru" lock $id-g && says err "expected a command" && expect 2 "$naru" lock $id-g -- &&
        expect 2 "$naru" lock $id-g ls -l && says err "go behind '--'" &&
        expect 2 "$naru" lock --mode 999 $id-g -- true && says err octal && expect 2 "$naru" lock a/b -- true &&
        expect 2 "$naru" lock --json $id-g -- true && expect 3 "$naru" lock --remove $id-g &&
        expect 3 "$naru" lock --status $id-g && says err "nobody has made it" &&
        expect 2 "$naru" sem $id-g fly && says err "post, wait, get, run or rm" && expect 2 "$naru" sem $id-g run &&
        expect 2 "$naru" sem $id-g get -- true && expect 2 "$naru" sem $id-g post 0 &&
        expect 2 "$naru" sem $id-g get 3 && expect 3 "$naru" sem $id-g get && expect 3 "$naru" sem $id-g rm &&
        expect 2 "$naru" sem --value 1 sem+posix:/x post && expect 2 "$naru" event $id-g jump &&
        expect 3 "$naru" event $id-g get && expect 3 "$naru" event $id-g pulse && expect 3 "$naru" event $id-g rm &&
        expect 2 "$naru" event --auto --manual $id-g set && expect 3 "$naru" sem sem+posix:/$id get
}

permissions_decide() {
    [ "$(id -u)" = 0 ] || { skip="needs root to become another user"; return 0; }
    local nobody=(setpriv --reuid 65534 --regid 65534 --clear-groups)
    "${nobody[@]}" test -x "$naru" || { skip="another user cannot reach the build directory"; return 0; }
    expect 0 "$naru" lock $id-h -- true && expect 4 "${nobody[@]}" "$naru" lock $id-h -- true &&
        says err "maker decides" && expect 4 "${nobody[@]}" "$naru" lock --remove $id-h &&
        expect 0 "$naru" lock --mode 0666 $id-i -- true && expect 0 "${nobody[@]}" "$naru" lock $id-i -- true
}

# As many seats as units: of more than that inside at once one finds none. (Nobody counts by looking into a directory:
# who leaves and who comes while it is read may both be seen.)
enter_and_leave() {
    "$naru" sem --value 2 $id-j run -- bash -c '
        for seat in "$0/seat.1" "$0/seat.2"; do
            if mkdir "$seat" 2>/dev/null; then rmdir "$seat"; exit; fi
        done; : >"$0/crowd"' "$scratch"
}

n_at_once_and_no_more() {
    local i pids=()
    for ((i = 0; i < 24; i++)); do
        enter_and_leave &
        pids+=($!)
    done
    for i in "${pids[@]}"; do wait "$i" || fail "a worker failed" || return 1; done
    [ ! -e "$scratch/crowd" ] || fail "more than two were inside" || return 1
    expect 0 "$naru" sem --json $id-j get && says out '"value": 2' && says out '"held": 0'
}

a_unit_is_held_as_long_as_the_command_lives() {
    local command
    hold sem $id-k run || return 1
    command=$(cat "$scratch/pid")
    kill -9 "$holder" # naru: the command goes on, and so does its unit
    expect 124 "$naru" sem --try $id-k run -- true && expect 0 "$naru" sem $id-k get && says out 0 &&
        expect 1 "$naru" sem $id-k rm && says err "it would let more in" || return 1
    kill -9 "$command"
    expect 0 "$naru" sem --timeout 60s $id-k run -- true && expect 0 "$naru" sem $id-k rm
}

units_are_posted_and_taken() {
    expect 0 "$naru" sem $id-l post 3 && expect 0 "$naru" sem $id-l wait 2 && expect 0 "$naru" sem $id-l get &&
        says out 1 && expect 0 "$naru" sem $id-l wait && expect 124 "$naru" sem --try $id-l wait &&
        expect 124 "$naru" sem -t 20ms $id-l wait && expect 0 "$naru" sem $id-l rm || return 1
    "$naru" sem --max 1 $id-l wait &
    until_true "$naru" sem --json $id-l get || return 1
    expect 0 "$naru" sem $id-l post
    wait $! || fail "the waiter ended with $?" || return 1
    expect 0 "$naru" sem $id-l post && expect 1 "$naru" sem $id-l post && says err "at most 1"
}

other_programs_semaphores_are_shared() {
    local url
    for url in "sem+posix:/$id" "sem+sysv:$key"; do
        expect 0 "$naru" sem "$url?create&value=1" post && expect 0 "$naru" sem "$url" get && says out 2 &&
            expect 0 "$naru" sem "$url" run -- "$naru" sem "$url" get && says out 1 &&
            expect 0 "$naru" sem "$url" wait 2 && expect 0 "$naru" sem --json "$url" get && says out '"value": 0' &&
            expect 124 "$naru" sem --try "$url" run -- true && expect 124 "$naru" sem -t 20ms "$url" wait || return 1
    done
    ls /dev/shm/sem.$id >/dev/null || fail "not where sem_open() looks" || return 1
    ipcs -s | grep -qi "$key" || fail "ipcs does not list $key" || return 1
    expect 0 "$naru" sem "sem+sysv:$key" rm && expect 3 "$naru" sem "sem+sysv:$key" get
}

a_system_v_unit_comes_back_from_the_dead() {
    hold sem "sem+sysv:$key?create&value=1" run || return 1
    kill -9 "$holder"
    expect 0 "$naru" sem -t 60s "sem+sysv:$key" run -- true
}

events_let_through() {
    "$naru" event $id-m wait &
    until_true "$naru" event $id-m get || return 1
    expect 0 "$naru" event $id-m set
    wait $! || fail "the waiter ended with $?" || return 1
    expect 0 "$naru" event --json $id-m get && says out '"set": false' && says out '"reset": "auto"' &&
        expect 124 "$naru" event --try $id-m wait && expect 124 "$naru" event -t 20ms $id-m wait &&
        expect 2 "$naru" event --manual $id-m get && expect 0 "$naru" event --manual $id-n set &&
        expect 0 "$naru" event $id-n wait && expect 0 "$naru" event $id-n wait &&
        expect 0 "$naru" event $id-n get && says out "set (manual-reset)" && expect 0 "$naru" event $id-n pulse &&
        expect 124 "$naru" event --try $id-n wait && expect 0 "$naru" event $id-n reset &&
        expect 0 "$naru" event $id-n rm
}

shared_memory_is_read_and_written() {
    local url
    for url in "shm+posix:/$id" "shm+sysv:$key" "mmap://$scratch/mapped"; do
        expect 3 "$naru" segment "$url" read && expect 0 "$naru" segment "$url" create 27 &&
            expect 1 "$naru" segment "$url" create 27 && says err "segment $url rm" && expect 0 "$naru" segment "$url" write <<<3 &&
            expect 0 "$naru" segment -l 1 "$url" read && [ "$(cat "$scratch/out")" = 3 ] &&
            expect 0 "$naru" segment "$url" size && says out 27 && expect 0 "$naru" segment --json "$url" size &&
            says out '"bytes": 27' && expect 1 "$naru" segment -o 20 -l 8 "$url" read && [ ! -s "$scratch/out" ] &&
            says err "8 bytes at 20 reach past its end at 27" && expect 1 "$naru" segment -o 28 "$url" read &&
            says err "past its end" && expect 0 "$naru" segment -o 20 -l 7 "$url" read && expect 1 "$naru" segment -o 26 "$url" write <<<too-much && says err "makes room" &&
            expect 0 "$naru" segment "$url" rm && expect 3 "$naru" segment "$url" size || return 1
    done
    url=mmap://$scratch/grown
    expect 0 "$naru" segment "$url" create 1k && expect 0 "$naru" segment "$url" grow 4k &&
        expect 0 "$naru" segment "$url" size && says out 4096 && expect 1 "$naru" segment "$url" grow 1k &&
        says err "cannot shrink" && expect 0 "$naru" segment -o 4095 "$url" write < <(printf x) &&
        cmp -s <(tail -c 1 "$scratch/grown") <(printf x) && expect 2 "$naru" segment "$url" create &&
        expect 2 "$naru" segment memfd: size && expect 2 "$naru" segment "$url" read 3 &&
        expect 2 "$naru" segment "$url" shake && expect 2 "$naru" segment tcp://:1 read
}

tests=(exit_status_is_passed_on a_held_lock_is_waited_for_or_not no_update_is_lost
    a_killed_holder_hands_the_lock_over_and_the_next_is_told signals_reach_the_command a_waiter_is_ended_by_a_signal
    what_makes_no_sense_is_refused permissions_decide n_at_once_and_no_more
    a_unit_is_held_as_long_as_the_command_lives units_are_posted_and_taken other_programs_semaphores_are_shared
    a_system_v_unit_comes_back_from_the_dead events_let_through shared_memory_is_read_and_written)

[ $# = 0 ] || tests=("$@")
run_tests "${tests[@]}"
