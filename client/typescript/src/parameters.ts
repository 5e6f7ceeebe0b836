// SPDX-License-Identifier: Apache-2.0

/** What all methods' parameters go through on their way to the wire and back. */

import { InvalidRequest } from "./errors.js";

/** Throws for a key that is not among `known`: plain JavaScript has no types that would refuse it. */
export function only(given: object, known: readonly string[], field: string): void {
  for (const key of Object.keys(given)) {
    if (!known.includes(key)) {
      const wanted = known.length > 0 ? known.join(", ") : "none";
      throw new InvalidRequest(`unknown parameter "${key}" of ${field}; it has ${wanted}`, { field: `${field}.${key}` });
    }
  }
}

/** The wire numbers choices from 1; 0 is the server's default. */
export function choice<T extends string>(choices: readonly T[], value: T | undefined, field: string): number {
  const at = value === undefined ? 0 : choices.indexOf(value) + 1;
  if (value !== undefined && at === 0) {
    throw new InvalidRequest(`${field} is "${value}"; expected one of ${choices.join(", ")}`, { field });
  }
  return at;
}

/** The word of a number; undefined for the server's default, and for one that this client does not know. */
export function chosen<T extends string>(choices: readonly T[], number: number): T | undefined {
  return choices[number - 1];
}

/** Every entry converted; without those that become undefined. */
export function mapped<V, W>(entries: Record<string, V>, convert: (value: V) => W | undefined): Record<string, W> {
  const out: Record<string, W> = {};
  for (const [key, value] of Object.entries(entries)) {
    const converted = convert(value);
    if (converted !== undefined) {
      out[key] = converted;
    }
  }
  return out;
}

/** A whole number of 64 bits. */
export function whole(value: number | bigint | undefined): bigint | undefined {
  return value === undefined ? undefined : BigInt(value);
}
