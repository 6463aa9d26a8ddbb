// The heatmap: a cell for each pair of tasks, similar tasks beside each other.
import { h, themed } from "./dom.js";
import { fixed, percent, percentile } from "./numbers.js";
import { Plane } from "./plane.js";
import { address } from "./router.js";
import { spaceSelect } from "./view_map.js";

/** @import { ShownSpace, Zoo } from "./zoo.js" */

/** Pale to dark, so that colour-blind readers and grey prints keep the order; the card's scale. */
const SCALE = [[255, 252, 230], [199, 224, 180], [98, 183, 170], [44, 123, 158], [38, 62, 126], [22, 16, 70]];

/** @param {number} share From 0 to 1. @returns {number[]} */
export function heatColour(share) {
  const at = Math.max(0, Math.min(1, share)) * (SCALE.length - 1);
  const low = Math.min(Math.floor(at), SCALE.length - 2);
  return SCALE[low].map((value, channel) => Math.round(value + (SCALE[low + 1][channel] - value) * (at - low)));
}

/**
 * @param {Zoo} zoo
 * @param {ShownSpace} space
 * @param {(hash: string) => void} go
 */
export function heatmapView(zoo, space, go) {
  const head = [h("h1", {}, "Heatmap of all pairs"), h("div", { class: "controls" }, spaceSelect(zoo, space, "heatmap", go))];
  const order = space.order;
  const pairs = space.sortedPairs;
  if (order === null || pairs === null || order.length < 2) {
    const why = space.compared.length < 2 ? "A heatmap needs two tasks." : `${space.compared.length} tasks are too many for a heatmap.`;
    return { element: h("section", {}, ...head, h("p", {}, why, " ", h("a", { href: address("map", [], { space: space.name }) }, "The map"), " shows them.")), title: "Heatmap", stop: () => {} };
  }
  const heat = new Heatmap(zoo, space, order, pairs, go);
  const [low, high] = heat.limits;
  const bar = h("div", { class: "legend", "aria-hidden": "true" }, h("span", {}, fixed(low, 2)), ...Array.from({ length: 24 }, (_, at) => {
    const cell = h("i", {});
    cell.style.background = `rgb(${heatColour(at / 23).join(" ")})`;
    return cell;
  }), h("span", {}, fixed(high, 2)));
  const element = h("section", {}, ...head,
    h("p", { class: "lead" }, "The cosine between each two tasks, ordered so that similar ones touch. Point at a cell for its tasks, click it to compare them block by block."),
    heat.element, bar);
  return { element, title: "Heatmap", stop: () => heat.plane.stop() };
}

class Heatmap {
  /**
   * @param {Zoo} zoo
   * @param {ShownSpace} space
   * @param {number[]} order
   * @param {Float32Array} pairs
   * @param {(hash: string) => void} go
   */
  constructor(zoo, space, order, pairs, go) {
    this.zoo = zoo;
    this.space = space;
    this.order = order;
    this.pairs = pairs;
    this.go = go;
    /** @type {[number, number] | null} */ this.cell = null;
    this.limits = [pairs[Math.floor(0.02 * (pairs.length - 1))], pairs[Math.ceil(0.98 * (pairs.length - 1))]];
    this.picture = this.paint();
    this.canvas = /** @type {HTMLCanvasElement} */ (h("canvas", {
      class: "heatmap", tabindex: 0, role: "application", "aria-roledescription": "heatmap", "data-wheel": "always",
      "aria-label": `Heatmap of ${order.length} tasks. Arrow keys go from cell to cell, Enter compares its two tasks, plus and minus zoom.`,
      onkeydown: (/** @type {KeyboardEvent} */ event) => this.key(event),
    }));
    this.told = h("div", { class: "tip", hidden: true });
    this.spoken = h("p", { class: "away", "aria-live": "polite" });
    this.plane = new Plane(this.canvas, {
      most: 16,
      draw: (at, view) => this.draw(at, view),
      hover: (x, y) => this.choose(this.cellAt(x, y)),
      leave: () => this.choose(null),
      click: (x, y) => this.open(this.cellAt(x, y)),
    });
    this.element = h("div", { class: "plane" }, this.canvas, this.told, this.spoken, h("div", { class: "zoom", role: "group", "aria-label": "Zoom" },
      h("button", { type: "button", "aria-label": "Zoom in", onclick: () => this.plane.zoom(1.6) }, "+"),
      h("button", { type: "button", "aria-label": "Zoom out", onclick: () => this.plane.zoom(1 / 1.6) }, "−"),
      h("button", { type: "button", "aria-label": "Whole heatmap", onclick: () => this.plane.reset() }, "⤢")));
    this.plane.fit((width, height) => {
      const margin = this.margin(width);
      const scale = Math.min((width - margin - 8) / order.length, (height - margin - 8) / order.length);
      return { scale, x: margin + Math.max(0, (width - margin - 8 - scale * order.length) / 2), y: margin };
    });
  }

  /** Room for names. @param {number} width */
  margin(width) {
    return width < 560 ? 70 : 140;
  }

  /** One pixel a cell, once; it is scaled when it is drawn. */
  paint() {
    const count = this.order.length;
    const canvas = document.createElement("canvas");
    canvas.width = canvas.height = count;
    const at = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
    const image = at.createImageData(count, count);
    const [low, high] = this.limits;
    for (let row = 0; row < count; row += 1) {
      for (let column = 0; column < count; column += 1) {
        const score = this.space.score(this.order[row], this.order[column]) ?? 0;
        const colour = row === column ? [200, 200, 200] : heatColour((score - low) / Math.max(high - low, 1e-9));
        image.data.set([...colour, 255], 4 * (row * count + column));
      }
    }
    at.putImageData(image, 0, 0);
    return canvas;
  }

  /** @param {number} x @param {number} y @returns {[number, number] | null} */
  cellAt(x, y) {
    const { scale, x: left, y: top } = this.plane.view;
    const [column, row] = [Math.floor((x - left) / scale), Math.floor((y - top) / scale)];
    const inside = (/** @type {number} */ at) => at >= 0 && at < this.order.length;
    return inside(row) && inside(column) ? [row, column] : null;
  }

  /** @param {[number, number] | null} cell */
  choose(cell) {
    this.cell = cell;
    this.told.hidden = cell === null;
    if (cell !== null) {
      const [first, second] = cell.map((at) => this.order[at]);
      const score = this.space.score(first, second) ?? 0;
      const share = first === second ? null : percentile(this.pairs, score, this.zoo.judging.rounding);
      this.told.replaceChildren(h("strong", {}, `${this.space.compared[first]} × ${this.space.compared[second]}`), h("span", {}, first === second ? "the same task" : `score ${fixed(score)}, above ${percent(share)} % of all pairs`));
      const { scale, x, y } = this.plane.view;
      this.told.style.left = `${Math.min(Math.max(8, scale * (cell[1] + 1) + x + 8), this.plane.width - 250)}px`;
      this.told.style.top = `${Math.min(Math.max(4, scale * (cell[0] + 1) + y + 8), this.plane.height - 60)}px`;
    }
    this.plane.draw();
  }

  /** @param {[number, number] | null} cell */
  open(cell) {
    if (cell === null) return;
    const [first, second] = cell.map((at) => this.space.compared[this.order[at]]);
    const query = { space: this.space.name };
    this.go(first === second ? address("task", [first], query) : address("compare", [first, second], query));
  }

  /** @param {KeyboardEvent} event */
  key(event) {
    if (this.plane.key(event)) return;
    const moves = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
    if (event.key === "Enter") this.open(this.cell);
    else if (Object.hasOwn(moves, event.key)) {
      event.preventDefault();
      const [down, right] = moves[/** @type {keyof typeof moves} */ (event.key)];
      const clamp = (/** @type {number} */ at) => Math.max(0, Math.min(this.order.length - 1, at));
      const next = /** @type {[number, number]} */ (this.cell === null ? [0, 1] : [clamp(this.cell[0] + down), clamp(this.cell[1] + right)]);
      this.plane.show(next[1] + 0.5, next[0] + 0.5);
      this.choose(next);
      this.spoken.textContent = this.told.textContent;
    }
  }

  /** @param {CanvasRenderingContext2D} at @param {import("./plane.js").Viewport} view */
  draw(at, view) {
    const count = this.order.length;
    const side = view.scale * count;
    at.imageSmoothingEnabled = false;
    at.drawImage(this.picture, view.x, view.y, side, side);
    const size = Math.min(12, view.scale * 0.85);
    const margin = this.margin(this.plane.width);
    at.fillStyle = themed("--paper");
    at.fillRect(0, 0, Math.max(0, Math.min(view.x, margin) - 2), this.plane.height);
    at.fillRect(0, 0, this.plane.width, Math.max(0, Math.min(view.y, margin) - 2));
    if (size >= 6) this.drawNames(at, view, size);
    if (this.cell !== null) {
      at.strokeStyle = themed("--accent");
      at.lineWidth = 2;
      at.strokeRect(view.x + this.cell[1] * view.scale, view.y + this.cell[0] * view.scale, view.scale, view.scale);
    }
  }

  /** @param {CanvasRenderingContext2D} at @param {import("./plane.js").Viewport} view @param {number} size */
  drawNames(at, view, size) {
    at.font = `${size}px system-ui, sans-serif`;
    at.textBaseline = "middle";
    const margin = this.margin(this.plane.width);
    const [left, top] = [Math.max(view.x, margin), Math.max(view.y, margin)];
    const most = Math.max(6, Math.floor((margin - 8) / (size * 0.52)));
    for (let place = 0; place < this.order.length; place += 1) {
      const task = this.space.compared[this.order[place]];
      const text = task.length > most ? `${task.slice(0, most - 1)}…` : task;
      const middle = view.scale * (place + 0.5);
      at.fillStyle = this.cell?.includes(place) ? themed("--accent") : themed("--ink");
      if (view.y + middle > top) {
        at.textAlign = "right";
        at.fillText(text, left - 6, view.y + middle);
      }
      if (view.x + middle > left) {
        at.save();
        at.translate(view.x + middle, top - 6);
        at.rotate(-Math.PI / 2);
        at.textAlign = "left";
        at.fillText(text, 0, 0);
        at.restore();
      }
    }
  }
}
