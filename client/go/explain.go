package lstmexplain

import (
	"context"
	"errors"
	"io"
	"iter"
	"strconv"

	"google.golang.org/grpc/codes"

	pb "lstmexplain/explainv1"
)

// Inputs are a batch: a tensor for every input of the model, with the batch axis that the model has. For an input with a
// tokenizer it may be Text.
type Inputs map[string]Tensor

// Request is one explanation to ask for.
type Request struct {
	Model string
	// Version is the newest that is ready where it is empty.
	Version string
	Inputs  Inputs
	// Method and Target are the model's defaults where they are nil.
	Method Method
	Target *Target
	// Capture are names of inner values whose relevance is wanted too.
	Capture []string
	// ID comes back with the answer of a stream; by default the request's place in it, from "0".
	ID string
}

// Result is one batch, explained.
type Result struct {
	// Model and Version answered.
	Model, Version string
	// Relevance is by input, of the input's shape; for token ids and text one number a token.
	Relevance map[string]Tensor
	// Outputs are what the model predicted.
	Outputs map[string]Tensor
	// Explained is the scalar explained, a sample each.
	Explained []float64
	// Captured is the relevance of the inner values asked for.
	Captured map[string]Tensor
	// Tokens are the words of inputs sent as text, of the shape of their relevance; padding is the empty string.
	Tokens map[string]Tensor
	// StandardError is that of the relevance, with ShapleySampling.
	StandardError map[string]Tensor
	// Ledger says where all of Explained went.
	Ledger Ledger
	// Method and Target are as the server used them.
	Method Method
	Target *Target
	// Warnings say why the answer should not be relied on, a sentence each. Without any it can be acted on.
	Warnings []string
	// ExplainedQuantity is what Explained is of the target's output: "output", the output itself; "logit" or "score", the
	// value before its Softmax or Sigmoid, or before its LogSoftmax; "probability", the output made one. It is empty
	// where the server is older than this field.
	ExplainedQuantity string
}

// Ledger accounts for the explained value of every sample: explained = Inputs + InitialStates + Absorbed + Residual.
type Ledger struct {
	Inputs, InitialStates, Absorbed, Residual []float64
	// ByNode is Absorbed, a node each.
	ByNode map[string][]float64
}

// Explain predicts one batch and says why. The context's deadline travels to the server.
func (c *Client) Explain(ctx context.Context, request Request) (*Result, error) {
	message, err := request.encode()
	if err != nil {
		return nil, err
	}
	response, err := c.explanations.Explain(ctx, message)
	if err != nil {
		return nil, fromCall(err)
	}
	return decodeResult(response)
}

// Answer is what a stream gives back for one request: a result, or why there is none.
type Answer struct {
	ID     string
	Result *Result
	Err    error
}

// ExplainStream sends many requests over one stream. Answers come as they are ready, in any order. A request that fails
// is answered by its own Err and the stream goes on; the second value is not nil only if the stream itself breaks, and is
// then the last. Leaving the loop cancels what has not been answered.
//
//	for answer, err := range client.ExplainStream(ctx, slices.Values(requests)) { … }
func (c *Client) ExplainStream(ctx context.Context, requests iter.Seq[Request]) iter.Seq2[Answer, error] {
	return func(yield func(Answer, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		stream, err := c.explanations.ExplainStream(ctx)
		if err != nil {
			yield(Answer{}, fromCall(err))
			return
		}
		unsent := make(chan Answer)
		go func() {
			defer close(unsent)
			number := 0
			for request := range requests {
				if request.ID == "" {
					request.ID = strconv.Itoa(number)
				}
				number++
				message, err := request.encode()
				if err == nil {
					err = stream.Send(&pb.ExplainStreamRequest{Id: request.ID, Request: message})
					if err != nil { // the receiver learns why
						return
					}
					continue
				}
				select {
				case unsent <- Answer{ID: request.ID, Err: err}:
				case <-ctx.Done():
					return
				}
			}
			_ = stream.CloseSend()
		}()
		received := make(chan *pb.ExplainStreamResponse)
		var broken error
		go func() {
			defer close(received)
			for {
				response, err := stream.Recv()
				if err != nil {
					broken = err
					return
				}
				select {
				case received <- response:
				case <-ctx.Done():
					return
				}
			}
		}()
		for unsent != nil || received != nil {
			var answer Answer
			var open bool
			select {
			case answer, open = <-unsent:
				if !open {
					unsent = nil
					continue
				}
			case response, alive := <-received:
				if !alive {
					if broken != nil && !errors.Is(broken, io.EOF) {
						yield(Answer{}, fromCall(broken))
						return
					}
					received = nil
					continue
				}
				answer = decodeAnswer(response)
			}
			if !yield(answer, nil) {
				return
			}
		}
	}
}

func decodeAnswer(response *pb.ExplainStreamResponse) Answer {
	if failed := response.GetError(); failed != nil {
		err := &Error{Code: codes.Code(failed.GetCode()), Message: failed.GetMessage(), Field: failed.GetField()}
		return Answer{ID: response.GetId(), Err: err}
	}
	result, err := decodeResult(response.GetResponse())
	return Answer{ID: response.GetId(), Result: result, Err: err}
}

func (r Request) encode() (*pb.ExplainRequest, error) {
	if r.Model == "" {
		return nil, invalid("model", "the name is empty")
	}
	inputs, err := encodeAll(r.Inputs, "inputs")
	if err != nil {
		return nil, err
	}
	target, err := r.Target.encode()
	if err != nil {
		return nil, err
	}
	out := &pb.ExplainRequest{Model: r.Model, Version: r.Version, Inputs: inputs, Target: target, Capture: r.Capture}
	out.Method, err = encodeRequested(r.Method)
	return out, err
}

// reader decodes one part after another and keeps the first error.
type reader struct{ err error }

func (r *reader) tensors(messages []*pb.Tensor) map[string]Tensor {
	out, err := decodeAll(messages)
	r.note(err)
	return out
}

func (r *reader) floats(message *pb.Tensor) []float64 {
	if message == nil {
		return nil
	}
	out, err := decode(message)
	r.note(err)
	return out.Floats()
}

func (r *reader) note(err error) {
	if r.err == nil {
		r.err = err
	}
}

func decodeResult(response *pb.ExplainResponse) (*Result, error) {
	var r reader
	ledger := response.GetLedger()
	byNode := make(map[string][]float64, len(ledger.GetByNode()))
	for _, share := range ledger.GetByNode() {
		byNode[share.GetNode()] = r.floats(share.GetAbsorbed())
	}
	target, err := decodeTarget(response.GetTarget())
	r.note(err)
	out := &Result{
		Model:         response.GetModel(),
		Version:       response.GetVersion(),
		Relevance:     r.tensors(response.GetRelevance()),
		Outputs:       r.tensors(response.GetOutputs()),
		Explained:     r.floats(response.GetExplained()),
		Captured:      r.tensors(response.GetCaptured()),
		Tokens:        r.tensors(response.GetTokens()),
		StandardError: r.tensors(response.GetStandardError()),
		Ledger: Ledger{
			Inputs:        r.floats(ledger.GetInputs()),
			InitialStates: r.floats(ledger.GetInitialStates()),
			Absorbed:      r.floats(ledger.GetAbsorbed()),
			Residual:      r.floats(ledger.GetResidual()),
			ByNode:        byNode,
		},
		Method:            decodeMethod(response.GetMethod(), &r),
		Target:            target,
		Warnings:          response.GetWarnings(),
		ExplainedQuantity: response.GetExplainedQuantity(),
	}
	return out, r.err
}
