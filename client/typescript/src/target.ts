// SPDX-License-Identifier: Apache-2.0

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
  /** Explains a number of the whole output instead of an entry. */
  measure?: Measure;
}

/** A number of the output of each sample: an error, a norm, or the probability of an entry. */
export interface Measure {
  /**
   * An error against the reference, a norm of all entries, or the probability of the entry at the target's `indices` by
   * the softmax over the last axis, or its logarithm. "pathScore" is the sum along a path whose labels the target's
   * `indices` are, one per step; by default the best path.
   */
  kind: "meanSquaredError" | "meanAbsoluteError" | "l1Norm" | "l2Norm" | "logProbability" | "probability" | "pathScore";
  /**
   * For an error: the name of an input, or an array of the shape of the output or of that of one sample. For a path: an
   * array of what the best one gains from one label to the next.
   */
  reference?: { input: string } | { tensor: TensorLike };
  /** For an error against an input: how many time steps the output is ahead of it. */
  ahead?: number;
  /** For a path: the label that CTC drops. The target's `indices` are then labels without blanks. */
  blank?: number;
}

const KINDS: Record<Measure["kind"], wire.MeasureKind> = {
  meanSquaredError: wire.MeasureKind.MEASURE_KIND_MEAN_SQUARED_ERROR,
  meanAbsoluteError: wire.MeasureKind.MEASURE_KIND_MEAN_ABSOLUTE_ERROR,
  l1Norm: wire.MeasureKind.MEASURE_KIND_L1_NORM,
  l2Norm: wire.MeasureKind.MEASURE_KIND_L2_NORM,
  logProbability: wire.MeasureKind.MEASURE_KIND_LOG_PROBABILITY,
  probability: wire.MeasureKind.MEASURE_KIND_PROBABILITY,
  pathScore: wire.MeasureKind.MEASURE_KIND_PATH_SCORE,
};

function measureToWire({ kind, reference, ahead = 0, blank }: Measure): wire.Measure {
  const out: wire.Measure = { kind: KINDS[kind], reference: undefined, ahead, blank };
  if (reference !== undefined && "input" in reference) {
    out.reference = { $case: "input", value: reference.input };
  } else if (reference !== undefined) {
    out.reference = { $case: "tensor", value: tensorToWire(reference.tensor, "", "target.measure.tensor") };
  }
  return out;
}

function measureFromWire({ kind, reference, ahead, blank }: wire.Measure): Measure | undefined {
  const name = (Object.keys(KINDS) as Measure["kind"][]).find((one) => KINDS[one] === kind);
  return name && { kind: name, reference: reference?.$case === "input" ? { input: reference.value } : undefined, ahead, blank };
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
    measure: said.measure && measureToWire(said.measure),
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
      measure: message.measure && measureFromWire(message.measure),
    }
  );
}
