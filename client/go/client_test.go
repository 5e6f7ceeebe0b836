// SPDX-License-Identifier: Apache-2.0

package lstmexplain

import (
	"context"
	"errors"
	"math"
	"reflect"
	"slices"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	pb "github.com/lstm-explain/lstm-explain/client/go/explainv1"
)

func TestTensorsComeBackAsTheyWere(t *testing.T) {
	for _, tensor := range []Tensor{
		Array([]float32{1.5, -0, float32(math.Inf(1))}),
		Array([]float64{math.Pi, 1e-300}, 2, 1),
		Array([]Float16{0x3c00, 0xffff}),
		Array([]int32{math.MinInt32, 7}, 1, 2),
		Array([]int64{math.MinInt64, math.MaxInt64}),
		Array([]bool{true, false, true}, 3),
		Text("", "façade", "很好"),
		Array([]float32{}, 2, 0, 4),
		{Shape: []int{}, Data: []float64{3}},
	} {
		message, err := tensor.encode("x", "inputs.x")
		if err != nil {
			t.Fatal(err)
		}
		received, err := decode(message)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(received, tensor) {
			t.Errorf("%v became %v", tensor, received)
		}
	}
}

func TestBytesAreLittleEndian(t *testing.T) {
	message, err := Array([]int32{1, -2}).encode("x", "")
	if err != nil {
		t.Fatal(err)
	}
	if expected := []byte{1, 0, 0, 0, 0xfe, 0xff, 0xff, 0xff}; !slices.Equal(message.Data, expected) {
		t.Errorf("%v, expected %v", message.Data, expected)
	}
}

func TestWhatCannotTravelIsRefused(t *testing.T) {
	for name, tensor := range map[string]Tensor{
		"shape":    Array([]float32{1, 2, 3}, 2, 2),
		"negative": Array([]float32{1}, -1),
		"type":     {Shape: []int{1}, Data: []complex64{1}},
	} {
		_, err := Request{Model: "m", Inputs: Inputs{"x": tensor}}.encode()
		var failed *Error
		if !errors.As(err, &failed) || failed.Field != "inputs.x" || !errors.Is(err, ErrInvalidRequest) {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, err := Request{Model: "m", Method: LRP{ProductRule: "both"}}.encode()
	if !errors.Is(err, ErrInvalidRequest) {
		t.Errorf("product rule: %v", err)
	}
}

func TestDamagedAnswersAreTold(t *testing.T) {
	for name, message := range map[string]*pb.Tensor{
		"short":    {Dtype: pb.DataType_DATA_TYPE_FLOAT32, Shape: []int64{2}, Data: make([]byte, 7)},
		"negative": {Dtype: pb.DataType_DATA_TYPE_FLOAT32, Shape: []int64{-2}},
		"unknown":  {Dtype: 99, Shape: []int64{1}, Data: []byte{1}},
		"text":     {Dtype: pb.DataType_DATA_TYPE_STRING, Shape: []int64{1}, Data: []byte{9, 0, 0, 0, 'a'}},
	} {
		if _, err := decode(message); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Every method comes back as it was sent, with parameters that are set to zero and those that are not set.
func TestMethodsComeBackAsTheyWere(t *testing.T) {
	none := map[string]Tensor{}
	rules := map[string]Rule{"Gemm": Gamma{Set(0.0)}, "dense": AlphaBeta{Set(2.0), nil}, "n": ZBox{-1, 1}, "f": Flat{}, "z": ZPlus{}}
	for _, method := range []Method{
		LRP{},
		LRP{ProductRule: Absolute, Epsilon: Set(0.0), BiasFactor: Set(1.0), Composite: &Composite{rules, Epsilon{Set(0.1)}}},
		Gradient{}, GradientTimesInput{}, ContextualDecomposition{}, ContextualDecomposition{&Span{0, 5}},
		IntegratedGradients{Steps: Set[int32](0), Baseline: map[string]Tensor{"x": Array([]float32{1})}},
		SmoothGrad{Samples: Set[int32](3), Noise: Set(0.0), Seed: Set[int64](0)},
		Occlusion{Window: Set[int32](2), Baseline: none, Of: Probability},
		ShapleySampling{Permutations: Set[int32](2), Seed: Set[int64](9), Baseline: none, Over: Cells},
	} {
		message, err := encodeRequested(method)
		if err != nil {
			t.Fatal(err)
		}
		encoded, err := proto.Marshal(message)
		if err != nil {
			t.Fatal(err)
		}
		again := &pb.Method{}
		if err := proto.Unmarshal(encoded, again); err != nil {
			t.Fatal(err)
		}
		var r reader
		received := decodeMethod(again, &r)
		if r.err != nil || !reflect.DeepEqual(received, method) {
			t.Errorf("%#v became %#v, %v", method, received, r.err)
		}
	}
}

func TestErrorsAreOfTheirKind(t *testing.T) {
	size := &Error{Code: codes.ResourceExhausted, Message: "grpc: received message larger than max (5 vs. 4)"}
	if !errors.Is(size, ErrTooLarge) || errors.Is(size, ErrOverloaded) {
		t.Error("a large message is taken for an overload")
	}
	if !errors.Is(&Error{Code: codes.DeadlineExceeded}, context.DeadlineExceeded) {
		t.Error("a passed deadline is not context.DeadlineExceeded")
	}
}

func TestTokensAreNotSentInTheOpen(t *testing.T) {
	if _, err := Connect("explain.example:443", WithToken("t")); err == nil {
		t.Error("a token would go over plain text")
	}
	for _, address := range []string{"127.0.0.1:1", "[::1]:1", "localhost:1", "unix:///tmp/socket"} {
		client, err := Connect(address, WithToken("t"))
		if err != nil {
			t.Errorf("%s: %v", address, err)
			continue
		}
		client.Close()
	}
}

func TestAnAnswerCarriesItsWarningsAndOneOfAnOlderServerHasNone(t *testing.T) {
	older, err := decodeResult(&pb.ExplainResponse{})
	if err != nil || len(older.Warnings) != 0 || older.ExplainedQuantity != "" {
		t.Errorf("%v, %v", older, err)
	}
	warned := []string{"relevance diverges", "and more"}
	received, err := decodeResult(&pb.ExplainResponse{Warnings: warned, ExplainedQuantity: "logit"})
	if err != nil || !slices.Equal(received.Warnings, warned) || received.ExplainedQuantity != "logit" {
		t.Errorf("%v, %v", received, err)
	}
}
