#!/bin/bash
# SPDX-License-Identifier: MIT
# docs/mechanisms.md does what it says: each block of shell is run, and prints what its lines `# ->` promise; each block
# of C is compiled as the body of main(), run, and returns 0. Names, keys and ports are made this run's own, and nothing
# may be left behind. The Korean edition has the same blocks, and both cite every program of tests/claims/. In the same
# way docs/checklist.md: its block is run, and every test and file that it names exists.
# NARU_BUILD: where naru is.
set -u
build=${NARU_BUILD:?expected the build directory}
cd "$(dirname "$0")/.." || exit 2
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
export PATH=$build:$PATH
passed=0 failed=0 number=0
unique=naru-doc-$$x # no other process's begins so
port=$(tools/unused-ports 2) || exit 2

# Writes the blocks of a document to files: $2.NUMBER.HEADING.LANGUAGE
blocks() { # DOCUMENT PREFIX
    awk -v prefix="$2" '
        /^## / && !inside { heading = tolower($0); gsub(/[^a-z0-9]+/, "-", heading); sub(/^-/, "", heading) }
        /^```$/ && inside { inside = 0; close(file); next }
        /^```[a-z]+$/ { file = sprintf("%s.%02d.%s.%s", prefix, ++count, heading, substr($0, 4)); inside = 1; next }
        inside { print > file }' "$1"
}

# What is fixed in the text must not meet another run's.
make_unique() {
    local key
    printf -v key '0x6e%06x' $(($$ % 0x1000000))
    sed -e "s/naru-doc/$unique/g" -e "s/0x\(0000\)\?6e61/$key/g" -e "s/5047/$port/g" -e "s/5048/$((port + 1))/g"
}

leftovers() {
    find /tmp /dev/shm /dev/mqueue -maxdepth 1 -name "*$unique*" 2>/dev/null
    ipcs -q -m | grep -F "$(printf '0x6e%06x' $(($$ % 0x1000000)))"
}

run_sh() { # BLOCK
    make_unique <"$1" >"$scratch/run.sh"
    timeout 60 bash -e "$scratch/run.sh" >"$scratch/out" 2>&1 || { echo "ended with $?"; cat "$scratch/out"; return 1; }
    sed -n 's/^# -> //p' "$scratch/run.sh" | while read -r promised; do
        grep -qF -- "$promised" "$scratch/out" || { echo "no '$promised' in:"; cat "$scratch/out"; return 1; }
    done
}

run_c() { # BLOCK
    {
        printf '#include <%s.h>\n' arpa/inet errno fcntl mqueue netinet/in pthread semaphore signal stdbool stdio stdlib \
            string sys/inotify sys/ipc sys/mman sys/msg sys/sem sys/shm sys/socket sys/stat sys/un sys/wait unistd
        printf 'int main(void)\n{\n'
        make_unique <"$1"
        printf '}\n'
    } >"$scratch/run.c"
    ${CC:-cc} -std=c17 -D_GNU_SOURCE -Wall -Werror "$scratch/run.c" -o "$scratch/run" || return 1
    timeout 60 "$scratch/run" || { echo "ended with $?"; return 1; }
}

check() { # NAME COMMAND...
    local name=$1
    shift
    number=$((number + 1))
    if "$@" >"$scratch/said" 2>&1; then
        passed=$((passed + 1))
        echo "ok $number - $name"
    else
        failed=$((failed + 1))
        echo "not ok $number - $name"
        sed 's/^/#   /' "$scratch/said"
    fi
}

cites_every_claim() {
    local claim
    for claim in tests/claims/*.c; do
        grep -qF "(../$claim)" "$1" || { echo "$1 does not cite $claim"; return 1; }
    done
}

same_blocks() { # DOCUMENT DOCUMENT
    local i
    for i in 1 2; do
        awk '/^```/ { inside = !inside } inside' "${!i}" >"$scratch/all.$i"
    done
    diff "$scratch/all.1" "$scratch/all.2"
}

# What the links of a Markdown page call its headings.
anchors() { # DOCUMENT
    sed -n 's/^##* //p' "$1" | LC_ALL=C sed 's/[]!-,./:-@[\\^`{-~]//g; y/ABCDEFGHIJKLMNOPQRSTUVWXYZ /abcdefghijklmnopqrstuvwxyz-/'
}

# Every link leads to a file, and to a heading of it; every test program that is spoken of is there.
leads_somewhere() { # DOCUMENT
    local link file anchor word missing=0
    while IFS= read -r link; do
        file=${link%%#*} anchor=
        [[ $link != *#* ]] || anchor=${link#*#}
        if [ -n "$file" ]; then file=$(dirname "$1")/$file; else file=$1; fi
        [ -e "$file" ] || { echo "$1: there is no $file"; missing=1; continue; }
        [ -z "$anchor" ] || anchors "$file" | grep -qxF -- "$anchor" || { echo "$1: $file has no #$anchor"; missing=1; }
    done < <(grep -oE '\]\([^)]+' "$1" | sed 's/^](//' | grep -vE '^https?:')
    while read -r word; do
        compgen -G "tests/$word.*" >/dev/null || compgen -G "src/*/$word.c" >/dev/null ||
            compgen -G "src/*/*/$word.c" >/dev/null || { echo "$1: there is no $word"; missing=1; }
    done < <(grep -oE '\btest-[a-z]+(-[a-z]+)*' "$1" | sort -u)
    return $missing
}

# Every `test_name` of a table is in the program named before it.
names_what_exists() {
    local program word missing=0
    # shellcheck disable=SC2016 # Markdown's backquotes
    while read -r program word; do
        grep -qE "^(TEST|TEST_EACH)\(${word}[,)]|^${word}\(\)" tests/"$program".* src/*/"$program".c src/*/*/"$program".c 2>/dev/null ||
            { echo "$program has no $word"; missing=1; }
    done < <(grep '^|' "$1" | grep -oE '\btest-[a-z-]+:|`[a-z0-9]+(_[a-z0-9]+)+`' |
        awk '/^test-/ { program = substr($0, 1, length - 1); next } { gsub("`", ""); print program, $0 }')
    return $missing
}

# Those that are promised to be short: under 60 lines, each with a test that runs it.
are_short_and_run() { # EXAMPLE...
    local example
    for example; do
        [ "$(wc -l <"examples/$example.c")" -lt 60 ] || { echo "examples/$example.c is too long"; return 1; }
        grep -q "example-$example " tests/test-examples.c || { echo "nothing runs example-$example"; return 1; }
    done
}

nothing_is_left() {
    ! leftovers | grep .
}

blocks docs/mechanisms.md "$scratch/en"
for block in "$scratch"/en.*; do
    name=${block#"$scratch"/en.??.}
    check "mechanisms.md: ${name//-/ }" "run_${name##*.}" "$block"
done
blocks docs/shared-memory.md "$scratch/shm"
check 'shared-memory.md: commands' run_sh "$scratch/shm.01.using-it.sh"
blocks docs/checklist.md "$scratch/list"
check 'checklist.md: commands' run_sh "$scratch/list.01..sh"
for document in checklist mechanisms mechanisms.ko shared-memory; do
    check "$document.md names tests that exist" names_what_exists docs/$document.md
done
for document in ./*.md docs/*.md docs/decisions/*.md examples/*.md; do
    check "${document#./} leads to what exists" leads_somewhere "$document"
done
check 'examples of shared memory are short, and run' are_short_and_run jobs frames cycle gather ask ring
check 'nothing is left behind' nothing_is_left
check 'mechanisms.md cites every program of tests/claims' cites_every_claim docs/mechanisms.md
check 'mechanisms.ko.md cites every program of tests/claims' cites_every_claim docs/mechanisms.ko.md
check 'mechanisms.ko.md has the same commands and programs' same_blocks docs/mechanisms.md docs/mechanisms.ko.md
check 'README.ko.md has the same commands and programs' same_blocks README.md README.ko.md
echo "1..$number"
echo "$passed passed, $failed failed, 0 skipped"
[ "$failed" -eq 0 ]
