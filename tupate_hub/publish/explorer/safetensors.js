// Safetensors: a stranger's file, every size checked before anything is made of it. Sentences of storage/safetensors.py.
import { fromHalf } from "./numbers.js";
import { quoted, Refusal } from "./sentences.js";

const MOST_HEADER = 16_000_000;
const MOST_HEADER_ITEMS = 500_000;
const MOST_DEPTH = 64;
const MOST_NAME = 500;
const MOST_TENSORS = 50_000;
const MOST_BYTES = 1_000_000_000;
const FEWEST_BYTES = 32;
const POINTER = "version https://git-lfs";

/** @type {Record<string, [number, string]>} Bytes of a number, and what numpy calls its kind. */
const DTYPES = {
  F64: [8, "float64"], F32: [4, "float32"], F16: [2, "float16"], BF16: [2, "float32"],
  I64: [8, "int64"], I32: [4, "int32"], I16: [2, "int16"], I8: [1, "int8"], U8: [1, "uint8"], BOOL: [1, "bool"],
};

/**
 * @typedef {{dtype: string, shape: number[], start: number, stop: number}} Stored
 * @typedef {{where: string, tensors: Map<string, Stored>, metadata: Record<string, string>, buffer: ArrayBuffer,
 *   begin: number}} TensorFile
 */

/**
 * Read a file; its numbers stay bytes until `floats` is asked for some.
 * @param {Blob} file
 * @param {string} where
 * @returns {Promise<TensorFile>}
 */
export async function readTensorFile(file, where) {
  const first = new TextDecoder("latin1").decode(await file.slice(0, POINTER.length).arrayBuffer());
  if (first === POINTER) throw new Refusal(`${where} is a Git LFS pointer, not the weights themselves.`, "fetch them: git lfs pull");
  if (file.size === 0) throw new Refusal(`${where} is empty.`);
  if (file.size < FEWEST_BYTES) throw new Refusal(`${where} is a placeholder of ${file.size} bytes, not weights.`);
  if (file.size > MOST_BYTES) {
    throw new Refusal(`${where} has ${file.size} bytes; this page reads at most ${MOST_BYTES}.`, "tupate-hub similar ./FOLDER");
  }
  const length = new DataView(await file.slice(0, 8).arrayBuffer()).getBigUint64(0, true);
  if (length > BigInt(file.size - 8)) {
    throw new Refusal(`${where} is truncated or not a safetensors file: its header claims ${length} bytes of ${file.size}.`);
  }
  if (length > BigInt(MOST_HEADER)) throw new Refusal(`${where} has a header of ${length} bytes; at most ${MOST_HEADER} are read.`);
  const begin = 8 + Number(length);
  const header = parseHeader(new Uint8Array(await file.slice(8, begin).arrayBuffer()), where);
  const metadata = takeMetadata(header, where);
  const tensors = spans(header, where, file.size - begin);
  if (tensors.size === 0) throw new Refusal(`${where} holds no tensors.`);
  if (tensors.size > MOST_TENSORS) throw new Refusal(`${where} holds ${tensors.size} tensors; at most ${MOST_TENSORS} are read.`);
  return { where, tensors, metadata, buffer: await file.arrayBuffer(), begin };
}

/** @param {Uint8Array} bytes @param {string} where @returns {Map<string, any>} */
function parseHeader(bytes, where) {
  const bad = new Refusal(`${where} has a safetensors header that is not JSON, has too much in it or names something twice.`);
  let header;
  try {
    header = parseJson(new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes), MOST_HEADER_ITEMS, true);
  } catch {
    throw bad;
  }
  if (!isObject(header)) throw new Refusal(`${where} has a safetensors header that is not a JSON object.`);
  return new Map(Object.entries(header));
}

/**
 * The value of a JSON text that is neither nested deeply nor made of too much; throws for any other.
 * @param {string} text
 * @param {number} mostItems
 * @param {boolean} distinct Also refuse an object that names a field twice.
 * @returns {any}
 */
export function parseJson(text, mostItems, distinct = false) {
  const signs = text.replace(/"(?:[^"\\]|\\.)*"/gs, '""').replace(/[^[\]{},:]/g, "");
  let depth = 0;
  let items = 0;
  let named = 0;
  for (const sign of signs) {
    if (sign === "[" || sign === "{") depth += 1;
    else if (sign === "]" || sign === "}") depth -= 1;
    if (sign === ":") named += 1;
    else if (sign === "," || sign === "[" || sign === "{") items += 1;
    if (depth > MOST_DEPTH || items > mostItems) throw new Error("too much");
  }
  const value = JSON.parse(text);
  if (distinct && countFields(value) !== named) throw new Error("two fields of one name");
  return value;
}

/** @param {any} value @returns {number} How many fields the objects in a value have, all together. */
function countFields(value) {
  if (Array.isArray(value)) return value.reduce((sum, one) => sum + countFields(one), 0);
  if (!isObject(value)) return 0;
  return Object.values(value).reduce((sum, one) => sum + 1 + countFields(one), 0);
}

/** @param {any} value */
export function isObject(value) {
  return value !== null && typeof value === "object" && !Array.isArray(value);
}

/** @param {Map<string, any>} header @param {string} where @returns {Record<string, string>} */
function takeMetadata(header, where) {
  const metadata = header.get("__metadata__") || {};
  header.delete("__metadata__");
  if (!isObject(metadata) || !Object.values(metadata).every((value) => typeof value === "string")) {
    throw new Refusal(`${where} has metadata that is not text.`);
  }
  return metadata;
}

/**
 * Every entry of the header, looked at before a tensor is read: tensors that overlap could become any multiple of the file.
 * @param {Map<string, any>} header
 * @param {string} where
 * @param {number} room
 * @returns {Map<string, Stored>}
 */
function spans(header, where, room) {
  /** @type {Map<string, Stored>} */
  const found = new Map();
  for (const [name, entry] of header) {
    if (name.length > MOST_NAME) {
      throw new Refusal(`${where} has a tensor whose name has ${name.length} characters; at most ${MOST_NAME} are read.`);
    }
    const offsets = isObject(entry) ? entry.data_offsets : null;
    if (!Array.isArray(offsets) || offsets.length !== 2 || !offsets.every(Number.isInteger)) {
      throw new Refusal(`${where}: the header's entry of ${quoted(name)} is malformed.`);
    }
    const [start, stop] = offsets;
    if (!(0 <= start && start <= stop && stop <= room)) {
      throw new Refusal(`${where} is truncated or malformed: ${quoted(name)} does not fit the file.`);
    }
    found.set(name, { dtype: entry.dtype, shape: entry.shape, start, stop });
  }
  const ordered = [...found.values()].sort((one, other) => one.start - other.start || one.stop - other.stop);
  if (ordered.some((one, at) => at > 0 && ordered[at - 1].stop > one.start)) {
    throw new Refusal(`${where} has tensors that overlap.`);
  }
  for (const [name, stored] of found) requireShape(name, stored, where);
  return found;
}

/** @param {string} name @param {Stored} stored @param {string} where */
function requireShape(name, { dtype, shape, start, stop }, where) {
  if (typeof dtype !== "string" || !Object.hasOwn(DTYPES, dtype)) {
    const said = typeof dtype === "string" ? `dtype ${quoted(dtype.slice(0, 20))}` : "a dtype that is not text";
    throw new Refusal(`${where}: ${quoted(name)} has ${said}, which is not read.`);
  }
  const whole = Array.isArray(shape) && shape.length <= 8 && shape.every((size) => Number.isInteger(size) && size >= 0);
  if (!whole || shape.reduce((product, size) => product * (size || 1), 1) > 2 ** 56) {
    throw new Refusal(`${where} is malformed: ${quoted(name)} has an impossible shape.`);
  }
  if (shape.reduce((product, size) => product * size, 1) * DTYPES[dtype][0] !== stop - start) {
    throw new Refusal(`${where} is truncated or malformed: ${quoted(name)} does not fit the file.`);
  }
}

/**
 * A tensor's numbers; refused where they are no floating-point ones.
 * @param {TensorFile} file
 * @param {string} name
 * @param {string} [called] How messages name it.
 * @returns {Float32Array}
 */
export function floats(file, name, called = name) {
  const { dtype, start, stop } = /** @type {Stored} */ (file.tensors.get(name));
  if (!/^B?F\d+$/.test(dtype)) {
    throw new Refusal(`${file.where} holds ${quoted(called)} as ${DTYPES[dtype][1]}; only floating-point weights are read.`);
  }
  const bytes = file.buffer.slice(file.begin + start, file.begin + stop); // a copy, so that any offset is aligned
  if (dtype === "F32") return new Float32Array(bytes);
  if (dtype === "F64") return Float32Array.from(new Float64Array(bytes));
  const halves = new Uint16Array(bytes);
  return dtype === "F16" ? fromHalf(halves) : new Float32Array(Uint32Array.from(halves, (bits) => bits << 16).buffer);
}
