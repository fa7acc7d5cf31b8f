#!/usr/bin/env bash
# Breaks the code in the places that test/mutants lists, one at a time and in
# memory only; each time the named tests must fail. Exits with 1 where a mutant
# survives, with 2 where the table no longer fits the code.
# Takes the flags of the program: --list, --run REGEXP, --parallel N, --timeout D.
# Without any it does all, and writes docs/mutants.md.
set -euo pipefail
[ $# -eq 0 ] || exec go run ./test/mutants "$@"
log=$(mktemp); trap 'rm -f "$log"' EXIT
code=0
go run ./test/mutants 2>&1 | tee "$log" || code=$?
[ $code -lt 2 ] && grep -q '^\[.*killed' "$log" || exit 2
{
	echo "# Mutants"
	echo
	echo "Written by \`make mutants\` at commit \`$(git rev-parse HEAD)\`: each line is the code broken in one place, and the test that noticed."
	echo "The places are in [test/mutants/table](../test/mutants/table), each with what would go wrong."
	echo
	grep -E '^[0-9]+ mutants: ' "$log"
	echo
	echo '```'
	grep -E '^\[[0-9]+/[0-9]+\] (killed|SURVIVED|ERROR)' "$log" | sed -E 's/^\[[0-9]+\/[0-9]+\] //; s/ \([0-9.]+s\)$//'
	echo '```'
} >docs/mutants.md
exit $code
