# Capabilities: third parties, revocation by key and tenant, the signed list. Sourced by scripts/acceptance.sh.
caps_w=$W; mkdir -p "$W/caps"; export W=$W/caps # a node of its own: its tenant's capabilities die
dev
export RON_CAP=@$W/dev/tenant.cap OP=@$W/dev/operator.cap
head -c 32 /dev/urandom >sso.key; chmod 600 sso.key
prove "A capability can ask for a third party: without its discharge it is refused" 'third_party at .*401 discharge.*exit 6' 'ronctl cap third-party add --location https://sso.example/ --key-id sso-1 --key-file sso.key >guarded.cap; ronctl cap show @guarded.cap | grep third; ronctl --cap @guarded.cap ls'
prove "The third party makes a discharge offline; with it the capability is good" 'exit 0' 'ronctl cap discharge --ticket "$(ronctl cap tickets @guarded.cap --output json | jq -r .[0].ticket)" --key-file sso.key --expires 10m >sso.discharge; ronctl --cap @guarded.cap --discharge @sso.discharge ls'
prove "A discharge is bound to one token: unbound, twice or beside a narrower one it is refused" '401.*401.*401.*200' 'c() { curl -s -o /dev/null -w "%{http_code}\n" -H "Authorization: Bearer $1" -H "X-Ron-Discharge: $2" "$URL/v1/objects"; }; T=$(cat guarded.cap); B=$(ronctl cap bind --cap @guarded.cap @sso.discharge); c "$T" "$(cat sso.discharge)"; c "$T" "$B,$B"; c "$(ronctl cap attenuate --cap @guarded.cap --expires 1h)" "$B"; c "$T" "$B"'
prove "What a discharge narrows holds" '403 caveat' 'ronctl cap discharge --ticket "$(ronctl cap tickets @guarded.cap --output json | jq -r .[0].ticket)" --key-file sso.key --actions object:get >narrow.discharge; ronctl --cap @guarded.cap --discharge @narrow.discharge ls'
prove "All that a minting key made dies at once; minting goes on with another" 'v1.*401.*kid +v2.*exit 0' 'ronctl --cap $OP cap mint --tenant dev >one.cap; ronctl --cap $OP cap revoke --tenant dev --kid v1; ronctl --cap @one.cap ls 2>&1; ronctl --cap $OP cap mint --tenant dev >two.cap; ronctl cap show @two.cap | grep kid; ronctl --cap @two.cap ls'
prove "All that a tenant has dies at once" '401 revoked.*exit 6' 'ronctl --cap $OP cap revoke --tenant dev; ronctl --cap @two.cap ls'
prove "An operator cannot lock itself out" '409.*exit 1' 'ronctl --cap $OP cap revoke --tenant system'
kill -9 "$pid"; wait "$pid" || true; pid=
dev
prove "Revocations outlive kill -9" '401 revoked.*401 revoked' 'ronctl --cap @one.cap ls; ronctl --cap @two.cap ls'
prove "The list of revocations is signed, and verifies offline with the node id alone" 'verified: 2 revocations.*exit 0' 'ronctl --cap $OP cap revocations --export list.dsse; ID=$(curl -s "$URL/version" | jq -r .node_id); RON_NODE=http://127.0.0.1:1 ronctl cap revocations --verify list.dsse --node-id "$ID"'
prove "A changed list does not" 'exit 4' 'sed "s/\"payload\": \"ey/\"payload\": \"fy/" list.dsse >bad.dsse; ronctl cap revocations --verify bad.dsse --node-id "$(curl -s "$URL/version" | jq -r .node_id)"'
kill "$pid"; wait "$pid" || true; pid=
export W=$caps_w; export RON_CAP=@$W/dev/tenant.cap OP=@$W/dev/operator.cap
