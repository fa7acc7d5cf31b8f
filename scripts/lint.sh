#!/usr/bin/env bash
# Formatting, vet, staticcheck, and the rules of the house.
set -euo pipefail
unformatted=$(gofmt -l $(git ls-files '*.go'))
if [ -n "$unformatted" ]; then
	echo "not gofmt-ed:" && echo "$unformatted" && exit 1
fi
go mod verify >/dev/null
go vet ./...
go vet -tags zk,arti,amnesia,netns ./...
go tool staticcheck ./...
go test -count=1 ./internal/archtest
