#!/usr/bin/env bash
# Builds all eight combinations of the optional features; each binary must say
# in its version document exactly what is in it.
set -euo pipefail
out=$(mktemp -d); trap 'rm -rf "$out"' EXIT
for tags in "" zk arti amnesia zk,arti zk,amnesia arti,amnesia zk,arti,amnesia; do
	CGO_ENABLED=0 go build -trimpath -tags "$tags" -o "$out/macronode" ./cmd/macronode
	CGO_ENABLED=0 go build -trimpath -tags "$tags" -o "$out/ronctl" ./cmd/ronctl
	for f in zk arti amnesia; do
		want=false; [[ ",$tags," == *",$f,"* ]] && want=true
		got=$("$out/macronode" version --json | jq -r ".features.$f")
		[ "$got" = "$want" ] || { echo "tags '$tags': features.$f is $got, want $want" >&2; exit 1; }
	done
	echo "built with tags '$tags'"
done
