#!/usr/bin/env bash
# Two builds of one commit, from two folders and two empty caches, give the same bytes.
set -euo pipefail
here=$PWD; out=$(mktemp -d); trap 'chmod -R u+w "$out"; rm -rf "$out"' EXIT
for copy in a b; do
	git clone -q "$here" "$out/$copy"
	(cd "$out/$copy" && GOCACHE="$out/$copy.cache" make -s build)
done
(cd "$out/a/bin" && sha256sum macronode ronctl) >"$out/sums"
(cd "$out/b/bin" && sha256sum -c "$out/sums")
