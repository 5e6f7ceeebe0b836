/** What comes back for a request. */

import { MalformedResponse } from "./errors.js";
import type * as wire from "./generated/lstm_explain/v1/explanation.js";
import type { Tensor as Message } from "./generated/lstm_explain/v1/tensor.js";
import { fromWire as methodFromWire, type Method } from "./method.js";
import { fromWire as targetFromWire, type Target } from "./target.js";
import { allFromWire, fromWire, type Tensor } from "./tensor.js";

type Floats = Float32Array | Float64Array;

/** Accounts for every sample: explained = inputs + initialStates + absorbed + residual. */
export interface Ledger {
  inputs: Floats;
  initialStates: Floats;
  absorbed: Floats;
  residual: Floats;
  /** `absorbed`, a node each. */
  byNode: Record<string, Floats>;
}

/** One batch, explained. */
export interface Result {
  /** Which model answered. */
  model: string;
  version: string;
  /** By input, of the input's shape; for token ids and text one number a token. */
  relevance: Record<string, Tensor>;
  /** What the model predicted. */
  outputs: Record<string, Tensor>;
  /** The scalar explained, a sample each. */
  explained: Floats;
  /** Relevance of the inner values asked for. */
  captured: Record<string, Tensor>;
  /** The words of inputs sent as text, of the shape of their relevance; padding is the empty string. */
  tokens: Record<string, Tensor>;
  /** Standard error of the relevance, with ShapleySampling. */
  standardError: Record<string, Tensor>;
  /** Where all of `explained` went. */
  ledger: Ledger;
  /** Method and target as the server used them. */
  method: Method | undefined;
  target: Target | undefined;
  /** Why the answer should not be relied on, a sentence each; empty: it can be acted on. */
  warnings: string[];
  /**
   * What `explained` is of the target's output: "output", the output itself; "logit" or "score", the value before its
   * Softmax or Sigmoid, or before its LogSoftmax; "probability", the output made one. Empty: the server is older than
   * this field.
   */
  explainedQuantity: string;
}

/** The result of a response. */
export function fromResponse(response: wire.ExplainResponse): Result {
  const { ledger } = response;
  return {
    model: response.model,
    version: response.version,
    relevance: allFromWire(response.relevance),
    outputs: allFromWire(response.outputs),
    explained: floats(response.explained),
    captured: allFromWire(response.captured),
    tokens: allFromWire(response.tokens),
    standardError: allFromWire(response.standardError),
    ledger: {
      inputs: floats(ledger?.inputs),
      initialStates: floats(ledger?.initialStates),
      absorbed: floats(ledger?.absorbed),
      residual: floats(ledger?.residual),
      byNode: Object.fromEntries((ledger?.byNode ?? []).map((share) => [share.node, floats(share.absorbed)])),
    },
    method: methodFromWire(response.method),
    target: targetFromWire(response.target),
    warnings: response.warnings,
    explainedQuantity: response.explainedQuantity,
  };
}

function floats(message: Message | undefined): Floats {
  if (message === undefined) {
    return new Float64Array();
  }
  const array = fromWire(message);
  if (array.dtype !== "float32" && array.dtype !== "float64") {
    throw new MalformedResponse(`the ledger came as ${array.dtype}`);
  }
  return array.data;
}
