package lstmexplain

import pb "lstmexplain/explainv1"

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
}

// At returns the target at one position of the default output.
func At(indices ...int64) *Target { return &Target{Indices: indices} }

func (t *Target) encode() (*pb.Target, error) {
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
	if t.Weights == nil {
		return out, nil
	}
	var err error
	out.Weights, err = t.Weights.encode("", "target.weights")
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
	}
	if message.Weights == nil {
		return out, nil
	}
	weights, err := decode(message.Weights)
	out.Weights = &weights
	return out, err
}
