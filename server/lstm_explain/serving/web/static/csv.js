// SPDX-License-Identifier: Apache-2.0

// Tables of numbers as text: commas, semicolons or tabs; quotes; a header where there is one.

const DELIMITERS = [",", ";", "\t"];

/** An error in a table. The message says where. */
export class TableError extends Error {}

/**
 * Reads a table into rows of numbers, in the order of the model's columns.
 *
 * names: the columns by name, or null. count: how many columns there have to be, or null. check: what is wrong with a
 * number, or "". sample: the name of a column that tells samples apart, if the text has it and the model does not. Another
 * column that the model does not have is left out; the first of them names the rows.
 * Returns rows, names (or null), labels of the rows (or null), samples (a name per row, or null), ignored (columns left
 * out). Throws TableError.
 */
export function readTable(text, { names = null, count = null, check = () => "", sample = null }) {
  const delimiter = delimiterOf(text);
  const records = readRecords(text, delimiter);
  if (!records.length) throw new TableError("the table contains no numbers");
  const header = isHeader(records[0].cells, delimiter, names) ? records.shift().cells : null;
  if (!records.length) throw new TableError("the table has a header but no row of numbers");
  const width = header?.length ?? records[0].cells.length;
  const apart = sample && !names?.map(plain).includes(sample) ? (header?.findIndex((name) => plain(name) === sample) ?? -1) : -1;
  const columns = chosen(header, width, names, count, apart);
  const rows = records.map((record, i) => {
    if (record.cells.length !== width) {
      const wanted = header ? `the header has ${width}` : `the first row has ${width}`;
      throw new TableError(`row ${i + 1} (line ${record.line}) has ${cells(record.cells.length)}, ${wanted}`);
    }
    return columns.map(({ at, name }) => number(record.cells[at], delimiter, check, () => place(i, record.line, name)));
  });
  const unused = (at) => at !== apart && !columns.some((column) => column.at === at);
  const left = header ? header.map((_, at) => at).filter(unused) : [];
  return {
    rows,
    names: header || names ? columns.map((column) => column.name) : null,
    labels: left.length ? records.map((record) => record.cells[left[0]].trim()) : null,
    samples: apart >= 0 ? records.map((record) => record.cells[apart].trim()) : null,
    ignored: left.map((at) => header[at].trim()),
  };
}

/** Formats a table as text that readTable reads. */
export function writeTable(names, rows) {
  const lines = rows.map((row) => row.map((cell) => quoted(`${cell}`)).join(","));
  return [...(names ? [names.map(quoted).join(",")] : []), ...lines].join("\n") + "\n";
}

function quoted(cell) {
  return /[",;\t\n]/.test(cell) ? `"${cell.replaceAll('"', '""')}"` : cell;
}

function chosen(header, width, names, count, apart) {
  if (!header) {
    const wanted = names?.length ?? count;
    if (wanted !== null && width !== wanted) {
      const which = names ? ` (${names.join(", ")})` : "";
      throw new TableError(`the first row has ${cells(width)}, the model requires ${wanted}${which}`);
    }
    return Array.from({ length: width }, (_, at) => ({ at, name: names?.[at] ?? `${at + 1}` }));
  }
  const said = header.map(plain);
  if (names) {
    return names.map((name) => {
      const found = said.flatMap((other, at) => (other === plain(name) ? [at] : []));
      if (found.length > 1) throw new TableError(`the column ${name} occurs more than once, at positions ${found.map((at) => at + 1).join(" and ")}`);
      if (!found.length) throw new TableError(`the column ${name} is missing; the header has ${header.map((h) => h.trim()).join(", ")}`);
      return { at: found[0], name };
    });
  }
  const kept = header.map((name, at) => ({ at, name: name.trim() || `${at + 1}` })).filter(({ at }) => at !== apart);
  if (count !== null && kept.length !== count) {
    throw new TableError(`the header has ${cells(kept.length)}, the model requires ${count}`);
  }
  return kept;
}

/** Normalises a name for comparison: removes the unit and ignores case. */
function plain(name) {
  return name.trim().replace(/\s*[([][^)\]]*[)\]]$/, "").toLowerCase();
}

function cells(count) {
  return `${count} ${count === 1 ? "cell" : "cells"}`;
}

function place(row, line, name) {
  return `row ${row + 1} (line ${line}), column ${name}`;
}

function isHeader(first, delimiter, names) {
  const known = names?.map(plain) ?? [];
  if (first.some((cell) => known.includes(plain(cell)))) return true;
  return first.some((cell) => cell.trim() && Number.isNaN(parsed(cell, delimiter)));
}

function number(cell, delimiter, check, where) {
  const value = parsed(cell, delimiter);
  if (!cell.trim()) throw new TableError(`${where()} is empty; enter a number`);
  if (!Number.isFinite(value)) throw new TableError(`${where()} is “${cell.trim().slice(0, 40)}” instead of a number`);
  const problem = check(value);
  if (problem) throw new TableError(`${where()} is ${cell.trim()}; ${problem}`);
  return value;
}

/** Reads a number. If commas do not separate cells, a comma can be the decimal separator. */
function parsed(cell, delimiter) {
  const text = cell.trim().replace("\u2212", "-");
  const decimal = delimiter === "," ? text : text.replace(",", ".");
  return /^[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?$/i.test(decimal) ? Number(decimal) : NaN;
}

function delimiterOf(text) {
  const line = text.replace(/"[^"]*"/g, "").split("\n").find((l) => l.trim()) ?? "";
  const counts = DELIMITERS.map((delimiter) => line.split(delimiter).length);
  // A semicolon or tab decides, however many decimal commas there are.
  if (counts[1] > 1) return ";";
  return counts[2] > 1 ? "\t" : ",";
}

function readRecords(text, delimiter) {
  const source = text.replace(/^\uFEFF/, "").replace(/\r\n?/g, "\n");
  const records = [];
  let [cells, cell, inQuotes, line, start] = [[], "", false, 1, 1];
  const end = () => {
    cells.push(cell);
    if (cells.length > 1 || cells[0].trim()) records.push({ cells, line: start });
    [cells, cell, start] = [[], "", line];
  };
  for (let at = 0; at < source.length; at++) {
    const character = source[at];
    if (character === "\n") line++;
    if (inQuotes) {
      if (character !== '"') cell += character;
      else if (source[at + 1] === '"') cell += source[++at];
      else inQuotes = false;
    } else if (character === '"' && !cell.trim()) [inQuotes, cell] = [true, ""];
    else if (character === delimiter) {
      cells.push(cell);
      cell = "";
    } else if (character === "\n") end();
    else cell += character;
  }
  if (inQuotes) throw new TableError(`the quotation mark in line ${start} has no closing mark`);
  if (cell || cells.length) end();
  return records;
}
