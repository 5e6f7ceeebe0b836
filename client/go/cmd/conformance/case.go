// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"

	lx "github.com/lstm-explain/lstm-explain/client/go"
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
	Targets        []targetSet
	Capture        []string
	Receipt        bool
	Condition      string
	Groups         *groups
	Through        map[string][]int64
	Deadline       int `json:"deadline_ms"`
	Cancel         int `json:"cancel_after_ms"`
}

type groups struct {
	Window       int32
	Words        bool
	ChangePoints *lx.ChangePoints `json:"change_points"`
	Features     []lx.FeatureGroup
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
	Measure       *struct {
		Kind, Input string
		Tensor      *tensor
		Ahead       int32
		Blank       *int32
	}
}

type targetSet struct {
	Target *target
	Every  *struct {
		Axis    *int32
		Entries []int64
		Target  *target
	}
}

type expectation struct {
	Model, Version                       string
	Relevance, Outputs, Captured, Tokens map[string]tensor
	Explained                            *tensor
	Groups                               *struct {
		Relevance, Names, Steps map[string]tensor
		StandardError           map[string]tensor `json:"standard_error"`
	}
	Ledger     map[string]json.RawMessage
	Models     []map[string]string
	Detail     map[string]json.RawMessage
	Route      route
	RolledBack route `json:"rolled_back"`
	// Warnings are the beginnings of all warnings that the response must have; nil accepts any warnings.
	Warnings []string
	// Receipt is a part of the receipt; empty: there must be none; nil: anything.
	Receipt *string
	// NotExplained are the reasons that the response must have; nil accepts any.
	NotExplained []string `json:"not_explained"`
	Quantity     *string  `json:"explained_quantity"`
	// Results are those of several targets. Singles are targets that, each asked alone, have the same relevance.
	Results []expectation
	Singles []target
}

type failure struct{ Code, Field, Word string }

type outcome struct {
	Expect expectation
	Error  *failure `json:"expect_error"`
}

type route struct {
	DefaultVersion  string  `json:"default_version"`
	CanaryVersion   string  `json:"canary_version"`
	CanaryShare     float64 `json:"canary_share"`
	PreviousVersion string  `json:"previous_version"`
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
	Answers map[string]outcome
	// Progress lists the requests of a stream that report their progress; nil: it is not asked for.
	Progress       []string
	Model, Version string
	Import         struct{ Name, Version, Model, Config string }
	Route          route
}

type hashes map[string]string
