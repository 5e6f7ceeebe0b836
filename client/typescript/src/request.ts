// SPDX-License-Identifier: Apache-2.0

/** A request for an explanation. */

import { InvalidRequest } from "./errors.js";
import type { ExplainRequest } from "./generated/lstm_explain/v1/explanation.js";
import { type Groups, toWire as groupsToWire } from "./groups.js";
import { type Method, toWire as methodToWire } from "./method.js";
import { type Target, toWire as targetToWire } from "./target.js";
import { type TargetSet, toWire as targetsToWire } from "./targets.js";
import { allToWire, type TensorLike } from "./tensor.js";

/** A request for one explanation. */
export interface Request {
  model: string;
  /** Default: the newest version that is ready. */
  version?: string;
  /**
   * One tensor for each input, by name, including the batch axis. An input with a tokenizer also accepts texts, one per
   * sample.
   */
  inputs: Record<string, TensorLike>;
  /** Default: the default of the model. */
  method?: Method;
  /** A number is a position in the default output. Default: the default of the model. */
  target?: Target | number;
  /** Several targets, for `explainMany` and in streams. */
  targets?: readonly TargetSet[];
  /** Names of inner values whose relevance the result also contains. */
  capture?: readonly string[];
  /** Asks for a receipt of the answer. The server needs a key to sign it. */
  receipt?: boolean;
  /**
   * What the prediction of a sample must meet to be explained, such as "probability > 0.8" or "class is positive and
   * explained > 3". Other samples are only predicted; `notExplained` of the result says why.
   */
  condition?: string;
  /** Asks for the relevance of groups of entries, which are the players of occlusion and shapleySampling. */
  groups?: Groups;
  /** By inner value (as in `capture`), the units that relevance passes through. That of other units is absorbed. */
  through?: Record<string, readonly (number | bigint)[]>;
  /** Identifies the answer in a stream. By default, the position of the request in the stream, from "0". */
  id?: string;
}

/** The message of a request. */
export function toWire(request: Request): ExplainRequest {
  if (!request.model) {
    throw new InvalidRequest("model: the name is empty", { field: "model" });
  }
  return {
    model: request.model,
    version: request.version ?? "",
    inputs: allToWire(request.inputs, "inputs"),
    method: request.method && methodToWire(request.method),
    target: request.target === undefined ? undefined : targetToWire(request.target),
    capture: [...(request.capture ?? [])],
    parameters: {},
    targets: targetsToWire(request.targets ?? []),
    receipt: request.receipt ?? false,
    condition: request.condition ?? "",
    groups: request.groups && groupsToWire(request.groups),
    through: Object.entries(request.through ?? {}).map(([value, units]) => ({ value, units: units.map(BigInt) })),
  };
}
