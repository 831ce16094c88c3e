#!/bin/bash
# SPDX-License-Identifier: MIT
# Shared memory where the machine lacks something: a system call (a sandbox, an old kernel), room in /dev/shm, memory,
# address space, descriptors, /proc, a writable root. It works, or says what is missing.
# Speaks TAP, as tests/run expects. NARU_BUILD: where the naru command and the test programs are.
# shellcheck disable=SC2016 # single quotes: what is in them is for another shell
set -u
build=${NARU_BUILD:?expected the build directory}
naru=$build/naru
without=$build/plain-without
scratch=$(mktemp -d)
group=
# shellcheck source=tests/script.sh
. "$(dirname "$0")/script.sh"
# bash runs it in a background job, too, that is killed before it has begun (SIGTERM between fork and exec).
trap '[ "$BASHPID" = $$ ] && { leave_group; rm -rf "$scratch"; }' EXIT
export XDG_RUNTIME_DIR=$scratch # where names of shm: stand

# Whether the programs of this build are not instrumented: a sanitizer needs /proc, address space and calls of its own.
is_plain() { ! grep -q __asan_init "$naru" && ! grep -q __tsan_init "$naru"; }

# passes COMMAND...: a test program that says so
passes() {
    timeout 300 "$@" >"$scratch/out" 2>&1
    grep -q '^[1-9][0-9]* passed, 0 failed' "$scratch/out" ||
        fail "$*: $(grep -A 3 '^not ok' "$scratch/out" || tail -n 3 "$scratch/out")"
}

# The tests that send over shared memory, run by a command.
all_of_shm() { # COMMAND...
    local program
    for program in abilities ends interrupts kills memory messages waiting; do
        passes "$@" "$build/test-conformance-$program" shm || return
    done
    for program in loan loop pool connect format; do
        passes "$@" "$build/test-shm-$program" || return
    done
}

# carries RECEIVER... -- SENDER...: 2000 messages of a kilobyte, and one of 3 MB, arrive; the words come before naru
carries() {
    local receiver=() sender
    while [ "$1" != -- ]; do
        receiver+=("$1")
        shift
    done
    sender=("${@:2}")
    local url='shm://carries?wait=sleep'
    [ -e "$scratch/in" ] || seq 400000 | head -c 3000000 >"$scratch/in"
    timeout 100 "${receiver[@]}" "$naru" recv -t 60s -n 1 -f raw "$url" >"$scratch/large" 2>"$scratch/err.r" &
    timeout 100 "${sender[@]}" "$naru" send -t 60s -f whole "$url" <"$scratch/in" 2>"$scratch/err.s"
    wait $!
    cmp -s "$scratch/in" "$scratch/large" || fail "the large one: $(cat "$scratch"/err.?)" || return
    timeout 100 "${receiver[@]}" "$naru" recv -t 60s "$url" >"$scratch/lines" 2>"$scratch/err.r" &
    timeout 100 "${sender[@]}" "$naru" send -t 60s "$url" <"$scratch/in" 2>"$scratch/err.s"
    wait $!
    cmp -s "$scratch/in" "$scratch/lines" || fail "the lines: $(cat "$scratch"/err.?)"
}

# refuses WORDS COMMAND...: it fails, and says this
refuses() {
    local words=$1
    shift
    ! timeout 60 "$@" >"$scratch/out" 2>&1 || fail "$* did not fail" || return
    grep -qF -- "$words" "$scratch/out" || fail "no '$words' in: $(cat "$scratch/out")"
}

# says WORDS MISSING: who connects, and who listens, says it when the call is missing there.
says() {
    local words=$1 missing=$2 other r
    timeout 100 "$naru" recv shm://says >"$scratch/other" 2>&1 &
    other=$!
    refuses "$words" "$without" "$missing" "$naru" send -t 20s -m x shm://says
    r=$?
    kill $other 2>/dev/null
    wait $other
    [ $r = 0 ] || return
    timeout 100 "$naru" send -m x shm://says >"$scratch/other" 2>&1 &
    other=$!
    refuses "$words" "$without" "$missing" "$naru" recv -t 20s -n 1 shm://says
    r=$?
    kill $other 2>/dev/null
    wait $other
    return $r
}

it_works_without_membarrier() {
    all_of_shm "$without" membarrier=ENOSYS && carries "$without" membarrier=EPERM -- "$without" membarrier=EPERM
}

it_works_where_one_side_has_no_membarrier() {
    carries "$without" membarrier=ENOSYS -- env && carries env -- "$without" membarrier=EPERM
}

it_works_where_the_kernel_populates_no_memory() {
    all_of_shm "$without" populate-read=EINVAL populate-write=EINVAL
}

it_works_where_forks_wipe_nothing() {
    all_of_shm "$without" wipe-on-fork=EINVAL
}

what_seccomp_forbids_is_named() {
    says 'memfd_create: Function not implemented; a sandbox' memfd_create=ENOSYS &&
        says 'memfd_create: Operation not permitted; a sandbox' memfd_create=EPERM &&
        says 'this kernel cannot seal shared memory' add-seals=EINVAL &&
        says 'cannot seal shared memory (F_ADD_SEALS): Operation not permitted; a sandbox' add-seals=EPERM &&
        says 'cannot ask for the seals of memory (F_GET_SEALS): Operation not permitted; a sandbox' get-seals=EPERM &&
        says 'cannot reserve shared memory (pwritev): Operation not permitted; a sandbox' pwritev=EPERM
}

# One message from one to the other, under a limit at one of the two (SIDE); its words are in $scratch/said, by a pipe:
# a limit of files is one of files that it writes, too. Who cannot go on is not waited for by the other.
under_limit() { # SIDE OPTION LIMIT
    local side=$1 url=shm:@limit.$$.$2.$3 limited=(bash -c 'ulimit -S "$0" "$1"; exec "${@:2}"' "$2" "$3") other
    if [ "$side" = send ]; then
        "$naru" recv -t 60s -n 1 "$url" >"$scratch/got" 2>"$scratch/other" &
        other=$!
        timeout 60 "${limited[@]}" "$naru" send -t 20s -m hello "$url" 2>&1 | cat >"$scratch/said"
    else
        "$naru" send -t 60s -m hello "$url" 2>"$scratch/other" &
        other=$!
        { timeout 60 "${limited[@]}" "$naru" recv -t 20s -n 1 "$url" | cat >"$scratch/got"; } 2>&1 |
            cat >"$scratch/said"
    fi
    [ ! -s "$scratch/said" ] || kill $other
    wait $other 2>/dev/null
    [ ! -s "$scratch/said" ]
}

# limited OPTION FROM TO STEP WORDS: with each limit of ulimit(1) it works or says why not, at either end; both occur.
limited() {
    local option=$1 from=$2 to=$3 step=$4 words=$5 worked=0 refused=0 limit side
    for ((limit = from; limit <= to; limit += step)); do
        for side in send recv; do
            if under_limit $side "$option" "$limit"; then
                [ "$(<"$scratch/got")" = hello ] ||
                    fail "ulimit $option $limit, $side: $(cat "$scratch/got" "$scratch/other")" || return
                worked=$((worked + 1))
            else
                grep -qE -- "$words" "$scratch/said" ||
                    fail "ulimit $option $limit, $side: $(cat "$scratch/said")" || return
                refused=$((refused + 1))
            fi
        done
    done
    if [ $worked = 0 ] || [ $refused = 0 ]; then fail "worked $worked times, refused $refused times"; fi
}

a_limit_of_descriptors_is_named() {
    limited -n 4 24 1 'Too many open files|RLIMIT_NOFILE|error while loading shared'
}

a_limit_of_address_space_is_named() {
    skip_unless 'a sanitizer needs terabytes of address space' is_plain || return 0
    limited -v 20000 320000 20000 'no room in the address space|memory'
}

a_limit_of_file_sizes_is_named() {
    limited -f 0 200000 50000 'ulimit -f'
}

it_needs_no_room_in_dev_shm() {
    skip_unless 'needs root, to mount' unshare --mount true || return 0
    local full=(unshare --mount bash -c 'mount -t tmpfs -o size=4k tmpfs /dev/shm && head -c 4096 /dev/zero >/dev/shm/fill &&
        ! touch /dev/shm/x && echo x >/dev/shm/y; exec "$@"' bash)
    carries "${full[@]}" -- "${full[@]}"
}

# Where this process stands among the groups that can limit memory: cgroups(7), of either version. A new group may have
# to be beside it (version 2: none below one that has processes), and root's alone to make.
places_for_groups() {
    local path
    path=$(sed -n 's/^[0-9]*:memory://p' /proc/self/cgroup)
    [ -z "$path" ] || echo "/sys/fs/cgroup/memory$path"
    path=$(sed -n 's/^0:://p' /proc/self/cgroup)
    find /sys/fs/cgroup /sys/fs/cgroup/unified -maxdepth 0 2>/dev/null | sed "s|\$|$path|; p; s|/[^/]*\$||"
}

# enter_group BYTES: makes a group with so much memory, no swap, and the words `inside` that put a command there.
enter_group() {
    local place
    leave_group
    for place in $(places_for_groups); do
        group=$place/naru-test-$$
        mkdir "$group" 2>/dev/null || continue
        if { [ -e "$group/memory.max" ] && echo "$1" >"$group/memory.max" && echo 0 >"$group/memory.swap.max"; } ||
            { [ -e "$group/memory.limit_in_bytes" ] && echo "$1" >"$group/memory.limit_in_bytes" &&
                echo 0 >"$group/memory.swappiness"; }; then
            inside=(bash -c 'echo $$ >"$0/cgroup.procs" && exec "$@"' "$group")
            "${inside[@]}" true && return
        fi
        leave_group
    done
    group=
    return 1
}

# The last process may be on its way out.
leave_group() {
    [ -n "$group" ] || return 0
    timeout 20 bash -c 'until rmdir "$0" 2>/dev/null || [ ! -e "$0" ]; do :; done' "$group"
    group=
}

# How many processes the kernel has killed in the group.
killed() { sed -n 's/^oom_kill //p' "$group/memory.events" "$group/memory.oom_control" 2>/dev/null; }

# The most memory that it has had, in bytes.
most() { cat "$group/memory.peak" 2>/dev/null || cat "$group/memory.max_usage_in_bytes"; }

# Whatever becomes of what is in it, the group is removed.
in_group() { # BYTES TEST
    local r
    skip_unless 'a sanitizer needs much memory' is_plain || return 0
    skip_unless 'no memory cgroup can be made' enter_group "$1" || return 0
    "$2"
    r=$?
    leave_group
    return $r
}

carries_inside() {
    carries "${inside[@]}" -- "${inside[@]}" && { [ "$(killed)" = 0 ] || fail "killed: $(killed)"; }
}

it_works_with_little_memory() { in_group 16M carries_inside; }

# Memory that a cgroup lacks is no error of a call: the kernel kills.
sends_too_much() {
    local url=shm://too-much receiver
    timeout 100 "$naru" recv -t 60s "$url" >"$scratch/got" 2>"$scratch/said" &
    receiver=$!
    head -c 30000000 /dev/zero | timeout 60 "${inside[@]}" "$naru" send -t 20s -f whole "$url" 2>"$scratch/err"
    wait $receiver
    [ "$(killed)" != 0 ] || fail 'it was not killed' || return
    grep -qF 'was killed' "$scratch/said" || fail "the receiver says: $(cat "$scratch/said")"
}

who_is_killed_for_want_of_memory_is_a_death_to_its_peer() { in_group 4M sends_too_much; }

# hoard OPTIONS PLACE...: a receiver, inside, to whom a hostile sender describes these places of its pool of 512 MB.
hoard() {
    local path=$scratch/hoard receiver
    timeout 100 "${inside[@]}" "$naru" recv -t 60s -f raw "shm://$path?$1" >"$scratch/got" 2>"$scratch/said" &
    receiver=$!
    timeout 20 bash -c 'until [ -S "$0" ]; do :; done' "$path"
    timeout 60 python3 "$(dirname "$0")/shm-hoarder.py" "$path" $((512 << 20)) "${@:2}" 2>"$scratch/err"
    wait $receiver
}

hoards() {
    local mb=$((1 << 20))
    hoard 'pool=1M&max-message=1M' 0:$mb 0:$mb 0:$mb $((64 * mb)):$mb
    grep -qF 'naru cannot have written' "$scratch/said" || fail "$(cat "$scratch/said" "$scratch/err")" || return
    [ "$(stat -c %s "$scratch/got")" = $((3 * mb)) ] || fail 'what is within the budget did not arrive' || return
    if [ "$(killed)" != 0 ] || [ "$(most)" -ge $((12 * mb)) ]; then
        fail "$(killed) killed, $(most) bytes at the most"
    fi
}

a_hostile_pool_costs_no_more_memory_than_its_reader_allows() { in_group 16M hoards; }

# A root of its own with nothing but naru, a shell and their libraries, read-only; with a directory /t to write in.
# contained SCRIPT: runs it there, in namespaces of every kind.
contained() {
    local file root=$scratch/root
    if [ ! -e "$root/naru" ]; then
        mkdir "$root" "$root/t" "$root/dev"
        : >"$root/dev/null" # the shell opens it for what runs in the background; naru does not
        cp "$naru" "$root/naru"
        cp "$(command -v dash || command -v sh)" "$root/sh"
        for file in $(ldd "$root/naru" "$root/sh" | grep -o '/[^ :]*\.so[^ :]*' | sort -u); do
            mkdir -p "$root$(dirname "$file")"
            cp -Ln "$file" "$root$file"
        done
    fi
    timeout 100 unshare --user --map-root-user --mount --pid --net --ipc --uts --fork bash -c '
        mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && mount -t tmpfs -o mode=700 tmpfs "$0/t" &&
        exec env -i "$(command -v chroot || echo /usr/sbin/chroot)" "$0" /sh -c "$1"' "$root" "$1" >"$scratch/out" 2>&1
}

arrives() { # URL [BEFORE]
    contained "${2:-} /naru recv -t 30s -n 1 '$1' & ${2:-} /naru send -t 30s -m arrived '$1'; wait"
    grep -qx arrived "$scratch/out" || fail "$1: $(cat "$scratch/out")"
}

in_a_bare_container_it_works_or_says_what_is_missing() {
    skip_unless 'no right to make namespaces' \
        unshare --user --map-root-user --mount --pid --net --ipc --uts --fork true || return 0
    skip_unless 'a sanitizer needs /proc' is_plain || return 0
    arrives shm:@x && arrives shm:///t/s && arrives shm://name XDG_RUNTIME_DIR=/t || return
    contained '/naru recv -t 5s -n 1 shm://name'
    grep -qF 'set XDG_RUNTIME_DIR' "$scratch/out" || fail "no directory for names: $(cat "$scratch/out")" || return
    contained '/naru recv -t 5s -n 1 shm:///s'
    grep -qF 'Read-only file system' "$scratch/out" || fail "a root that is read-only: $(cat "$scratch/out")"
}

tests=(it_works_without_membarrier it_works_where_one_side_has_no_membarrier
    it_works_where_the_kernel_populates_no_memory it_works_where_forks_wipe_nothing what_seccomp_forbids_is_named
    a_limit_of_descriptors_is_named a_limit_of_address_space_is_named a_limit_of_file_sizes_is_named
    it_works_with_little_memory who_is_killed_for_want_of_memory_is_a_death_to_its_peer
    a_hostile_pool_costs_no_more_memory_than_its_reader_allows it_needs_no_room_in_dev_shm in_a_bare_container_it_works_or_says_what_is_missing)

[ $# = 0 ] || tests=("$@")
run_tests "${tests[@]}"
