# SPDX-License-Identifier: MIT
# What test scripts share: a test is a function; those that fail say why with fail, and run_tests says so in TAP,
# the reason below the name, where tests/run looks for it. To be sourced.
# shellcheck shell=bash
: "${scratch:?expected a directory for scratch}"

# fail WORDS...: why the test fails, in as many lines as it takes
fail() { echo "$*" >>"$scratch/why"; return 1; }

# skip_unless WHY COMMAND...: without what the command asks for, the test is not run (`skip_unless ... || return 0`).
skip_unless() {
    "${@:2}" >/dev/null 2>&1 && return
    skip=$1
    return 1
}

run_tests() { # TEST...
    local passed=0 failed=0 skipped=0 number=0 test
    echo "TAP version 13"
    echo "1..$#"
    for test; do
        number=$((number + 1)) skip=
        : >"$scratch/why"
        if ! "$test" 2>>"$scratch/why"; then
            echo "not ok $number - $test"
            sed 's/^/#   /' "$scratch/why"
            failed=$((failed + 1))
        elif [ -n "$skip" ]; then
            echo "ok $number - $test # SKIP $skip"
            skipped=$((skipped + 1))
        else
            echo "ok $number - $test"
            passed=$((passed + 1))
        fi
    done
    echo "$passed passed, $failed failed, $skipped skipped"
    [ $failed -eq 0 ]
}
