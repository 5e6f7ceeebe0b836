/** What is explained: one scalar a sample. */

import * as wire from "./generated/lstm_explain/v1/explanation.js";
import { fromWire as tensorFromWire, toWire as tensorToWire, type TensorLike } from "./tensor.js";

/** A scalar a sample, taken from one output of the model. What is left out is the model's default. */
export interface Target {
  /** The output's name. */
  output?: string;
  /**
   * A position in one sample's output, one number for each of its axes, or one such position after another for every
   * sample. Default: the largest entry on the last axis.
   */
  indices?: readonly (number | bigint)[];
  /** A second position: output[indices] - output[contrast] is explained. */
  contrast?: readonly (number | bigint)[];
  /** Explains the sum of weights times output; of the shape of one sample's output. Excludes `indices`. */
  weights?: TensorLike;
  /** The output's axis along which samples lie; null for a model of one sample without such an axis. */
  batchAxis?: number | null;
  /** Explain the value before a Softmax, LogSoftmax or Sigmoid at the output's end; default true. */
  preActivation?: boolean;
}

/** The message of a target; a number is a position in the default output. */
export function toWire(target: Target | number): wire.Target {
  const said: Target = typeof target === "number" ? { indices: [target] } : target;
  return {
    output: said.output ?? "",
    indices: (said.indices ?? []).map(BigInt),
    contrastIndices: (said.contrast ?? []).map(BigInt),
    weights: said.weights === undefined ? undefined : tensorToWire(said.weights, "", "target.weights"),
    batchAxis: said.batchAxis ?? undefined,
    noBatchAxis: said.batchAxis === null,
    preActivation: said.preActivation,
  };
}

/** The target of a message. */
export function fromWire(message: wire.Target | undefined): Target | undefined {
  return (
    message && {
      output: message.output || undefined,
      indices: message.indices.map(Number),
      contrast: message.contrastIndices.map(Number),
      weights: message.weights && tensorFromWire(message.weights),
      batchAxis: message.noBatchAxis ? null : message.batchAxis,
      preActivation: message.preActivation,
    }
  );
}
