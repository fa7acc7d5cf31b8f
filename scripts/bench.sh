#!/usr/bin/env bash
# The node beside its peers: objects read and written, names looked up, memory at one large object,
# a million small ones, hashing, overload, TLS, changes
# under load, idle sessions, policy, capabilities, the second wire, the mailbox, the audit log. Writes docs/performance.md between its
# markers and bin/bench/report.json. A full run takes an hour, on a machine that
# does nothing else.
#
#   BENCH            parts: "get names put footprint million hash overload tls steady idle policy caps oap mailbox audit"
#   BENCH_ROUNDS     5     rounds, servers in turn
#   BENCH_GET_TIME   4s    a wrk run; also a run of "million", "tls", "oap", "mailbox" and "idle"
#   BENCH_PUT_TIME   6s    a put run
#   BENCH_SIZES      "1KiB 64KiB 1MiB 16MiB"
#   BENCH_CACHE      256MiB  data.cache_bytes of the node that is read from
#   BENCH_LARGE      5GiB  the object of "footprint"
#   BENCH_FEW, BENCH_MANY   1000, 1000000  objects of "million"
#   BENCH_HASH_TIME  1s    a benchmark of b3
#   BENCH_TURN       300ms a turn of "policy" and "caps", in processor time
#   OVERLOAD_SECONDS 20    a phase of "overload"
#   OVERLOAD_SERVERS "macronode MinIO nginx"
#   OVERLOAD_REQUESTS "get:1MiB get:2MiB put:64KiB put:256KiB"
#   STEADY_REQUESTS  200000  of "steady"
#   STEADY_RATE      1500  of them a second
#   MAILBOX_ONLY     of "mailbox": some of "send lone batch receive syncs topics waiting many"; all
#   MAILBOX_WHO      "macronode NATS Redis append"  who is raced in it
#   MAILBOX_BACKLOG  200000   messages that "receive" takes
#   MAILBOX_QUEUED   10000000 messages of 1 KiB that "many" queues
#   MAILBOX_TOPICS, MAILBOX_WAITING   10000, 1000
#   AUDIT_ONLY       of "audit": some of "append lag cpu large"; all
#   AUDIT_RECORDS    10000000  records of "large": 10 GB in BENCH_DIR
#   BENCH_DIR        bin/bench  scratch; needs a real disk with 20 GB free
#   BENCH_OUT, BENCH_JSON   docs/performance.md, bin/bench/report.json
#   BENCH_MINIO      a MinIO binary; without it one is built with go install
#   BENCH_NATS       a nats-server; without it one is built with go install
#   BENCH_NGINX, BENCH_WRK, BENCH_REDIS, BENCH_REDIS_BENCHMARK   nginx, wrk, redis-server, redis-benchmark
#
# A short run that leaves the document alone:
#   BENCH="get put" BENCH_ROUNDS=1 BENCH_GET_TIME=1s BENCH_PUT_TIME=1s BENCH_CACHE=16MiB BENCH_OUT=bin/bench/try.md ./scripts/bench.sh
#   BENCH=mailbox MAILBOX_ONLY=send BENCH_ROUNDS=1 BENCH_GET_TIME=2s BENCH_OUT=bin/bench/try.md ./scripts/bench.sh
#   BENCH=audit AUDIT_RECORDS=200000 BENCH_ROUNDS=1 BENCH_GET_TIME=2s BENCH_OUT=bin/bench/try.md ./scripts/bench.sh
#   BENCH=overload OVERLOAD_SECONDS=5 OVERLOAD_SERVERS=macronode BENCH_OUT=bin/bench/try.md ./scripts/bench.sh
set -euo pipefail
export MACRONODE_BIN=${MACRONODE_BIN:-$PWD/bin} BENCH_DIR=${BENCH_DIR:-$PWD/bin/bench}
parts=${BENCH:-get names put footprint million hash overload tls steady idle policy caps oap mailbox audit}
# Parts beside libraries: test/peers, a module of its own.
peers=
for part in policy caps oap mailbox audit; do
	[[ " $parts " == *" $part "* ]] || continue
	peers+=" $part"; parts=" $parts "; parts=${parts/ $part / }
done
storm=${OVERLOAD_SERVERS:-macronode MinIO nginx}
[[ " $parts " == *" overload "* ]] || storm=
mkdir -p "$BENCH_DIR" bin/bench
minio_version=v0.0.0-20250907161309-07c3a429bfed
nats_version=v2.15.2

# build_server MODULE VERSION FILE: builds a server from its source.
build_server() {
	echo "building $1 $2; this takes minutes"
	local build; build=$(mktemp -d "$PWD/bin/bench/build-XXXXXX"); trap "rm -rf '$build'" EXIT
	(cd / && GOBIN=$build CGO_ENABLED=0 go install "$1@$2")
	mv "$build"/* "$3"; rm -rf "$build"; trap - EXIT
}

need=()
case " $parts " in *" get "* | *" names "*) command -v wrk >/dev/null || need+=(wrk) ;; esac
case " $parts " in *" footprint "*) command -v curl >/dev/null || need+=(curl) ;; esac
case " $storm " in *" nginx "*) command -v "${BENCH_NGINX:-nginx}" >/dev/null || need+=(nginx-light) ;; esac
if [[ "$peers " == *" mailbox "* ]]; then
	command -v wrk >/dev/null || need+=(wrk)
	command -v strace >/dev/null || need+=(strace)
	command -v "${BENCH_REDIS:-redis-server}" >/dev/null || need+=(redis-server)
fi
command -v findmnt >/dev/null && command -v taskset >/dev/null || need+=(util-linux)
if [ ${#need[@]} -gt 0 ]; then
	sudo=; [ "$(id -u)" = 0 ] || sudo=sudo
	$sudo apt-get update -qq
	DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends "${need[@]}" >/dev/null
fi
if [[ " $parts " =~ \ (get|put)\  || " $storm " == *" MinIO "* ]] && [ -z "${BENCH_MINIO:-}" ]; then
	BENCH_MINIO=$PWD/bin/bench/minio-$minio_version
	[ -x "$BENCH_MINIO" ] || build_server github.com/minio/minio "$minio_version" "$BENCH_MINIO"
	export BENCH_MINIO
fi
if [[ "$peers " == *" mailbox "* ]] && [ -z "${BENCH_NATS:-}" ]; then
	BENCH_NATS=$PWD/bin/bench/nats-server-$nats_version
	[ -x "$BENCH_NATS" ] || build_server github.com/nats-io/nats-server/v2 "$nats_version" "$BENCH_NATS"
	export BENCH_NATS
fi
if [ -n "$peers" ]; then
	out=$(realpath "${BENCH_OUT:-docs/performance.md}")
	go build -C test/peers -o "$PWD/bin/bench/peers" .
	BENCH=$peers BENCH_OUT=$out BENCH_JSON=$PWD/bin/bench/peers.json bin/bench/peers
fi
[ -n "${parts// }" ] || exit 0
go build -o bin/bench/bench ./test/bench
BENCH=$parts exec bin/bench/bench
