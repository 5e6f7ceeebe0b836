// SPDX-License-Identifier: Apache-2.0

// Checks an answer as the server does (verdict.py), except that an output's largest entry stands for its terms, which a
// compiled file does not return. So this page warns in every case in which the server does, and in a few more.

const LARGEST = 10; // a word or number, in units of the explained value
const RESIDUAL = 0.05;
const ABSORBED = 10;
const FLOOR = 0.1; // of the largest entry of the output: the smallest value that the others are compared with

export function warningsOf(method, results, output) {
  const value = results.explained.data[0];
  const most = (values) => values.reduce((top, entry) => Math.max(top, Math.abs(entry)), 0);
  const reference = Math.max(Math.abs(value), FLOOR * most(results[output].data));
  const warnings = [];
  const warn = (text) => warnings.push(`${text}, but the explained value is ${value.toPrecision(3)}`);
  for (const [key, { data }] of Object.entries(results)) {
    if (!key.startsWith("relevance/") || most(data) <= LARGEST * reference) continue;
    warn(`relevance diverges: one entry of input '${key.slice("relevance/".length)}' is ${most(data).toExponential(1)}`);
  }
  if (method !== "lrp") return warnings;
  const [residual, absorbed] = ["residual", "absorbed"].map((key) => Math.abs(results[`ledger/${key}`].data[0]));
  if (residual > RESIDUAL * reference) warn(`relevance is incomplete: ${residual.toExponential(1)} is not accounted for`);
  if (absorbed > ABSORBED * reference) warn(`relevance is absorbed: biases and stabilisers absorb ${absorbed.toExponential(1)}`);
  return warnings;
}
