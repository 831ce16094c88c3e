#!/bin/bash
# SPDX-License-Identifier: MIT
# naru bench and naru tour as a user runs them: every report can be read by the program it is for, every byte arrives,
# nothing is left behind. No figure is judged: how fast is not for tests to say. NARU_BUILD: where naru is.
set -u
naru=${NARU_BUILD:?expected the build directory}/naru
scratch=$(mktemp -d)
export TMPDIR=$scratch/tmp # what is left behind there is ours
mkdir "$TMPDIR"
# shellcheck source=tests/script.sh
. "$(dirname "$0")/script.sh"
# bash runs it in a background job, too, that is killed before it has begun (SIGTERM between fork and exec).
trap '[ "$BASHPID" = $$ ] && rm -rf "$scratch"' EXIT

# Before a command: its pid is in $scratch/pid.
# shellcheck disable=SC2016 # the inner shell's variables
note_pid=(bash -c 'echo $$ >"$0" && exec "$@"' "$scratch/pid")

# expect CODE COMMAND...: runs it, its output in $scratch/out and $scratch/err
expect() {
    local wanted=$1 got
    shift
    timeout 300 "${note_pid[@]}" "$@" >"$scratch/out" 2>"$scratch/err"
    got=$?
    [ $got -eq "$wanted" ] || fail "$* ended with $got instead of $wanted: $(cat "$scratch/out" "$scratch/err")"
}

says() { grep -qF -- "$2" "$scratch/$1" || fail "no '$2' in: $(cat "$scratch/$1")"; }

python() { python3 -c "$1" <"$scratch/out" 2>"$scratch/python" || fail "$(cat "$scratch/python")"; }

# nothing_is_left [PID]: no queues, segments and files that bear the name or key of the run by that process, or by that
# of the last expect. Others may run at the same time: theirs do not count.
nothing_is_left() {
    local pid=${1:-$(<"$scratch/pid")} key
    [ -z "$(ls "$TMPDIR")" ] || fail "left in the temporary directory: $(find "$TMPDIR" -printf "%P ") $(cat "$scratch/first" "$scratch/second" "$scratch/err" 2>/dev/null)" || return 1
    ! find /dev/mqueue /dev/shm 2>/dev/null | grep -E "naru-(bench|tour)-$pid\b" >&2 || fail "left by $pid" || return 1
    key=$(printf '0x4e%04x' $((pid & 0xffff))) # how the System V keys of a run begin
    ! ipcs -q -m -s | grep "^$key" >&2 || fail "left by $pid"
}

bench_prints_tables_and_the_ratio() {
    expect 0 "$naru" bench pipe sysvmq -r 3 -n 50 && says out "ping-pong, 64 B" && says out "a message holds at most" &&
        says out "3 interleaved rounds" && says out "Promise:" && nothing_is_left
}

bench_prints_json_with_every_round() {
    expect 0 "$naru" bench pipe unix -r 3 -n 50 -s 64,1k --json && python '
import json, sys
d = json.load(sys.stdin)
assert d["settings"]["rounds_done"] == 3, d["settings"]
assert len(d["results"]) == 4 * 3 * 2, len(d["results"])
for r in d["results"]:
    assert r["ratio"]["low_quartile"] <= r["ratio"]["median"] <= r["ratio"]["high_quartile"], r
    for who in ("naru", "bare"):
        assert len(r[who]["rounds"]) == 3 and r[who]["median"]["ns"] > 0, r
        l = r[who]["latency_ns"]
        assert 0 < l["min"] <= l["p50"] <= l["p90"] <= l["p99"] <= l["p99_9"] <= l["max"], l
'
}

bench_prints_csv_that_a_spreadsheet_reads() {
    expect 0 "$naru" bench pipe udp -r 1 -n 50 -s 64,64k --csv && python '
import csv, sys
rows = list(csv.DictReader(sys.stdin))
assert len(rows) == 2 * 2 * 3 * 2, len(rows)
assert all(None not in r and None not in r.values() for r in rows)
assert sum("65507" in r["reason"] for r in rows) == 6, [r["reason"] for r in rows]
assert all(float(r["ratio"]) > 0 for r in rows if not r["reason"])
'
}

bench_draws_svg_that_is_xml() {
    expect 0 "$naru" bench pipe tcp -r 1 -n 50 -s 64 --svg "$scratch/plot.svg" && cp "$scratch/plot.svg" "$scratch/out" && python '
import sys, xml.etree.ElementTree as tree
root = tree.parse(sys.stdin).getroot()
assert root.tag.endswith("svg")
texts = [t.text or "" for t in root.iter() if t.tag.endswith("text")]
assert "pipe" in texts and "tcp" in texts and any("ping-pong" in t for t in texts), texts
assert "nan" not in tree.tostring(root).decode()
'
}

bench_refuses_what_makes_no_sense() {
    expect 2 "$naru" bench nonsense && says err "there is no mechanism 'nonsense'" &&
        expect 2 "$naru" bench pip && says err "did you mean pipe?" &&
        expect 2 "$naru" bench --size 3 && says err "expected 4 to 16M bytes" &&
        expect 2 "$naru" bench --pattern nonsense && expect 2 "$naru" bench --json --csv &&
        expect 2 "$naru" bench exec && says err "cannot be measured" &&
        expect 3 "$naru" bench pipe --svg "$scratch/none/plot.svg" && [ ! -s "$scratch/out" ] # before it measures
}

# naru is not linked with them, naru-peers is with those that were there when it was built.
bench_compares_with_other_libraries() {
    local peers=$NARU_BUILD/naru-peers
    expect 3 "$naru" bench peers && says err './dev bench peers' && ! ldd "$naru" | grep -E 'nng|zmq' >&2 &&
        expect 2 "$peers" bench peers --svg "$scratch/plot.svg" && expect 2 "$peers" bench peers pipe &&
        expect 0 "$peers" bench peers -r 2 -n 50 -s 64 && says out times &&
        expect 0 "$peers" bench peers -r 2 -n 50 -s 64 --json && python '
import json, os, sys
d = json.load(sys.stdin)
modes = {(r["mode"], r["pattern"]) for r in d["results"]}
wanted = ["spin", "adaptive", "sleep"] if len(os.sched_getaffinity(0)) > 1 else ["sleep"]
assert modes == {(m, p) for m in wanted for p in ("pingpong", "stream")}, modes
for r in d["results"]:
    assert len(r["naru"]["rounds"]) == 2, r
    # asleep the bare kernel calls, too, in rows of their own
    kernel = "unix" in r
    assert not kernel or (r["mode"], r["pattern"]) == ("sleep", "pingpong"), r
    for who in ("unix", "futex") if kernel else ("nng", "nng-q", "zmq", "boost"):
        if "reason" in r[who]:
            assert "the package lib" in r[who]["reason"], r[who]
        else:
            assert len(r[who]["rounds"]) == 2 and r[who]["ratio"]["median"] > 0, r[who]
            assert kernel or r[who]["about"], r[who]
            of = "time per message" if kernel else "its time per message, over naru\u0027s"
            assert r[who]["ratio"]["of"] == of, r[who]
' && nothing_is_left
}

bench_measures_what_surrounds_messages() {
    expect 0 "$naru" bench life -r 2 && says out "first message" && says out "killed receiver" &&
        says out "idle memory" && says out "idle CPU" && nothing_is_left &&
        expect 0 "$naru" bench life -r 2 --json && python '
import json, sys
d = json.load(sys.stdin)
assert d["settings"]["rounds_done"] == 2, d["settings"]
by = {r["figure"]: r for r in d["results"]}
assert list(by) == ["first message", "killed receiver", "killed receiver, spinning",
                    "killed receiver, sleeping", "idle memory", "idle CPU"], list(by)
for name, r in by.items():
    for who in ("naru", "unix"):
        if who == "unix" and name.startswith("idle"):
            assert who not in r, r
            continue
        m = r[who]
        assert "reason" not in m, r
        assert len(m["rounds"]) == 2 and all(v > 0 for v in m["rounds"]), r
        assert min(m["rounds"]) <= m["low_quartile"] <= m["median"] <= m["high_quartile"] <= max(m["rounds"]), r
    assert ("ratio" in r) == ("difference" in r) == ("unix" in r), r
    assert r["promise"]["kept"] in (True, False), r
' && nothing_is_left && expect 2 "$naru" bench life --size 64 && says err "--rounds, --pin and --json alone" &&
        expect 2 "$naru" bench life pipe && says err "measured by itself"
}

bench_measures_loans() {
    if [ "$(nproc)" -lt 2 ]; then # both sides spin
        expect 1 "$naru" bench loan -r 2 -n 50 && says err "takes a CPU for each: there is only one"
        return
    fi
    expect 1 "$naru" bench loan --pin together && says err "leave out --pin together" &&
        expect 1 "$naru" bench loan --pattern batch && says err "not measured by such a pattern" &&
        expect 0 "$naru" bench loan -r 2 -n 50 && expect 2 "$naru" bench loan --svg "$scratch/plot.svg" &&
        expect 0 "$naru" bench loan -r 2 -n 50 --json && python '
import json, sys
d = json.load(sys.stdin)
got = {(r["mode"], r["pattern"], r["size"]) for r in d["results"]}
want = {(m, p, 1 << 20) for m in ("lent", "opened", "touched") for p in ("pingpong", "stream")}
assert got == want | {("touched 4M", "stream", 1 << 20)}, got
for r in d["results"]:
    beside = {"lent": {"16 B": 16, "64 B": 64, "bare": 1 << 20, "calls": 1 << 20}, "opened": {"16 B": 16, "64 B": 64},
              "touched": {"control": 1 << 20, "copied": 1 << 20}, "touched 4M": {"control": 1 << 20}}[r["mode"]]
    for who, size in {"naru": 1 << 20, **beside}.items():
        m = r[who]
        assert len(m["rounds"]) == 2 and m["median"]["ns"] > 0 and m.get("size", r["size"]) == size, (who, m)
        assert who == "naru" or m["ratio"]["median"] > 0, m
' && nothing_is_left
}

bench_ends_when_interrupted() {
    local pid key i
    # What runs in the background of a script ignores an interrupt otherwise.
    env --default-signal=INT "$naru" bench sysvmq -r 99 -d 10s >/dev/null 2>&1 &
    pid=$!
    key=$(printf '0x4e%04x' $((pid & 0xffff)))
    for ((i = 0; i < 6000; i++)); do # until there is something that could be left
        ipcs -q | grep -q "^$key" && break
        sleep 0.01
    done
    kill -INT $pid
    wait $pid
    [ $? -eq 130 ] || fail "an interrupted bench did not end with 130" || return 1
    [ $i -lt 6000 ] || fail "it was never seen to measure" || return 1
    nothing_is_left $pid
}

tour_verifies_every_row_or_says_why() {
    head -c 100001 /dev/urandom >"$scratch/file"
    expect 0 "$naru" tour "$scratch/file" --json && EXPECTED=$(sha256sum "$scratch/file" | cut -d' ' -f1) python '
import json, os, sys
d = json.load(sys.stdin)
assert d["file"]["sha256"] == os.environ["EXPECTED"], d["file"]
assert d["file"]["bytes"] == 100001
names = [r["mechanism"] for r in d["rows"]]
assert len(names) == len(set(names))
for must in ("pipe", "fifo", "unix-stream", "tcp", "udp", "sysvmq", "posixmq", "signal", "exec", "semaphore", "mutex", "event"):
    assert must in names, names
for r in d["rows"]:
    assert r["outcome"] in ("whole", "part", "handed over", "unavailable"), r
    assert r["outcome"] != "unavailable" or r["note"], r
    assert r["verified"] == (r["outcome"] in ("whole", "part")), r
    assert r["outcome"] == "unavailable" or r.get("round_trip_p50_ns", r.get("hand_off_p50_ns")), r
    for column in ("title", "use_when", "medium", "direction", "unit", "scope", "persistence", "limit", "wait"):
        assert r[column], (r["mechanism"], column)
' && nothing_is_left
}

tour_carries_odd_sizes() {
    local size signals
    for size in 1 3 4 1025 65535 65537; do
        head -c $size /dev/urandom >"$scratch/file"
        signals=() # four bytes each: of many a busy machine carries a part in the time that a row has
        [ $size -gt 2000 ] || signals=(-o signal)
        expect 0 "$naru" tour "$scratch/file" -o pipe "${signals[@]}" -o udp -o memfd -o exec --json && SIZE=$size python '
import json, os, sys
for r in json.load(sys.stdin)["rows"]:
    assert r["verified"] and r["carried_bytes"] >= int(os.environ["SIZE"]), r
' || return 1
    done
}

tour_fits_the_width() {
    local width
    for width in 80 120 220; do
        COLUMNS=$width expect 0 "$naru" tour -o pipe -o exec -o mutex || return 1
        # The first line and the last name files, however long their paths.
        ! sed '1d; /^  \//d' "$scratch/out" | grep -E "^.{$((width + 1))}" || fail "wider than $width" || return 1
    done
    says out "install it with" && ! grep -q "$(printf '\033')" "$scratch/out"
}

# Those with names and keys that outlive a process.
named=(-o fifo -o tcp -o sysvmq -o posixmq -o shm+posix -o shm+sysv -o mmap)

two_tours_at_once_do_not_meet() {
    local first second
    "$naru" tour "${named[@]}" --json >"$scratch/first" 2>&1 &
    first=$!
    "$naru" tour "${named[@]}" --json >"$scratch/second" 2>&1 &
    second=$!
    wait $first || fail "the first of two: $(cat "$scratch/first")" || return 1
    wait $second || fail "the second of two: $(cat "$scratch/second")" || return 1
    nothing_is_left "$first" && nothing_is_left "$second"
}

tour_leaves_nothing_when_interrupted() {
    local i pid code attempt
    for i in 1 3 5; do
        for ((attempt = 0; attempt < 20; attempt++)); do
            : >"$scratch/out" # or the lines of the tour before would count
            "$naru" tour "${named[@]}" >"$scratch/out" 2>&1 &
            pid=$!
            # Somewhere in the middle: after its i-th line of the table.
            for ((j = 0; j < 6000; j++)); do
                [ "$(wc -l <"$scratch/out")" -gt $((5 + i)) ] && break
                sleep 0.01
            done
            kill -TERM $pid 2>/dev/null
            wait $pid
            code=$?
            [ $code -eq 0 ] || break # it had come to its end before the signal
        done
        [ $code -eq 143 ] || fail "a terminated tour ended with another code: $(tail -n 3 "$scratch/out")" || return 1
        nothing_is_left $pid || return 1
    done
}

tour_refuses_what_it_cannot_read() {
    : >"$scratch/empty"
    expect 3 "$naru" tour "$scratch/none" && says err "No such file" && expect 1 "$naru" tour "$scratch/empty" &&
        says err "there is nothing to carry" && expect 1 "$naru" tour / && expect 2 "$naru" tour -o nonsense &&
        expect 2 "$naru" tour a b
}

tests=(bench_prints_tables_and_the_ratio bench_prints_json_with_every_round bench_prints_csv_that_a_spreadsheet_reads
bench_draws_svg_that_is_xml bench_refuses_what_makes_no_sense bench_compares_with_other_libraries
bench_measures_what_surrounds_messages bench_measures_loans bench_ends_when_interrupted
tour_verifies_every_row_or_says_why tour_carries_odd_sizes tour_fits_the_width two_tours_at_once_do_not_meet
tour_leaves_nothing_when_interrupted tour_refuses_what_it_cannot_read)

[ $# = 0 ] || tests=("$@")
run_tests "${tests[@]}"
