// Stamps: very many points written straight into the pixels of a canvas, where a path for each would take too long.

/**
 * The pixels of a mark: where they lie from its middle, and how much of each it covers.
 * @typedef {{dx: Int16Array, dy: Int16Array, cover: Uint8Array}} Stamp
 */

/**
 * A stamp of what `trace` outlines, filled, or hollow.
 * @param {(at: CanvasRenderingContext2D, middle: number) => void} trace
 * @param {number} reach In pixels.
 * @param {boolean} hollow
 * @returns {Stamp}
 */
export function makeStamp(trace, reach, hollow) {
  const canvas = document.createElement("canvas");
  const side = 2 * Math.ceil(reach) + 3;
  canvas.width = canvas.height = side;
  const at = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  at.beginPath();
  trace(at, side / 2);
  at.lineWidth = Math.max(1, reach / 3);
  if (hollow) at.stroke();
  else at.fill();
  const { data } = at.getImageData(0, 0, side, side);
  const [dx, dy, cover] = [[], [], []].map(() => /** @type {number[]} */ ([]));
  for (let pixel = 0; pixel < side * side; pixel += 1) {
    if (data[4 * pixel + 3] > 8) {
      dx.push((pixel % side) - (side >> 1));
      dy.push(Math.floor(pixel / side) - (side >> 1));
      cover.push(data[4 * pixel + 3]);
    }
  }
  return { dx: Int16Array.from(dx), dy: Int16Array.from(dy), cover: Uint8Array.from(cover) };
}

/** The pixels of a canvas, to be stamped and put back. */
export class Pixels {
  /** @param {CanvasRenderingContext2D} at */
  constructor(at) {
    this.at = at;
    this.width = at.canvas.width;
    this.height = at.canvas.height;
    this.image = at.createImageData(this.width, this.height);
    this.words = new Uint32Array(this.image.data.buffer);
  }

  /** Whether they are still those of the canvas, which may have got another size. */
  get fits() {
    return this.width === this.at.canvas.width && this.height === this.at.canvas.height;
  }

  clear() {
    this.words.fill(0);
  }

  /** @param {Stamp} stamp @param {number} x @param {number} y @param {number} ink Blue, green and red, a byte each. @param {number} share Of the covering. */
  put({ dx, dy, cover }, x, y, ink, share) {
    const { words, width, height } = this;
    for (let pixel = 0; pixel < dx.length; pixel += 1) {
      const left = x + dx[pixel];
      const top = y + dy[pixel];
      if (left < 0 || top < 0 || left >= width || top >= height) continue;
      const alpha = Math.round(cover[pixel] * share);
      const at = top * width + left;
      if (alpha > words[at] >>> 24) words[at] = ((alpha << 24) | ink) >>> 0;
    }
  }

  show() {
    this.at.putImageData(this.image, 0, 0);
  }
}

/** A colour of the theme as `Pixels` takes it. @param {string} colour @returns {number} */
export function inkOf(colour) {
  const canvas = document.createElement("canvas");
  const at = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  at.fillStyle = colour;
  at.fillRect(0, 0, 1, 1);
  const [red, green, blue] = at.getImageData(0, 0, 1, 1).data;
  return (blue << 16) | (green << 8) | red;
}
