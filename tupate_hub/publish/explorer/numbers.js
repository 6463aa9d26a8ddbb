// Numbers: packed arrays out of base64, order statistics as the command line's, and figures as people read them.

/**
 * The bytes of a base64 text.
 * @param {string} text
 * @returns {Uint8Array}
 */
export function bytesOf(text) {
  const binary = atob(text);
  const bytes = new Uint8Array(binary.length);
  for (let at = 0; at < binary.length; at += 1) bytes[at] = binary.charCodeAt(at);
  return bytes;
}

/**
 * Cosines in three bytes each, low byte first: whole numbers that stand for c (2^23 - 1).
 * @param {string} text
 * @returns {Float32Array}
 */
export function cosinesOf(text) {
  const bytes = bytesOf(text);
  const cosines = new Float32Array(bytes.length / 3);
  for (let at = 0; at < cosines.length; at += 1) {
    const whole = bytes[3 * at] | (bytes[3 * at + 1] << 8) | ((bytes[3 * at + 2] << 24) >> 8);
    cosines[at] = whole / 8388607;
  }
  return cosines;
}

/** @param {string} text @returns {Float32Array} */
export function floatsOf(text) {
  return new Float32Array(bytesOf(text).buffer);
}

/** @type {Float32Array | null} What each of the 65,536 numbers of half precision is. */
let halfNumbers = null;

/**
 * Half precision as single precision.
 * @param {Uint16Array} halves
 * @returns {Float32Array}
 */
export function fromHalf(halves) {
  halfNumbers ??= Float32Array.from({ length: 65536 }, (_, bits) => halfNumber(bits));
  const floats = new Float32Array(halves.length);
  for (let at = 0; at < halves.length; at += 1) floats[at] = halfNumbers[halves[at]];
  return floats;
}

/** @param {number} bits */
function halfNumber(bits) {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

/**
 * How many of the sorted numbers are below a value, or with `upto` at most that value.
 * @param {Float32Array} sorted
 * @param {number} value
 * @param {boolean} upto
 * @returns {number}
 */
export function countBelow(sorted, value, upto) {
  let low = 0;
  let high = sorted.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (sorted[middle] < value || (upto && sorted[middle] === value)) low = middle + 1;
    else high = middle;
  }
  return low;
}

/**
 * Per cent of the sorted pairs that lie below a score; ties, up to `tolerance`, count half.
 * @param {Float32Array} sorted
 * @param {number} score
 * @param {number} tolerance
 * @returns {number}
 */
export function percentile(sorted, score, tolerance) {
  const below = countBelow(sorted, Math.fround(score - tolerance), false);
  const upto = countBelow(sorted, Math.fround(score + tolerance), true);
  return (50 * (below + upto)) / Math.max(1, sorted.length);
}

/**
 * The error function within 1.5e-7 (Abramowitz and Stegun, 7.1.26).
 * @param {number} x
 * @returns {number}
 */
export function erf(x) {
  const t = 1 / (1 + 0.3275911 * Math.abs(x));
  const series = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))));
  return Math.sign(x) * (1 - series * Math.exp(-x * x));
}

/** @param {number} value @param {number} [digits] A score as the command line prints it. */
export function fixed(value, digits = 3) {
  return value.toFixed(digits);
}

/** @param {number} value @param {number} [digits] */
export function signed(value, digits = 1) {
  const text = value.toFixed(digits);
  return text.startsWith("-") ? text : `+${text}`;
}

/** @param {number | null} value A whole number with its thousands apart. */
export function grouped(value) {
  return value === null ? "–" : Math.round(value).toString().replace(/\B(?=(\d{3})+$)/g, ",");
}

/** @param {number} bytes */
export function sized(bytes) {
  if (bytes < 1000) return `${bytes} bytes`;
  return bytes < 1e6 ? `${Math.round(bytes / 1000)} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
}

/**
 * A percentile as it is shown: no pair is above all pairs, since it is one of them.
 * @param {number | null} share
 */
export function percent(share) {
  if (share === null) return "–";
  return share < 99.5 ? share.toFixed(0) : Math.min(share, 99.9).toFixed(1);
}
