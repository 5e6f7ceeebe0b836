// SPDX-License-Identifier: Apache-2.0

/** What has to come. */

import { createHash } from "node:crypto";
import { isDeepStrictEqual } from "node:util";

import { status as Status } from "@grpc/grpc-js";

import { ExplainError, type ModelDetail, type Result, type Tensor } from "../src/index.js";
import { littleEndian } from "../src/tensor.js";
import { camel, type Json } from "./request.js";

export type Hashes = Record<string, string>;

export class Wrong extends Error {}

export function same(where: string, received: unknown, expected: unknown): void {
  if (!isDeepStrictEqual(received, expected)) {
    throw new Wrong(`${where}: ${JSON.stringify(received)} received, expected ${JSON.stringify(expected)}`);
  }
}

function checkTensor(where: string, received: Tensor | undefined, expected: Json): void {
  const kinds = expected.dtype === "float" ? ["float32", "float64"] : [expected.dtype];
  if (received === undefined || !kinds.includes(received.dtype) || !isDeepStrictEqual(received.shape, expected.shape)) {
    throw new Wrong(`${where}: ${received?.dtype}[${received?.shape}] received, expected ${expected.dtype}[${expected.shape}]`);
  }
  if (expected.tolerance === undefined) {
    same(where, Array.from(received.data as ArrayLike<unknown>, (value) => (typeof value === "bigint" ? Number(value) : value)), expected.data);
    return;
  }
  Array.from(received.data as ArrayLike<number>).forEach((value, at) => {
    if (!(Math.abs(value - expected.data[at]) <= expected.tolerance)) {
      throw new Wrong(`${where}: ${value} received at ${at}, expected ${expected.data[at]} within ${expected.tolerance}`);
    }
  });
}

function scalars(data: Float32Array | Float64Array): Tensor {
  const shape = [data.length];
  return data instanceof Float32Array ? { dtype: "float32", shape, data } : { dtype: "float64", shape, data };
}

export function checkResult(received: Result, expected: Json): void {
  for (const name of ["model", "version"] as const) {
    if (expected[name] !== undefined) {
      same(name, received[name], expected[name]);
    }
  }
  for (const name of ["relevance", "outputs", "captured", "tokens"] as const) {
    if (expected[name] !== undefined) {
      same(name, Object.keys(received[name]).sort(), Object.keys(expected[name]).sort());
      Object.entries(expected[name]).forEach(([key, value]) => checkTensor(`${name}.${key}`, received[name][key], value));
    }
  }
  const { groups } = received;
  const partsOfGroups: Record<string, Record<string, Tensor>> = { ...groups, standard_error: groups.standardError };
  for (const [name, tensors] of Object.entries<Json>(expected.groups ?? {})) {
    const own = partsOfGroups[name] ?? {};
    same(`groups.${name}`, Object.keys(own).sort(), Object.keys(tensors).sort());
    Object.entries(tensors).forEach(([key, value]) => checkTensor(`groups.${name}.${key}`, own[key], value));
  }
  if (expected.warnings !== undefined) {
    const beginnings = received.warnings.map((warning, i) => warning.slice(0, expected.warnings[i]?.length));
    same(`the beginnings of ${JSON.stringify(received.warnings)}`, beginnings, expected.warnings);
  }
  if (expected.explained_quantity !== undefined) {
    same("explained_quantity", received.explainedQuantity, expected.explained_quantity);
  }
  if (expected.not_explained !== undefined) {
    same("not_explained", received.notExplained, expected.not_explained);
  }
  if (expected.receipt !== undefined) {
    same("whether the receipt is as expected", expected.receipt === "" ? received.receipt === "" : received.receipt.includes(expected.receipt), true);
  }
  if (expected.explained) {
    checkTensor("explained", scalars(received.explained), expected.explained);
  }
  const { inputs, initialStates, absorbed, residual } = received.ledger;
  const parts: Record<string, Float32Array | Float64Array> = { inputs, initial_states: initialStates, absorbed };
  for (const [name, value] of Object.entries<Json>(expected.ledger ?? {})) {
    if (name !== "balance") {
      checkTensor(`ledger.${name}`, scalars(parts[name] ?? new Float64Array()), value);
      continue;
    }
    received.explained.forEach((whole, i) => {
      const gap = Math.abs(whole - [inputs, initialStates, absorbed, residual].reduce((sum, part) => sum + (part[i] ?? NaN), 0));
      if (!(gap <= value)) {
        throw new Wrong(`ledger: ${gap} is missing, allowed ${value}`);
      }
    });
  }
}

/** Checks a result per target; the number of the target precedes the names of the hashes. */
export function checkResults(received: Result[], expected: Json, prefix = ""): Hashes {
  same("the number of results", received.length, expected.results.length);
  received.forEach((result, i) => checkResult(result, expected.results[i]));
  return Object.assign({}, ...received.map((result, i) => hashes(result, `${prefix}${i}/`)));
}

export function checkDetail(received: ModelDetail, expected: Json = {}): void {
  for (const [name, value] of Object.entries<Json>(expected)) {
    if (name !== "default_method") {
      same(name, received[camel(name) as keyof ModelDetail], value);
      continue;
    }
    const method = received.defaultMethod as Record<string, unknown> | undefined;
    same(name, method?.["name"], camel(value.name));
    Object.entries(value.parameters ?? {}).forEach(([key, json]) => same(`${name}.${key}`, method?.[camel(key)], json));
  }
}

export function checkError(received: unknown, expected: Json): void {
  if (!(received instanceof ExplainError)) {
    throw new Wrong(`${received} received, expected ${expected.code}`);
  }
  same(`code of "${received.message}"`, Status[received.code], expected.code);
  if (expected.field !== undefined) {
    same(`field of "${received.message}"`, received.field, expected.field);
  }
  if (!received.message.includes(expected.word ?? "")) {
    throw new Wrong(`the message "${received.message}" lacks "${expected.word}"`);
  }
}

export function hashes(received: Result, prefix = ""): Hashes {
  const digest = ({ data }: Tensor) => createHash("sha256").update(littleEndian(data as Float32Array)).digest("hex");
  return Object.fromEntries(Object.entries(received.relevance).map(([name, array]) => [prefix + name, digest(array)]));
}
