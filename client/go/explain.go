// SPDX-License-Identifier: Apache-2.0

package lstmexplain

import (
	"context"
	"errors"
	"io"
	"iter"
	"strconv"

	"google.golang.org/grpc/codes"

	pb "github.com/lstm-explain/lstm-explain/client/go/explainv1"
)

// Inputs are a batch: one tensor for each input of the model, including the batch axis. An input with a tokenizer also
// accepts Text.
type Inputs map[string]Tensor

// Request asks for one explanation.
type Request struct {
	Model string
	// Version selects the version; if empty, the newest version that is ready.
	Version string
	Inputs  Inputs
	// Method and Target are the defaults of the model if they are nil.
	Method Method
	Target *Target
	// Targets are several targets for ExplainMany, and for requests of a stream.
	Targets []TargetSet
	// Capture names inner values whose relevance the result also contains.
	Capture []string
	// Receipt asks for a receipt of the answer. The server needs a key to sign it.
	Receipt bool
	// Condition is what the prediction of a sample must meet to be explained, such as "probability > 0.8" or "class is
	// positive and explained > 3". Other samples are only predicted; Result.NotExplained says why.
	Condition string
	// Groups asks for the relevance of groups of entries, which are the players of Occlusion and ShapleySampling.
	Groups *Grouping
	// Through lists the units that relevance passes through, by the name of an inner value as in Capture. That of other
	// units is absorbed.
	Through map[string][]int64
	// ID identifies the answer in a stream. By default, it is the position of the request in the stream, from "0".
	ID string
}

// Result is the explanation of one batch.
type Result struct {
	// Model and Version name the model that answered.
	Model, Version string
	// Relevance maps the name of each input to its relevance, in the shape of the input. For token ids and text, it has
	// one number per token.
	Relevance map[string]Tensor
	// Outputs are the prediction, by output name.
	Outputs map[string]Tensor
	// Explained holds the explained value of each sample.
	Explained []float64
	// Captured is the relevance of the inner values that the request captures.
	Captured map[string]Tensor
	// Tokens are the tokens of inputs sent as text, in the shape of their relevance. Padding is the empty string.
	Tokens map[string]Tensor
	// StandardError is the standard error of the relevance, for ShapleySampling.
	StandardError map[string]Tensor
	// Ledger accounts for all of Explained.
	Ledger Ledger
	// Method and Target are those that the server used.
	Method Method
	Target *Target
	// Warnings are reasons not to rely on the answer, one sentence each. If there are none, the answer can be acted on.
	Warnings []string
	// ExplainedQuantity says how Explained relates to the output of the target: "output" (the output itself), "logit" (the
	// value before its Softmax or Sigmoid), "score" (before LogSoftmax, Exp or Softplus) or "probability" (the output
	// converted to a probability). It is empty if the server is older than this field.
	ExplainedQuantity string
	// Receipt is a signed record of the answer, if the request asked for one; `lstm-explain verify` checks it.
	Receipt string
	// NotExplained has one text per sample for a request with a condition: why it is not explained, or empty. The
	// relevance and ledger of such a sample are NaN.
	NotExplained []string
	// Groups are those that the request asked for, with their relevance.
	Groups GroupRelevance
}

// Ledger accounts for the explained value of every sample: explained = Inputs + InitialStates + Absorbed + Residual.
type Ledger struct {
	Inputs, InitialStates, Absorbed, Residual []float64
	// ByNode splits Absorbed by node.
	ByNode map[string][]float64
}

// Explain predicts one batch and explains the prediction. The server also observes the deadline of the context.
func (c *Client) Explain(ctx context.Context, request Request) (*Result, error) {
	if len(request.Targets) > 0 {
		return nil, invalid("targets", "Explain takes one target; use ExplainMany")
	}
	response, err := c.explain(ctx, request)
	if err != nil {
		return nil, err
	}
	return decodeResult(response)
}

func (c *Client) explain(ctx context.Context, request Request) (*pb.ExplainResponse, error) {
	message, err := request.encode()
	if err != nil {
		return nil, err
	}
	response, err := c.explanations.Explain(ctx, message)
	if err != nil {
		return nil, fromCall(err)
	}
	return response, nil
}

// Answer is the answer to one request of a stream: a result, the results of a request with Targets, or an error.
type Answer struct {
	ID      string
	Result  *Result
	Results []*Result
	Err     error
}

// StreamOption is an option of ExplainStream.
type StreamOption func(*streamOptions)

type streamOptions struct {
	progress func(id string, done, total int64)
}

// WithProgress has the progress of long requests reported before their answers, at most ten times a second each: how
// often the model has run and how often it is expected to run in all. Only methods that run the model many times report.
// The loop over the answers calls the function, in its own goroutine.
func WithProgress(report func(id string, done, total int64)) StreamOption {
	return func(options *streamOptions) { options.progress = report }
}

// ExplainStream sends many requests over one stream. Answers arrive as soon as they are ready, in any order. A request
// that fails gets its own Err, and the stream continues. The second value is not nil only if the stream itself breaks;
// that pair is the last one. Leaving the loop cancels all unanswered requests.
//
//	for answer, err := range client.ExplainStream(ctx, slices.Values(requests)) { … }
func (c *Client) ExplainStream(ctx context.Context, requests iter.Seq[Request], options ...StreamOption) iter.Seq2[Answer, error] {
	var chosen streamOptions
	for _, option := range options {
		option(&chosen)
	}
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
					err = stream.Send(&pb.ExplainStreamRequest{Id: request.ID, Request: message, Progress: chosen.progress != nil})
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
				if progress := response.GetProgress(); progress != nil {
					if chosen.progress != nil {
						chosen.progress(response.GetId(), progress.GetDone(), progress.GetTotal())
					}
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
	if len(response.GetResponse().GetTargets()) > 0 {
		results, err := decodeResults(response.GetResponse())
		return Answer{ID: response.GetId(), Results: results, Err: err}
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
	target, err := r.Target.encode("target")
	if err != nil {
		return nil, err
	}
	out := &pb.ExplainRequest{Model: r.Model, Version: r.Version, Inputs: inputs, Target: target, Capture: r.Capture,
		Receipt: r.Receipt, Condition: r.Condition, Groups: r.Groups.encode(),
		Through: encodeThrough(r.Through)}
	if out.Targets, err = encodeTargets(r.Targets); err != nil {
		return nil, err
	}
	out.Method, err = encodeRequested(r.Method)
	return out, err
}

// reader decodes one part after another and records the first error.
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
		Receipt:           response.GetReceipt(),
		NotExplained:      response.GetNotExplained(),
		Groups:            r.groups(response.GetGroups()),
	}
	return out, r.err
}
