// SPDX-License-Identifier: Apache-2.0

package lstmexplain

import (
	"maps"
	"slices"

	pb "github.com/lstm-explain/lstm-explain/client/go/explainv1"
)

// Grouping divides the inputs into groups of entries that belong together, such as days of hourly steps. At most one of
// Window, Words and ChangePoints is set; without any, all steps belong together.
type Grouping struct {
	// Window is a number of consecutive steps. 0: none.
	Window int32
	// Words stands for the tokens of each word, in inputs sent as text.
	Words bool
	// ChangePoints cuts inputs of floating-point numbers where the mean of a feature changes.
	ChangePoints *ChangePoints
	// Features are the groups of features. Features of an input in no group form a group by themselves.
	Features []FeatureGroup
	// ModelFeatures uses the feature groups of the model instead.
	ModelFeatures bool
}

// ChangePoints says how to cut a time series into segments.
type ChangePoints struct {
	// Segments is their number at most. Default: 10.
	Segments *int32
	// Penalty is what a cut must lower the sum of squared deviations by, in units of the variance of the noise. Default:
	// (features + 1) times the logarithm of the number of steps.
	Penalty *float64
}

// FeatureGroup is a group of features of one input.
type FeatureGroup struct {
	// Name of the group.
	Name string
	// Input is the name of the input. It may be empty if the model has only one input with features.
	Input string
	// Features are names, or positions on the last axis of the input.
	Features []string
}

// GroupRelevance holds the groups of each input by its name. A sample that has fewer groups than another has empty names
// and zeros behind them.
type GroupRelevance struct {
	// Relevance has the shape [batch, groups]: the sums over the entries of each group.
	Relevance map[string]Tensor
	// Names has the shape [batch, groups], such as "steps 0-23, weather".
	Names map[string]Tensor
	// Steps has the shape [batch, groups, 2]: the first step of each group and the step after its last one.
	Steps map[string]Tensor
	// StandardError is that of Relevance, in its shape, for methods that draw samples.
	StandardError map[string]Tensor
}

func (g *Grouping) encode() *pb.Groups {
	if g == nil {
		return nil
	}
	out := &pb.Groups{ModelFeatures: g.ModelFeatures}
	switch {
	case g.Window != 0:
		out.Steps = &pb.Groups_Window{Window: g.Window}
	case g.Words:
		out.Steps = &pb.Groups_Words{Words: true}
	case g.ChangePoints != nil:
		cuts := &pb.ChangePoints{Segments: g.ChangePoints.Segments, Penalty: g.ChangePoints.Penalty}
		out.Steps = &pb.Groups_ChangePoints{ChangePoints: cuts}
	}
	for _, group := range g.Features {
		out.Features = append(out.Features, &pb.FeatureGroup{Name: group.Name, Input: group.Input, Features: group.Features})
	}
	return out
}

// encodeThrough orders the values by name, so that the same conditions are the same bytes.
func encodeThrough(through map[string][]int64) []*pb.Through {
	var out []*pb.Through
	for _, value := range slices.Sorted(maps.Keys(through)) {
		out = append(out, &pb.Through{Value: value, Units: through[value]})
	}
	return out
}

func (r *reader) groups(message *pb.GroupAnswer) GroupRelevance {
	return GroupRelevance{
		Relevance:     r.tensors(message.GetRelevance()),
		Names:         r.tensors(message.GetNames()),
		Steps:         r.tensors(message.GetSteps()),
		StandardError: r.tensors(message.GetStandardError()),
	}
}
