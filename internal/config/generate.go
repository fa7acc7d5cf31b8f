// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"reflect"
	"strings"

	"github.com/rustyonions/macronode/bundle"
	"github.com/rustyonions/macronode/internal/config/document"
)

// Seal writes version (0: as it is), signer (empty: as it is) and the hash that
// follows into a bundle's text, without touching anything else. See
// [document.Seal].
func Seal(text []byte, version uint64, signer string) ([]byte, error) {
	return document.Seal(text, version, signer)
}

// ReadMeta reads what a bundle says of itself, and its own hash, even where the
// rest would be refused.
func ReadMeta(text []byte, file string) (document.Meta, error) {
	return document.ReadMeta(text, file)
}

// GenOptions is what a new bundle must say. Zero values leave a key out, so that
// its default holds.
type GenOptions struct {
	Title            string // first comment line
	Version          uint64 // 0: 1
	Signer           bundle.Ref
	Bind, OAPBind    string
	AdminBind        string
	Drills           bool
	TLSKey, TLSChain bundle.Ref // both set: TLS on
	DataDir          string
	RequiredServices []string
	Facets           []string
	PolicyBundle     bundle.Ref // with its version
	PolicyHash       bundle.Digest
	KMSRoot          string
	LogLevel         string
}

// Generate writes a new bundle, sealed and with comments, that Check accepts. It
// still needs a signature.
func Generate(o GenOptions) ([]byte, error) {
	g := &generator{}
	title := o.Title
	if title == "" {
		title = "macronode config bundle"
	}
	g.line("# %s", title)
	g.line("#")
	g.line("# This file is signed: a node refuses it after any change, until it is signed again:")
	g.line("#   macronode bundle sign FILE --data DIR --bump")
	g.line("# Every key, its range and its default: docs/configuration.md. What is not here has its default.")
	version := o.Version
	if version == 0 {
		version = 1
	}
	c := o.config()
	g.section("meta")
	g.key("meta.version", fmt.Sprint(version), "grows with every change")
	g.key("meta.signer", tomlText(o.Signer.String()), "")
	g.section("server")
	g.set("server.bind", c, o.Bind != "")
	g.set("server.admin_bind", c, o.AdminBind != "")
	if c.Server.TLS.Enabled {
		g.line("tls = { enabled = true, kms_key = %s, cert_chain = %s }", tomlText(o.TLSKey.String()), tomlText(o.TLSChain.String()))
	} else {
		g.line("# Without TLS, only peers on loopback get more than the four probes:")
		g.line("# tls = { enabled = true, kms_key = \"KMS:key/tls\", cert_chain = \"KMS:obj/cert_chain\" }")
	}
	g.set("server.drills", c, o.Drills)
	g.alone("data.dir", c, o.DataDir != "")
	g.alone("readiness.required_services", c, o.RequiredServices != nil)
	g.alone("facets.enable", c, o.Facets != nil)
	g.section("oap")
	g.set("oap.bind", c, o.OAPBind != "")
	g.set("oap.max_frame_bytes", c, true)
	g.set("oap.chunk_bytes", c, true)
	g.section("policy")
	for _, k := range []string{"policy.deny_by_default", "policy.cache_ttl_ms", "policy.bundle_kms", "policy.bundle_hash"} {
		g.set(k, c, true)
	}
	g.alone("kms.root", c, o.KMSRoot != "")
	g.alone("telemetry.log_level", c, o.LogLevel != "")
	text, err := Seal([]byte(g.b.String()), 0, "")
	if err != nil {
		return nil, err
	}
	if _, err := Check(text, "generated bundle", Features{}); err != nil {
		return nil, err
	}
	return text, nil
}

// generator writes a bundle's text.
type generator struct{ b strings.Builder }

// config returns the defaults with the options on top.
func (o *GenOptions) config() *Config {
	c := Default()
	c.Server.Bind, c.Server.AdminBind, c.OAP.Bind = o.Bind, o.AdminBind, o.OAPBind
	c.Server.Drills = o.Drills
	c.Server.TLS.Enabled = !o.TLSKey.IsZero() && !o.TLSChain.IsZero()
	c.Data.Dir, c.Readiness.RequiredServices = o.DataDir, o.RequiredServices
	c.Facets.Enable = o.Facets
	c.Policy.BundleKMS, c.Policy.BundleHash = o.PolicyBundle, o.PolicyHash
	c.KMS.Root, c.Telemetry.LogLevel = o.KMSRoot, o.LogLevel
	return &c
}

func (g *generator) line(format string, args ...any) {
	fmt.Fprintf(&g.b, format+"\n", args...)
}

func (g *generator) section(name string) {
	g.line("")
	g.line("[%s]", name)
}

// key writes one key.
func (g *generator) key(path, value, comment string) {
	name := path[strings.LastIndexByte(path, '.')+1:]
	if comment != "" {
		comment = " # " + comment
	}
	g.line("%s = %s%s", name, value, comment)
}

// set writes a key from c, where asked.
func (g *generator) set(path string, c *Config, asked bool) {
	if !asked {
		return
	}
	each(c, func(f *field, v reflect.Value) {
		if f.path == path {
			g.key(path, tomlValue(v), "")
		}
	})
}

// alone writes a section of one key, where asked.
func (g *generator) alone(path string, c *Config, asked bool) {
	if asked {
		g.section(path[:strings.LastIndexByte(path, '.')])
		g.set(path, c, true)
	}
}
