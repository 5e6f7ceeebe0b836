// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"

	lx "github.com/lstm-explain/lstm-explain/client/go"
)

// Builds the request of a case.

func elements[T lx.Element](t tensor) (lx.Tensor, error) {
	data := []T{}
	err := json.Unmarshal(t.Data, &data)
	return lx.Tensor{Shape: t.Shape, Data: data}, err
}

func (t tensor) build() (lx.Tensor, error) {
	switch t.Dtype {
	case "float32":
		return elements[float32](t)
	case "float64":
		return elements[float64](t)
	case "float16":
		var data []float64
		err := json.Unmarshal(t.Data, &data)
		return lx.Tensor{Shape: t.Shape, Data: make([]lx.Float16, len(data))}, err // of no case do the values matter
	case "int32":
		return elements[int32](t)
	case "int64":
		return elements[int64](t)
	case "bool":
		return elements[bool](t)
	case "string":
		return elements[string](t)
	}
	return lx.Tensor{}, fmt.Errorf("the dtype %s", t.Dtype)
}

func buildAll(tensors map[string]tensor) (map[string]lx.Tensor, error) {
	out := map[string]lx.Tensor{}
	for name, said := range tensors {
		built, err := said.build()
		if err != nil {
			return nil, err
		}
		out[name] = built
	}
	return out, nil
}

func (r request) build(id string) (lx.Request, error) {
	out := lx.Request{Model: r.Model, Version: r.Version, Capture: r.Capture, Receipt: r.Receipt,
		Condition: r.Condition, Through: r.Through, ID: id}
	if said := r.Groups; said != nil {
		out.Groups = &lx.Grouping{
			Window: said.Window, Words: said.Words, ChangePoints: said.ChangePoints, Features: said.Features,
		}
	}
	var err error
	if out.Inputs, err = buildAll(r.Inputs); err != nil {
		return out, err
	}
	if r.Method != nil {
		if out.Method, err = r.Method.build(); err != nil {
			return out, err
		}
	}
	if out.Target, err = r.Target.build(); err != nil {
		return out, err
	}
	for _, said := range r.Targets {
		set, err := said.build()
		if err != nil {
			return out, err
		}
		out.Targets = append(out.Targets, set)
	}
	return out, nil
}

func (t *target) build() (*lx.Target, error) {
	if t == nil {
		return nil, nil
	}
	out := &lx.Target{
		Output: t.Output, Indices: t.Indices, Contrast: t.Contrast,
		BatchAxis: t.BatchAxis, NoBatchAxis: t.NoBatchAxis, PreActivation: t.PreActivation,
	}
	if said := t.Measure; said != nil {
		out.Measure = &lx.Measure{Kind: said.Kind, Input: said.Input, Ahead: said.Ahead, Blank: said.Blank}
		if said.Tensor != nil {
			reference, err := said.Tensor.build()
			if err != nil {
				return nil, err
			}
			out.Measure.Tensor = &reference
		}
	}
	if t.Weights == nil {
		return out, nil
	}
	weights, err := t.Weights.build()
	out.Weights = &weights
	return out, err
}

func (t targetSet) build() (lx.TargetSet, error) {
	if t.Every == nil {
		return t.Target.build()
	}
	shared, err := t.Every.Target.build()
	return lx.Every{Axis: t.Every.Axis, Entries: t.Every.Entries, Target: shared}, err
}

// field is the name of a parameter in Go: bias_factor is BiasFactor.
func field(parameter string) string {
	parts := strings.Split(parameter, "_")
	for i, part := range parts {
		parts[i] = strings.ToUpper(part[:1]) + part[1:]
	}
	return strings.Join(parts, "")
}

func (m method) build() (lx.Method, error) {
	kind, known := methods[m.Name]
	if !known {
		return nil, fmt.Errorf("the method %s", m.Name)
	}
	out := reflect.New(kind).Elem()
	for name, said := range m.Parameters {
		held := out.FieldByName(field(name))
		if !held.IsValid() {
			return nil, fmt.Errorf("%s has no parameter %s", m.Name, name)
		}
		if name == "baseline" {
			var tensors map[string]tensor
			if err := json.Unmarshal(said, &tensors); err != nil {
				return nil, err
			}
			built, err := buildAll(tensors)
			if err != nil {
				return nil, err
			}
			held.Set(reflect.ValueOf(built))
			continue
		}
		if err := json.Unmarshal(said, held.Addr().Interface()); err != nil {
			return nil, err
		}
	}
	return out.Interface().(lx.Method), nil
}
