// SPDX-License-Identifier: Apache-2.0

/** What the server says about its models, and how one is sent there. */

import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { basename } from "node:path";

import * as wire from "./generated/lstm_explain/v1/model.js";
import type { FeatureGroup } from "./groups.js";
import { fromWire as methodFromWire, type Method } from "./method.js";
import { fromWire as targetFromWire, type Target } from "./target.js";
import { dtypeName } from "./tensor.js";

/** One version of a model. `reason` says why the state is "failed". */
export interface ModelSummary {
  name: string;
  version: string;
  state: "unspecified" | "loading" | "ready" | "failed" | "unloaded";
  reason: string;
  description: string;
  /** Over the files of the version: the same wherever the same files are served. */
  digest: string;
  /** Whether this version answers requests that name none. */
  isDefault: boolean;
  /** The share of these requests that it gets as the canary, from 0 to 1. */
  canaryShare: number;
}

/** Which version of a model answers requests that name none. */
export interface ModelRoute {
  /** Empty for the newest version that is ready. */
  defaultVersion: string;
  /** Empty for none. */
  canaryVersion: string;
  /** The share of the requests that the canary gets, from 0 to 1. */
  canaryShare: number;
  /** The default version before the last change of it; in answers only. */
  previousVersion: string;
}

/** An input or output; symbolic axes are strings. */
export interface TensorSpec {
  dtype: string;
  shape: (number | string)[];
}

/** Describes one node of the graph: the rule that LRP uses, or the reason why there is none. */
export interface NodeReport {
  name: string;
  opType: string;
  supported: boolean;
  rule: string;
}

/** A model with its inputs, outputs and defaults. */
export interface ModelDetail extends ModelSummary {
  inputs: Record<string, TensorSpec>;
  outputs: Record<string, TensorSpec>;
  /** Whether LRP supports the model. Perturbation methods support all models. */
  lrpSupported: boolean;
  nodes: NodeReport[];
  defaultMethod: Method | undefined;
  defaultTarget: Target | undefined;
  /** Names of the entries on the last axis, by output and by input. */
  classNames: Record<string, string[]>;
  featureNames: Record<string, string[]>;
  /** Inputs that accept text. */
  textInputs: string[];
  /** Map the name of an input to its batch axis and its time axis. Inputs without that axis are omitted. */
  batchAxes: Record<string, number>;
  timeAxes: Record<string, number>;
  /** Inputs whose batch and time axes are guesses; set them in model.yaml. */
  guessedAxes: string[];
  /**
   * Maps the name of an input or output to its unit: one unit for all entries, or one for each entry on the last axis.
   */
  units: Record<string, string[]>;
  /**
   * Maps the name of an input to the number of samples that the background set of the model has of it. Empty if the
   * model has no background set.
   */
  backgroundSamples: Record<string, number>;
  /**
   * Maps the name of an input to examples of it, as text: a text for an input that accepts text, for others a table as
   * CSV, with a line per time step.
   */
  examples: Record<string, string[]>;
  /** The groups of features that `features: "model"` of Groups stands for. */
  featureGroups: Required<FeatureGroup>[];
}

/** A model to add to the server. */
export interface Import {
  name: string;
  /** Default: the newest version plus one. */
  version?: string;
  /** The model's file. */
  path: string;
  /** The content of model.yaml. */
  config?: string;
  /** Additional files of the model: external weights, or a tokenizer. */
  files?: readonly string[];
}

const STATES: readonly ModelSummary["state"][] = ["unspecified", "loading", "ready", "failed", "unloaded"];
const CHUNK = 1 << 20;

export function summary(message: wire.ModelSummary | undefined): ModelSummary {
  const { name = "", version = "", state = 0, reason = "", description = "" } = message ?? {};
  const { digest = "", isDefault = false, canaryShare = 0 } = message ?? {};
  const known = STATES[state] ?? "unspecified";
  return { name, version, state: known, reason, description, digest, isDefault, canaryShare };
}

export function route(message: wire.ModelRoute | undefined): ModelRoute {
  const { defaultVersion = "", canaryVersion = "", canaryShare = 0, previousVersion = "" } = message ?? {};
  return { defaultVersion, canaryVersion, canaryShare, previousVersion };
}

export function detail(message: wire.ModelDetail | undefined): ModelDetail {
  const said = message ?? wire.ModelDetail.create();
  return {
    ...summary(said.summary),
    inputs: specs(said.inputs),
    outputs: specs(said.outputs),
    lrpSupported: said.lrpSupported,
    nodes: said.nodes.map(({ name, opType, supported, rule }) => ({ name, opType, supported, rule })),
    defaultMethod: methodFromWire(said.defaultMethod),
    defaultTarget: targetFromWire(said.defaultTarget),
    classNames: names(said.classNames),
    featureNames: names(said.featureNames),
    textInputs: said.textInputs,
    batchAxes: said.batchAxes,
    timeAxes: said.timeAxes,
    guessedAxes: said.guessedAxes,
    units: names(said.units),
    backgroundSamples: said.backgroundSamples,
    examples: names(said.examples),
    featureGroups: said.featureGroups.map(({ name, input, features }) => ({ name, input, features })),
  };
}

/** The messages of an import, in order. */
export async function* importMessages(model: Import): AsyncGenerator<wire.ImportModelRequest> {
  const { name, version = "", config: configYaml = "" } = model;
  const start = { name, version, configYaml, ...(await digest(model.path)) };
  yield { part: { $case: "start", value: start } };
  yield* chunks(model.path);
  for (const path of model.files ?? []) {
    yield { part: { $case: "file", value: { name: basename(path), ...(await digest(path)) } } };
    yield* chunks(path);
  }
}

async function digest(path: string): Promise<{ sha256: Buffer; size: bigint }> {
  const hash = createHash("sha256");
  let size = 0;
  for await (const chunk of createReadStream(path)) {
    hash.update(chunk);
    size += chunk.length;
  }
  return { sha256: hash.digest(), size: BigInt(size) };
}

async function* chunks(path: string): AsyncGenerator<wire.ImportModelRequest> {
  for await (const value of createReadStream(path, { highWaterMark: CHUNK })) {
    yield { part: { $case: "chunk", value } };
  }
}

function specs(messages: wire.TensorSpec[]): Record<string, TensorSpec> {
  const extent = ({ dimension }: wire.Dimension) =>
    dimension?.$case === "symbol" ? dimension.value : Number(dimension?.value ?? 0);
  return Object.fromEntries(
    messages.map(({ name, dtype, shape }) => [name, { dtype: dtypeName(dtype), shape: shape.map(extent) }]),
  );
}

function names(messages: Record<string, wire.Names>): Record<string, string[]> {
  return Object.fromEntries(Object.entries(messages).map(([name, { values }]) => [name, values]));
}
