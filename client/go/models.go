// SPDX-License-Identifier: Apache-2.0

package lstmexplain

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"google.golang.org/grpc"

	pb "github.com/lstm-explain/lstm-explain/client/go/explainv1"
)

const chunkBytes = 1 << 20

// ModelSummary is one version of a model.
type ModelSummary struct {
	Name, Version string
	// State is loading, ready, failed or unloaded. Reason says why it failed.
	State, Reason, Description string
	// Digest is over the files of the version: the same wherever the same files are served.
	Digest string
	// IsDefault says whether this version answers requests that name none. CanaryShare is the share of these requests
	// that it gets as the canary, from 0 to 1.
	IsDefault   bool
	CanaryShare float64
}

// ModelRoute says which version of a model answers requests that name none.
type ModelRoute struct {
	// DefaultVersion is empty for the newest version that is ready. CanaryVersion is empty for none.
	DefaultVersion, CanaryVersion string
	// CanaryShare is the share of the requests that the canary gets, from 0 to 1.
	CanaryShare float64
	// PreviousVersion is the default version before the last change of it. RouteModel ignores it.
	PreviousVersion string
}

// TensorSpec declares an input or an output: its type (by NumPy's name, or string), and the size or symbolic name of
// each axis.
type TensorSpec struct {
	Type  string
	Shape []string
}

// NodeReport describes one node of the graph: the rule that LRP uses, or the reason why there is none.
type NodeReport struct {
	Name, OpType string
	Supported    bool
	Rule         string
}

// ModelDetail is a model with its inputs, outputs and defaults.
type ModelDetail struct {
	ModelSummary
	Inputs, Outputs map[string]TensorSpec
	// LRPSupported says whether LRP supports the model. Perturbation methods support all models.
	LRPSupported  bool
	Nodes         []NodeReport
	DefaultMethod Method
	DefaultTarget *Target
	// ClassNames and FeatureNames are the names of the entries on the last axis, by output and by input.
	ClassNames, FeatureNames map[string][]string
	// TextInputs are the inputs that accept text.
	TextInputs []string
	// BatchAxes and TimeAxes map the name of an input to its batch axis and time axis. They omit inputs without that axis.
	BatchAxes, TimeAxes map[string]int
	// GuessedAxes are the inputs whose batch and time axes are guesses; set them in model.yaml.
	GuessedAxes []string
	// Units map the name of an input or output to its unit: one unit for all entries, or one for each entry on the last
	// axis.
	Units map[string][]string
	// BackgroundSamples map the name of an input to the number of samples that the background set of the model has of it.
	// It is empty if the model has no background set.
	BackgroundSamples map[string]int
	// Examples map the name of an input to examples of it, as text: a text for an input that accepts text, for others a
	// table as CSV, with a line per time step.
	Examples map[string][]string
	// FeatureGroups are the groups of features that Grouping.ModelFeatures stands for.
	FeatureGroups []FeatureGroup
}

// Models lists all models and versions, including those that failed to load.
func (c *Client) Models(ctx context.Context) ([]ModelSummary, error) {
	response, err := c.models.ListModels(ctx, &pb.ListModelsRequest{})
	if err != nil {
		return nil, fromCall(err)
	}
	out := make([]ModelSummary, len(response.GetModels()))
	for i, message := range response.GetModels() {
		out[i] = decodeSummary(message)
	}
	return out, nil
}

// Model describes one model. An empty version selects the newest version that is ready.
func (c *Client) Model(ctx context.Context, name, version string) (*ModelDetail, error) {
	response, err := c.models.GetModel(ctx, &pb.GetModelRequest{Name: name, Version: version})
	if err != nil {
		return nil, fromCall(err)
	}
	return decodeDetail(response.GetModel())
}

// Import describes a model to add to the server.
type Import struct {
	Name string
	// Version is the version to add; if empty, the newest version plus one.
	Version string
	// Path is the file of the model.
	Path string
	// Config is the content of model.yaml. Optional.
	Config string
	// Files are additional files of the model: external weights, or a tokenizer.
	Files []string
}

// ImportModel adds a version of a model. The server must allow imports.
func (c *Client) ImportModel(ctx context.Context, model Import) (*ModelDetail, error) {
	ctx, cancel := context.WithCancel(ctx) // an abandoned import must not remain half sent
	defer cancel()
	sum, size, err := digest(model.Path)
	if err != nil {
		return nil, err
	}
	stream, err := c.models.ImportModel(ctx)
	if err != nil {
		return nil, fromCall(err)
	}
	start := &pb.ImportModelStart{
		Name: model.Name, Version: model.Version, Sha256: sum, Size: size, ConfigYaml: model.Config,
	}
	err = send(stream, &pb.ImportModelRequest{Part: &pb.ImportModelRequest_Start{Start: start}}, model.Path)
	for i := 0; err == nil && i < len(model.Files); i++ {
		sum, size, err = digest(model.Files[i])
		if err == nil {
			file := &pb.ImportModelFile{Name: filepath.Base(model.Files[i]), Sha256: sum, Size: size}
			err = send(stream, &pb.ImportModelRequest{Part: &pb.ImportModelRequest_File{File: file}}, model.Files[i])
		}
	}
	if err != nil && !errors.Is(err, io.EOF) { // after io.EOF, the server's answer says why it stopped reading
		return nil, err
	}
	response, err := stream.CloseAndRecv()
	if err != nil {
		return nil, fromCall(err)
	}
	return decodeDetail(response.GetModel())
}

// DeleteModel removes a version, or all versions if version is empty. The server must allow it.
func (c *Client) DeleteModel(ctx context.Context, name, version string) error {
	_, err := c.models.DeleteModel(ctx, &pb.DeleteModelRequest{Name: name, Version: version})
	return fromCall(err)
}

// RouteModel chooses which version of a model answers requests that name none, and a canary that gets a share of them.
// The server must allow it.
func (c *Client) RouteModel(ctx context.Context, name string, route ModelRoute) (ModelRoute, error) {
	response, err := c.models.RouteModel(ctx, &pb.RouteModelRequest{
		Name: name, DefaultVersion: route.DefaultVersion,
		CanaryVersion: route.CanaryVersion, CanaryShare: route.CanaryShare,
	})
	if err != nil {
		return ModelRoute{}, fromCall(err)
	}
	return decodeRoute(response.GetRoute()), nil
}

// RollBackModel ends the canary of a model or, if it has none, makes its previous default version the default again.
// The server must allow it.
func (c *Client) RollBackModel(ctx context.Context, name string) (ModelRoute, error) {
	response, err := c.models.RollBackModel(ctx, &pb.RollBackModelRequest{Name: name})
	if err != nil {
		return ModelRoute{}, fromCall(err)
	}
	return decodeRoute(response.GetRoute()), nil
}

func decodeRoute(message *pb.ModelRoute) ModelRoute {
	return ModelRoute{
		message.GetDefaultVersion(), message.GetCanaryVersion(), message.GetCanaryShare(), message.GetPreviousVersion(),
	}
}

func digest(path string) ([]byte, int64, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, 0, err
	}
	defer file.Close()
	hash := sha256.New()
	size, err := io.Copy(hash, file)
	return hash.Sum(nil), size, err
}

func send(stream grpc.ClientStreamingClient[pb.ImportModelRequest, pb.ImportModelResponse], head *pb.ImportModelRequest, path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	if err := stream.Send(head); err != nil {
		return err
	}
	for {
		chunk := make([]byte, chunkBytes)
		count, err := io.ReadFull(file, chunk)
		if count > 0 {
			part := &pb.ImportModelRequest{Part: &pb.ImportModelRequest_Chunk{Chunk: chunk[:count]}}
			if err := stream.Send(part); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func decodeSummary(message *pb.ModelSummary) ModelSummary {
	state := strings.ToLower(strings.TrimPrefix(message.GetState().String(), "MODEL_STATE_"))
	return ModelSummary{
		message.GetName(), message.GetVersion(), state, message.GetReason(), message.GetDescription(),
		message.GetDigest(), message.GetIsDefault(), message.GetCanaryShare(),
	}
}

func decodeDetail(message *pb.ModelDetail) (*ModelDetail, error) {
	out := &ModelDetail{
		ModelSummary: decodeSummary(message.GetSummary()),
		Inputs:       decodeSpecs(message.GetInputs()),
		Outputs:      decodeSpecs(message.GetOutputs()),
		LRPSupported: message.GetLrpSupported(),
		ClassNames:   decodeNames(message.GetClassNames()),
		FeatureNames: decodeNames(message.GetFeatureNames()),
		TextInputs:   message.GetTextInputs(),
		BatchAxes:    decodeAxes(message.GetBatchAxes()),
		TimeAxes:     decodeAxes(message.GetTimeAxes()),
		GuessedAxes:  message.GetGuessedAxes(),
		Units:        decodeNames(message.GetUnits()),

		BackgroundSamples: decodeAxes(message.GetBackgroundSamples()),
		Examples:          decodeNames(message.GetExamples()),
	}
	for _, group := range message.GetFeatureGroups() {
		out.FeatureGroups = append(out.FeatureGroups, FeatureGroup{group.GetName(), group.GetInput(), group.GetFeatures()})
	}
	for _, node := range message.GetNodes() {
		report := NodeReport{node.GetName(), node.GetOpType(), node.GetSupported(), node.GetRule()}
		out.Nodes = append(out.Nodes, report)
	}
	var r reader
	out.DefaultMethod = decodeMethod(message.GetDefaultMethod(), &r)
	var err error
	out.DefaultTarget, err = decodeTarget(message.GetDefaultTarget())
	r.note(err)
	return out, r.err
}

func decodeSpecs(messages []*pb.TensorSpec) map[string]TensorSpec {
	out := make(map[string]TensorSpec, len(messages))
	for _, message := range messages {
		spec := TensorSpec{Type: strings.ToLower(strings.TrimPrefix(message.GetDtype().String(), "DATA_TYPE_"))}
		for _, axis := range message.GetShape() {
			extent := axis.GetSymbol()
			if _, fixed := axis.GetDimension().(*pb.Dimension_Size); fixed {
				extent = strconv.FormatInt(axis.GetSize(), 10)
			}
			spec.Shape = append(spec.Shape, extent)
		}
		out[message.GetName()] = spec
	}
	return out
}

func decodeNames(messages map[string]*pb.Names) map[string][]string {
	out := make(map[string][]string, len(messages))
	for name, message := range messages {
		out[name] = message.GetValues()
	}
	return out
}

func decodeAxes(axes map[string]int32) map[string]int {
	out := make(map[string]int, len(axes))
	for name, axis := range axes {
		out[name] = int(axis)
	}
	return out
}
