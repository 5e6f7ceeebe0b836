// SPDX-License-Identifier: Apache-2.0

// Answers the page's calls in the browser: takes the place of rpc.js, and offers what that offers. It runs the files that
// `lstm-explain compile` wrote, by onnxruntime-web.

import * as ort from "./ort.wasm.bundle.min.mjs";
import { CallError } from "./call_error.js";
import { methodOf } from "./methods.js";
import { STRING, decode, encode, encodeTexts } from "./tensor.js";
import { TextInput } from "./texts.js";
import { warningsOf } from "./warnings.js";

export { CallError };

ort.env.wasm.numThreads = 1; // more would need headers that few static hosts send
ort.env.wasm.wasmPaths = { wasm: new URL("ort-wasm-simd-threaded.wasm", import.meta.url).href };

const ARRAYS = {
  DATA_TYPE_FLOAT32: ["float32", Float32Array],
  DATA_TYPE_FLOAT64: ["float64", Float64Array],
  DATA_TYPE_INT32: ["int32", Int32Array],
  DATA_TYPE_INT64: ["int64", BigInt64Array],
};

export class Server {
  token = "";
  #catalogue = json("models.json");
  #sessions = new Map(); // by file
  #tokenizers = new Map(); // by file
  #last = Promise.resolve(); // onnxruntime-web runs one session at a time

  async models() {
    const { details } = await this.#catalogue;
    for (const { name } of details.map((detail) => detail.summary)) this.#prepare(name);
    return details.map((detail) => detail.summary);
  }

  async model(name) {
    return (await this.#catalogue).details.find((detail) => detail.summary.name === name);
  }

  /** request: an ExplainRequest in JSON. Returns an ExplainResponse in JSON. The methods here are one pass: no progress. */
  async explain(request, signal) {
    const { details, files } = await this.#catalogue;
    const detail = details.find(({ summary }) => summary.name === request.model);
    const method = methodOf(request.method);
    if (request.target?.contrastIndices?.length) throw new CallError("unimplemented", "this page compares no classes");
    const given = await Promise.all(request.inputs.map((tensor, i) => this.#read(tensor, i, detail, files)));
    const feeds = Object.fromEntries(given.map(({ name, tensor }) => [name, tensor]));
    const session = await this.#session(files[request.model].compiled[method.key]);
    if (session.inputNames.includes("target")) feeds.target = chosen(request.target);
    signal?.throwIfAborted();
    const results = await this.#run(session, feeds);
    return answerOf({ detail, method, request, results, tokens: given.flatMap(({ tokens }) => tokens ?? []) });
  }

  /** Fetches the files of a model before they are asked for, so that the page works without a network from then on. */
  async #prepare(name) {
    const { compiled, tokenizer } = (await this.#catalogue).files[name];
    if (tokenizer) this.#tokenizer(tokenizer);
    for (const file of Object.values(compiled)) this.#session(file);
  }

  async #read(tensor, position, detail, files) {
    const { name } = tensor;
    const spec = detail.inputs.find((input) => input.name === name);
    const [type, Kind] = ARRAYS[spec.dtype];
    if (tensor.dtype !== STRING) {
      const { shape, values } = decode(tensor);
      const whole = Kind === BigInt64Array;
      return { name, tensor: new ort.Tensor(type, Kind.from(values, whole ? BigInt : Number), shape) };
    }
    const tokenizer = await this.#tokenizer(files[detail.summary.name].tokenizer);
    const { ids, words } = tokenizer.encode(decode(tensor).values[0]);
    if (!ids.length) throw new CallError("invalid_argument", `text 0 has no tokens for '${name}'`, `inputs[${position}]`);
    const numbers = Kind === BigInt64Array ? ids.map(BigInt) : ids;
    const tokens = { ...encodeTexts(name, words), shape: [1, words.length] };
    return { name, tensor: new ort.Tensor(type, Kind.from(numbers), [1, ids.length]), tokens: [tokens] };
  }

  #tokenizer(file) {
    return remembered(this.#tokenizers, file, async () => new TextInput(await json(file)));
  }

  /** file: the graph, and the file that its weights are in. */
  #session({ graph, weights }) {
    return remembered(this.#sessions, graph, async () => {
      const [model, data] = await Promise.all([bytes(graph), remembered(this.#sessions, weights, () => bytes(weights))]);
      const externalData = [{ path: weights, data }];
      return ort.InferenceSession.create(model, { executionProviders: ["wasm"], externalData });
    });
  }

  async #run(session, feeds) {
    const mine = this.#last.then(() => session.run(feeds));
    this.#last = mine.catch(() => {});
    try {
      return await mine;
    } catch (error) {
      throw new CallError("internal", `the model cannot be run: ${error.message}`);
    }
  }
}

/** The input `target` of a file that was compiled for every class: -1 is the largest. */
function chosen(target) {
  return new ort.Tensor("int64", BigInt64Array.of(BigInt(target?.indices?.[0] ?? -1)), [1]);
}

function answerOf({ detail, method, request, results, tokens }) {
  const { name: model, version } = detail.summary;
  const one = (name) => encode(name, "DATA_TYPE_FLOAT32", [1], [results[name].data[0]]);
  const tensor = (key, name) => encode(name, "DATA_TYPE_FLOAT32", results[key].dims, Array.from(results[key].data, Number));
  const output = request.target?.output ?? detail.defaultTarget?.output ?? detail.outputs[0].name;
  const indices = [Number(request.target?.indices?.[0] ?? largest(results[output].data))];
  const parameters = detail.defaultMethod?.[method.key] ?? {};
  return {
    model,
    version,
    method: { [method.key]: parameters },
    target: { output, indices },
    outputs: detail.outputs.map(({ name }) => tensor(name, name)),
    relevance: detail.inputs.filter(({ name }) => `relevance/${name}` in results).map(({ name }) => tensor(`relevance/${name}`, name)),
    tokens,
    explained: one("explained"),
    ledger: {
      inputs: one("ledger/inputs"),
      initialStates: one("ledger/initial_states"),
      absorbed: one("ledger/absorbed"),
      residual: one("ledger/residual"),
    },
    warnings: warningsOf(method.key, results, output),
  };
}

function largest(values) {
  return values.reduce((best, value, i) => (value > values[best] ? i : best), 0);
}

function remembered(known, key, make) {
  if (!known.has(key)) {
    const made = make();
    known.set(key, made);
    made.catch(() => known.delete(key)); // the next call tries again
  }
  return known.get(key);
}

async function json(path) {
  return (await fetched(path)).json();
}

async function bytes(path) {
  return new Uint8Array(await (await fetched(path)).arrayBuffer());
}

async function fetched(path) {
  try {
    const answer = await fetch(new URL(path, import.meta.url));
    if (answer.ok) return answer;
    throw new CallError("not_found", `${path} is missing: the server of this page answered ${answer.status}`);
  } catch (error) {
    if (error instanceof CallError) throw error;
    throw new CallError("unavailable", `${path} cannot be loaded`);
  }
}
