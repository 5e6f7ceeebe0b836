// SPDX-License-Identifier: Apache-2.0

/** What goes over a stream, and what comes back. */

import { once } from "node:events";

import { ExplainError, MalformedResponse, typed } from "./errors.js";
import type { ExplainStreamRequest, ExplainStreamResponse } from "./generated/lstm_explain/v1/explanation.js";
import { type Request, toWire as requestToWire } from "./request.js";
import { fromResponse, type Result } from "./result.js";
import { resultsOf } from "./targets.js";

/** The answer to one request of a stream: a result, the results of a request with `targets`, or an error. */
export type Answer =
  | { id: string; result: Result; results?: undefined; error?: undefined }
  | { id: string; results: Result[]; result?: undefined; error?: undefined }
  | { id: string; error: ExplainError; result?: undefined; results?: undefined };

/** The client itself answers requests that cannot be built, as the server would. */
export async function* streamMessages(
  requests: Iterable<Request> | AsyncIterable<Request>,
  unsent: Answer[],
  progress: boolean,
): AsyncGenerator<ExplainStreamRequest> {
  let number = 0;
  for await (const item of requests) {
    const id = item.id ?? String(number);
    number += 1;
    try {
      yield { id, request: requestToWire(item), progress };
    } catch (error) {
      if (!(error instanceof ExplainError)) {
        throw error;
      }
      unsent.push({ id, error });
    }
  }
}

/** Writes what comes, no faster than it is taken. Stops when the call has ended. */
export async function feed<T>(call: { write(message: T): boolean } & NodeJS.EventEmitter, messages: AsyncIterable<T>): Promise<void> {
  let ended = false;
  const end = once(call, "status").then(
    () => (ended = true),
    () => (ended = true),
  );
  for await (const message of messages) {
    if (ended) {
      return;
    }
    if (!call.write(message)) {
      await Promise.race([once(call, "drain"), end]);
    }
  }
}

type Received = Exclude<ExplainStreamResponse["result"], { $case: "progress" }>;

export function toAnswer(id: string, result: Received): Answer {
  if (result?.$case === "error") {
    const { code, message, field } = result.value;
    return { id, error: typed(code, message, { field }) };
  }
  try {
    if (result === undefined) {
      throw new MalformedResponse(`the answer to "${id}" is empty`);
    }
    const { value } = result;
    return value.targets.length > 0 ? { id, results: resultsOf(value) } : { id, result: fromResponse(value) };
  } catch (error) {
    if (error instanceof ExplainError) {
      return { id, error };
    }
    throw error;
  }
}
