// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"net/http/httptest"
	"os/exec"
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
			return nil
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
