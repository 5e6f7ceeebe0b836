// SPDX-License-Identifier: Apache-2.0

// Calls the services by the Connect protocol: JSON over HTTP.

import { CallError } from "./call_error.js";
import { envelope, messages } from "./envelopes.js";
import { methodOf } from "./methods.js";

export { CallError };

const SERVICES = { models: "lstm_explain.v1.ModelService", explanations: "lstm_explain.v1.ExplanationService" };

// The names that Connect gives to the codes of gRPC, by number.
const CODES =
  "ok canceled unknown invalid_argument deadline_exceeded not_found already_exists permission_denied resource_exhausted failed_precondition aborted out_of_range unimplemented internal unavailable data_loss unauthenticated".split(
    " ",
  );

export class Server {
  token = "";
  offersMore = true; // groups, conditions and units

  async models(signal) {
    return (await this.#call(SERVICES.models, "ListModels", {}, signal)).models ?? [];
  }

  async model(name, version, signal) {
    return (await this.#call(SERVICES.models, "GetModel", { name, version }, signal)).model;
  }

  /** onProgress: called with the runs of the model that are done and all that are expected, for methods that take many. */
  async explain(request, signal, onProgress) {
    const { explanations } = SERVICES;
    if (!methodOf(request.method)?.long) return this.#call(explanations, "Explain", request, signal);
    const body = envelope(JSON.stringify({ request, progress: true }));
    return this.#post(explanations, "ExplainStream", "application/connect+json", body, signal, (answer) => last(answer, onProgress));
  }

  async #call(service, method, message, signal) {
    return this.#post(service, method, "application/json", JSON.stringify(message), signal, (answer) => answer.json());
  }

  /** read: reads the answer if there is one. */
  async #post(service, method, kind, body, signal, read) {
    const headers = { "content-type": kind, "connect-protocol-version": "1" };
    if (this.token) headers.authorization = `Bearer ${this.token}`;
    let answer;
    try {
      answer = await fetch(`/${service}/${method}`, { method: "POST", headers, body, signal, credentials: "omit" });
      if (answer.ok) return await read(answer);
    } catch (error) {
      if (error.name === "AbortError" || error instanceof CallError) throw error;
      throw new CallError("unavailable", "The server cannot be reached.");
    }
    throw await problem(answer);
  }
}

/** Returns the response to the only request of a stream, after its progress. */
async function last(answer, onProgress) {
  let response = null;
  let failed = null;
  for await (const { message, end } of messages(answer.body)) {
    const reply = JSON.parse(message);
    if (reply.progress) onProgress(Number(reply.progress.done ?? 0), Number(reply.progress.total ?? 0));
    response = reply.response ?? response;
    failed = reply.error ?? failed;
    if (!end) continue;
    if (response && !failed) return response;
    const code = typeof failed?.code === "number" ? CODES[failed.code] : failed?.code;
    const requestId = reply.metadata?.["x-request-id"]?.[0] ?? "";
    throw new CallError(code ?? "unknown", failed?.message ?? "The server gave no answer.", failed?.field ?? "", requestId);
  }
  throw new CallError("unavailable", "The answer of the server broke off.");
}

async function problem(answer) {
  const requestId = answer.headers.get("x-request-id") ?? "";
  try {
    const reply = await answer.json();
    const bad = (reply.details ?? []).find((detail) => detail.type === "google.rpc.BadRequest");
    return new CallError(reply.code, reply.message, bad?.debug?.fieldViolations?.[0]?.field ?? "", requestId);
  } catch {
    return new CallError("unknown", `The server answered ${answer.status}.`, "", requestId);
  }
}
