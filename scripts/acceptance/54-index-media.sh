# What names and addresses stand for, who has an object, and images, sound and film. Sourced by scripts/acceptance.sh.
dev
export RON_CAP=@$W/dev/tenant.cap
mkdir -p im/site/img; echo '<h1>hello</h1>' >im/site/index.html; echo logo >im/site/img/logo.txt
cat >im/make.py <<'PY'
import struct, zlib, sys
def chunk(k, d): return struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d))
def png(w, h, rows=None):
    raw = rows if rows is not None else b"".join(b"\0" + bytes([x % 256, y % 256, 99] * 1)[:3] * 1 + b"".join(bytes([(x + i) % 256, y % 256, 99]) for i in range(1, w)) for y in range(h) for x in [0])
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", w, h, 8, 2, 0, 0, 0)) + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")
open("im/good.png", "wb").write(png(400, 200))
open("im/bomb.png", "wb").write(png(30000, 30000, b"\0" * 1000))
open("im/zip.png", "wb").write(png(8, 8) + b"PK\5\6" + b"\0" * 18)
open("im/page.png", "wb").write(b"<html><script>alert(1)</script>")
wav = struct.pack("<4sI4s4sIHHIIHH4sI", b"RIFF", 0xffffffff, b"WAVE", b"fmt ", 16, 1, 1, 8000, 8000, 1, 8, b"data", 4000) + b"\0" * 4000
open("im/half.wav", "wb").write(wav)
PY
python3 im/make.py
SITE=$(ronctl put -r im/site); for f in good bomb zip page; do export $f=$(ronctl put im/$f.png --type image/png | cut -d' ' -f1); done; export SITE wav=$(ronctl put im/half.wav --type audio/wav | cut -d' ' -f1)
export NONE=b3:$(printf 0%.0s $(seq 64)) AUTH="Authorization: Bearer $(cat dev/tenant.cap)"
prove "An address says what it stands for, and a manifest what it holds" 'object +[0-9]+ bytes.*here.*manifest +2 files.*img/logo.txt.*index.html' 'ronctl resolve $SITE; ronctl resolve $SITE --files'
prove "A path in a manifest has its own address" '(b3:[0-9a-f]{64}).*\1' 'ronctl resolve $SITE --path img/logo.txt; echo "b3:$(b3sum --no-names im/site/img/logo.txt)"'
prove "A name that is missing is there as soon as it is set, and an object as soon as it is put" '404.*200.*404.*200' 'r() { curl -s -o /dev/null -w "%{http_code}\n" -H "$AUTH" "$URL/v1/resolve/$1"; }; r docs.site; curl -s -X PUT -H "$AUTH" -H "Content-Type: application/json" -d "{\"addr\":\"$SITE\"}" "$URL/v1/names/docs.site" >/dev/null; r docs.site; head -c 999 /dev/urandom >im/new; A=b3:$(b3sum --no-names im/new); r $A; ronctl put im/new >/dev/null; r $A'
prove "The node that has an object says so; nobody has what nobody has" 'here.*404' 'ronctl providers $SITE; curl -s -o /dev/null -w "%{http_code}\n" -H "$AUTH" "$URL/v1/providers/$NONE"'
prove "An answer has a generation, and one from the future is refused" '"generation":[0-9]+.*412' 'curl -s -H "$AUTH" "$URL/v1/resolve/$SITE"; curl -s -o /dev/null -w "\n%{http_code}\n" -H "$AUTH" "$URL/v1/resolve/$SITE?after=9007199254740991"'
prove "An image is streamed as what it is, in ranges; a page that calls itself an image is for saving" '206 image/png .*200 application/octet-stream attachment' 'm() { curl -s -o /dev/null -w "%{http_code} %{content_type} %header{content-disposition}\n" -H "$AUTH" "$@"; }; m -H "Range: bytes=100-199" $URL/media/$good; m $URL/media/$page'
prove "An image's headers are told, and a thumbnail made of its pixels" 'png, 400 by 200.*image/jpeg.*size ok' 'ronctl media info $good; ronctl media thumb $good --width 100 -o im/t.jpg; ronctl media thumb $good --width 64 --height 64 --cover --as png -o im/t.png >/dev/null; [ "$(od -An -tu1 -j16 -N8 im/t.png | xargs)" = "0 0 0 64 0 0 0 64" ] && echo "size ok"'
prove "Sound and film say how long they are" 'duration +500ms.*audio, pcm, 8000 Hz' 'ronctl media info $wav'
prove "A bomb is refused by its header, and an image that is an archive as well" '413.*422' 'for a in $bomb $zip; do curl -s -H "$AUTH" "$URL/media/$a/thumb" | jq .status; done'
prove "Media held off refuses at once and touches nothing else" '503.*"reason":"facet".*200' 'ronctl --cap @dev/operator.cap node breakers facet-media --force open --reason "a test" >/dev/null; curl -s -H "$AUTH" -w "\n" $URL/media/$good; curl -s -o /dev/null -w "%{http_code}\n" -H "$AUTH" $URL/o/$good; ronctl --cap @dev/operator.cap node breakers facet-media --force auto >/dev/null'
kill "$pid"; wait "$pid" || true; pid=
