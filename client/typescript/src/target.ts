/** What to explain: one scalar per sample. */

import * as wire from "./generated/lstm_explain/v1/explanation.js";
import { fromWire as tensorFromWire, toWire as tensorToWire, type TensorLike } from "./tensor.js";

/**
 * Selects what to explain: one scalar per sample, taken from one output of the model. Fields that are omitted take the
 * defaults of the model.
 */
export interface Target {
  /** The output's name. */
  output?: string;
  /**
   * A position in the output of one sample, with one number per axis, or the concatenated positions of all samples.
   * Default: the largest entry on the last axis.
   */
  indices?: readonly (number | bigint)[];
  /** A second position. The explained value is output[indices] - output[contrast]. */
  contrast?: readonly (number | bigint)[];
  /**
   * Explains the sum of weights times output. Has the shape of the output of one sample. Cannot be combined with
   * `indices`.
   */
  weights?: TensorLike;
  /** The batch axis of the output; null for a model of one sample without a batch axis. */
  batchAxis?: number | null;
  /** Explains the value before the final activation (such as Softmax, Sigmoid or Exp) of the output. Default: true. */
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
