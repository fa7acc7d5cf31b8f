# A policy that changes while the node runs: looked at, shadowed, replayed, signed by two, and never an older one again.
macronode init --data pnode --http 127.0.0.1:18461 --oap 127.0.0.1:18462 --tls none --tenant acme >/dev/null
macronode kms create second --alg ed25519+ml-dsa-65 --purpose bundle --data pnode >/dev/null
start "$W/pnode.log" macronode run --config pnode/macronode.bundle.toml --data pnode; pid=$started
export RON_NODE=http://127.0.0.1:18461 RON_CAP=@$W/pnode/tenant.cap OP=@$W/pnode/operator.cap; await ronctl node ready
cat >pin.sh <<'SH'
# $1: version of the KMS object, $2: hash of the policy to pin. Signs the config as its next version.
python3 - "$1" "$2" <<'PY'
import re, sys
t = open("pnode/macronode.bundle.toml").read()
head, tail = t.split("[policy]")
tail = re.sub(r'bundle_kms = "[^"]*"', 'bundle_kms = "KMS:obj/policy-bundle@v%s"' % sys.argv[1], tail, count=1)
tail = re.sub(r'(?m)^bundle_hash = "[^"]*"', 'bundle_hash = "%s"' % sys.argv[2], tail, count=1)
open("pnode/macronode.bundle.toml", "w").write(head + "[policy]" + tail)
PY
macronode bundle sign pnode/macronode.bundle.toml --data pnode --bump >/dev/null
SH
ID=$(ronctl --cap $OP --output json tenant show acme | jq -r .id); export ID
macronode policy defaults psrc --tenant "$ID" >/dev/null; cp -r psrc pbad
cat >>pbad/operator.cedar <<'CEDAR'

@id("night") permit (principal, action, resource) when { context.hour > 23 };
CEDAR
prove "lint finds what is legal and likely not meant, for people and for machines" 'warning +any-action.*warning +unreachable.*note +untested.*exit 1.*"check": ?"unreachable"' 'macronode policy lint pbad; echo "[exit $?]"; macronode policy lint pbad --output json | jq -c ".[] | {check, policy, line}"'
prove "Coverage says which policies the tests prove, and holds them to a share" 'POLICY +EFFECT +DECIDED.*night +permit +0.*decided a test: [0-9]+%.*100% are wanted.*exit 1' 'macronode policy test pbad --min 100 2>&1 | tail -n 12; exit ${PIPESTATUS[0]}'
prove "explain takes a request by flags and says who decided, who matched, and what came near" 'allow: Allowed: data-.* permits it.*deny: .*no policy permits.*would permit .*but lacks: principal' 'macronode policy explain psrc --tenant $ID --action object:get --resource object/; macronode policy explain psrc --tenant 01ARZ3NDEKTSV4RRFFQ69G5FAV --action object:get --resource object/'
cp -r psrc pnext
cat >>pnext/operator.cedar <<'CEDAR'

@id("no-lists") forbid (principal, action == Action::"object:list", resource);
CEDAR
sed -i "/^\[\[test\]\]/,\$d" pnext/tests.toml
macronode policy build pnext -o p2.json --data pnode --install policy-bundle@v2 --output json >p2.out
H1=$(sed -n '/^\[policy\]/,$s/^bundle_hash = "\(.*\)"/\1/p' pnode/macronode.bundle.toml); H2=$(jq -r .bundle_hash p2.out); export H1 H2
prove "A shadow policy is asked beside the one in force, by a live reload, and decides nothing" '"restart_required":null.*would_deny +[1-9].*allow +data-.*deny +no-lists.*policy_shadow_total\{result="would_deny"\} [1-9]' 'sed -i "s#^\[policy\]#[policy]\nshadow_kms = \"KMS:obj/policy-bundle@v2\"\nshadow_hash = \"$H2\"#" pnode/macronode.bundle.toml; macronode bundle sign pnode/macronode.bundle.toml --data pnode --bump >/dev/null; ronctl --cap $OP node reload --output json | jq -c "{version, restart_required}"; for i in 1 2 3; do ronctl ls --limit $i >/dev/null || exit 1; sleep 0.3; done; ronctl --cap $OP policy shadow; curl -s $RON_NODE/metrics | grep "^policy_shadow_total"'
prove "Recorded decisions hold attributes and hashes: no token, no object, no machine" 'decisions.*object/h:.*none of them' 'echo hello | ronctl put - >put.out; A=$(grep -o "b3:[0-9a-f]*" put.out | head -n1); ronctl stat $A >/dev/null; sleep 0.3; ronctl --cap $OP policy record -o d.ndjson; grep -o "\"resource\":\"object/h:[0-9a-f]*\"" d.ndjson | head -n1; grep -cE "ron1_|$A|127\.0\.0\.1\"" d.ndjson || echo none of them'
prove "Replay tells before the change what it would flip, through the node and offline" 'COUNT +WAS.*allow +data-.*deny +no-lists.*flip.*exit 1.*0 flip' 'ronctl --cap $OP policy replay --decisions d.ndjson --candidate pnext; echo "[exit $?]"; macronode policy replay --decisions d.ndjson --candidate psrc'
prove "Two of two must sign, one after the other, each alone; then the policy is accepted" '1 of 2 anchors signed, 2 needed.*exit 4.*policy#v1, second#v1.*exit 0' 'cp pnode/trust.json trust.keep; macronode kms export-public second --data pnode --output json | jq -c ".keys[0].versions[] | {name: \"second\", version, ed25519: (.public[] | select(.alg == \"ed25519\").raw), ml_dsa_65: (.public[] | select(.alg == \"ml-dsa-65\").raw)}" >anchor; jq --slurpfile a anchor ".policy.anchors += \$a | .policy.threshold = 2" trust.keep >pnode/trust.json; macronode policy verify p2.json --data pnode; echo "[exit $?]"; macronode policy sign p2.json -o p2s.json --data pnode --key KMS:key/second >/dev/null; macronode policy verify p2s.json --data pnode; code=$?; cp trust.keep pnode/trust.json; chmod 600 pnode/trust.json; exit $code'
prove "The new policy comes into force by reload" '"version": ?[0-9]+.*denied' 'sed -i "/^shadow_/d" pnode/macronode.bundle.toml; bash pin.sh 2 $H2; ronctl --cap $OP node reload --output json; ronctl ls'
prove "An older policy is refused at reload, though signed and pinned by a newer config; nothing changes" 'an older policy: version 1, while version 2 was in force.*no-lists' 'cp pnode/macronode.bundle.toml good.toml; cp pnode/macronode.bundle.toml.sig good.sig; bash pin.sh 1 $H1; ronctl --cap $OP node reload; ronctl ls; grep -o "no-lists" pnode.log | head -n1; macronode policy explain p2s.json --tenant $ID --action object:list --resource object/ | head -n1'
kill "$pid"; wait "$pid" || true; pid=
prove "The same at a cold start, and check says so beforehand" 'an older policy.*exit 4.*check says it too' 'timeout 20 macronode run --config pnode/macronode.bundle.toml --data pnode 2>&1 | grep -o "an older policy[^;]*" | head -n1; timeout 20 macronode run --config pnode/macronode.bundle.toml --data pnode >/dev/null 2>&1; echo "[exit $?]"; macronode check --config pnode/macronode.bundle.toml --data pnode | grep -q "an older policy" && echo "check says it too"'
prove "Older content comes back as a new version" '"previous": ?"blake3:.*b3:' 'cp good.toml pnode/macronode.bundle.toml; cp good.sig pnode/macronode.bundle.toml.sig; macronode policy build psrc -o p3.json --data pnode --install policy-bundle@v3 --output json | tee p3.out; bash pin.sh 3 $(jq -r .bundle_hash p3.out); macronode run --config pnode/macronode.bundle.toml --data pnode >p3.log 2>&1 & N=$!; ronctl node ready --wait 20s >/dev/null; ronctl ls; kill $N; wait $N'
prove "Every older valid bundle in every order, over reloads, restarts, power losses and restores: the version in force never goes down and never forks" '--- PASS: TestPolicyNeverGoesBack.*--- PASS: TestPolicyMarkCrash.*exit 0' "cd \$ROOT && go test -count=1 -v -run '^TestPolicy' ./internal/datadir -rapid.checks=500 | grep -E '^(--- |ok|FAIL)|OK, passed'; exit \${PIPESTATUS[0]}"
