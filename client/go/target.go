// SPDX-License-Identifier: Apache-2.0

package lstmexplain

import (
	"strings"

	pb "github.com/lstm-explain/lstm-explain/client/go/explainv1"
)

// Target selects what to explain: one scalar per sample, taken from one output. Fields that are omitted take the
// defaults of the model.
type Target struct {
	// Output is the name of the output.
	Output string
	// Indices is a position in the output of one sample, with one number per axis, or the concatenated positions of all
	// samples. Default: the largest entry on the last axis.
	Indices []int64
	// Contrast is a second position. The explained value is output[Indices] - output[Contrast].
	Contrast []int64
	// Weights explains the sum of weights times output. It has the shape of the output of one sample and cannot be
	// combined with Indices.
	Weights *Tensor
	// BatchAxis is the batch axis of the output.
	BatchAxis *int32
	// NoBatchAxis is for a model of one sample without a batch axis.
	NoBatchAxis bool
	// PreActivation selects the value before the final activation of the output (such as Softmax, Sigmoid or Exp).
	// Default: true.
	PreActivation *bool
	// Measure explains a number of the whole output instead of an entry.
	Measure *Measure
}

// Measure is a number of the output of each sample: an error, a norm, or the probability of an entry.
type Measure struct {
	// Kind is "mean_squared_error" or "mean_absolute_error" against the reference, "l1_norm" or "l2_norm" of all entries,
	// "log_probability" or "probability" of the entry at the target's Indices, by the softmax over the last axis, or
	// "path_score", the sum along a path whose labels the target's Indices are, one per step. Default: the best path.
	Kind string
	// Input names the input that an error compares the output with.
	Input string
	// Tensor is the array that an error compares the output with: of its shape, or of that of one sample. For a path,
	// what the best one gains from one label to the next.
	Tensor *Tensor
	// Ahead is by how many time steps the output is ahead of Input.
	Ahead int32
	// Blank is the label that CTC drops, for a path. The target's Indices are then labels without blanks.
	Blank *int32
}

func (m *Measure) encode(where string) (*pb.Measure, error) {
	if m == nil {
		return nil, nil
	}
	kind, known := pb.MeasureKind_value["MEASURE_KIND_"+strings.ToUpper(m.Kind)]
	if !known {
		return nil, invalid(where+".kind", "there is no measure %q", m.Kind)
	}
	out := &pb.Measure{Kind: pb.MeasureKind(kind), Ahead: m.Ahead, Blank: m.Blank}
	if m.Input != "" {
		out.Reference = &pb.Measure_Input{Input: m.Input}
	}
	if m.Tensor != nil {
		tensor, err := m.Tensor.encode("", where+".tensor")
		if err != nil {
			return nil, err
		}
		out.Reference = &pb.Measure_Tensor{Tensor: tensor}
	}
	return out, nil
}

func decodeMeasure(message *pb.Measure) *Measure {
	if message == nil {
		return nil
	}
	kind := strings.ToLower(strings.TrimPrefix(message.GetKind().String(), "MEASURE_KIND_"))
	return &Measure{Kind: kind, Input: message.GetInput(), Ahead: message.GetAhead(), Blank: message.Blank}
}

// At returns the target at one position of the default output.
func At(indices ...int64) *Target { return &Target{Indices: indices} }

// encode builds the message. where names the argument for the error.
func (t *Target) encode(where string) (*pb.Target, error) {
	if t == nil {
		return nil, nil
	}
	out := &pb.Target{
		Output:          t.Output,
		Indices:         t.Indices,
		ContrastIndices: t.Contrast,
		BatchAxis:       t.BatchAxis,
		NoBatchAxis:     t.NoBatchAxis,
		PreActivation:   t.PreActivation,
	}
	var err error
	if out.Measure, err = t.Measure.encode(where + ".measure"); err != nil || t.Weights == nil {
		return out, err
	}
	out.Weights, err = t.Weights.encode("", where+".weights")
	return out, err
}

func decodeTarget(message *pb.Target) (*Target, error) {
	if message == nil {
		return nil, nil
	}
	out := &Target{
		Output:        message.GetOutput(),
		Indices:       message.GetIndices(),
		Contrast:      message.GetContrastIndices(),
		BatchAxis:     message.BatchAxis,
		NoBatchAxis:   message.GetNoBatchAxis(),
		PreActivation: message.PreActivation,
		Measure:       decodeMeasure(message.GetMeasure()),
	}
	if message.Weights == nil {
		return out, nil
	}
	weights, err := decode(message.Weights)
	out.Weights = &weights
	return out, err
}
