// SPDX-License-Identifier: Apache-2.0

package lstmexplain

import (
	"encoding/binary"
	"fmt"
	"math"

	pb "github.com/lstm-explain/lstm-explain/client/go/explainv1"
)

// Float16 holds the bits of an IEEE 754 binary16 number, because Go has no such type.
type Float16 uint16

// Element is an element type of a Tensor.
type Element interface {
	float32 | float64 | Float16 | int32 | int64 | bool | string
}

// Tensor is a dense array: its elements in row-major order, and the size of each axis.
type Tensor struct {
	// Shape is empty for a scalar.
	Shape []int
	// Data is a []float32, []float64, []Float16, []int32, []int64, []bool or []string.
	Data any
}

// Array makes a tensor of the given shape; without a shape it has one axis.
func Array[T Element](data []T, shape ...int) Tensor {
	if len(shape) == 0 {
		shape = []int{len(data)}
	}
	return Tensor{Shape: shape, Data: data}
}

// Text makes a tensor of texts, one per sample, for a model with a tokenizer.
func Text(texts ...string) Tensor { return Array(texts) }

// Of returns the elements if they are of type T, otherwise nil.
func Of[T Element](t Tensor) []T {
	data, _ := t.Data.([]T)
	return data
}

// Floats returns the elements of a tensor of float32, float64, int32 or int64 as float64, and nil for other types.
func (t Tensor) Floats() []float64 {
	switch data := t.Data.(type) {
	case []float64:
		return data
	case []float32:
		return converted(data)
	case []int32:
		return converted(data)
	case []int64:
		return converted(data)
	}
	return nil
}

func converted[T float32 | int32 | int64](data []T) []float64 {
	out := make([]float64, len(data))
	for i, v := range data {
		out[i] = float64(v)
	}
	return out
}

// encode builds the message. where names the argument for the error.
func (t Tensor) encode(name, where string) (*pb.Tensor, error) {
	message := &pb.Tensor{Name: name, Shape: make([]int64, len(t.Shape))}
	count := 1
	for i, extent := range t.Shape {
		if extent < 0 {
			return nil, invalid(where, "the extent %d is negative", extent)
		}
		message.Shape[i] = int64(extent)
		count *= extent
	}
	length := 0
	switch data := t.Data.(type) {
	case []float32:
		message.Dtype, message.Data, length = pb.DataType_DATA_TYPE_FLOAT32, packed(data), len(data)
	case []float64:
		message.Dtype, message.Data, length = pb.DataType_DATA_TYPE_FLOAT64, packed(data), len(data)
	case []Float16:
		message.Dtype, message.Data, length = pb.DataType_DATA_TYPE_FLOAT16, packed(data), len(data)
	case []int32:
		message.Dtype, message.Data, length = pb.DataType_DATA_TYPE_INT32, packed(data), len(data)
	case []int64:
		message.Dtype, message.Data, length = pb.DataType_DATA_TYPE_INT64, packed(data), len(data)
	case []bool:
		message.Dtype, message.Data, length = pb.DataType_DATA_TYPE_BOOL, packed(data), len(data)
	case []string:
		message.Dtype, message.Data, length = pb.DataType_DATA_TYPE_STRING, packedText(data), len(data)
	default:
		return nil, invalid(where, "elements of type %T instead of a slice of float32, float64, Float16, int32, int64, bool or string", t.Data)
	}
	if length != count {
		return nil, invalid(where, "%d elements for the shape %v, which has %d", length, t.Shape, count)
	}
	return message, nil
}

func packed(data any) []byte {
	buffer, err := binary.Append(make([]byte, 0, binary.Size(data)), binary.LittleEndian, data)
	if err != nil { // every type of Element but string has a fixed size
		panic(err)
	}
	return buffer
}

func packedText(texts []string) []byte {
	size := 0
	for _, text := range texts {
		size += 4 + len(text)
	}
	buffer := make([]byte, 0, size)
	for _, text := range texts {
		buffer = binary.LittleEndian.AppendUint32(buffer, uint32(len(text)))
		buffer = append(buffer, text...)
	}
	return buffer
}

func decode(message *pb.Tensor) (Tensor, error) {
	t := Tensor{Shape: make([]int, len(message.GetShape()))}
	count := 1
	for i, extent := range message.GetShape() {
		if extent < 0 || extent > math.MaxInt32 {
			return t, malformed("tensor %q has the extent %d", message.GetName(), extent)
		}
		t.Shape[i] = int(extent)
		count *= int(extent)
	}
	var err error
	switch data := message.GetData(); message.GetDtype() {
	case pb.DataType_DATA_TYPE_FLOAT32:
		t.Data, err = unpacked[float32](data, count, 4)
	case pb.DataType_DATA_TYPE_FLOAT64:
		t.Data, err = unpacked[float64](data, count, 8)
	case pb.DataType_DATA_TYPE_FLOAT16:
		t.Data, err = unpacked[Float16](data, count, 2)
	case pb.DataType_DATA_TYPE_INT32:
		t.Data, err = unpacked[int32](data, count, 4)
	case pb.DataType_DATA_TYPE_INT64:
		t.Data, err = unpacked[int64](data, count, 8)
	case pb.DataType_DATA_TYPE_BOOL:
		t.Data, err = unpacked[bool](data, count, 1)
	case pb.DataType_DATA_TYPE_STRING:
		t.Data, err = unpackedText(data, count)
	default:
		err = fmt.Errorf("the unknown type %v", message.GetDtype())
	}
	if err != nil {
		return t, malformed("tensor %q: %v", message.GetName(), err)
	}
	return t, nil
}

func unpacked[T Element](data []byte, count, width int) ([]T, error) {
	if len(data) != count*width {
		return nil, fmt.Errorf("%d bytes instead of %d", len(data), count*width)
	}
	out := make([]T, count)
	_, err := binary.Decode(data, binary.LittleEndian, out)
	return out, err
}

func unpackedText(data []byte, count int) ([]string, error) {
	texts := make([]string, 0, count)
	for len(data) >= 4 {
		length := int(binary.LittleEndian.Uint32(data))
		if length > len(data)-4 {
			break
		}
		texts = append(texts, string(data[4:4+length]))
		data = data[4+length:]
	}
	if len(data) != 0 || len(texts) != count {
		return nil, fmt.Errorf("damaged text")
	}
	return texts, nil
}

func decodeAll(messages []*pb.Tensor) (map[string]Tensor, error) {
	out := make(map[string]Tensor, len(messages))
	for _, message := range messages {
		t, err := decode(message)
		if err != nil {
			return nil, err
		}
		out[message.GetName()] = t
	}
	return out, nil
}
