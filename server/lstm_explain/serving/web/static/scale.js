// SPDX-License-Identifier: Apache-2.0

// Colours and numbers, as the Python client's pictures have them: red speaks for, blue against, zero has no colour.

const MINUS = "\u2212";
// Below this share of the largest, a value gets no mark.
export const FAINT = 0.05;

/** The largest finite magnitude, which gets full colour; 1 if all are zero. */
export function largest(values) {
  let top = 0;
  for (const value of values) if (Number.isFinite(value) && Math.abs(value) > top) top = Math.abs(value);
  return top || 1;
}

/** `value` as a share of `scale`, from -1 to 1; a value that is not a number counts as 0. */
export function share(value, scale) {
  return Number.isFinite(value) ? Math.max(-1, Math.min(1, value / scale)) : 0;
}

/** A CSS colour for a share; the page's style sheet has the two colours, for light and dark backgrounds. */
export function colour(part) {
  if (Math.abs(part) < 0.005) return "transparent";
  return `rgba(var(--${part > 0 ? "for" : "against"}), ${Math.abs(part).toPrecision(3)})`;
}

/** for, against or neutral. */
export function side(part) {
  if (Math.abs(part) < 0.005) return "neutral";
  return part > 0 ? "for" : "against";
}

/** Three significant digits; with a sign unless zero. */
export function number(value, signed = true) {
  if (Number.isNaN(value)) return "nan";
  if (!Number.isFinite(value)) return value > 0 ? "∞" : `${MINUS}∞`;
  if (value === 0) return "0";
  const size = Math.abs(value);
  const exponent = Number(size.toExponential(2).split("e")[1]);
  let text = exponent >= -4 && exponent <= 2 ? size.toFixed(2 - exponent) : Number(size.toPrecision(3)).toFixed(0);
  if (exponent < -4 || exponent > 5) text = size.toExponential(2).replace("e+", "e").replace("-", MINUS);
  return (value < 0 ? MINUS : signed ? "+" : "") + text;
}

/** `value` as a share of `whole`; empty where that has no meaning. */
export function percent(value, whole) {
  if (!whole || !Number.isFinite(value / whole)) return "";
  const part = (100 * value) / whole;
  if (value !== 0 && Math.abs(part) < 0.05) return "≈ 0 %";
  return `${part.toFixed(1)} %`.replace("-", MINUS);
}
