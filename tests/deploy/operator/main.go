// SPDX-License-Identifier: Apache-2.0

// Reads objects of the Prometheus Operator from stdin, as JSON, one per line, into the operator's own types, and fails
// for fields that these types do not have.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"strings"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
)

func main() {
	kinds := map[string]func() any{
		"PodMonitor":     func() any { return new(monitoring.PodMonitor) },
		"PrometheusRule": func() any { return new(monitoring.PrometheusRule) },
	}
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<24)
	for lines.Scan() {
		var head struct{ APIVersion, Kind string }
		if err := json.Unmarshal(lines.Bytes(), &head); err != nil {
			fail(err)
		}
		made, known := kinds[head.Kind]
		if !known || head.APIVersion != "monitoring.coreos.com/v1" {
			fail(fmt.Errorf("%s %s is no object of the operator", head.APIVersion, head.Kind))
		}
		decoder := json.NewDecoder(strings.NewReader(lines.Text()))
		decoder.DisallowUnknownFields()
		if err := decoder.Decode(made()); err != nil {
			fail(fmt.Errorf("%s: %w", head.Kind, err))
		}
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}
