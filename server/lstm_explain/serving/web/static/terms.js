// SPDX-License-Identifier: Apache-2.0

// Explains the words of the results: on hover, and in a list that touch and keyboard reach.

import { el } from "./dom.js";

const TERMS = {
  relevance: "The part of the explained value that an input element receives. Positive relevance speaks for the value, negative relevance against it.",
  "explained value": "The number that the relevance adds up to: an entry of the output, or the value before the final softmax or sigmoid (the logit).",
  "the inputs": "The sum of the relevance of everything that you entered.",
  "constant initial states": "The relevance of states that the model starts from, which are part of the model and not of your input.",
  "kept by biases and stabilisers": "The part of the value that comes from the model's biases, or that LRP's stabilisers hold back where terms nearly cancel. No input receives it.",
  rounding: "What is left after everything else: the rounding of the computation.",
  "score of the baseline": "The explained value for the baseline, an input that stands for “nothing there”. The method explains the difference to it.",
  "what is not linear": "What a derivative at one point does not account for.",
  "what the units do together": "What changes only if several elements are removed at once, so that no element alone receives it.",
  softmax: "The entries as probabilities that add up to 100 %.",
  LRP: "Layer-wise relevance propagation: passes the explained value back through the model, layer by layer (Arras et al. 2019).",
  correlation: "1: two methods agree on every element up to a factor. 0: they have nothing in common. −1: they say the opposite.",
};

/** A label with its explanation, if there is one. */
export function term(label) {
  const text = TERMS[label];
  return text ? el("abbr", { title: text }, label) : label;
}

/** All explanations. */
export function glossary() {
  const rows = Object.entries(TERMS).flatMap(([label, text]) => [el("dt", {}, label), el("dd", {}, text)]);
  return el("details", { class: "terms" }, el("summary", {}, "What these words mean"), el("dl", {}, rows));
}
