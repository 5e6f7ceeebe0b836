// SPDX-License-Identifier: Apache-2.0

// Encodes and decodes tensors of the wire: raw little-endian bytes in base64.

const KINDS = {
  DATA_TYPE_FLOAT32: Float32Array,
  DATA_TYPE_FLOAT64: Float64Array,
  DATA_TYPE_INT32: Int32Array,
  DATA_TYPE_INT64: BigInt64Array,
  DATA_TYPE_BOOL: Uint8Array,
};
const LARGEST = { DATA_TYPE_INT32: 2 ** 31 - 1, DATA_TYPE_INT64: Number.MAX_SAFE_INTEGER, DATA_TYPE_BOOL: 1 };
const LEAST = { DATA_TYPE_INT32: -(2 ** 31), DATA_TYPE_INT64: -Number.MAX_SAFE_INTEGER, DATA_TYPE_BOOL: 0 };
const CHUNK = 0x8000;

export const STRING = "DATA_TYPE_STRING";

export function canSend(dtype) {
  return dtype in KINDS;
}

/** Returns why a number does not fit a type, or "". */
export function unfit(dtype, value) {
  if (!(dtype in LARGEST)) return "";
  if (!Number.isInteger(value)) return "enter a whole number";
  if (value > LARGEST[dtype] || value < LEAST[dtype]) return `enter a number from ${LEAST[dtype]} to ${LARGEST[dtype]}`;
  return "";
}

/** Decodes a tensor to its shape and an array of numbers or texts. */
export function decode(tensor) {
  const shape = (tensor.shape ?? []).map(Number);
  const bytes = fromBase64(tensor.data ?? "");
  const dtype = tensor.dtype;
  return { name: tensor.name ?? "", shape, values: dtype === STRING ? texts(bytes) : numbers(dtype, bytes) };
}

export function encode(name, dtype, shape, values) {
  const Kind = KINDS[dtype];
  const array = Kind === BigInt64Array ? Kind.from(values, (value) => BigInt(value)) : Kind.from(values);
  return { name, dtype, shape, data: toBase64(new Uint8Array(array.buffer)) };
}

export function encodeTexts(name, values) {
  const parts = values.map((value) => new TextEncoder().encode(value));
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + 4 + part.length, 0));
  let at = 0;
  for (const part of parts) {
    new DataView(bytes.buffer).setUint32(at, part.length, true);
    bytes.set(part, at + 4);
    at += 4 + part.length;
  }
  return { name, dtype: STRING, shape: [values.length], data: toBase64(bytes) };
}

function numbers(dtype, bytes) {
  if (dtype === "DATA_TYPE_FLOAT16") return halves(bytes);
  const Kind = KINDS[dtype];
  if (!Kind) throw new Error(`this page does not support the type ${dtype}`);
  const array = new Kind(bytes.buffer);
  return Float64Array.from(array, Number);
}

function halves(bytes) {
  const view = new DataView(bytes.buffer);
  return Float64Array.from({ length: bytes.length / 2 }, (_, i) => {
    const half = view.getUint16(2 * i, true);
    const exponent = (half >> 10) & 31;
    const fraction = half & 1023;
    const size =
      exponent === 31 ? (fraction ? NaN : Infinity)
      : exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024)
      : 2 ** -14 * (fraction / 1024);
    return half & 0x8000 ? -size : size;
  });
}

function texts(bytes) {
  const view = new DataView(bytes.buffer);
  const found = [];
  for (let at = 0; at < bytes.length; ) {
    const length = view.getUint32(at, true);
    found.push(new TextDecoder().decode(bytes.subarray(at + 4, at + 4 + length)));
    at += 4 + length;
  }
  return found;
}

function fromBase64(text) {
  return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
}

function toBase64(bytes) {
  let text = "";
  for (let at = 0; at < bytes.length; at += CHUNK) text += String.fromCharCode(...bytes.subarray(at, at + CHUNK));
  return btoa(text);
}
