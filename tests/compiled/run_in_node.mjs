// Runs a model by onnxruntime-web's wasm: node run_in_node.mjs MODEL FEEDS.json RESULTS.json
import { readFileSync, writeFileSync } from "node:fs";
import * as ort from "onnxruntime-web";

const [, , model, feedsFile, resultsFile] = process.argv;
const arrays = { float32: Float32Array, float64: Float64Array, int32: Int32Array, int64: BigInt64Array };
ort.env.wasm.numThreads = 1;

const feeds = {};
for (const [name, { type, dims, data }] of Object.entries(JSON.parse(readFileSync(feedsFile, "utf8")))) {
  feeds[name] = new ort.Tensor(type, arrays[type].from(type === "int64" ? data.map(BigInt) : data), dims);
}
const session = await ort.InferenceSession.create(readFileSync(model), { executionProviders: ["wasm"] });
const results = {};
for (const [name, tensor] of Object.entries(await session.run(feeds))) {
  results[name] = { dims: tensor.dims, data: Array.from(tensor.data, Number) };
}
writeFileSync(resultsFile, JSON.stringify(results));
