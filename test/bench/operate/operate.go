// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package operate does to a node what its operator does: tenants, policies,
// reloads, each by the commands and routes that the runbook names.
package operate

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/rustyonions/macronode/client"
)

// Node is a data directory and the node that runs on it.
type Node struct {
	Bin  string // the macronode binary
	Data string
	URL  string
	OAP  string // where it speaks OAP/1
	// Roots verify an https node's certificate.
	Roots *x509.CertPool

	policy int // version of the policy bundle installed last
}

// Conf is the config bundle's path.
func (n *Node) Conf() string { return filepath.Join(n.Data, "macronode.bundle.toml") }

// Client speaks to the node as the operator.
func (n *Node) Client() (*client.Client, error) {
	token, err := os.ReadFile(filepath.Join(n.Data, "operator.cap"))
	if err != nil {
		return nil, err
	}
	return client.Dial(n.URL, client.Options{Token: strings.TrimSpace(string(token)), CA: n.Roots, Retries: -1})
}

// Tool runs a command of the node's binary and returns what it printed.
func (n *Node) Tool(ctx context.Context, args ...string) ([]byte, error) {
	var said, errs bytes.Buffer
	cmd := exec.CommandContext(ctx, n.Bin, args...)
	cmd.Stdout, cmd.Stderr = &said, &errs
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("macronode %s: %w\n%s%s", strings.Join(args[:min(2, len(args))], " "), err, said.Bytes(), errs.Bytes())
	}
	return said.Bytes(), nil
}

// Edit changes the config bundle and signs it under the next version.
func (n *Node) Edit(ctx context.Context, edit func(text string) string) error {
	text, err := os.ReadFile(n.Conf())
	if err != nil {
		return err
	}
	if err := os.WriteFile(n.Conf(), []byte(edit(string(text))), 0o600); err != nil {
		return err
	}
	_, err = n.Tool(ctx, "bundle", "sign", n.Conf(), "--data", n.Data, "--bump")
	return err
}

// Set gives keys of a section their values, as TOML text.
func Set(section string, keys map[string]string) func(string) string {
	return func(text string) string {
		head := "[" + section + "]\n"
		before, rest, ok := strings.Cut(text, head)
		if !ok {
			before, rest = strings.TrimRight(text, "\n")+"\n\n", ""
		}
		own, after := rest, ""
		if i := strings.Index(rest, "\n["); i >= 0 {
			own, after = rest[:i+1], rest[i+1:]
		}
		for k, v := range keys {
			line := k + " = " + v + "\n"
			if old := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(k) + ` *=.*\n`); old.MatchString(own) {
				own = old.ReplaceAllLiteralString(own, line)
			} else {
				own = line + own
			}
		}
		return before + head + own + after
	}
}

// Reload has the running node read its bundle again.
func (n *Node) Reload(ctx context.Context) error {
	c, err := n.Client()
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = c.Admin(ctx, "reload", struct{}{})
	return err
}

// Tenant is a tenant that the policy lets in once Policy has named it.
type Tenant struct{ ID, Label, Token string }

// Tenants makes tenants of equal weight, each with a capability for its own
// objects.
func (n *Node) Tenants(ctx context.Context, labels ...string) ([]Tenant, error) {
	c, err := n.Client()
	if err != nil {
		return nil, err
	}
	defer c.Close()
	one := int64(1)
	var all []Tenant
	for _, label := range labels {
		t, err := c.CreateTenant(ctx, label, &client.QuotaChange{Weight: &one}, "")
		if err != nil {
			return nil, err
		}
		token, err := n.Mint(ctx, t.ID.String())
		if err != nil {
			return nil, err
		}
		all = append(all, Tenant{t.ID.String(), label, token})
	}
	return all, nil
}

// Mint makes a capability for all that a tenant may do with objects.
func (n *Node) Mint(ctx context.Context, tenant string) (string, error) {
	c, err := n.Client()
	if err != nil {
		return "", err
	}
	defer c.Close()
	m, err := c.Mint(ctx, client.MintRequest{Tenant: tenant, Actions: []string{"object:*"}}, "")
	return m.Token, err
}

// Policy installs the next version of a policy that lets these tenants work
// with their own data, and pins it in the config bundle. It is in force after a
// reload.
func (n *Node) Policy(ctx context.Context, tenants ...Tenant) error {
	if n.policy == 0 {
		n.policy = 1 // what init made
	}
	version := n.policy + 1
	dir, err := os.MkdirTemp(filepath.Dir(n.Data), "policy-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	args := []string{"policy", "defaults", filepath.Join(dir, "src")}
	for _, t := range tenants {
		args = append(args, "--tenant", t.ID)
	}
	if _, err := n.Tool(ctx, args...); err != nil {
		return err
	}
	ref := fmt.Sprintf("policy-bundle@v%d", version)
	said, err := n.Tool(ctx, "policy", "build", filepath.Join(dir, "src"), "-o", filepath.Join(dir, "bundle.json"), "--data", n.Data, "--install", ref, "--output", "json")
	if err != nil {
		return err
	}
	var built struct {
		Hash string `json:"bundle_hash"`
	}
	if err := json.Unmarshal(said, &built); err != nil || built.Hash == "" {
		return fmt.Errorf("policy build printed %q", said)
	}
	n.policy = version
	return n.Edit(ctx, Set("policy", map[string]string{"bundle_kms": `"KMS:obj/` + ref + `"`, "bundle_hash": `"` + built.Hash + `"`}))
}
