# TLS that changes while it runs, and guards of connections.
[ -x "$ROOT/bin/h2spec" ] || go -C "$ROOT/test/h2spec" build -o "$ROOT/bin/h2spec" github.com/summerwind/h2spec/cmd/h2spec
macronode init --data tls --http 127.0.0.1:18453 --oap 127.0.0.1:18454 --tenant acme --recovery-out tls.recovery >/dev/null
start "$W/tls.log" macronode run --config tls/macronode.bundle.toml --data tls; pid=$started
cat >certify.sh <<'SH'
# A new key for the node and a certificate for it from the authority, 90 days; $1: serial.
macronode kms rotate tls --data tls >/dev/null
macronode kms export-public tls --data tls | awk '/BEGIN/{t=""} {t=t $0 "\n"} END{printf "%s", t}' >pub.pem
openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=node -keyout any.key -out node.csr 2>/dev/null
printf 'subjectAltName=IP:127.0.0.1\nauthorityInfoAccess=OCSP;URI:http://127.0.0.1:18455\n' >ext
openssl x509 -req -in node.csr -force_pubkey pub.pem -CA authority.pem -CAkey authority.key -set_serial 0x$1 -days 90 -extfile ext -out leaf.pem 2>/dev/null
cat leaf.pem authority.pem >chain.pem
macronode kms put-object cert_chain --in chain.pem --data tls >/dev/null
SH
cat >reload.sh <<'SH'
# $1: what the tls table of the config begins with.
sed -i "s#^tls = {.* enabled#tls = { $1 enabled#" tls/macronode.bundle.toml
macronode bundle sign tls/macronode.bundle.toml --data tls --bump >/dev/null
curl -s --unix-socket tls/admin.sock -X POST -H "Authorization: Bearer $(cat tls/operator.cap)" http://node/v1/admin/reload
SH
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 120 -subj /CN=authority -keyout authority.key -out authority.pem 2>/dev/null
S="curl -s --cacert authority.pem https://127.0.0.1:18453"; export S
probe() { curl -sk -o /dev/null https://127.0.0.1:18453/readyz; }
await probe
prove "A new key and certificate are served without a reload, and an upload under way goes on" 'serial=1001.*HTTP/1.1 201' 'mkfifo up; curl -sk -D- -o /dev/null --http1.1 -T up -X POST -H "Authorization: Bearer $(cat tls/tenant.cap)" https://127.0.0.1:18453/o >up.log & exec 3>up; echo one >&3; bash certify.sh 1001; until openssl s_client -connect 127.0.0.1:18453 </dev/null 2>/dev/null | openssl x509 -noout -serial | grep 1001; do echo more >&3; sleep 0.2; done; echo two >&3; exec 3>&-; wait; cat up.log'
prove "Three rotations while requests and uploads run, by reload: not one fails, every new handshake has the newest" '--- PASS: TestCertificateRotation.*exit 0' "cd \$ROOT && go test -count=1 -v -run '^TestCertificateRotation' ./internal/node | grep -E '^(    cert|--- |ok|FAIL)'; exit \${PIPESTATUS[0]}"
prove "A chain for another key is refused, and the running one stays" 'is for no version of it.*serial=1001' 'macronode kms put-object cert_chain --in authority.pem --data tls; openssl s_client -connect 127.0.0.1:18453 </dev/null 2>/dev/null | openssl x509 -noout -serial'
prove "How long the certificate lasts is a metric, and readiness says what ails it" 'tls_certificate_expiry_seconds 7\.7[0-9]+e\+06.*"tls_certificate","ok":true' '$S/metrics | grep "^tls_certificate_expiry"; $S/readyz | jq -c ".checks[] | select(.name == \"tls_certificate\") | {name, ok}"'
prove "OCSP responses are stapled where the chain names a responder" 'Cert Status: good' 'printf "V\t%s\t\t1001\tunknown\t/CN=1001\n" $(date -u -d "+80 days" +%y%m%d%H%M%SZ) >index.txt; openssl ocsp -index index.txt -port 18455 -rsigner authority.pem -rkey authority.key -CA authority.pem -nmin 30 >/dev/null 2>&1 & echo $! >ocsp.pid; until openssl ocsp -issuer authority.pem -serial 0x1001 -url http://127.0.0.1:18455 -CAfile authority.pem >/dev/null 2>&1; do sleep 0.1; done; bash reload.sh "ocsp = true,"; echo; until openssl s_client -connect 127.0.0.1:18453 -status -CAfile authority.pem </dev/null 2>/dev/null | grep "Cert Status"; do sleep 0.2; done; kill $(cat ocsp.pid)'
prove "The responder is away: the last response stays" 'Cert Status: good' 'openssl s_client -connect 127.0.0.1:18453 -status -CAfile authority.pem </dev/null 2>/dev/null | grep "Cert Status"; $S/metrics | grep "^tls_ocsp"'
prove "Where a hybrid key exchange is required, a classical client gets an alert and is counted" 'alert handshake failure.*result="classical",version="none"\} 1' 'bash reload.sh "pq = \"require\","; echo; openssl s_client -connect 127.0.0.1:18453 -groups X25519 </dev/null 2>&1 | grep -o "alert handshake failure"; curl -s --unix-socket tls/admin.sock http://node/metrics | grep "^tls_handshakes_total.*classical"; bash reload.sh ""'
prove "A request that nobody can read is answered with a problem document, and counted" 'header_too_large.*"status":400.*guard="header_bytes"\} 1' 'printf "GET / HTTP/1.1\r\nHost: h\r\nX: %s\r\n\r\n" $(head -c 60000 /dev/zero | tr "\0" x) | openssl s_client -quiet -connect 127.0.0.1:18453 2>/dev/null | tail -1; echo; printf "nonsense\r\n\r\n" | openssl s_client -quiet -connect 127.0.0.1:18453 2>/dev/null | tail -1; echo; $S/metrics | grep -E "^guard_trips_total.*(header_bytes|malformed)"'
prove "Floods on HTTP/2, each over a raw connection: the attacker is told to calm down and cut off, others are served, nothing is left" 'rapid_reset.*continuation.*exit 0' "cd \$ROOT && go test -count=1 -v -run 'HTTP2|Trailers|SlowIs|Crowd' ./internal/listen/gateway | grep -E '^ *(--- |ok|FAIL)'; exit \${PIPESTATUS[0]}"
prove "HTTP/2 as h2spec wants it: nothing fails that bare net/http does not" 'of 146 cases.*--- PASS.*exit 0' "cd \$ROOT && MACRONODE_BIN=\$ROOT/bin go test -count=1 -v -run HTTP2Conformance ./test | grep -E '^(    h2|--- |ok|FAIL)'; exit \${PIPESTATUS[0]}"
kill "$pid"; wait "$pid" || true; pid=
