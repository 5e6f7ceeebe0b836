// SPDX-License-Identifier: Apache-2.0

// The part of the page's address after "#": the model, and what the form holds. It stays in the browser: no server sees it.

const MOST = 24_000; // characters; some browsers and mail programs cut longer addresses

/** Returns the part for a model and a state of the form; null if it would be too long. */
export function fragment(model, state) {
  const bytes = new TextEncoder().encode(JSON.stringify(state));
  const text = btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""));
  const data = text.replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
  const whole = `#${encodeURIComponent(model)}?${data}`;
  return whole.length <= MOST ? whole : null;
}

/** Returns the model of an address, and the state of the form; null where there is none, or none that can be read. */
export function readFragment(hash) {
  const [name, data] = hash.replace(/^#/, "").split("?");
  try {
    const model = decodeURIComponent(name);
    if (!data) return { model, state: null };
    const bytes = Uint8Array.from(atob(data.replaceAll("-", "+").replaceAll("_", "/")), (c) => c.charCodeAt(0));
    const state = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
    return { model, state: state !== null && typeof state === "object" ? state : null };
  } catch {
    return { model: "", state: null };
  }
}
