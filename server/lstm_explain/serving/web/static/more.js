// SPDX-License-Identifier: Apache-2.0

// The part of the form for groups of entries, a condition on the prediction, and units that relevance passes through.

import { el, tell } from "./dom.js";

const STEPS = {
  window: { text: "windows of steps", label: "Steps per window", initial: 24 },
  changePoints: { text: "segments between change points", label: "Segments at most", initial: 10 },
  words: { text: "words" },
};

/** A field of this part is wrong. */
export class MoreProblem extends Error {}

export class More {
  /** place: a <details>, of which `fields` is filled in and `problem` shows what is wrong. */
  constructor(place, fields, problem) {
    this.place = place;
    this.fields = fields;
    this.problem = problem;
  }

  show(detail) {
    const inputs = (detail.inputs ?? []).filter((input) => !(detail.textInputs ?? []).includes(input.name));
    const timed = (detail.inputs ?? []).some((input) => detail.timeAxes?.[input.name] !== undefined);
    const numbers = inputs.some((input) => input.dtype.startsWith("DATA_TYPE_FLOAT"));
    const possible = { window: timed, changePoints: timed && numbers, words: Boolean(detail.textInputs?.length) };
    this.steps = choice("group-steps", Object.entries(STEPS).filter(([key]) => possible[key]).map(([key, { text }]) => [key, text]));
    this.count = el("input", { id: "group-count", type: "number", min: 1, step: 1, required: true, inputmode: "numeric" });
    const declared = (detail.featureGroups ?? []).map(({ name }) => name);
    const ofModel = declared.length ? [["model", `of the model: ${declared.join(", ")}`]] : [];
    this.features = choice("group-features", [...ofModel, ["own", "your own"]]);
    this.own = el("input", { id: "group-names", placeholder: example(detail), spellcheck: "false" });
    this.condition = el("input", { id: "condition", placeholder: "probability > 0.8", spellcheck: "false" });
    this.through = el("input", { id: "through", placeholder: "lstm.cell=72,86", spellcheck: "false" });
    this.label = el("label", { for: this.count.id });
    this.steps.addEventListener("change", () => this.#choose(""));
    this.features.addEventListener("change", () => this.#choose(this.count.value));
    this.place.addEventListener("input", () => this.tell(""));
    this.fields.replaceChildren(
      row("Groups of steps", this.steps),
      el("div", { class: "row" }, this.label, this.count),
      ...(inputs.length ? [row("Groups of features", this.features), row("Your groups", this.own)] : []),
      el("p", { class: "note" }, "What is not grouped counts together, and the result has a bar for each group."),
      row("Explain only where", this.condition),
      row("Only through the units", this.through),
      el("p", { class: "note" }, "A condition cannot be combined with groups or units."),
    );
    this.#choose("");
    this.tell("");
    if (declared.length) this.place.open = true;
  }

  tell(message) {
    tell(this.problem, message);
    if (!message) return;
    this.place.open = true;
    this.problem.scrollIntoView({ block: "nearest" });
  }

  /** The fields of a request. Throws MoreProblem. */
  read() {
    const asked = {};
    const groups = this.#groups();
    if (Object.keys(groups).length) asked.groups = groups;
    if (this.condition.value.trim()) asked.condition = this.condition.value.trim();
    if (this.through.value.trim()) asked.through = units(this.through.value);
    return asked;
  }

  state() {
    const { steps, count, features, own, condition, through } = this;
    return Object.fromEntries(Object.entries({ steps, count, features, own, condition, through }).map(([key, input]) => [key, input.value]));
  }

  restore(state) {
    for (const key of ["steps", "features"]) {
      if (Array.from(this[key].options).some(({ value }) => value === state[key])) this[key].value = state[key];
    }
    for (const key of ["own", "condition", "through"]) if (typeof state[key] === "string") this[key].value = state[key];
    this.#choose(typeof state.count === "string" ? state.count : "");
    this.place.open = Object.keys(this.state()).some((key) => key !== "count" && this[key].value);
  }

  /** Shows what belongs to the choices. The fields stay in place, so that nothing moves. */
  #choose(count) {
    const steps = STEPS[this.steps.value];
    this.label.textContent = steps?.label ?? "Size";
    this.count.disabled = !steps?.label;
    this.count.value = steps?.label ? count || steps.initial : "";
    this.own.disabled = this.features.value !== "own";
  }

  #groups() {
    const groups = {};
    const size = Number(this.count.value);
    if (!this.count.disabled && !this.count.checkValidity()) throw new MoreProblem(`${this.label.textContent}: ${this.count.validationMessage}`);
    if (this.steps.value === "window") groups.window = size;
    if (this.steps.value === "words") groups.words = true;
    if (this.steps.value === "changePoints") groups.changePoints = { segments: size };
    if (this.features.value === "model") groups.modelFeatures = true;
    if (this.features.value === "own") groups.features = pairs(this.own.value, example(null)).map(([name, features]) => ({ name, features }));
    return groups;
  }
}

function choice(id, options) {
  return el("select", { id }, el("option", { value: "" }, "none"), options.map(([value, text]) => el("option", { value }, text)));
}

function row(text, input) {
  return el("div", { class: "row" }, el("label", { for: input.id }, text), input);
}

/** An example with the names of two features of the model, if it has names. */
function example(detail) {
  const names = Object.values(detail?.featureNames ?? {})[0]?.values ?? [];
  return names.length > 1 ? `both=${names[0]},${names[1]}` : "both=0,1";
}

function units(text) {
  return pairs(text, "lstm.cell=72,86").map(([value, given]) => {
    const wrong = given.find((unit) => !/^\d+$/.test(unit));
    if (wrong !== undefined) throw new MoreProblem(`“${wrong}” is no unit; enter whole numbers, such as lstm.cell=72,86.`);
    return { value, units: given };
  });
}

/** Reads `name=one,two; other=three`. Throws MoreProblem. */
function pairs(text, such) {
  const found = text.split(";").map((part) => part.trim()).filter(Boolean).map((part) => {
    const at = part.lastIndexOf("=");
    const members = part.slice(at + 1).split(",").map((member) => member.trim()).filter(Boolean);
    if (at < 1 || !members.length) throw new MoreProblem(`“${part}” is not of the form ${such}.`);
    return [part.slice(0, at).trim(), members];
  });
  if (!found.length) throw new MoreProblem(`Enter names, such as ${such}.`);
  return found;
}
