// SPDX-License-Identifier: Apache-2.0

// Words with their relevance, and the legend.

import { el } from "./dom.js";
import { FAINT, colour, largest, number, share, side } from "./scale.js";

const HEAVY = 0.5;

/** tokens and relevance: one a word; empty tokens are padding. */
export function words(tokens, relevance) {
  const top = largest(relevance);
  const items = tokens.flatMap((token, i) => (token ? [word(token, relevance[i], top)] : []));
  return [el("ul", { class: "words", "aria-label": "Relevance of each word" }, items), legend(top)];
}

function word(token, value, top) {
  const part = share(value, top);
  const marked = Math.abs(part) >= FAINT;
  const kind = marked ? `${side(part)} ${Math.abs(part) >= HEAVY ? "heavy" : ""}` : "faint";
  return el(
    "li",
    { class: `word ${kind}`, title: `${token}: ${number(value)}, ${side(part)}` },
    el("b", { class: ink(part), style: { "background-color": colour(part) } }, token),
    el("small", {}, number(value)),
  );
}

/** The class of text on a share's colour: from these shares on white is easier to read than black (WCAG's contrast). */
export function ink(part) {
  if (part >= 0.76 || part <= -0.83) return "on-strong";
  return Math.abs(part) >= HEAVY ? "on-middle" : "";
}

export function legend(top) {
  const bounds = `Scale: blue is against, down to ${number(-top)}; no colour is zero; red is for, up to ${number(top)}`;
  return el(
    "p",
    { class: "legend" },
    el("span", {}, `against ${number(-top)}`),
    el("span", { class: "bar", role: "img", "aria-label": bounds }),
    el("span", {}, `${number(top)} for`),
  );
}
