// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"slices"
	"strings"

	"github.com/rustyonions/macronode/internal/config/quantity"
)

// Setting is a value from outside the bundle; its zero value is "not set".
type Setting struct {
	Value  string
	Origin Origin
}

// Set reports whether the setting was given.
func (s Setting) Set() bool { return s.Origin.Kind != "" }

// Overrides are all the settings that may stand outside the signed bundle.
type Overrides struct {
	Data            Setting // data.dir
	LogLevel        Setting // telemetry.log_level
	LogFormat       Setting // telemetry.log_format
	GracefulTimeout Setting // server.drain_timeout
	AllowRollback   Setting // VERSION@HASH
	Endpoints       Setting // file to keep while listening
	OperatorCapOut  Setting // file for the operator's capability
	Trust           Setting // trust document instead of DIR/trust.json
}

// overrideFlag ties a flag and a variable to a setting.
type overrideFlag struct {
	flag, env string
	to        *Setting
}

func (o *Overrides) flags() []overrideFlag {
	return []overrideFlag{
		{"data", "MACRONODE_DATA", &o.Data},
		{"log-level", "MACRONODE_LOG_LEVEL", &o.LogLevel},
		{"log-format", "MACRONODE_LOG_FORMAT", &o.LogFormat},
		{"graceful-timeout", "MACRONODE_GRACEFUL_TIMEOUT", &o.GracefulTimeout},
		{"allow-rollback", "MACRONODE_ALLOW_ROLLBACK", &o.AllowRollback},
		{"endpoints", "MACRONODE_ENDPOINTS", &o.Endpoints},
		{"operator-cap-out", "MACRONODE_OPERATOR_CAP_OUT", &o.OperatorCapOut},
		{"trust", "MACRONODE_TRUST", &o.Trust},
	}
}

// OverrideFlags are the names of the flags that may be set beside a bundle.
func OverrideFlags() []string {
	var names []string
	for _, f := range new(Overrides).flags() {
		names = append(names, f.flag)
	}
	return names
}

// ReadOverrides gathers the settings: a flag beats its variable, and both beat
// RUST_LOG, which is taken as the log level. flag returns the value of a flag and
// whether it was given; env looks up a variable. An empty variable is not set.
// Other MACRONODE_ variables are ignored: orchestrators make some of their own
// (Kubernetes sets MACRONODE_PORT for a service of that name).
func ReadOverrides(flag func(name string) (string, bool), env func(name string) (string, bool)) (Overrides, error) {
	var o Overrides
	for _, f := range o.flags() {
		if v, ok := env(f.env); ok && v != "" {
			*f.to = Setting{v, Origin{FromEnv, f.env}}
		}
		if v, ok := flag(f.flag); ok {
			*f.to = Setting{v, Origin{FromFlag, "--" + f.flag}}
		}
	}
	if v, ok := env("RUST_LOG"); ok && !o.LogLevel.Set() {
		if level := rustLevel(v); level != "" {
			o.LogLevel = Setting{level, Origin{FromEnv, "RUST_LOG"}}
		}
	}
	return o, o.validate()
}

// rustLevel takes the first bare level of a RUST_LOG filter such as
// "info,foo=debug"; "" where there is none.
func rustLevel(filter string) string {
	for part := range strings.SplitSeq(filter, ",") {
		switch level := strings.ToLower(strings.TrimSpace(part)); level {
		case "trace", "debug":
			return "debug"
		case "info", "warn", "error":
			return level
		case "warning":
			return "warn"
		case "off": // the node always logs errors
			return "error"
		}
	}
	return ""
}

// validate judges the settings by the rules of the keys they stand for. An
// override is part of a command line, so its errors are the caller's usage errors
// and not an [Error].
func (o *Overrides) validate() error {
	level, format := schemaField("telemetry.log_level"), schemaField("telemetry.log_format")
	if o.LogLevel.Set() && !slices.Contains(level.enum, o.LogLevel.Value) {
		return o.LogLevel.refuse(level.want())
	}
	if o.LogFormat.Set() && !slices.Contains(format.enum, o.LogFormat.Value) {
		return o.LogFormat.refuse(format.want())
	}
	if f := schemaField("server.drain_timeout"); o.GracefulTimeout.Set() {
		d, err := quantity.ParseDuration(o.GracefulTimeout.Value)
		if err != nil || int64(d) < f.lo || int64(d) > f.hi {
			return o.GracefulTimeout.refuse(f.want())
		}
	}
	if o.AllowRollback.Set() {
		if _, err := ParseRollback(o.AllowRollback.Value); err != nil {
			return o.AllowRollback.refuse("VERSION@HASH, such as 12@blake3:…")
		}
	}
	for _, s := range []Setting{o.Data, o.Endpoints, o.OperatorCapOut, o.Trust} {
		if s.Set() && (s.Value == "" || strings.ContainsRune(s.Value, 0)) {
			return s.refuse("a path")
		}
	}
	return nil
}

func (s Setting) refuse(want string) error {
	return fmt.Errorf("%s: %q is not accepted; want %s", s.Origin.Where, s.Value, want)
}

// schemaField finds a key of the schema by its path.
func schemaField(path string) *field {
	t := schema()
	for {
		name, rest, more := strings.Cut(path, ".")
		f := t.byName[name]
		if !more {
			return f
		}
		t, path = f.sub, rest
	}
}

// Override applies the settings that stand for keys, and notes where they come
// from. A relative --data must be made absolute by the caller, who knows where it
// is relative to.
func (l *Loaded) Override(o Overrides) error {
	if err := o.validate(); err != nil {
		return err
	}
	set := func(s Setting, key string, to *string) {
		if s.Set() {
			*to = s.Value
			l.Origins[key] = s.Origin
		}
	}
	set(o.Data, "data.dir", &l.Config.Data.Dir)
	set(o.LogLevel, "telemetry.log_level", &l.Config.Telemetry.LogLevel)
	set(o.LogFormat, "telemetry.log_format", &l.Config.Telemetry.LogFormat)
	if o.GracefulTimeout.Set() {
		d, err := quantity.ParseDuration(o.GracefulTimeout.Value)
		if err != nil {
			return o.GracefulTimeout.refuse("a duration")
		}
		l.Config.Server.DrainTimeout = d
		l.Origins["server.drain_timeout"] = o.GracefulTimeout.Origin
		// A shorter deadline leaves no room for a longer lame-duck phase.
		if s := &l.Config.Server; s.LameDuck >= d {
			s.LameDuck = 0
			l.Origins["server.lame_duck"] = o.GracefulTimeout.Origin
		}
	}
	return nil
}
