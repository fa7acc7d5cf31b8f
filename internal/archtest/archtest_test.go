// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package archtest holds the rules of the house: who may import whom, which
// calls are made in one place only, and how large things may grow. The sources
// are parsed here, in process, so that a cached test result cannot hide a
// violation.
package archtest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/rustyonions/macronode"

// file is one source file as the rules see it.
type file struct {
	path    string // slash-separated, from the module's root
	pkg     string // its folder; "." at the root
	test    bool
	lines   int
	text    string
	ast     *ast.File
	fset    *token.FileSet
	imports []string // of this module: relative; others: as written
}

func load(t *testing.T) []file {
	t.Helper()
	root := filepath.Join("..", "..")
	var files []file
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() && path != root && (strings.HasPrefix(name, ".") || name == "testdata" || name == "macronode-data" || name == "bin" || name == "node_modules") {
			return filepath.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(name, ".go") {
			return nil
		}
		src, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		fset := token.NewFileSet()
		parsed, err := parser.ParseFile(fset, path, src, parser.ParseComments)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		f := file{path: rel, pkg: filepath.ToSlash(filepath.Dir(rel)), test: strings.HasSuffix(name, "_test.go"),
			lines: strings.Count(string(src), "\n"), text: string(src), ast: parsed, fset: fset}
		for _, i := range parsed.Imports {
			p, _ := strconv.Unquote(i.Path.Value)
			if p == module {
				p = "."
			} else if r, ok := strings.CutPrefix(p, module+"/"); ok {
				p = "./" + r
			}
			f.imports = append(f.imports, p)
		}
		files = append(files, f)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 50 {
		t.Fatalf("only %d files found: the walk starts in the wrong place", len(files))
	}
	return files
}

// rule says what packages below prefix may import of this module, and what of
// the world they must not.
type rule struct {
	prefix string
	may    []string // prefixes; nil: anything not forbidden below
	not    []string
	why    string
}

var (
	public   = []string{"./b3", "./oap", "./capability", "./tlog", "./bundle", "./revocation", "./registry", "./name"}
	services = []string{".", "./b3", "./b3/block", "./capability", "./tlog", "./bundle", "./revocation", "./registry", "./internal/store", "./internal/metrics", "./internal/idem",
		"./name", "./name/document", "./internal/etag", "./internal/memo"}
)

// rules are read top down; the first whose prefix covers a package holds.
var rules = []rule{
	{prefix: "b3", may: []string{".", "./b3"}, not: []string{"net", "os"}, why: "public packages are pure"},
	{prefix: "oap/mux/flow", may: []string{"./oap"}, not: []string{"net", "os", "context"}, why: "the state of a connection does nothing by itself, so that a test can walk through it"},
	{prefix: "oap/mux", may: []string{".", "./oap"}, not: []string{"net", "os"}, why: "a session runs over any connection"},
	{prefix: "oap", may: []string{".", "./b3"}, not: []string{"net", "os"}, why: "public packages are pure"},
	{prefix: "name/document", may: []string{".", "./b3", "./bundle", "./name"}, not: []string{"net", "os"}, why: "public packages are pure"},
	{prefix: "name", may: []string{".", "./b3"}, not: []string{"net", "os"}, why: "public packages are pure"},
	{prefix: "capability", may: []string{".", "./b3", "./capability"}, not: []string{"net", "os"}, why: "public packages are pure"},
	{prefix: "tlog", may: []string{".", "./b3"}, not: []string{"net", "os"}, why: "public packages are pure"},
	{prefix: "bundle", may: []string{".", "./b3", "./bundle"}, not: []string{"net", "os"}, why: "public packages are pure"},
	{prefix: "registry", may: []string{".", "./b3", "./bundle"}, not: []string{"net", "os", "time"}, why: "public packages are pure, and this one has no clock"},
	{prefix: "revocation", may: []string{".", "./b3", "./bundle"}, not: []string{"net", "os"}, why: "public packages are pure"},
	{prefix: "client", may: append([]string{".", "./client"}, public...), why: "users import it: nothing internal"},
	{prefix: "cmd/internal/cli", may: []string{".", "./client"}, why: "it serves ronctl too: nothing internal"},
	{prefix: "cmd/ronctl", may: append([]string{".", "./client", "./cmd/ronctl", "./cmd/internal"}, public...), why: "ronctl is a client like any other"},
	{prefix: "cmd/macronode", may: append([]string{".", "./client", "./cmd/macronode", "./cmd/internal", "./internal/node", "./internal/provision", "./internal/inspect", "./internal/datadir", "./internal/config", "./internal/wall/policy", "./internal/buildinfo", "./internal/logs", "./docs"}, public...),
		why: "commands go through node, or look at a directory without one"},
	{prefix: "internal/store/storetest", may: []string{".", "./b3", "./internal/store", "./internal/disk"}, why: "suites know contracts, not drivers"},
	{prefix: "internal/store/", may: []string{".", "./b3", "./internal/store", "./internal/disk"}, not: []string{"net/http"}, why: "drivers do not know each other"},
	{prefix: "internal/store", may: []string{".", "./b3"}, not: []string{"github.com/cockroachdb/pebble"}, why: "contracts name no driver"},
	{prefix: "internal/svc/kms/", may: []string{".", "./b3", "./bundle", "./internal/svc/kms", "./internal/disk", "./internal/metrics", "./internal/idem"}, not: []string{"net/http"}, why: "outward clients know their service alone"},
	{prefix: "internal/svc/mailbox/queue", may: []string{".", "./b3", "./internal/svc/mailbox/queue"}, not: []string{"net", "net/http", "os", "context", "sync", "math/rand", "math/rand/v2"}, why: "state does nothing by itself, so that a log read again gives the same"},
	{prefix: "internal/svc/mailbox/broker/snapfile", may: []string{"./internal/store", "./internal/disk"}, not: []string{"net/http", "os"}, why: "it keeps files and knows nothing of what is in them"},
	{prefix: "internal/svc/mailbox/broker/clock", may: []string{"./internal/disk"}, not: []string{"net/http", "os"}, why: "it reads the machine's clock and its boot's id"},
	{prefix: "internal/svc/omnigate/search/shelf", may: []string{".", "./b3", "./internal/disk", "./internal/svc/omnigate/search"}, not: []string{"net/http", "os"}, why: "it keeps the files of indexes and knows nothing of where documents come from"},
	{prefix: "internal/svc/omnigate/search/ask", may: []string{"./internal/svc/omnigate/search/words"}, not: []string{"net", "net/http", "os", "context"}, why: "a language knows no index"},
	{prefix: "internal/svc/", may: nil, not: []string{"net/http", "os"}, why: "services speak neither HTTP nor files"},
	{prefix: "internal/route", may: []string{".", "./internal/route"}, why: "the table is data"},
	{prefix: "internal/wall/admit/desk", may: []string{".", "./internal/wall/admit", "./internal/bus", "./internal/metrics", "./internal/svc/ops"}, not: []string{"net/http", "os"}, why: "it fits admission to the operators' routes"},
	{prefix: "internal/wall/admit", may: []string{".", "./internal/wall", "./internal/metrics"}, not: []string{"net/http"}, why: "stages know the wall alone"},
	{prefix: "internal/wall/quota", may: []string{".", "./internal/wall", "./internal/metrics", "./internal/store"}, not: []string{"net/http"}, why: "stages know the wall alone"},
	{prefix: "internal/wall/auth", may: []string{".", "./capability", "./internal/wall", "./internal/metrics", "./internal/store"}, not: []string{"net/http"}, why: "stages know the wall alone"},
	{prefix: "internal/wall/why", may: []string{".", "./internal/wall"}, not: []string{"net/http", "os"}, why: "it remembers what the wall refused, and asks policy about it"},
	{prefix: "internal/wall/policy", may: []string{".", "./b3", "./bundle", "./internal/wall", "./internal/metrics", "./internal/store"}, not: []string{"net/http"}, why: "stages know the wall alone"},
	{prefix: "internal/wall", may: []string{".", "./capability", "./bundle", "./name", "./internal/route", "./internal/metrics", "./internal/store"}, not: []string{"net/http"}, why: "both wires share the wall"},
	{prefix: "internal/listen", may: []string{".", "./b3", "./oap", "./internal/listen", "./internal/metrics"}, why: "a listener reaches no handler but through the wall"},
	{prefix: "internal/outward", may: []string{".", "./tlog", "./internal/disk", "./internal/outward", "./internal/svc/audit"}, not: []string{"os"}, why: "it reaches outside for the audit log, and decides nothing"},
	{prefix: "internal/keyservice", may: []string{".", "./internal/disk", "./internal/keyservice"}, why: "it knows key services, not what they open"},
	{prefix: "internal/node/parts", not: []string{"./internal/provision", "./internal/inspect"}, why: "it is below all that put parts together"},
	{prefix: "internal/provision", not: []string{"./internal/inspect"}, why: "a directory is made without a node"},
	{prefix: "internal/inspect", not: []string{"./internal/provision"}, why: "a directory is looked at without a node"},
	{prefix: "internal/datadir", not: []string{"./internal/node"}, why: "commands use it without a node"},
	{prefix: "internal/etag", may: []string{"."}, not: []string{"net/http", "os"}, why: "it runs inside services"},
	{prefix: "internal/journal", may: []string{".", "./b3", "./internal/store"}, not: []string{"net/http", "os"}, why: "it runs inside the transactions of services"},
	{prefix: "internal/idem", may: []string{".", "./b3", "./internal/store"}, not: []string{"net/http", "os"}, why: "it runs inside services"},
	{prefix: "internal/memo", may: []string{}, not: []string{"net/http", "os"}, why: "it knows nothing of what it remembers"},
	{prefix: "internal/breaker/guard", may: []string{".", "./b3", "./internal/breaker", "./internal/store", "./internal/svc/kms", "./internal/svc/mailbox"}, not: []string{"net/http", "os"}, why: "a guard is the store it stands before"},
	{prefix: "internal/breaker/desk", may: []string{".", "./internal/breaker", "./internal/svc/ops"}, not: []string{"net/http", "os"}, why: "it fits breakers to the operators' routes"},
	{prefix: "internal/breaker", may: []string{"."}, not: []string{"net/http"}, why: "a breaker knows no dependency"},
	{prefix: "internal/feature/", not: []string{"./internal/node"}, why: "features are wired by node"},
}

func covers(prefix, pkg string) bool {
	if strings.HasSuffix(prefix, "/") {
		return strings.HasPrefix(pkg, prefix)
	}
	return pkg == prefix || strings.HasPrefix(pkg, prefix+"/")
}

func TestImports(t *testing.T) {
	seen := make(map[string]bool)
	for _, f := range load(t) {
		if f.test {
			continue // tests may put real neighbours together
		}
		if f.pkg == "." {
			for _, imp := range f.imports {
				if strings.HasPrefix(imp, "./") || imp == "net/http" || imp == "os" {
					t.Errorf("%s imports %s: the vocabulary does nothing", f.path, imp)
				}
			}
			continue
		}
		for _, r := range rules {
			if !covers(r.prefix, f.pkg) {
				continue
			}
			seen[r.prefix] = true
			for _, imp := range f.imports {
				checkImport(t, f, r, imp)
			}
			break
		}
	}
	for _, r := range rules {
		if !seen[r.prefix] && r.prefix != "internal/feature/" {
			t.Errorf("rule %q covers no package: was it renamed away?", r.prefix)
		}
	}
}

func checkImport(t *testing.T, f file, r rule, imp string) {
	t.Helper()
	for _, not := range r.not {
		if imp == not || (strings.Contains(not, ".") && strings.HasPrefix(imp, not)) {
			t.Errorf("%s imports %s: %s", f.path, imp, r.why)
		}
	}
	if !strings.HasPrefix(imp, ".") {
		return
	}
	if r.prefix == "internal/svc/" {
		own := strings.Split(strings.TrimPrefix(f.pkg, "internal/svc/"), "/")[0]
		if covers("./internal/svc/"+own, imp) || slices.Contains(services, imp) || own == "overlay" && covers("./oap", imp) || own == "omnigate" && imp == "./internal/journal" {
			return
		}
		t.Errorf("%s imports %s: services know stores and the vocabulary, not each other", f.path, imp)
		return
	}
	if r.may == nil {
		return
	}
	for _, may := range r.may {
		if imp == may || (may != "." && covers(may, imp)) {
			return
		}
	}
	t.Errorf("%s imports %s: %s", f.path, imp, r.why)
}

// TestSizes keeps files and functions readable.
func TestSizes(t *testing.T) {
	const maxFile, maxFunc, maxPackage = 1000, 80, 2500
	packages := make(map[string]int)
	for _, f := range load(t) {
		if f.lines > maxFile {
			t.Errorf("%s has %d lines, %d are allowed", f.path, f.lines, maxFile)
		}
		if f.test {
			continue
		}
		packages[f.pkg] += f.lines
		for _, d := range f.ast.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || fn.Body == nil {
				continue
			}
			n := f.fset.Position(fn.Body.End()).Line - f.fset.Position(fn.Pos()).Line + 1
			if n > maxFunc {
				t.Errorf("%s: %s has %d lines, %d are allowed", f.path, fn.Name.Name, n, maxFunc)
			}
		}
	}
	for pkg, n := range packages {
		if n > maxPackage {
			t.Errorf("package %s has %d lines, %d are allowed: split it by noun", pkg, n, maxPackage)
		}
	}
}

// TestForbidden keeps certain calls in their one place.
func TestForbidden(t *testing.T) {
	for _, f := range load(t) {
		for _, r := range forbidden {
			if r.allowed(f) {
				continue
			}
			ast.Inspect(f.ast, func(n ast.Node) bool {
				if r.match(n) {
					t.Errorf("%s: %s", f.fset.Position(n.Pos()), r.why)
				}
				return true
			})
		}
		for _, bad := range []string{"util", "utils", "common", "helper", "helpers", "manager"} {
			if filepath.Base(f.pkg) == bad {
				t.Errorf("%s: a package is named for its one idea, not %q", f.path, bad)
			}
		}
		if !strings.HasPrefix(f.text, "// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0\n") {
			t.Errorf("%s: no licence header", f.path)
		}
	}
}

type forbiddenCall struct {
	match   func(ast.Node) bool
	allowed func(file) bool
	why     string
}

// selector matches pkg.name used in any way.
func selector(pkg string, names ...string) func(ast.Node) bool {
	return func(n ast.Node) bool {
		s, ok := n.(*ast.SelectorExpr)
		if !ok {
			return false
		}
		x, ok := s.X.(*ast.Ident)
		return ok && x.Name == pkg && x.Obj == nil && slices.Contains(names, s.Sel.Name)
	}
}

var forbidden = []forbiddenCall{
	{
		match: func(n ast.Node) bool {
			lit, ok := n.(*ast.CompositeLit)
			if !ok {
				return false
			}
			s, ok := lit.Type.(*ast.SelectorExpr)
			return ok && s.Sel.Name == "Admitted"
		},
		allowed: func(f file) bool { return f.test || f.pkg == "internal/wall" },
		why:     "only the wall makes an Admitted",
	},
	{
		match: selector("os", "Create", "OpenFile", "WriteFile", "Mkdir", "MkdirAll", "MkdirTemp", "CreateTemp", "Rename", "Truncate", "Link", "Symlink"),
		allowed: func(f file) bool {
			return f.test || covers("internal/disk", f.pkg) || covers("cmd/ronctl", f.pkg) || covers("client", f.pkg) || covers("test", f.pkg) || covers("scripts", f.pkg)
		},
		why: "only internal/disk writes files",
	},
	{
		match:   func(n ast.Node) bool { s, ok := n.(*ast.SelectorExpr); return ok && s.Sel.Name == "ParseMultipartForm" },
		allowed: func(file) bool { return false },
		why:     "it spills to temporary files",
	},
	{
		match:   selector("time", "Sleep"),
		allowed: func(f file) bool { return !f.test },
		why:     "tests wait for what they wait for, they do not sleep",
	},
	{
		match: func(n ast.Node) bool {
			fn, ok := n.(*ast.FuncDecl)
			return ok && fn.Recv == nil && fn.Name.Name == "init"
		},
		allowed: func(file) bool { return false },
		why:     "no init: wiring is in internal/node, where it can be read",
	},
	{
		match:   selector("log", "Fatal", "Fatalf", "Fatalln", "Print", "Printf", "Println"),
		allowed: func(file) bool { return false },
		why:     "logs go through slog, exits through main",
	},
}

// TestPackageDocs wants one package comment a package.
func TestPackageDocs(t *testing.T) {
	documented := make(map[string]bool)
	for _, f := range load(t) {
		if _, ok := documented[f.pkg]; !ok {
			documented[f.pkg] = false
		}
		if f.ast.Doc != nil {
			documented[f.pkg] = true
		}
	}
	for pkg, ok := range documented {
		if !ok {
			t.Errorf("package %s has no package comment", pkg)
		}
	}
}
