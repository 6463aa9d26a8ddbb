// Embedding: this project's own file, as `pull` makes it; sentences of embedding.py.
import { addBlock, finished, meanRow, vectorOf } from "./blocks.js";
import { floats, isObject, parseJson } from "./safetensors.js";
import { quoted, Refusal, tuple } from "./sentences.js";

/** @import { Factors } from "./blocks.js" */
/** @import { TensorFile } from "./safetensors.js" */

const SCHEMA = "tupate-hub-embedding/1";
const MOST_FACTS = 100_000;

/** Whether a file is an embedding of this project, of any version. @param {TensorFile} file */
export function isEmbedding(file) {
  return (file.metadata.schema ?? "").startsWith("tupate-hub-embedding");
}

/**
 * @param {TensorFile} file
 * @returns {{task: string, base: string, method: string, blocks: Map<string, Factors>, facts: Record<string, any>}}
 */
export function readEmbedding(file) {
  const { where, metadata } = file;
  if (metadata.schema !== SCHEMA) {
    throw new Refusal(`${where} is not a ${SCHEMA} file.`, "other formats are read by: tupate-hub inspect PATH");
  }
  for (const name of ["task", "base", "method", "scales"]) {
    if (!Object.hasOwn(metadata, name)) throw new Refusal(`${where} has a header without ${quoted(name)}.`);
  }
  const { schema, task, base, method, scales, ...rest } = metadata;
  /** @type {Record<string, any>} */
  const facts = Object.create(null); // a stranger's field may be called __proto__
  let scaled;
  try {
    scaled = parseJson(scales, MOST_FACTS);
    for (const [name, text] of Object.entries(rest)) facts[name] = parseJson(text, MOST_FACTS);
  } catch {
    throw new Refusal(`${where} has a header whose facts are not JSON, or have too much in them.`);
  }
  /** @type {Map<string, Map<string, string>>} */
  const parts = new Map();
  for (const name of file.tensors.keys()) {
    const at = name.lastIndexOf(".");
    const block = name.slice(0, Math.max(at, 0));
    parts.set(block, (parts.get(block) ?? new Map()).set(name.slice(at + 1), name));
  }
  const blocks = new Map();
  for (const [name, keys] of parts) addBlock(file, blocks, name, factorsOf(file, name, keys, scaleOf(scaled, name, where)));
  return { task, base, method, blocks: finished(file, blocks), facts };
}

/** @param {any} scales @param {string} name @param {string} where @returns {number} */
function scaleOf(scales, name, where) {
  const value = isObject(scales) ? (Object.hasOwn(scales, name) ? scales[name] : 1) : null;
  if (typeof value !== "number") throw new Refusal(`${where} has a header whose scales are not numbers.`);
  return value;
}

/**
 * What `update` compares of a block (compare/similarity.py).
 * @param {TensorFile} file
 * @param {string} name
 * @param {Map<string, string>} keys
 * @param {number} scale
 * @returns {Factors}
 */
function factorsOf(file, name, keys, scale) {
  const shape = (/** @type {string} */ part) => file.tensors.get(keys.get(part) ?? "")?.shape ?? [];
  const numbers = (/** @type {string} */ part) => floats(file, /** @type {string} */ (keys.get(part)));
  const parts = [...keys.keys()].sort().join(" ");
  const shapes = () => [...keys.keys()].map((part) => `${part} ${tuple(shape(part))}`).join(", ");
  const misfit = () => new Refusal(`${file.where}: the shapes of ${quoted(name)} do not fit together: ${shapes()}.`);
  if ([...keys.keys()].some((part) => shape(part).includes(0) || shape(part).length === 0)) throw misfit();
  if (parts === "A B") {
    const [a, b] = [shape("A"), shape("B")];
    if (a.length !== 2 || b.length !== 2 || a[0] !== b[1]) throw misfit();
    const stored = numbers("B");
    const bt = new Float32Array(stored.length);
    for (let out = 0; out < b[0]; out += 1) for (let at = 0; at < b[1]; at += 1) bt[at * b[0] + out] = stored[out * b[1] + at];
    const said = `A ${a.join(" x ")}, B ${b.join(" x ")}`;
    return { rank: a[0], inputs: a[1], outputs: b[0], scale, a: numbers("A"), bt, low: true, said };
  }
  if (parts === "down down_bias up up_bias") return affine(file, shape, numbers, scale, misfit);
  if (parts === "rows") {
    if (shape("rows").length !== 2) throw misfit();
    return vectorOf(meanRow(numbers("rows"), shape("rows")[1]), 1, "rows");
  }
  if (["bias", "scaling", "vector"].includes(parts)) {
    if (shape(parts).length !== 1) throw misfit();
    const values = numbers(parts);
    return parts === "scaling" ? vectorOf(values.map((value) => value - 1), 1, parts) : vectorOf(values, scale, parts);
  }
  throw new Refusal(`${file.where}: the parts of ${quoted(name)} do not make up a known block.`);
}

/**
 * A bottleneck adapter as factors over [x; 1], so that hidden units may be permuted and rescaled.
 * @param {TensorFile} file
 * @param {(part: string) => number[]} shape
 * @param {(part: string) => Float32Array} numbers
 * @param {number} scale
 * @param {() => Refusal} misfit
 * @returns {Factors}
 */
function affine(file, shape, numbers, scale, misfit) {
  const [[hidden, width], [outputs, inner]] = [shape("down"), shape("up")];
  if (inner !== hidden || shape("down_bias")[0] !== hidden || shape("up_bias")[0] !== outputs) throw misfit();
  const [down, downBias, up, upBias] = ["down", "down_bias", "up", "up_bias"].map(numbers);
  const a = new Float32Array((hidden + 1) * (width + 1));
  const bt = new Float32Array((hidden + 1) * outputs);
  for (let unit = 0; unit < hidden; unit += 1) {
    a.set(down.subarray(unit * width, (unit + 1) * width), unit * (width + 1));
    a[unit * (width + 1) + width] = downBias[unit];
    for (let out = 0; out < outputs; out += 1) bt[unit * outputs + out] = up[out * hidden + unit];
  }
  a[a.length - 1] = 1;
  bt.set(upBias, hidden * outputs);
  return { rank: hidden + 1, inputs: width + 1, outputs, scale, a, bt, low: false, said: `down ${hidden} x ${width}` };
}
