// The page: reads the form, calls the server, and shows the results.

import { Methods, Target } from "./choices.js";
import { byId, el, tell } from "./dom.js";
import { InputProblem, inputField, layout } from "./inputs.js";
import { methodOf } from "./methods.js";
import { headline } from "./naming.js";
import { card, failure, predictionTable, readAnswer, together } from "./results.js";
import { CallError, Server } from "./rpc.js";

const server = new Server();
const methods = new Methods(byId("method-list"), byId("methods-problem"));
const target = new Target(byId("target-fields"));
let models = [];
let detail = null;
let fields = [];
let running = null; // the AbortController of the running calls
let asked = null; // the AbortController of the call that describes the model

async function enter() {
  try {
    const all = await server.models();
    models = all.filter((model) => model.state === "MODEL_STATE_READY");
    listUnready(all.filter((model) => !models.includes(model)));
  } catch (error) {
    if (error.code === "unauthenticated") return askForToken(server.token ? "The server does not know this token." : "");
    return trouble(error);
  }
  byId("entry").hidden = true;
  byId("ask").hidden = false;
  listModels();
  await chooseModel();
}

function askForToken(problem) {
  byId("ask").hidden = true;
  byId("entry").hidden = false;
  tell(byId("token-problem"), problem);
  byId("token").setAttribute("aria-invalid", String(Boolean(problem)));
  byId("token").focus();
}

function listModels() {
  const before = decodeURIComponent(location.hash.slice(1)); // chooseModel writes the name there
  const several = (name) => models.filter((model) => model.name === name).length > 1;
  const options = models.map((model, i) => {
    const version = several(model.name) ? `, version ${model.version}` : "";
    return el("option", { value: i }, model.name + version);
  });
  byId("model").replaceChildren(...options);
  byId("model").value = Math.max(0, models.findIndex((model) => model.name === before));
  if (!models.length) tell(byId("problem"), "The server has no ready model.");
}

/** Shows why other models are not ready. */
function listUnready(others) {
  const place = byId("unready");
  place.hidden = !others.length;
  place.querySelector("summary").textContent = `Not ready: ${others.length}`;
  const why = ({ name, version, reason }) => el("li", {}, `${name}, version ${version}: ${reason || "unloaded"}`);
  place.querySelector("ul").replaceChildren(...others.map(why));
}

async function chooseModel() {
  const model = models[byId("model").value];
  if (!model) return;
  stop("");
  asked?.abort();
  asked = new AbortController();
  try {
    detail = await server.model(model.name, model.version, asked.signal);
  } catch (error) {
    if (error.name !== "AbortError") trouble(error);
    return;
  }
  history.replaceState(null, "", `#${encodeURIComponent(model.name)}`);
  byId("model-note").textContent = model.description ?? "";
  fields = (detail.inputs ?? []).map((input) => inputField(layout(detail, input), () => byId("ask").requestSubmit()));
  byId("inputs").replaceChildren(...fields.map((field) => field.element));
  methods.show(detail);
  target.show(detail);
  tell(byId("problem"), "");
}

/** What the form says: requests, one a method; null if it says something wrong, which is then shown. */
function readForm() {
  for (const field of fields) field.tell("");
  tell(byId("problem"), "");
  try {
    const given = fields.map((field) => field.read());
    const chosen = methods.read();
    if (!chosen) return null;
    const { name, version } = detail.summary;
    const common = { model: name, version, inputs: given.map((input) => input.tensor), target: target.read() };
    return { given, requests: chosen.map((method) => ({ ...common, method })) };
  } catch (error) {
    if (!(error instanceof InputProblem)) throw error;
    error.field.tell(error.message);
    return null;
  }
}

async function explain() {
  if (running || !detail) return;
  const form = readForm();
  if (!form) return;
  const names = form.requests.map((request) => methodOf(request.method).name);
  busy(new AbortController(), `Explaining with ${names.join(", ")} …`);
  const began = performance.now();
  const signal = running.signal;
  const results = await Promise.allSettled(form.requests.map((request) => ask(request, form.given, signal)));
  if (signal.aborted) return; // whoever cancelled it has shown a message
  busy(null, "");
  show(form, results, performance.now() - began);
}

async function ask(request, given, signal) {
  const began = performance.now();
  const answer = await server.explain(request, signal);
  return readAnswer(answer, given, Math.round(performance.now() - began));
}

/** Cancels the running calls. */
function stop(status) {
  if (!running) return;
  running.abort();
  busy(null, status);
}

function busy(controller, status) {
  running = controller;
  byId("explain").disabled = Boolean(controller);
  byId("cancel").hidden = !controller;
  byId("results").setAttribute("aria-busy", String(Boolean(controller)));
  byId("status").textContent = status;
}

function show(form, results, milliseconds) {
  const answers = results.flatMap((result) => (result.status === "fulfilled" ? [result.value] : []));
  if (!answers.length) return trouble(results[0].reason);
  const several = results.length > 1;
  const first = predictionTable(detail, answers[0]);
  const heading = headline(detail, answers[0]);
  const cards = results.map((result, i) => {
    if (result.status === "fulfilled") return card(detail, result.value, heading, several ? null : first);
    return failure(methodOf(form.requests[i].method), told(result.reason));
  });
  const wide = answers[0].pictures.some((picture) => picture.kind !== "words");
  const table = answers.length > 1 ? together(answers).filter(Boolean) : [];
  byId("answer").replaceChildren(
    el("h2", {}, heading),
    ...(several ? [el("div", { class: "card" }, first)] : []),
    el("div", { class: `cards ${wide ? "wide" : ""}` }, cards),
    ...(table.length ? [el("section", { class: "card", "aria-label": "Side by side" }, el("h3", {}, "Side by side"), table)] : []),
  );
  const how = several ? `${answers.length === results.length ? "" : `${answers.length} of `}${results.length} methods` : answers[0].method.name;
  byId("status").textContent = `Explained ${heading}, by ${how}, in ${Math.round(milliseconds)} ms.`;
  if (matchMedia("(max-width: 62rem)").matches) byId("results").scrollIntoView();
}

/** Shows an error where it belongs: at the field of the form that it is about, or above the result. */
function trouble(error) {
  if (!(error instanceof CallError)) console.error(error);
  if (error.code === "unauthenticated") return askForToken("The server does not know this token.");
  const [, index] = /^inputs\[(\d+)\]/.exec(error.field ?? "") ?? [];
  if (index !== undefined) return fields[index].tell(told(error));
  if (error.field?.startsWith("method")) return methods.tell(told(error));
  tell(byId("problem"), told(error));
}

function told(error) {
  if (!(error instanceof CallError)) return `Internal error of the page: ${error.message}`;
  if (error.code === "permission_denied") return `This token does not allow this call: ${error.message}.`;
  const text = `${error.message[0]?.toUpperCase() ?? ""}${error.message.slice(1)}`;
  return /[.!?]$/.test(text) ? text : `${text}.`;
}

byId("entry").addEventListener("submit", (event) => {
  event.preventDefault();
  server.token = byId("token").value.trim();
  enter();
});
byId("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  explain();
});
byId("cancel").addEventListener("click", () => {
  stop("Cancelled.");
  byId("explain").focus();
});
byId("model").addEventListener("change", chooseModel);
byId("reload").addEventListener("click", enter);
enter();
