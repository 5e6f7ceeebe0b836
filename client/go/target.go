package lstmexplain

import pb "lstmexplain/explainv1"

// Target is what is explained: one scalar a sample, taken from one output. What is left out is the model's default.
type Target struct {
	// Output is the output's name.
	Output string
	// Indices is a position in one sample's output, one number for each of its axes, or one such position after another
	// for every sample. Default: the largest entry on the last axis.
	Indices []int64
	// Contrast is a second position: output[Indices] - output[Contrast] is explained.
	Contrast []int64
	// Weights explains the sum of weights times output; it has the shape of one sample's output and excludes Indices.
	Weights *Tensor
	// BatchAxis is the axis of the output along which samples lie.
	BatchAxis *int32
	// NoBatchAxis is for a model of one sample without a batch axis.
	NoBatchAxis bool
	// PreActivation explains the value before a Softmax, LogSoftmax or Sigmoid at the output's end; default true.
	PreActivation *bool
}

// At is the target at one position of the default output.
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
