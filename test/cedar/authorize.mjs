// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0
//
// Answers a batch of authorization questions with Cedar's own evaluator.
// node authorize.mjs FOLDER <batch >answers: FOLDER is where the package was installed.
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";

const cedar = createRequire(process.argv[2] + "/package.json")("@cedar-policy/cedar-wasm/nodejs");
const batch = JSON.parse(readFileSync(0, "utf8"));

const key = (uid) => uid.type + "::" + uid.id;
const answers = batch.sets.map((set, i) => {
  const parsed = cedar.preparsePolicySet("set" + i, { staticPolicies: set.policies });
  if (parsed.type !== "success") throw new Error("policies of set " + i + ": " + JSON.stringify(parsed.errors));
  return set.requests.map((r) => {
    const own = new Set(r.entities.map((e) => key(e.uid)));
    const entities = [...batch.actions, ...set.entities.filter((e) => !own.has(key(e.uid))), ...r.entities];
    const a = cedar.statefulIsAuthorized({
      principal: r.principal, action: r.action, resource: r.resource, context: r.context,
      preparsedPolicySetId: "set" + i, entities,
    });
    if (a.type !== "success") throw new Error("request of set " + i + ": " + JSON.stringify(a.errors));
    const d = a.response.diagnostics;
    return { allow: a.response.decision === "allow", reasons: d.reason, errors: d.errors.map((e) => e.policyId) };
  });
});
process.stdout.write(JSON.stringify({ version: cedar.getCedarSDKVersion(), answers }));
