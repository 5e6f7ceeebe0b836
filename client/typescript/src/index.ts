// SPDX-License-Identifier: Apache-2.0

/** Requests predictions and their explanations from an explanation server. */

export * from "./client.js";
export type { ConnectOptions, Tls, Token } from "./connection.js";
export * from "./errors.js";
export type { ChangePoints, FeatureGroup, GroupRelevance, Groups } from "./groups.js";
export type * from "./method.js";
export type { Import, ModelDetail, ModelRoute, ModelSummary, NodeReport, TensorSpec } from "./models.js";
export { isDone, type Operation, type OperationState, type StartOptions } from "./operations.js";
export type { Request } from "./request.js";
export type { Ledger, Result } from "./result.js";
export type { Answer } from "./stream.js";
export type { Measure, Target } from "./target.js";
export type { Every, TargetSet } from "./targets.js";
export { type Arrays, type Dtype, numbers, type Tensor, tensor, type TensorLike, text } from "./tensor.js";
