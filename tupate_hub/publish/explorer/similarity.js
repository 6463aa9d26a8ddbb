// Similarity: an adapter against a space by r x r products, exact as compare/lowrank.py: no weight matrix is ever formed.
import { bytesOf, fromHalf } from "./numbers.js";
import { quoted, Refusal } from "./sentences.js";

/** @import { Factors } from "./blocks.js" */

/**
 * One task of a space, as its script has it.
 * @typedef {{row: number, half: boolean, blocks: [number, number, number, number, number][], data: string}} Packed
 * @typedef {Map<number, Factors>} Unpacked By the number of the block's name.
 * @typedef {{scores: (number | null)[], parts: (Float64Array | null)[], coverage: [number, number][],
 *   leftOut: Record<number, string>, blocks: string[], change: number, shared: boolean}} Compared
 */

/** @param {Packed} packed @returns {Unpacked} */
export function unpack(packed) {
  const bytes = bytesOf(packed.data);
  const numbers = packed.half ? fromHalf(new Uint16Array(bytes.buffer)) : new Float32Array(bytes.buffer);
  /** @type {Unpacked} */
  const blocks = new Map();
  let at = 0;
  for (const [name, rank, inputs, outputs, scale] of packed.blocks) {
    const a = numbers.subarray(at, at + rank * inputs);
    const bt = numbers.subarray(at + rank * inputs, at + rank * (inputs + outputs));
    at += rank * (inputs + outputs);
    blocks.set(name, { rank, inputs, outputs, scale, a, bt, low: true, said: "" });
  }
  return blocks;
}

/**
 * <B A, B' A'> = sum((Bᵀ B') ∘ (A A'ᵀ)), the Frobenius inner product of two updates, from r x r' products; infinite where
 * one of them is beyond single precision, in which the command line multiplies.
 * @param {Factors} x
 * @param {Factors} y
 */
export function inner(x, y) {
  const scale = x.scale * y.scale;
  let sum = 0;
  for (let i = 0; i < x.rank; i += 1) {
    const xa = i * x.inputs;
    const xb = i * x.outputs;
    for (let j = 0; j < y.rank; j += 1) {
      const ya = j * y.inputs;
      const yb = j * y.outputs;
      let first = 0;
      for (let k = 0; k < x.inputs; k += 1) first += x.a[xa + k] * y.a[ya + k];
      let second = 0;
      for (let k = 0; k < x.outputs; k += 1) second += x.bt[xb + k] * y.bt[yb + k];
      sum += Math.fround(Math.fround(first) * Math.fround(second * scale));
    }
  }
  return sum;
}

/** @param {Map<any, Factors>} blocks @returns {Map<any, number>} */
export function squaresOf(blocks) {
  return new Map([...blocks].map(([name, block]) => [name, inner(block, block)]));
}

/** The median over low-rank blocks of ||W|| / sqrt(outputs), as compare/magnitude.py. @param {Map<string, Factors>} blocks */
export function outputChange(blocks) {
  const changes = [...blocks.values()]
    .filter((block) => block.low)
    .map((block) => Math.sqrt(Math.max(inner(block, block), 0) / block.outputs))
    .sort((one, other) => one - other);
  if (changes.length === 0) return 0;
  return (changes[(changes.length - 1) >> 1] + changes[changes.length >> 1]) / 2;
}

/** The squared norm of an update; refused where it has no direction. @param {string} name @param {Map<string, number>} squares */
export function measured(name, squares) {
  const total = sum(squares.values());
  if (!Number.isFinite(total)) throw new Refusal(`The update of ${quoted(name)} is too large to measure: it diverged.`);
  if (!(total > 0)) throw new Refusal(`The update of ${quoted(name)} is all zero: it was never trained.`);
  return total;
}

/**
 * One adapter against every task of a space.
 * @param {string} name What the adapter is called.
 * @param {Map<string, Factors>} query
 * @param {string[]} names The names of the space's blocks.
 * @param {{blocks: Unpacked, squares: Map<number, number>}[]} tasks
 * @returns {Compared}
 */
export function compareWith(name, query, names, tasks) {
  const squares = squaresOf(query);
  const total = measured(name, squares);
  const number = new Map(names.map((block, at) => [block, at]));
  /** @type {Compared} */
  const found = { scores: [], parts: [], coverage: [], leftOut: {}, blocks: names, change: outputChange(query), shared: false };
  let misfit = "";
  tasks.forEach((task, at) => {
    const parts = new Float64Array(names.length);
    const norm = Math.sqrt(total * sum(task.squares.values()));
    let ofQuery = 0;
    let ofTask = 0;
    let why = "";
    for (const [block, mine] of query) {
      const theirs = task.blocks.get(number.get(block) ?? -1);
      if (theirs === undefined) continue;
      if (theirs.inputs !== mine.inputs || theirs.outputs !== mine.outputs) {
        const real = theirs.outputs > 1 ? ` (A ${theirs.rank} x ${theirs.inputs}, B ${theirs.outputs} x ${theirs.rank})` : "";
        why ||= `its block ${quoted(block)}${real} takes ${theirs.inputs} inputs to ${theirs.outputs} outputs, not ${mine.inputs} to ${mine.outputs}`;
        misfit ||= `Block ${quoted(block)} has another shape in ${quoted(name)} than in the zoo.`;
        continue;
      }
      const place = /** @type {number} */ (number.get(block));
      parts[place] = inner(mine, theirs) / norm;
      const [own, other] = [squares.get(block) ?? 0, task.squares.get(place) ?? 0];
      if (other > 0) ofQuery += own;
      if (own > 0) ofTask += other;
      found.shared = true;
    }
    if (why) found.leftOut[at] = why;
    found.scores.push(why ? null : parts.reduce((all, part) => all + part, 0));
    found.parts.push(why ? null : parts);
    found.coverage.push([ofQuery / total, ofTask / sum(task.squares.values())]);
  });
  if (misfit && found.scores.every((score) => score === null)) throw new Refusal(misfit);
  return found;
}

/** @param {Iterable<number>} values */
function sum(values) {
  let total = 0;
  for (const value of values) total += value;
  return total;
}
