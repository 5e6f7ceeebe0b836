/** Runs the conformance cases through the TypeScript client; tests/conformance/README.md says what goes in and out. */

import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { isDeepStrictEqual, parseArgs } from "node:util";

import { status as Status } from "@grpc/grpc-js";

import * as explanation from "../src/generated/lstm_explain/v1/explanation.js";
import * as modelStubs from "../src/generated/lstm_explain/v1/model.js";
import { type Answer, Client, ExplainError, type Method, type ModelDetail, ModelNotFound, type Request, type Result, type Target, type Tensor, type TensorLike } from "../src/index.js";
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

function allTensors(said: Json): Record<string, TensorLike> {
  return Object.fromEntries(Object.entries(said).map(([name, value]) => [name, toTensor(value)]));
}

const camel = (name: string) => name.replace(/_(\w)/g, (_, letter: string) => letter.toUpperCase());

function toMethod(said: Json): Method | undefined {
  if (said === undefined) {
    return undefined;
  }
  const parameters = Object.entries(said.parameters ?? {}).map(([name, value]) => [camel(name), name === "baseline" ? allTensors(value) : value]);
  return { name: camel(said.name), ...Object.fromEntries(parameters) } as Method;
}

function toTarget(said: Json): Target | undefined {
  return (
    said && {
      output: said.output,
      indices: said.indices,
      contrast: said.contrast_indices,
      weights: said.weights && toTensor(said.weights),
      batchAxis: said.no_batch_axis ? null : said.batch_axis,
      preActivation: said.pre_activation,
    }
  );
}

function toRequest(said: Json, id?: string): Request {
  const { model, version, capture } = said;
  return { model, version, capture, inputs: allTensors(said.inputs), method: toMethod(said.method), target: toTarget(said.target), id };
}

// --- what has to come ---

function same(where: string, came: unknown, wanted: unknown): void {
  if (!isDeepStrictEqual(came, wanted)) {
    throw new Wrong(`${where}: ${JSON.stringify(came)} came, wanted ${JSON.stringify(wanted)}`);
  }
}

function checkTensor(where: string, came: Tensor | undefined, wanted: Json): void {
  const kinds = wanted.dtype === "float" ? ["float32", "float64"] : [wanted.dtype];
  if (came === undefined || !kinds.includes(came.dtype) || !isDeepStrictEqual(came.shape, wanted.shape)) {
    throw new Wrong(`${where}: ${came?.dtype}[${came?.shape}] came, wanted ${wanted.dtype}[${wanted.shape}]`);
  }
  if (wanted.tolerance === undefined) {
    same(where, Array.from(came.data as ArrayLike<unknown>), wanted.data);
    return;
  }
  Array.from(came.data as ArrayLike<number>).forEach((value, at) => {
    if (!(Math.abs(value - wanted.data[at]) <= wanted.tolerance)) {
      throw new Wrong(`${where}: ${value} came at ${at}, wanted ${wanted.data[at]} within ${wanted.tolerance}`);
    }
  });
}

function scalars(data: Float32Array | Float64Array): Tensor {
  const shape = [data.length];
  return data instanceof Float32Array ? { dtype: "float32", shape, data } : { dtype: "float64", shape, data };
}

function checkResult(came: Result, wanted: Json): void {
  for (const name of ["model", "version"] as const) {
    if (wanted[name] !== undefined) {
      same(name, came[name], wanted[name]);
    }
  }
  for (const name of ["relevance", "outputs", "captured", "tokens"] as const) {
    if (wanted[name] !== undefined) {
      same(name, Object.keys(came[name]).sort(), Object.keys(wanted[name]).sort());
      Object.entries(wanted[name]).forEach(([key, value]) => checkTensor(`${name}.${key}`, came[name][key], value));
    }
  }
  if (wanted.warnings !== undefined) {
    const beginnings = came.warnings.map((warning, i) => warning.slice(0, wanted.warnings[i]?.length));
    same(`the beginnings of ${JSON.stringify(came.warnings)}`, beginnings, wanted.warnings);
  }
  if (wanted.explained_quantity !== undefined) {
    same("explained_quantity", came.explainedQuantity, wanted.explained_quantity);
  }
  if (wanted.explained) {
    checkTensor("explained", scalars(came.explained), wanted.explained);
  }
  const { inputs, initialStates, absorbed, residual } = came.ledger;
  const parts: Record<string, Float32Array | Float64Array> = { inputs, initial_states: initialStates, absorbed };
  for (const [name, value] of Object.entries<Json>(wanted.ledger ?? {})) {
    if (name !== "balance") {
      checkTensor(`ledger.${name}`, scalars(parts[name] ?? new Float64Array()), value);
      continue;
    }
    came.explained.forEach((whole, i) => {
      const gap = Math.abs(whole - [inputs, initialStates, absorbed, residual].reduce((sum, part) => sum + (part[i] ?? NaN), 0));
      if (!(gap <= value)) {
        throw new Wrong(`ledger: ${gap} is missing, allowed ${value}`);
      }
    });
  }
}

function checkDetail(came: ModelDetail, wanted: Json = {}): void {
  for (const [name, value] of Object.entries<Json>(wanted)) {
    if (name !== "default_method") {
      same(name, came[camel(name) as keyof ModelDetail], value);
      continue;
    }
    const method = came.defaultMethod as Record<string, unknown> | undefined;
    same(name, method?.["name"], camel(value.name));
    Object.entries(value.parameters ?? {}).forEach(([key, said]) => same(`${name}.${key}`, method?.[camel(key)], said));
  }
}

function checkError(came: unknown, wanted: Json): void {
  if (!(came instanceof ExplainError)) {
    throw new Wrong(`${came} came, wanted ${wanted.code}`);
  }
  same(`code of "${came.message}"`, Status[came.code], wanted.code);
  if (wanted.field !== undefined) {
    same(`field of "${came.message}"`, came.field, wanted.field);
  }
  if (!came.message.includes(wanted.word ?? "")) {
    throw new Wrong(`the message "${came.message}" lacks "${wanted.word}"`);
  }
}

function hashes(came: Result, prefix = ""): Hashes {
  const digest = ({ data }: Tensor) => createHash("sha256").update(littleEndian(data as Float32Array)).digest("hex");
  return Object.fromEntries(Object.entries(came.relevance).map(([name, array]) => [prefix + name, digest(array)]));
}

// --- cases ---

async function explain(client: Client, { request, expect = {} }: Json): Promise<Hashes> {
  const { deadline_ms: timeoutMs, cancel_after_ms: cancelAfter } = request;
  const signal = cancelAfter === undefined ? undefined : AbortSignal.timeout(cancelAfter);
  const came = await client.explain(toRequest(request), { timeoutMs, signal });
  checkResult(came, expect);
  return hashes(came);
}

async function explainStream(client: Client, { requests, answers }: Json): Promise<Hashes> {
  const came: Answer[] = [];
  for await (const answer of client.explainStream(requests.map((item: Json) => toRequest(item.request, item.id)))) {
    came.push(answer);
  }
  same("answers", came.map(({ id }) => id).sort(), Object.keys(answers).sort());
  let found: Hashes = {};
  for (const answer of came) {
    const wanted = answers[answer.id];
    if (wanted.expect_error) {
      checkError(answer.error, wanted.expect_error);
    } else if (answer.error) {
      throw answer.error;
    } else {
      checkResult(answer.result, wanted.expect);
      found = { ...found, ...hashes(answer.result, `${answer.id}/`) };
    }
  }
  return found;
}

async function models(client: Client, { expect }: Json): Promise<Hashes> {
  const came = (await client.models()).map(({ name, version, state }) => ({ name, version, state }));
  for (const wanted of expect.models) {
    if (!came.some((one) => isDeepStrictEqual(one, wanted))) {
      throw new Wrong(`${JSON.stringify(wanted)} is not among ${JSON.stringify(came)}`);
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
  const came = await client.importModel({ name, version, config, path: join(flag("models"), path) });
  let found: Hashes;
  try {
    checkDetail(came, test.expect.detail);
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

const CALLS: Record<string, (client: Client, test: Json) => Promise<Hashes>> = {
  explain,
  explain_stream: explainStream,
  models,
  model,
  import_model: importModel,
};

async function run(test: Json): Promise<Hashes> {
  const client = connect(test.token ?? flags["token"]);
  try {
    const call = CALLS[test.call] as (client: Client, test: Json) => Promise<Hashes>;
    if (!test.expect_error) {
      return await call(client, test);
    }
    let came: unknown = "an answer";
    await call(client, test).catch((error: unknown) => (came = error));
    checkError(came, test.expect_error);
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
  const stubs = { ...explanation, ...modelStubs } as unknown as Record<string, Codec>;
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
    throw new TypeError("wanted conformance or latency");
  }
} catch (error) {
  process.stderr.write(`${error}\n`);
  process.exitCode = 2;
}
