// SPDX-License-Identifier: Apache-2.0

// Describes methods and their parameters.

import { METHODS } from "./method_table.js";

export { METHODS };

/** The method of a message. */
export function methodOf(message) {
  return METHODS.find((method) => method.key in (message ?? {}));
}

/** A method's parameters in words: as they were used. */
export function described(message) {
  const method = methodOf(message);
  if (!method) return "";
  const used = message[method.key];
  return method.parameters
    .filter((parameter) => used[parameter.key] !== undefined)
    .map((parameter) => `${parameter.label} ${shown(parameter, used[parameter.key])}`)
    .join(", ");
}

/** The ledger's entries in order, with what they hold. */
export function entries(method) {
  const [absorbed, residual] = method?.held ?? ["absorbed", "residual"];
  return [
    ["inputs", "the inputs"],
    ["initialStates", "constant initial states"],
    ["absorbed", absorbed],
    ["residual", residual],
  ];
}

function shown(parameter, value) {
  const option = parameter.options?.find(([key]) => key === value);
  return option?.[1] ?? (value === "PLAYERS_GROUPS" ? "groups" : value); // which a request sets, not the form
}
