// SPDX-License-Identifier: Apache-2.0

// Prepares a time-by-feature table for drawing: selects features, sums steps if there are too many, and places ticks.

const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/**
 * relevance, values: [time][feature]; values may be null. names: of features. steps: labels, or null.
 * In the result rows go by feature: relevance[feature][column], values[feature][column] or null, names, kept (how many
 * of the rows are features; one more may sum up the others), every (steps in a column).
 */
export function grid({ relevance, values, names, steps }, mostFeatures, mostColumns) {
  const length = relevance.length;
  const every = Math.ceil(length / mostColumns);
  const columns = Math.ceil(length / every);
  const across = (table, feature, mean) =>
    Array.from({ length: columns }, (_, column) => {
      const part = table.slice(column * every, (column + 1) * every);
      const sum = part.reduce((total, row) => total + row[feature], 0);
      return mean ? sum / part.length : sum;
    });
  const { kept, rest } = split(relevance, names.length, mostFeatures);
  const rows = kept.map((feature) => across(relevance, feature, false));
  if (rest.length) {
    const others = relevance.map((row) => [rest.reduce((sum, feature) => sum + row[feature], 0)]);
    rows.push(across(others, 0, false));
  }
  return {
    relevance: rows,
    values: values && kept.map((feature) => across(values, feature, true)),
    names: [...kept.map((feature) => names[feature]), ...(rest.length ? [`${rest.length} others`] : [])],
    kept: kept.length,
    steps,
    length,
    every,
    columns,
  };
}

/** Returns the name of a column: its step, or its first and last step. */
export function label(table, column) {
  const step = (i) => (table.steps ? table.steps[i] : `step ${i}`);
  const first = column * table.every;
  if (table.every === 1) return step(first);
  return `${step(first)} to ${step(Math.min(first + table.every, table.length) - 1)}`;
}

/** Returns the labels of the time axis and their columns. */
export function ticks(table, most) {
  const months = table.steps?.every((step) => /^\d{4}-\d{2}-\d{2}/.test(step)) ? byMonth(table) : [];
  if (months.length >= 3) {
    const gap = Math.ceil(months.length / most);
    return months.filter((_, i) => i % gap === 0);
  }
  const gap = roundUp(table.length / most);
  const places = Array.from({ length: Math.ceil(table.length / gap) }, (_, i) => i * gap);
  return places.map((i) => [i / table.every, table.steps ? table.steps[i] : `${i}`]);
}

function byMonth(table) {
  const found = [];
  table.steps.forEach((step, i) => {
    const [year, month] = step.split("-");
    if (i && table.steps[i - 1].startsWith(`${year}-${month}`)) return;
    const named = !found.length || month === "01" ? ` ${year}` : "";
    found.push([i / table.every, MONTHS[Number(month) - 1] + named]);
  });
  // A first month of a few days would collide with the next.
  if (found.length > 1 && (found[1][0] - found[0][0]) * table.every < 20) found.shift();
  return found;
}

function split(relevance, count, most) {
  const all = Array.from({ length: count }, (_, i) => i);
  if (count <= most) return { kept: all, rest: [] };
  const sizes = all.map((feature) => relevance.reduce((sum, row) => sum + Math.abs(row[feature] || 0), 0));
  const order = [...all].sort((a, b) => sizes[b] - sizes[a]);
  return { kept: order.slice(0, most - 1).sort((a, b) => a - b), rest: order.slice(most - 1) };
}

/** The smallest of 1, 2, 5, 10, 20, 50, … that is not below `least`. */
function roundUp(least) {
  for (let power = 1; ; power *= 10) {
    for (const digit of [1, 2, 5]) if (digit * power >= least) return digit * power;
  }
}
