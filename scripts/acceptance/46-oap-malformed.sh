# OAP/1 in one request of HTTP, and what happens to bytes that are no OAP/1.
rm -rf "$W/dev"; dev
export RON_CAP=@$W/dev/tenant.cap OAP=$(jq -r .oap "$W/dev/endpoints.json")
cat >"$W/ingress.py" <<'PY'
import base64, struct, sys
# ingress.py CAPABILITY OP [NAME=VALUE]... : writes the frame of one call; with "read", the codes and the body of an answer
def item(major, n):
    return bytes([major << 5 | n]) if n < 24 else bytes([major << 5 | 24, n]) if n < 256 else bytes([major << 5 | 25]) + struct.pack(">H", n)
def text(s): return item(3, len(s.encode())) + s.encode()
def table(d): return item(5, len(d)) + b"".join(text(k) + text(d[k]) for k in sorted(d, key=lambda k: (len(k), k)))
if sys.argv[1] == "read":
    b = sys.stdin.buffer.read(); n = 0
    while b:
        size, _, flags, code = struct.unpack(">IHHH", b[:10]); n += 1
        print(n, code, "END" if flags & 16 else "", size, b[38:size][-60:].decode("utf-8", "replace").replace("\n", " ") if flags & 16 else ""); b = b[size:]
    sys.exit()
cap = base64.urlsafe_b64decode(open(sys.argv[1]).read().strip()[5:] + "==")
head = item(5, 3) + b"\x01" + text(sys.argv[2]) + b"\x02" + table(dict(a.split("=", 1) for a in sys.argv[3:])) + b"\x03\xa0"
payload = head + (b"" if sys.stdin.isatty() else sys.stdin.buffer.read())
sys.stdout.buffer.write(struct.pack(">IHHHH16sHQ", 38 + len(cap) + len(payload), 1, 1 | 8 | 16, 0, 1, bytes(16), len(cap), 1) + cap + payload)
PY
post='curl -s -X POST -H "Content-Type: application/vnd.ron.oap" --data-binary @- -w "" "$URL/ingress"'
prove "One frame over HTTP is one call: stored, and read back in frames" '1 201 END.*existed.*1 200.*[3-9] 200 END' 'head -c 200000 /dev/urandom >"$W/framed"; python3 ingress.py dev/tenant.cap object.post <"$W/framed" | '"$post"' | python3 ingress.py read; python3 ingress.py dev/tenant.cap object.get addr=b3:$(b3sum --no-names "$W/framed") </dev/null | '"$post"' | python3 ingress.py read; ronctl get b3:$(b3sum --no-names "$W/framed") -o - | cmp - "$W/framed"'
prove "What the call came to is in the frames; HTTP says 200" 'HTTP/1.1 200.*1 404 END' 'python3 ingress.py dev/tenant.cap object.get addr=b3:$(printf 0%.0s $(seq 64)) </dev/null >"$W/f"; curl -s -D- -o "$W/answer" --data-binary @"$W/f" "$URL/ingress" | head -n1; python3 ingress.py read <"$W/answer"'
prove "More than a frame may have is 413, what is no frame 400" '413 .*400 ' 'head -c 1048577 /dev/zero | curl -s -o /dev/null -w "%{http_code} " --data-binary @- "$URL/ingress"; echo nonsense | curl -s -o /dev/null -w "%{http_code} " --data-binary @- "$URL/ingress"'
prove "The drill malformed-oap passes: faults, broken-off, silent and spoilt sessions beside one that is served" 'PASS malformed-oap.*exit 0' 'ronctl drill run malformed-oap | grep -E "PASS|FAIL|saw"'
kill "$pid"; wait "$pid" || true; pid=
