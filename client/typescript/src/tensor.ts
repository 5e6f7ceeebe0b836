// SPDX-License-Identifier: Apache-2.0

/** Arrays to the wire's tensors and back. */

import { endianness } from "node:os";

import { InvalidRequest, MalformedResponse } from "./errors.js";
import { DataType, Tensor as Message } from "./generated/lstm_explain/v1/tensor.js";

/** Element types by the names that NumPy uses. float16 travels as its bits; JavaScript has no such array. */
export type Dtype = "float32" | "float64" | "float16" | "int32" | "int64" | "bool" | "string";

/** The array that holds elements of each type. */
export interface Arrays {
  float32: Float32Array;
  float64: Float64Array;
  float16: Uint16Array;
  int32: Int32Array;
  int64: BigInt64Array;
  bool: boolean[];
  string: string[];
}

/** A dense array: its elements in row-major order, and the size of each axis (none for a scalar). */
export type Tensor = { [D in Dtype]: { dtype: D; shape: number[]; data: Arrays[D] } }[Dtype];

/** Arguments that are accepted as a tensor: texts, one per sample, or a typed array with one axis. */
export type TensorLike = Tensor | string | string[] | Float32Array | Float64Array | Int32Array | BigInt64Array;

type Numbers = Float32Array | Float64Array | Uint16Array | Int32Array | BigInt64Array;

const TYPED = {
  float32: { code: DataType.DATA_TYPE_FLOAT32, make: Float32Array },
  float64: { code: DataType.DATA_TYPE_FLOAT64, make: Float64Array },
  float16: { code: DataType.DATA_TYPE_FLOAT16, make: Uint16Array },
  int32: { code: DataType.DATA_TYPE_INT32, make: Int32Array },
  int64: { code: DataType.DATA_TYPE_INT64, make: BigInt64Array },
} as const;
const NAMES = new Map<DataType, Dtype>([
  ...Object.entries(TYPED).map(([name, { code }]) => [code, name as Dtype] as const),
  [DataType.DATA_TYPE_BOOL, "bool"],
  [DataType.DATA_TYPE_STRING, "string"],
]);
const BIG_ENDIAN = endianness() === "BE";

/** A tensor of a typed array, booleans or texts; without a shape it has one axis. */
export function tensor(data: Numbers | boolean[] | string[], shape: readonly number[] = [data.length]): Tensor {
  return { dtype: dtypeOf(data), shape: [...shape], data } as Tensor;
}

/** Makes a tensor of texts, one per sample, for a model with a tokenizer. */
export function text(...texts: string[]): Tensor {
  return tensor(texts);
}

/** The numbers of a tensor, whatever their type. */
export function numbers(array: Tensor): number[] {
  if (array.dtype === "string" || array.dtype === "float16") {
    throw new TypeError(`a tensor of ${array.dtype} holds no numbers`);
  }
  return Array.from(array.data as ArrayLike<number | bigint | boolean>, Number);
}

/** The name of an element type, as the server calls it. */
export function dtypeName(code: DataType): Dtype | "unspecified" {
  return NAMES.get(code) ?? "unspecified";
}

function dtypeOf(data: unknown): Dtype {
  if (Array.isArray(data)) {
    return typeof data[0] === "boolean" ? "bool" : "string";
  }
  for (const [name, { make }] of Object.entries(TYPED)) {
    if (data instanceof make) {
      return name as Dtype;
    }
  }
  throw new InvalidRequest("expected a Float32Array, Float64Array, Uint16Array, Int32Array, BigInt64Array, or an array of booleans or strings");
}

/** The tensor that an argument stands for. */
export function asTensor(value: TensorLike): Tensor {
  if (typeof value === "string") {
    return text(value);
  }
  if (Array.isArray(value) || ArrayBuffer.isView(value)) {
    return tensor(value as Numbers | string[]);
  }
  // Callers without types pass anything.
  const { dtype, shape, data } = value ?? {};
  if (!Array.isArray(shape) || (dtype !== "string" && dtype !== "bool" && !Object.hasOwn(TYPED, dtype ?? ""))) {
    throw new InvalidRequest("expected a tensor, a typed array, or text");
  }
  dtypeOf(data);
  return value;
}

/** The message; `field` says which argument it is, for the error. */
export function toWire(value: TensorLike, name: string, field: string): Message {
  const { dtype, shape, data } = named(value, field);
  if (!shape.every((extent) => Number.isSafeInteger(extent) && extent >= 0)) {
    throw new InvalidRequest(`${field} has the shape [${shape}]`, { field });
  }
  const count = shape.reduce((product, extent) => product * extent, 1);
  if (data.length !== count) {
    throw new InvalidRequest(`${field}: ${data.length} elements for the shape [${shape}], which has ${count}`, { field });
  }
  const message = { name, shape: shape.map(BigInt) };
  if (dtype === "string") {
    return { ...message, dtype: DataType.DATA_TYPE_STRING, data: packed(data as string[], field) };
  }
  if (dtype === "bool") {
    return { ...message, dtype: DataType.DATA_TYPE_BOOL, data: Buffer.from((data as boolean[]).map(Number)) };
  }
  return { ...message, dtype: TYPED[dtype].code, data: littleEndian(data as Numbers) };
}

function named(value: TensorLike, field: string): Tensor {
  try {
    return asTensor(value);
  } catch (error) {
    throw error instanceof InvalidRequest ? new InvalidRequest(`${field}: ${error.message}`, { field }) : error;
  }
}

/** The bytes of the elements in the order that the wire wants. */
export function littleEndian(data: Numbers): Buffer {
  const bytes = Buffer.from(data.buffer, data.byteOffset, data.byteLength);
  return BIG_ENDIAN ? swapped(Buffer.from(bytes), data.BYTES_PER_ELEMENT) : bytes;
}

function swapped(bytes: Buffer, width: number): Buffer {
  return width === 2 ? bytes.swap16() : width === 4 ? bytes.swap32() : bytes.swap64();
}

function packed(texts: string[], field: string): Buffer {
  const parts: Buffer[] = [];
  for (const item of texts) {
    if (typeof item !== "string" || !item.isWellFormed()) {
      throw new InvalidRequest(`${field} has an element that is no well-formed text`, { field });
    }
    const encoded = Buffer.from(item);
    const length = Buffer.alloc(4);
    length.writeUInt32LE(encoded.length);
    parts.push(length, encoded);
  }
  return Buffer.concat(parts);
}

/** The tensor of a message, with an array of its own. */
export function fromWire(message: Message): Tensor {
  const shape = message.shape.map(Number);
  const count = shape.reduce((product, extent) => product * extent, 1);
  const dtype = NAMES.get(message.dtype);
  if (dtype === undefined || shape.some((extent) => extent < 0)) {
    throw new MalformedResponse(`tensor "${message.name}" has the type ${message.dtype} and the shape [${shape}]`);
  }
  if (dtype === "string") {
    return { dtype, shape, data: unpacked(message, count) };
  }
  const width = dtype === "bool" ? 1 : TYPED[dtype].make.BYTES_PER_ELEMENT;
  if (message.data.length !== count * width) {
    throw new MalformedResponse(`tensor "${message.name}" has ${message.data.length} bytes instead of ${count * width}`);
  }
  if (dtype === "bool") {
    return { dtype, shape, data: Array.from(message.data, Boolean) };
  }
  const own = new Uint8Array(message.data); // a copy, aligned
  if (BIG_ENDIAN) {
    swapped(Buffer.from(own.buffer), width);
  }
  return { dtype, shape, data: new TYPED[dtype].make(own.buffer) } as Tensor;
}

function unpacked(message: Message, count: number): string[] {
  const texts: string[] = [];
  const bytes = Buffer.from(message.data);
  let at = 0;
  while (at + 4 <= bytes.length) {
    const end = at + 4 + bytes.readUInt32LE(at);
    if (end > bytes.length) {
      break;
    }
    texts.push(bytes.toString("utf8", at + 4, end));
    at = end;
  }
  if (at !== bytes.length || texts.length !== count) {
    throw new MalformedResponse(`text tensor "${message.name}" has damaged data`);
  }
  return texts;
}

/** Tensors by name, in the order given. */
export function allToWire(tensors: Record<string, TensorLike>, field: string): Message[] {
  return Object.entries(tensors).map(([name, value]) => toWire(value, name, `${field}.${name}`));
}

export function allFromWire(messages: Message[]): Record<string, Tensor> {
  return Object.fromEntries(messages.map((message) => [message.name, fromWire(message)]));
}
