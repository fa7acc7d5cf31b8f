# OAP/1: a framed wire with every operation, from a client of a few lines.
rm -rf "$W/dev"; dev
export RON_CAP=@$W/dev/tenant.cap OP=@$W/dev/operator.cap OAP=$(jq -r .oap "$W/dev/endpoints.json")
cat >"$W/oap.py" <<'PY'
import base64, json, os, socket, struct, sys
# oap.py CAPABILITY APP OP [NAME=VALUE]... : one call, the body is standard input's
def item(major, n):
    return bytes([major << 5 | n]) if n < 24 else bytes([major << 5 | 24, n]) if n < 256 else bytes([major << 5 | 25]) + struct.pack(">H", n)
def text(s): return item(3, len(s.encode())) + s.encode()
def table(d): return item(5, len(d)) + b"".join(text(k) + text(d[k]) for k in sorted(d, key=lambda k: (len(k), k)))
def frame(flags, app, corr, cap, payload):
    return struct.pack(">IHHHH16sHQ", 38 + len(cap) + len(payload), 1, flags, 0, app, bytes(16), len(cap), corr) + cap + payload
def read(n):
    b = b""
    while len(b) < n: b += s.recv(n - len(b)) or sys.exit("closed")
    return b
def reply():
    h = struct.unpack(">IHHHH16sHQ", read(38)); return h, read(h[0] - 38)
host, port = os.environ["OAP"].rsplit(":", 1)
cap = base64.urlsafe_b64decode(open(sys.argv[1]).read().strip()[5:] + "==")
args = {k: v for k, v in (a.split("=", 1) for a in sys.argv[4:] if not a.startswith("-"))}
fields = {k[1:]: v for k, v in (a.split("=", 1) for a in sys.argv[4:] if a.startswith("-"))}
s = socket.create_connection((host, int(port)), 10)
body = b"" if sys.stdin.isatty() else sys.stdin.buffer.read()
s.sendall(frame(1, 0, 7, b"", b'{"ua":"acceptance"}')); reply()
head = item(5, 3) + b"\x01" + text(sys.argv[3]) + b"\x02" + table(args) + b"\x03" + table(fields)
s.sendall(frame(1 | 8 | 16, int(sys.argv[2]), 1, cap, head + body))
while True:
    h, payload = reply()
    if h[2] & 4: continue
    print(h[3], payload[-600:].decode("utf-8", "replace") if h[3] < 400 else json.dumps({k: json.loads(payload)[k] for k in ("status", "code")}))
    if h[2] & 16: break
PY
prove "A client of a few lines stores and reads over OAP/1, by the names in the API document" '201 .*addr.*200 .*over the wire' 'printf "over the wire" | python3 oap.py dev/tenant.cap "$(curl -s -H "Authorization: Bearer $(cat dev/tenant.cap)" "$URL/openapi.json" | jq ".paths[\"/o\"].post[\"x-oap-app\"]")" object.post; printf "" | python3 oap.py dev/tenant.cap 1 object.get addr=b3:$(printf "over the wire" | b3sum --no-names)'
prove "What was stored over one wire is there on the other" 'over the wire' 'ronctl get b3:$(printf "over the wire" | b3sum --no-names) -o -'
prove "Ranges and conditions are asked for as on HTTP" '206 .*wire.*304' 'A=b3:$(printf "over the wire" | b3sum --no-names); python3 oap.py dev/tenant.cap 1 object.get addr=$A -Range=bytes=9- </dev/null; python3 oap.py dev/tenant.cap 1 object.get addr=$A "-If-None-Match=\"$A\"" </dev/null'
prove "One wall stands before both: what policy, caveats or shape refuse is refused here" '403 .*denied.*403 .*caveat.*400 .*malformed' 'ronctl cap attenuate --actions object:list >"$W/list.cap"; A=b3:$(printf "over the wire" | b3sum --no-names); python3 oap.py dev/tenant.cap 8 kms.list </dev/null; python3 oap.py "$W/list.cap" 1 object.get addr=$A </dev/null; python3 oap.py dev/tenant.cap 1 object.get addr=$A/x </dev/null'
prove "A family that nobody serves is 501, an operation that its family lacks 404" '501 .*unimplemented.*404 .*not_found' 'python3 oap.py dev/tenant.cap 99 object.get </dev/null; python3 oap.py dev/tenant.cap 1 object.dance </dev/null'
prove "Operators drain and take it back over OAP/1, and it says draining meanwhile" '202 .*200 .*serving' 'python3 oap.py dev/operator.cap 10 admin.drain </dev/null; python3 oap.py dev/tenant.cap 1 object.list </dev/null; python3 oap.py dev/operator.cap 10 admin.undrain </dev/null'
prove "A malformed frame gets one error frame, and is counted" '413.*oap_rejects_total\{reason="oversize"\} 1' 'python3 -c "
import os, socket, struct
h, p = os.environ[\"OAP\"].rsplit(\":\", 1); s = socket.create_connection((h, int(p)), 10); s.sendall(struct.pack(\">I\", 1048577) + bytes([0, 1, 0, 1]) + bytes(30))
print(struct.unpack(\">H\", s.recv(4096)[8:10])[0])"; curl -s "$URL/metrics" | grep "oap_rejects_total.reason=.oversize"'
kill "$pid"; wait "$pid" || true; pid=
