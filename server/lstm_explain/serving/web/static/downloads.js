// SPDX-License-Identifier: Apache-2.0

// Saves a result as a picture, a table, data, or a page of its own.

import { writeTable } from "./csv.js";
import { el, tell } from "./dom.js";

const SCALE = 2; // pixels of the picture for each of the page's
const XHTML = "http://www.w3.org/1999/xhtml";

/** The buttons below a card. name: of the files, without an ending. card: returns the element. */
export function downloads(answer, name, card) {
  const problem = el("span", { class: "problem", role: "alert", hidden: true });
  const button = (kind, make) =>
    el(
      "button",
      {
        type: "button",
        "aria-label": `Download ${answer.method.name} as ${kind}`,
        click: async () => {
          try {
            save(await make(), `${name}.${kind.toLowerCase()}`);
            tell(problem, "");
          } catch (error) {
            tell(problem, `This browser cannot make the file: ${error.message}`);
          }
        },
      },
      kind,
    );
  return el(
    "div",
    { class: "row tools downloads" },
    el("span", {}, "Download"),
    button("PNG", () => png(copyOf(card()), card().offsetWidth, card().offsetHeight)),
    button("CSV", () => new Blob([csvOf(answer)], { type: "text/csv" })),
    button("JSON", () => new Blob([JSON.stringify(dataOf(answer), null, 1)], { type: "application/json" })),
    button("HTML", () => new Blob([page(copyOf(card()), name)], { type: "text/html" })),
    problem,
  );
}

/** The relevance of every input: a line per word, or per step with a column per feature. */
export function csvOf(answer) {
  const parts = answer.pictures.map((picture) => {
    const names = picture.kind === "words" ? ["token", "relevance"] : ["step", ...picture.names];
    const lines =
      picture.kind === "words"
        ? picture.labels.map((label, i) => [label, picture.relevance[i]])
        : picture.rows.map((row, i) => [picture.steps?.[i] ?? i, ...row]);
    return writeTable(names, lines);
  });
  return parts.join("\n");
}

/** What the server answered, with its tensors as numbers. */
export function dataOf(answer) {
  const { model, settings, explained, quantity, ledger, warnings, target, outputs, pictures, groups, through } = answer;
  return {
    model,
    method: answer.method.name,
    settings,
    target,
    explained,
    quantity,
    ledger,
    warnings,
    ...(groups.length ? { groups } : {}),
    ...(through ? { through } : {}),
    outputs: Object.fromEntries(Object.entries(outputs).map(([key, { values }]) => [key, Array.from(values)])),
    relevance: pictures.map(({ name, labels, names, rows, relevance, kind }) => (kind === "words" ? { name, tokens: labels, relevance } : { name, features: names, relevance: rows })),
  };
}

export function save(blob, name) {
  const link = el("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

function copyOf(card) {
  const copy = card.cloneNode(true);
  for (const buttons of copy.querySelectorAll(".downloads")) buttons.remove();
  return copy;
}

function styles() {
  return Array.from(document.styleSheets, (sheet) => Array.from(sheet.cssRules, (rule) => rule.cssText).join("\n")).join("\n");
}

/** A page of text alone: this page's policy allows no style element, not even in a document that nobody sees. */
function page(card, title) {
  const head = `<meta charset="utf-8"><title>${title}</title><style>${styles()} main { display: block; }</style>`;
  return `<!DOCTYPE html>\n<html lang="en"><head>${head}</head><body><main>${card.outerHTML}</main></body></html>\n`;
}

/** Draws the card by way of an SVG that contains it, with the colours that the page has now. */
async function png(card, width, height) {
  const body = document.createElementNS(XHTML, "div");
  const style = document.createElementNS(XHTML, "style");
  style.textContent = styles();
  const root = getComputedStyle(document.documentElement);
  for (const rule of root) if (rule.startsWith("--")) body.style.setProperty(rule, root.getPropertyValue(rule));
  const { color, font } = getComputedStyle(document.body);
  Object.assign(body.style, { color, font, background: root.getPropertyValue("--paper"), width: `${width}px` });
  body.append(style, card);
  const content = new XMLSerializer().serializeToString(body);
  const drawing = `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}"><foreignObject width="100%" height="100%">${content}</foreignObject></svg>`;
  const image = new Image();
  image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(drawing)}`;
  await image.decode();
  const canvas = el("canvas", { width: width * SCALE, height: height * SCALE });
  const context = canvas.getContext("2d");
  context.scale(SCALE, SCALE);
  context.drawImage(image, 0, 0);
  return new Promise((resolve, reject) => canvas.toBlob((blob) => (blob ? resolve(blob) : reject(new Error("no picture"))), "image/png"));
}
