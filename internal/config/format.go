// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/rustyonions/macronode/internal/config/quantity"
)

// tomlValue writes a value as a bundle would have it.
func tomlValue(v reflect.Value) string {
	switch x := v.Interface().(type) {
	case time.Duration:
		return strconv.Quote(quantity.FormatDuration(x))
	case Size:
		return strconv.Quote(x.String())
	case Permits:
		if x.PerCPU {
			return strconv.Quote(x.String())
		}
		return x.String()
	case fmt.Stringer: // references and hashes
		if v.IsZero() {
			return `""`
		}
		return tomlText(x.String())
	case string:
		return tomlText(x)
	case bool:
		return strconv.FormatBool(x)
	case int64:
		return strconv.FormatInt(x, 10)
	}
	if v.Kind() != reflect.Slice {
		return "?"
	}
	parts := make([]string, 0, v.Len())
	for i := range v.Len() {
		if e := v.Index(i); e.Kind() == reflect.Struct {
			var members []string
			for j := range e.NumField() {
				members = append(members, e.Type().Field(j).Tag.Get("key")+" = "+tomlValue(e.Field(j)))
			}
			parts = append(parts, "{ "+strings.Join(members, ", ")+" }")
		} else {
			parts = append(parts, tomlValue(e))
		}
	}
	return "[" + strings.Join(parts, ", ") + "]"
}

// tomlText writes a basic string.
func tomlText(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r < ' ' || r == 0x7f:
			fmt.Fprintf(&b, `\u%04X`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// jsonValue is a value as config print --output json shows it.
func jsonValue(v reflect.Value) any {
	switch x := v.Interface().(type) {
	case time.Duration:
		return quantity.FormatDuration(x)
	case Permits:
		if !x.PerCPU {
			return x.N
		}
		return x.String()
	case fmt.Stringer:
		if v.IsZero() && v.Kind() != reflect.Int64 {
			return ""
		}
		return x.String()
	case []string:
		return append([]string{}, x...)
	case []int64:
		return append([]int64{}, x...)
	case []Peer:
		out := make([]map[string]string, 0, len(x))
		for _, p := range x {
			out = append(out, map[string]string{"addr": p.Addr, "node_id": p.NodeID})
		}
		return out
	}
	return v.Interface()
}
