// SPDX-License-Identifier: Apache-2.0

package lstmexplain

import (
	"maps"
	"slices"

	pb "github.com/lstm-explain/lstm-explain/client/go/explainv1"
)

// Set returns a parameter with the given value. For a parameter that is nil or empty, the server uses its default.
func Set[T any](value T) *T { return &value }

func encodeRequested(method Method) (*pb.Method, error) {
	var w writer
	return encodeMethod(method, &w), w.err
}

// writer encodes one part after another and records the first error.
type writer struct{ err error }

func (w *writer) tensors(tensors map[string]Tensor, where string) []*pb.Tensor {
	out, err := encodeAll(tensors, where)
	w.note(err)
	return out
}

func (w *writer) note(err error) {
	if w.err == nil {
		w.err = err
	}
}

func number[K ~string, V any](w *writer, choices map[K]V, choice K, field string) V {
	value, known := choices[choice]
	if !known {
		w.note(invalid(field, "%q is none of %q", choice, slices.Sorted(maps.Keys(choices))))
	}
	return value
}

func word[K ~string, V comparable](choices map[K]V, value V) K {
	for choice, number := range choices {
		if number == value {
			return choice
		}
	}
	return ""
}

func mapped[V, M any](entries map[string]V, convert func(V) M) map[string]M {
	out := make(map[string]M, len(entries))
	for key, entry := range entries {
		out[key] = convert(entry)
	}
	return out
}

// encodeAll encodes tensors in the order of their names, so that equal requests become equal messages.
func encodeAll(tensors map[string]Tensor, where string) ([]*pb.Tensor, error) {
	var out []*pb.Tensor
	for _, name := range slices.Sorted(maps.Keys(tensors)) {
		message, err := tensors[name].encode(name, where+"."+name)
		if err != nil {
			return nil, err
		}
		out = append(out, message)
	}
	return out, nil
}
