// SPDX-License-Identifier: Apache-2.0

/** Several targets of one request. */

import { MalformedResponse } from "./errors.js";
import type * as wire from "./generated/lstm_explain/v1/explanation.js";
import type { Tensor as Message } from "./generated/lstm_explain/v1/tensor.js";
import { fromResponse, type Result } from "./result.js";
import { type Target, toWire as targetToWire } from "./target.js";

/** A target for every entry of an output along one of its axes, such as every class or every step of a forecast. */
export interface Every {
  /**
   * The axis, counted in the output of one sample (the output without its batch axis): 0 for steps; -1, the last one,
   * for classes. Default: -1.
   */
  axis?: number;
  /** Positions on the axis. Default: all of them. */
  entries?: readonly (number | bigint)[];
  /**
   * What the targets have in common: the output, its batch axis, `preActivation` and, in `indices`, one position on the
   * other axes. Without `indices`, every target is the largest entry on the last of the other axes.
   */
  target?: Target;
}

/** One target, one for every entry of an axis, or the default target of the model (undefined). */
export type TargetSet = Target | number | { every: Every } | undefined;

/** The messages of several targets. */
export function toWire(targets: readonly TargetSet[]): wire.TargetSet[] {
  return targets.map((said) => {
    if (said === undefined) {
      return { targets: undefined };
    }
    if (typeof said === "number" || !("every" in said)) {
      return { targets: { $case: "target", value: targetToWire(said) } };
    }
    const { axis, entries = [], target } = said.every;
    const value = { axis, entries: entries.map(BigInt), target: target && targetToWire(target) };
    return { targets: { $case: "every", value } };
  });
}

/** The results of a response to several targets, in their order. They share the outputs and the tokens. */
export function resultsOf(response: wire.ExplainResponse): Result[] {
  if (response.targets.length === 0) {
    throw new MalformedResponse("the answer is for one target: the server is older than requests with several targets");
  }
  const first = fromResponse(answerFor(response, 0, true));
  const { outputs, tokens } = first;
  const others = response.targets.slice(1).map((_, i) => fromResponse(answerFor(response, i + 1, false)));
  return [first, ...others.map((result) => ({ ...result, outputs, tokens }))];
}

/** The answer for one of several targets, as a request for it alone would get it. whole: with outputs and tokens. */
function answerFor(response: wire.ExplainResponse, number: number, whole: boolean): wire.ExplainResponse {
  const targets = response.targets.length;
  const own = response.targets[number] as wire.TargetAnswer;
  const part = (tensor: Message): Message => {
    if (tensor.shape[0] !== BigInt(targets) || tensor.data.length % targets !== 0) {
      throw new MalformedResponse(`tensor "${tensor.name}" has the shape ${tensor.shape}, expected ${targets} targets in front`);
    }
    const size = tensor.data.length / targets;
    return { ...tensor, shape: tensor.shape.slice(1), data: tensor.data.subarray(number * size, (number + 1) * size) };
  };
  const some = (tensor: Message | undefined) => tensor && part(tensor);
  const { ledger } = response;
  return {
    ...response,
    outputs: whole ? response.outputs : [],
    tokens: whole ? response.tokens : [],
    explained: some(response.explained),
    relevance: response.relevance.map(part),
    captured: response.captured.map(part),
    standardError: response.standardError.map(part),
    ledger: ledger && {
      inputs: some(ledger.inputs),
      initialStates: some(ledger.initialStates),
      absorbed: some(ledger.absorbed),
      residual: some(ledger.residual),
      byNode: ledger.byNode.map(({ node, absorbed }) => ({ node, absorbed: some(absorbed) })),
    },
    groups: response.groups && {
      ...response.groups,
      relevance: response.groups.relevance.map(part),
      standardError: response.groups.standardError.map(part),
    },
    target: own.target,
    warnings: own.warnings,
    explainedQuantity: own.explainedQuantity,
    stepsUsed: own.stepsUsed,
    notExplained: own.notExplained,
    targets: [],
  };
}
