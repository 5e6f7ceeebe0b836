// SPDX-License-Identifier: Apache-2.0

package lstmexplain

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Error is the error that every failed call returns. Compare it with errors.Is and the Err values, or inspect it:
//
//	var failed *lstmexplain.Error
//	if errors.As(err, &failed) { log.Print(failed.Field) }
type Error struct {
	// Code is the gRPC status.
	Code codes.Code
	// Message is the message of the server or of this client.
	Message string
	// Field is the path of the invalid field of the request, for example inputs[0].shape, or empty.
	Field string
	// Node and Op name the unsupported node, if that is the reason for the failure.
	Node, Op string
	// RetryAfter is the time after which an overloaded server asks for a retry, or 0.
	RetryAfter time.Duration

	cause error
}

// The kinds of errors, for errors.Is.
var (
	ErrInvalidRequest   = errors.New("the request is invalid")
	ErrTooLarge         = errors.New("a message is larger than the client or the server allows")
	ErrModelNotFound    = errors.New("the model or version does not exist")
	ErrAlreadyExists    = errors.New("the imported version already exists")
	ErrNotExplainable   = errors.New("the method does not support the model")
	ErrOverloaded       = errors.New("the server is overloaded")
	ErrUnauthenticated  = errors.New("the caller is not authenticated")
	ErrPermissionDenied = errors.New("the caller lacks the permission for this call")
	ErrUnavailable      = errors.New("the server could not be reached")
	ErrUnimplemented    = errors.New("the server does not know the call, or the call is turned off")
	ErrServerFault      = errors.New("internal error of the server")
	ErrMalformed        = errors.New("the answer cannot be read")
)

var kinds = map[codes.Code]error{
	codes.InvalidArgument:    ErrInvalidRequest,
	codes.OutOfRange:         ErrInvalidRequest,
	codes.NotFound:           ErrModelNotFound,
	codes.AlreadyExists:      ErrAlreadyExists,
	codes.FailedPrecondition: ErrNotExplainable,
	codes.ResourceExhausted:  ErrOverloaded,
	codes.Unauthenticated:    ErrUnauthenticated,
	codes.PermissionDenied:   ErrPermissionDenied,
	codes.DeadlineExceeded:   context.DeadlineExceeded,
	codes.Canceled:           context.Canceled,
	codes.Unavailable:        ErrUnavailable,
	codes.Unimplemented:      ErrUnimplemented,
	codes.Internal:           ErrServerFault,
	codes.Unknown:            ErrServerFault,
	codes.Aborted:            ErrServerFault,
	codes.DataLoss:           ErrMalformed,
}

func (e *Error) Error() string {
	if e.Field != "" && !strings.Contains(e.Message, e.Field) {
		return fmt.Sprintf("%s (%s)", e.Message, e.Field)
	}
	return e.Message
}

// Is reports whether the error is of the kind of one of the Err values, context.DeadlineExceeded or context.Canceled.
func (e *Error) Is(target error) bool {
	// gRPC uses the same code for an overload and for a message above the limit; only the message text differs.
	if e.Code == codes.ResourceExhausted && strings.Contains(e.Message, "larger than max") {
		return target == ErrTooLarge || target == ErrInvalidRequest
	}
	return kinds[e.Code] == target
}

// Unwrap returns gRPC's own error, if the failure came from there.
func (e *Error) Unwrap() error { return e.cause }

func invalid(field, format string, arguments ...any) *Error {
	message := fmt.Sprintf("%s: %s", field, fmt.Sprintf(format, arguments...))
	return &Error{Code: codes.InvalidArgument, Message: message, Field: field}
}

func malformed(format string, arguments ...any) *Error {
	return &Error{Code: codes.DataLoss, Message: fmt.Sprintf(format, arguments...)}
}

// fromCall converts an error of gRPC to an Error; nil stays nil.
func fromCall(err error) error {
	if err == nil {
		return nil
	}
	var own *Error
	if errors.As(err, &own) {
		return own
	}
	said := status.Convert(err)
	out := &Error{Code: said.Code(), Message: said.Message(), cause: err}
	for _, detail := range said.Details() {
		switch detail := detail.(type) {
		case *errdetails.BadRequest:
			if violations := detail.GetFieldViolations(); len(violations) > 0 {
				out.Field = violations[0].GetField()
			}
		case *errdetails.RetryInfo:
			out.RetryAfter = detail.GetRetryDelay().AsDuration()
		case *errdetails.ErrorInfo:
			out.Node, out.Op = detail.GetMetadata()["node"], detail.GetMetadata()["op"]
		}
	}
	return out
}
