// SPDX-License-Identifier: Apache-2.0

// Draws the prediction, the ledger, and the comparison of methods as tables.

import { el } from "./dom.js";
import { entries } from "./methods.js";
import { colour, largest, number, percent, share, side } from "./scale.js";
import { term } from "./terms.js";
import { ink } from "./words.js";

const MOST_NODES = 12;

/**
 * One sample's output. explained: the position that is explained, or -1; `label` stands beside it. contrast: the one that it
 * is compared with.
 */
export function prediction(values, names, explained, contrast, caption, label) {
  const top = largest(values);
  const probabilities = names && values.length > 1 ? softmax(values) : null;
  const rows = Array.from(values, (value, i) => {
    const mark = i === explained ? ` ◂ ${label}` : i === contrast ? " ◂ compared with" : "";
    return el(
      "tr",
      { class: i === explained ? "chosen" : null },
      el("th", { scope: "row" }, (names?.[i] ?? `${i}`) + mark),
      el("td", {}, number(value)),
      probabilities ? el("td", { class: "percent" }, percent(probabilities[i], 1)) : null,
      track(value, top),
    );
  });
  const titled = probabilities ? [caption, ", with its ", term("softmax")] : caption;
  return el("table", { class: "bars" }, el("caption", {}, titled), el("tbody", {}, rows));
}

/** Returns null for entries that can be probabilities themselves. */
function softmax(values) {
  if (!values.every(Number.isFinite) || values.every((value) => value >= 0 && value <= 1)) return null;
  const top = Math.max(...values);
  const parts = values.map((value) => Math.exp(value - top));
  const whole = parts.reduce((total, part) => total + part, 0);
  return parts.map((part) => part / whole);
}

/** Draws the ledger of one sample; `ledger` holds numbers. */
export function ledgerTable(explained, ledger, byNode, method) {
  const top = largest([explained, ...Object.values(ledger)]);
  const rows = entries(method).map(([key, label]) => row(term(label), ledger[key], explained, top));
  const table = el(
    "table",
    { class: "bars" },
    el("caption", {}, "Where the explained value went"),
    el("tbody", {}, rows, row(term("explained value"), explained, explained, top, "sum")),
  );
  return [table, nodes(byNode, explained, top)];
}

function nodes(byNode, explained, top) {
  const order = byNode.filter(([, value]) => value !== 0).sort((a, b) => Math.abs(b[1]) - Math.abs(a[1]));
  if (!order.length) return null;
  const rest = order.slice(MOST_NODES);
  const rows = order.slice(0, MOST_NODES).map(([name, value]) => row(name, value, explained, top));
  if (rest.length) rows.push(row(`${rest.length} others`, rest.reduce((sum, [, v]) => sum + v, 0), explained, top));
  return el(
    "details",
    {},
    el("summary", {}, `Kept by each node (${order.length})`),
    el("table", { class: "bars" }, el("caption", { class: "unseen" }, "Kept by each node"), el("tbody", {}, rows)),
  );
}

function row(label, value, whole, top, kind = null) {
  return el(
    "tr",
    { class: kind },
    el("th", { scope: "row" }, label),
    el("td", {}, number(value)),
    el("td", { class: "percent" }, percent(value, whole)),
    track(value, top),
  );
}

const MANY_GROUPS = 24; // rows that scroll by themselves

/** Draws a bar for each group of an input. */
export function groupTable({ name, labels, relevance }, explained) {
  const caption = `Relevance of each group of ${name}`;
  const top = largest(relevance);
  const rows = labels.map((label, i) => row(label, relevance[i], explained, top));
  const table = el("table", { class: "bars groups" }, el("caption", {}, caption), el("tbody", {}, rows));
  return labels.length > MANY_GROUPS ? scrolling(table, caption) : table;
}

/** A bar from the middle, to the right for, to the left (hatched) against. */
function track(value, top) {
  const part = share(value, top);
  const width = Math.abs(part) * 50;
  const place = { left: `${part >= 0 ? 50 : 50 - width}%`, width: `${width}%` };
  return el(
    "td",
    { class: "track", "aria-hidden": "true" },
    el("span", { class: "balance" }, width ? el("i", { class: side(part), style: place }) : null, el("u")),
  );
}

/**
 * labels: of the rows. columns: name and values, one a row, each. Colours are relative to the column.
 * least: a note below, or "".
 */
export function sideBySide(caption, corner, labels, columns, note) {
  const tops = columns.map((column) => largest(column.values));
  const head = columns.map((column) => el("th", { scope: "col" }, column.name));
  const rows = labels.map((label, i) =>
    el(
      "tr",
      {},
      el("th", { scope: "row" }, label),
      columns.map((column, j) => {
        const part = share(column.values[i], tops[j]);
        const style = { "background-color": colour(part) };
        return el("td", { class: `cell ${side(part)} ${ink(part)}`, style }, number(column.values[i]));
      }),
    ),
  );
  const table = el(
    "table",
    { class: "beside" },
    el("caption", {}, caption),
    el("thead", {}, el("tr", {}, el("th", { scope: "col" }, corner), head)),
    el("tbody", {}, rows),
  );
  return [scrolling(table, caption), note ? el("p", { class: "note" }, note) : null];
}

/** Wide content that scrolls by itself, by keyboard too. */
export function scrolling(table, label) {
  return el("div", { class: "scrolling", role: "region", tabindex: "0", "aria-label": label }, table);
}

/** Draws a table of all numbers, for reading and for screen readers. rows: arrays of numbers or texts. */
export function numbersTable(caption, head, rows, most = 400) {
  const shown = rows.slice(0, most);
  const body = shown.map(([label, ...values]) =>
    el("tr", {}, el("th", { scope: "row" }, label), values.map((value) => el("td", {}, number(value)))),
  );
  const table = el(
    "table",
    { class: "numbers" },
    el("caption", {}, caption),
    el("thead", {}, el("tr", {}, head.map((name) => el("th", { scope: "col" }, name)))),
    el("tbody", {}, body),
  );
  const more = rows.length > most ? el("p", { class: "note" }, `The first ${most} of ${rows.length} rows.`) : null;
  return el("details", {}, el("summary", {}, "All numbers"), scrolling(table, caption), more);
}
