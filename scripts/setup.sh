#!/usr/bin/env bash
# Installs the tools that the tests drive, where they are missing.
set -euo pipefail
need=()
command -v promtool >/dev/null || need+=(prometheus)
command -v b3sum >/dev/null || need+=(b3sum)
command -v jq >/dev/null || need+=(jq)
command -v curl >/dev/null || need+=(curl)
command -v openssl >/dev/null || need+=(openssl)
command -v python3 >/dev/null || need+=(python3)
command -v ip >/dev/null || need+=(iproute2)
[ -x /usr/sbin/nginx ] || command -v nginx >/dev/null || need+=(nginx-light)
[ -x /sbin/mkfs.ext4 ] || command -v mkfs.ext4 >/dev/null || need+=(e2fsprogs)
command -v mount >/dev/null || need+=(mount)
command -v strace >/dev/null || need+=(strace)
command -v wrk >/dev/null || need+=(wrk)
command -v node >/dev/null || need+=(nodejs)
command -v npm >/dev/null || need+=(npm)
command -v gdb >/dev/null || need+=(gdb)
command -v gcc >/dev/null || need+=(gcc libc6-dev)
if [ ${#need[@]} -gt 0 ]; then
	sudo=; [ "$(id -u)" = 0 ] || sudo=sudo
	# A package's service must not start because a test wanted its tools.
	policy=
	if [ "$(id -u)" = 0 ] && [ ! -e /usr/sbin/policy-rc.d ]; then
		policy=/usr/sbin/policy-rc.d
		printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod +x "$policy"
	fi
	trap '[ -z "$policy" ] || rm -f "$policy"' EXIT
	$sudo apt-get update -qq
	DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends "${need[@]}" >/dev/null
fi
go mod download
# The tests of HTTP/2, in a version that test/h2spec pins.
mkdir -p bin
go -C test/h2spec build -o "$PWD/bin/h2spec" github.com/summerwind/h2spec/cmd/h2spec
# The tool that checks transparency logs, in a version that test/tlogfsck pins.
go -C test/tlogfsck build -o "$PWD/bin/tlog-fsck" github.com/transparency-dev/tessera/cmd/fsck
