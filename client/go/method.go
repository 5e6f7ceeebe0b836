package lstmexplain

import (
	"maps"
	"slices"

	pb "lstmexplain/explainv1"
)

// Method says how relevance is computed: LRP, Gradient, GradientTimesInput, IntegratedGradients, SmoothGrad, Occlusion,
// ShapleySampling or ContextualDecomposition. A parameter that is nil or empty takes the server's default; Set gives one.
type Method interface {
	encode() (*pb.Method, error)
}

// Set makes a parameter out of its value.
func Set[T any](value T) *T { return &value }

// Choices that some parameters take; the empty one is the server's default.
type (
	// ProductRule is what a gate and its signal receive of the relevance of their product.
	ProductRule string
	// Quantity is what an occlusion lowers.
	Quantity string
	// Players are those between whom a Shapley value is shared.
	Players string
)

const (
	// SignalTakesAll gives the gate nothing (the default).
	SignalTakesAll ProductRule = "all"
	// Half gives one half each.
	Half ProductRule = "half"
	// Proportional shares in proportion to the two values.
	Proportional ProductRule = "prop"
	// Absolute shares in proportion to the two absolute values.
	Absolute ProductRule = "abs"

	// Score is the explained value (the default).
	Score Quantity = "score"
	// Probability is the output after Softmax or Sigmoid.
	Probability Quantity = "probability"

	// Steps are time steps (the default).
	Steps Players = "steps"
	// Features are features, each for all of time.
	Features Players = "features"
	// Cells are the features of every time step.
	Cells Players = "cells"
)

var (
	productRules = map[ProductRule]pb.ProductRule{"": 0, SignalTakesAll: 1, Half: 2, Proportional: 3, Absolute: 4}
	quantities   = map[Quantity]pb.Quantity{"": 0, Score: 1, Probability: 2}
	playerKinds  = map[Players]pb.Players{"": 0, Steps: 1, Features: 2, Cells: 3}
)

func number[K ~string, V any](choices map[K]V, choice K, field string) (V, error) {
	value, known := choices[choice]
	if !known {
		return value, invalid(field, "%q is none of %q", choice, slices.Sorted(maps.Keys(choices)))
	}
	return value, nil
}

func word[K ~string, V comparable](choices map[K]V, value V) K {
	for choice, number := range choices {
		if number == value {
			return choice
		}
	}
	return ""
}

// LRP is layer-wise relevance propagation with the epsilon rule (Arras et al. 2017, 2019).
type LRP struct {
	ProductRule ProductRule
	// Epsilon is the stabiliser, not negative; default 0.001.
	Epsilon *float64
	// BiasFactor is the share of bias and stabiliser given to a sum's inputs, in [0, 1]; default 0.
	BiasFactor *float64
	// Composite has other rules for some dense and convolutional layers.
	Composite *Composite
}

func (m LRP) encode() (*pb.Method, error) {
	rule, err := number(productRules, m.ProductRule, "method.lrp.product_rule")
	if err != nil {
		return nil, err
	}
	lrp := &pb.Lrp{ProductRule: rule, Epsilon: m.Epsilon, BiasFactor: m.BiasFactor, Composite: m.Composite.encode()}
	return &pb.Method{Method: &pb.Method_Lrp{Lrp: lrp}}, nil
}

// Composite has rules of LRP by layer.
type Composite struct {
	// Rules are by a node's name, an operator (Gemm), or a kind of layer (dense, convolution).
	Rules map[string]Rule
	// First is for the layers that see the input before any other layer does.
	First Rule
}

func (c *Composite) encode() *pb.Composite {
	if c == nil {
		return nil
	}
	out := &pb.Composite{Rules: map[string]*pb.Rule{}}
	for key, rule := range c.Rules {
		out.Rules[key] = rule.encode()
	}
	if c.First != nil {
		out.First = c.First.encode()
	}
	return out
}

// Rule is what an input of a layer gets of the relevance of its output: Epsilon, Gamma, ZPlus, AlphaBeta, Flat or ZBox.
type Rule interface {
	encode() *pb.Rule
}

type (
	// Epsilon is LRP's own rule with another stabiliser (default 1e-6).
	Epsilon struct{ Epsilon *float64 }
	// Gamma raises contributions of the output's sign (default 0.25).
	Gamma struct{ Gamma *float64 }
	// ZPlus takes positive contributions only.
	ZPlus struct{}
	// AlphaBeta is alpha (2) times the positive share less beta (1) times the negative one; alpha - beta is 1.
	AlphaBeta struct{ Alpha, Beta *float64 }
	// Flat gives equal shares.
	Flat struct{}
	// ZBox is for layers whose inputs lie between Low and High.
	ZBox struct{ Low, High float64 }
)

func (r Epsilon) encode() *pb.Rule {
	return &pb.Rule{Rule: &pb.Rule_Epsilon_{Epsilon: &pb.Rule_Epsilon{Epsilon: r.Epsilon}}}
}

func (r Gamma) encode() *pb.Rule {
	return &pb.Rule{Rule: &pb.Rule_Gamma_{Gamma: &pb.Rule_Gamma{Gamma: r.Gamma}}}
}

func (r ZPlus) encode() *pb.Rule { return &pb.Rule{Rule: &pb.Rule_ZPlus_{ZPlus: &pb.Rule_ZPlus{}}} }

func (r AlphaBeta) encode() *pb.Rule {
	return &pb.Rule{Rule: &pb.Rule_AlphaBeta_{AlphaBeta: &pb.Rule_AlphaBeta{Alpha: r.Alpha, Beta: r.Beta}}}
}

func (r Flat) encode() *pb.Rule { return &pb.Rule{Rule: &pb.Rule_Flat_{Flat: &pb.Rule_Flat{}}} }

func (r ZBox) encode() *pb.Rule {
	return &pb.Rule{Rule: &pb.Rule_ZBox_{ZBox: &pb.Rule_ZBox{Low: &r.Low, High: &r.High}}}
}

func decodeRule(message *pb.Rule) Rule {
	switch rule := message.GetRule().(type) {
	case *pb.Rule_Epsilon_:
		return Epsilon{rule.Epsilon.Epsilon}
	case *pb.Rule_Gamma_:
		return Gamma{rule.Gamma.Gamma}
	case *pb.Rule_ZPlus_:
		return ZPlus{}
	case *pb.Rule_AlphaBeta_:
		return AlphaBeta{rule.AlphaBeta.Alpha, rule.AlphaBeta.Beta}
	case *pb.Rule_Flat_:
		return Flat{}
	case *pb.Rule_ZBox_:
		return ZBox{rule.ZBox.GetLow(), rule.ZBox.GetHigh()}
	}
	return nil
}

// Gradient is the partial derivatives of the explained value.
type Gradient struct{}

func (Gradient) encode() (*pb.Method, error) {
	return &pb.Method{Method: &pb.Method_Gradient{Gradient: &pb.Gradient{}}}, nil
}

// GradientTimesInput is the partial derivatives times the input.
type GradientTimesInput struct{}

func (GradientTimesInput) encode() (*pb.Method, error) {
	return &pb.Method{Method: &pb.Method_GradientTimesInput{GradientTimesInput: &pb.GradientTimesInput{}}}, nil
}

// IntegratedGradients are gradients averaged along the line from a baseline to the input.
type IntegratedGradients struct {
	// Steps are points on the line; default 50.
	Steps *int32
	// Baseline is by input; zero where there is none.
	Baseline map[string]Tensor
}

func (m IntegratedGradients) encode() (*pb.Method, error) {
	baseline, err := encodeAll(m.Baseline, "method.integrated_gradients.baseline")
	body := &pb.IntegratedGradients{Steps: m.Steps, Baseline: baseline}
	return &pb.Method{Method: &pb.Method_IntegratedGradients{IntegratedGradients: body}}, err
}

// SmoothGrad is gradients averaged over noisy copies of the input.
type SmoothGrad struct {
	// Samples are the copies; default 25.
	Samples *int32
	// Noise is its standard deviation as a share of the input's range; default 0.1.
	Noise *float64
	// Seed is 0 by default.
	Seed *int64
}

func (m SmoothGrad) encode() (*pb.Method, error) {
	body := &pb.SmoothGrad{Samples: m.Samples, Noise: m.Noise, Seed: m.Seed}
	return &pb.Method{Method: &pb.Method_SmoothGrad{SmoothGrad: body}}, nil
}

// Occlusion is the fall of the explained value when time steps are replaced by a baseline.
type Occlusion struct {
	// Window is how many time steps are replaced together; default 1.
	Window *int32
	// Baseline is by input; zero where there is none.
	Baseline map[string]Tensor
	// Of is the value whose fall is taken.
	Of Quantity
}

func (m Occlusion) encode() (*pb.Method, error) {
	of, err := number(quantities, m.Of, "method.occlusion.of")
	if err != nil {
		return nil, err
	}
	baseline, err := encodeAll(m.Baseline, "method.occlusion.baseline")
	body := &pb.Occlusion{Window: m.Window, Baseline: baseline, Of: of}
	return &pb.Method{Method: &pb.Method_Occlusion{Occlusion: body}}, err
}

// ShapleySampling is Shapley values, estimated over random orders.
type ShapleySampling struct {
	// Permutations are the orders drawn; default 25.
	Permutations *int32
	// Seed is 0 by default.
	Seed *int64
	// Baseline is what stands for an absent player, by input; zero where there is none.
	Baseline map[string]Tensor
	// Over is who plays.
	Over Players
}

func (m ShapleySampling) encode() (*pb.Method, error) {
	over, err := number(playerKinds, m.Over, "method.shapley_sampling.over")
	if err != nil {
		return nil, err
	}
	baseline, err := encodeAll(m.Baseline, "method.shapley_sampling.baseline")
	body := &pb.ShapleySampling{Permutations: m.Permutations, Seed: m.Seed, Baseline: baseline, Over: over}
	return &pb.Method{Method: &pb.Method_ShapleySampling{ShapleySampling: body}}, err
}

// ContextualDecomposition is the contextual decomposition of LSTMs (Murdoch et al. 2018).
type ContextualDecomposition struct{}

func (ContextualDecomposition) encode() (*pb.Method, error) {
	body := &pb.ContextualDecomposition{}
	return &pb.Method{Method: &pb.Method_ContextualDecomposition{ContextualDecomposition: body}}, nil
}

// decodeMethod returns nil where no method is set, or one that this client does not know.
func decodeMethod(message *pb.Method) (Method, error) {
	switch method := message.GetMethod().(type) {
	case *pb.Method_Lrp:
		out := LRP{
			ProductRule: word(productRules, method.Lrp.GetProductRule()),
			Epsilon:     method.Lrp.Epsilon,
			BiasFactor:  method.Lrp.BiasFactor,
		}
		if said := method.Lrp.Composite; said != nil {
			out.Composite = &Composite{Rules: map[string]Rule{}, First: decodeRule(said.First)}
			for key, rule := range said.GetRules() {
				out.Composite.Rules[key] = decodeRule(rule)
			}
		}
		return out, nil
	case *pb.Method_Gradient:
		return Gradient{}, nil
	case *pb.Method_GradientTimesInput:
		return GradientTimesInput{}, nil
	case *pb.Method_IntegratedGradients:
		baseline, err := decodeAll(method.IntegratedGradients.GetBaseline())
		return IntegratedGradients{Steps: method.IntegratedGradients.Steps, Baseline: baseline}, err
	case *pb.Method_SmoothGrad:
		body := method.SmoothGrad
		return SmoothGrad{Samples: body.Samples, Noise: body.Noise, Seed: body.Seed}, nil
	case *pb.Method_Occlusion:
		body := method.Occlusion
		baseline, err := decodeAll(body.GetBaseline())
		return Occlusion{Window: body.Window, Baseline: baseline, Of: word(quantities, body.GetOf())}, err
	case *pb.Method_ShapleySampling:
		body := method.ShapleySampling
		baseline, err := decodeAll(body.GetBaseline())
		over := word(playerKinds, body.GetOver())
		return ShapleySampling{Permutations: body.Permutations, Seed: body.Seed, Baseline: baseline, Over: over}, err
	case *pb.Method_ContextualDecomposition:
		return ContextualDecomposition{}, nil
	}
	return nil, nil
}

// encodeAll takes tensors in the order of their names, so that the same request is the same message.
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
