// SPDX-License-Identifier: Apache-2.0

// Arranges the results of one sample, or of many, one line each.

import { writeTable } from "./csv.js";
import { el } from "./dom.js";
import { save } from "./downloads.js";
import { headline } from "./naming.js";
import { card, failure, predictionTable, together } from "./results.js";
import { glossary } from "./terms.js";
import { words } from "./words.js";

/**
 * results: one per method and target: `value` (see readAnswer) or `problem`, and `method`.
 * Returns the elements, and the text of the heading with how it was explained.
 */
export function showOne(detail, results) {
  const answers = results.flatMap((result) => result.value ?? []);
  const headings = [...new Set(answers.map((answer) => headline(detail, answer)))];
  const methods = [...new Set(results.map((result) => result.method.name))];
  const heading = headings.length > 1 ? `${headings.length} classes of ${answers[0].target.output}` : headings[0];
  const several = results.length > 1;
  const first = predictionTable(detail, answers[0], headings.length === 1);
  const cards = results.map((result) =>
    result.value ? card(detail, result.value, heading, several ? null : first) : failure(result.method, result.problem),
  );
  const wide = answers[0].pictures.some((picture) => picture.kind !== "words");
  const names = answers.map((answer) => {
    const own = headline(detail, answer).split(":")[0];
    return headings.length === 1 ? answer.method.name : methods.length === 1 ? own : `${answer.method.name}: ${own}`;
  });
  const explained = answers.every((answer) => !answer.notExplained);
  const table = answers.length > 1 && explained ? together(answers, names).filter(Boolean) : [];
  const content = [
    el("h2", {}, heading),
    ...(several ? [el("div", { class: "card" }, first)] : []),
    el("div", { class: `cards ${wide ? "wide" : ""}` }, cards),
    ...(table.length ? [el("section", { class: "card", "aria-label": "Side by side" }, el("h3", {}, "Side by side"), table)] : []),
    glossary(),
  ];
  const how = several ? `${answers.length === results.length ? "" : `${answers.length} of `}${methods.length === 1 ? `${results.length} answers` : `${results.length} methods`}` : answers[0].method.name;
  return { content, heading: `${heading}, by ${how}` };
}

/** forms: what was asked. results: of each of them, as showOne takes them. Each line opens to the whole result. */
export function showLines(detail, forms, results) {
  const lines = forms.map(({ given }, i) => line(detail, given[0].label, results[i]));
  const button = el("button", { type: "button", click: () => save(new Blob([tableOf(forms, results)], { type: "text/csv" }), `${detail.summary.name}.csv`) }, "Download all as CSV");
  const heading = `${forms.length} samples`;
  const content = [el("h2", {}, heading), el("div", { class: "row tools" }, button), el("div", { class: "card" }, lines), glossary()];
  return { content, heading };
}

function line(detail, label, results) {
  const [first] = results;
  if (!first.value) return el("div", { class: "line" }, el("strong", {}, label), el("p", { class: "problem" }, first.problem));
  const [picture] = first.value.pictures;
  const whole = el("div", {});
  const opened = (event) => {
    if (event.target.open && !whole.childElementCount) whole.append(...showOne(detail, results).content.slice(1, -1));
  };
  return el(
    "div",
    { class: "line" },
    el("strong", {}, picture.kind === "words" ? headline(detail, first.value) : `${label}: ${headline(detail, first.value)}`),
    first.value.notExplained ? el("p", { class: "note" }, `Not explained: ${first.value.notExplained}.`)
    : picture.kind === "words" ? words(picture.labels, picture.relevance)[0]
    : null,
    el("details", { toggle: opened }, el("summary", {}, "The whole result"), whole),
  );
}

/** A row per element: the sample, the method, the explained value, the step, the feature, the relevance. */
function tableOf(forms, results) {
  const rows = results.flatMap((list, i) =>
    list.flatMap(({ value }) => (value ? value.pictures.flatMap((p) => elements(p).map((cells) => [i, forms[i].given[0].label, value.method.name, value.explained, ...cells])) : [])),
  );
  return writeTable(["sample", "label", "method", "explained", "step", "feature", "relevance"], rows);
}

function elements(picture) {
  if (picture.kind === "words") return picture.labels.map((label, step) => [step, label, picture.relevance[step]]);
  return picture.rows.flatMap((row, step) => row.map((value, feature) => [picture.steps?.[step] ?? step, picture.names[feature], value]));
}
