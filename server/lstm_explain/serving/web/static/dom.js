// SPDX-License-Identifier: Apache-2.0

// Elements. Text is always text: nothing here reads HTML.

const SVG = "http://www.w3.org/2000/svg";

/** An element; attributes that are functions are listeners, `style` sets properties, null and false leave out. */
export function el(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

export function svg(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

export function byId(id) {
  return document.getElementById(id);
}

/** Shows a message, or hides its place where there is none. */
export function tell(node, message) {
  node.textContent = message;
  node.hidden = !message;
}

function filled(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") node.addEventListener(name, value);
    else if (name === "style") for (const [key, text] of Object.entries(value)) node.style.setProperty(key, text);
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return node;
}
