// SPDX-License-Identifier: Apache-2.0

// Shows results: the prediction, a card for each method, and a table of all methods.

import { downloads } from "./downloads.js";
import { el } from "./dom.js";
import { rowsOf } from "./inputs.js";
import { matrix } from "./matrix.js";
import { headline, mark, position } from "./naming.js";
import { described, methodOf } from "./methods.js";
import { number } from "./scale.js";
import { groupTable, ledgerTable, numbersTable, prediction, sideBySide } from "./tables.js";
import { decode } from "./tensor.js";
import { words } from "./words.js";

const MOST_CLASSES = 200;

/**
 * An answer made ready to draw, for its one sample. given: what the form read, an input each. through: of the request.
 */
export function readAnswer(answer, given, milliseconds, through = []) {
  const one = (tensor) => decode(tensor).values[0];
  const tokens = Object.fromEntries((answer.tokens ?? []).map((tensor) => [tensor.name, decode(tensor).values]));
  const errors = (answer.standardError ?? []).flatMap((tensor) => Array.from(decode(tensor).values));
  return {
    model: `${answer.model} version ${answer.version}`,
    method: methodOf(answer.method),
    settings: described(answer.method),
    unit: unitOf(answer.method),
    milliseconds,
    explained: one(answer.explained),
    ledger: Object.fromEntries(
      ["inputs", "initialStates", "absorbed", "residual"].map((key) => [key, one(answer.ledger[key])]),
    ),
    byNode: (answer.ledger.byNode ?? []).map((share) => [share.node, one(share.absorbed)]),
    quantity: answer.explainedQuantity ?? "",
    warnings: answer.warnings ?? [],
    target: answer.target,
    outputs: Object.fromEntries(answer.outputs.map((tensor) => [tensor.name, decode(tensor)])),
    pictures: (answer.relevance ?? []).map((tensor) => picture(decode(tensor), given, tokens[tensor.name])),
    groups: groupsOf(answer.groups),
    notExplained: answer.notExplained?.[0] ?? "",
    through: through.map(({ value, units }) => `${value}=${units.join(",")}`).join("; "),
    error: errors.filter(Number.isFinite).reduce((a, b) => Math.max(a, b), 0),
  };
}

/** The groups of each input, with their relevance. */
function groupsOf(message) {
  return (message?.relevance ?? []).map((tensor, i) => {
    const [{ values: names }, { values }] = [decode(message.names[i]), decode(tensor)];
    const has = names.flatMap((name, at) => (name ? [at] : []));
    return { name: tensor.name, labels: has.map((at) => names[at]), relevance: has.map((at) => values[at]) };
  });
}

/** One input's relevance: words with a number each, or a table. */
function picture({ name, shape, values }, given, tokens) {
  const { plan, table } = given.find((input) => input.plan.name === name);
  const relevance = Array.from(values);
  if (tokens) return { name, kind: "words", labels: tokens, relevance };
  const rows = rowsOf(plan, shape, relevance);
  const names = plan.names ?? table.names ?? rows[0].map((_, i) => `feature ${i}`);
  return { name, kind: "table", relevance, rows, values: table.rows, names, steps: table.labels, units: plan.units };
}

/** What a method gives one value to: "steps", "features" or "cells". */
function unitOf(method) {
  const known = methodOf(method);
  const over = method?.[known?.key]?.over;
  return over?.replace("PLAYERS_", "").toLowerCase() ?? known?.unit ?? "cells";
}

/**
 * The table to draw. A method that values whole steps or features shares each value equally over its entries, which
 * would look like a finding about them: their total is drawn instead.
 */
function byUnit(p, unit) {
  const total = (values) => values.reduce((sum, value) => sum + value, 0);
  if (unit === "groups") return []; // their bars say everything
  if (p.kind === "words") return p;
  if (unit === "steps" && p.names.length > 1) {
    return { ...p, rows: p.rows.map((row) => [total(row)]), values: null, names: ["per step"], units: null };
  }
  if (unit === "features" && p.rows.length > 1) {
    return { ...p, rows: [p.names.map((_, i) => total(p.rows.map((row) => row[i])))], values: null, steps: ["all steps"] };
  }
  return p;
}

/** marked: whether the explained entry is marked. */
export function predictionTable(detail, answer, marked = true) {
  const output = answer.target.output;
  const { values } = answer.outputs[output];
  const shown = Array.from(values).slice(0, MOST_CLASSES);
  const names = detail.classNames?.[output]?.values ?? (values.length === 1 ? [output] : null);
  const [chosen, contrast] = marked ? [position(answer.target.indices), position(answer.target.contrastIndices)] : [-1, -1];
  return prediction(shown, names, chosen, contrast, `Prediction: ${output}`, mark(answer));
}

/** The card of a method; `beside` stands next to the ledger. heading: what the page says was explained. */
export function card(detail, answer, heading, beside = null) {
  const own = headline(detail, answer);
  const drawn = answer.notExplained ? [] : answer.pictures.flatMap((p) => byUnit(p, answer.unit));
  const ledger = answer.notExplained ? null : ledgerTable(answer.explained, answer.ledger, answer.byNode, answer.method);
  const made = el(
    "article",
    { class: "card", "data-method": answer.method.key },
    el("h3", {}, answer.method.name),
    own === heading ? null : el("p", { class: "explained" }, own),
    answer.warnings.length ? el("ul", { class: "warnings", "aria-label": "Warnings" }, answer.warnings.map((text) => el("li", {}, `Warning: ${text}`))) : null,
    answer.notExplained ? el("p", {}, `Not explained, by the condition: ${answer.notExplained}.`) : null,
    answer.through ? el("p", { class: "note" }, `Only the relevance that passes through ${answer.through}.`) : null,
    drawn.map((p) => [
      drawn.length > 1 ? el("h4", {}, p.name) : null,
      p.kind === "words" ? words(p.labels, p.relevance) : matrix({ ...p, relevance: p.rows }, p.units),
    ]).flat(2),
    answer.groups.map((groups) => groupTable(groups, answer.explained)),
    el("div", { class: "pair" }, beside, ledger ? el("div", {}, ledger) : null),
    drawn.map((p) => allNumbers(p, answer.method)),
    el("p", { class: "note" }, [answer.model, answer.settings, ...error(answer), `${answer.milliseconds} ms`].filter(Boolean).join(" · ")),
    answer.notExplained ? null : downloads(answer, `${detail.summary.name}-${answer.method.key}`, () => made),
  );
  return made;
}

/** Draws a card that says why there is no explanation. */
export function failure(method, message) {
  return el("article", { class: "card" }, el("h3", {}, method.name), el("p", { class: "problem" }, message));
}

/** Draws one table of all answers, with a row per word or per feature. names: of the answers. */
export function together(answers, names) {
  if (answers[0].groups.length) return answers[0].groups.flatMap((_, i) => groupsTogether(answers.map((answer) => answer.groups[i]), names));
  return answers[0].pictures.map((first, i) => {
    const pictures = answers.map((answer) => answer.pictures[i]);
    const kept = first.kind === "words" ? first.labels.flatMap((label, at) => (label ? [at] : [])) : first.names.map((_, at) => at);
    const labels = kept.map((at) => (first.kind === "words" ? first.labels : first.names)[at]);
    const values = (p) => (p.kind === "words" ? kept.map((at) => p.relevance[at]) : kept.map((at) => p.rows.reduce((sum, row) => sum + row[at], 0)));
    const columns = pictures.map((p, j) => ({ name: names[j], values: values(p) }));
    const note = alike(pictures, names, "elements");
    const what = first.kind === "words" ? "Relevance of each word" : `Relevance of each feature of ${first.name}, summed over time`;
    return sideBySide(what, first.kind === "words" ? "word" : "feature", labels, columns, note);
  }).flat();
}

function groupsTogether(each, names) {
  const columns = each.map(({ relevance }, j) => ({ name: names[j], values: relevance }));
  return sideBySide(`Relevance of each group of ${each[0].name}`, "group", each[0].labels, columns, alike(each, names, "groups"));
}

/** Says how the relevance of the others is correlated with that of the first one. */
function alike([first, ...others], names, over) {
  const each = others.map((other, j) => {
    const r = correlation(first.relevance, other.relevance);
    return r === null ? "" : `${names[j + 1]} ${number(r)}`;
  });
  const listed = each.filter(Boolean).join(", ");
  return listed ? `Correlation with ${names[0]}, over all ${over}: ${listed}.` : "";
}

/** Computes Pearson's correlation; null if one of the two does not vary. */
export function correlation(a, b) {
  const mean = (x) => x.reduce((sum, value) => sum + value, 0) / x.length;
  const [ma, mb] = [mean(a), mean(b)];
  let [ab, aa, bb] = [0, 0, 0];
  for (let i = 0; i < a.length; i++) {
    ab += (a[i] - ma) * (b[i] - mb);
    aa += (a[i] - ma) ** 2;
    bb += (b[i] - mb) ** 2;
  }
  return aa && bb ? ab / Math.sqrt(aa * bb) : null;
}

function allNumbers(p, method) {
  if (p.kind === "words") return null;
  const rows = p.rows.map((row, i) => [p.steps?.[i] ?? `${i}`, ...row]);
  return numbersTable(`Relevance of ${p.name} by ${method.name}`, ["step", ...p.names], rows);
}

function error(answer) {
  return answer.error ? [`standard error up to ${number(answer.error, false)}`] : [];
}
