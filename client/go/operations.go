// SPDX-License-Identifier: Apache-2.0

package lstmexplain

import (
	"context"
	"crypto/rand"
	"strings"
	"time"

	"google.golang.org/grpc/codes"

	pb "github.com/lstm-explain/lstm-explain/client/go/explainv1"
)

const longestWait = 20 * time.Second // of one call; a proxy may end a longer one

// Operation is an explanation or a batch job that the server keeps until it expires, whether or not anybody waits for
// it, as the server last described it.
type Operation struct {
	// Name identifies the operation in all calls.
	Name string
	// Kind is "explain" or "batch".
	Kind string
	// State is "pending", "running", "succeeded", "failed" or "cancelled".
	State string
	// Model and Version name the model; the version was chosen at the start.
	Model, Version string
	// Done and Total are runs of the model, or rows of a batch job; 0 where nothing is known.
	Done, Total int64
	// Attempts is how often it has begun; more than once where a server or one of its processes ended meanwhile.
	Attempts int
	// Ended and Expires are zero until it has ended. The server removes it when it expires.
	Created, Ended, Expires time.Time
	// Result is the result of an explanation with one target, Results are those with several. Lists leave both out.
	Result  *Result
	Results []*Result
	// Batch is what a batch job has done.
	Batch *BatchSummary
	// Err says why there is no result.
	Err error
}

// BatchSummary counts rows that are explained, that are not, and that have a warning. Worst is the largest residual, as
// a share of the explained value.
type BatchSummary struct {
	Rows, Failed, Warned int64
	Worst                float64
}

// HasEnded says whether the operation has ended, with or without a result.
func (o *Operation) HasEnded() bool { return !o.Ended.IsZero() }

// Start starts an explanation that the server keeps as an operation; it may cost more than a call. The server must keep
// operations.
func (c *Client) Start(ctx context.Context, request Request) (*Operation, error) {
	return c.StartOnce(ctx, request, rand.Text())
}

// StartOnce does the same with an id of the caller's: a call with the id of an earlier one returns the operation that it
// started, and is not charged again.
func (c *Client) StartOnce(ctx context.Context, request Request, id string) (*Operation, error) {
	message, err := request.encode()
	if err != nil {
		return nil, err
	}
	response, err := c.operations.StartExplain(ctx, &pb.StartExplainRequest{Request: message, RequestId: id})
	if err != nil {
		return nil, fromCall(err)
	}
	return decodeOperation(response.GetOperation())
}

// Operation describes an operation that was started before, here or elsewhere with the same token.
func (c *Client) Operation(ctx context.Context, name string) (*Operation, error) {
	response, err := c.operations.GetOperation(ctx, &pb.GetOperationRequest{Name: name})
	if err != nil {
		return nil, fromCall(err)
	}
	return decodeOperation(response.GetOperation())
}

// Operations lists the operations of this caller, the newest first, without their results.
func (c *Client) Operations(ctx context.Context) ([]*Operation, error) {
	response, err := c.operations.ListOperations(ctx, &pb.ListOperationsRequest{})
	if err != nil {
		return nil, fromCall(err)
	}
	out := make([]*Operation, 0, len(response.GetOperations()))
	for _, message := range response.GetOperations() {
		operation, err := decodeOperation(message)
		if err != nil {
			return nil, err
		}
		out = append(out, operation)
	}
	return out, nil
}

// WaitForOperation waits for the end of an operation, until the context ends.
func (c *Client) WaitForOperation(ctx context.Context, name string) (*Operation, error) {
	for {
		request := &pb.WaitOperationRequest{Name: name, TimeoutMs: int32(longestWait.Milliseconds())}
		response, err := c.operations.WaitOperation(ctx, request)
		if err != nil {
			return nil, fromCall(err)
		}
		if operation, err := decodeOperation(response.GetOperation()); err != nil || operation.HasEnded() {
			return operation, err
		}
	}
}

// CancelOperation asks the server to end an operation; this does nothing if it has ended.
func (c *Client) CancelOperation(ctx context.Context, name string) error {
	_, err := c.operations.CancelOperation(ctx, &pb.CancelOperationRequest{Name: name})
	return fromCall(err)
}

// DeleteOperation removes an operation that has ended, with its result.
func (c *Client) DeleteOperation(ctx context.Context, name string) error {
	_, err := c.operations.DeleteOperation(ctx, &pb.DeleteOperationRequest{Name: name})
	return fromCall(err)
}

func decodeOperation(message *pb.Operation) (*Operation, error) {
	if message == nil {
		return nil, malformed("the server answered without an operation")
	}
	out := &Operation{
		Name:     message.GetName(),
		Kind:     strings.ToLower(strings.TrimPrefix(message.GetKind().String(), "OPERATION_KIND_")),
		State:    strings.ToLower(strings.TrimPrefix(message.GetState().String(), "OPERATION_STATE_")),
		Model:    message.GetModel(),
		Version:  message.GetVersion(),
		Done:     message.GetProgress().GetDone(),
		Total:    message.GetProgress().GetTotal(),
		Attempts: int(message.GetAttempts()),
		Created:  time.UnixMilli(message.GetCreatedMs()),
	}
	if message.GetEndedMs() > 0 {
		out.Ended, out.Expires = time.UnixMilli(message.GetEndedMs()), time.UnixMilli(message.GetExpiresMs())
	}
	var err error
	switch result := message.GetResult().(type) {
	case *pb.Operation_Error:
		code := codes.Code(result.Error.GetCode()) //nolint:gosec // a google.rpc.Code
		out.Err = &Error{Code: code, Message: result.Error.GetMessage(), Field: result.Error.GetField()}
	case *pb.Operation_Response:
		if len(result.Response.GetTargets()) > 0 {
			out.Results, err = decodeResults(result.Response)
		} else {
			out.Result, err = decodeResult(result.Response)
		}
	case *pb.Operation_Batch:
		batch := result.Batch
		out.Batch = &BatchSummary{batch.GetRows(), batch.GetFailed(), batch.GetWarned(), batch.GetWorst()}
	}
	return out, err
}
