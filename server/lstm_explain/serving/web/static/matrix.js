// SPDX-License-Identifier: Apache-2.0

// Draws a time-by-feature heatmap as an SVG that fills its container, and redraws it when the width changes.

import { el, svg } from "./dom.js";
import { grid, label, ticks } from "./grid.js";
import { FAINT, colour, largest, number, share, side } from "./scale.js";
import { ink, legend } from "./words.js";

const MOST_FEATURES = 16;
const LEAST_CELL = 9; // pixels; narrower steps are drawn as a strip with bars
const LEAST_WIDTH = 260;
const LEVELS = 24; // shades in a strip

/** Draws as soon as it is in the page, so that what follows is at its final place in the first frame. */
class HeatMap extends HTMLElement {
  #drawn = 0;
  #resized = new ResizeObserver(() => this.#draw());

  connectedCallback() {
    this.#draw();
    this.#resized.observe(this);
  }

  disconnectedCallback() {
    this.#resized.disconnect();
  }

  #draw() {
    const width = Math.max(LEAST_WIDTH, Math.floor(this.clientWidth));
    if (width === this.#drawn || !this.table) return;
    this.#drawn = width;
    this.replaceChildren(...picture(this.table, this.units, width));
  }
}
customElements.define("heat-map", HeatMap);

/** Draws the heatmap. table: see grid(). units: one text per feature, or null. */
export function matrix(table, units) {
  return Object.assign(el("heat-map", { class: "matrix" }), { table, units });
}

function picture(table, units, width) {
  const narrow = width < 560;
  const frame = { left: narrow ? 96 : 132, right: narrow ? 64 : 84 };
  frame.plot = width - frame.left - frame.right;
  const made = grid(table, MOST_FEATURES, frame.plot);
  const top = largest(made.relevance.slice(0, made.kept).flat());
  const inCells = frame.plot / made.columns >= LEAST_CELL;
  const rows = made.names.slice(0, made.kept).map((_, row) => (inCells ? cellRow : stripRow)(made, row, top, frame, units));
  const parts = [say(frame.left + frame.plot + 10, 9, "sum", { class: "small" })];
  let y = 16;
  for (const [height, content] of [...rows, ...sumRows(made, frame)]) {
    parts.push(svg("g", { transform: `translate(0 ${y})` }, content));
    y += height;
  }
  parts.push(svg("g", { transform: `translate(0 ${y})` }, axis(made, frame, inCells)));
  const drawing = svg("svg", { width, height: y + 24, viewBox: `0 0 ${width} ${y + 24}`, role: "img", "aria-label": summary(made) }, parts);
  const note = made.every > 1 ? el("p", { class: "note" }, `Each column is the sum of ${made.every} steps.`) : null;
  return [drawing, legend(top), ...(note ? [note] : [])];
}

/** The picture in words: sums by feature, and the largest single entries. */
function summary(made) {
  const sums = made.names.map((name, row) => `${name} ${number(total(made.relevance[row]))}`);
  const cells = made.relevance.flatMap((row, i) => row.map((value, column) => ({ value, i, column })));
  const tops = cells.sort((a, b) => Math.abs(b.value || 0) - Math.abs(a.value || 0)).slice(0, 5);
  const said = tops.map(({ value, i, column }) => `${made.names[i]} at ${label(made, column)} ${number(value)}`);
  return `Relevance by feature: ${sums.join(", ")}. Largest entries: ${said.join(", ")}.`;
}

function cellRow(made, row, top, frame, units) {
  const width = frame.plot / made.columns;
  const [head, line] = series(made, row, 20, frame);
  const cells = made.relevance[row].map((value, column) => {
    const part = share(value, top);
    const x = frame.left + column * width;
    const box = { x: x + 0.5, y: head, width: width - 1, height: 24, rx: 2, class: "box", style: { fill: colour(part) } };
    return svg(
      "g",
      {},
      svg("title", {}, `${made.names[row]}, ${label(made, column)}: ${number(value)}`),
      svg("rect", box),
      mark(part, value, x + width / 2, head + 12, width),
    );
  });
  return [head + 32, [...rowLabel(made, row, head + 13, frame, units), line, cells]];
}

/** Draws the number if it fits, otherwise a mark that grows with the value. */
function mark(part, value, x, y, width) {
  if (Math.abs(part) < FAINT) return null;
  const text = number(value);
  const fits = text.length * 6.4 <= width - 4;
  const size = fits ? 11 : Math.min(width + 4, 9 + 9 * Math.abs(part));
  const look = { class: ink(part), "font-size": size.toFixed(1), "text-anchor": "middle" };
  return say(x, y + size * 0.36, fits ? text : text[0], look);
}

function stripRow(made, row, top, frame, units) {
  const [head, line] = series(made, row, 30, frame);
  const values = made.relevance[row];
  const content = [line, strip(values, top, head, frame), bars(values, top, head + 15, 34, frame)];
  return [head + 61, [...rowLabel(made, row, head + 20, frame, units), content]];
}

function sumRows(made, frame) {
  const rows = made.relevance.slice(made.kept).map((values, i) => sumRow(made.names[made.kept + i], values, frame));
  if (made.names.length > 1) {
    const all = Array.from({ length: made.columns }, (_, column) => total(made.relevance.map((row) => row[column])));
    rows.push(sumRow("all features", all, frame));
  }
  return rows;
}

/** A sum over features, as bars on a scale of its own, which is given. */
function sumRow(name, values, frame) {
  const top = largest(values);
  return [
    58,
    [
      svg("path", { d: `M${frame.left} 1H${frame.left + frame.plot}`, class: "rule" }),
      say(frame.left - 10, 28, name, { class: "strong", "text-anchor": "end" }),
      say(frame.left - 10, 42, `±${number(top, false)}`, { class: "small", "text-anchor": "end" }),
      bars(values, top, 6, 46, frame),
      say(frame.left + frame.plot + 10, 33, number(total(values)), { class: "strong" }),
    ],
  ];
}

/** The input above a row: the height it takes, and its drawing. */
function series(made, row, height, frame) {
  if (!made.values) return [0, null];
  const values = made.values[row];
  const [low, high] = bounds(values);
  const width = frame.plot / values.length;
  const y = (value) => (high > low ? height - 1 - ((value - low) / (high - low)) * (height - 3) : height / 2);
  const path = values.map((value, i) => `${i ? "L" : "M"}${(frame.left + (i + 0.5) * width).toFixed(1)} ${y(value).toFixed(1)}`);
  return [height + 3, svg("path", { d: path.join(""), class: "series" })];
}

/** A row of thin cells; one path for every stretch of a shade. */
function strip(values, top, y, frame) {
  const width = frame.plot / values.length;
  const levels = values.map((value) => Math.round(share(value, top) * LEVELS));
  const paths = new Map();
  for (let start = 0, end = 1; start < levels.length; start = end++) {
    while (end < levels.length && levels[end] === levels[start]) end++;
    if (!levels[start]) continue;
    const span = ((end - start) * width).toFixed(2);
    const box = `M${(frame.left + start * width).toFixed(2)} ${y}h${span}v12h-${span}z`;
    paths.set(levels[start], (paths.get(levels[start]) ?? "") + box);
  }
  const shades = [...paths].map(([level, d]) => svg("path", { d, style: { fill: colour(level / LEVELS) } }));
  return [svg("rect", { x: frame.left, y, width: frame.plot, height: 12, class: "frame" }), shades];
}

/** Bars up for, down against, around a line in the middle. */
function bars(values, top, y, height, frame) {
  const middle = y + height / 2;
  const width = frame.plot / values.length;
  const paths = { for: "", against: "" };
  values.forEach((value, i) => {
    const length = (share(value, top) * height) / 2;
    if (Math.abs(length) < 0.05) return;
    const x = (frame.left + i * width + width * 0.06).toFixed(2);
    paths[length > 0 ? "for" : "against"] += `M${x} ${middle}v${(-length).toFixed(2)}h${(width * 0.88).toFixed(2)}v${length.toFixed(2)}z`;
  });
  const drawn = Object.entries(paths).filter(([, d]) => d).map(([kind, d]) => svg("path", { d, class: kind }));
  return [drawn, svg("path", { d: `M${frame.left} ${middle}H${frame.left + frame.plot}`, class: "zero" })];
}

/** Name on the left with the input's range below, the row's sum on the right. */
function rowLabel(made, row, y, frame, units) {
  const name = made.names[row];
  const most = Math.floor((frame.left - 12) / 6.8);
  const short = name.length <= most ? name : `${name.slice(0, most - 1)}…`;
  const unit = units?.[row] ? `, ${units[row]}` : "";
  const shown = [
    svg("g", {}, svg("title", {}, name + unit), say(frame.left - 10, y + 2, short, { "text-anchor": "end" })),
    say(frame.left + frame.plot + 10, y + 4, number(total(made.relevance[row]))),
  ];
  if (made.values) {
    const [low, high] = bounds(made.values[row]).map((bound) => number(bound, false));
    const range = low === high ? low : `${low} … ${high}`;
    shown.push(say(frame.left - 10, y + 15, range, { class: "small", "text-anchor": "end" }));
  }
  return shown;
}

function axis(made, frame, inCells) {
  const width = frame.plot / made.columns;
  const centred = inCells ? width / 2 : 0;
  const most = Math.max(2, Math.floor(frame.plot / 62));
  let free = -Infinity;
  return ticks(made, most).flatMap(([column, text]) => {
    const x = frame.left + column * width + centred;
    const from = centred ? x - text.length * 3.2 : x;
    if (from < free || from + text.length * 6.4 > frame.left + frame.plot + frame.right) return [];
    free = from + text.length * 6.4 + 8;
    const anchor = centred ? "middle" : "start";
    return [
      svg("path", { d: `M${x.toFixed(2)} 0v4`, class: "tick" }),
      say(x, 16, text, { class: "small", "text-anchor": anchor }),
    ];
  });
}

function say(x, y, words, attributes = {}) {
  return svg("text", { x: x.toFixed(1), y: y.toFixed(1), ...attributes }, words);
}

function total(values) {
  return values.reduce((sum, value) => sum + (value || 0), 0);
}

function bounds(values) {
  const finite = values.filter(Number.isFinite);
  return finite.length ? [finite.reduce((a, b) => Math.min(a, b)), finite.reduce((a, b) => Math.max(a, b))] : [0, 1];
}
