// Names the explained value, as the Python client does.

import { number } from "./scale.js";

// By the answer's explainedQuantity. one: of one entry; mark: beside it in the table; byClass: of a class, its name alone.
const WORDS = {
  logit: { one: "logit of", mark: "its logit is explained", byClass: true },
  score: { one: "score before", mark: "the score before it is explained", byClass: false },
  probability: { one: "probability of", mark: "its probability is explained", byClass: true },
};

/** What was explained, and its value; where that is not the output's own entry, the entry beside it. */
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

/** What stands beside the explained entry in the table of the prediction. */
export function mark(answer) {
  return WORDS[answer.quantity]?.mark ?? "explained";
}

/** Where an entry stands in its output, if that has one axis; else -1. */
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
