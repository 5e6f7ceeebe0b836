// SPDX-License-Identifier: Apache-2.0

/** The client. */

import { randomUUID } from "node:crypto";

import { type CallOptions, type ClientUnaryCall, Metadata, type ServiceError } from "@grpc/grpc-js";

import { channelCredentials, clientOptions, type ConnectOptions } from "./connection.js";
import { Cancelled, fromCall, InvalidRequest } from "./errors.js";
import * as explanations from "./generated/lstm_explain/v1/explanation.js";
import * as modelStubs from "./generated/lstm_explain/v1/model.js";
import * as operationStubs from "./generated/lstm_explain/v1/operation.js";
import { detail, type Import, importMessages, type ModelDetail, type ModelRoute, type ModelSummary, route, summary } from "./models.js";
import { isDone, type Operation, operationOf, type StartOptions } from "./operations.js";
import { type Request, toWire as requestToWire } from "./request.js";
import { fromResponse, type Result } from "./result.js";
import { type Answer, feed, streamMessages, toAnswer } from "./stream.js";
import { resultsOf } from "./targets.js";

/** The time limit of a call, and its cancellation. */
export interface Options {
  timeoutMs?: number;
  signal?: AbortSignal;
}

export interface StreamOptions extends Options {
  /** Hears, at most ten times a second, how often the model has run for a long request, and will run in all. */
  onProgress?: (id: string, done: number, total: number) => void;
}

interface Cancellable {
  cancel(): void;
}

type Unary<Q, R> = (
  request: Q,
  metadata: Metadata,
  options: Partial<CallOptions>,
  callback: (error: ServiceError | null, response: R) => void,
) => ClientUnaryCall;

/**
 * Calls an explanation server; nothing is sent before the first call. Every call rejects with an ExplainError.
 *
 * ```ts
 * using client = new Client("127.0.0.1:50051");
 * const result = await client.explain({ model: "sentiment", inputs: { tokens: "not a bad film" } });
 * ```
 */
export class Client implements Disposable {
  readonly #explanations: explanations.ExplanationServiceClient;
  readonly #models: modelStubs.ModelServiceClient;
  readonly #operations: operationStubs.OperationServiceClient;
  readonly #options: ConnectOptions;

  constructor(address: string, options: ConnectOptions = {}) {
    const secured = channelCredentials(address, options);
    this.#options = options;
    this.#explanations = new explanations.ExplanationServiceClient(address, secured, clientOptions(options));
    const shared = { ...clientOptions(options), channelOverride: this.#explanations.getChannel() };
    this.#models = new modelStubs.ModelServiceClient(address, secured, shared);
    this.#operations = new operationStubs.OperationServiceClient(address, secured, shared);
  }

  /** Predicts one batch and explains the prediction. */
  async explain(request: Request, options: Options = {}): Promise<Result> {
    if (request.targets !== undefined) {
      throw new InvalidRequest("explain takes one target; use explainMany", { field: "targets" });
    }
    const message = requestToWire(request);
    return fromResponse(await this.#unary(this.#explanations.explain, this.#explanations, message, options));
  }

  /**
   * Predicts one batch and explains it for several targets in one request: a result per target, in their order. The
   * results share the outputs.
   */
  async explainMany(request: Request, options: Options = {}): Promise<Result[]> {
    const message = requestToWire(request);
    if (message.targets.length === 0) {
      return [];
    }
    return resultsOf(await this.#unary(this.#explanations.explain, this.#explanations, message, options));
  }

  /**
   * Sends many requests over one stream. Answers arrive as soon as they are ready, in any order. A request that fails
   * gets its own error, and the stream continues. This method throws only if the stream itself breaks. Leaving the loop
   * cancels all unanswered requests.
   */
  async *explainStream(
    requests: Iterable<Request> | AsyncIterable<Request>,
    options: StreamOptions = {},
  ): AsyncGenerator<Answer, void, undefined> {
    const call = this.#explanations.explainStream(await this.#metadata(), callOptions(options));
    const release = cancelOn(call, options.signal);
    const unsent: Answer[] = [];
    const sending = this.#send(call, streamMessages(requests, unsent, options.onProgress !== undefined));
    try {
      for await (const response of call as AsyncIterable<explanations.ExplainStreamResponse>) {
        yield* unsent.splice(0);
        if (response.result?.$case === "progress") {
          const { done, total } = response.result.value;
          options.onProgress?.(response.id, Number(done), Number(total));
        } else {
          yield toAnswer(response.id, response.result);
        }
      }
      await sending;
      yield* unsent.splice(0);
    } catch (error) {
      throw fromCall(error);
    } finally {
      release();
      call.cancel();
      await sending.catch(() => undefined);
    }
  }

  /** Lists all models and versions, including those that failed to load. */
  async models(options: Options = {}): Promise<ModelSummary[]> {
    const response = await this.#unary(this.#models.listModels, this.#models, {}, options);
    return response.models.map(summary);
  }

  /** Describes one model: its inputs, outputs and defaults, and what can be explained. */
  async model(name: string, version = "", options: Options = {}): Promise<ModelDetail> {
    const response = await this.#unary(this.#models.getModel, this.#models, { name, version }, options);
    return detail(response.model);
  }

  /** Adds a version of a model. The server must allow imports. */
  async importModel(model: Import, options: Options = {}): Promise<ModelDetail> {
    const metadata = await this.#metadata();
    return await new Promise((resolve, reject) => {
      const call = this.#models.importModel(metadata, callOptions(options), (error, response) => {
        release();
        if (error) {
          reject(fromCall(error));
        } else {
          resolve(detail(response.model));
        }
      });
      const release = cancelOn(call, options.signal);
      call.on("error", () => undefined); // the callback has it too
      feed(call, importMessages(model)).then(
        () => call.end(),
        (error: unknown) => {
          call.cancel();
          reject(error);
        },
      );
    });
  }

  /** Removes one version or all versions of a model. The server must allow it. */
  async deleteModel(name: string, version = "", options: Options = {}): Promise<void> {
    await this.#unary(this.#models.deleteModel, this.#models, { name, version }, options);
  }

  /**
   * Chooses which version of a model answers requests that name none, and a canary that gets a share of them. What is
   * left out is empty. The server must allow it.
   */
  async routeModel(
    name: string,
    { defaultVersion = "", canaryVersion = "", canaryShare = 0 }: Partial<ModelRoute>,
    options: Options = {},
  ): Promise<ModelRoute> {
    const request = { name, defaultVersion, canaryVersion, canaryShare };
    return route((await this.#unary(this.#models.routeModel, this.#models, request, options)).route);
  }

  /**
   * Ends the canary of a model or, if it has none, makes its previous default version the default again. The server
   * must allow it.
   */
  async rollBackModel(name: string, options: Options = {}): Promise<ModelRoute> {
    return route((await this.#unary(this.#models.rollBackModel, this.#models, { name }, options)).route);
  }

  /**
   * Starts an explanation that the server keeps as an operation, whether or not anybody waits for it; it may cost more
   * than a call. The server must keep operations.
   */
  async start(request: Request, options: Options & StartOptions = {}): Promise<Operation> {
    const message = { request: requestToWire(request), requestId: options.requestId ?? randomUUID() };
    return operationOf((await this.#unary(this.#operations.startExplain, this.#operations, message, options)).operation);
  }

  /** Describes an operation that was started before, here or elsewhere with the same token. */
  async operation(name: string, options: Options = {}): Promise<Operation> {
    return operationOf((await this.#unary(this.#operations.getOperation, this.#operations, { name }, options)).operation);
  }

  /** Lists the operations of this caller, the newest first, without their results. */
  async operations(options: Options = {}): Promise<Operation[]> {
    const response = await this.#unary(this.#operations.listOperations, this.#operations, {}, options);
    return response.operations.map(operationOf);
  }

  /** Waits for the end of an operation, for as long as it takes unless the signal is aborted. */
  async waitForOperation(name: string, options: Pick<Options, "signal"> = {}): Promise<Operation> {
    for (;;) {
      const request = { name, timeoutMs: 20_000 };
      const within = { timeoutMs: 30_000, ...options };
      const response = await this.#unary(this.#operations.waitOperation, this.#operations, request, within);
      const operation = operationOf(response.operation);
      if (isDone(operation)) {
        return operation;
      }
    }
  }

  /** Asks the server to end an operation; this does nothing if it has ended. */
  async cancelOperation(name: string, options: Options = {}): Promise<void> {
    await this.#unary(this.#operations.cancelOperation, this.#operations, { name }, options);
  }

  /** Removes an operation that has ended, with its result. */
  async deleteOperation(name: string, options: Options = {}): Promise<void> {
    await this.#unary(this.#operations.deleteOperation, this.#operations, { name }, options);
  }

  /** Closes the connection. */
  close(): void {
    this.#operations.close();
    this.#models.close();
    this.#explanations.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  async #unary<Q, R>(method: Unary<Q, R>, stub: unknown, request: Q, options: Options): Promise<R> {
    const metadata = await this.#metadata();
    const timeoutMs = options.timeoutMs ?? this.#options.timeoutMs ?? 60_000;
    if (options.signal?.aborted) {
      throw new Cancelled("the signal was aborted before the call", { code: 1, cause: options.signal.reason });
    }
    return await new Promise((resolve, reject) => {
      const call = method.call(stub, request, metadata, callOptions({ timeoutMs }), (error, response) => {
        release();
        if (error) {
          reject(fromCall(error));
        } else {
          resolve(response);
        }
      });
      const release = cancelOn(call, options.signal);
    });
  }

  async #send(
    call: { write(message: explanations.ExplainStreamRequest): boolean; end(): void } & NodeJS.EventEmitter,
    messages: AsyncIterable<explanations.ExplainStreamRequest>,
  ): Promise<void> {
    try {
      await feed(call, messages);
    } finally {
      call.end();
    }
  }

  async #metadata(): Promise<Metadata> {
    const metadata = new Metadata();
    const { token } = this.#options;
    if (token !== undefined) {
      metadata.set("authorization", `Bearer ${typeof token === "function" ? await token() : token}`);
    }
    return metadata;
  }
}

function callOptions({ timeoutMs }: Options): Partial<CallOptions> {
  return timeoutMs === undefined ? {} : { deadline: Date.now() + timeoutMs };
}

/** Cancels the call when the signal says so; returns how to stop listening. */
function cancelOn(call: Cancellable, signal: AbortSignal | undefined): () => void {
  const cancel = () => call.cancel();
  if (signal?.aborted) {
    cancel();
  }
  signal?.addEventListener("abort", cancel, { once: true });
  return () => signal?.removeEventListener("abort", cancel);
}
