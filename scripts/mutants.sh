#!/usr/bin/env bash
# Breaks the code in the places that test/mutants lists, one at a time and in
# memory only; each time the named tests must fail. Exits with 1 where a mutant
# survives, with 2 where the table no longer fits the code.
# Takes the flags of the program: --list, --run REGEXP, --parallel N, --timeout D.
set -euo pipefail
exec go run ./test/mutants "$@"
