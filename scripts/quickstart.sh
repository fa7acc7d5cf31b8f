#!/usr/bin/env bash
# The runbook's quickstart and pre-production checklist, run for real: build
# matrix, a node from a signed bundle, the four probes, the size limit, readiness
# when a required service is down, restart after a crash.
set -euo pipefail
bin=${MACRONODE_BIN:-$PWD/bin}
work=$(mktemp -d); pid=
cleanup() { [ -z "$pid" ] || kill -9 "$pid" 2>/dev/null || true; rm -rf "$work"; }
trap cleanup EXIT
say() { printf '\n== %s\n' "$*"; }
fail() { echo "FAILED: $*" >&2; [ ! -f "$work/log" ] || tail -20 "$work/log" >&2; exit 1; }
free_port() { python3 -c 'import socket; s=socket.socket(); s.bind(("127.0.0.1",0)); print(s.getsockname()[1])'; }
until_true() { # until_true WHAT COMMAND...: at most 20 s
	local what=$1 end=$((SECONDS + 20)); shift
	until "$@"; do [ $SECONDS -lt $end ] || fail "$what"; sleep 0.02; done
}
ready_is() { [ "$(curl -s -o "$work/readyz" -w '%{http_code}' "$url/readyz" || true)" = "$1" ]; }

say "a production data directory, plaintext on loopback, and its signed bundle"
port=$(free_port); oap=$(free_port); url=http://127.0.0.1:$port
data=$work/data; conf=$data/macronode.bundle.toml
"$bin/macronode" init --data "$data" --http "127.0.0.1:$port" --oap "127.0.0.1:$oap" --tls none --tenant acme --recovery-out "$work/recovery.key"
sed -i 's/^\[server\]$/[server]\ndrills = true/' "$conf"
"$bin/macronode" bundle sign "$conf" --data "$data" --bump
"$bin/macronode" bundle verify "$conf" --data "$data"
"$bin/macronode" config validate "$conf" --data "$data"
"$bin/macronode" check --config "$conf" --data "$data"

say "run (dev TLS off; signed config bundle)"
RUST_LOG=info "$bin/macronode" --config "$conf" --data "$data" 2>"$work/log" &
pid=$!
until_true "the node becomes ready" ready_is 200
grep -q 'KernelEvent::ConfigUpdated{version=2}' "$work/log" || fail "no ConfigUpdated event"
hash=$("$bin/macronode" bundle hash "$conf")
grep -q "$hash" "$work/log" || fail "the log does not tell the bundle's hash"

say "health and version"
[ "$(curl -s -o /dev/null -w '%{http_code}' "$url/healthz")" = 200 ] || fail "/healthz"
curl -s "$url/readyz" | jq -e '.ready == true and (.checks | map(.name) | index("entropy")) != null' >/dev/null || fail "/readyz"
curl -s "$url/version" | jq -e '.service == "macronode" and .semver and .git_sha' >/dev/null || fail "/version"
curl -s "$url/version" | jq -e '.features == {zk: false, arti: false, amnesia: false, pq: true}' >/dev/null || fail "features"
diff <(curl -s "$url/version" | jq -S 'del(.node_id, .config, .pq)') <("$bin/macronode" version --json | jq -S 'del(.node_id, .config, .pq)') || fail "/version is not the binary's"

say "metrics"
scrape() { curl -s "$url/metrics" >"$work/metrics"; }
scrape; sed -n 1,4p "$work/metrics"
promtool check metrics <"$work/metrics" || fail "promtool"
[ "$(grep -c request_latency_seconds_bucket "$work/metrics")" -gt 0 ] || fail "no latency buckets"
grep -q '^ready_state{state="true"} 1' "$work/metrics" || fail "ready_state"

say "413 on oversize"
python3 - "$port" >"$work/oversize" <<'PY' || fail "the one-liner failed"
import socket, sys
s = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
payload = b"X" * (1024 * 1024 + 1)
s.sendall(b"POST /ingress HTTP/1.1\r\nHost: x\r\nContent-Length: " + str(len(payload)).encode() + b"\r\n\r\n" + payload)
print(s.recv(1024))
PY
grep -q ' 413 ' "$work/oversize" || fail "no 413: $(cat "$work/oversize")"

say "readiness is false while a required service is down, true on recovery"
export RON_NODE=$url RON_CAP=@$data/operator.cap
crash() { # crash SERVICE HOLD_MS
	curl -sf -X POST -H "Authorization: Bearer $(cat "$data/operator.cap")" -H 'Content-Type: application/json' \
		-d "{\"service\":\"$1\",\"hold_ms\":$2}" "$url/v1/admin/drills/service-crash" >/dev/null || fail "crash drill"
}
crash svc-overlay 1500
until_true "/readyz says 503 for a service that is down" ready_is 503
jq -e '.ready == false and (.missing | index("svc-overlay")) != null' "$work/readyz" >/dev/null || fail "the body does not name it: $(cat "$work/readyz")"
until_true "/readyz recovers" ready_is 200

restarted() { scrape; grep -q "^service_restarts_total{service=\"svc-storage\"} $1\$" "$work/metrics"; }
say "crash and restart: median under a second"
for i in $(seq 9); do
	before=$(date +%s%N)
	crash svc-storage 0
	until_true "svc-storage goes down" restarted "$i"
	until_true "svc-storage restarts" ready_is 200
	echo $((($(date +%s%N) - before) / 1000000))
	# More than five restarts a minute would mark it degraded and space them out.
	[ "$i" -lt 5 ] || break
done | sort -n | awk '{t[NR]=$1} END {m=t[int((NR+1)/2)]; print "median " m " ms of " NR; exit !(m < 1000)}' || fail "restart takes a second or more"

say "a second process on the directory is refused, and told who holds it"
code=0; "$bin/macronode" run --config "$conf" --data "$data" 2>"$work/second" || code=$?
[ $code = 10 ] && grep -q "$pid" "$work/second" || fail "exit $code: $(cat "$work/second")"

say "SIGTERM drains and stops with 0"
kill -TERM "$pid"; code=0; wait "$pid" || code=$?; pid=
[ $code = 0 ] || fail "exit $code"
echo; echo "quickstart passed"
