package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	lx "lstmexplain"
)

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
	// Warnings are how those begin that have to come, and no others; nil: nothing is said.
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

// suite is one pass over the cases on one connection.
type suite struct {
	connect             func(token string) (*lx.Client, error)
	token, over, models string
	good                bool
}

func (s *suite) run(cases, golden string) (bool, error) {
	paths, err := filepath.Glob(filepath.Join(cases, "*.json"))
	if err != nil {
		return false, err
	}
	for _, path := range paths {
		content, err := os.ReadFile(path)
		if err != nil {
			return false, err
		}
		var c testCase
		if err := json.Unmarshal(content, &c); err != nil {
			return false, fmt.Errorf("%s: %w", path, err)
		}
		if len(c.Over) > 0 && !slices.Contains(c.Over, s.over) {
			continue
		}
		found, err := s.one(c)
		s.say(c.Name, err, found)
	}
	return s.good, s.golden(golden)
}

func (s *suite) say(name string, wrong error, found hashes) {
	detail := ""
	if wrong != nil {
		detail, found, s.good = wrong.Error(), nil, false
	}
	if found == nil {
		found = hashes{}
	}
	line, err := json.Marshal(map[string]any{"case": name, "ok": wrong == nil, "detail": detail, "relevance": found})
	if err != nil {
		panic(err)
	}
	fmt.Println(string(line))
}

func (s *suite) one(c testCase) (hashes, error) {
	token := s.token
	if c.Token != nil {
		token = *c.Token
	}
	client, err := s.connect(token)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	calls := map[string]func(*lx.Client, testCase) (hashes, error){
		"explain": s.explain, "explain_stream": s.stream, "models": s.list, "model": s.describe, "import_model": s.imported,
	}
	found, err := calls[c.Call](client, c)
	if c.Error != nil {
		return nil, checkError(err, *c.Error)
	}
	return found, err
}

func (s *suite) explain(client *lx.Client, c testCase) (hashes, error) {
	asked, err := c.Request.build("")
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if c.Request.Deadline > 0 {
		ctx, cancel = context.WithTimeout(ctx, time.Duration(c.Request.Deadline)*time.Millisecond)
		defer cancel()
	}
	if c.Request.Cancel > 0 {
		defer time.AfterFunc(time.Duration(c.Request.Cancel)*time.Millisecond, cancel).Stop()
	}
	came, err := client.Explain(ctx, asked)
	if err != nil {
		return nil, err
	}
	return digests(came, ""), c.Expect.check(came)
}

func (s *suite) stream(client *lx.Client, c testCase) (hashes, error) {
	var asked []lx.Request
	for _, item := range c.Requests {
		built, err := item.Request.build(item.ID)
		if err != nil {
			return nil, err
		}
		asked = append(asked, built)
	}
	found, seen := hashes{}, map[string]bool{}
	for answer, err := range client.ExplainStream(context.Background(), slices.Values(asked)) {
		if err != nil {
			return nil, err
		}
		wanted, known := c.Answers[answer.ID]
		if !known || seen[answer.ID] {
			return nil, fmt.Errorf("an answer to %q came", answer.ID)
		}
		seen[answer.ID] = true
		if wanted.Error != nil {
			err = checkError(answer.Err, *wanted.Error)
		} else if err = answer.Err; err == nil {
			maps.Copy(found, digests(answer.Result, answer.ID+"/"))
			err = wanted.Expect.check(answer.Result)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", answer.ID, err)
		}
	}
	if len(seen) != len(c.Answers) {
		return nil, fmt.Errorf("%d answers came, wanted %d", len(seen), len(c.Answers))
	}
	return found, nil
}

func (s *suite) list(client *lx.Client, c testCase) (hashes, error) {
	came, err := client.Models(context.Background())
	if err != nil {
		return nil, err
	}
	for _, wanted := range c.Expect.Models {
		if !slices.ContainsFunc(came, func(m lx.ModelSummary) bool {
			return m.Name == wanted["name"] && m.Version == wanted["version"] && m.State == wanted["state"]
		}) {
			return nil, fmt.Errorf("%v is not among %v", wanted, came)
		}
	}
	return nil, nil
}

func (s *suite) describe(client *lx.Client, c testCase) (hashes, error) {
	came, err := client.Model(context.Background(), c.Model, c.Version)
	if err != nil {
		return nil, err
	}
	return nil, checkDetail(came, c.Expect.Detail)
}

func (s *suite) imported(client *lx.Client, c testCase) (hashes, error) {
	ctx, brought := context.Background(), c.Import
	came, err := client.ImportModel(ctx, lx.Import{
		Name: brought.Name, Version: brought.Version, Config: brought.Config,
		Path: filepath.Join(s.models, brought.Model),
	})
	if err != nil {
		return nil, err
	}
	wrong := checkDetail(came, c.Expect.Detail)
	found, failed := s.explain(client, c)
	if err := client.DeleteModel(ctx, brought.Name, ""); err != nil {
		return nil, err
	}
	if _, err := s.explain(client, c); !errors.Is(err, lx.ErrModelNotFound) {
		return nil, fmt.Errorf("the model answers after it was deleted: %v", err)
	}
	return found, errors.Join(wrong, failed)
}

func (s *suite) golden(folder string) error {
	content, err := os.ReadFile(filepath.Join(folder, "index.json"))
	if err != nil {
		return err
	}
	var index []struct{ Name, Message string }
	if err := json.Unmarshal(content, &index); err != nil {
		return err
	}
	for _, entry := range index {
		kind, err := protoregistry.GlobalTypes.FindMessageByName(protoreflect.FullName(entry.Message))
		if err != nil {
			return err
		}
		encoded, err := os.ReadFile(filepath.Join(folder, entry.Name+".bin"))
		if err != nil {
			return err
		}
		message := kind.New().Interface()
		err = proto.Unmarshal(encoded, message)
		var again []byte
		if err == nil {
			again, err = proto.MarshalOptions{Deterministic: true}.Marshal(message)
		}
		if err == nil && !bytes.Equal(again, encoded) {
			err = fmt.Errorf("%x became %x", encoded, again)
		}
		if err == nil && len(message.ProtoReflect().GetUnknown()) > 0 {
			err = errors.New("the stubs do not know every field")
		}
		s.say("golden/"+entry.Name, err, nil)
	}
	return nil
}

// --- what a case asks ---

func elements[T lx.Element](t tensor) (lx.Tensor, error) {
	data := []T{}
	err := json.Unmarshal(t.Data, &data)
	return lx.Tensor{Shape: t.Shape, Data: data}, err
}

func (t tensor) build() (lx.Tensor, error) {
	switch t.Dtype {
	case "float32":
		return elements[float32](t)
	case "float64":
		return elements[float64](t)
	case "float16":
		var data []float64
		err := json.Unmarshal(t.Data, &data)
		return lx.Tensor{Shape: t.Shape, Data: make([]lx.Float16, len(data))}, err // of no case do the values matter
	case "int32":
		return elements[int32](t)
	case "int64":
		return elements[int64](t)
	case "bool":
		return elements[bool](t)
	case "string":
		return elements[string](t)
	}
	return lx.Tensor{}, fmt.Errorf("the dtype %s", t.Dtype)
}

func buildAll(tensors map[string]tensor) (map[string]lx.Tensor, error) {
	out := map[string]lx.Tensor{}
	for name, said := range tensors {
		built, err := said.build()
		if err != nil {
			return nil, err
		}
		out[name] = built
	}
	return out, nil
}

func (r request) build(id string) (lx.Request, error) {
	out := lx.Request{Model: r.Model, Version: r.Version, Capture: r.Capture, ID: id}
	var err error
	if out.Inputs, err = buildAll(r.Inputs); err != nil {
		return out, err
	}
	if r.Method != nil {
		if out.Method, err = r.Method.build(); err != nil {
			return out, err
		}
	}
	if said := r.Target; said != nil {
		out.Target = &lx.Target{
			Output: said.Output, Indices: said.Indices, Contrast: said.Contrast,
			BatchAxis: said.BatchAxis, NoBatchAxis: said.NoBatchAxis, PreActivation: said.PreActivation,
		}
		if said.Weights != nil {
			weights, err := said.Weights.build()
			out.Target.Weights = &weights
			return out, err
		}
	}
	return out, nil
}

// field is the name of a parameter in Go: bias_factor is BiasFactor.
func field(parameter string) string {
	parts := strings.Split(parameter, "_")
	for i, part := range parts {
		parts[i] = strings.ToUpper(part[:1]) + part[1:]
	}
	return strings.Join(parts, "")
}

func (m method) build() (lx.Method, error) {
	kind, known := methods[m.Name]
	if !known {
		return nil, fmt.Errorf("the method %s", m.Name)
	}
	out := reflect.New(kind).Elem()
	for name, said := range m.Parameters {
		held := out.FieldByName(field(name))
		if !held.IsValid() {
			return nil, fmt.Errorf("%s has no parameter %s", m.Name, name)
		}
		if name == "baseline" {
			var tensors map[string]tensor
			if err := json.Unmarshal(said, &tensors); err != nil {
				return nil, err
			}
			built, err := buildAll(tensors)
			if err != nil {
				return nil, err
			}
			held.Set(reflect.ValueOf(built))
			continue
		}
		if err := json.Unmarshal(said, held.Addr().Interface()); err != nil {
			return nil, err
		}
	}
	return out.Interface().(lx.Method), nil
}

// --- what has to come ---

func (w expectation) check(came *lx.Result) error {
	if w.Model != "" && w.Model != came.Model || w.Version != "" && w.Version != came.Version {
		return fmt.Errorf("%s %s answered, wanted %s %s", came.Model, came.Version, w.Model, w.Version)
	}
	for _, pair := range []struct {
		where  string
		came   map[string]lx.Tensor
		wanted map[string]tensor
	}{
		{"relevance", came.Relevance, w.Relevance},
		{"outputs", came.Outputs, w.Outputs},
		{"captured", came.Captured, w.Captured},
		{"tokens", came.Tokens, w.Tokens},
	} {
		if pair.wanted == nil {
			continue
		}
		if len(pair.came) != len(pair.wanted) {
			return fmt.Errorf("%s: %d tensors came, wanted %d", pair.where, len(pair.came), len(pair.wanted))
		}
		for name, wanted := range pair.wanted {
			if err := wanted.check(pair.where+"."+name, pair.came[name]); err != nil {
				return err
			}
		}
	}
	if w.Warnings != nil && !slices.EqualFunc(came.Warnings, w.Warnings, strings.HasPrefix) {
		return fmt.Errorf("the warnings %q came, wanted %q", came.Warnings, w.Warnings)
	}
	if w.Quantity != nil && came.ExplainedQuantity != *w.Quantity {
		return fmt.Errorf("explained_quantity: %q came, wanted %q", came.ExplainedQuantity, *w.Quantity)
	}
	if w.Explained != nil {
		if err := w.Explained.check("explained", lx.Array(came.Explained)); err != nil {
			return err
		}
	}
	return w.checkLedger(came)
}

func (w expectation) checkLedger(came *lx.Result) error {
	ledger := came.Ledger
	parts := map[string][]float64{
		"inputs": ledger.Inputs, "initial_states": ledger.InitialStates, "absorbed": ledger.Absorbed,
	}
	for name, said := range w.Ledger {
		if name != "balance" {
			var wanted tensor
			if err := json.Unmarshal(said, &wanted); err != nil {
				return err
			}
			if err := wanted.check("ledger."+name, lx.Array(parts[name])); err != nil {
				return err
			}
			continue
		}
		var allowed float64
		if err := json.Unmarshal(said, &allowed); err != nil {
			return err
		}
		for i, whole := range came.Explained {
			sum := ledger.Inputs[i] + ledger.InitialStates[i] + ledger.Absorbed[i] + ledger.Residual[i]
			if !(math.Abs(whole-sum) <= allowed) {
				return fmt.Errorf("ledger: %g is missing, allowed %g", whole-sum, allowed)
			}
		}
	}
	return nil
}

func dtype(t lx.Tensor) string {
	switch t.Data.(type) {
	case []lx.Float16:
		return "float16"
	default:
		return strings.TrimPrefix(fmt.Sprintf("%T", t.Data), "[]")
	}
}

func (w tensor) check(where string, came lx.Tensor) error {
	if w.Dtype != "float" && dtype(came) != w.Dtype || !slices.Equal(came.Shape, w.Shape) {
		return fmt.Errorf("%s: %s%v came, wanted %s%v", where, dtype(came), came.Shape, w.Dtype, w.Shape)
	}
	if w.Tolerance == nil {
		wanted, err := w.build()
		if err == nil && !reflect.DeepEqual(came.Data, wanted.Data) {
			err = fmt.Errorf("%s: %v came, wanted %v", where, came.Data, wanted.Data)
		}
		return err
	}
	var wanted []float64
	if err := json.Unmarshal(w.Data, &wanted); err != nil {
		return err
	}
	for i, value := range came.Floats() {
		if !(math.Abs(value-wanted[i]) <= *w.Tolerance) {
			return fmt.Errorf("%s: %g came at %d, wanted %g within %g", where, value, i, wanted[i], *w.Tolerance)
		}
	}
	return nil
}

func checkError(came error, wanted failure) error {
	var failed *lx.Error
	if !errors.As(came, &failed) {
		return fmt.Errorf("%v came, wanted %s", came, wanted.Code)
	}
	var code codes.Code
	if err := code.UnmarshalJSON([]byte(`"` + wanted.Code + `"`)); err != nil {
		return err
	}
	if failed.Code != code {
		return fmt.Errorf("%s came (%s), wanted %s", failed.Code, failed.Message, wanted.Code)
	}
	if wanted.Field != "" && failed.Field != wanted.Field {
		return fmt.Errorf("the field %q came (%s), wanted %q", failed.Field, failed.Message, wanted.Field)
	}
	if !strings.Contains(failed.Message, wanted.Word) {
		return fmt.Errorf("the message %q lacks %q", failed.Message, wanted.Word)
	}
	return nil
}

// checkDetail compares both sides as JSON.
func checkDetail(came *lx.ModelDetail, wanted map[string]json.RawMessage) error {
	held := map[string]any{
		"name": came.Name, "version": came.Version, "state": came.State, "description": came.Description,
		"lrp_supported": came.LRPSupported, "inputs": specs(came.Inputs), "outputs": specs(came.Outputs),
		"class_names": came.ClassNames, "text_inputs": append([]string{}, came.TextInputs...),
		"batch_axes": came.BatchAxes, "time_axes": came.TimeAxes,
		"guessed_axes": append([]string{}, came.GuessedAxes...),
	}
	for name, said := range wanted {
		if name == "default_method" {
			if err := checkMethod(came.DefaultMethod, said); err != nil {
				return err
			}
			continue
		}
		written, err := json.Marshal(held[name])
		if err != nil {
			return err
		}
		var left, right any
		if err := errors.Join(json.Unmarshal(written, &left), json.Unmarshal(said, &right)); err != nil {
			return err
		}
		if !reflect.DeepEqual(left, right) {
			return fmt.Errorf("%s: %v came, wanted %v", name, left, right)
		}
	}
	return nil
}

func checkMethod(came lx.Method, said json.RawMessage) error {
	var wanted method
	if err := json.Unmarshal(said, &wanted); err != nil {
		return err
	}
	built, err := wanted.build()
	if err != nil {
		return err
	}
	if reflect.TypeOf(came) != reflect.TypeOf(built) {
		return fmt.Errorf("default_method: %T came, wanted %T", came, built)
	}
	for name := range wanted.Parameters {
		left, right := reflect.ValueOf(came).FieldByName(field(name)), reflect.ValueOf(built).FieldByName(field(name))
		if !reflect.DeepEqual(left.Interface(), right.Interface()) {
			return fmt.Errorf("default_method: %s differs", name)
		}
	}
	return nil
}

func specs(tensors map[string]lx.TensorSpec) map[string]any {
	out := map[string]any{}
	for name, spec := range tensors {
		shape := make([]any, len(spec.Shape))
		for i, extent := range spec.Shape {
			shape[i] = extent
			var size int
			if _, err := fmt.Sscanf(extent, "%d", &size); err == nil {
				shape[i] = size
			}
		}
		out[name] = map[string]any{"dtype": spec.Type, "shape": shape}
	}
	return out
}

// digests are of the elements, row-major and little-endian.
func digests(came *lx.Result, prefix string) hashes {
	out := hashes{}
	for name, t := range came.Relevance {
		sum := sha256.New()
		if err := binary.Write(sum, binary.LittleEndian, t.Data); err != nil {
			panic(err)
		}
		out[prefix+name] = hex.EncodeToString(sum.Sum(nil))
	}
	return out
}
