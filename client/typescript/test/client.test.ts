// SPDX-License-Identifier: Apache-2.0

import assert from "node:assert/strict";
import { test } from "node:test";

import { Metadata, type ServiceError, status as Status } from "@grpc/grpc-js";

import { fromCall, InvalidRequest, MalformedResponse, Overloaded, TooLarge, typed } from "../src/errors.js";
import { ExplainResponse } from "../src/generated/lstm_explain/v1/explanation.js";
import * as wire from "../src/generated/lstm_explain/v1/method.js";
import { DataType } from "../src/generated/lstm_explain/v1/tensor.js";
import { Client, type Method, tensor, text } from "../src/index.js";
import { fromWire as methodFromWire, toWire as methodToWire } from "../src/method.js";
import { fromResponse } from "../src/result.js";
import { asTensor, fromWire, toWire } from "../src/tensor.js";

test("tensors come back as they were", () => {
  for (const array of [
    tensor(Float32Array.of(1.5, -0, Infinity)),
    tensor(Float64Array.of(Math.PI, 1e-300), [2, 1]),
    tensor(Uint16Array.of(0x3c00, 0xffff)),
    tensor(Int32Array.of(-(2 ** 31), 7), [1, 2]),
    tensor(BigInt64Array.of(-(2n ** 63n), 2n ** 63n - 1n)),
    tensor([true, false, true]),
    text("", "façade", "很好"),
    tensor(new Float32Array(), [2, 0, 4]),
    tensor(Float64Array.of(3), []),
  ]) {
    assert.deepEqual(fromWire(toWire(array, "x", "inputs.x")), array);
  }
});

test("bytes are little-endian, also of a part of a buffer", () => {
  const part = Int32Array.of(9, 1, -2).subarray(1);
  assert.deepEqual([...toWire(part, "x", "").data], [1, 0, 0, 0, 0xfe, 0xff, 0xff, 0xff]);
});

test("a text stands for a batch of one", () => {
  assert.deepEqual(asTensor("not a bad film"), { dtype: "string", shape: [1], data: ["not a bad film"] });
});

test("what cannot travel is refused with its field", () => {
  const bad = [tensor(new Float32Array(3), [2, 2]), tensor(new Float32Array(1), [-1]), text("\ud800"), new Set() as never];
  for (const value of bad) {
    assert.throws(
      () => toWire(value, "x", "inputs.x"),
      (error) => error instanceof InvalidRequest && error.field === "inputs.x",
    );
  }
});

test("a damaged answer is an error", () => {
  const float = { name: "x", dtype: DataType.DATA_TYPE_FLOAT32, shape: [2n], data: Buffer.alloc(7) };
  const words = { name: "x", dtype: DataType.DATA_TYPE_STRING, shape: [1n], data: Buffer.from([9, 0, 0, 0, 97]) };
  for (const message of [float, words, { ...float, dtype: 99 as DataType }, { ...float, shape: [-2n] }]) {
    assert.throws(() => fromWire(message), MalformedResponse);
  }
});

test("an unknown parameter is refused, also in plain JavaScript", () => {
  const span = { start: 0, end: 2, length: 2 };
  const bad = [
    [{ name: "lrp", eps: 3 }, "method.lrp.eps"],
    [{ name: "gradient", steps: 3 }, "method.gradient.steps"],
    [{ name: "contextualDecomposition", span }, "method.span.length"],
    [{ name: "lrp", composite: { rules: { Gemm: { name: "gamma", epsilon: 1 } } } }, "method.gamma.epsilon"],
  ] as const;
  for (const [method, field] of bad) {
    assert.throws(
      () => methodToWire(method as unknown as Method),
      (error) => error instanceof InvalidRequest && error.field === field,
    );
  }
});

test("every method comes back as it was sent", () => {
  const rules = { Gemm: { name: "gamma", gamma: 0 }, n: { name: "zBox", low: -1, high: 1 }, f: { name: "flat" } } as const;
  const methods: Method[] = [
    { name: "lrp", productRule: "abs", epsilon: 0, biasFactor: 1, composite: { rules, first: { name: "zPlus" } } },
    { name: "gradient" },
    { name: "gradientTimesInput" },
    { name: "contextualDecomposition" },
    { name: "contextualDecomposition", span: { start: 0, end: 5 } },
    { name: "integratedGradients", steps: 0, baseline: { x: tensor(Float32Array.of(1)) } },
    { name: "smoothGrad", samples: 3, noise: 0, seed: 0n },
    { name: "occlusion", window: 2, baseline: {}, of: "probability" },
    { name: "shapleySampling", permutations: 2, seed: 9n, baseline: {}, over: "cells" },
  ];
  for (const method of methods) {
    const encoded = wire.Method.encode(methodToWire(method)).finish();
    const back = Object.entries(methodFromWire(wire.Method.decode(encoded)) ?? {});
    assert.deepEqual(Object.fromEntries(back.filter(([, value]) => value !== undefined)), method);
  }
  assert.throws(() => methodToWire({ name: "lrp", productRule: "both" as never }), InvalidRequest);
});

// google.rpc.Status with a BadRequest, by hand: each Any is field 3, a type_url and a value.
test("the field that was wrong is read from the details", () => {
  const delimited = (number: number, body: Buffer) => Buffer.concat([Buffer.from([(number << 3) | 2, body.length]), body]);
  const violation = delimited(1, delimited(1, Buffer.from("inputs[0].shape")));
  const any = Buffer.concat([delimited(1, Buffer.from("type.googleapis.com/google.rpc.BadRequest")), delimited(2, violation)]);
  const metadata = new Metadata();
  metadata.set("grpc-status-details-bin", Buffer.concat([Buffer.from([8, 3]), delimited(3, any)]));
  const failed = Object.assign(new Error("3: no"), { code: 3, details: "no", metadata }) as ServiceError;
  const error = fromCall(failed);
  assert(error instanceof InvalidRequest);
  assert.equal(error.field, "inputs[0].shape");
  assert.equal(error.message, "no");
});

test("a message that is too large is no overload", () => {
  assert(typed(Status.RESOURCE_EXHAUSTED, "Received message larger than max (5 vs 4)") instanceof TooLarge);
  assert(typed(Status.RESOURCE_EXHAUSTED, "64 requests are open already") instanceof Overloaded);
});

test("tokens are not sent in the open", () => {
  for (const address of ["explain.example:443", "127.0.0.1.example:1", "127.example:1", "localhost.example:1", "10.0.0.1:1"]) {
    assert.throws(() => new Client(address, { token: "t" }), TypeError, address);
  }
  for (const address of ["127.0.0.1:1", "[::1]:1", "localhost:1"]) {
    new Client(address, { token: "t" }).close();
  }
});

test("an aborted signal sends nothing", async () => {
  const client = new Client("127.0.0.1:1");
  const signal = AbortSignal.abort();
  await assert.rejects(client.explain({ model: "m", inputs: {} }, { signal }), { name: "Cancelled", code: Status.CANCELLED });
  client.close();
});

test("an answer carries its warnings, and one of an older server has none", () => {
  const older = ExplainResponse.decode(ExplainResponse.encode(ExplainResponse.fromPartial({ model: "m" })).finish());
  assert.deepEqual([fromResponse(older).warnings, fromResponse(older).explainedQuantity], [[], ""]);
  const given = { warnings: ["relevance diverges", "and more"], explainedQuantity: "logit" };
  const answer = fromResponse(ExplainResponse.decode(ExplainResponse.encode(ExplainResponse.fromPartial(given)).finish()));
  assert.deepEqual({ warnings: answer.warnings, explainedQuantity: answer.explainedQuantity }, given);
});
