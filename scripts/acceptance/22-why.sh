# Why a call was refused.
rm -rf "$W/dev"; dev
export RON_CAP=@$W/dev/tenant.cap OP=@$W/dev/operator.cap
prove "A refusal's corr_id leads to the policies that decided and the nearest grant that would have allowed it" 'refused +403 denied by policy.*nearest grant +operator.*misses +action: wants action in Action::"operate"; has Action::"object:put".*passes if.*exit 0' 'ID=$(echo x | curl -s -X POST -H "Authorization: Bearer $(cat dev/operator.cap)" --data-binary @- "$URL/o" | jq -r .corr_id); ronctl --cap $OP node why $ID'
prove "A quota's refusal says the limit and when to come back" 'quota_rate by quota.*not before.*passes if.*requests_per_s 1, burst 1.*exit 0' 'ronctl --cap $OP tenant quota dev --requests-per-s 1 --request-burst 1 >/dev/null; for i in 1 2; do ID=$(curl -s -H "Authorization: Bearer $(cat dev/tenant.cap)" "$URL/v1/objects?limit=1" | jq -r ".corr_id // empty"); done; ronctl --cap $OP tenant quota dev --requests-per-s unlimited --request-burst unlimited >/dev/null; ronctl --cap $OP node why $ID'
prove "A bad token's refusal says what is wrong with it, and keeps nothing of it" 'forged by auth.*passes if.*none of the token.*exit 0' 'T=$(cat dev/tenant.cap); ID=$(curl -s -H "Authorization: Bearer ${T%??????}AAAAAA" "$URL/v1/objects" | jq -r .corr_id); ronctl --cap $OP node why $ID; ronctl --cap $OP node why $ID --output json | grep -q ron1_ || echo none of the token'
prove "What is not remembered is 404, with how far back the memory goes" 'known callers from .* to .*exit 1' 'ronctl --cap $OP node why 0000000000000000'
kill "$pid"; wait "$pid" || true; pid=
