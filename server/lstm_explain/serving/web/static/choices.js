// SPDX-License-Identifier: Apache-2.0

// The parts of the form that select methods and the target.

import { el, tell } from "./dom.js";
import { METHODS, methodOf } from "./methods.js";

/** The fieldset of methods. */
export class Methods {
  constructor(list, problem) {
    this.list = list;
    this.problem = problem;
    this.rows = [];
  }

  /** Shows the methods for a model and selects its default method with its parameters. */
  show(detail) {
    const standard = methodOf(detail.defaultMethod) ?? METHODS[0];
    this.rows = METHODS.map((method) => {
      const own = method === standard ? detail.defaultMethod?.[method.key] : null;
      const impossible = method.key === "lrp" && !detail.lrpSupported ? "this model has an operator that LRP does not support" : "";
      return new MethodRow(method, own ?? {}, method === standard && !impossible, impossible, () => this.tell(""));
    });
    this.list.replaceChildren(...this.rows.map((row) => row.element));
    this.tell("");
  }

  tell(message) {
    tell(this.problem, message);
  }

  /** Returns the selected methods as messages, or null after showing what is invalid. */
  read() {
    const chosen = this.rows.filter((row) => row.box.checked);
    if (!chosen.length) {
      this.tell("Choose at least one method.");
      this.rows[0].box.focus();
      return null;
    }
    const wrong = chosen.find((row) => row.invalid());
    if (wrong) {
      this.tell(`${wrong.method.name}: ${wrong.invalid()}`);
      return null;
    }
    return chosen.map((row) => row.message());
  }

  /** The selected methods with what their fields hold, by key. */
  state() {
    const chosen = this.rows.filter((row) => row.box.checked);
    return Object.fromEntries(chosen.map((row) => [row.method.key, row.values()]));
  }

  restore(state) {
    for (const row of this.rows) row.restore(state[row.method.key]);
  }
}

class MethodRow {
  constructor(method, own, checked, impossible, changed) {
    this.method = method;
    this.own = own; // the parameters of the model's default method; the server has them too
    this.box = el("input", { type: "checkbox", id: `method-${method.key}`, "aria-describedby": `hint-${method.key}` });
    this.box.checked = checked;
    this.box.disabled = Boolean(impossible);
    this.controls = method.parameters.map((parameter) => control(method, parameter, own[parameter.key]));
    this.settings = method.parameters.length
      ? el("details", { class: "settings" }, el("summary", {}, `Settings of ${method.name}`), this.controls.map((c) => c.element))
      : null;
    this.box.addEventListener("change", () => (this.#show(), changed()));
    this.#show();
    this.element = el(
      "div",
      { class: "method" },
      this.box,
      el("label", { for: this.box.id }, method.name),
      el("span", { class: "note", id: `hint-${method.key}` }, impossible || method.hint),
      this.settings,
    );
  }

  #show() {
    if (this.settings) this.settings.hidden = !this.box.checked;
  }

  values() {
    return Object.fromEntries(this.controls.map(({ parameter, input }) => [parameter.key, input.value]));
  }

  /** values: of `values`; undefined for a method that is not selected. */
  restore(values) {
    if (this.box.disabled) return;
    this.box.checked = values !== undefined;
    for (const { parameter, input } of this.controls) {
      if (typeof values?.[parameter.key] === "string") input.value = values[parameter.key];
    }
    this.#show();
  }

  /** Returns why a parameter is invalid and opens its settings, or returns "". */
  invalid() {
    const control = this.controls.find((c) => !c.input.checkValidity());
    if (!control) return "";
    this.settings.open = true;
    control.input.focus();
    return `${control.parameter.label}: ${control.input.validationMessage}`;
  }

  /** The message with the parameters that differ from the model's own, which the server adds unless they exclude them. */
  message() {
    const value = ({ parameter, input }) => (parameter.kind === "number" ? Number(input.value) : input.value);
    const set = this.controls.filter((c) => c.input.value !== "" && value(c) !== this.own[c.parameter.key]);
    return { [this.method.key]: Object.fromEntries(set.map((c) => [c.parameter.key, value(c)])) };
  }
}

function control(method, parameter, own) {
  const id = `${method.key}-${parameter.key}`;
  const { min, max, step } = parameter;
  const placeholder = own ?? parameter.placeholder; // what the server uses where the field is empty
  const required = !parameter.optional;
  const input =
    parameter.kind === "choice"
      ? el("select", { id }, parameter.options.map(([value, text]) => el("option", { value }, text)))
      : el("input", { id, type: "number", min, max, step, placeholder, required, inputmode: "decimal" });
  input.value = own ?? parameter.initial ?? parameter.options?.[0][0] ?? "";
  return { parameter, input, element: el("div", { class: "row" }, el("label", { for: id }, parameter.label), input) };
}

const EVERY = "every";
const MOST_TARGETS = 12; // side by side

/** The fieldset of the target. */
export class Target {
  constructor(place) {
    this.place = place;
  }

  show(detail) {
    this.detail = detail;
    const outputs = detail.outputs ?? [];
    const standard = detail.defaultTarget ?? {};
    this.output = el("select", { id: "output" }, outputs.map((o) => el("option", { value: o.name }, o.name)));
    this.output.value = standard.output || outputs[0]?.name;
    this.output.addEventListener("change", () => this.#position({}));
    this.rest = el("div");
    const several = outputs.length > 1 ? labelled("Output", this.output) : null;
    this.place.replaceChildren(...(several ? [several] : []), this.rest);
    this.#position(standard);
  }

  /** The messages: one, or one for each class. */
  read() {
    if (this.index.value === EVERY) return this.classes.map((index) => ({ output: this.output.value, indices: [`${index}`] }));
    const target = { output: this.output.value };
    const indices = positions(this.index.value);
    const contrast = positions(this.contrast?.value ?? "");
    if (indices.length) target.indices = indices;
    if (contrast.length) target.contrastIndices = contrast;
    return [target];
  }

  state() {
    return { output: this.output.value, index: this.index.value, contrast: this.contrast?.value ?? "" };
  }

  restore({ output, index, contrast }) {
    if (Array.from(this.output.options).some((option) => option.value === output)) this.output.value = output;
    this.#position({});
    if (typeof index === "string") this.index.value = index;
    if (this.contrast && typeof contrast === "string") this.contrast.value = contrast;
    for (const select of [this.index, this.contrast]) if (select?.selectedIndex === -1) select.selectedIndex = 0;
  }

  #position(standard) {
    const extents = sampleShape(this.detail, this.output.value, standard.batchAxis);
    const names = this.detail.classNames?.[this.output.value]?.values;
    this.contrast = null;
    if (extents.length === 1 && extents[0] > 1) return this.#classes(extents[0], names, standard);
    const only = extents.every((extent) => extent === 1);
    this.index = el("input", { id: "index", inputmode: "numeric", pattern: "\\s*(-?\\d+\\s*(,\\s*-?\\d+\\s*)*)?", placeholder: "the largest" });
    this.index.value = (standard.indices ?? []).join(", ");
    const hint = `One number for each of the ${extents.length} axes, such as ${extents.map(() => 0).join(", ")}; leave it empty for the largest entry.`;
    const note = only ? `The only value of ${this.output.value}.` : hint;
    this.rest.replaceChildren(...(only ? [] : [labelled("Position", this.index)]), el("p", { class: "note" }, note));
  }

  #classes(count, names, standard) {
    const options = () => Array.from({ length: count }, (_, i) => el("option", { value: i }, names?.[i] ?? `${i}`));
    this.classes = Array.from({ length: count }, (_, i) => i);
    const every = count <= MOST_TARGETS ? el("option", { value: EVERY }, "every class, side by side") : [];
    this.index = el("select", { id: "index" }, el("option", { value: "" }, "the predicted class"), options(), every);
    this.contrast = el("select", { id: "contrast" }, el("option", { value: "" }, "nothing"), options());
    this.index.addEventListener("change", () => {
      this.contrast.disabled = this.index.value === EVERY;
    });
    this.index.value = standard.indices?.[0] ?? "";
    this.contrast.value = standard.contrastIndices?.[0] ?? "";
    this.rest.replaceChildren(labelled("Class", this.index), labelled("Compared with", this.contrast));
  }
}

function labelled(text, input) {
  return el("div", { class: "row" }, el("label", { for: input.id }, text), input);
}

function positions(text) {
  return text.split(",").map((part) => part.trim()).filter(Boolean);
}

/** Returns the sizes of an output without its batch axis; null for a size that is not fixed. */
function sampleShape(detail, name, batchAxis = 0) {
  const shape = (detail.outputs ?? []).find((output) => output.name === name)?.shape ?? [];
  const extents = shape.map((dimension) => (dimension.size === undefined ? null : Number(dimension.size)));
  return detail.defaultTarget?.noBatchAxis ? extents : extents.filter((_, axis) => axis !== batchAxis);
}
