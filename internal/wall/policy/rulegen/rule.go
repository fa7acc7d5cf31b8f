// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package rulegen

import (
	"fmt"
	"strings"
)

// Rule is a random rule. Strict validation refuses some of them: a condition
// that can never hold in its scope, for one.
func (g Gen) Rule(tangled bool) string {
	var b strings.Builder
	effect := one(g, "permit", "permit", "permit", "permit", "forbid")
	principal := one(g, "principal", "principal", "principal", "principal is Capability", "principal is Capability", "principal is Anonymous",
		"principal in "+g.tenant(), "principal is Capability in "+g.tenant(), "principal == "+g.capability(), "principal in "+g.capability(),
		"principal in "+g.group(), `principal == Anonymous::"anonymous"`)
	action := one(g, "action", "action", "action", `action in Action::"data"`, `action == Action::"object:get"`, `action in [Action::"operate", Action::"object:*"]`)
	resource := one(g, "resource", "resource", "resource is Object", "resource is Object", "resource == "+g.object(),
		"resource in "+g.tenant(), "resource in "+g.group(), "resource is Object in "+g.group())
	fmt.Fprintf(&b, "%s (%s, %s, %s)", effect, principal, action, resource)
	x := scope{g: g, tangled: tangled, capability: strings.Contains(principal, "Capability"), object: strings.Contains(resource, "Object")}
	for range one(g, 0, 1, 1, 1, 2) {
		fmt.Fprintf(&b, " %s { %s }", one(g, "when", "when", "when", "unless"), x.boolean(3))
	}
	b.WriteString(";\n")
	return b.String()
}

// scope is what an expression may take for granted.
type scope struct {
	g                  Gen
	tangled            bool
	capability, object bool // the principal is a capability, the resource an object
}

func (x scope) boolean(depth int) string {
	g := x.g
	if depth > 0 && g.chance(2, 5) {
		a, b := x.boolean(depth-1), x.boolean(depth-1)
		switch g.Src.IntN(6) {
		case 0, 1:
			return "(" + a + " && " + b + ")"
		case 2, 3:
			return "(" + a + " || " + b + ")"
		case 4:
			return "!(" + a + ")"
		}
		return "(if " + a + " then " + b + " else " + x.boolean(depth-1) + ")"
	}
	switch g.Src.IntN(10) {
	case 0, 1:
		return x.number(2) + one(g, " < ", " <= ", " > ", " >= ", " == ", " != ") + x.number(2)
	case 2:
		return x.words()
	case 3, 4:
		return x.relation()
	case 5:
		return x.address()
	case 6:
		return x.extension()
	case 7:
		return x.structure()
	case 8:
		return x.literalEntity()
	}
	return x.guarded()
}

func (x scope) number(depth int) string {
	g := x.g
	if g.Src.IntN(1000) < g.Faults {
		return "(context.bytes + 9223372036854775797)" // fails from 11 bytes on
	}
	if depth > 0 && g.chance(1, 3) {
		switch g.Src.IntN(5) {
		case 0:
			return "(" + x.number(depth-1) + " + " + x.number(depth-1) + ")"
		case 1:
			return "(" + x.number(depth-1) + " - " + x.number(depth-1) + ")"
		case 2:
			return "(" + x.number(depth-1) + " * " + x.number(depth-1) + ")"
		case 3:
			return "-(" + x.number(depth-1) + ")"
		}
		return "(if context.tls then " + x.number(depth-1) + " else " + x.number(depth-1) + ")"
	}
	return one(g, "context.bytes", "context.hour", "0", "5", "12", "-3", "20")
}

func (x scope) text() string {
	return one(x.g, "context.path", "context.method", "context.service", "context.mtls_subject", "principal.label", `"dev"`, `"GET"`, `"svc-storage"`, `"CN=a"`, `"/o/{addr}"`)
}

func (x scope) words() string {
	g := x.g
	switch g.Src.IntN(6) {
	case 0:
		return x.text() + " == " + x.text()
	case 1:
		return x.text() + " != " + x.text()
	case 2:
		return x.text() + " like " + one(g, `"/o/*"`, `"*a*"`, `"*"`, `"s*-*e"`, `"\*"`, `"GET"`, `""`)
	case 3:
		return "[" + x.text() + ", " + x.text() + "].contains(" + x.text() + ")"
	case 4:
		return "[" + x.text() + ", " + x.text() + "].contains" + one(g, "All", "Any") + "([" + x.text() + "])"
	}
	return one(g, "context.tls", `["a", "b", "c", "d", "e", "f", "g", "dev", "GET"].contains(`+x.text()+")", "["+x.text()+"].isEmpty()",
		"context has "+one(g, "bytes", "tls", "ip"), `{"a": context.path, "b": context.bytes} == {"b": 5, "a": "/o/{addr}"}`,
		`{"a": `+x.text()+`}.a == `+x.text())
}

// relation is "in", "is" and "==" of the request's own entities.
func (x scope) relation() string {
	g := x.g
	return one(g,
		"principal.tenant == resource.tenant", "principal in "+g.tenant(), "principal in ["+g.tenant()+", "+g.group()+"]",
		"principal == "+g.capability(), "principal != "+g.capability(), "resource == "+g.object(), "resource in "+g.group(), "resource in resource.tenant",
		"principal in resource.tenant", "principal.tenant in "+g.group(), "principal.tenant in ["+g.group()+", "+g.group()+"]",
		"principal is Capability", "principal is Capability in "+one(g, g.tenant(), g.group()), "resource is Object", "resource is Object in "+g.tenant(),
		"["+g.capability()+", "+g.capability()+"].contains(principal)", "["+g.object()+", "+g.object()+"].contains(resource)", "principal in "+g.capability(),
		`action == Action::"object:get"`, `action in Action::"data:read"`, `action in [Action::"operate", Action::"data:write"]`,
		"principal.tenant.label == principal.label", "resource.tenant.label == "+x.text(), "principal has label", "resource has tenant",
	)
}

func (x scope) literalEntity() string {
	g := x.g
	if g.Src.IntN(1000) < g.Faults {
		// These fail where there is no such entity.
		return one(g, g.tenant()+`.label == "dev"`, g.capability()+".tenant == "+g.tenant(), g.object()+".tenant == "+g.tenant())
	}
	return one(g, g.capability()+" in "+g.tenant(), g.object()+" in "+g.tenant(), g.group()+" in "+g.group(), g.tenant()+" in "+g.group(),
		g.capability()+" in "+g.group(), g.capability()+" has tenant", g.tenant()+` has plan && `+one(g, g.tenant()+" has level", "context.tls"),
		`Group::"g" in Group::"h"`, `Group::"g" has home && Group::"g".home == principal.tenant`, g.object()+" has hot",
		x.when(x.tangled, g.group()+" in "+g.tenant(), g.group()+" in "+g.capability(), g.group()+" in "+g.object()))
}

// when picks one where ok, and else something harmless.
func (x scope) when(ok bool, from ...string) string {
	if !ok {
		return "context.tls"
	}
	return one(x.g, from...)
}

func (x scope) address() string {
	nets := one(x.g, `ip("10.0.0.0/8")`, `ip("127.0.0.1")`, `ip("::1")`, `ip("2001:db8::/32")`, `ip("0.0.0.0/0")`)
	return one(x.g, "context.ip.isInRange("+nets+")", nets+".isInRange("+nets+")", "context.ip == "+nets, "context.ip.isIpv4()", "context.ip.isIpv6()",
		"context.ip.isLoopback()", "context.ip.isMulticast()", "["+nets+", context.ip].contains(context.ip)")
}

func (x scope) extension() string {
	g := x.g
	dec := func() string { return one(g, `decimal("1.5")`, `decimal("-0.1")`, `decimal("2.0000")`) }
	date := func() string {
		return one(g, `datetime("2026-01-01")`, `datetime("2026-11-23T12:00:00Z")`, `datetime("2026-01-01").offset(duration("36h"))`, `datetime("2026-11-23T12:00:00Z").toDate()`)
	}
	span := func() string {
		return one(g, `duration("1h30m")`, `duration("-2d")`, date()+".durationSince("+date()+")", date()+".toTime()")
	}
	return one(g,
		dec()+one(g, ".lessThan(", ".lessThanOrEqual(", ".greaterThan(", ".greaterThanOrEqual(")+dec()+")", dec()+" == "+dec(),
		date()+one(g, " < ", " >= ", " == ")+date(), span()+one(g, " <= ", " > ", " != ")+span(),
		span()+one(g, ".toHours()", ".toDays()", ".toMinutes()", ".toSeconds()", ".toMilliseconds()")+" > "+x.number(1))
}

// structure is attributes of the tenant: optional, nested, sets.
func (x scope) structure() string {
	g := x.g
	t := one(g, "principal.tenant", "principal.tenant", "resource.tenant")
	return "(" + one(g,
		t+` has plan && `+t+`.plan == "big"`, t+" has level && "+t+".level >= "+x.number(1), t+" has suspended && "+t+".suspended",
		t+" has limits && "+t+".limits.rate > "+x.number(1), t+" has limits && "+t+".limits has burst && "+t+".limits.burst > "+x.number(0),
		t+` has zones && `+t+`.zones.contains("eu")`, t+` has zones && `+t+`.zones.contains`+one(g, "All", "Any")+`(["eu", "ap"])`, t+` has zones && !`+t+`.zones.isEmpty()`,
		t+" has best && "+t+".best in "+g.group(), t+" has best && "+t+".best has size && "+t+".best.size == 4",
		t+" has best && "+t+".best == "+g.group(), t+".tenant == "+g.tenant(),
		x.when(x.tangled, t+" has owner && "+t+".owner == principal", t+" has owner && "+t+".owner in "+g.tenant(), t+" has best && "+t+".best in "+g.tenant()),
	) + ")"
}

// guarded is what only some principals and resources have.
func (x scope) guarded() string {
	g := x.g
	p, r := "principal is Capability && ", "resource is Object && "
	if x.capability && g.chance(1, 2) {
		p = ""
	}
	if x.object && g.chance(1, 2) {
		r = ""
	}
	return "(" + one(g,
		p+"principal has rank && principal.rank > "+x.number(1), p+"principal has from && context.ip.isInRange(principal.from)",
		p+"principal has nets && principal.nets.contains(context.ip)", p+`principal has score && principal.score.lessThan(decimal("2.0"))`,
		p+`principal has since && principal.since < datetime("2026-06-01")`, p+`principal has left && principal.left >= duration("30m")`,
		p+`principal.hasTag("team") && principal.getTag("team") == "red"`, p+"principal.hasTag(context.method)",
		r+"resource has hot && resource.hot", r+`resource has meta && resource.meta.kind == "log"`, r+"resource has meta && resource.meta.sizes.contains(context.bytes)",
		r+"resource has meta && resource.meta has by && resource.meta.by == principal.tenant", r+"!(resource has hot)", p+"!(principal has rank)",
	) + ")"
}
