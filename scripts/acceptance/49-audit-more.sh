# The audit log beyond the node: receipts, sinks, retention, witnesses, repair. Sourced by scripts/acceptance.sh.
macronode init --data "$W/anode" --http 127.0.0.1:18491 --oap 127.0.0.1:18492 --tls none --tenant acme >/dev/null
cat >"$W/sink.py" <<'PY'
# Takes NDJSON, and says no to every third post.
import http.server, sys
n = 0
class H(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        global n
        n += 1
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if n % 3 == 0:
            self.send_response(503)
        else:
            open("posted.ndjson", "ab").write(body)
            self.send_response(204)
        self.end_headers()
    def log_message(self, *a): pass
http.server.ThreadingHTTPServer(("127.0.0.1", 18493), H).serve_forever()
PY
(cd "$W" && exec python3 sink.py) & sinkpid=$!
sed -i 's/^\[policy\]$/[audit]\nretain = "1s"\nsinks = ["copy file '"${W//\//\\/}"'\/copy.ndjson", "http ndjson http:\/\/127.0.0.1:18493\/in", "gone ndjson http:\/\/127.0.0.1:1\/in"]\n\n[policy]/' "$W/anode/macronode.bundle.toml"
macronode bundle sign "$W/anode/macronode.bundle.toml" --data "$W/anode" --bump >/dev/null
arun() { start "$W/anode.log" macronode run --config "$W/anode/macronode.bundle.toml" --data "$W/anode"; pid=$started; await ronctl node ready; }
export URL=http://127.0.0.1:18491 RON_NODE=http://127.0.0.1:18491 RON_CAP=@$W/anode/operator.cap OP=@$W/anode/operator.cap
arun
ronctl audit key >"$W/anode.vkey"
prove "A change that asks for it is answered with a receipt, which verifies without the node" 'preference-applied: audit-receipt.*valid +1 records.*cap\.mint' 'curl -si -H "Authorization: Bearer $(cat anode/operator.cap)" -H "Prefer: audit-receipt" -d "{}" "$URL/v1/caps" | tr -d "\r" >answer; grep -i "^preference-applied" answer | tr A-Z a-z; RON_NODE=http://127.0.0.1:1 ronctl audit verify --key anode.vkey --receipt "$(sed -n "s/^[Aa]udit-[Rr]eceipt: //p" answer)"'
prove "A receipt in which one character is another is worth nothing" 'integrity.*tlog.*exit [1-9]' 'R=$(sed -n "s/^[Aa]udit-[Rr]eceipt: //p" answer); ronctl audit verify --key anode.vkey --receipt "${R:0:400}x${R:401}"'
cat >"$W/noise.py" <<'PY'
# Refusals, each with a record of its own: below a thousand a second.
import http.client, time
c = http.client.HTTPConnection("127.0.0.1", 18491)
for i in range(700):
    try:
        c.request("GET", "/v1/objects"); c.getresponse().read()
    except OSError:
        c = http.client.HTTPConnection("127.0.0.1", 18491); time.sleep(0.05)
PY
for i in 1 2 3; do python3 "$W/noise.py" || true; kill -9 "$pid"; wait "$pid" 2>/dev/null || true; arun; done
cat >"$W/compare.py" <<'PY'
import json
log = [l for l in open("sinks.audit", "rb").read().split(b"\n\n")[0].split(b"\n")[2:] if l.startswith(b"{")]
def lines(name): return [l for l in open(name, "rb").read().split(b"\n") if l]
n = json.loads(log[-1])["seq"] + 1
first = json.loads(log[0])["seq"]
copy, posted = lines("copy.ndjson")[:n], lines("posted.ndjson")
print("file", "each once" if copy[first:] == log and len(set(copy)) == len(copy) else "differs", "http", "all" if set(log) <= set(posted) else "some are missing", n)
PY
prove "A file and a receiver that fails every third time have every record after three kills -9, with a dead sink beside them" 'file each once http all [0-9]{3,}' 'ronctl audit export -o sinks.audit; S=$(grep -c "^{" sinks.audit); for i in $(seq 100); do L=$(curl -s "$URL/metrics" | grep -E "audit_sink_lag_records.sink=.(copy|http)" | grep -vc " 0$"); [ "$L" = 0 ] && break; sleep 0.2; done; python3 compare.py'
prove "A sink's lag is a metric, and shows" 'audit_sink_lag_records\{sink="gone"\} [1-9]' 'curl -s "$URL/metrics" | grep "^audit_sink_lag"'
prove "While a sink has not read them, records are not cut off" 'audit_first_record 0' 'curl -s "$URL/metrics" | grep "^audit_first_record"'
sed -i 's/, "gone ndjson http:\/\/127.0.0.1:1\/in"//' "$W/anode/macronode.bundle.toml"; macronode bundle sign "$W/anode/macronode.bundle.toml" --data "$W/anode" --bump >/dev/null; ronctl node reload >/dev/null
prove "Old records are archived and cut off, and what is archived and what is left verify" 'audit_first_record [1-9].*valid +[0-9]+ records from 0.*valid +[0-9]+ records from [1-9]' 'for i in $(seq 100); do curl -s "$URL/metrics" | grep -q "^audit_first_record 0$" || break; sleep 0.2; done; curl -s "$URL/metrics" | grep "^audit_first_record"; ronctl audit verify anode/audit/archive/000000000000-*.audit --key anode.vkey; sleep 0.5; ronctl audit export -o left.audit; ronctl audit verify left.audit --key anode.vkey'
prove "What was cut off is 404, and its tiles are still there" '404 200' 'H="Authorization: Bearer $(cat anode/operator.cap)"; for p in entries/000 0/000; do curl -s -o /dev/null -w "%{http_code} " -H "$H" "$URL/v1/audit/log/tile/$p"; done'
sleep 1; ronctl audit export -o "$W/last.audit"
kill "$pid"; wait "$pid" || true; pid=; kill "$sinkpid"; wait "$sinkpid" 2>/dev/null || true
prove "fsck verifies the whole audit log" 'audit +whole, records [1-9][0-9]* to [0-9]+.*exit 0' 'macronode fsck --data anode --quiet'
python3 - "$W"/anode/audit/log/* <<'PY'
import sys
for name in sys.argv[1:]:
    b = bytearray(open(name, "rb").read())
    i = b.rfind(b'"kind":"refusal"')
    i = i if i > 0 else b.rfind(b'"kind":"')
    if i > 0:
        b[i+9] ^= 1
        open(name, "wb").write(b)
PY
prove "A damaged one is named, and is not repaired without an export" 'lost_audit.*record [0-9]+.*exit 9' 'macronode fsck --data anode --quiet --repair'
prove "An export that was changed restores nothing" 'cannot be restored.*tampered.*exit 9' 'sed "s/\"actor\":\"anonymous\"/\"actor\":\"anonymouz\"/" last.audit >worse.audit; macronode fsck --data anode --quiet --repair --from-export worse.audit'
prove "From a whole export the log is restored, and is whole" 'restored, records.*exit 8.*whole.*exit 0' 'macronode fsck --data anode --quiet --repair --from-export last.audit; echo "[exit $?]"; macronode fsck --data anode --quiet'
prove "Witnesses cosign over HTTP; forks, refusals, delays and wrong sizes are told apart" 'ok.*exit 0' "cd \$ROOT && go test -count=1 -v -run 'Cosign|Witness' ./internal/outward | grep -E '^(--- |ok|FAIL)'; exit \${PIPESTATUS[0]}"
prove "Wherever pruning or a sink is killed, nothing is lost" 'ok.*ok.*exit 0' "cd \$ROOT && go test -count=1 -v -run 'Killed|Hung|Flapping' ./internal/svc/audit/tree ./internal/svc/audit/forward | grep -E '^(--- |ok|FAIL)'; exit \${PIPESTATUS[0]}"
