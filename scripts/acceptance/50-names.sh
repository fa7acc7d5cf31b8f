# Names: one spelling counts, compare-and-set holds over kill -9, what they point at is served, and a document of them verifies offline. Sourced by scripts/acceptance.sh.
rm -rf "$W/dev"; dev
export RON_CAP=@$W/dev/tenant.cap OP=@$W/dev/operator.cap
# nm METHOD PATH [curl arguments]: a call by the tenant
cat >"$W/nm" <<'SH'
#!/usr/bin/env bash
m=$1 p=$2; shift 2
exec curl -s -X "$m" -H "Authorization: Bearer $(cat "$W/dev/tenant.cap")" "$URL$p" "$@"
SH
chmod +x "$W/nm"; export PATH=$W:$PATH
echo "first page" >"$W/page1"; echo "second page" >"$W/page2"
export A1=$(ronctl put "$W/page1" | cut -d' ' -f1) A2=$(ronctl put "$W/page2" | cut -d' ' -f1)
prove "A name points at an object; each change is a version with its ETag" '201 "1".*200 "2".*"version":2' 'for a in $A1 $A2; do nm PUT /v1/names/site.page -d "{\"addr\":\"$a\",\"ttl_s\":60,\"meta\":{\"by\":\"web\"}}" -o doc -w "%{http_code} %header{etag}\n"; done; cat doc'
prove "Every spelling is the one name: capitals, decomposed letters, Punycode" '"name":"bücher".*"name":"bücher".*"name":"bücher".*"name":"straße"' 'nm PUT /v1/names/B%C3%9CCHER -d "{\"addr\":\"$A1\"}"; echo; nm GET /v1/names/bu%CC%88cher; echo; nm GET /v1/names/xn--bcher-kva; echo; nm PUT /v1/names/stra%C3%9Fe -d "{\"addr\":\"$A1\"}"'
prove "What is no name is refused with the rule: characters, mixed scripts, other scripts that look like Latin, lengths" '422 .*character.*422 .*script.*422 .*confusable.*422 .*length' 'for n in a_b p%D0%B0ypal %D0%B0%D1%80%D1%80%D3%8F%D0%B5 $(printf a%.0s $(seq 64)); do nm PUT /v1/names/$n -d "{\"addr\":\"$A1\"}" | jq -r "\"\(.status) \(.detail)\""; done'
prove "Compare-and-set: of two who expect one version, one wins; the other learns what is there" '412 "2".*200 "3".*412 "3".*412' 'c() { nm PUT /v1/names/site.page -H "$1" -d "{\"addr\":\"$A1\"}" -o /dev/null -w "%{http_code} %header{etag}\n"; }; c "If-Match: \"1\""; c "If-Match: \"2\""; c "If-Match: \"2\""; c "If-None-Match: *"'
prove "The name serves the object, with the object's ETag and the name's time to live" 'HTTP/1.1 200.*max-age=60.*etag: "b3:.*second page.*304' 'nm PUT /v1/names/site.page -d "{\"addr\":\"$A2\",\"ttl_s\":60}" >/dev/null; nm GET /n/dev/site.page -D- | tr "[:upper:]" "[:lower:]" | sed "s/http/HTTP/" | grep -E "^HTTP|cache-control|etag|page"; nm GET /n/dev/site.page -H "If-None-Match: \"$A2\"" -o /dev/null -w "%{http_code}\n"'
prove "Reads are conditional, and history lists every version, newest first" '304.*\[4,3,2,1\]' 'nm GET /v1/names/site.page -H "If-None-Match: \"4\"" -o /dev/null -w "%{http_code}\n"; nm GET /v1/names/site.page/history | jq -c "[.versions[].version]"'
prove "A deleted name is gone, its history stays, and it never uses a version twice" '204.*404.*5 true.*"6"' 'nm DELETE /v1/names/site.page -o /dev/null -w "%{http_code}\n"; nm GET /v1/names/site.page -o /dev/null -w "%{http_code}\n"; nm GET /v1/names/site.page/history | jq -r ".versions[0] | \"\(.version) \(.deleted)\""; nm PUT /v1/names/site.page -d "{\"addr\":\"$A1\"}" -o /dev/null -w "%header{etag}\n"'
prove "A repeated key gives the first answer and changes nothing" 'Idempotency-Replayed: true.*"version":1' 'for i in 1 2; do nm PUT /v1/names/once -H "Idempotency-Key: once" -d "{\"addr\":\"$A1\"}" -D- -o /dev/null | grep -iE "replayed"; done; nm GET /v1/names/once'
prove "Export and import are one form; what cannot be done is told line by line" 'imported 3, failed 2.*line 4.*invalid.*line 5.*precondition_failed.*exit 1' 'ronctl name export s >names.ndjson; wc -l <names.ndjson; (cat names.ndjson; echo "{\"name\":\"new\",\"addr\":\"$A1\",\"if_version\":0}"; echo "{\"name\":\"a b\",\"addr\":\"$A1\"}"; echo "{\"name\":\"once\",\"addr\":\"$A1\",\"if_version\":0}") | ronctl name import -'
prove "A watch goes on behind its cursor" 'set .*site.page.*version 1.*set .*site.page.*version 2' 'ronctl name watch site. --cursor 0 --limit 2'
prove "A signed document verifies offline with the node's id alone; one changed letter, or another node, and it does not" 'good: 5 names.*exit 4.*exit 4' 'ronctl name document >names.dsse; ID=$(curl -s "$URL/version" | jq -r .node_id); unset RON_NODE RON_CAP; ronctl --node http://127.0.0.1:1 name verify names.dsse --node-id $ID; jq -c ".payload |= (.[0:200] + (if .[200:201] == \"A\" then \"B\" else \"A\" end) + .[201:])" names.dsse >forged.dsse; ronctl name verify forged.dsse --node-id $ID; echo "[exit $?]"; ronctl name verify names.dsse --node-id b3:$(printf 0%.0s $(seq 64)); echo "[exit $?]"'
prove "A stranger cannot tell a name that is there from one that never was" 'status.*status.*alike' 'ronctl --cap $OP tenant create strangers >/dev/null; ronctl --cap $OP cap mint --tenant strangers >s.cap; s() { curl -s -H "Authorization: Bearer $(cat s.cap)" "$URL$1" | jq -c "{status, code, detail}" | tee -a s.out; }; s /v1/names/site.page; s /v1/names/never; s /n/dev/site.page; s /n/dev/never; [ "$(sort -u s.out | wc -l)" = 1 ] && echo alike'
prove "A capability for one name covers all its spellings and no other name" '200 200 403 403' 'ronctl cap attenuate --actions name:get --resources name/site.page >one.cap; for n in site.page SITE.Page once b%C3%BCcher; do curl -s -o /dev/null -w "%{http_code} " -H "Authorization: Bearer $(cat one.cap)" "$URL/v1/names/$n"; done'
for i in $(seq 60); do nm PUT "/v1/names/counter" -d "{\"addr\":\"$A1\"}" -o "$W/last"; done
kill -9 "$pid"; wait "$pid" 2>/dev/null || true; dev
prove "After kill -9 each name has the version that was answered last" '60.*60' 'jq .version last; nm GET /v1/names/counter | jq .version'
prove "Each change is on record" 'name.set name/counter' 'ronctl audit query --kind name.set --output json | jq -r ".records[]? // .[]? // . | \"\(.kind) \(.subject)\"" | tail -n1'
prove "Both wires are the same" '"name": "once"' 'ronctl --node oap://$(jq -r .oap dev/endpoints.json) name get once --output json'
kill "$pid"; wait "$pid" || true; pid=
