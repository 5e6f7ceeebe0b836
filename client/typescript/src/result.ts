// SPDX-License-Identifier: Apache-2.0

/** The answer to a request. */

import { MalformedResponse } from "./errors.js";
import type * as wire from "./generated/lstm_explain/v1/explanation.js";
import type { Tensor as Message } from "./generated/lstm_explain/v1/tensor.js";
import { fromWire as groupsFromWire, type GroupRelevance } from "./groups.js";
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
  /** `absorbed`, split by node. */
  byNode: Record<string, Floats>;
}

/** The explanation of one batch. */
export interface Result {
  /** Model and version that answered. */
  model: string;
  version: string;
  /**
   * Maps the name of each input to its relevance, in the shape of the input. For token ids and text, it has one number
   * per token.
   */
  relevance: Record<string, Tensor>;
  /** The prediction, by output name. */
  outputs: Record<string, Tensor>;
  /** The explained value of each sample. */
  explained: Floats;
  /** Relevance of the inner values that the request captures. */
  captured: Record<string, Tensor>;
  /** The tokens of inputs sent as text, in the shape of their relevance. Padding is the empty string. */
  tokens: Record<string, Tensor>;
  /** Standard error of the relevance, for ShapleySampling, GradientShap and draws from a background set. */
  standardError: Record<string, Tensor>;
  /** Accounts for all of `explained`. */
  ledger: Ledger;
  /** The method and the target that the server used. */
  method: Method | undefined;
  target: Target | undefined;
  /** Reasons not to rely on the answer, one sentence each. If empty, the answer can be acted on. */
  warnings: string[];
  /**
   * How `explained` relates to the output of the target: "output" (the output itself), "logit" (the value before its
   * Softmax or Sigmoid), "score" (before LogSoftmax, Exp or Softplus) or "probability" (the output converted to a
   * probability). Empty if the server is older than this field.
   */
  explainedQuantity: string;
  /** A signed record of the answer, if the request asked for one, which `lstm-explain verify` checks; otherwise empty. */
  receipt: string;
  /**
   * For a request with a condition, one text per sample: why it is not explained, or empty. The relevance and ledger of
   * such a sample are NaN.
   */
  notExplained: string[];
  /** The groups that the request asked for, with their relevance. */
  groups: GroupRelevance;
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
    receipt: response.receipt,
    notExplained: response.notExplained,
    groups: groupsFromWire(response.groups),
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
