// SPDX-License-Identifier: Apache-2.0

/** Runs the conformance cases through the TypeScript client; tests/conformance/README.md says what goes in and out. */

import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { isDeepStrictEqual, parseArgs } from "node:util";

import { status as Status } from "@grpc/grpc-js";

import * as explanation from "../src/generated/lstm_explain/v1/explanation.js";
import * as modelStubs from "../src/generated/lstm_explain/v1/model.js";
import * as operationStubs from "../src/generated/lstm_explain/v1/operation.js";
import { type Answer, Client, ExplainError, ModelNotFound, type Result } from "../src/index.js";
import { checkDetail, checkError, checkResult, checkResults, type Hashes, hashes, same, Wrong } from "./check.js";
import { type Json, toRequest, toRoute, toTarget } from "./request.js";

const SENTENCE = "neither funny nor suspenseful nor particularly well-drawn";
const WARM_UP = 20;

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
