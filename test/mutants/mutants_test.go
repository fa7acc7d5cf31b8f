// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const good = `# a comment

mutant first-one
why    it would be wrong
file   a/a.go
test   ./a -run TestSum
fails  TestSum
find
	if a > b {
		return a
with
	if a < b {
		return a
end

mutant second
why    so would this
file   a/a.go
test   ./a
find
return b
with
end
`

func TestParse(t *testing.T) {
	list, err := parseTable(good)
	if err != nil || len(list) != 2 {
		t.Fatalf("%d entries, %v", len(list), err)
	}
	m := list[0]
	if m.name != "first-one" || m.why != "it would be wrong" || m.file != "a/a.go" || m.fails != "TestSum" || strings.Join(m.test, "|") != "./a|-run|TestSum" {
		t.Errorf("%+v", m)
	}
	if m.find != "if a > b {\n\t\treturn a" || m.with != "if a < b {\n\t\treturn a" || list[1].with != "" {
		t.Errorf("%q becomes %q; %q", m.find, m.with, list[1].with)
	}
}

func TestParseRefuses(t *testing.T) {
	for name, edit := range map[string][2]string{
		"no name":         {"mutant first-one", "mutant"},
		"bad name":        {"mutant first-one", "mutant First one"},
		"no why":          {"why    it would be wrong\n", ""},
		"no file":         {"file   a/a.go\ntest   ./a -run", "test   ./a -run"},
		"no test":         {"test   ./a -run TestSum\n", ""},
		"unknown field":   {"why    it", "wy     it"},
		"said twice":      {"fails  TestSum", "fails  TestSum\nfails  TestSum"},
		"test twice":      {"test   ./a -run TestSum", "test   ./a\ntest   ./a"},
		"no with":         {"with\n\tif a < b {\n\t\treturn a\nend\n", ""},
		"no end":          {"with\nend\n", "with\n"},
		"nothing to find": {"find\nreturn b\n", "find\n"},
		"no change":       {"if a < b", "if a > b"},
		"a test file":     {"file   a/a.go\ntest   ./a\n", "file   a/a_test.go\ntest   ./a\n"},
		"outside":         {"file   a/a.go\ntest   ./a\n", "file   ../a.go\ntest   ./a\n"},
		"text between":    {"end\n\nmutant", "end\nwords\nmutant"},
		"no find at all":  {"find\nreturn b\nwith\nend\n", ""},
	} {
		text := strings.Replace(good, edit[0], edit[1], 1)
		if text == good {
			t.Fatalf("%s: the edit changes nothing", name)
		}
		if list, err := parseTable(text); err == nil {
			t.Errorf("%s: %d entries taken", name, len(list))
		}
	}
}

func TestReadTables(t *testing.T) {
	dir := t.TempDir()
	if _, err := readTables(dir); err == nil {
		t.Error("an empty folder is a table")
	}
	for _, name := range []string{"a.txt", "b.txt"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(good), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := readTables(dir); err == nil || !strings.Contains(err.Error(), "two mutants first-one") {
		t.Errorf("one name twice: %v", err)
	}
	// The real one is read; whether it fits the code is for the tool to say.
	if list, err := readTables("table"); err != nil || len(list) < 40 {
		t.Errorf("%d mutants, %v", len(list), err)
	}
}

func TestApply(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "a.go"), []byte("one two one\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	m := mutant{name: "m", file: "a.go", find: "two", with: "three"}
	if err := m.apply(dir); err != nil || m.mutated != "one three one\n" {
		t.Errorf("%q, %v", m.mutated, err)
	}
	for find, want := range map[string]string{"one": "2 times", "four": "is not in"} {
		m := mutant{name: "m", file: "a.go", find: find}
		if err := m.apply(dir); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", find, err)
		}
	}
	gone := mutant{name: "m", file: "b.go", find: "one"}
	if err := gone.apply(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
}

func TestReadEvents(t *testing.T) {
	v, err := readEvents(strings.NewReader(`{"Action":"start","Package":"p"}
{"Action":"output","Package":"p","Output":"words\n"}
{"Action":"pass","Package":"p","Test":"TestA"}
{"Action":"fail","Package":"p","Test":"TestB/sub"}
{"Action":"fail","Package":"p","Test":"TestB"}
{"Action":"fail","Package":"p"}
`))
	if err != nil || strings.Join(v.passed, " ") != "TestA" || strings.Join(v.failed, " ") != "TestB/sub TestB" || !v.broken || v.build || v.output != "words\n" {
		t.Errorf("%+v, %v", v, err)
	}
	v, err = readEvents(strings.NewReader(`{"ImportPath":"p","Action":"build-output","Output":"undefined: x\n"}
{"ImportPath":"p","Action":"build-fail"}
{"Action":"fail","Package":"p","FailedBuild":"p"}
`))
	if err != nil || !v.build || v.output != "undefined: x\n" {
		t.Errorf("%+v, %v", v, err)
	}
	if _, err := readEvents(strings.NewReader("panic: no JSON\n")); err == nil {
		t.Error("text is taken for events")
	}
}

func TestJudge(t *testing.T) {
	plain, named := &mutant{name: "m"}, &mutant{name: "m", fails: "TestA"}
	for _, c := range []struct {
		what string
		m    *mutant
		v    verdict
		want state
	}{
		{"nothing failed", plain, verdict{passed: []string{"TestA"}}, survived},
		{"a test failed", plain, verdict{failed: []string{"TestB"}, broken: true}, killed},
		{"the process ended", plain, verdict{broken: true}, killed},
		{"it does not compile", plain, verdict{build: true, broken: true}, invalid},
		{"the named one failed", named, verdict{failed: []string{"TestA/x", "TestA"}, broken: true}, killed},
		{"only another failed", named, verdict{failed: []string{"TestB"}, broken: true}, survived},
		{"the process ended before the named one", named, verdict{broken: true}, survived},
	} {
		if got := judge(c.m, c.v, time.Second); got.state != c.want {
			t.Errorf("%s: %d %q, want %d", c.what, got.state, got.line, c.want)
		}
	}
}

// module writes a module with one package and a table into a new folder.
func module(t *testing.T, table string) (root string) {
	t.Helper()
	root = t.TempDir()
	for name, text := range map[string]string{
		"go.mod":              "module example.org/m\n\ngo 1.26\n",
		"a/a.go":              "package a\n\nfunc Max(a, b int) int {\n\tif a > b {\n\t\treturn a\n\t}\n\treturn b\n}\n\nfunc Unasked() int { return 7 }\n",
		"a/a_test.go":         "package a\n\nimport \"testing\"\n\nfunc TestMax(t *testing.T) {\n\tif Max(1, 2) != 2 || Max(2, 1) != 2 {\n\t\tt.Fail()\n\t}\n}\n\nfunc TestOther(t *testing.T) {}\n",
		"test/table/main.txt": table,
	} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(root, name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func entry(name, find, with string, more ...string) string {
	return "mutant " + name + "\nwhy because\nfile a/a.go\ntest ./a\n" + strings.Join(more, "\n") + "\nfind\n" + find + "\nwith\n" + with + "\nend\n"
}

// TestRun drives the whole tool over a small module.
func TestRun(t *testing.T) {
	caught := entry("caught", "a > b", "a < b")
	for _, c := range []struct {
		what, table string
		args        []string
		code        int
		want        []string
	}{
		{"killed", caught, nil, 0, []string{"passes: go test ./a", "killed   caught by TestMax", "1 killed, 0 survived"}},
		{"killed by name", entry("caught", "a > b", "a < b", "fails TestMax"), nil, 0, []string{"killed   caught by TestMax"}},
		{"survived", caught + entry("unseen", "return 7", "return 8"), nil, 1, []string{"killed   caught", "SURVIVED unseen in a/a.go: go test ./a", "1 killed, 1 survived"}},
		{"killed by the wrong test", entry("caught", "a > b", "a < b", "fails TestOther"), nil, 1, []string{"TestMax failed, TestOther did not"}},
		{"does not compile", caught + entry("broken", "return 7", "return x"), nil, 2, []string{"ERROR    broken does not compile", "undefined: x"}},
		{"out of date", caught + entry("moved", "return 9", "return 8"), nil, 2, []string{"the table is out of date", "moved: what it looks for is not in a/a.go"}},
		{"ambiguous", entry("twice", "int", "uint"), nil, 2, []string{"times in a/a.go"}},
		{"no such test", entry("named", "a > b", "a < b", "fails TestGone"), nil, 2, []string{"has no test TestGone"}},
		{"no such package", strings.Replace(caught, "./a", "./b", 1), nil, 2, []string{"./b"}},
		{"runs nothing", strings.Replace(caught, "./a", "./a -run Nothing", 1), nil, 2, []string{"runs no test"}},
		{"listed", caught, []string{"--list"}, 0, []string{"caught", "a/a.go: because"}},
		{"selected", caught + entry("unseen", "return 7", "return 8"), []string{"--run", "^caught$", "--parallel", "2"}, 0, []string{"1 mutants: 1 killed"}},
		{"none selected", caught, []string{"--run", "x"}, 2, []string{"no mutant has such a name"}},
		{"bad flag", caught, []string{"--parallel", "0"}, 2, nil},
		{"hangs", entry("endless", "if a > b {", "for a > b {}\n\tif a > b {"), []string{"--timeout", "2s"}, 0, []string{"killed   endless"}},
	} {
		t.Run(strings.ReplaceAll(c.what, " ", "-"), func(t *testing.T) {
			root := module(t, c.table)
			var out bytes.Buffer
			code := run(t.Context(), append([]string{"--root", root, "--table", filepath.Join(root, "test", "table")}, c.args...), &out, &out)
			if code != c.code {
				t.Errorf("exit code %d, want %d", code, c.code)
			}
			for _, want := range c.want {
				if !strings.Contains(out.String(), want) {
					t.Errorf("%q is not said", want)
				}
			}
			if t.Failed() {
				t.Log(out.String())
			}
			if text, err := os.ReadFile(filepath.Join(root, "a", "a.go")); err != nil || !strings.Contains(string(text), "a > b") {
				t.Errorf("the source was changed: %v", err)
			}
		})
	}
	root := module(t, caught)
	if err := os.WriteFile(filepath.Join(root, "a", "b_test.go"), []byte("package a\n\nimport \"testing\"\n\nfunc TestBroken(t *testing.T) { t.Fail() }\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if code := run(t.Context(), []string{"--root", root, "--table", filepath.Join(root, "test", "table")}, &out, &out); code != exitTable || !strings.Contains(out.String(), "without any mutant") {
		t.Errorf("a failing baseline: %d\n%s", code, out.String())
	}
}

// TestTableFits: what the table breaks is still there, so that it does not grow
// stale between two runs of all mutants.
func TestTableFits(t *testing.T) {
	root := filepath.Join("..", "..")
	all, err := readTables("table")
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 100 {
		t.Errorf("%d mutants", len(all))
	}
	for _, m := range all {
		if err := m.apply(root); err != nil {
			t.Error(err)
		}
	}
}
