// Worker: reads what was dropped and compares it, beside the page, which stays quick. Nothing here can reach a network.
import { isEmbedding, readEmbedding } from "./embedding.js";
import { isHead, normalisedBase, originalOf } from "./names.js";
import { finished } from "./blocks.js";
import { readBiases, readPeft, Source } from "./peft.js";
import { isObject, parseJson, readTensorFile } from "./safetensors.js";
import { quoted, Refusal, shortList } from "./sentences.js";
import { compareWith, measured, outputChange, squaresOf, unpack } from "./similarity.js";
import { estimated, sketchOf } from "./sketch.js";
import { bytesOf } from "./numbers.js";

/** @import { Tables } from "./names.js" */
/** @import { Factors } from "./blocks.js" */
/** @import { Compared, Packed, Unpacked } from "./similarity.js" */

/**
 * @typedef {{path: string, blob: Blob}} Dropped
 * @typedef {{name: string, base: string, method: string, blocks: Map<string, Factors>, notes: string[],
 *   facts: Record<string, any>, task: string | null, sha256: string | null}} Adapter
 */

const CONFIG = "adapter_config.json";
const MOST_CONFIG = 4_000_000;
const MOST_ITEMS = 200_000;

/** @type {Map<number, {blocks: Unpacked, squares: Map<number, number>}[]>} Unpacked tasks of the spaces, by their rows. */
const spaces = new Map();
/** @type {Map<number, Uint8Array[]>} Sketches of the tasks of large spaces, by their rows. */
const sketches = new Map();
/** @type {Adapter | null} */
let adapter = null;

self.onmessage = async (/** @type {MessageEvent} */ event) => {
  const { id, kind, ...asked } = event.data;
  try {
    self.postMessage({ id, answer: await ANSWERS[kind](asked) });
  } catch (error) {
    const told = error instanceof Refusal ? { message: error.message, hint: error.hint } : { message: `This page failed: ${error}`, hint: "" };
    self.postMessage({ id, refusal: told });
  }
};

/** @type {Record<string, (asked: any) => any>} */
const ANSWERS = {
  /** Read what was dropped; it stays here, for `compare`. */
  async read(/** @type {{tables: Tables, files: Dropped[], base: string | null}} */ { tables, files, base }) {
    adapter = await readAdapter(tables, files, base);
    const { blocks, ...told } = adapter;
    let numbers = 0;
    for (const block of blocks.values()) numbers += block.a.length + (block.low ? block.bt.length : 0);
    return { ...told, count: blocks.size, numbers };
  },

  /** Take a part of a space's embeddings. */
  take(/** @type {{space: number, rows: (Packed & {sketch?: string})[]}} */ { space, rows }) {
    if (rows.some((row) => row.sketch !== undefined)) {
      const held = sketches.get(space) ?? [];
      for (const { row, sketch } of rows) held[row] = bytesOf(/** @type {string} */ (sketch));
      sketches.set(space, held);
      return held.length;
    }
    const held = spaces.get(space) ?? [];
    for (const row of rows) {
      const blocks = unpack(row);
      held[row.row] = { blocks, squares: squaresOf(blocks) };
    }
    spaces.set(space, held);
    return held.length;
  },

  /** Compare what was read with a space that was taken whole. */
  compare(/** @type {{space: number, names: string[]}} */ { space, names }) {
    if (adapter === null) throw new Refusal("Nothing was dropped.");
    const known = sketches.get(space);
    return known === undefined ? compareWith(adapter.name, adapter.blocks, names, spaces.get(space) ?? []) : estimate(adapter, known);
  },
};

/**
 * An adapter against the sketches of a space: scores alone, each an estimate.
 * @param {Adapter} asked
 * @param {Uint8Array[]} known
 * @returns {Compared}
 */
function estimate({ name, blocks }, known) {
  measured(name, squaresOf(blocks));
  const own = sketchOf(blocks);
  return {
    scores: known.map((sketch) => estimated(own, sketch)), parts: known.map(() => null), coverage: known.map(() => [1, 1]),
    leftOut: {}, blocks: [], change: outputChange(blocks), shared: true,
  };
}

/**
 * @param {Tables} tables
 * @param {Dropped[]} files
 * @param {string | null} base The base model that the visitor says, over that of the file.
 * @returns {Promise<Adapter>}
 */
async function readAdapter(tables, files, base) {
  const named = (/** @type {string} */ name) => files.find((file) => lastPart(file.path) === name);
  const config = named(CONFIG);
  if (config !== undefined) return readConfigured(tables, files, config, base);
  const weights = files.filter((file) => file.path.endsWith(".safetensors"));
  const orphan = named("adapter_model.safetensors") ?? named("adapter_model.bin");
  if (orphan !== undefined && !(weights.length === 1 && (await looksOurs(weights[0])))) {
    throw new Refusal(
      `${orphan.path} is there and ${CONFIG} is not: without it method and scale are unknown.`,
      `drop ${CONFIG} together with it, or the whole folder`,
    );
  }
  if (weights.length > 1) {
    throw new Refusal(`${weights.length} files could be read, ${shortList(weights.map((file) => file.path))}.`, "drop one adapter at a time");
  }
  if (weights.length === 0) {
    const one = files[0]?.path ?? "What was dropped";
    throw new Refusal(`${one} holds no adapter: neither ${CONFIG} nor weights of a known name.`, "drop adapter_model.safetensors with adapter_config.json");
  }
  return readUnconfigured(tables, weights[0], base);
}

/** @param {Dropped} file */
async function looksOurs(file) {
  try {
    return isEmbedding(await readTensorFile(file.blob, file.path));
  } catch {
    return false;
  }
}

/** @param {Tables} tables @param {Dropped[]} files @param {Dropped} config @param {string | null} base @returns {Promise<Adapter>} */
async function readConfigured(tables, files, config, base) {
  const fields = await readConfig(config);
  if (!Object.hasOwn(fields, "peft_type")) {
    const other = isObject(fields.config) ? "AdapterHub's" : "lora_parameters" in fields || "fine_tune_type" in fields ? "MLX's" : "";
    if (other) throw new Refusal(`${config.path} is ${other}, which the command line reads and this page does not.`, "tupate-hub similar ./FOLDER");
    throw new Refusal(`${config.path} is not from a known library: it has ${shortList(Object.keys(fields).sort()) || "nothing"}.`);
  }
  const weights =
    files.find((file) => lastPart(file.path) === "adapter_model.safetensors") ??
    files.find((file) => file.path.endsWith(".safetensors"));
  if (weights === undefined) {
    const torch = files.find((file) => file.path.endsWith(".bin"));
    if (torch) throw new Refusal(`${torch.path} is a torch file, which the command line reads and this page does not.`, "tupate-hub similar ./FOLDER");
    const folder = config.path.includes("/") ? config.path.slice(0, config.path.lastIndexOf("/")) : config.path;
    throw new Refusal(`${folder} holds a configuration and no weights: adapter_model.safetensors or adapter_model.bin is missing.`);
  }
  const file = await readTensorFile(weights.blob, weights.path);
  const found = readPeft(new Source(tables, fields, file));
  const known = requireBase(tables, base, fields.base_model_name_or_path, folderOf(config.path));
  return { ...found, name: nameOf(config.path), base: known, facts: {}, task: null, sha256: await digestOf(file.buffer) };
}

/** @param {Tables} tables @param {Dropped} weights @param {string | null} base @returns {Promise<Adapter>} */
async function readUnconfigured(tables, weights, base) {
  const file = await readTensorFile(weights.blob, weights.path);
  if (isEmbedding(file)) {
    const { task, base: own, method, blocks, facts } = readEmbedding(file);
    return { name: task, base: base === null ? own : requireBase(tables, base, null, weights.path), method, blocks, notes: [], facts, task, sha256: null };
  }
  const keys = [...file.tensors.keys()];
  if (keys.every((key) => key.endsWith("bias"))) {
    const source = new Source(tables, {}, file);
    const tuned = keys.filter((key) => !isHead(tables, key));
    if (tuned.length === 0) finished(file, new Map());
    const known = requireBase(tables, base, null, weights.path);
    return { ...readBiases(source, tuned), name: nameOf(weights.path), base: known, facts: {}, task: null, sha256: await digestOf(file.buffer) };
  }
  throw new Refusal(`${weights.path} holds ${shortList(keys)}, which says neither method nor scale without ${CONFIG} beside it.`);
}

/** @param {Dropped} config @returns {Promise<Record<string, any>>} */
async function readConfig({ path, blob }) {
  if (blob.size > MOST_CONFIG) throw new Refusal(`${path} has more than ${MOST_CONFIG} bytes, too many for a configuration.`);
  const bytes = await blob.arrayBuffer();
  if (new TextDecoder("latin1").decode(bytes.slice(0, 23)) === "version https://git-lfs") {
    throw new Refusal(`${path} is a Git LFS pointer, not the configuration itself.`, "fetch it: git lfs pull");
  }
  let fields;
  try {
    fields = parseJson(new TextDecoder("utf-8", { fatal: true }).decode(bytes), MOST_ITEMS);
  } catch {
    throw new Refusal(`${path} is not JSON, or has too much in it.`);
  }
  if (!isObject(fields)) throw new Refusal(`${path} is not a JSON object.`);
  return fields;
}

/**
 * The base model that the visitor says, else that of the file; refused where neither names one of the Hub.
 * @param {Tables} tables
 * @param {string | null} said
 * @param {any} written
 * @param {string} where
 */
function requireBase(tables, said, written, where) {
  const base = normalisedBase(tables, said) ?? normalisedBase(tables, written);
  if (base !== null) return base;
  const local = typeof written === "string" && written !== "";
  const guess = local ? originalOf(tables, (written.split(/[\\/]/).pop() ?? "").trim()) : "";
  const likely = Object.hasOwn(tables.widths, guess) ? guess : "MODEL_ID";
  throw new Refusal(`${where} names ${local ? `a local base model, ${quoted(written)}` : "no base model"}.`, `say which model it was tuned on: base=${likely}`);
}

/** @param {string} path */
function lastPart(path) {
  return path.slice(path.lastIndexOf("/") + 1);
}

/** @param {string} path */
function folderOf(path) {
  return path.includes("/") ? path.slice(0, path.lastIndexOf("/")) : path;
}

/** What to call an adapter: its folder, else its file. @param {string} path */
function nameOf(path) {
  const parts = path.split("/").filter((part) => part !== "");
  return parts.length > 1 ? parts[parts.length - 2] : "the dropped adapter";
}

/** The sha256 of a file; null where the browser offers none. @param {ArrayBuffer} bytes */
async function digestOf(bytes) {
  if (!self.crypto?.subtle) return null;
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return [...digest].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
