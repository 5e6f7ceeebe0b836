// SPDX-License-Identifier: Apache-2.0

package lstmexplain

import (
	"context"
	"fmt"

	pb "github.com/lstm-explain/lstm-explain/client/go/explainv1"
)

// TargetSet is one target (*Target), or one for every entry of an output along an axis (Every). A nil *Target is the
// default target of the model.
type TargetSet interface {
	encodeSet(where string) (*pb.TargetSet, error)
}

// Every stands for a target for each entry of an output along one of its axes, such as every class or every step.
type Every struct {
	// Axis counts in the output of one sample (the output without its batch axis): -1, the last one, for classes (the
	// default); 0 for steps.
	Axis *int32
	// Entries are positions on the axis. If there are none, all of them.
	Entries []int64
	// Target is what the targets have in common: the output, its batch axis, PreActivation and, in Indices, one position
	// on the other axes. Without Indices, every target is the largest entry on the last of the other axes.
	Target *Target
}

// EveryClass stands for every entry on the last axis of the default output.
func EveryClass() Every { return Every{} }

// EveryStep stands for these entries on the first axis of one sample's default output; without any, for all of them.
func EveryStep(steps ...int64) Every { return Every{Axis: Set[int32](0), Entries: steps} }

// ExplainMany predicts one batch and explains it for request.Targets, in one request: a result per target, in their
// order. The results share the outputs.
func (c *Client) ExplainMany(ctx context.Context, request Request) ([]*Result, error) {
	if len(request.Targets) == 0 {
		return nil, nil
	}
	response, err := c.explain(ctx, request)
	if err != nil {
		return nil, err
	}
	return decodeResults(response)
}

func (t *Target) encodeSet(where string) (*pb.TargetSet, error) {
	if t == nil {
		return &pb.TargetSet{}, nil
	}
	target, err := t.encode(where + ".target")
	return &pb.TargetSet{Targets: &pb.TargetSet_Target{Target: target}}, err
}

func (e Every) encodeSet(where string) (*pb.TargetSet, error) {
	target, err := e.Target.encode(where + ".every.target")
	every := &pb.Every{Target: target, Axis: e.Axis, Entries: e.Entries}
	return &pb.TargetSet{Targets: &pb.TargetSet_Every{Every: every}}, err
}

func encodeTargets(sets []TargetSet) ([]*pb.TargetSet, error) {
	out := make([]*pb.TargetSet, 0, len(sets))
	for i, set := range sets {
		message, err := set.encodeSet(fmt.Sprintf("targets[%d]", i))
		if err != nil {
			return nil, err
		}
		out = append(out, message)
	}
	return out, nil
}

// decodeResults takes an answer for several targets apart.
func decodeResults(response *pb.ExplainResponse) ([]*Result, error) {
	if len(response.GetTargets()) == 0 {
		return nil, malformed("the answer is for one target: the server is older than requests with several targets")
	}
	out := make([]*Result, 0, len(response.GetTargets()))
	for i := range response.GetTargets() {
		one, err := answerFor(response, i)
		if err != nil {
			return nil, err
		}
		result, err := decodeResult(one)
		if err != nil {
			return nil, err
		}
		if i > 0 {
			result.Outputs, result.Tokens = out[0].Outputs, out[0].Tokens
		}
		out = append(out, result)
	}
	return out, nil
}

// answerFor returns the answer for one of several targets, as a request for it alone would get it. Only the first one
// contains outputs and tokens.
func answerFor(response *pb.ExplainResponse, number int) (*pb.ExplainResponse, error) {
	own, ledger, targets := response.GetTargets()[number], response.GetLedger(), len(response.GetTargets())
	var wrong error
	part := func(tensor *pb.Tensor) *pb.Tensor {
		shape, data := tensor.GetShape(), tensor.GetData()
		if len(shape) == 0 || shape[0] != int64(targets) || len(data)%targets != 0 {
			wrong = malformed("tensor %q has shape %v, expected %d targets in front", tensor.GetName(), shape, targets)
			return tensor
		}
		size := len(data) / targets
		data = data[number*size : (number+1)*size]
		return &pb.Tensor{Name: tensor.GetName(), Dtype: tensor.GetDtype(), Shape: shape[1:], Data: data}
	}
	parts := func(tensors []*pb.Tensor) []*pb.Tensor {
		out := make([]*pb.Tensor, 0, len(tensors))
		for _, tensor := range tensors {
			out = append(out, part(tensor))
		}
		return out
	}
	shares := make([]*pb.NodeShare, 0, len(ledger.GetByNode()))
	for _, share := range ledger.GetByNode() {
		shares = append(shares, &pb.NodeShare{Node: share.GetNode(), Absorbed: part(share.GetAbsorbed())})
	}
	one := &pb.ExplainResponse{
		Model:     response.GetModel(),
		Version:   response.GetVersion(),
		Explained: part(response.GetExplained()),
		Relevance: parts(response.GetRelevance()),
		Captured:  parts(response.GetCaptured()),
		Ledger: &pb.Ledger{
			Inputs:        part(ledger.GetInputs()),
			InitialStates: part(ledger.GetInitialStates()),
			Absorbed:      part(ledger.GetAbsorbed()),
			Residual:      part(ledger.GetResidual()),
			ByNode:        shares,
		},
		Method:            response.GetMethod(),
		Target:            own.GetTarget(),
		StandardError:     parts(response.GetStandardError()),
		Warnings:          own.GetWarnings(),
		ExplainedQuantity: own.GetExplainedQuantity(),
		StepsUsed:         own.GetStepsUsed(),
		Receipt:           response.GetReceipt(),
		NotExplained:      own.GetNotExplained(),
	}
	if groups := response.GetGroups(); groups != nil {
		one.Groups = &pb.GroupAnswer{Relevance: parts(groups.GetRelevance()), Names: groups.GetNames(),
			Steps: groups.GetSteps(), StandardError: parts(groups.GetStandardError())}
	}
	if number == 0 {
		one.Outputs, one.Tokens = response.GetOutputs(), response.GetTokens()
	}
	return one, wrong
}
