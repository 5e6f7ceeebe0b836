// SPDX-License-Identifier: Apache-2.0

/** Runs the conformance cases through the TypeScript client; tests/conformance/README.md says what goes in and out. */

import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { isDeepStrictEqual, parseArgs } from "node:util";

import { status as Status } from "@grpc/grpc-js";

import * as explanation from "../src/generated/lstm_explain/v1/explanation.js";
import * as modelStubs from "../src/generated/lstm_explain/v1/model.js";
import * as operationStubs from "../src/generated/lstm_explain/v1/operation.js";
import { type Answer, Client, ExplainError, type Measure, type Method, type ModelDetail, ModelNotFound, type ModelRoute, type Request, type Result, type Target, type TargetSet, type Tensor, type TensorLike } from "../src/index.js";
import { littleEndian } from "../src/tensor.js";

const SENTENCE = "neither funny nor suspenseful nor particularly well-drawn";
const WARM_UP = 20;

// Cases are data without a type.
// eslint-disable-next-line @typescript-eslint/no-explicit-any
type Json = any;
type Hashes = Record<string, string>;

class Wrong extends Error {}

const { values: flags, positionals } = parseArgs({
  allowPositionals: true,
  options: Object.fromEntries(
    ["cases", "golden", "models", "address", "ca", "cert", "key", "token", "model", "calls"].map((name) => [name, { type: "string" as const }]),
  ) as Record<string, { type: "string" }>,
});

function flag(name: string): string {
  const value = flags[name];
  if (typeof value !== "string") {
    throw new TypeError(`--${name} is missing`);
  }
  return value;
}

function connect(token: string | undefined): Client {
  const { ca, cert, key } = flags as Record<string, string | undefined>;
  const tls = ca ? { rootCertificates: ca, certificate: cert, key } : false;
  return new Client(flag("address"), { tls, token: token || undefined });
}

// --- what a case asks ---

function toTensor({ dtype, shape, data }: Json): Tensor {
  const make: Record<string, (data: Json[]) => Json> = {
    float32: (d) => Float32Array.from(d),
    float64: (d) => Float64Array.from(d),
    float16: (d) => new Uint16Array(d.length), // of no case do the values matter
    int32: (d) => Int32Array.from(d),
    int64: (d) => BigInt64Array.from(d.map(BigInt)),
  };
  return { dtype, shape, data: make[dtype]?.(data) ?? data };
}

function allTensors(json: Json): Record<string, TensorLike> {
  return Object.fromEntries(Object.entries(json).map(([name, value]) => [name, toTensor(value)]));
}

const camel = (name: string) => name.replace(/_(\w)/g, (_, letter: string) => letter.toUpperCase());

function toMethod(json: Json): Method | undefined {
  if (json === undefined) {
    return undefined;
  }
  const parameters = Object.entries(json.parameters ?? {}).map(([name, value]) => [camel(name), name === "baseline" ? allTensors(value) : value]);
  return { name: camel(json.name), ...Object.fromEntries(parameters) } as Method;
}

function toTarget(json: Json): Target | undefined {
  return (
    json && {
      output: json.output,
      indices: json.indices,
      contrast: json.contrast_indices,
      weights: json.weights && toTensor(json.weights),
      batchAxis: json.no_batch_axis ? null : json.batch_axis,
      preActivation: json.pre_activation,
      measure: toMeasure(json.measure),
    }
  );
}

function toMeasure(json: Json): Measure | undefined {
  if (json === undefined) {
    return undefined;
  }
  const { kind, input, tensor, ahead, blank } = json;
  const reference = input ? { input } : tensor && { tensor: toTensor(tensor) };
  return { kind: camel(kind) as Measure["kind"], reference, ahead, blank };
}

function toTargetSet({ target, every }: Json): TargetSet {
  return every ? { every: { ...every, target: toTarget(every.target) } } : toTarget(target);
}

function toRequest(json: Json, id?: string): Request {
  const { model, version, capture, receipt, condition, groups, through } = json;
  return { model, version, capture, receipt, condition, through, groups: groups && { ...groups, changePoints: groups.change_points }, inputs: allTensors(json.inputs), method: toMethod(json.method), target: toTarget(json.target), targets: json.targets?.map(toTargetSet), id };
}

// --- what has to come ---

function same(where: string, received: unknown, expected: unknown): void {
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

function checkResult(received: Result, expected: Json): void {
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
function checkResults(received: Result[], expected: Json, prefix = ""): Hashes {
  same("the number of results", received.length, expected.results.length);
  received.forEach((result, i) => checkResult(result, expected.results[i]));
  return Object.assign({}, ...received.map((result, i) => hashes(result, `${prefix}${i}/`)));
}

function checkDetail(received: ModelDetail, expected: Json = {}): void {
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

function checkError(received: unknown, expected: Json): void {
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

function hashes(received: Result, prefix = ""): Hashes {
  const digest = ({ data }: Tensor) => createHash("sha256").update(littleEndian(data as Float32Array)).digest("hex");
  return Object.fromEntries(Object.entries(received.relevance).map(([name, array]) => [prefix + name, digest(array)]));
}

// --- cases ---

async function explain(client: Client, { request, expect = {} }: Json): Promise<Hashes> {
  const { deadline_ms: timeoutMs, cancel_after_ms: cancelAfter } = request;
  const signal = cancelAfter === undefined ? undefined : AbortSignal.timeout(cancelAfter);
  const received = await client.explain(toRequest(request), { timeoutMs, signal });
  checkResult(received, expect);
  return hashes(received);
}

async function explainMany(client: Client, { request, expect = {} }: Json): Promise<Hashes> {
  const asked = toRequest(request);
  const received = await client.explainMany(asked);
  const found = checkResults(received, expect);
  for (const [number, single] of expect.singles.entries()) {
    const alone = await client.explain({ ...asked, targets: undefined, target: toTarget(single) });
    same(`relevance of target ${number}`, hashes(received[number] as Result), hashes(alone));
  }
  return found;
}

async function explainStream(client: Client, { requests, answers, progress }: Json): Promise<Hashes> {
  const received: Answer[] = [];
  const reported = new Set<string>();
  const onProgress = (id: string, done: number, total: number) => {
    reported.add(id);
    same(`progress of ${id}`, [0 <= done, done <= total, received.some((answer) => answer.id === id)], [true, true, false]);
  };
  const asked = requests.map((item: Json) => toRequest(item.request, item.id));
  for await (const answer of client.explainStream(asked, progress ? { onProgress } : {})) {
    received.push(answer);
  }
  if (progress) {
    same("progress", [...reported].sort(), progress);
  }
  same("answers", received.map(({ id }) => id).sort(), Object.keys(answers).sort());
  let found: Hashes = {};
  for (const answer of received) {
    const expected = answers[answer.id];
    if (expected.expect_error) {
      checkError(answer.error, expected.expect_error);
    } else if (answer.error) {
      throw answer.error;
    } else if (answer.results) {
      found = { ...found, ...checkResults(answer.results, expected.expect, `${answer.id}/`) };
    } else {
      checkResult(answer.result, expected.expect);
      found = { ...found, ...hashes(answer.result, `${answer.id}/`) };
    }
  }
  return found;
}

async function models(client: Client, { expect }: Json): Promise<Hashes> {
  const received = (await client.models()).map(({ name, version, state }) => ({ name, version, state }));
  for (const expected of expect.models) {
    if (!received.some((one) => isDeepStrictEqual(one, expected))) {
      throw new Wrong(`${JSON.stringify(expected)} is not among ${JSON.stringify(received)}`);
    }
  }
  return {};
}

async function model(client: Client, { model: name, version, expect }: Json): Promise<Hashes> {
  checkDetail(await client.model(name, version), expect?.detail);
  return {};
}

async function importModel(client: Client, test: Json): Promise<Hashes> {
  const { name, version, config, model: path } = test.import;
  const received = await client.importModel({ name, version, config, path: join(flag("models"), path) });
  let found: Hashes;
  try {
    checkDetail(received, test.expect.detail);
    found = await explain(client, test);
  } finally {
    await client.deleteModel(name);
  }
  try {
    await explain(client, test);
  } catch (error) {
    if (error instanceof ModelNotFound) {
      return found;
    }
    throw error;
  }
  throw new Wrong("the model answers after it was deleted");
}

function toRoute(said: Json): ModelRoute {
  return {
    defaultVersion: said.default_version,
    canaryVersion: said.canary_version,
    canaryShare: said.canary_share,
    previousVersion: said.previous_version ?? "",
  };
}

async function routeModel(client: Client, { model: name, route, expect }: Json): Promise<Hashes> {
  const chosen = await client.routeModel(name, toRoute(route));
  const back = await client.rollBackModel(name);
  for (const [received, expected] of [
    [chosen, toRoute(expect.route)],
    [back, toRoute(expect.rolled_back)],
  ]) {
    if (!isDeepStrictEqual(received, expected)) {
      throw new Wrong(`the route is ${JSON.stringify(received)}, expected ${JSON.stringify(expected)}`);
    }
  }
  return {};
}

async function operation(client: Client, { request, expect }: Json): Promise<Hashes> {
  const { name } = await client.start(toRequest(request));
  const { state, result } = await client.waitForOperation(name);
  if (state !== "succeeded" || result === undefined) {
    throw new Wrong(`the operation is ${state}`);
  }
  checkResult(result, expect);
  if (!(await client.operations()).some((one) => one.name === name)) {
    throw new Wrong("the operation is not listed");
  }
  if (!isDeepStrictEqual(hashes(result, ""), hashes(await client.explain(toRequest(request)), ""))) {
    throw new Wrong("the call has another relevance");
  }
  await client.cancelOperation(name);
  await client.deleteOperation(name);
  try {
    await client.operation(name);
  } catch (error) {
    if (error instanceof ExplainError && error.code === Status.NOT_FOUND) {
      return hashes(result, "");
    }
    throw error;
  }
  throw new Wrong("the operation is there after it was deleted");
}

const CALLS: Record<string, (client: Client, test: Json) => Promise<Hashes>> = {
  explain,
  explain_many: explainMany,
  explain_stream: explainStream,
  models,
  model,
  import_model: importModel,
  route_model: routeModel,
  operation,
};

async function run(test: Json): Promise<Hashes> {
  const client = connect(test.token ?? flags["token"]);
  try {
    const call = CALLS[test.call] as (client: Client, test: Json) => Promise<Hashes>;
    if (!test.expect_error) {
      return await call(client, test);
    }
    let received: unknown = "an answer";
    await call(client, test).catch((error: unknown) => (received = error));
    checkError(received, test.expect_error);
    return {};
  } finally {
    client.close();
  }
}

interface Codec {
  decode(bytes: Uint8Array): unknown;
  encode(message: unknown): { finish(): Uint8Array };
}

function golden(name: string, kind: string): void {
  const bytes = readFileSync(join(flag("golden"), `${name}.bin`));
  const stubs = { ...explanation, ...modelStubs, ...operationStubs } as unknown as Record<string, Codec>;
  const codec = stubs[kind.split(".").pop() ?? ""] as Codec;
  const again = Buffer.from(codec.encode(codec.decode(bytes)).finish());
  if (!again.equals(bytes)) {
    throw new Wrong(`${bytes.toString("hex")} became ${again.toString("hex")}`);
  }
}

async function conformance(): Promise<boolean> {
  const over = flags["ca"] ? "tls" : "plain";
  let good = true;
  const say = async (name: string, work: () => Promise<Hashes> | void) => {
    let detail = "";
    let relevance: Hashes = {};
    try {
      relevance = (await work()) ?? {};
    } catch (error) {
      detail = String(error);
      good = false;
    }
    process.stdout.write(`${JSON.stringify({ case: name, ok: detail === "", detail, relevance })}\n`);
  };
  for (const file of readdirSync(flag("cases")).sort()) {
    const test = JSON.parse(readFileSync(join(flag("cases"), file), "utf8")) as Json;
    if (test.over === undefined || test.over.includes(over)) {
      await say(test.name, () => run(test));
    }
  }
  for (const { name, message } of JSON.parse(readFileSync(join(flag("golden"), "index.json"), "utf8")) as Json[]) {
    await say(`golden/${name}`, () => golden(name, message));
  }
  return good;
}

async function latency(): Promise<void> {
  const client = connect(flags["token"] as string | undefined);
  const calls = Number(flag("calls"));
  const taken: number[] = [];
  for (let number = 0; number < WARM_UP + calls; number += 1) {
    const began = performance.now();
    await client.explain({ model: flag("model"), inputs: { tokens: SENTENCE }, method: { name: "lrp" } });
    if (number >= WARM_UP) {
      taken.push(performance.now() - began);
    }
  }
  client.close();
  taken.sort((a, b) => a - b);
  const at = (share: number) => Number((taken[Math.min(calls - 1, Math.floor(share * calls))] ?? NaN).toFixed(3));
  process.stdout.write(`${JSON.stringify({ client: "typescript", calls, p50_ms: at(0.5), p99_ms: at(0.99) })}\n`);
}

try {
  if (positionals[0] === "latency") {
    await latency();
  } else if (positionals[0] === "conformance") {
    process.exitCode = (await conformance()) ? 0 : 1;
  } else {
    throw new TypeError("expected conformance or latency");
  }
} catch (error) {
  process.stderr.write(`${error}\n`);
  process.exitCode = 2;
}
