# Search: what is stored is found within a moment, by its tenant alone; a lost or damaged index comes back by itself. Sourced by scripts/acceptance.sh.
rm -rf "$W/dev"; dev
export RON_CAP=@$W/dev/tenant.cap OP=@$W/dev/operator.cap
# put TYPE: stores what it reads; find ARGUMENTS: a search that waits for all that is stored
cat >"$W/keep" <<'SH'
#!/usr/bin/env bash
curl -s -H "Authorization: Bearer $(cat "$W/dev/tenant.cap")" -H "Content-Type: $1" --data-binary @- "$URL/o" | jq -r .addr
SH
cat >"$W/find" <<'SH'
#!/usr/bin/env bash
exec ronctl search --fresh --wait 8s --output json "$@"
SH
chmod +x "$W/keep" "$W/find"; export PATH=$W:$PATH
echo "The annual budget report for the harbour" | keep text/plain >"$W/budget.addr"
printf '# Notes\n\nA report about the budget, not annual yet.\n' | keep text/markdown >"$W/notes.addr"
echo '<html><title>Harbour</title><p>ship <b>a</b>rrivals<script>budget()</script></html>' | keep text/html >"$W/page.addr"
prove "Words, phrases, prefixes, mistyped words and exclusions find what they should" '^2 1 3 2 1 0' 'for q in "budget report" "\"budget report\"" "harb* OR budget" "bugdet~" "report -notes annual \"annual budget\"" "script"; do echo -n "$(find "$q" | jq .total) "; done; echo'
prove "Filters, counts and highlights; HTML is searched without its markup" '"text/html".*Harbour.*ship ","arrivals"' 'find --type text/html --facets type "" | jq -c ".facets.type[0].value"; find "arrivals" | jq -c "\"\(.hits[0].title) \(.hits[0].highlights[0].parts)\""  | tr -d "\\\\"'
prove "Names are found, and move with what they point at" 'true.true.0' 'A=$(cat budget.addr); B=$(cat notes.addr); n() { curl -s -X PUT -H "Authorization: Bearer $(cat dev/tenant.cap)" -H "Content-Type: application/json" -d "{\"addr\":\"$1\"}" "$URL/v1/names/current.plan" >/dev/null; }; n $A; find name:plan | jq ".hits[0].addr == \"$A\""; n $B; find name:plan | jq ".hits[0].addr == \"$B\""; find "name:plan \"annual budget\"" | jq .total'
prove "What is deleted is not found any more" '^1 0' 'A=$(echo "fleeting words" | keep text/plain); find fleeting | jq -j .total; ronctl rm $A >/dev/null; find fleeting | jq -j "\" \(.total)\""'
prove "A query that would cost too much, or is none, is refused with the reason" 'at least 2 characters.*did you mean name.*at most 32 words' 'for q in "a*" "nmae:x" "$(printf "w%s " $(seq 40))"; do ronctl search "$q" || true; done'
prove "The operator searches no tenant's objects" 'denied|403|policy|caveat' 'RON_CAP=$OP ronctl search budget; echo $?'
kill "$pid"; wait "$pid" || true
printf 'x' | dd of="$(find=; ls -S "$W"/dev/search/*/*/store/*.zap | head -n1)" bs=1 seek=200 conv=notrunc 2>/dev/null
dev
prove "A damaged index is set aside and built again: everything is found, in a new generation" '"total":2,"generation":2,"complete":true' 'find "budget report" | jq -c "{total, generation, complete}"; ls dev/search/quarantine | head -n1'
kill -9 "$pid"; wait "$pid" 2>/dev/null || true; rm -rf "$W/dev/search"; dev
prove "So is one that is gone" '"total":2,"complete":true' 'find "budget report" | jq -c "{total, complete}"'
prove "Metrics say how far behind it is" 'search_ingest_lag_seconds 0.*queue="search_ingest"\} 0|queue="search_ingest"\} 0.*search_ingest_lag_seconds 0' 'curl -s "$URL/metrics" | grep -E "^search_ingest_lag_seconds|search_ingest\"\}"'
kill "$pid"; wait "$pid" || true; pid=
