// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/client"
	"github.com/rustyonions/macronode/cmd/internal/cli"
)

// savedContext is a node and a capability under a name. A capability is kept as
// @FILE, so that the file of contexts holds no secret.
type savedContext struct {
	Node string `json:"node"`
	Cap  string `json:"cap,omitempty"`
	CA   string `json:"ca,omitempty"`
	Cert string `json:"cert,omitempty"`
	Key  string `json:"key,omitempty"` // its file
}

type savedContexts struct {
	Current  string                  `json:"current"`
	Contexts map[string]savedContext `json:"contexts"`
}

func (a *app) contextsPath() (string, error) {
	dir := a.Getenv("XDG_CONFIG_HOME")
	if dir == "" {
		home := a.Getenv("HOME")
		if home == "" {
			return "", nil
		}
		dir = filepath.Join(home, ".config")
	}
	return filepath.Join(dir, "ronctl", "contexts.json"), nil
}

func (a *app) loadContexts() (savedContexts, error) {
	s := savedContexts{Contexts: map[string]savedContext{}}
	path, err := a.contextsPath()
	if err != nil || path == "" {
		return s, err
	}
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(text, &s); err != nil {
		return s, cli.Exit(fmt.Errorf("%s: %w", path, err), macronode.ExitConfig)
	}
	if s.Contexts == nil {
		s.Contexts = map[string]savedContext{}
	}
	return s, nil
}

func (a *app) saveContexts(s savedContexts) error {
	path, err := a.contextsPath()
	if err != nil {
		return err
	}
	if path == "" {
		return errors.New("neither XDG_CONFIG_HOME nor HOME is set")
	}
	text, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	// A temporary file of its own: mode 0600 whatever lay there before.
	tmp, err := os.CreateTemp(filepath.Dir(path), "contexts-*.tmp")
	if err != nil {
		return err
	}
	_, err = tmp.Write(append(text, '\n'))
	if err = errors.Join(err, tmp.Close()); err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		os.Remove(tmp.Name())
	}
	return err
}

// currentContext returns the context that --context, RON_CONTEXT or "context
// use" names; the zero context where none does.
func (a *app) currentContext() (savedContext, error) {
	s, err := a.loadContexts()
	if err != nil {
		return savedContext{}, err
	}
	name := a.context
	if name == "" {
		name = a.Getenv("RON_CONTEXT")
	}
	if name == "" {
		return s.Contexts[s.Current], nil
	}
	c, ok := s.Contexts[name]
	if !ok {
		return c, cli.Usagef("there is no context %q; see: ronctl context ls", name)
	}
	return c, nil
}

func (a *app) contextSet() *cobra.Command {
	var saved savedContext
	return &cobra.Command{
		Use: "set NAME", Short: "Save a node and a capability under a name", Args: cli.ExactArgs(1),
		Example: "  ronctl context set dev --node http://127.0.0.1:8080 --cap @macronode-data/tenant.cap",
		RunE: func(_ *cobra.Command, args []string) error {
			saved.Node, saved.Cap, saved.CA = a.node, a.cap, a.ca
			if saved.Node == "" {
				return cli.Usagef("context set needs --node")
			}
			if _, err := client.Dial(saved.Node, client.Options{}); err != nil {
				return cli.Usage(err)
			}
			saved.Cert, saved.Key = a.cert, a.key
			for _, path := range []*string{&saved.CA, &saved.Cert, &saved.Key} {
				if *path == "" {
					continue
				}
				abs, err := filepath.Abs(*path)
				if err != nil {
					return err
				}
				*path = abs
			}
			if saved.Cap != "" && saved.Cap[0] != '@' {
				return cli.Usagef("a context keeps a capability as @FILE, not the token itself")
			}
			if saved.Cap != "" {
				abs, err := filepath.Abs(saved.Cap[1:])
				if err != nil {
					return err
				}
				saved.Cap = "@" + abs
			}
			return a.changeContexts(func(s *savedContexts) error {
				s.Contexts[args[0]] = saved
				if s.Current == "" {
					s.Current = args[0]
				}
				return nil
			})
		},
	}
}

func (a *app) contextCommand() *cobra.Command {
	use := &cobra.Command{
		Use: "use NAME", Short: "Make a context the current one", Args: cli.ExactArgs(1), Example: "  ronctl context use dev",
		RunE: func(_ *cobra.Command, args []string) error {
			return a.changeContexts(func(s *savedContexts) error {
				if _, ok := s.Contexts[args[0]]; !ok {
					return cli.Usagef("there is no context %q; see: ronctl context ls", args[0])
				}
				s.Current = args[0]
				return nil
			})
		},
	}
	rm := &cobra.Command{
		Use: "rm NAME", Short: "Forget a context", Args: cli.ExactArgs(1), Example: "  ronctl context rm dev",
		RunE: func(_ *cobra.Command, args []string) error {
			return a.changeContexts(func(s *savedContexts) error {
				if _, ok := s.Contexts[args[0]]; !ok {
					return cli.Usagef("there is no context %q; see: ronctl context ls", args[0])
				}
				delete(s.Contexts, args[0])
				if s.Current == args[0] {
					s.Current = ""
				}
				return nil
			})
		},
	}
	ls := &cobra.Command{
		Use: "ls", Short: "List the contexts", Args: cli.NoArgs, Example: "  ronctl context ls",
		RunE: func(*cobra.Command, []string) error {
			s, err := a.loadContexts()
			if err != nil {
				return err
			}
			return a.Print(s, func(w io.Writer) {
				for _, name := range slices.Sorted(maps.Keys(s.Contexts)) {
					mark := " "
					if name == s.Current {
						mark = "*"
					}
					fmt.Fprintf(w, "%s %s\t%s\t%s\n", mark, name, s.Contexts[name].Node, s.Contexts[name].Cap)
				}
			})
		},
	}
	return cli.Group("context", "Named nodes and capabilities", "  ronctl context ls", a.contextSet(), use, ls, rm)
}

func (a *app) changeContexts(f func(*savedContexts) error) error {
	s, err := a.loadContexts()
	if err != nil {
		return err
	}
	if err := f(&s); err != nil {
		return err
	}
	return a.saveContexts(s)
}
