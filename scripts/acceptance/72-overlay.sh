# Sessions between nodes: known by their keys, revocations that reach all, a peer that hangs. Sourced by scripts/acceptance.sh.
rm -rf "$W/one" "$W/two"
macronode init --data one --http 127.0.0.1:18471 --oap 127.0.0.1:18472 --tenant acme --recovery-out one.recovery >/dev/null
cp -a one two # the same tenants and minting keys
macronode kms rotate node --data two >/dev/null # and another node
sed -i "s/127.0.0.1:18471/127.0.0.1:18473/; s/127.0.0.1:18472/127.0.0.1:18474/" two/macronode.bundle.toml
macronode bundle sign two/macronode.bundle.toml --data two --bump >/dev/null
cat >at.sh <<'SH'
# $1: which node; the rest: what ronctl does there, as its operator
d=$1; shift; port=18471; [ $d = two ] && port=18473
exec ronctl --node https://127.0.0.1:$port --ca $d/tls.crt --cap ${CAP:-@$d/operator.cap} "$@"
SH
cat >name.sh <<'SH'
# $1: whose config, $2: the peer's OAP/1 port, $3: its node id
sed -i "/^peers = /d; s#^\[oap\]\$#[oap]\npeers = [{ addr = \"127.0.0.1:$2\", node_id = \"$3\" }]#" $1/macronode.bundle.toml
macronode bundle sign $1/macronode.bundle.toml --data $1 --bump >/dev/null && bash at.sh $1 node reload >/dev/null
SH
cat >state.sh <<'SH'
# waits until the state of the peer of $1 matches $2
for i in $(seq 100); do S=$(bash at.sh $1 node peers --output json | jq -r '.peers[0] | "\(.state) \(.why // "")"'); [[ $S =~ $2 ]] && break; sleep 0.05; done; echo "$1: $S"
SH
cat >refused.sh <<'SH'
# how long until the capability in $2 is refused at $1
t=$(date +%s%N); until CAP=@$2 bash at.sh $1 ls 2>&1 | grep -q "401 revoked"; do sleep 0.01; [ $(( $(date +%s%N) - t )) -lt 20000000000 ] || exit 1; done
d=$(( ($(date +%s%N) - t) / 1000000 )); [ $d -lt ${3:-1000} ] && echo "refused at $1 within ${3:-1000} ms"
SH
start "$W/one.log" macronode run --config one/macronode.bundle.toml --data one; pid=$started
start "$W/two.log" macronode run --config two/macronode.bundle.toml --data two; prod2=$started
await bash at.sh one node ready; await bash at.sh two node ready
export ID1=$(curl -s --cacert one/tls.crt https://127.0.0.1:18471/version | jq -r .node_id) ID2=$(curl -s --cacert two/tls.crt https://127.0.0.1:18473/version | jq -r .node_id) PID2=$prod2
prove "A node that one side alone names is no peer" 'one: (back_off|handshake) .*bad certificate' 'bash name.sh one 18474 $ID2; bash state.sh one "bad certificate"'
prove "Nodes that name each other hold a session, by a reload and no restart" 'one: active.*two: active.*DIALLED BY.*active' 'bash name.sh two 18472 $ID1; bash state.sh one active; bash state.sh two active; bash at.sh one node peers'
prove "Sessions between nodes take the hybrid key exchange alone, though clients of the same port may do without" 'handshake failure.*Verification|handshake failure.*New, TLSv1.3' 'openssl s_client -connect 127.0.0.1:18472 -groups X25519 -alpn ron-overlay/1 </dev/null 2>&1 | grep -o "alert handshake failure" | head -n1; openssl s_client -connect 127.0.0.1:18472 -groups X25519 </dev/null 2>&1 | grep -E "^New, TLS"'
prove "A revocation made at one node is refused at the other within a second" '200.*refused at two within 1000 ms.*exit 0' 'CAP=@one/tenant.cap bash at.sh one cap attenuate --expires 1h >a.cap; CAP=@a.cap bash at.sh two ls >/dev/null && echo 200; bash at.sh one cap revoke @a.cap >/dev/null; bash refused.sh two a.cap'
prove "A peer that hangs is noticed, and its session is back within two seconds" 'one: back_off|one: handshake.*one: active.*exit 0' 'kill -STOP $PID2; bash state.sh one "back_off|handshake"; kill -CONT $PID2; t=$(date +%s%N); bash state.sh one active; [ $(( ($(date +%s%N) - t) / 1000000 )) -lt 2000 ]'
kill -9 "$prod2"; wait "$prod2" 2>/dev/null || true
CAP=@one/tenant.cap bash at.sh one cap attenuate --expires 2h >b.cap; bash at.sh one cap revoke @b.cap >/dev/null
start "$W/two.log" macronode run --config two/macronode.bundle.toml --data two; prod2=$started; await bash at.sh two node ready
prove "A node that was away learns what was revoked meanwhile, and keeps what it learned" 'refused at two within 3000 ms.*refused at two' 'bash refused.sh two b.cap 3000; bash refused.sh two a.cap'
prove "A revoked minting key of one node leaves another node's key of that name alone" '401 revoked.*403 denied' 'ID=$(bash at.sh one tenant create solo --output json | jq -r .id); bash at.sh two tenant create solo --id $ID >/dev/null; bash at.sh one cap mint --tenant solo >s1.cap; bash at.sh two cap mint --tenant solo >s2.cap; bash at.sh one cap revoke --tenant solo >/dev/null; sleep 1; CAP=@s1.cap bash at.sh one ls 2>&1 | grep -o "401 revoked"; CAP=@s2.cap bash at.sh two ls 2>&1 | grep -o "403 denied"' # no rule lets it list
prove "An operator cuts a peer off by its breaker, and lets it in again" 'one: closed .*one: active' 'bash at.sh one node breakers peer-${ID2#b3:} --force open --reason "a test" >/dev/null; bash state.sh one closed; bash at.sh one node breakers peer-${ID2#b3:} --force auto >/dev/null; bash state.sh one active'
prove "An impostor is refused: another key than the one that is named" "one: (back_off|handshake) .*another node's key" 'bash name.sh one 18474 b3:$(printf 0%.0s $(seq 63))1; bash state.sh one "another node"'
prove "What the overlay does is counted" 'overlay_gossip_total\{lane="revocations",result="published"\} [1-9].*overlay_peers\{state="' 'curl -s --cacert one/tls.crt https://127.0.0.1:18471/metrics | grep -E "^overlay_(gossip_total.*revocations.*published|peers)"'
kill "$prod2"; wait "$prod2" || true
kill "$pid"; wait "$pid" || true; pid=
