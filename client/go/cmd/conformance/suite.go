// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	lx "github.com/lstm-explain/lstm-explain/client/go"
)

// Runs the cases and compares golden messages.

// suite is one pass over the cases on one connection.
type suite struct {
	connect             func(token string) (*lx.Client, error)
	token, over, models string
	good                bool
}

func (s *suite) run(cases, golden string) (bool, error) {
	paths, err := filepath.Glob(filepath.Join(cases, "*.json"))
	if err != nil {
		return false, err
	}
	for _, path := range paths {
		content, err := os.ReadFile(path)
		if err != nil {
			return false, err
		}
		var c testCase
		if err := json.Unmarshal(content, &c); err != nil {
			return false, fmt.Errorf("%s: %w", path, err)
		}
		if len(c.Over) > 0 && !slices.Contains(c.Over, s.over) {
			continue
		}
		found, err := s.one(c)
		s.say(c.Name, err, found)
	}
	return s.good, s.golden(golden)
}

func (s *suite) say(name string, wrong error, found hashes) {
	detail := ""
	if wrong != nil {
		detail, found, s.good = wrong.Error(), nil, false
	}
	if found == nil {
		found = hashes{}
	}
	line, err := json.Marshal(map[string]any{"case": name, "ok": wrong == nil, "detail": detail, "relevance": found})
	if err != nil {
		panic(err)
	}
	fmt.Println(string(line))
}

func (s *suite) one(c testCase) (hashes, error) {
	token := s.token
	if c.Token != nil {
		token = *c.Token
	}
	client, err := s.connect(token)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	calls := map[string]func(*lx.Client, testCase) (hashes, error){
		"explain": s.explain, "explain_many": s.explainMany, "explain_stream": s.stream, "models": s.list, "model": s.describe, "import_model": s.imported, "route_model": s.routed,
		"operation": s.operation,
	}
	found, err := calls[c.Call](client, c)
	if c.Error != nil {
		return nil, checkError(err, *c.Error)
	}
	return found, err
}

func (s *suite) explain(client *lx.Client, c testCase) (hashes, error) {
	requested, err := c.Request.build("")
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if c.Request.Deadline > 0 {
		ctx, cancel = context.WithTimeout(ctx, time.Duration(c.Request.Deadline)*time.Millisecond)
		defer cancel()
	}
	if c.Request.Cancel > 0 {
		defer time.AfterFunc(time.Duration(c.Request.Cancel)*time.Millisecond, cancel).Stop()
	}
	received, err := client.Explain(ctx, requested)
	if err != nil {
		return nil, err
	}
	return digests(received, ""), c.Expect.check(received)
}

func (s *suite) explainMany(client *lx.Client, c testCase) (hashes, error) {
	requested, err := c.Request.build("")
	if err != nil {
		return nil, err
	}
	received, err := client.ExplainMany(context.Background(), requested)
	if err != nil {
		return nil, err
	}
	found, err := checkMany(received, c.Expect, "")
	if err != nil {
		return nil, err
	}
	requested.Targets = nil
	for i, single := range c.Expect.Singles {
		if requested.Target, err = single.build(); err != nil {
			return nil, err
		}
		alone, err := client.Explain(context.Background(), requested)
		if err != nil {
			return nil, err
		}
		if !maps.Equal(digests(alone, ""), digests(received[i], "")) {
			return nil, fmt.Errorf("target %d alone has another relevance", i)
		}
	}
	return found, nil
}

func (s *suite) stream(client *lx.Client, c testCase) (hashes, error) {
	var requested []lx.Request
	for _, item := range c.Requests {
		built, err := item.Request.build(item.ID)
		if err != nil {
			return nil, err
		}
		requested = append(requested, built)
	}
	found, seen := hashes{}, map[string]bool{}
	var options []lx.StreamOption
	var wrong error
	reported := map[string]bool{}
	if c.Progress != nil {
		options = append(options, lx.WithProgress(func(id string, done, total int64) {
			reported[id] = true
			if seen[id] || done < 0 || done > total {
				wrong = fmt.Errorf("%s: progress %d of %d, answered: %t", id, done, total, seen[id])
			}
		}))
	}
	for answer, err := range client.ExplainStream(context.Background(), slices.Values(requested), options...) {
		if err != nil {
			return nil, err
		}
		expected, known := c.Answers[answer.ID]
		if !known || seen[answer.ID] {
			return nil, fmt.Errorf("received an answer to %q", answer.ID)
		}
		seen[answer.ID] = true
		if expected.Error != nil {
			err = checkError(answer.Err, *expected.Error)
		} else if err = answer.Err; err == nil {
			var own hashes
			if expected.Expect.Results != nil {
				own, err = checkMany(answer.Results, expected.Expect, answer.ID+"/")
			} else {
				own, err = digests(answer.Result, answer.ID+"/"), expected.Expect.check(answer.Result)
			}
			maps.Copy(found, own)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", answer.ID, err)
		}
	}
	if len(seen) != len(c.Answers) {
		return nil, fmt.Errorf("%d answers received, expected %d", len(seen), len(c.Answers))
	}
	if received := slices.Sorted(maps.Keys(reported)); wrong == nil && !slices.Equal(received, c.Progress) {
		wrong = fmt.Errorf("progress of %q received, expected %q", received, c.Progress)
	}
	if wrong != nil {
		return nil, wrong
	}
	return found, nil
}

func (s *suite) list(client *lx.Client, c testCase) (hashes, error) {
	received, err := client.Models(context.Background())
	if err != nil {
		return nil, err
	}
	for _, expected := range c.Expect.Models {
		if !slices.ContainsFunc(received, func(m lx.ModelSummary) bool {
			return m.Name == expected["name"] && m.Version == expected["version"] && m.State == expected["state"]
		}) {
			return nil, fmt.Errorf("%v is not among %v", expected, received)
		}
	}
	return nil, nil
}

func (s *suite) describe(client *lx.Client, c testCase) (hashes, error) {
	received, err := client.Model(context.Background(), c.Model, c.Version)
	if err != nil {
		return nil, err
	}
	return nil, checkDetail(received, c.Expect.Detail)
}

func (s *suite) imported(client *lx.Client, c testCase) (hashes, error) {
	ctx, brought := context.Background(), c.Import
	received, err := client.ImportModel(ctx, lx.Import{
		Name: brought.Name, Version: brought.Version, Config: brought.Config,
		Path: filepath.Join(s.models, brought.Model),
	})
	if err != nil {
		return nil, err
	}
	wrong := checkDetail(received, c.Expect.Detail)
	found, failed := s.explain(client, c)
	if err := client.DeleteModel(ctx, brought.Name, ""); err != nil {
		return nil, err
	}
	if _, err := s.explain(client, c); !errors.Is(err, lx.ErrModelNotFound) {
		return nil, fmt.Errorf("the model answers after it was deleted: %v", err)
	}
	return found, errors.Join(wrong, failed)
}

func (s *suite) routed(client *lx.Client, c testCase) (hashes, error) {
	chosen, err := client.RouteModel(context.Background(), c.Model, lx.ModelRoute(c.Route))
	if err != nil {
		return nil, err
	}
	back, err := client.RollBackModel(context.Background(), c.Model)
	if err != nil {
		return nil, err
	}
	if route(chosen) != c.Expect.Route || route(back) != c.Expect.RolledBack {
		return nil, fmt.Errorf("the routes are %v and %v, expected %v and %v", chosen, back, c.Expect.Route, c.Expect.RolledBack)
	}
	return nil, nil
}

func (s *suite) operation(client *lx.Client, c testCase) (hashes, error) {
	ctx := context.Background()
	requested, err := c.Request.build("")
	if err != nil {
		return nil, err
	}
	started, err := client.Start(ctx, requested)
	if err != nil {
		return nil, err
	}
	ended, err := client.WaitForOperation(ctx, started.Name)
	if err != nil {
		return nil, err
	}
	if ended.State != "succeeded" || ended.Result == nil {
		return nil, fmt.Errorf("the operation is %s: %w", ended.State, ended.Err)
	}
	listed, err := client.Operations(ctx)
	if err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(listed, func(o *lx.Operation) bool { return o.Name == started.Name }) {
		return nil, fmt.Errorf("the operation is not listed")
	}
	direct, err := client.Explain(ctx, requested)
	if err != nil {
		return nil, err
	}
	found := digests(ended.Result, "")
	if !maps.Equal(found, digests(direct, "")) {
		return nil, fmt.Errorf("the call has another relevance")
	}
	if err := client.CancelOperation(ctx, started.Name); err != nil {
		return nil, err
	}
	if err := client.DeleteOperation(ctx, started.Name); err != nil {
		return nil, err
	}
	if _, err := client.Operation(ctx, started.Name); !errors.Is(err, lx.ErrModelNotFound) {
		return nil, fmt.Errorf("the operation is there after it was deleted: %v", err)
	}
	return found, c.Expect.check(ended.Result)
}

func (s *suite) golden(folder string) error {
	content, err := os.ReadFile(filepath.Join(folder, "index.json"))
	if err != nil {
		return err
	}
	var index []struct{ Name, Message string }
	if err := json.Unmarshal(content, &index); err != nil {
		return err
	}
	for _, entry := range index {
		kind, err := protoregistry.GlobalTypes.FindMessageByName(protoreflect.FullName(entry.Message))
		if err != nil {
			return err
		}
		encoded, err := os.ReadFile(filepath.Join(folder, entry.Name+".bin"))
		if err != nil {
			return err
		}
		message := kind.New().Interface()
		err = proto.Unmarshal(encoded, message)
		var again []byte
		if err == nil {
			again, err = proto.MarshalOptions{Deterministic: true}.Marshal(message)
		}
		if err == nil && !bytes.Equal(again, encoded) {
			err = fmt.Errorf("%x became %x", encoded, again)
		}
		if err == nil && len(message.ProtoReflect().GetUnknown()) > 0 {
			err = errors.New("the stubs do not know every field")
		}
		s.say("golden/"+entry.Name, err, nil)
	}
	return nil
}
