// Blocks: the places that an adapter changes, each as the factors of an update, every number of them finite.
import { quoted, Refusal } from "./sentences.js";

/**
 * An update by its factors: `a` is (rank, inputs), `bt` (rank, outputs), both row by row; `low` says that it is LoRA's.
 * @typedef {{rank: number, inputs: number, outputs: number, scale: number, a: Float32Array, bt: Float32Array,
 *   low: boolean, said: string}} Factors
 */

/** A vector as an update of rank one. @param {Float32Array} values @param {number} scale @param {string} part @returns {Factors} */
export function vectorOf(values, scale, part) {
  const said = `${part} ${values.length}`;
  return { rank: 1, inputs: values.length, outputs: 1, scale, a: values, bt: Float32Array.of(1), low: false, said };
}

/** The mean of rows of vectors. @param {Float32Array} rows @param {number} width @param {number} [start] @param {number} [stride] */
export function meanRow(rows, width, start = 0, stride = width) {
  const mean = new Float64Array(width);
  const count = Math.floor(rows.length / stride);
  for (let row = 0; row < count; row += 1) for (let at = 0; at < width; at += 1) mean[at] += rows[row * stride + start + at];
  return Float32Array.from(mean, (sum) => sum / count);
}

/**
 * Add a block whose numbers are all finite.
 * @param {{where: string}} source
 * @param {Map<string, Factors>} blocks
 * @param {string} name
 * @param {Factors} factors
 */
export function addBlock(source, blocks, name, factors) {
  if (blocks.has(name)) throw new Refusal(`${source.where} holds two blocks of one name.`);
  if (!Number.isFinite(factors.scale) || !factors.a.every(Number.isFinite) || !factors.bt.every(Number.isFinite)) {
    throw new Refusal(`${source.where}: ${quoted(name)} holds NaN or infinity.`);
  }
  blocks.set(name, factors);
}

/** @param {{where: string}} source @param {Map<string, Factors>} blocks */
export function finished(source, blocks) {
  if (blocks.size === 0) throw new Refusal(`${source.where} holds no tuned parameters.`);
  return blocks;
}
