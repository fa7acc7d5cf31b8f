#!/usr/bin/env bash
# The full counts of what make test does a few times. Hours in all; parts can be
# run alone, and each count can be set from outside:
#
#   MACRONODE_TORTURE="full slow" make torture     # these parts
#   MACRONODE_FULL_CYCLES=10 make torture
#
# Each part writes its own section of docs/torture.md and leaves the others alone.
# The file systems of part full are mounted, so that part needs root.
set -euo pipefail
cd "$(dirname "$0")/.."
export MACRONODE_BIN=${MACRONODE_BIN:-$PWD/bin}
export MACRONODE_CRASH_SEEDS=${MACRONODE_CRASH_SEEDS:-5000}
export MACRONODE_KILL_ROUNDS=${MACRONODE_KILL_ROUNDS:-100}
export MACRONODE_FULL_CYCLES=${MACRONODE_FULL_CYCLES:-100}
export MACRONODE_FULL_KILLS=${MACRONODE_FULL_KILLS:-30}
export MACRONODE_SLOW_UPLOADS=${MACRONODE_SLOW_UPLOADS:-10000}
export MACRONODE_RANDOM_RANGES=${MACRONODE_RANDOM_RANGES:-100000}
export MACRONODE_MAILBOX_ROUNDS=${MACRONODE_MAILBOX_ROUNDS:-200}
export MACRONODE_DAMAGE_SPOTS=${MACRONODE_DAMAGE_SPOTS:-20}
races=${MACRONODE_QUOTA_RACES:-20}
known="stores kill mailbox full quota slow ranges"
parts=${MACRONODE_TORTURE:-$known}
for part in $parts; do
	[[ " $known " == *" $part "* ]] || { echo "there is no part \"$part\"; there are: $known" >&2; exit 2; }
done
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
failed=0

# torture PART WHAT GO-TEST-ARGUMENTS...: runs the tests and writes the section.
torture() {
	local part=$1 what=$2 begun=$SECONDS verdict=passed; shift 2
	[[ " $parts " == *" $part "* ]] || return 0
	printf '\n== %s: %s\n' "$part" "$what"
	go test -timeout 12h -v "$@" 2>&1 | tee "$work/log" || { verdict=FAILED; failed=1; }
	{
		echo "## $part"
		echo
		echo "$what."
		echo
		echo "$verdict in $((SECONDS - begun)) s, on $(date -u +%F), at commit $(git rev-parse --short=12 HEAD)$(git diff --quiet HEAD -- '*.go' || echo ' with changes')."
		echo
		echo '```'
		grep -E '^ *--- |^(ok|FAIL|panic:)|^ +[a-z_]+_test.go:' "$work/log" | cut -c1-200 | tail -n 60
		echo '```'
		echo
	} >"$work/$part.md"
}

torture stores "Each store: $MACRONODE_KILL_ROUNDS rounds of kill -9 in a process of its own, $MACRONODE_CRASH_SEEDS crashes of a simulated disk, from seed 1" \
	-count=1 -run 'Kill|Crash|Fault|Forget|Damage|Marker' ./internal/store/... ./internal/svc/storage/... ./internal/svc/kms/...
torture kill "The whole node: $MACRONODE_KILL_ROUNDS rounds of kill -9 under eight clients that put, delete and put again" \
	-count=1 -run '^TestKill$' ./test
torture mailbox "The whole node's mailbox: $MACRONODE_MAILBOX_ROUNDS rounds of kill -9 under eight clients that send, receive and settle; ordered keys under kills; each file of it damaged in $MACRONODE_DAMAGE_SPOTS places and cut" \
	-count=1 -run '^(TestKillMailbox|TestKillMailboxOrder|TestMailboxDamage)$' ./test
torture full "A full disk: $MACRONODE_FULL_CYCLES times filled and freed, with restarts, drains and kills while full; $MACRONODE_FULL_KILLS times killed under writers that have no room" \
	-count=1 -run '^(TestDiskFull|TestKillFull|TestMailboxDiskFull)$' ./test
torture quota "64 writers race against a quota, with a kill in the middle: $races times" \
	-count="$races" -run '^TestQuotaRace$' ./test
torture slow "$MACRONODE_SLOW_UPLOADS uploads at once that hardly move" \
	-count=1 -run '^TestSlowUploads$' ./test
torture ranges "$MACRONODE_RANDOM_RANGES random ranges, answered as nginx does" \
	-count=1 -run '^TestRanges$' ./test

# section PART: what the last run of a part wrote.
section() {
	if [ -f "$work/$1.md" ]; then
		cat "$work/$1.md"
	elif [ -f docs/torture.md ]; then
		awk -v head="## $1" '$0 == head {on = 1; print; next} /^## / {on = 0} on' docs/torture.md
	fi
}
{
	echo "# Torture"
	echo
	echo "Written by \`make torture\`: what \`make test\` does a few times, in full. A part may be of an earlier run; each says of which commit."
	echo
	for part in $known; do section "$part"; done
} >"$work/all"
cp "$work/all" docs/torture.md
exit $failed
