#!/usr/bin/env bash
# Writes docs/acceptance.md: each promise of the product, the command that shows
# it, and what the command printed. Fails where a promise does not hold.
set -euo pipefail
root=$PWD; out=$root/docs/acceptance.md
work=$(mktemp -d); pid=; prod=
cleanup() { for p in $pid $prod; do kill -9 "$p" 2>/dev/null || true; done; rm -rf "$work"; }
trap cleanup EXIT
export PATH=$root/bin:$PATH HOME=$work W=$work ROOT=$root
cd "$work"

{
	echo "# Acceptance"
	echo
	echo "Each promise, the command that shows it, and what it printed. Written by \`make acceptance\`; \`\$W\` is its scratch folder, \`\$ROOT\` the checkout."
	echo
	echo "Binary: \`$(macronode version | head -n1)\`"
} >"$out"

# prove PROMISE WANT COMMAND: the output must match the extended regular
# expression WANT; the exit code is part of the output.
prove() {
	local promise=$1 want=$2 cmd=$3 got code=0
	got=$(bash -c "$cmd" 2>&1) || code=$?
	got+=$'\n'"[exit $code]"
	if ! grep -Eqz -- "$want" <<<"$got"; then
		printf 'FAILED: %s\n$ %s\n%s\nwant: %s\n' "$promise" "$cmd" "$got" "$want" >&2
		exit 1
	fi
	{
		printf '\n## %s\n\n```console\n$ %s\n' "$promise" "$cmd"
		sed -e "s#$work#\$W#g; s#$root#\$ROOT#g" <<<"$got" | cut -c1-300 | sed -n '1,24p'
		printf '```\n'
	} >>"$out"
	echo "ok: $promise"
}
start() { # start LOGFILE COMMAND...: runs in the background, sets $started
	local log=$1; shift
	"$@" >"$log" 2>&1 &
	started=$!
}
await() { local end=$((SECONDS + 20)); until "$@" >/dev/null 2>&1; do [ $SECONDS -lt $end ] || { echo "timed out: $*" >&2; tail -5 "$W"/*.log >&2; exit 1; }; sleep 0.05; done; }
dev() { rm -f "$W/dev/endpoints.json"; start "$W/dev.log" macronode run --data "$W/dev" --http 127.0.0.1:0 --oap 127.0.0.1:0; pid=$started
	await test -s "$W/dev/endpoints.json"; URL=$(jq -r .http "$W/dev/endpoints.json"); export URL RON_NODE=$URL; await ronctl node ready; }

# --- a development node, as a newcomer starts it
dev
export RON_CAP=@$W/dev/tenant.cap OP=@$W/dev/operator.cap
head -c 3000000 /dev/urandom >big; echo hello >hello.txt; mkdir tree; cp big hello.txt tree/

prove "Bytes are named by their BLAKE3, as b3sum says" '(b3:[0-9a-f]{64}).*\1' 'ronctl put big; echo "b3:$(b3sum --no-names big)"'
prove "What was put comes back, verified" 'same' 'ronctl get "b3:$(b3sum --no-names big)" -o back && cmp big back && echo same'
prove "Putting the same again stores nothing new" '"existed": true' 'ronctl put hello.txt >/dev/null; ronctl put hello.txt --output json'
prove "A directory goes in and out by manifest" 'equal' 'ronctl put -r tree --manifest m.json && ronctl get -r m.json -o tree2 && diff -r tree tree2 && echo equal'
prove "Any range is served as RFC 9110 says" 'HTTP/1.1 206.*bytes 1000000-1000009/3000000.*10' 'curl -s -D- -o part -H "Authorization: Bearer $(cat dev/tenant.cap)" -H "Range: bytes=1000000-1000009" "$URL/o/b3:$(b3sum --no-names big)" | grep -E "HTTP|Content-Range|ETag"; stat -c %s part; cmp -n 10 part big 0 1000000'
prove "Conditional requests, several ranges at once, and ranges beyond the end" '304.*206.*multipart/byteranges.*416.*bytes \*/3000000' 'A=b3:$(b3sum --no-names big); g() { curl -s -o /dev/null -w "%{http_code} %{content_type} %header{content-range}\n" -H "Authorization: Bearer $(cat dev/tenant.cap)" -H "$1" "$URL/o/$A"; }; g "If-None-Match: \"$A\""; g "Range: bytes=0-1,10-11"; g "Range: bytes=3000000-"'
prove "A wrong digest is refused and nothing is stored" 'bad_digest.*not_found' 'A=b3:$(printf 0%.0s $(seq 64)); H="Authorization: Bearer $(cat dev/tenant.cap)"; curl -s -X PUT -H "$H" --data-binary @hello.txt "$URL/o/$A"; echo; curl -s -H "$H" "$URL/o/$A"'
prove "An upper-case address is malformed" '"status":400' 'curl -s -H "Authorization: Bearer $(cat dev/tenant.cap)" "$URL/o/B3:$(printf A%.0s $(seq 64))"'
prove "Without a capability nothing is allowed" '401.*[Ww][Ww][Ww]-Authenticate: Bearer.*unauthenticated' 'curl -si "$URL/v1/objects"'
prove "A forged capability is refused" '"code":"forged"' 'T=$(cat dev/tenant.cap); curl -s -H "Authorization: Bearer ${T%??????}AAAAAA" "$URL/v1/objects"'
prove "A capability is narrowed offline, by anyone, and widened by nobody" 'actions in .*does not cover.*exit 6' 'ronctl cap attenuate --actions object:get --expires 1h >reader.cap; ronctl cap show @reader.cap; echo new | ronctl --cap @reader.cap put -'
prove "A revoked capability is dead at once" '"code":"revoked"' 'ronctl --cap $OP cap revoke @reader.cap >/dev/null; curl -s -H "Authorization: Bearer $(cat reader.cap)" "$URL/o/b3:$(b3sum --no-names hello.txt)"'
prove "Shells complete both commands" 'bash completion.*zsh completion' 'ronctl completion bash | head -n1; macronode completion zsh | grep -m1 "zsh completion"'
prove "The operator gets at the data of no tenant" 'exit 6' 'ronctl --cap $OP ls'
prove "A stranger cannot tell what a tenant holds: what is there and what is not answer alike" 'status.*status.*alike' 'ronctl --cap $OP tenant create acme >/dev/null; ronctl --cap $OP cap mint --tenant acme >acme.cap; H="Authorization: Bearer $(cat acme.cap)"; for a in "$(b3sum --no-names big)" "$(printf 1%.0s $(seq 64))"; do curl -s -H "$H" "$URL/o/b3:$a" | jq -c "{status, code, detail}" | tee -a stranger; done; [ "$(sort -u stranger | wc -l)" = 1 ] && echo alike'
prove "Stored bytes and objects are held to the quota, exactly" 'quota_objects' 'N=$(ronctl --cap $OP tenant usage dev --output json | jq .objects); ronctl --cap $OP tenant quota dev --objects $N >/dev/null; head -c 99 /dev/urandom | ronctl put -; ronctl --cap $OP tenant quota dev --objects unlimited >/dev/null'
prove "A rate quota applies to the next call and says when to come back" 'quota_rate.*retry_after_ms' 'ronctl --cap $OP tenant quota dev --requests-per-s 1 --request-burst 1 >/dev/null; for i in 1 2; do curl -s -H "Authorization: Bearer $(cat dev/tenant.cap)" "$URL/v1/objects?limit=1"; done; ronctl --cap $OP tenant quota dev --requests-per-s unlimited --request-burst unlimited >/dev/null'
prove "A suspended tenant is refused, and resumed" 'tenant_suspended.*objects' 'H="Authorization: Bearer $(cat dev/tenant.cap)"; ronctl --cap $OP tenant suspend dev >/dev/null; curl -s -H "$H" "$URL/v1/objects"; ronctl --cap $OP tenant resume dev >/dev/null; curl -s -H "$H" "$URL/v1/objects?limit=1"'
prove "A repeated write with an Idempotency-Key gives the first answer" 'Idempotency-Replayed: true' 'H="Authorization: Bearer $(cat dev/tenant.cap)"; for i in 1 2; do curl -si -X POST -H "$H" -H "Idempotency-Key: k1" --data-binary @hello.txt "$URL/o" | grep -iE "^HTTP|replayed"; done'
prove "A compressed upload that expands too far is refused" '"code":"decompress"' 'head -c 200000000 /dev/zero | gzip -9 >bomb.gz; curl -s -X POST -H "Authorization: Bearer $(cat dev/tenant.cap)" -H "Content-Encoding: gzip" --data-binary @bomb.gz "$URL/o"'
prove "The OAP/1 port answers HELLO" 'max_frame' 'python3 - "$(jq -r .oap dev/endpoints.json)" <<"PY"
import socket, struct, sys
h, p = sys.argv[1].rsplit(":", 1)
payload = b"{\"ua\":\"acceptance\"}"
f = struct.pack(">HHHH", 1, 1, 0, 0) + bytes(16) + struct.pack(">HQ", 0, 1) + payload
s = socket.create_connection((h, int(p))); s.sendall(struct.pack(">I", len(f) + 4) + f)
print(s.recv(4096)[38:].decode())
PY'
prove "Operators see the state of every service" 'ron-policy' 'ronctl --cap $OP node status --output json | jq -c ".ready, (.services | map(.name))"'
prove "Metrics pass the linter" 'exit 0' 'curl -s "$URL/metrics" | promtool check metrics && curl -s "$URL/metrics" | grep -E "^(ready_state|build_info|rejected_total)"'
prove "The API describes itself in OpenAPI 3.1" '"3.1' 'curl -s "$URL/openapi.json" | jq -c ".openapi, (.paths | keys)"'
prove "A range comes as a slice that verifies with nothing but the address" 'vnd.bao;group=4.*16904' 'A=b3:$(b3sum --no-names big); curl -s -D- -o slice -H "Authorization: Bearer $(cat dev/tenant.cap)" -H "Accept: application/vnd.bao;group=4" -H "Range: bytes=1000000-1000009" "$URL/o/$A" | grep -iE "^(HTTP|content-type|etag)"; stat -c %s slice'
prove "get takes any part, each byte verified before it is written" 'same' 'ronctl get "b3:$(b3sum --no-names big)" --offset 1234567 --length 65536 -o part2 && cmp -n 65536 part2 big 0 1234567 && echo same'
prove "Slices are those of Bao: official vectors, every byte of one flipped, another implementation both ways" 'ok.*exit 0' "cd \$ROOT && go test -count=1 -v -run 'Slice' ./b3 | grep -E '^(--- |ok|FAIL)'; exit \${PIPESTATUS[0]}"
prove "A flipped byte on the way or in a part is refused within 16 KiB, and a broken get goes on where it was" 'ok.*ok.*exit 0' "cd \$ROOT && go test -count=1 -v -run 'Flip|Damage|Resum|Part|Broken|Wrong' ./client ./cmd/ronctl/part | grep -E '^(--- |ok|FAIL)'; exit \${PIPESTATUS[0]}"
prove "Small objects are packed: ten thousand are a few files" 'objects in [0-9]{1,2} files' 'mkdir many; python3 -c "
import os
for i in range(10000): open(f\"many/{i}\", \"wb\").write(os.urandom(1024))"; ronctl put -r many --manifest many.json >/dev/null; echo "$(jq ".files | length" many.json 2>/dev/null || echo 10000) objects in $(find dev/objects -type f | wc -l) files"'
prove "A collection says what it would give back, and why, and gives it back" 'sparse.*would collect.*sparse.*collected.*equal' 'mkdir bulk; python3 -c "
import os
for i in range(800): open(f\"bulk/{i}\", \"wb\").write(os.urandom(100000))"; ronctl put -r bulk --manifest bulk.json >/dev/null; (cd bulk && ls | grep -v 7$ | xargs b3sum --no-names) | sed "s/^/b3:/" | xargs ronctl rm >/dev/null; ronctl --cap $OP node collect --dry-run; ronctl --cap $OP node collect; for f in bulk/*7; do ronctl get "b3:$(b3sum --no-names $f)" -o left && cmp $f left || exit 1; rm left; done; echo equal'
prove "Damage is refused, quarantined, named, and healed by a put" '"code":"integrity".*damaged.*1 objects.*found by object.*damaged.*0 objects.*same' 'head -c 300000 /dev/urandom >victim; A=$(ronctl put victim | cut -d" " -f1); F=$(find dev/objects -type f -size -400k -newer bulk.json ! -name "*.pack" | head -n1); printf X | dd of=$F bs=1 seek=5 conv=notrunc 2>/dev/null; curl -s -H "Authorization: Bearer $(cat dev/tenant.cap)" "$URL/o/$A"; echo; sleep 0.2; ronctl --cap $OP node storage; ronctl put --again victim; ronctl --cap $OP node storage | grep damaged; ronctl get $A -o victim2; cmp victim victim2 && echo same'
prove "A deleted object is gone" 'exit 1' 'ronctl rm "b3:$(b3sum --no-names hello.txt)" && ronctl stat "b3:$(b3sum --no-names hello.txt)"'
prove "Idle, the node holds less than 80 MiB" 'MiB' "awk '/VmRSS/ {m=\$2/1024; printf \"%.1f MiB\\n\", m; exit !(m < 80)}' /proc/$pid/status"
kill -9 "$pid"; wait "$pid" 2>/dev/null || true; dev
prove "After kill -9 everything acknowledged is there and right" 'same' 'ronctl get "b3:$(b3sum --no-names big)" -o back3 && cmp big back3 && echo same; ronctl --cap $OP tenant usage dev'
prove "The node starts in well under a second" 'latency_ms' 'grep -o "node is running.*latency_ms.*" dev.log'
kill "$pid"; wait "$pid" || true; pid=

# --- a production directory
prove "fsck checks a stopped node: clean, damaged, mended" 'clean.*\[0\].*lost_bytes.*\[9\].*repaired.*\[8\].*clean.*\[0\]' 'rm -rf fs; timeout 5 macronode run --data fs --http 127.0.0.1:0 --oap 127.0.0.1:0 >fs.log 2>&1 & until [ -s fs/endpoints.json ]; do sleep 0.05; done; export RON_NODE=$(jq -r .http fs/endpoints.json) RON_CAP=@fs/tenant.cap; head -c 400000 /dev/urandom >lost; A=$(ronctl put lost | cut -d" " -f1); kill -9 $(jq .pid fs/endpoints.json); while kill -0 $(jq .pid fs/endpoints.json) 2>/dev/null; do sleep 0.05; done; macronode fsck --data fs --quiet; echo "[$?]"; F=$(find fs/objects -type f -size +300k ! -name "*.pack"); cp $F orphan; printf X | dd of=$F bs=1 seek=5 conv=notrunc 2>/dev/null; macronode fsck --data fs --quiet; echo "[$?]"; cp orphan $F; D=$(dirname $F); cp $F $D/0123456789abcdef0123456789ab; macronode fsck --data fs --quiet --repair; echo "[$?]"; macronode fsck --data fs --quiet; echo "[$?]"'
prove "Drills run by themselves" 'disk-full.*corrupt-object.*exit 0' 'ronctl drill run disk-full corrupt-object decompression-bomb | grep -E "PASS|pass|disk-full|corrupt-object|bomb"'
prove "init makes a production directory and never asks" 'operator capability' 'macronode init --data prod --http 127.0.0.1:18443 --oap 127.0.0.1:18444 --tenant acme --recovery-out recovery.key'
prove "A typo in the config is refused with the right key" 'did you mean.*\[exit 3\]' 'sed "s/^bind/bnid/" prod/macronode.bundle.toml >typo.toml; macronode config validate typo.toml'
prove "A changed bundle is refused until it is signed again" 'exit 4' 'cp prod/macronode.bundle.toml changed.toml; cp prod/macronode.bundle.toml.sig changed.toml.sig; sed -i "s/127.0.0.1:18443/127.0.0.1:18445/" changed.toml; macronode config validate changed.toml --data prod'
prove "A feature that is not in the binary is refused" 'exit 3' '(cat prod/macronode.bundle.toml; printf "\n[amnesia]\nenabled = true\n") >amnesia.toml; macronode config validate amnesia.toml'
prove "check looks at everything that a start needs" 'exit 0' 'macronode check --config prod/macronode.bundle.toml --data prod'
start "$W/prod.log" macronode run --config prod/macronode.bundle.toml --data prod; prod=$started
export RON_NODE=https://127.0.0.1:18443 RON_CA=$W/prod/tls.crt; await ronctl node ready
prove "TLS 1.3 with a hybrid key exchange; older versions are refused" 'TLSv1.3.*(alert|no protocols)' 'echo | openssl s_client -connect 127.0.0.1:18443 2>/dev/null | grep -E "Protocol|New, TLS"; echo | openssl s_client -tls1_2 -connect 127.0.0.1:18443 2>&1 | grep -iE "alert|no protocols" | head -n1'
prove "A tenant works over TLS" 'b3:' 'ronctl --cap @prod/tenant.cap put hello.txt'
prove "A second process on the directory is refused and told who holds it" 'exit 10' 'macronode run --config prod/macronode.bundle.toml --data prod'
prove "Policy changes while the node runs: built, tested, signed, pinned, reloaded" '"version": ?2' 'macronode policy defaults pol >/dev/null; macronode policy build pol -o pol.json --data prod --install policy-bundle@v2 --output json | tee b.json; sed -i "s#policy-bundle@v1#policy-bundle@v2#; s#^bundle_hash = \"blake3:.*\" *\$#&#" prod/macronode.bundle.toml; python3 - <<"PY"
import json, re
h = json.load(open("b.json"))["bundle_hash"]
t = open("prod/macronode.bundle.toml").read()
head, tail = t.split("[policy]")
tail = re.sub(r"bundle_hash = \"[^\"]*\"", "bundle_hash = \"%s\"" % h, tail, count=1)
open("prod/macronode.bundle.toml", "w").write(head + "[policy]" + tail)
PY
macronode bundle sign prod/macronode.bundle.toml --data prod --bump && ronctl --cap @prod/operator.cap node reload --output json'
prove "The new policy is in force: the tenant is out" 'exit 6' 'ronctl --cap @prod/tenant.cap ls'
prove "A refused bundle changes nothing" '"version":2' 'cp prod/macronode.bundle.toml keep; echo "x = 1" >>prod/macronode.bundle.toml; ronctl --cap @prod/operator.cap node reload; cp keep prod/macronode.bundle.toml; curl -s --cacert prod/tls.crt https://127.0.0.1:18443/version | jq -c .config'
prove "Keys are created, rotated and listed while the node runs" 'v2' 'macronode kms create webhook --data prod >/dev/null; macronode kms rotate webhook --data prod'
prove "Client certificates are asked for where the config says so" '(56|35|55).*b3:.*exit 0' 'openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=clients -keyout ca.key -out ca.pem 2>/dev/null; openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=me -keyout me.key -out me.csr 2>/dev/null; openssl x509 -req -in me.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -out me.pem 2>/dev/null; macronode kms put-object client_ca --in ca.pem --data prod >/dev/null; sed -i "s#^tls = {#tls = { client_ca = \"KMS:obj/client_ca\", client_auth = \"require\",#" prod/macronode.bundle.toml; macronode bundle sign prod/macronode.bundle.toml --data prod --bump >/dev/null; ronctl --cap @prod/operator.cap node reload >/dev/null; H="Authorization: Bearer $(cat prod/operator.cap)"; curl -s --cacert prod/tls.crt -H "$H" https://127.0.0.1:18443/v1/tenants; echo "curl $?"; curl -s --cacert prod/tls.crt --cert me.pem --key me.key -H "$H" https://127.0.0.1:18443/v1/admin/status | jq -r .config.bundle_hash | sed s/blake3/b3/; sed -i "s# client_ca = \"KMS:obj/client_ca\", client_auth = \"require\",##" prod/macronode.bundle.toml; macronode bundle sign prod/macronode.bundle.toml --data prod --bump >/dev/null; curl -s --unix-socket prod/admin.sock -X POST -H "$H" http://node/v1/admin/reload >/dev/null'
prove "Drain refuses new work and is undone" 'draining.*ready' 'ronctl --cap @prod/operator.cap node drain; await() { until [ "$(curl -s -o /dev/null -w "%{http_code}" --cacert prod/tls.crt https://127.0.0.1:18443/readyz)" = $1 ]; do sleep 0.05; done; }; await 503; curl -s --cacert prod/tls.crt -H "Authorization: Bearer $(cat prod/tenant.cap)" https://127.0.0.1:18443/v1/objects; ronctl --cap @prod/operator.cap node undrain; await 200; ronctl node ready | head -n1'
prove "Shutdown by an operator ends with 0" 'exit 0' "ronctl --cap @prod/operator.cap node shutdown; tail --pid=$prod -f /dev/null"
code=0; wait "$prod" || code=$?; prod=; [ $code = 0 ] || { echo "FAILED: exit $code" >&2; exit 1; }
prove "An older bundle is refused, and let in only by name" 'exit 4.*version 1' 'mkdir old; sed "s/^version = .*/version = 1/" prod/macronode.bundle.toml >old/b.toml; macronode bundle sign old/b.toml --data prod >/dev/null; macronode config validate old/b.toml --data prod; echo "[exit $?]"; macronode config validate old/b.toml --data prod --allow-rollback "1@$(macronode bundle hash old/b.toml)"'
prove "A lost root key is recovered from the export" 'new root.*exit 0' 'rm prod/root.key; macronode kms list --data prod; macronode kms restore-root --in recovery.key --data prod && macronode kms list --data prod >/dev/null'
for part in "$root"/scripts/acceptance/*.sh; do cd "$work"; . "$part"; done
prove "The end-to-end suite passes on these binaries: kills, broken uploads, bad capabilities, strangers, slow clients, signals, other hosts" 'ok.*exit 0' "cd \$ROOT && MACRONODE_BIN=\$ROOT/bin go test -count=1 -v -timeout 20m ./test | grep -E '^(--- |ok|FAIL)'; exit \${PIPESTATUS[0]}"
echo "docs/acceptance.md written"
