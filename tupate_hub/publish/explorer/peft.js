// PEFT: `adapter_config.json` and its weights as blocks, with the refusals of readers/peft.py and readers/lowrank.py.
import { addBlock, finished, meanRow, vectorOf } from "./blocks.js";
import { blockName, isHead, isTaskHead } from "./names.js";
import { floats } from "./safetensors.js";
import { quoted, Refusal, short, shortList, tuple } from "./sentences.js";

/** @import { Factors } from "./blocks.js" */
/** @import { Tables } from "./names.js" */
/** @import { TensorFile } from "./safetensors.js" */

/**
 * @typedef {{method: string, blocks: Map<string, Factors>, notes: string[]}} Found
 * @typedef {Map<string, Map<string, string>>} Modules By module and part, the key of the tensor.
 */

/** @type {Record<string, string>} */
const PARTS = {
  lora_A: "A", lora_B: "B", lora_E: "E", lora_embedding_A: "A", lora_embedding_B: "B", lora_magnitude_vector: "magnitude",
  ia3_l: "scaling", ln_tuning_layers: "norm", beft_bias: "beft",
};
const MOST_COPIES = 1000;
const MOST_GROUPS = 4;

/** @type {Record<string, (source: Source) => Found>} */
const READERS = {
  LORA: readLora, IA3: readIa3, PREFIX_TUNING: readPrefix, PROMPT_TUNING: readPrompt, P_TUNING: readPrompt,
};

/** One adapter's configuration and weights. */
export class Source {
  /**
   * @param {Tables} tables
   * @param {Record<string, any>} config
   * @param {TensorFile} file
   */
  constructor(tables, config, file) {
    this.tables = tables;
    this.config = config;
    this.file = file;
    this.where = file.where;
  }

  /** @param {string} what @param {string} [hint] */
  refuse(what, hint = "") {
    return new Refusal(`${this.where} ${what}`, hint);
  }

  /** @param {string} key @param {number} default_ @param {Record<string, any>} [config] @returns {number} */
  number(key, default_, config = this.config) {
    const value = Object.hasOwn(config, key) ? config[key] : null;
    if (value === null) return default_;
    if (typeof value !== "number" || !(Math.abs(value) < 1e30)) {
      throw this.refuse(`has a configuration whose ${quoted(key)} is ${short(value)}, which is not a number.`);
    }
    return value;
  }

  /** @param {string} key @param {string} [called] */
  floats(key, called = key) {
    return floats(this.file, key, called);
  }

  /** @param {string} key @returns {number[]} */
  shape(key) {
    return this.file.tensors.get(key)?.shape ?? [];
  }
}

/** @param {Source} source @returns {Found} */
export function readPeft(source) {
  const kind = source.config.peft_type;
  const { read, refused } = source.tables;
  if (typeof kind !== "string" || !read.includes(kind)) {
    const why = typeof kind !== "string" ? "that is not a method's name" : (Object.hasOwn(refused, kind) ? refused[kind] : "it is not known here");
    throw source.refuse(`is a PEFT adapter of type ${quoted(String(kind).slice(0, 40))}, which is not read: ${why}.`, `read: ${read.join(", ")}`);
  }
  if (!Object.hasOwn(READERS, kind)) {
    throw source.refuse(`is a PEFT adapter of type ${quoted(kind)}, which the command line reads and this page does not.`, "tupate-hub similar ./FOLDER");
  }
  return READERS[kind](source);
}

/** The method's tensors by module and part, and the keys of plain biases. @param {Source} source */
function sortKeys(source) {
  /** @type {Modules} */
  const modules = new Map();
  const biases = [];
  const adapters = new Set();
  const saved = source.config.modules_to_save;
  if (Array.isArray(saved) && saved.length > MOST_COPIES) {
    throw source.refuse(`has a configuration that saves ${saved.length} modules in full.`);
  }
  const copies = (Array.isArray(saved) ? saved : [saved]).filter((name) => typeof name === "string");
  for (const key of source.file.tensors.keys()) {
    const pieces = key.split(".");
    const at = pieces.findIndex((piece) => Object.hasOwn(PARTS, piece));
    if (at < 0) {
      const copied = pieces.includes("modules_to_save") || copies.some((name) => `.${key}`.includes(`.${name}.`));
      if (!isHead(source.tables, key) && !copied && pieces[pieces.length - 1] === "bias") biases.push(key);
      continue;
    }
    if (isTaskHead(source.tables, key)) continue; // an adapter of a head: its shape differs from task to task
    const rest = pieces.slice(at + 1);
    const kind = ["weight", "bias"].includes(rest[rest.length - 1]) ? rest.pop() : "";
    if (rest.length > 0) adapters.add(rest.join("."));
    const part = PARTS[pieces[at]] === "norm" ? kind ?? "" : PARTS[pieces[at]] + (kind === "bias" ? "_bias" : "");
    const module = pieces.slice(0, at).join(".");
    const parts = modules.get(module) ?? new Map();
    if (parts.has(part)) throw source.refuse(`holds two tensors for one place: ${quoted(key)}.`);
    modules.set(module, parts.set(part, key));
  }
  if (adapters.size > 1) {
    throw new Refusal(`${source.where} holds ${adapters.size} adapters: ${shortList([...adapters].sort())}.`);
  }
  return { modules, biases };
}

// --- LoRA ------------------------------------------------------------------------------------------------------

/** @param {Source} source @returns {Found} */
function readLora(source) {
  refuseOptions(source);
  const { modules, biases } = sortKeys(source);
  if (modules.size === 0 && biases.length > 0) return readBiases(source, biases);
  const alpha = source.number("lora_alpha", 8);
  const stabilised = source.config.use_rslora === true;
  const alphas = alphaPattern(source);
  const enabled = enabledParts(source);
  const notes = [];
  const blocks = new Map();
  for (const [module, parts] of modules) {
    if (parts.delete("magnitude") && notes.length === 0) {
      notes.push("DoRA: the low-rank part is read; the magnitudes need the base model's weights.");
    }
    if (!parts.has("A") && !parts.has("B")) continue;
    const grouped = enabled.length > 0 && source.shape(parts.get("B") ?? "").length === 3;
    const pair = grouped ? groupedPair(source, module, parts, enabled) : plainPair(source, module, parts);
    const rank = grouped ? pair.rank / enabled.filter(Boolean).length : pair.rank;
    const own = alphas(module.replace(/^base_model\.model\./, "")) ?? alpha;
    const scale = own / (stabilised ? Math.sqrt(rank) : rank);
    addBlock(source, blocks, blockName(source.tables, module), { ...pair, scale, low: true });
    if (parts.has("B_bias")) {
      addBlock(source, blocks, `${blockName(source.tables, module)}.bias`, vectorOf(source.floats(/** @type {string} */ (parts.get("B_bias")), module), scale, "bias"));
    }
  }
  if (biases.length > 0) notes.push(`${biases.length} tuned biases beside the method are left out.`);
  if (source.config.init_lora_weights === "loftq") notes.push("LoftQ: the update is relative to the quantised base model.");
  return { method: "lora", blocks: finished(source, blocks), notes };
}

/** @param {Source} source */
function refuseOptions(source) {
  const { refusedOptions, refusedStarts } = source.tables;
  for (const [option, why] of Object.entries(refusedOptions)) {
    const value = Object.hasOwn(source.config, option) ? source.config[option] : null;
    const empty = value === "" || value === 0 || (value !== null && typeof value === "object" && Object.keys(value).length === 0);
    if (value && !empty) throw source.refuse(`uses LoRA's option ${quoted(option)}, which is not read: ${why}.`);
  }
  const start = source.config.init_lora_weights;
  if (typeof start === "string" && refusedStarts.some((name) => start.startsWith(name))) {
    throw source.refuse(
      `was started with ${quoted(start.slice(0, 40))}, which moves a part of the base model into the factors.`,
      "save it again with path_initial_model_for_weight_conversion=..., which makes it an ordinary LoRA",
    );
  }
}

/**
 * The configuration's `alpha_pattern`: plain ends of names are read; expressions are left to the command line.
 * @param {Source} source
 * @returns {(module: string) => number | null}
 */
function alphaPattern(source) {
  const written = source.config.alpha_pattern ?? {};
  if (typeof written !== "object" || Array.isArray(written)) {
    throw source.refuse(`has a configuration whose 'alpha_pattern' is ${short(written)}, which is not an object.`);
  }
  const known = Object.keys(written).map((pattern) => {
    const value = source.number(pattern, 0, written);
    const anchored = pattern.startsWith("^");
    const name = pattern.replace(/^\^|\$$/g, "").replaceAll("\\.", ".");
    if (pattern.length > 300 || !/^[\w-]+(?:\.[\w-]+)*$/.test(name)) {
      throw source.refuse(`has a alpha_pattern whose expression ${quoted(pattern.slice(0, 80))} is not read on this page.`, "tupate-hub similar ./FOLDER");
    }
    return { name, anchored, value };
  });
  return (module) =>
    known.find(({ name, anchored }) => module === name || (!anchored && module.endsWith(`.${name}`)))?.value ?? null;
}

/** @param {Source} source @returns {boolean[]} */
function enabledParts(source) {
  const written = source.config.enable_lora ?? false;
  if (written === false) return [];
  if (!Array.isArray(written) || written.length > MOST_GROUPS || !written.every((flag) => typeof flag === "boolean")) {
    throw source.refuse("has a configuration whose 'enable_lora' is not a list of at most four truth values.");
  }
  return written;
}

/**
 * A and the transpose of B, with convolutions of one group flattened.
 * @param {Source} source
 * @param {string} module
 * @param {Map<string, string>} parts
 */
function plainPair(source, module, parts) {
  for (const [half, other] of [["A", "B"], ["B", "A"]]) {
    if (!parts.has(half)) throw source.refuse(`holds a lora_${other} without its lora_${half}: ${quoted(module)}.`);
  }
  let a = source.shape(/** @type {string} */ (parts.get("A")));
  let b = source.shape(/** @type {string} */ (parts.get("B")));
  if (a.length === b.length && a.length >= 3 && a.length <= 5 && product(b.slice(2)) === 1) {
    a = a[0] ? [a[0], product(a.slice(1))] : a;
    b = b.slice(0, 2);
  }
  if (a.length !== 2 || b.length !== 2 || a[0] !== b[1]) {
    throw source.refuse(`holds LoRA factors that do not fit together: ${quoted(module)} has A ${tuple(a)}, B ${tuple(b)}.`);
  }
  if ([...a, ...b].includes(0)) throw source.refuse(`holds LoRA factors of rank or width 0: ${quoted(module)}.`);
  const numbers = source.floats(/** @type {string} */ (parts.get("A")), module);
  const bt = transposed(source.floats(/** @type {string} */ (parts.get("B")), module), b[0], b[1]);
  return { rank: a[0], inputs: a[1], outputs: b[0], a: numbers, bt, said: `A ${a.join(" x ")}, B ${b.join(" x ")}` };
}

/**
 * One ordinary pair equal to a grouped one over a fused projection (`enable_lora`).
 * @param {Source} source
 * @param {string} module
 * @param {Map<string, string>} parts
 * @param {boolean[]} enabled
 */
function groupedPair(source, module, parts, enabled) {
  for (const half of ["A", "B"]) {
    if (!parts.has(half)) throw source.refuse(`holds a fused LoRA without its lora_${half}: ${quoted(module)}.`);
  }
  const a = source.shape(/** @type {string} */ (parts.get("A")));
  const b = source.shape(/** @type {string} */ (parts.get("B")));
  const groups = enabled.filter(Boolean).length;
  if (groups === 0 || a.length !== 2 || b[2] !== 1) {
    throw source.refuse(`holds a fused LoRA of ${groups} groups that is not understood: ${quoted(module)}.`);
  }
  const rank = b[1];
  if (!rank || a[0] !== groups * rank || !b[0] || b[0] % groups) {
    throw source.refuse(`holds a fused LoRA whose shapes do not fit: ${quoted(module)} has A ${tuple(a)}, B ${tuple(b.slice(0, 2))}.`);
  }
  const width = b[0] / groups;
  const stored = source.floats(/** @type {string} */ (parts.get("B")), module);
  const outputs = enabled.length * width;
  const bt = new Float32Array(groups * rank * outputs);
  let group = 0;
  enabled.forEach((on, slot) => {
    if (!on) return;
    for (let out = 0; out < width; out += 1) {
      for (let at = 0; at < rank; at += 1) {
        bt[(group * rank + at) * outputs + slot * width + out] = stored[(group * width + out) * rank + at];
      }
    }
    group += 1;
  });
  const numbers = source.floats(/** @type {string} */ (parts.get("A")), module);
  return { rank: groups * rank, inputs: a[1], outputs, a: numbers, bt, said: `A ${a.join(" x ")}, B ${outputs} x ${groups * rank}` };
}

/** @param {Float32Array} numbers @param {number} rows @param {number} columns */
function transposed(numbers, rows, columns) {
  const turned = new Float32Array(numbers.length);
  for (let row = 0; row < rows; row += 1) {
    for (let column = 0; column < columns; column += 1) turned[column * rows + row] = numbers[row * columns + column];
  }
  return turned;
}

/** @param {number[]} sizes */
function product(sizes) {
  return sizes.reduce((total, size) => total * size, 1);
}

// --- vectors and rows ----------------------------------------------------------------------------------------------

/** @param {Source} source @param {string[]} keys @returns {Found} */
export function readBiases(source, keys) {
  const blocks = new Map();
  for (const key of keys) addBlock(source, blocks, blockName(source.tables, key), vectorOf(source.floats(key), 1, "bias"));
  const notes = ["The biases are raw: give the base model's weights to have the difference from them."];
  return { method: "bitfit", blocks: finished(source, blocks), notes };
}

/** @param {Source} source @returns {Found} */
function readIa3(source) {
  const { modules, biases } = sortKeys(source);
  const blocks = new Map();
  for (const [module, parts] of modules) {
    const key = parts.get("scaling");
    if (key === undefined) continue;
    const values = source.floats(key, module);
    addBlock(source, blocks, blockName(source.tables, module), vectorOf(values.map((value) => value - 1), 1, "scaling"));
  }
  const notes = biases.length > 0 ? [`${biases.length} tuned biases beside the method are left out.`] : [];
  return { method: "ia3", blocks: finished(source, blocks), notes };
}

/** The rows of a prompt and their shape. @param {Source} source @returns {[Float32Array, number[]]} */
function promptRows(source) {
  const key = [...source.file.tensors.keys()].find((name) => name.split(".").pop() === "prompt_embeddings");
  if (key === undefined) throw source.refuse("holds no 'prompt_embeddings'.");
  const shape = source.shape(key);
  if (shape.length !== 2 || shape.includes(0)) {
    throw source.refuse(`holds 'prompt_embeddings' of shape ${tuple(shape)}, where (tokens, width) is needed.`);
  }
  return [source.floats(key), shape];
}

/** @param {Source} source @returns {Found} */
function readPrompt(source) {
  const [rows, [count, width]] = promptRows(source);
  const tokens = Math.trunc(source.number("num_virtual_tokens", count));
  const both = source.config.num_transformer_submodules === 2 && count === 2 * tokens;
  const blocks = new Map();
  addBlock(source, blocks, "prompt", vectorOf(meanRow(both ? rows.subarray(0, tokens * width) : rows, width), 1, "rows"));
  if (both) addBlock(source, blocks, "decoder.prompt", vectorOf(meanRow(rows.subarray(tokens * width), width), 1, "rows"));
  const notes = source.config.peft_type === "P_TUNING" ? ["P-tuning: read as the prompt that its encoder makes."] : [];
  return { method: "prompt", blocks: finished(source, blocks), notes };
}

/** One flat tensor (n, layers * 2 * width), keys before values. @param {Source} source @returns {Found} */
function readPrefix(source) {
  const [rows, shape] = promptRows(source);
  const [, flat] = shape;
  let layers = Math.trunc(source.number("num_layers", 0));
  const width = Math.trunc(source.number("token_dim", 0));
  if (layers <= 0 && width > 0) layers = Math.floor(flat / (2 * width));
  if (!(0 < layers && layers <= flat)) {
    throw source.refuse(`holds a prefix that does not divide into the ${layers} layers of its configuration.`);
  }
  if (layers > 1000 || flat % (2 * layers)) {
    throw source.refuse(`holds a prefix of shape ${tuple(shape)}, which does not divide into ${layers} layers.`);
  }
  const each = flat / (2 * layers);
  const blocks = new Map();
  for (let layer = 0; layer < layers; layer += 1) {
    ["keys", "values"].forEach((kind, half) => {
      addBlock(source, blocks, `layer.${layer}.${kind}`, vectorOf(meanRow(rows, each, (2 * layer + half) * each, flat), 1, "rows"));
    });
  }
  return { method: "prefix", blocks: finished(source, blocks), notes: [] };
}
