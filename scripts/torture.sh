#!/usr/bin/env bash
# The full counts: kill -9 rounds against the real binary, crash seeds a store.
# Writes docs/torture.md. Takes hours; counts can be set from outside.
set -euo pipefail
rounds=${MACRONODE_KILL_ROUNDS:-100} seeds=${MACRONODE_CRASH_SEEDS:-5000}
export MACRONODE_KILL_ROUNDS=$rounds MACRONODE_CRASH_SEEDS=$seeds MACRONODE_BIN=${MACRONODE_BIN:-$PWD/bin}
log=$(mktemp); trap 'rm -f "$log"' EXIT
begun=$(date +%s)
go test -count=1 -timeout 12h -v -run 'Kill|Crash|Fault|Marker' ./internal/store/... ./internal/svc/storage/... ./internal/svc/kms/... | tee -a "$log"
go test -count=1 -timeout 12h -v -run TestKill ./test | tee -a "$log"
{
	echo "# Torture"
	echo
	echo "Written by \`make torture\`."
	echo
	echo "- commit: $(git rev-parse HEAD)"
	echo "- kill -9 rounds: $rounds (each store's own process, and the whole node)"
	echo "- crash seeds a store: $seeds, from 1"
	echo "- time: $((($(date +%s) - begun) / 60)) minutes"
	echo "- failures: $(grep -c '^--- FAIL' "$log" || true)"
	echo
	echo '```'
	grep -E '^(--- |ok|FAIL|    [a-z_]+_test.go)' "$log" | cut -c1-160
	echo '```'
} >docs/torture.md
! grep -q '^--- FAIL' "$log"
