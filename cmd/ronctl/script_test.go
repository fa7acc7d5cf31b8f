// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/rustyonions/macronode"
)

// TestMain lets scripts run this binary as ronctl.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"ronctl": main})
}

// TestScripts runs testdata/script: ronctl as a process, each script against a
// node of its own that holds objects in memory.
func TestScripts(t *testing.T) {
	token := testCap(t).Text()
	testscript.Run(t, testscript.Params{
		Dir:                "testdata/script",
		RequireUniqueNames: true,
		Setup: func(env *testscript.Env) error {
			node := httptest.NewServer(emptyFake())
			env.Defer(node.Close)
			env.Setenv("RON_NODE", node.URL)
			env.Setenv("HOME", env.WorkDir)
			env.Setenv("TOKEN", token)
			return writeKeys(env.WorkDir)
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			// "code N PROGRAM ARG…" wants the program to exit with N.
			"code": func(ts *testscript.TestScript, neg bool, args []string) {
				if neg || len(args) < 2 {
					ts.Fatalf("usage: code N PROGRAM ARG...")
				}
				want, err := strconv.Atoi(args[0])
				ts.Check(err)
				err = ts.Exec(args[1], args[2:]...)
				got := macronode.ExitOK
				var exit *exec.ExitError
				if errors.As(err, &exit) {
					got = exit.ExitCode()
				} else {
					ts.Check(err)
				}
				if got != want {
					ts.Fatalf("exit %d, want %d", got, want)
				}
			},
		},
	})
}

// writeKeys makes the key files that scripts name.
func writeKeys(dir string) error {
	key, other := bytes.Repeat([]byte{7}, 32), bytes.Repeat([]byte{8}, 32)
	for _, f := range []struct {
		name string
		text []byte
		mode os.FileMode
	}{
		{"sso.key", key, 0o600}, {"sso.b64", []byte(base64.StdEncoding.EncodeToString(key) + "\n"), 0o600},
		{"other.key", []byte(hex.EncodeToString(other)), 0o400}, {"open.key", key, 0o644}, {"short.key", key[:31], 0o600},
	} {
		if err := os.WriteFile(filepath.Join(dir, f.name), f.text, f.mode); err != nil {
			return err
		}
	}
	return nil
}
