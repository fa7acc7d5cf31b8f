// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package rules

import (
	"bytes"
	"encoding/json"
	"errors"
	"maps"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/cedar-policy/cedar-go/x/exp/schema"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/wall/policy/payload"
)

// devTenant is a tenant for tests.
var devTenant = macronode.TenantID{1, 0x8f, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}

var testMeta = payload.Meta{Version: 3, Issued: time.Date(2026, 11, 23, 8, 0, 0, 5, time.UTC)}

func mustBuild(t testing.TB, src payload.Sources) []byte {
	t.Helper()
	built, _, err := Build(src, testMeta)
	if err != nil {
		t.Fatalf("Build: %v", err)
	}
	return built
}

func mustSet(t testing.TB, src payload.Sources) *Set {
	t.Helper()
	s, err := Load(mustBuild(t, src))
	if err != nil {
		t.Fatalf("Load: %v", err)
	}
	return s
}

func TestDefaultsBuild(t *testing.T) {
	for name, src := range map[string]payload.Sources{
		"init":            payload.InitSources(),
		"init with two":   payload.InitSources(devTenant, macronode.TenantID{1, 2, 3}),
		"dev":             payload.DevSources(devTenant),
		"from the schema": {},
	} {
		t.Run(name, func(t *testing.T) {
			built, rep, err := Build(src, testMeta)
			if err != nil {
				t.Fatal(err)
			}
			if name != "from the schema" && (rep.Passed == 0 || len(rep.Untested) > 0) {
				t.Errorf("passed %d, untested %q", rep.Passed, rep.Untested)
			}
			again, _, err := Build(src, testMeta)
			if err != nil || !bytes.Equal(built, again) {
				t.Errorf("a second build differs (%v)", err)
			}
			s, err := Load(built)
			if err != nil {
				t.Fatal(err)
			}
			if s.Hash() != payload.Hash(built) || s.Version() != 3 || !s.Expires().IsZero() {
				t.Errorf("hash %s version %d expires %v", s.Hash(), s.Version(), s.Expires())
			}
		})
	}
}

// fsOf makes a directory of sources.
func fsOf(src payload.Sources) fstest.MapFS {
	fsys := fstest.MapFS{}
	for name, b := range src {
		fsys[name] = &fstest.MapFile{Data: b}
	}
	return fsys
}

func TestBuildDirIsBuild(t *testing.T) {
	src := payload.DevSources(devTenant)
	fsys := fsOf(src)
	fsys["README.md"] = &fstest.MapFile{Data: []byte("passed over")}
	fsys["old/broken.cedar"] = &fstest.MapFile{Data: []byte("permit(")}
	got, _, err := BuildDir(fsys, testMeta)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, mustBuild(t, src)) {
		t.Error("BuildDir and Build differ")
	}
}

const permitAll = "permit (principal, action, resource);\n"

func TestBuildRefuses(t *testing.T) {
	with := func(name, text string) payload.Sources {
		src := payload.Sources{"a.cedar": []byte(permitAll)}
		src[name] = []byte(text)
		return src
	}
	deep := strings.Repeat("(", 100) + "true" + strings.Repeat(")", 100)
	schema := payload.DefaultSchema()
	for name, tc := range map[string]struct {
		src  payload.Sources
		want string
	}{
		"syntax":            {with("b.cedar", "permit (principal, action, resource)"), "b.cedar"},
		"unknown action":    {with("b.cedar", `permit (principal, action == Action::"object:putt", resource);`), "object:putt"},
		"unknown group":     {with("b.cedar", `permit (principal, action in Action::"dat", resource);`), "dat"},
		"action in when":    {with("b.cedar", `permit (principal, action, resource) when { action == Action::"nope" };`), "nope"},
		"unknown type":      {with("b.cedar", `permit (principal is User, action, resource);`), "User"},
		"unknown attribute": {with("b.cedar", `permit (principal, action, resource) when { principal.role == "x" };`), "role"},
		"unknown context":   {with("b.cedar", `permit (principal, action, resource) when { context.country == "x" };`), "country"},
		"wrong type":        {with("b.cedar", `permit (principal, action, resource) when { context.bytes == "x" };`), "b.cedar:1"},
		"not boolean":       {with("b.cedar", `permit (principal, action, resource) when { context.bytes };`), "b.cedar:1"},
		"never applies":     {with("b.cedar", `permit (principal, action == Action::"object:put", resource is Topic);`), "applicable"},
		"peer elsewhere":    {with("b.cedar", `permit (principal is Peer, action == Action::"object:get", resource);`), "applicable"},
		"same id":           {with("b.cedar", `@id("x") permit (principal, action, resource); @id("x") forbid (principal, action, resource);`), "two policies"},
		"bad id":            {with("b.cedar", `@id("a b") permit (principal, action, resource);`), "@id"},
		"id of another":     {with("b.cedar", `@id("a.cedar#1") permit (principal, action, resource);`), "@id"},
		"lost obligation":   {with("b.cedar", `@obligations("audit") permit (principal, action, resource);`), "did you mean @obligation"},
		"tenth obligation":  {with("b.cedar", `@obligation_10("audit") permit (principal, action, resource);`), "did you mean @obligation"},
		"empty obligation":  {with("b.cedar", `@obligation("") permit (principal, action, resource);`), "empty"},
		"bad obligation":    {with("b.cedar", `@obligation("zk circuit") permit (principal, action, resource);`), "key=value"},
		"forbid obliges":    {with("b.cedar", `@obligation("audit") forbid (principal, action, resource);`), "forbid"},
		"deep":              {with("b.cedar", `permit (principal, action, resource) when { `+deep+` };`), "nested"},
		"long":              {with("b.cedar", `permit (principal, action, resource) when { context.path == "`+strings.Repeat("a", 70000)+`" };`), "statement"},
		"file name":         {with("b c.cedar", permitAll), "file name"},
		"misspelt file":     {with("quota.toml", ""), "did you mean quotas.toml"},
		"two schemas":       {payload.Sources{payload.SchemaFile: []byte(schema), payload.SchemaJSONFile: []byte("{}")}, "both"},
		"schema syntax":     {with(payload.SchemaFile, "entity ;"), "schema"},
		"foreign schema":    {payload.Sources{payload.SchemaFile: []byte(`entity User; action "x" appliesTo { principal: [User], resource: [User] };`)}, "Tenant"},
		"lesser context":    {payload.Sources{payload.SchemaFile: []byte(strings.Replace(schema, "hour: Long,", "hour: String,", 1))}, "does not fit"},
		"missing context":   {payload.Sources{payload.SchemaFile: []byte(strings.Replace(schema, "hour: Long,", "", 1))}, "does not fit"},
		"needed attribute":  {payload.Sources{payload.SchemaFile: []byte(strings.Replace(schema, "entity Object in [Tenant] { tenant: Tenant };", "entity Object in [Tenant] { tenant: Tenant, size: Long };", 1))}, "does not fit"},
		"entities syntax":   {with(payload.EntitiesFile, "{}"), "not an array"},
		"entities null":     {with(payload.EntitiesFile, "null"), "not an array"},
		"entity type":       {with(payload.EntitiesFile, `[{"uid":{"type":"User","id":"a"},"attrs":{},"parents":[]}]`), "User"},
		"entity attribute":  {with(payload.EntitiesFile, `[{"uid":{"type":"Tenant","id":"a"},"attrs":{"label":"x"},"parents":[]}]`), "Tenant"},
		"entity float":      {with(payload.EntitiesFile, `[{"uid":{"type":"Tenant","id":"a"},"attrs":{"label":1.5},"parents":[]}]`), "integers"},
		"entity big":        {with(payload.EntitiesFile, `[{"uid":{"type":"Tenant","id":"a"},"attrs":{"label":9007199254740993},"parents":[]}]`), "integers"},
		"entity twice":      {with(payload.EntitiesFile, `[`+tenantJSON("a")+`,`+tenantJSON("a")+`]`), "duplicate"},
		"action entity":     {with(payload.EntitiesFile, `[{"uid":{"type":"Action","id":"data"},"attrs":{},"parents":[]}]`), "schema's"},
		"quota key":         {with(payload.QuotasFile, "[default]\nrequest_per_s = 1\n"), "quotas.toml:2: unknown key default.request_per_s: did you mean requests_per_s?"},
		"quota twice":       {with(payload.QuotasFile, "[default]\nweight = 1\nweight = 2\n"), "quotas.toml:3"},
		"quota type":        {with(payload.QuotasFile, "[default]\nweight = \"1\"\n"), "quotas.toml"},
		"quota range":       {with(payload.QuotasFile, "[tenants.dev]\nobjects = -2\n"), "objects must be"},
		"quota weight":      {with(payload.QuotasFile, "[default]\nweight = 0\n"), "weight must be"},
		"quota tenant":      {with(payload.QuotasFile, "[tenants.Dev]\nweight = 1\n"), "neither"},
		"quota deep":        {with(payload.QuotasFile, "a = "+strings.Repeat("[", 1000)), "nested"},
		"test key":          {with(payload.TestsFile, "[[test]]\nexpekt = \"allow\"\n"), "did you mean expect?"},
		"test fails":        {with(payload.TestsFile, "[[test]]\nprincipal=\"anonymous\"\naction=\"docs:read\"\nresource=\"node/\"\nexpect=\"deny\"\n"), "want deny, got allow by a.cedar#1"},
		"test action":       {with(payload.TestsFile, "[[test]]\nprincipal=\"anonymous\"\naction=\"doc:read\"\nresource=\"node/\"\nexpect=\"deny\"\n"), "did you mean \"docs:read\""},
		"test resource":     {with(payload.TestsFile, "[[test]]\nprincipal=\"anonymous\"\naction=\"docs:read\"\nresource=\"nodes\"\nexpect=\"deny\"\n"), "resource"},
		"test expects":      {with(payload.TestsFile, "[[test]]\nprincipal=\"anonymous\"\naction=\"docs:read\"\nresource=\"node/\"\n"), "expect"},
		"test reasons":      {with(payload.TestsFile, "[[test]]\nprincipal=\"anonymous\"\naction=\"docs:read\"\nresource=\"node/\"\nexpect=\"allow\"\nreasons=[]\n"), "want reasons"},
		"test obligations":  {with(payload.TestsFile, "[[test]]\nprincipal=\"anonymous\"\naction=\"docs:read\"\nresource=\"node/\"\nexpect=\"allow\"\nobligations=[\"audit\"]\n"), "want obligations"},
		"not UTF-8":         {with("b.cedar", "// \xff\n"), "UTF-8"},
		"too big":           {with("b.cedar", strings.Repeat("// filler\n", 110_000)), "at most"},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := BuildDir(fsOf(tc.src), testMeta)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("err = %v, want %q in it", err, tc.want)
			}
		})
	}
}

func tenantJSON(id string, parents ...string) string {
	list := ""
	for i, p := range parents {
		if i > 0 {
			list += ","
		}
		list += p
	}
	return `{"uid":{"type":"Tenant","id":"` + id + `"},"attrs":{"label":"x","tenant":{"__entity":{"type":"Tenant","id":"` + id + `"}}},"parents":[` + list + `]}`
}

func TestBuildRefusesMeta(t *testing.T) {
	for name, change := range map[string]func(*payload.Meta){
		"version":  func(m *payload.Meta) { m.Version = 0 },
		"huge":     func(m *payload.Meta) { m.Version = 1 << 53 },
		"expired":  func(m *payload.Meta) { m.Expires = m.Issued.Add(-time.Hour) },
		"previous": func(m *payload.Meta) { m.Previous = "sha256:00" },
	} {
		m := testMeta
		change(&m)
		if _, _, err := Build(payload.InitSources(), m); err == nil {
			t.Errorf("%s: built", name)
		}
	}
	m := testMeta
	m.Expires, m.Previous = m.Issued.Add(time.Hour), payload.Hash([]byte("x"))
	built, _, err := Build(payload.InitSources(), m)
	if err != nil {
		t.Fatal(err)
	}
	s, err := Load(built)
	if err != nil || !s.Expires().Equal(time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)) {
		t.Errorf("expires %v, %v", s.Expires(), err)
	}
}

// Failed tests come back in the report, the error says that it was only them.
func TestBuildReport(t *testing.T) {
	src := payload.InitSources()
	src[payload.TestsFile] = append(src[payload.TestsFile], "\n[[test]]\nname = \"wrong\"\ntenant = \"system\"\naction = \"node:status\"\nresource = \"node/\"\nexpect = \"deny\"\n"...)
	built, rep, err := Build(src, testMeta)
	if built != nil || !errors.Is(err, ErrTests) || rep.Failed != 1 || rep.Passed == 0 {
		t.Errorf("built %d bytes, report %+v, err %v", len(built), rep, err)
	}
}

// Load takes one encoding of a built only.
func TestLoadRefusesOtherEncodings(t *testing.T) {
	good := string(mustBuild(t, payload.InitSources()))
	swap := func(old, with string) string {
		if !strings.Contains(good, old) {
			t.Fatalf("no %q in the built", old)
		}
		return strings.Replace(good, old, with, 1)
	}
	for name, text := range map[string]string{
		"empty":          "",
		"space":          " " + good,
		"newline":        good + "\n",
		"trailing":       good + "{}",
		"array":          "[]",
		"null":           "null",
		"unknown":        swap(`"version":3`, `"version":3,"x":1`),
		"twice":          swap(`"version":3`, `"version":3,"version":3`),
		"case":           swap(`"version":3`, `"Version":3`),
		"float":          swap(`"version":3`, `"version":3.0`),
		"exponent":       swap(`"version":3`, `"version":3e0`),
		"escape":         swap(`"version"`, `"versio\u006e"`),
		"missing":        swap(`,"version":3`, ``),
		"time zone":      swap(`"2026-11-23T08:00:00Z"`, `"2026-11-23T08:00:00+00:00"`),
		"deep":           swap(`"entities":[]`, `"entities":`+strings.Repeat("[", 500)+strings.Repeat("]", 500)),
		"very deep":      strings.Repeat("[", 1<<20),
		"too long":       good + strings.Repeat(" ", payload.MaxBytes),
		"no cedar":       `{"cedar":null,"entities":[],"expires_at":null,"issued_at":"2026-11-23T08:00:00Z","previous":null,"quotas":{},"schema":"","tests":{},"version":1}`,
		"lone surrogate": swap(`"entities":[]`, `"entities":["\ud800"]`),
	} {
		if _, err := Load([]byte(text)); err == nil {
			t.Errorf("%s: loaded", name)
		}
	}
	if _, err := Load([]byte(good)); err != nil {
		t.Error(err)
	}
}

// The JSON form of a schema is as good as Cedar's.
func TestJSONSchema(t *testing.T) {
	m := mustSet(t, payload.Sources{})
	if len(m.m.actions) < 50 {
		t.Errorf("%d actions", len(m.m.actions))
	}
	src := maps.Clone(payload.DevSources(devTenant))
	js := schemaJSON(t, src[payload.SchemaFile])
	delete(src, payload.SchemaFile)
	src[payload.SchemaJSONFile] = js
	mustSet(t, src)
}

func TestQuotas(t *testing.T) {
	src := payload.InitSources()
	src[payload.QuotasFile] = []byte("[default]\nrequests_per_s = 10\nweight = 2\n[tenants.dev]\nrequests_per_s = -1\nobjects = 0\n[tenants." + devTenant.String() + "]\nweight = 7\n")
	q := mustSet(t, src).Quotas()
	def, ok := q.Default()
	want := macronode.UnlimitedQuota()
	want.RequestsPerSec, want.Weight = 10, 2
	if !ok || def != want {
		t.Errorf("default %+v, %v", def, ok)
	}
	dev, ok := q.Tenant(macronode.TenantID{9}, "dev")
	want.RequestsPerSec, want.Objects = -1, 0
	if !ok || dev != want {
		t.Errorf("dev %+v, %v", dev, ok)
	}
	if byID, ok := q.Tenant(devTenant, "dev"); !ok || byID.Weight != 7 || byID.RequestsPerSec != 10 {
		t.Errorf("by id %+v, %v", byID, ok)
	}
	if other, ok := q.Tenant(macronode.TenantID{9}, "other"); ok || other != def {
		t.Errorf("other %+v, %v", other, ok)
	}
	if z, ok := (payload.Quotas{}).Default(); ok || z != macronode.UnlimitedQuota() {
		t.Errorf("zero %+v, %v", z, ok)
	}
}

func schemaJSON(t *testing.T, text []byte) []byte {
	t.Helper()
	var s schema.Schema
	if err := s.UnmarshalCedar(text); err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(&s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
