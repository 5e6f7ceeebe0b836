// SPDX-License-Identifier: Apache-2.0

// The part of the form for one input of a model: a sentence, or a table of numbers.

import { TableError, readTable, writeTable } from "./csv.js";
import { el, tell } from "./dom.js";
import { canSend, encode, encodeTexts, unfit } from "./tensor.js";

const MOST_BYTES = 20e6; // of a file; what a browser can hold in a text field
const MADE_UP_STEPS = 30;
const MOST_SAMPLES = 200; // that are explained in one go
const SAMPLE = "sample"; // the column that tells the samples of a table apart

/** How an input's axes are laid out, as rows and columns of a table for one sample; or why the page cannot take it. */
export function layout(detail, input) {
  const extents = (input.shape ?? []).map((dimension) => (dimension.size === undefined ? null : Number(dimension.size)));
  const [batch, time] = [detail.batchAxes?.[input.name], detail.timeAxes?.[input.name]];
  const isText = (detail.textInputs ?? []).includes(input.name);
  const axes = extents.map((_, axis) => axis).filter((axis) => axis !== batch);
  const problem =
    isText ? ""
    : !canSend(input.dtype) ? `numbers of the type ${input.dtype.replace("DATA_TYPE_", "")}`
    : axes.length > 2 ? `${axes.length} axes besides the batch axis`
    : batch !== undefined && extents[batch] > 1 ? `${extents[batch]} samples at once`
    : "";
  const rowAxis = time ?? (axes.length === 2 ? axes[0] : undefined);
  const columnAxis = axes.find((axis) => axis !== rowAxis);
  const names = columnAxis === undefined ? null : (detail.featureNames?.[input.name]?.values ?? null);
  return {
    name: input.name,
    dtype: input.dtype,
    isText,
    problem,
    shape: (rows, columns) => extents.map((_, axis) => (axis === rowAxis ? rows : axis === columnAxis ? columns : 1)),
    turned: rowAxis !== undefined && columnAxis !== undefined && columnAxis < rowAxis,
    rows: rowAxis === undefined ? 1 : extents[rowAxis],
    isTime: rowAxis !== undefined && rowAxis === time,
    columns: columnAxis === undefined ? 1 : (names?.length ?? extents[columnAxis]),
    names: names ?? (columnAxis === undefined ? [input.name] : null),
    units: unitsOf(detail, input.name, names),
  };
}

/** Arranges the elements of one sample, in the tensor's order, as rows of columns. */
export function rowsOf(plan, shape, values) {
  const count = plan.shape(1, 0).indexOf(0);
  const columns = count < 0 ? 1 : shape[count];
  const rows = columns ? values.length / columns : 0;
  const at = plan.turned ? (r, c) => c * rows + r : (r, c) => r * columns + c;
  return Array.from({ length: rows }, (_, r) => Array.from({ length: columns }, (_, c) => values[at(r, c)]));
}

/** What a person fills in for an input. `read` gives the tensor and what the picture needs; it throws InputProblem. */
export function inputField(plan, submit, examples = []) {
  if (plan.problem) return new UnfitField(plan);
  return plan.isText ? new TextField(plan, submit, examples) : new TableField(plan, submit, examples);
}

/** A hidden field for a file; `take` gets its text. */
function filePicker(plan, accept, take, tellProblem) {
  const picker = el("input", { type: "file", accept, class: "unseen", id: `file-${plan.name}` });
  picker.addEventListener("change", async () => {
    const text = await textOf(picker.files[0], tellProblem);
    picker.value = "";
    if (text !== null) take(text);
  });
  return picker;
}

/** The text of a file; null where there is none or it is too large, which is then said in the form. */
async function textOf(file, tellProblem) {
  if (!file) return null;
  if (file.size <= MOST_BYTES) return file.text();
  tellProblem(`${file.name} is larger than ${MOST_BYTES / 1e6} MB.`);
  return null;
}

/** Fills in the model's examples, one after the other; nothing where it has none. */
function exampleButton(field, examples) {
  if (!examples.length) return null;
  let next = 0;
  const fill = () => {
    field.text = examples[next];
    next = (next + 1) % examples.length;
  };
  return el("button", { type: "button", class: "example", click: fill }, examples.length > 1 ? "Show an example" : "Fill in an example");
}

export class InputProblem extends Error {
  constructor(field, message) {
    super(message);
    this.field = field;
  }
}

class Field {
  constructor(plan) {
    this.plan = plan;
    this.problem = el("p", { class: "problem", role: "alert", id: `problem-${plan.name}`, hidden: true });
  }

  /** Shows a problem at the field and takes the focus there; "" takes it away. */
  tell(message) {
    tell(this.problem, message);
    if (!this.area) return;
    this.area.setAttribute("aria-invalid", String(Boolean(message)));
    if (message) this.area.focus();
  }

  /** What the person entered, for a link. */
  get text() {
    return this.area?.value ?? "";
  }

  set text(text) {
    if (!this.area) return;
    this.area.value = text;
    this.area.dispatchEvent(new Event("input", { bubbles: true }));
  }

  /** Returns one reading for each sample; throws InputProblem. */
  samples() {
    return [this.read()];
  }

  area_(attributes, submit) {
    const described = `note-${this.plan.name} problem-${this.plan.name}`;
    const keydown = (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) submit();
    };
    return el("textarea", { id: `input-${this.plan.name}`, "aria-describedby": described, keydown, ...attributes });
  }
}

class UnfitField extends Field {
  constructor(plan) {
    super(plan);
    const problem = `This page does not support the input ${plan.name}, which requires ${plan.problem}. Use a client instead.`;
    this.element = el("div", { class: "field" }, el("p", { class: "problem" }, problem), this.problem);
  }

  read() {
    throw new InputProblem(this, "Choose another model, or call the server from a program.");
  }
}

class TextField extends Field {
  constructor(plan, submit, examples) {
    super(plan);
    this.area = this.area_({ rows: 3, placeholder: examples[0] ?? "Not a bad film, but far too long." }, submit);
    this.lines = el("input", { type: "checkbox", id: `lines-${plan.name}` });
    const choice = el("p", { class: "row choice", hidden: true }, this.lines, el("label", { for: this.lines.id }, "Each line is a text of its own"));
    this.area.addEventListener("input", () => {
      choice.hidden = this.#lines().length < 2;
    });
    const picker = filePicker(plan, ".txt,.csv,text/plain,text/csv", (text) => {
      this.text = text;
      this.lines.checked = this.#lines().length > 1;
    }, (problem) => this.tell(problem));
    this.element = el(
      "div",
      { class: "field" },
      el("label", { for: this.area.id }, "Sentence"),
      this.area,
      choice,
      el("div", { class: "row tools" }, exampleButton(this, examples), picker, el("label", { for: picker.id, class: "button" }, "Choose a file of sentences")),
      el("p", { class: "note", id: `note-${plan.name}` }, `The text for the input ${plan.name}.`),
      this.problem,
    );
  }

  read() {
    return this.#reading(this.area.value.trim());
  }

  samples() {
    const lines = this.#lines();
    if (!this.lines.checked || lines.length < 2) return [this.read()];
    if (lines.length > MOST_SAMPLES) throw new InputProblem(this, `There are ${lines.length} lines; this page explains up to ${MOST_SAMPLES}.`);
    return lines.map((line) => this.#reading(line));
  }

  #lines() {
    return this.area.value.split("\n").map((line) => line.trim()).filter(Boolean);
  }

  #reading(text) {
    if (!text) throw new InputProblem(this, "Type a sentence first.");
    return { plan: this.plan, tensor: encodeTexts(this.plan.name, [text]), label: text };
  }
}

class TableField extends Field {
  constructor(plan, submit, examples) {
    super(plan);
    this.area = this.area_({ rows: 7, spellcheck: "false", class: "table", placeholder: this.example() }, submit);
    this.area.addEventListener("input", () => this.look());
    this.picker = filePicker(plan, ".csv,.tsv,.txt,text/csv", (text) => this.take(text), (problem) => this.tell(problem));
    this.seen = el("p", { class: "note", role: "status", id: `seen-${plan.name}` });
    this.element = el(
      "div",
      { class: "field drop", dragover: (e) => this.over(e), dragleave: () => this.leave(), drop: (e) => this.drop(e) },
      el("label", { for: this.area.id }, `Numbers for ${plan.name}`),
      this.area,
      el(
        "div",
        { class: "row tools" },
        this.picker,
        el("label", { for: this.picker.id, class: "button" }, "Choose a CSV file"),
        exampleButton(this, examples) ?? el("button", { type: "button", class: "example", click: () => this.makeUp() }, "Fill in random numbers"),
      ),
      el("p", { class: "note", id: `note-${plan.name}` }, this.wanted()),
      this.seen,
      this.problem,
    );
  }

  read() {
    return this.#reading(this.parse());
  }

  /** A column `sample` that the model does not have tells the samples apart. */
  samples() {
    const found = this.parse();
    if (!found.samples) return [this.#reading(found)];
    const groups = new Map();
    found.samples.forEach((name, row) => {
      if (!groups.has(name)) groups.set(name, []);
      groups.get(name).push(row);
    });
    if (groups.size > MOST_SAMPLES) throw new InputProblem(this, `There are ${groups.size} samples; this page explains up to ${MOST_SAMPLES}.`);
    const pick = (list, rows) => (list ? rows.map((row) => list[row]) : null);
    return Array.from(groups, ([name, rows]) => {
      const part = { ...found, rows: pick(found.rows, rows), labels: pick(found.labels, rows) };
      return { ...this.#reading(part), label: `${SAMPLE} ${name}` };
    });
  }

  #reading(found) {
    const rows = found.rows;
    if (this.plan.rows !== null && rows.length !== this.plan.rows) {
      throw new InputProblem(this, `The table has ${rows.length} rows, the model requires ${this.plan.rows}.`);
    }
    const [height, width] = [rows.length, rows[0].length];
    const values = this.plan.turned ? found.rows[0].map((_, c) => rows.map((row) => row[c])).flat() : rows.flat();
    const tensor = encode(this.plan.name, this.plan.dtype, this.plan.shape(height, width), values);
    return { plan: this.plan, tensor, table: found };
  }

  parse() {
    const { names, columns: count, dtype } = this.plan;
    if (!this.area.value.trim()) throw new InputProblem(this, "Paste a table, drop a file, or choose one.");
    try {
      return readTable(this.area.value, { names, count, check: (value) => unfit(dtype, value), sample: SAMPLE });
    } catch (error) {
      if (!(error instanceof TableError)) throw error;
      throw new InputProblem(this, `${error.message[0].toUpperCase()}${error.message.slice(1)}.`);
    }
  }

  /** Describes the table in the field as soon as it changes. */
  look() {
    tell(this.problem, "");
    this.area.removeAttribute("aria-invalid");
    if (!this.area.value.trim()) return tell(this.seen, "");
    try {
      const { rows, names, ignored, samples } = this.parse();
      const left = ignored.length ? `; ignored: ${ignored.join(", ")}` : "";
      const columns = names ? names.join(", ") : `${rows[0].length} columns`;
      const several = samples ? ` in ${new Set(samples).size} samples` : "";
      tell(this.seen, `${rows.length} ${rows.length === 1 ? "row" : "rows"} of ${columns}${several}${left}.`);
    } catch (error) {
      if (!(error instanceof InputProblem)) throw error;
      tell(this.seen, "");
      tell(this.problem, error.message);
      this.area.setAttribute("aria-invalid", "true");
    }
  }

  take(text) {
    this.area.value = text;
    this.area.dispatchEvent(new Event("input", { bubbles: true }));
    this.area.scrollTop = 0;
  }

  over(event) {
    if (!event.dataTransfer.types.includes("Files")) return;
    event.preventDefault();
    this.element.classList.add("over");
  }

  leave() {
    this.element.classList.remove("over");
  }

  drop(event) {
    if (!event.dataTransfer.files.length) return;
    event.preventDefault();
    this.leave();
    textOf(event.dataTransfer.files[0], (problem) => this.tell(problem)).then((text) => text !== null && this.take(text));
  }

  makeUp() {
    const whole = unfit(this.plan.dtype, 0.5) !== "";
    const one = () => (whole ? Math.floor(Math.random() * 2) : (Math.random() * 2 - 1).toFixed(2));
    const row = () => Array.from({ length: this.plan.columns ?? 3 }, one);
    const rows = Array.from({ length: this.plan.rows ?? MADE_UP_STEPS }, row);
    this.take(writeTable(this.plan.names, rows));
  }

  wanted() {
    const { rows, columns, names, isTime, units } = this.plan;
    const titled = names?.map((name, i) => (units?.[i] ? `${name} (${units[i]})` : name)).join(", ");
    const height = rows === null ? "Any number of rows" : rows === 1 ? "One row" : `${rows} rows`;
    const width = titled ? `the columns ${titled}` : columns === null ? "any number of columns" : `${columns} columns`;
    const header = names ? "; without a header, columns in this order" : "";
    return `${height}${isTime ? ", one per time step, oldest first" : ""}; ${width}${header}.`;
  }

  example() {
    const { names, columns } = this.plan;
    const row = Array.from({ length: columns ?? 3 }, () => "0.0").join(",");
    return (names ? `${names.join(",")}\n` : "") + `${row}\n${row}\n…`;
  }
}

function unitsOf(detail, name, names) {
  const units = detail.units?.[name]?.values ?? null;
  return units?.length === 1 && names ? names.map(() => units[0]) : units;
}
