// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"strings"

	"google.golang.org/grpc/codes"

	lx "github.com/lstm-explain/lstm-explain/client/go"
)

// Compares a response with the expected one.

type comparison struct {
	where    string
	received map[string]lx.Tensor
	expected map[string]tensor
}

func (w expectation) check(received *lx.Result) error {
	if w.Model != "" && w.Model != received.Model || w.Version != "" && w.Version != received.Version {
		return fmt.Errorf("%s %s answered, expected %s %s", received.Model, received.Version, w.Model, w.Version)
	}
	compared := []comparison{
		{"relevance", received.Relevance, w.Relevance},
		{"outputs", received.Outputs, w.Outputs},
		{"captured", received.Captured, w.Captured},
		{"tokens", received.Tokens, w.Tokens},
	}
	if groups := w.Groups; groups != nil {
		compared = append(compared,
			comparison{"groups.relevance", received.Groups.Relevance, groups.Relevance},
			comparison{"groups.names", received.Groups.Names, groups.Names},
			comparison{"groups.steps", received.Groups.Steps, groups.Steps},
			comparison{"groups.standard_error", received.Groups.StandardError, groups.StandardError},
		)
	}
	for _, pair := range compared {
		if pair.expected == nil {
			continue
		}
		if len(pair.received) != len(pair.expected) {
			return fmt.Errorf("%s: %d tensors received, expected %d", pair.where, len(pair.received), len(pair.expected))
		}
		for name, expected := range pair.expected {
			if err := expected.check(pair.where+"."+name, pair.received[name]); err != nil {
				return err
			}
		}
	}
	if w.Warnings != nil && !slices.EqualFunc(received.Warnings, w.Warnings, strings.HasPrefix) {
		return fmt.Errorf("the warnings %q received, expected %q", received.Warnings, w.Warnings)
	}
	if w.Quantity != nil && received.ExplainedQuantity != *w.Quantity {
		return fmt.Errorf("explained_quantity: %q received, expected %q", received.ExplainedQuantity, *w.Quantity)
	}
	if w.NotExplained != nil && !slices.Equal(received.NotExplained, w.NotExplained) {
		return fmt.Errorf("not_explained: %q received, expected %q", received.NotExplained, w.NotExplained)
	}
	if part := w.Receipt; part != nil {
		if (received.Receipt == "") != (*part == "") || !strings.Contains(received.Receipt, *part) {
			return fmt.Errorf("receipt: %q received, expected %q", received.Receipt, *part)
		}
	}
	if w.Explained != nil {
		if err := w.Explained.check("explained", lx.Array(received.Explained)); err != nil {
			return err
		}
	}
	return w.checkLedger(received)
}

// checkMany compares a result per target; the number of the target precedes the names of the hashes.
func checkMany(received []*lx.Result, expected expectation, prefix string) (hashes, error) {
	if len(received) != len(expected.Results) {
		return nil, fmt.Errorf("%d results received, expected %d", len(received), len(expected.Results))
	}
	found := hashes{}
	for i, result := range received {
		if err := expected.Results[i].check(result); err != nil {
			return nil, fmt.Errorf("target %d: %w", i, err)
		}
		maps.Copy(found, digests(result, fmt.Sprintf("%s%d/", prefix, i)))
	}
	return found, nil
}

func (w expectation) checkLedger(received *lx.Result) error {
	ledger := received.Ledger
	parts := map[string][]float64{
		"inputs": ledger.Inputs, "initial_states": ledger.InitialStates, "absorbed": ledger.Absorbed,
	}
	for name, value := range w.Ledger {
		if name != "balance" {
			var expected tensor
			if err := json.Unmarshal(value, &expected); err != nil {
				return err
			}
			if err := expected.check("ledger."+name, lx.Array(parts[name])); err != nil {
				return err
			}
			continue
		}
		var allowed float64
		if err := json.Unmarshal(value, &allowed); err != nil {
			return err
		}
		for i, whole := range received.Explained {
			sum := ledger.Inputs[i] + ledger.InitialStates[i] + ledger.Absorbed[i] + ledger.Residual[i]
			if !(math.Abs(whole-sum) <= allowed) {
				return fmt.Errorf("ledger: %g is missing, allowed %g", whole-sum, allowed)
			}
		}
	}
	return nil
}

func dtype(t lx.Tensor) string {
	switch t.Data.(type) {
	case []lx.Float16:
		return "float16"
	default:
		return strings.TrimPrefix(fmt.Sprintf("%T", t.Data), "[]")
	}
}

func (w tensor) check(where string, received lx.Tensor) error {
	if w.Dtype != "float" && dtype(received) != w.Dtype || !slices.Equal(received.Shape, w.Shape) {
		return fmt.Errorf("%s: %s%v received, expected %s%v", where, dtype(received), received.Shape, w.Dtype, w.Shape)
	}
	if w.Tolerance == nil {
		expected, err := w.build()
		if err == nil && !reflect.DeepEqual(received.Data, expected.Data) {
			err = fmt.Errorf("%s: %v received, expected %v", where, received.Data, expected.Data)
		}
		return err
	}
	var expected []float64
	if err := json.Unmarshal(w.Data, &expected); err != nil {
		return err
	}
	for i, value := range received.Floats() {
		if !(math.Abs(value-expected[i]) <= *w.Tolerance) {
			return fmt.Errorf("%s: %g received at %d, expected %g within %g", where, value, i, expected[i], *w.Tolerance)
		}
	}
	return nil
}

func checkError(received error, expected failure) error {
	var failed *lx.Error
	if !errors.As(received, &failed) {
		return fmt.Errorf("%v received, expected %s", received, expected.Code)
	}
	var code codes.Code
	if err := code.UnmarshalJSON([]byte(`"` + expected.Code + `"`)); err != nil {
		return err
	}
	if failed.Code != code {
		return fmt.Errorf("%s received (%s), expected %s", failed.Code, failed.Message, expected.Code)
	}
	if expected.Field != "" && failed.Field != expected.Field {
		return fmt.Errorf("the field %q received (%s), expected %q", failed.Field, failed.Message, expected.Field)
	}
	if !strings.Contains(failed.Message, expected.Word) {
		return fmt.Errorf("the message %q lacks %q", failed.Message, expected.Word)
	}
	return nil
}

// checkDetail compares both sides as JSON.
func checkDetail(received *lx.ModelDetail, expected map[string]json.RawMessage) error {
	held := map[string]any{
		"name": received.Name, "version": received.Version, "state": received.State, "description": received.Description,
		"lrp_supported": received.LRPSupported, "inputs": specs(received.Inputs), "outputs": specs(received.Outputs),
		"class_names": received.ClassNames, "text_inputs": append([]string{}, received.TextInputs...),
		"batch_axes": received.BatchAxes, "time_axes": received.TimeAxes,
		"guessed_axes":       append([]string{}, received.GuessedAxes...),
		"background_samples": received.BackgroundSamples,
		"examples":           received.Examples,
		"feature_groups":     featureGroups(received.FeatureGroups),
	}
	for name, value := range expected {
		if name == "default_method" {
			if err := checkMethod(received.DefaultMethod, value); err != nil {
				return err
			}
			continue
		}
		written, err := json.Marshal(held[name])
		if err != nil {
			return err
		}
		var left, right any
		if err := errors.Join(json.Unmarshal(written, &left), json.Unmarshal(value, &right)); err != nil {
			return err
		}
		if !reflect.DeepEqual(left, right) {
			return fmt.Errorf("%s: %v received, expected %v", name, left, right)
		}
	}
	return nil
}

func featureGroups(received []lx.FeatureGroup) []any {
	out := []any{}
	for _, group := range received {
		out = append(out, map[string]any{"name": group.Name, "input": group.Input, "features": group.Features})
	}
	return out
}

func checkMethod(received lx.Method, value json.RawMessage) error {
	var expected method
	if err := json.Unmarshal(value, &expected); err != nil {
		return err
	}
	built, err := expected.build()
	if err != nil {
		return err
	}
	if reflect.TypeOf(received) != reflect.TypeOf(built) {
		return fmt.Errorf("default_method: %T received, expected %T", received, built)
	}
	for name := range expected.Parameters {
		left, right := reflect.ValueOf(received).FieldByName(field(name)), reflect.ValueOf(built).FieldByName(field(name))
		if !reflect.DeepEqual(left.Interface(), right.Interface()) {
			return fmt.Errorf("default_method: %s differs", name)
		}
	}
	return nil
}

func specs(tensors map[string]lx.TensorSpec) map[string]any {
	out := map[string]any{}
	for name, spec := range tensors {
		shape := make([]any, len(spec.Shape))
		for i, extent := range spec.Shape {
			shape[i] = extent
			var size int
			if _, err := fmt.Sscanf(extent, "%d", &size); err == nil {
				shape[i] = size
			}
		}
		out[name] = map[string]any{"dtype": spec.Type, "shape": shape}
	}
	return out
}

// digests are of the elements, row-major and little-endian.
func digests(received *lx.Result, prefix string) hashes {
	out := hashes{}
	for name, t := range received.Relevance {
		sum := sha256.New()
		if err := binary.Write(sum, binary.LittleEndian, t.Data); err != nil {
			panic(err)
		}
		out[prefix+name] = hex.EncodeToString(sum.Sum(nil))
	}
	return out
}
