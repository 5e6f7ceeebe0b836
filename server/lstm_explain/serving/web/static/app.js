// SPDX-License-Identifier: Apache-2.0

// The page: reads the form, calls the server, and has the results shown.

import { Methods, Target } from "./choices.js";
import { byId, el, tell } from "./dom.js";
import { InputProblem, inputField, layout } from "./inputs.js";
import { fragment, readFragment } from "./link.js";
import { methodOf } from "./methods.js";
import { More, MoreProblem } from "./more.js";
import { Progress } from "./progress.js";
import { readAnswer } from "./results.js";
import { CallError, Server } from "./rpc.js";
import { showLines, showOne } from "./showing.js";

const MOST_LOOKED_AT = 30; // models whose descriptions decide their order
const AT_ONCE = 4; // requests, of many
const SAID_STALE = "The form has changed since. Press Explain for a new result.";

const server = new Server();
const methods = new Methods(byId("method-list"), byId("methods-problem"));
const target = new Target(byId("target-fields"));
const more = new More(byId("more"), byId("more-fields"), byId("more-problem"));
const progress = new Progress(byId("progress"));
let models = [];
let detail = null;
let fields = [];
let running = null; // the AbortController of the running calls
let asked = null; // the AbortController of the call that describes the model
let clock = 0; // the timer that shows how long the calls have been running
const welcome = [...byId("answer").children];

async function enter() {
  try {
    const all = await server.models();
    models = await tellingFirst(all.filter((model) => model.state === "MODEL_STATE_READY"));
    listUnready(all.filter((model) => model.state !== "MODEL_STATE_READY"));
  } catch (error) {
    if (error.code === "unauthenticated") return askForToken(server.token ? "The server does not know this token." : "");
    return trouble(error);
  }
  byId("entry").hidden = true;
  const { model, state } = readFragment(location.hash); // chooseModel writes the name there
  listModels(model);
  await chooseModel();
  if (state && detail?.summary.name === model) restore(state);
  byId("ask").hidden = !byId("entry").hidden; // only when it has its final size
}

/** Models that read sentences come first, then those whose classes or features have names. */
async function tellingFirst(ready) {
  if (ready.length > MOST_LOOKED_AT) return ready;
  const details = await Promise.allSettled(ready.map(({ name, version }) => server.model(name, version)));
  const names = (map) => (Object.keys(map ?? {}).length ? 1 : 0);
  const tells = details.map(({ value }) => (value ? 4 * Boolean(value.textInputs?.length) + 2 * names(value.classNames) + names(value.units) : 0));
  return ready.map((model, i) => [model, tells[i]]).sort((a, b) => b[1] - a[1]).map(([model]) => model);
}

function askForToken(problem) {
  byId("ask").hidden = true;
  byId("entry").hidden = false;
  tell(byId("token-problem"), problem);
  byId("token").setAttribute("aria-invalid", String(Boolean(problem)));
  byId("token").focus();
}

/** before: the name of the model to choose, if it is there. */
function listModels(before) {
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
  byId("answer").replaceChildren(...welcome);
  stale(false);
  byId("model-note").textContent = model.description ?? "";
  fields = (detail.inputs ?? []).map((input) => {
    const examples = detail.examples?.[input.name]?.values ?? [];
    return inputField(layout(detail, input), () => byId("ask").requestSubmit(), examples);
  });
  byId("inputs").replaceChildren(...fields.map((field) => field.element));
  methods.show(detail);
  target.show(detail);
  more.show(detail);
  tell(byId("problem"), "");
}

/** Fills in the form as a link says. */
function restore({ inputs, methods: chosen, target: aim, more: rest }) {
  for (const field of fields) if (typeof inputs?.[field.plan.name] === "string") field.text = inputs[field.plan.name];
  if (chosen && typeof chosen === "object") methods.restore(chosen);
  if (aim && typeof aim === "object") target.restore(aim);
  if (rest && typeof rest === "object") more.restore(rest);
  stale(false);
}

async function copyLink() {
  if (!detail) return;
  const inputs = Object.fromEntries(fields.map((field) => [field.plan.name, field.text]));
  const made = fragment(detail.summary.name, { inputs, methods: methods.state(), target: target.state(), more: more.state() });
  if (!made) return say("The input is too long for a link.");
  history.replaceState(null, "", made);
  try {
    await navigator.clipboard.writeText(location.href);
    say("Copied a link to this model, input and settings.");
  } catch {
    say("The address of this page has the model, input and settings now.");
  }
}

/**
 * Returns the samples, and for each of them one request per method and target; null if a field is wrong, which is then
 * shown.
 */
function readForm() {
  for (const field of fields) field.tell("");
  tell(byId("problem"), "");
  more.tell("");
  try {
    const samples = fields.length === 1 ? fields[0].samples().map((sample) => [sample]) : [fields.map((field) => field.read())];
    const chosen = methods.read();
    if (!chosen) return null;
    const { name, version } = detail.summary;
    const targets = target.read();
    const rest = server.offersMore ? more.read() : {};
    return samples.map((given) => {
      const inputs = given.map((input) => input.tensor);
      const requests = targets.flatMap((aim) => chosen.map((method) => ({ model: name, version, inputs, target: aim, method, ...rest })));
      return { given, requests };
    });
  } catch (error) {
    if (error instanceof MoreProblem) more.tell(error.message);
    else if (error instanceof InputProblem) error.field.tell(error.message);
    else throw error;
    return null;
  }
}

async function explain() {
  if (running || !detail) return;
  const forms = readForm();
  if (!forms) return stale(true);
  const names = [...new Set(forms[0].requests.map((request) => methodOf(request.method).name))];
  busy(new AbortController(), `Explaining ${forms.length > 1 ? `${forms.length} samples ` : ""}with ${names.join(", ")} …`);
  const began = performance.now();
  const signal = running.signal;
  const results = await askAll(forms, signal);
  if (signal.aborted) return; // whoever cancelled it has shown a message
  busy(null, "");
  show(forms, results, performance.now() - began);
}

/** Returns the results of every form, in order. */
async function askAll(forms, signal) {
  const results = forms.map(() => []);
  const left = forms
    .flatMap(({ given, requests }, form) => requests.map((request, i) => ({ given, request, form, i })))
    .map((each, number) => ({ ...each, number }));
  progress.begin(left.length);
  const worker = async () => {
    for (let next = left.shift(); next && !signal.aborted; next = left.shift()) {
      const { given, request, form, i, number } = next;
      const onProgress = (done, total) => signal.aborted || progress.tell(number, done, total);
      [results[form][i]] = await Promise.allSettled([ask(request, given, signal, onProgress)]);
      if (!signal.aborted) progress.finish(number);
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
  return results;
}

async function ask(request, given, signal, onProgress) {
  const began = performance.now();
  const answer = await server.explain(request, signal, onProgress);
  return readAnswer(answer, given, Math.round(performance.now() - began), request.through);
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
  say(status);
  clearInterval(clock);
  const elapsed = byId("elapsed");
  elapsed.textContent = "";
  if (!controller) return progress.begin(0);
  const began = performance.now();
  clock = setInterval(() => {
    elapsed.textContent = [`${Math.round((performance.now() - began) / 1000)} s`, progress.text].filter(Boolean).join(", ");
  }, 1000);
}

function say(status) {
  byId("status").textContent = status;
}

/** Dims a result that does not belong to the form any more. */
function stale(isStale) {
  const answer = byId("answer");
  const old = isStale && answer.querySelector("article, .line") !== null;
  if (old && !answer.classList.contains("stale")) say(SAID_STALE);
  answer.classList.toggle("stale", old);
}

function show(forms, results, milliseconds) {
  const answers = results.flat().flatMap((result) => (result.status === "fulfilled" ? [result.value] : []));
  if (!answers.length) {
    stale(true);
    return trouble(results[0][0].reason);
  }
  const labelled = results.map((list, i) => list.map((result, j) => ({ ...result, method: methodOf(forms[i].requests[j].method), problem: result.reason && messageOf(result.reason) })));
  const { content, heading } = forms.length > 1 ? showLines(detail, forms, labelled) : showOne(detail, labelled[0]);
  byId("answer").replaceChildren(...content);
  stale(false);
  const verb = answers.every((answer) => answer.notExplained) ? "Predicted" : "Explained";
  say(`${verb} ${heading}, in ${Math.round(milliseconds)} ms.`);
  if (matchMedia("(max-width: 62rem)").matches) byId("results").scrollIntoView();
}

/** Shows an error where it belongs: at the field of the form that it is about, or above the result. */
function trouble(error) {
  if (!(error instanceof CallError)) console.error(error);
  if (error.code === "unauthenticated") return askForToken("The server does not know this token.");
  const [, index] = /^inputs\[(\d+)\]/.exec(error.field ?? "") ?? [];
  if (index !== undefined) return fields[index].tell(messageOf(error));
  if (error.field?.startsWith("method")) return methods.tell(messageOf(error));
  if (/^(groups|condition|through)\b/.test(error.field ?? "")) return more.tell(messageOf(error));
  tell(byId("problem"), messageOf(error));
}

function messageOf(error) {
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
byId("link").addEventListener("click", copyLink);
for (const kind of ["input", "change"]) {
  byId("ask").addEventListener(kind, (event) => {
    if (event.target !== byId("model")) stale(true);
  });
}
byId("model").addEventListener("change", chooseModel);
byId("reload").addEventListener("click", enter);
byId("more").hidden = !server.offersMore;
enter();
