package main

import (
	"encoding/json"
)

// The types of a case, as its JSON file holds them.

type tensor struct {
	Dtype     string
	Shape     []int
	Data      json.RawMessage
	Tolerance *float64
}

type request struct {
	Model, Version string
	Inputs         map[string]tensor
	Method         *method
	Target         *target
	Capture        []string
	Deadline       int `json:"deadline_ms"`
	Cancel         int `json:"cancel_after_ms"`
}

type method struct {
	Name       string
	Parameters map[string]json.RawMessage
}

type target struct {
	Output        string
	Indices       []int64
	Contrast      []int64 `json:"contrast_indices"`
	Weights       *tensor
	BatchAxis     *int32 `json:"batch_axis"`
	NoBatchAxis   bool   `json:"no_batch_axis"`
	PreActivation *bool  `json:"pre_activation"`
}

type expectation struct {
	Model, Version                       string
	Relevance, Outputs, Captured, Tokens map[string]tensor
	Explained                            *tensor
	Ledger                               map[string]json.RawMessage
	Models                               []map[string]string
	Detail                               map[string]json.RawMessage
	// Warnings are the beginnings of all warnings that the response must have; nil accepts any warnings.
	Warnings []string
	Quantity *string `json:"explained_quantity"`
}

type failure struct{ Code, Field, Word string }

type outcome struct {
	Expect expectation
	Error  *failure `json:"expect_error"`
}

type testCase struct {
	outcome
	Name, Call string
	Over       []string
	Token      *string
	Request    request
	Requests   []struct {
		ID      string
		Request request
	}
	Answers        map[string]outcome
	Model, Version string
	Import         struct{ Name, Version, Model, Config string }
}

type hashes map[string]string
