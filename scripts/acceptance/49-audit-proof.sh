# What is on record, shown to strangers and compared with what was kept. Sourced by scripts/acceptance.sh.
rm -rf "$W/dev"; dev
export RON_CAP=@$W/dev/operator.cap OP=@$W/dev/operator.cap
ronctl audit key >"$W/node.vkey"; ronctl tenant create acme >/dev/null; sleep 0.3; ronctl audit checkpoint >"$W/kept.note"
prove "The log is followed as it grows, from its beginning" '0 .*tenant\.create|tenant\.create' 'timeout 10 ronctl audit tail --from 0 -n 1'
prove "A follower goes on where it was, from run to run" '^1 |"seq":1' 'timeout 10 ronctl audit tail --from 0 -n 1 --cursor cur >/dev/null; ronctl tenant create other >/dev/null; timeout 10 ronctl audit tail -n 1 --cursor cur'
prove "What was kept is the beginning of what the node has" 'extends' 'sleep 0.3; ronctl audit diff kept.note "$URL" --key node.vkey'
prove "A log that went back is noticed" 'went back|shorter' 'ronctl audit export -o now.audit; ronctl tenant create third >/dev/null; sleep 0.3; ronctl audit export -o later.audit; ronctl audit diff later.audit now.audit --key node.vkey'
prove "A capability in the wrong place is not on record, and that it was is" '\[redacted\].*redacted' 'curl -s -o /dev/null -H "Authorization: Bearer $(cat dev/operator.cap)" -X POST "$URL/v1/kms/keys/$(cat dev/tenant.cap)/rotate"; sleep 0.3; ronctl audit query --kind kms.rotate --desc --limit 1 --output json | tr -d "\n"'
kill "$pid"; wait "$pid" || true; pid=
export RON_CAP=@$W/dev/tenant.cap
