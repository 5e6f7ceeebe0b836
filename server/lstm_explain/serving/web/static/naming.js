// SPDX-License-Identifier: Apache-2.0

// Names the explained value, as the Python client does.

import { number } from "./scale.js";

// Words for each explainedQuantity. one: precedes the name of an entry. mark: stands beside the entry in the table.
// byClass: whether a class is called by its name alone.
const WORDS = {
  logit: { one: "logit of", mark: "its logit is explained", byClass: true },
  score: { one: "score before", mark: "the score before it is explained", byClass: false },
  mean_squared_error: { one: "mean squared error of", mark: "its error is explained", byClass: false },
  mean_absolute_error: { one: "mean absolute error of", mark: "its error is explained", byClass: false },
  l1_norm: { one: "L1 norm of", mark: "its norm is explained", byClass: false },
  l2_norm: { one: "L2 norm of", mark: "its norm is explained", byClass: false },
  log_probability: { one: "log-probability of", mark: "its log-probability is explained", byClass: true },
  margin: { one: "margin of", mark: "its margin is explained", byClass: true },
  probability: { one: "probability of", mark: "its probability is explained", byClass: true },
};

/** Returns what was explained and its value, followed by the output's entry where that is another value. */
export function headline(detail, answer) {
  const output = answer.target.output;
  const words = WORDS[answer.quantity];
  const [chosen, against] = [position(answer.target.indices), position(answer.target.contrastIndices)];
  const places = answer.target.contrastIndices?.length ? [chosen, against] : [chosen];
  const what = places.map((at) => called(detail, answer, words, at)).join(" − ");
  const beside = words ? places.filter((at) => at >= 0).map((at) => `${entry(detail, output, at)} = ${number(answer.outputs[output].values[at], false)}`) : [];
  const units = words ? [] : (detail.units?.[output]?.values ?? []);
  const unit = units[chosen] ?? units[0];
  return `${what}: ${number(answer.explained)}${unit ? ` ${unit}` : ""}${beside.length ? ` (${beside.join(", ")})` : ""}`;
}

/** Returns the text beside the explained entry in the table of the prediction. */
export function mark(answer) {
  if (answer.notExplained) return "the target";
  return WORDS[answer.quantity]?.mark ?? "explained";
}

/** Returns the position of an entry in its output, if that has one axis; else -1. */
export function position(indices) {
  return indices?.length === 1 ? Number(indices[0]) : -1;
}

function called(detail, answer, words, at) {
  const output = answer.target.output;
  const name = className(detail, output, at);
  if (words) return `${words.one} ${(words.byClass && name) || entry(detail, output, at)}`;
  if (at < 0) return output;
  return name ?? (answer.outputs[output].values.length > 1 ? `${output} ${at}` : output);
}

function entry(detail, output, at) {
  return at < 0 ? output : `${output}[${className(detail, output, at) ?? at}]`;
}

function className(detail, output, at) {
  return detail.classNames?.[output]?.values?.[at];
}
