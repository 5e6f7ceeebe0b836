// SPDX-License-Identifier: Apache-2.0

// Runs the conformance cases through the Go client; tests/conformance/README.md says what goes in and out.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"time"

	lx "github.com/lstm-explain/lstm-explain/client/go"
)

const sentence = "neither funny nor suspenseful nor particularly well-drawn"
const warmUp = 20

func main() {
	good, err := run()
	switch {
	case err != nil:
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	case !good:
		os.Exit(1)
	}
}

func run() (bool, error) {
	if len(os.Args) < 2 {
		return false, errors.New("usage: conformance|latency, with flags")
	}
	flags := flag.NewFlagSet(os.Args[1], flag.ExitOnError)
	text := func(name string) *string { return flags.String(name, "", "") }
	address, ca, cert, key, token := text("address"), text("ca"), text("cert"), text("key"), text("token")
	cases, golden, models, model := text("cases"), text("golden"), text("models"), text("model")
	calls := flags.Int("calls", 200, "")
	if err := flags.Parse(os.Args[2:]); err != nil {
		return false, err
	}
	connect := func(token string) (*lx.Client, error) {
		var options []lx.Option
		if *ca != "" {
			options = append(options, lx.WithTLSFiles(*ca, *cert, *key))
		}
		if token != "" {
			options = append(options, lx.WithToken(token))
		}
		return lx.Connect(*address, options...)
	}
	switch os.Args[1] {
	case "conformance":
		over := "plain"
		if *ca != "" {
			over = "tls"
		}
		s := suite{connect: connect, token: *token, over: over, models: *models, good: true}
		return s.run(*cases, *golden)
	case "latency":
		client, err := connect(*token)
		if err != nil {
			return false, err
		}
		defer client.Close()
		return true, latency(client, *model, *calls)
	}
	return false, fmt.Errorf("%s is neither conformance nor latency", os.Args[1])
}

func latency(client *lx.Client, model string, calls int) error {
	request := lx.Request{Model: model, Inputs: lx.Inputs{"tokens": lx.Text(sentence)}, Method: lx.LRP{}}
	taken := make([]float64, 0, calls)
	for i := range warmUp + calls {
		began := time.Now()
		if _, err := client.Explain(context.Background(), request); err != nil {
			return err
		}
		if i >= warmUp {
			taken = append(taken, float64(time.Since(began).Nanoseconds())/1e6)
		}
	}
	slices.Sort(taken)
	at := func(share float64) float64 { return taken[min(len(taken)-1, int(share*float64(len(taken))))] }
	fmt.Printf("{\"client\": \"go\", \"calls\": %d, \"p50_ms\": %.3f, \"p99_ms\": %.3f}\n", calls, at(0.50), at(0.99))
	return nil
}
