// SPDX-License-Identifier: Apache-2.0

/** What a case asks. */

import type { Measure, Method, ModelRoute, Request, Target, TargetSet, Tensor, TensorLike } from "../src/index.js";

// Cases are data without a type.
// eslint-disable-next-line @typescript-eslint/no-explicit-any
export type Json = any;

function toTensor({ dtype, shape, data }: Json): Tensor {
  const make: Record<string, (data: Json[]) => Json> = {
    float32: (d) => Float32Array.from(d),
    float64: (d) => Float64Array.from(d),
    float16: (d) => new Uint16Array(d.length), // of no case do the values matter
    int32: (d) => Int32Array.from(d),
    int64: (d) => BigInt64Array.from(d.map(BigInt)),
  };
  return { dtype, shape, data: make[dtype]?.(data) ?? data };
}

function allTensors(json: Json): Record<string, TensorLike> {
  return Object.fromEntries(Object.entries(json).map(([name, value]) => [name, toTensor(value)]));
}

export const camel = (name: string) => name.replace(/_(\w)/g, (_, letter: string) => letter.toUpperCase());

function toMethod(json: Json): Method | undefined {
  if (json === undefined) {
    return undefined;
  }
  const parameters = Object.entries(json.parameters ?? {}).map(([name, value]) => [camel(name), name === "baseline" ? allTensors(value) : value]);
  return { name: camel(json.name), ...Object.fromEntries(parameters) } as Method;
}

export function toTarget(json: Json): Target | undefined {
  return (
    json && {
      output: json.output,
      indices: json.indices,
      contrast: json.contrast_indices,
      weights: json.weights && toTensor(json.weights),
      batchAxis: json.no_batch_axis ? null : json.batch_axis,
      preActivation: json.pre_activation,
      measure: toMeasure(json.measure),
    }
  );
}

function toMeasure(json: Json): Measure | undefined {
  if (json === undefined) {
    return undefined;
  }
  const { kind, input, tensor, ahead, blank } = json;
  const reference = input ? { input } : tensor && { tensor: toTensor(tensor) };
  return { kind: camel(kind) as Measure["kind"], reference, ahead, blank };
}

function toTargetSet({ target, every }: Json): TargetSet {
  return every ? { every: { ...every, target: toTarget(every.target) } } : toTarget(target);
}

export function toRequest(json: Json, id?: string): Request {
  const { model, version, capture, receipt, condition, groups, through } = json;
  return {
    id,
    model,
    version,
    capture,
    receipt,
    condition,
    through,
    groups: groups && { ...groups, changePoints: groups.change_points },
    inputs: allTensors(json.inputs),
    method: toMethod(json.method),
    target: toTarget(json.target),
    targets: json.targets?.map(toTargetSet),
  };
}

export function toRoute(said: Json): ModelRoute {
  return {
    defaultVersion: said.default_version,
    canaryVersion: said.canary_version,
    canaryShare: said.canary_share,
    previousVersion: said.previous_version ?? "",
  };
}
