// SPDX-License-Identifier: Apache-2.0

/** Operations: explanations and batch jobs that the server keeps until they expire, whether or not anybody waits. */

import { type ExplainError, MalformedResponse, typed } from "./errors.js";
import * as wire from "./generated/lstm_explain/v1/operation.js";
import { fromResponse, type Result } from "./result.js";
import { resultsOf } from "./targets.js";

export type OperationState = "pending" | "running" | "succeeded" | "failed" | "cancelled";

/** An operation as the server last described it. */
export interface Operation {
  /** Identifies the operation in all calls. */
  name: string;
  kind: "explain" | "batch";
  state: OperationState;
  model: string;
  /** The version of the model, which was chosen at the start. */
  version: string;
  /** Runs of the model, or rows of a batch job; absent where nothing is known. */
  progress?: { done: number; total: number };
  /** How often it has begun; more than once where a server or one of its processes ended meanwhile. */
  attempts: number;
  created: Date;
  /** Absent until it has ended, as is `expires`: when the server will remove it. */
  ended?: Date;
  expires?: Date;
  /** The result of an explanation with one target; lists leave results out. */
  result?: Result;
  /** Those of an explanation with several targets. */
  results?: Result[];
  /** What a batch job has done: rows that are explained, that are not, and with a warning, and the largest residual. */
  batch?: { rows: number; failed: number; warned: number; worst: number };
  /** Why there is no result. */
  error?: ExplainError;
}

export interface StartOptions {
  /**
   * A call with the id of an earlier one returns the operation that it started, and is not charged again. Default: a new
   * id.
   */
  requestId?: string;
}

/** Whether an operation has ended, with or without a result. */
export function isDone(operation: Operation): boolean {
  return operation.state === "succeeded" || operation.state === "failed" || operation.state === "cancelled";
}

export function operationOf(message: wire.Operation | undefined): Operation {
  if (message === undefined) {
    throw new MalformedResponse("the server answered without an operation");
  }
  const state = STATES[message.state];
  if (state === undefined) {
    throw new MalformedResponse(`the operation has the unknown state ${message.state}`);
  }
  const operation: Operation = {
    name: message.name,
    kind: message.kind === wire.OperationKind.OPERATION_KIND_BATCH ? "batch" : "explain",
    state,
    model: message.model,
    version: message.version,
    attempts: message.attempts,
    created: new Date(Number(message.createdMs)),
  };
  if (message.progress !== undefined) {
    operation.progress = { done: Number(message.progress.done), total: Number(message.progress.total) };
  }
  if (message.endedMs > 0n) {
    operation.ended = new Date(Number(message.endedMs));
    operation.expires = new Date(Number(message.expiresMs));
  }
  switch (message.result?.$case) {
    case "error": {
      const { code, message: text, field } = message.result.value;
      operation.error = typed(code, text, { field });
      break;
    }
    case "response":
      if (message.result.value.targets.length > 0) {
        operation.results = resultsOf(message.result.value);
      } else {
        operation.result = fromResponse(message.result.value);
      }
      break;
    case "batch": {
      const { rows, failed, warned, worst } = message.result.value;
      operation.batch = { rows: Number(rows), failed: Number(failed), warned: Number(warned), worst };
      break;
    }
    case undefined:
  }
  return operation;
}

const STATES: Partial<Record<wire.OperationState, OperationState>> = {
  [wire.OperationState.OPERATION_STATE_PENDING]: "pending",
  [wire.OperationState.OPERATION_STATE_RUNNING]: "running",
  [wire.OperationState.OPERATION_STATE_SUCCEEDED]: "succeeded",
  [wire.OperationState.OPERATION_STATE_FAILED]: "failed",
  [wire.OperationState.OPERATION_STATE_CANCELLED]: "cancelled",
};
