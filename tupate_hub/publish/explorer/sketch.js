// Sketch: 2,048 bytes of an update, from which cosines are estimated, as docs/sketch.md specifies them and compare/sketch.py
// makes them. For spaces whose embeddings are too many to go with the page.

/** @import { Factors } from "./blocks.js" */

const SIDE = 256;
const ENTRIES = (SIDE * SIDE) / 4;
const ONES = Uint8Array.from({ length: 256 }, (_, byte) => [...byte.toString(2)].filter((bit) => bit === "1").length);

/** A permutation of 32-bit words after which each bit depends on all. @param {number} word */
export function mixed(word) {
  let found = word ^ (word >>> 16);
  found = Math.imul(found, 0x7feb352d);
  found ^= found >>> 15;
  found = Math.imul(found, 0x846ca68b);
  return (found ^ (found >>> 16)) >>> 0;
}

/** FNV-1a of a text in UTF-8. @param {string} text */
export function keyOf(text) {
  let found = 0x811c9dc5;
  for (const byte of new TextEncoder().encode(text)) found = Math.imul(found ^ byte, 0x01000193);
  return found >>> 0;
}

/** @param {number} key @param {number} number */
function wordAt(key, number) {
  return mixed((mixed(number) + key) >>> 0);
}

/**
 * The signs of a name times the transpose of some rows, of shape (SIDE, rank).
 * @param {string} text
 * @param {Float32Array} rows Of shape (rank, width).
 * @param {number} rank
 * @param {number} width
 */
function throughSigns(text, rows, rank, width) {
  const key = keyOf(text);
  const found = new Float64Array(SIDE * rank);
  for (let column = 0; column < width; column += 1) {
    for (let part = 0; part < SIDE / 32; part += 1) {
      const word = wordAt(key, (SIDE / 32) * column + part);
      for (let bit = 0; bit < 32; bit += 1) {
        const at = (32 * part + bit) * rank;
        if ((word >>> bit) & 1) for (let unit = 0; unit < rank; unit += 1) found[at + unit] += rows[unit * width + column];
        else for (let unit = 0; unit < rank; unit += 1) found[at + unit] -= rows[unit * width + column];
      }
    }
  }
  return found;
}

/** The orthonormal Walsh-Hadamard transform, in place and in natural order. @param {Float64Array} values */
export function hadamard(values) {
  for (let size = 1; size < values.length; size *= 2) {
    for (let start = 0; start < values.length; start += 2 * size) {
      for (let at = start; at < start + size; at += 1) {
        const [one, other] = [values[at], values[at + size]];
        values[at] = one + other;
        values[at + size] = one - other;
      }
    }
  }
  const root = Math.sqrt(values.length);
  for (let at = 0; at < values.length; at += 1) values[at] /= root;
}

/** @param {Map<string, Factors>} blocks @returns {Uint8Array} */
export function sketchOf(blocks) {
  const total = new Float64Array(ENTRIES);
  const scattered = new Float64Array(ENTRIES);
  for (const [name, block] of blocks) {
    if (block.rank === 1 && block.outputs === 1) {
      const [key, factor] = [keyOf(`${name}\0vector`), block.scale * block.bt[0]];
      for (let at = 0; at < block.inputs; at += 1) {
        const word = wordAt(key, at);
        scattered[(word >>> 1) % ENTRIES] += (word & 1 ? 1 : -1) * factor * block.a[at];
      }
      continue;
    }
    const left = throughSigns(`${name}\0outputs`, block.bt, block.rank, block.outputs);
    const right = throughSigns(`${name}\0inputs`, block.a, block.rank, block.inputs);
    for (let at = 0; at < ENTRIES; at += 1) {
      const entry = 4 * at + (mixed(at) & 3);
      const [row, column] = [Math.floor(entry / SIDE) * block.rank, (entry % SIDE) * block.rank];
      let sum = 0;
      for (let unit = 0; unit < block.rank; unit += 1) sum += left[row + unit] * right[column + unit];
      total[at] += (block.scale * sum) / SIDE;
    }
  }
  hadamard(scattered);
  const flips = keyOf("\0flips");
  for (let at = 0; at < ENTRIES; at += 1) if (!(wordAt(flips, at) & 1)) scattered[at] = -scattered[at];
  hadamard(scattered);
  const bits = new Uint8Array(ENTRIES / 8);
  for (let at = 0; at < ENTRIES; at += 1) if (total[at] + scattered[at] / 2 > 0) bits[at >> 3] |= 128 >> (at & 7);
  return bits;
}

/** The cosine that two sketches tell. @param {Uint8Array} one @param {Uint8Array} other */
export function estimated(one, other) {
  let differing = 0;
  for (let at = 0; at < one.length; at += 1) differing += ONES[one[at] ^ other[at]];
  return Math.cos((Math.PI * differing) / (8 * one.length));
}
