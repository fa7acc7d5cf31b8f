// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package policy

import (
	"context"
	"fmt"
	"strings"

	cedar "github.com/cedar-policy/cedar-go"
	"github.com/cedar-policy/cedar-go/types"
	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
)

// plainCedar is cedar-go as its documentation shows it: a policy set, a map of
// entities, requests that are made beforehand.
type plainCedar struct {
	policies *cedar.PolicySet
	entities types.EntityMap
}

func newPlainCedar(policies int) (*plainCedar, error) {
	var text strings.Builder
	text.WriteString("forbid (principal, action, resource) when { principal.suspended };\n")
	for i := range policies - 1 {
		fmt.Fprintf(&text, "permit (principal in Group::\"%d\", action == Action::\"object:get\", resource == Object::\"%d\") when { principal.level >= 3 && context.bytes <= 1000 };\n", i%groups, i)
	}
	set, err := cedar.NewPolicySetFromBytes("world.cedar", []byte(text.String()))
	if err != nil {
		return nil, err
	}
	e := types.EntityMap{}
	add := func(uid types.EntityUID, attrs types.RecordMap, parents ...types.EntityUID) {
		e[uid] = types.Entity{UID: uid, Attributes: types.NewRecord(attrs), Parents: types.NewEntityUIDSet(parents...)}
	}
	for i := range groups {
		add(uid("Group", i), nil)
	}
	for i := range buckets {
		add(uid("Object", i), types.RecordMap{"public": types.False})
	}
	for u := range users {
		add(uid("User", u), types.RecordMap{"level": types.Long(level(u)), "suspended": types.Boolean(suspended(u))}, uid("Group", u%groups))
	}
	return &plainCedar{set, e}, nil
}

func uid(typ types.EntityType, n int) types.EntityUID {
	return types.NewEntityUID(typ, types.String(fmt.Sprint(n)))
}

func (p *plainCedar) requests(list []call) []types.Request {
	out := make([]types.Request, len(list))
	for i, c := range list {
		out[i] = types.Request{
			Principal: uid("User", c.user), Action: types.NewEntityUID("Action", "object:get"), Resource: uid("Object", c.bucket),
			Context: types.NewRecord(types.RecordMap{"bytes": types.Long(c.bytes)}),
		}
	}
	return out
}

func (p *plainCedar) decide(r types.Request) bool {
	ok, _ := cedar.Authorize(p.policies, p.entities, r)
	return bool(ok)
}

// The ways to say the same in Rego, from what its rule index can use best to
// what it cannot use at all.
const (
	regoIndexed = "a rule a policy, `input.resource == \"N\"`"
	regoLookup  = "a rule a policy, the bucket looked up in data"
	regoData    = "one rule over data"
)

const regoHead = "package world\n\nimport rego.v1\n\ndefault allow := false\n\nallow if {\n\tnot data.users[input.user].suspended\n\tgranted\n}\n\n"

// regoModule writes the policies in one of the ways.
func regoModule(way string, policies int) string {
	var b strings.Builder
	b.WriteString(regoHead)
	const condition = "\tuser := data.users[input.user]\n\tuser.group == %s\n\tuser.level >= 3\n\tinput.bytes <= 1000\n}\n\n"
	if way == regoData {
		b.WriteString("granted if {\n\tinput.action == \"object:get\"\n\tgroup := data.grants[input.resource]\n")
		fmt.Fprintf(&b, condition, "group")
		return b.String()
	}
	for i := range policies - 1 {
		b.WriteString("granted if {\n\tinput.action == \"object:get\"\n")
		if way == regoLookup {
			fmt.Fprintf(&b, "\tdata.buckets[input.resource].id == \"%d\"\n", i)
		} else {
			fmt.Fprintf(&b, "\tinput.resource == \"%d\"\n", i)
		}
		fmt.Fprintf(&b, condition, fmt.Sprintf("\"%d\"", i%groups))
	}
	return b.String()
}

// opa is a prepared query over an in-memory store that keeps what it holds in
// the evaluator's own form.
type opa struct{ query rego.PreparedEvalQuery }

func newOPA(ctx context.Context, way string, policies int) (*opa, error) {
	people, things, grants := object{}, object{}, object{}
	for u := range users {
		people[fmt.Sprint(u)] = object{"group": fmt.Sprint(u % groups), "level": level(u), "suspended": suspended(u)}
	}
	for i := range buckets {
		things[fmt.Sprint(i)] = object{"id": fmt.Sprint(i), "public": false}
	}
	for i := range policies - 1 {
		grants[fmt.Sprint(i)] = fmt.Sprint(i % groups)
	}
	store := inmem.NewFromObjectWithOpts(object{"users": people, "buckets": things, "grants": grants}, inmem.OptReturnASTValuesOnRead(true))
	q, err := rego.New(rego.Query("data.world.allow"), rego.Module("world.rego", regoModule(way, policies)), rego.Store(store)).PrepareForEval(ctx)
	if err != nil {
		return nil, err
	}
	return &opa{q}, nil
}

func (o *opa) requests(list []call) ([]ast.Value, error) {
	out := make([]ast.Value, len(list))
	for i, c := range list {
		t, err := ast.ParseTerm(mustJSON(object{"user": fmt.Sprint(c.user), "action": "object:get", "resource": fmt.Sprint(c.bucket), "bytes": c.bytes}))
		if err != nil {
			return nil, err
		}
		out[i] = t.Value
	}
	return out, nil
}

func (o *opa) decide(ctx context.Context, input ast.Value) bool {
	rs, err := o.query.Eval(ctx, rego.EvalParsedInput(input))
	return err == nil && rs.Allowed()
}
