#!/usr/bin/env bash
# Writes every golden file and generated reference anew from the code. The known
# answers of capability/testdata are not among them: they bind what is out there.
set -euo pipefail
cd "$(dirname "$0")/.."
packages=()
for p in . ./bundle ./tlog ./internal/config ./internal/node ./cmd/macronode ./cmd/ronctl; do
	if compgen -G "$p/*_test.go" >/dev/null && grep -q 'flag.Bool("update"' "$p"/*_test.go; then
		packages+=("$p")
	fi
done
for p in "${packages[@]}"; do
	go test -count=1 "$p" -update
done
git status --short -- '*.golden' '*.golden.json' '*.md' '*/testdata/*'
