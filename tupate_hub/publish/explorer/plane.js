// Plane: a canvas that is moved and zoomed by wheel, fingers, drag and keys, and drawn at most once a frame.

/**
 * @typedef {{scale: number, x: number, y: number}} Viewport Screen = scale * plane + (x, y), in CSS pixels.
 */

export class Plane {
  /**
   * @param {HTMLCanvasElement} canvas
   * @param {{draw: (at: CanvasRenderingContext2D, view: Viewport) => void, most: number,
   *   hover?: (x: number, y: number) => void, click?: (x: number, y: number) => void, leave?: () => void}} how
   */
  constructor(canvas, how) {
    this.canvas = canvas;
    this.how = how;
    this.context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
    /** @type {Viewport} */ this.view = { scale: 1, x: 0, y: 0 };
    /** @type {Viewport} */ this.home = this.view;
    this.width = 0;
    this.height = 0;
    this.waiting = false;
    /** @type {Map<number, {x: number, y: number}>} */ this.fingers = new Map();
    this.moved = 0;
    this.frames = 0;
    this.moving = false;
    /** @type {ReturnType<typeof setTimeout> | undefined} */ this.settling = undefined;
    this.listen();
    this.observer = new ResizeObserver(() => this.resize());
    this.observer.observe(canvas);
  }

  /** Where the view starts and `reset` returns to. @param {(width: number, height: number) => Viewport} fit */
  fit(fit) {
    this.fitting = fit;
    this.resize();
  }

  resize() {
    const box = this.canvas.getBoundingClientRect();
    if (box.width === 0 || !this.fitting) return;
    const untouched = this.view === this.home;
    const dense = window.devicePixelRatio || 1;
    [this.width, this.height] = [box.width, box.height];
    this.canvas.width = Math.round(box.width * dense);
    this.canvas.height = Math.round(box.height * dense);
    this.context.setTransform(dense, 0, 0, dense, 0, 0);
    this.home = this.fitting(box.width, box.height);
    if (untouched || this.frames === 0) this.view = this.home;
    this.draw();
  }

  reset() {
    this.view = this.home;
    this.draw();
  }

  /** Draw while the view moves: what takes long may wait until it stands still again. */
  drawMoving() {
    this.moving = true;
    clearTimeout(this.settling);
    this.settling = setTimeout(() => {
      this.moving = false;
      this.draw();
    }, 140);
    this.draw();
  }

  draw() {
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => {
      this.waiting = false;
      this.frames += 1;
      this.context.clearRect(0, 0, this.width, this.height);
      this.how.draw(this.context, this.view);
    });
  }

  /** @param {number} factor @param {number} [x] @param {number} [y] What stays in its place. */
  zoom(factor, x = this.width / 2, y = this.height / 2) {
    const scale = Math.max(this.home.scale * 0.6, Math.min(this.home.scale * this.how.most, this.view.scale * factor));
    const real = scale / this.view.scale;
    this.view = { scale, x: x - (x - this.view.x) * real, y: y - (y - this.view.y) * real };
    this.drawMoving();
  }

  /** @param {number} dx @param {number} dy */
  move(dx, dy) {
    this.view = { ...this.view, x: this.view.x + dx, y: this.view.y + dy };
    this.drawMoving();
  }

  /** Bring a place of the plane into sight. @param {number} x @param {number} y */
  show(x, y) {
    const [left, top] = [this.view.scale * x + this.view.x, this.view.scale * y + this.view.y];
    const margin = 40;
    if (left < margin || left > this.width - margin || top < margin || top > this.height - margin) {
      this.move(this.width / 2 - left, this.height / 2 - top);
    }
  }

  /** @param {{clientX: number, clientY: number}} event @returns {[number, number]} */
  at(event) {
    const box = this.canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  }

  listen() {
    const { canvas } = this;
    canvas.addEventListener("wheel", (event) => {
      if (!(event.ctrlKey || document.activeElement === canvas || this.view !== this.home)) {
        if (canvas.dataset.wheel !== "always") return; // the page scrolls on
      }
      event.preventDefault();
      this.zoom(2 ** (-event.deltaY / (event.deltaMode ? 12 : 320)), ...this.at(event));
    }, { passive: false });
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      const [x, y] = this.at(event);
      this.fingers.set(event.pointerId, { x, y });
      this.moved = 0;
    });
    canvas.addEventListener("pointermove", (event) => this.follow(event));
    const lifted = (/** @type {PointerEvent} */ event) => {
      const still = this.fingers.has(event.pointerId) && this.fingers.size === 1 && this.moved < 5;
      this.fingers.delete(event.pointerId);
      if (still && event.type === "pointerup") this.how.click?.(...this.at(event));
    };
    canvas.addEventListener("pointerup", lifted);
    canvas.addEventListener("pointercancel", lifted);
    canvas.addEventListener("pointerleave", () => this.how.leave?.());
    canvas.addEventListener("dblclick", (event) => this.zoom(2, ...this.at(event)));
  }

  /** @param {PointerEvent} event */
  follow(event) {
    const [x, y] = this.at(event);
    const before = this.fingers.get(event.pointerId);
    if (before === undefined) {
      this.how.hover?.(x, y);
      return;
    }
    const others = [...this.fingers].filter(([id]) => id !== event.pointerId).map(([, place]) => place);
    this.fingers.set(event.pointerId, { x, y });
    this.moved += Math.hypot(x - before.x, y - before.y);
    if (others.length === 0) this.move(x - before.x, y - before.y);
    else {
      const far = (/** @type {{x: number, y: number}} */ from) => Math.hypot(from.x - others[0].x, from.y - others[0].y);
      this.zoom(far({ x, y }) / Math.max(far(before), 1), (x + others[0].x) / 2, (y + others[0].y) / 2);
    }
  }

  /** The keys that every plane knows; whether this was one. @param {KeyboardEvent} event */
  key(event) {
    if (event.key === "+" || event.key === "=") this.zoom(1.4);
    else if (event.key === "-") this.zoom(1 / 1.4);
    else if (event.key === "0") this.reset();
    else return false;
    event.preventDefault();
    return true;
  }

  stop() {
    clearTimeout(this.settling);
    this.observer.disconnect();
  }
}

/** Points of the plane in square cells, to find the one nearest to a place without looking at all. */
export class Grid {
  /** @param {Float32Array} points x and y of each. @param {number[]} rows Which of them are shown. */
  constructor(points, rows) {
    this.points = points;
    this.size = 2 / Math.max(1, Math.ceil(Math.sqrt(rows.length)));
    /** @type {Map<string, number[]>} */ this.cells = new Map();
    for (const row of rows) {
      const key = this.key(points[2 * row], points[2 * row + 1]);
      const cell = this.cells.get(key);
      if (cell === undefined) this.cells.set(key, [row]);
      else cell.push(row);
    }
  }

  /** @param {number} x @param {number} y */
  key(x, y) {
    return `${Math.floor(x / this.size)} ${Math.floor(y / this.size)}`;
  }

  /** The nearest point within a distance; null where there is none. @param {number} x @param {number} y @param {number} reach */
  nearest(x, y, reach) {
    let best = null;
    let least = reach * reach;
    const rings = Math.min(64, Math.ceil(reach / this.size));
    for (let i = -rings; i <= rings; i += 1) {
      for (let j = -rings; j <= rings; j += 1) {
        for (const row of this.cells.get(this.key(x + i * this.size, y + j * this.size)) ?? []) {
          const square = (this.points[2 * row] - x) ** 2 + (this.points[2 * row + 1] - y) ** 2;
          if (square < least) [least, best] = [square, row];
        }
      }
    }
    return best;
  }
}
