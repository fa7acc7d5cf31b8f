# The audit log: what was done is on record for good, and verifies without the node. Sourced by scripts/acceptance.sh.
rm -rf "$W/dev"; dev
export RON_CAP=@$W/dev/operator.cap OP=@$W/dev/operator.cap
ronctl audit key >"$W/node.vkey"
prove "An admin action is on record, with who did it" 'tenant\.create +cap:[0-9a-f]{32}' 'ronctl tenant create acme >/dev/null; ronctl audit query --kind tenant.create'
prove "A refusal is on record, with its reason" 'refusal.*anonymous|object.*unauthenticated' 'curl -s -o /dev/null "$URL/v1/objects"; sleep 0.3; ronctl audit query --reason unauthenticated --desc --limit 1'
prove "A checkpoint names the log and is signed by both halves of its key" 'macronode/[0-9a-f]{64}.*— macronode/.*— macronode/' 'ronctl audit checkpoint'
prove "The whole log verifies offline: records, chain, tree, signatures" 'valid +[0-9]+ records from 0.*Ed25519, ML-DSA-44' 'sleep 0.3; ronctl audit export -o log.audit; RON_NODE=http://127.0.0.1:1 ronctl audit verify log.audit --key node.vkey'
prove "One changed byte is noticed, and its record is named" 'record [0-9]+' 'sed "s/tenant.create/tenant.cheat/" log.audit >bad.audit; ronctl audit verify bad.audit --key node.vkey'
prove "A record is proved by itself" 'valid +1 records' 'ronctl audit prove 0 -o receipt.json; ronctl audit verify receipt.json --key node.vkey'
prove "A tenant sees its own records and no others" '200 own.*403' 'for i in 1 2; do ronctl put "$ROOT/README.md" --cap @dev/tenant.cap >/dev/null; done; curl -s -H "Authorization: Bearer $(cat dev/tenant.cap)" -w " %{http_code} own" "$URL/v1/audit/records" | tail -c 8; curl -s -o /dev/null -w " %{http_code}" -H "Authorization: Bearer $(cat dev/tenant.cap)" "$URL/v1/audit/records?stream=node"; curl -s -o /dev/null -w " %{http_code}" -H "Authorization: Bearer $(cat dev/tenant.cap)" "$URL/v1/audit/log/checkpoint"'
ronctl audit checkpoint >"$W/before.note"
kill -9 "$pid"; wait "$pid" 2>/dev/null || true; dev
prove "After kill -9 the log goes on where it was, and extends what was signed before" '"old":[0-9]+.*valid' 'S=$(sed -n 2p before.note); curl -s -H "Authorization: Bearer $(cat dev/operator.cap)" "$URL/v1/audit/consistency?from=$S" | jq -c "{old, new}"; ronctl audit export -o log2.audit; ronctl audit verify log2.audit --key node.vkey'
kill "$pid"; wait "$pid" || true; pid=
rm -rf "$W/hurt"; cp -r "$W/dev" "$W/hurt"; chmod 700 "$W/hurt"; F=$(ls "$W"/hurt/audit/log/* | head -n1); python3 - "$F" <<'PY'
import sys
b = bytearray(open(sys.argv[1], "rb").read())
i = b.index(b'"kind":"'); b[i+8] ^= 1
open(sys.argv[1], "wb").write(b)
PY
start "$W/hurt.log" macronode run --data "$W/hurt" --http 127.0.0.1:0 --oap 127.0.0.1:0; pid=$started
prove "A damaged log keeps the node from being ready, and the place is named" 'the audit log cannot be opened.*record [0-9]+' 'for i in $(seq 100); do grep -q "audit log cannot be opened" hurt.log && break; sleep 0.1; done; grep -o "the audit log cannot be opened.*" hurt.log | head -n1'
kill -9 "$pid"; wait "$pid" 2>/dev/null || true; pid=
export RON_CAP=@$W/dev/tenant.cap
