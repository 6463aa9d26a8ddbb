// Sketch: 2,048 bytes of an update, from which cosines are estimated, as docs/sketch.md specifies them and compare/sketch.py
// makes them. For spaces whose embeddings are too many to go with the page.

/** @import { Factors } from "./blocks.js" */

const PICTURES = 16;
const SIDE = 32;
const ROWS = PICTURES * SIDE;
const ENTRIES = PICTURES * SIDE * SIDE;
const STARTS = 1024;
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
 * One side of a block through its signs, of shape (ROWS, rank).
 * @param {string} block
 * @param {string} side
 * @param {Float32Array} rows Of shape (rank, width).
 * @param {number} rank
 * @param {number} width
 */
function throughSigns(block, side, rows, rank, width) {
  const [own, shared] = [keyOf(`${block}\0${side}`), keyOf(`\0${side}`)];
  const found = new Float64Array(ROWS * rank);
  const signed = new Float64Array(rank);
  for (let at = 0; at < width; at += 1) {
    const turn = wordAt(own, at) & 1 ? 1 : -1;
    for (let unit = 0; unit < rank; unit += 1) signed[unit] = turn * rows[unit * width + at];
    const column = (own % STARTS) + at;
    for (let part = 0; part < ROWS / 32; part += 1) {
      const word = wordAt(shared, (ROWS / 32) * column + part);
      for (let bit = 0; bit < 32; bit += 1) {
        const start = (32 * part + bit) * rank;
        if ((word >>> bit) & 1) for (let unit = 0; unit < rank; unit += 1) found[start + unit] += signed[unit];
        else for (let unit = 0; unit < rank; unit += 1) found[start + unit] -= signed[unit];
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
  const entries = new Float64Array(ENTRIES);
  for (const [name, block] of blocks) {
    if (block.rank === 1 && block.outputs === 1) {
      const [key, factor] = [keyOf(`${name}\0vector`), block.scale * block.bt[0]];
      for (let at = 0; at < block.inputs; at += 1) {
        const word = wordAt(key, at);
        entries[(word >>> 1) % ENTRIES] += (word & 1 ? 1 : -1) * factor * block.a[at];
      }
      continue;
    }
    const left = throughSigns(name, "outputs", block.bt, block.rank, block.outputs);
    const right = throughSigns(name, "inputs", block.a, block.rank, block.inputs);
    for (let at = 0; at < ENTRIES; at += 1) {
      const row = (at >> 5) * block.rank;
      const column = (SIDE * (at >> 10) + (at & 31)) * block.rank;
      let sum = 0;
      for (let unit = 0; unit < block.rank; unit += 1) sum += left[row + unit] * right[column + unit];
      entries[at] += (block.scale * sum) / Math.sqrt(ENTRIES);
    }
  }
  hadamard(entries);
  const flips = keyOf("\0flips");
  for (let at = 0; at < ENTRIES; at += 1) if (!(wordAt(flips, at) & 1)) entries[at] = -entries[at];
  hadamard(entries);
  const bits = new Uint8Array(ENTRIES / 8);
  for (let at = 0; at < ENTRIES; at += 1) if (entries[at] > 0) bits[at >> 3] |= 128 >> (at & 7);
  return bits;
}

/** The cosine that two sketches tell. @param {Uint8Array} one @param {Uint8Array} other */
export function estimated(one, other) {
  let differing = 0;
  for (let at = 0; at < one.length; at += 1) differing += ONES[one[at] ^ other[at]];
  return Math.cos((Math.PI * differing) / (8 * one.length));
}
