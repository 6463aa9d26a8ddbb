// The map: a point for each task, near neighbours beside each other and joined by lines.
import { chip, h, select, themed } from "./dom.js";
import { groupsOf, linksOf } from "./groups.js";
import { KINDS, kindColour, kindMark, kindNumber, tracePoint } from "./marks.js";
import { fixed } from "./numbers.js";
import { Grid, Plane } from "./plane.js";
import { inkOf, makeStamp, Pixels } from "./stamps.js";
import { address } from "./router.js";
import { fold, kindInWords } from "./zoo.js";

/** @import { ShownSpace, Zoo } from "./zoo.js" */

/** More points than these are stamped into the pixels, and lines and names wait until the map stands still. */
const MOST_TRACED = 1500;
/** No more tasks are tried for a name. */
const MOST_NAMED = 500;

/** The drawn map of one space. */
export class TaskMap {
  /**
   * @param {Zoo} zoo
   * @param {ShownSpace} space
   * @param {{go: (hash: string) => void, tall?: boolean}} how
   */
  constructor(zoo, space, { go, tall = false }) {
    this.zoo = zoo;
    this.space = space;
    this.go = go;
    this.points = space.map;
    this.wide = 1;
    this.high = 1;
    /** @type {number[]} Those that are shown. */ this.rows = [];
    /** @type {Set<string>} Kinds that are left out. */ this.hidden = new Set();
    this.found = "";
    this.byGroup = false;
    /** @type {Map<string, import("./stamps.js").Stamp>} */ this.stamps = new Map();
    /** @type {Pixels | undefined} */ this.pixels = undefined;
    /** @type {number | null} */ this.chosen = null;
    this.kinds = space.compared.map((task) => zoo.task(task).kind);
    this.numbers = this.kinds.map(kindNumber);
    this.weak = space.compared.map((task) => space.byTask.get(task)?.flags.includes("weak") ?? false);
    const count = space.compared.length;
    this.canvas = /** @type {HTMLCanvasElement} */ (h("canvas", {
      class: `map ${tall ? "tall" : ""}`, tabindex: 0, role: "application", "aria-roledescription": "map",
      "aria-label": `Map of ${count} tasks of ${space.name}. Arrow keys go from task to task, Enter opens one, plus and minus zoom.`,
      "data-wheel": tall ? "always" : null,
      onkeydown: (/** @type {KeyboardEvent} */ event) => this.key(event),
      onblur: () => this.choose(null),
    }));
    this.told = h("div", { class: "tip", hidden: true });
    this.spoken = h("p", { class: "away", "aria-live": "polite" });
    this.plane = new Plane(this.canvas, {
      most: Math.max(24, Math.sqrt(count)),
      draw: (at, view) => this.draw(at, view),
      hover: (x, y) => this.choose(this.pick(x, y)),
      leave: () => this.choose(null),
      click: (x, y) => this.open(this.pick(x, y, 18)),
    });
    this.refilter();
    const zoomed = (/** @type {string} */ label, /** @type {string} */ sign, /** @type {() => void} */ act) => h("button", { type: "button", "aria-label": label, title: label, onclick: act }, sign);
    this.element = h("div", { class: "plane" }, this.canvas, this.told, this.spoken, h("div", { class: "zoom", role: "group", "aria-label": "Zoom" },
      zoomed("Zoom in", "+", () => this.plane.zoom(1.6)), zoomed("Zoom out", "−", () => this.plane.zoom(1 / 1.6)), zoomed("Whole map", "⤢", () => this.plane.reset())));
    this.plane.fit((width, height) => {
      this.stretch(width / height);
      return { scale: Math.min(width / (2 * this.wide + 0.35), height / (2 * this.high + 0.25)), x: width / 2, y: height / 2 };
    });
  }

  /** Use the room that there is: distances from left to right may grow to almost twice. @param {number} aspect */
  stretch(aspect) {
    const raw = this.space.map;
    const most = (/** @type {number} */ axis) => raw.reduce((far, value, at) => (at % 2 === axis ? Math.max(far, Math.abs(value)) : far), 0.05);
    const factor = Math.max(1, Math.min(1.8, (aspect * most(1)) / most(0)));
    this.wide = most(0) * factor;
    this.high = most(1);
    this.points = raw.map((value, at) => (at % 2 === 0 ? value * factor : value));
    this.refilter();
  }

  /** Take over what is shown. */
  refilter() {
    const wanted = fold(this.found);
    this.rows = this.space.compared.map((_, row) => row).filter((row) => !this.hidden.has(this.kinds[row]));
    this.matches = wanted === "" ? null : new Set(this.rows.filter((row) => {
      const task = this.space.compared[row];
      return [task, this.zoo.task(task).title, ...this.zoo.task(task).aliases].some((text) => fold(text).includes(wanted));
    }));
    this.shown = new Set(this.rows);
    this.grid = new Grid(this.points, this.rows);
    this.groups = this.byGroup ? groupsOf(this.space) : null;
    this.plane.draw();
  }

  /** @param {number} x @param {number} y @param {number} [reach] In pixels. @returns {number | null} */
  pick(x, y, reach = 14) {
    const { scale, x: left, y: top } = this.plane.view;
    return this.grid?.nearest((x - left) / scale, (y - top) / scale, reach / scale) ?? null;
  }

  /** @param {number | null} row */
  choose(row) {
    if (row === this.chosen) return;
    this.chosen = row;
    this.told.hidden = row === null;
    this.canvas.classList.toggle("pointing", row !== null);
    if (row !== null) {
      const task = this.space.compared[row];
      const { title, kind } = this.zoo.task(task);
      const best = this.space.best(row, 1)[0];
      const near = best ? `nearest: ${this.space.compared[best[0]]} ${fixed(best[1])}` : "";
      this.told.replaceChildren(h("strong", {}, task), h("span", {}, title), h("span", { class: "quiet" }, kindMark(kind), ` ${kindInWords(kind)}`), h("span", { class: "quiet" }, near));
      const { scale, x, y } = this.plane.view;
      const left = scale * this.points[2 * row] + x;
      this.told.style.left = `${Math.min(Math.max(8, left + 12), this.plane.width - 250)}px`;
      this.told.style.top = `${Math.max(4, scale * this.points[2 * row + 1] + y + 14)}px`;
    }
    this.plane.draw();
  }

  /** @param {number | null} row */
  open(row) {
    if (row !== null) this.go(address("task", [this.space.compared[row]], { space: this.space.name }));
  }

  /** @param {KeyboardEvent} event */
  key(event) {
    if (this.plane.key(event)) return;
    const directions = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    if (event.key === "Enter") this.open(this.chosen);
    else if (Object.hasOwn(directions, event.key)) {
      event.preventDefault();
      const next = this.chosen === null ? this.central() : this.beside(this.chosen, directions[/** @type {keyof typeof directions} */ (event.key)]);
      if (next === null) return;
      this.plane.show(this.points[2 * next], this.points[2 * next + 1]);
      this.choose(next);
      const task = this.space.compared[next];
      this.spoken.textContent = `${task}: ${this.zoo.task(task).title}`;
    }
  }

  central() {
    const rows = this.rows;
    const far = (/** @type {number} */ row) => this.points[2 * row] ** 2 + this.points[2 * row + 1] ** 2;
    return rows.length === 0 ? null : rows.reduce((best, row) => (far(row) < far(best) ? row : best));
  }

  /** The nearest task in a direction. @param {number} from @param {number[]} direction */
  beside(from, [dx, dy]) {
    let best = null;
    let least = Infinity;
    for (const row of this.rows) {
      const [x, y] = [this.points[2 * row] - this.points[2 * from], this.points[2 * row + 1] - this.points[2 * from + 1]];
      const along = x * dx + y * dy;
      const cost = along + 2.5 * Math.abs(x * dy - y * dx);
      if (row !== from && along > 1e-6 && cost < least) [least, best] = [cost, row];
    }
    return best;
  }

  /** @param {CanvasRenderingContext2D} at @param {import("./plane.js").Viewport} view */
  draw(at, view) {
    const rows = this.rows;
    const near = Math.min(2.4, Math.max(1, (view.scale / this.plane.home.scale) ** 0.35));
    const radius = (rows.length > 3000 ? 2.2 : rows.length > 400 ? 3.2 : 5) * near;
    const many = rows.length > MOST_TRACED;
    if (many) this.stampPoints(at, view, radius);
    at.globalCompositeOperation = "destination-over"; // below the points
    if (!many || !this.plane.moving) this.drawLinks(at, view);
    at.globalCompositeOperation = "source-over";
    if (!many) this.drawPoints(at, view, radius);
    if (this.chosen !== null) this.drawChosen(at, view, this.chosen, radius);
    if (!many || !this.plane.moving) this.drawNames(at, view, radius);
  }

  /** @param {number} row @param {string[]} inks @param {string} none */
  inkAt(row, inks, none) {
    const group = this.groups?.[row];
    if (group == null) return inks[this.numbers[row]];
    return group < 0 ? none : `hsl(${Math.round(group * 137.5) % 360} 55% 48%)`;
  }

  /** Ten thousand points at the speed of a screen, without a graphics card too. @param {CanvasRenderingContext2D} at @param {import("./plane.js").Viewport} view @param {number} radius */
  stampPoints(at, view, radius) {
    const dense = window.devicePixelRatio || 1;
    const pixels = this.pixels?.fits ? this.pixels : (this.pixels = new Pixels(at));
    pixels.clear();
    const inks = [...KINDS, ""].map(kindColour);
    const none = themed("--faint");
    const reach = Math.round(radius * dense * 4) / 4;
    /** @type {Map<string, number>} */ const known = new Map();
    const stamps = [...KINDS, ""].flatMap((kind) => [false, true].map((hollow) => this.stampOf(kind, reach, hollow)));
    for (const row of this.rows) {
      const x = Math.round(dense * (view.scale * this.points[2 * row] + view.x));
      const y = Math.round(dense * (view.scale * this.points[2 * row + 1] + view.y));
      if (x < -20 || y < -20 || x > pixels.width + 20 || y > pixels.height + 20) continue;
      const colour = this.inkAt(row, inks, none);
      let ink = known.get(colour);
      if (ink === undefined) known.set(colour, (ink = inkOf(colour)));
      pixels.put(stamps[2 * this.numbers[row] + Number(this.weak[row])], x, y, ink, this.matches != null && !this.matches.has(row) ? 0.15 : 1);
    }
    pixels.show();
  }

  /** @param {string} kind @param {number} reach @param {boolean} hollow */
  stampOf(kind, reach, hollow) {
    const key = `${kindNumber(kind)} ${reach} ${hollow}`;
    let stamp = this.stamps.get(key);
    if (stamp === undefined) this.stamps.set(key, (stamp = makeStamp((at, middle) => tracePoint(at, kind, middle, middle, reach), 1.3 * reach, hollow)));
    return stamp;
  }

  /** @param {CanvasRenderingContext2D} at @param {import("./plane.js").Viewport} view */
  drawLinks(at, view) {
    at.strokeStyle = themed("--link-line");
    at.lineWidth = 1;
    at.beginPath();
    for (const [first, second] of linksOf(this.space)) {
      if (!this.shown?.has(first) || !this.shown.has(second)) continue;
      at.moveTo(view.scale * this.points[2 * first] + view.x, view.scale * this.points[2 * first + 1] + view.y);
      at.lineTo(view.scale * this.points[2 * second] + view.x, view.scale * this.points[2 * second + 1] + view.y);
    }
    at.stroke();
  }

  /** All marks of one colour are one path: ten thousand points in a few strokes. @param {CanvasRenderingContext2D} at @param {import("./plane.js").Viewport} view @param {number} radius */
  drawPoints(at, view, radius) {
    const inks = [...KINDS, ""].map(kindColour);
    const [paper, none] = [themed("--paper"), themed("--faint")];
    /** @type {Map<string, {path: Path2D, ink: string, weak: boolean, faded: boolean}>} */
    const batches = new Map();
    for (const row of this.rows) {
      const x = view.scale * this.points[2 * row] + view.x;
      const y = view.scale * this.points[2 * row + 1] + view.y;
      if (x < -20 || y < -20 || x > this.plane.width + 20 || y > this.plane.height + 20) continue;
      const ink = this.inkAt(row, inks, none);
      const faded = this.matches != null && !this.matches.has(row);
      const key = `${ink} ${this.weak[row]} ${faded}`;
      let batch = batches.get(key);
      if (batch === undefined) batches.set(key, (batch = { path: new Path2D(), ink, weak: this.weak[row], faded }));
      tracePoint(/** @type {any} */ (batch.path), this.kinds[row], x, y, radius);
    }
    at.lineWidth = 1.4;
    for (const { path, ink, weak, faded } of batches.values()) {
      at.globalAlpha = faded ? 0.15 : 1;
      at.fillStyle = weak ? paper : ink;
      at.strokeStyle = weak ? ink : paper;
      at.fill(path);
      at.stroke(path);
    }
    at.globalAlpha = 1;
  }

  /** @param {CanvasRenderingContext2D} at @param {import("./plane.js").Viewport} view @param {number} row @param {number} radius */
  drawChosen(at, view, row, radius) {
    at.strokeStyle = themed("--ink");
    at.lineWidth = 2;
    at.beginPath();
    const [x, y] = [view.scale * this.points[2 * row] + view.x, view.scale * this.points[2 * row + 1] + view.y];
    at.arc(x, y, radius + 4, 0, 2 * Math.PI);
    at.stroke();
    at.strokeStyle = themed("--accent");
    at.beginPath();
    for (const [first, second] of linksOf(this.space)) {
      if (first !== row && second !== row) continue;
      const other = first === row ? second : first;
      at.moveTo(x, y);
      at.lineTo(view.scale * this.points[2 * other] + view.x, view.scale * this.points[2 * other + 1] + view.y);
    }
    at.stroke();
  }

  /** Names where they do not cover one another, those of matches first. @param {CanvasRenderingContext2D} at @param {import("./plane.js").Viewport} view @param {number} radius */
  drawNames(at, view, radius) {
    at.font = "12px system-ui, sans-serif";
    at.textBaseline = "middle";
    at.lineWidth = 3;
    at.lineJoin = "round";
    at.strokeStyle = themed("--paper");
    at.fillStyle = themed("--ink");
    const taken = new Set();
    const first = this.matches ?? new Set(this.chosen === null ? [] : [this.chosen]);
    const ordered = this.matches ? [...first] : [...first, ...this.rows];
    const cellsOf = (/** @type {number} */ left, /** @type {number} */ y, /** @type {number} */ wide) => {
      const cells = [];
      for (let cx = Math.floor(left / 10); cx <= Math.floor((left + wide) / 10); cx += 1) cells.push(`${cx} ${Math.floor((y - 5) / 10)}`, `${cx} ${Math.floor((y + 5) / 10)}`);
      return cells;
    };
    if (ordered.length <= MOST_TRACED) {
      for (const row of this.rows) taken.add(`${Math.floor((view.scale * this.points[2 * row] + view.x) / 10)} ${Math.floor((view.scale * this.points[2 * row + 1] + view.y) / 10)}`);
    }
    let written = 0;
    let tried = 0;
    for (const row of ordered) {
      const x = view.scale * this.points[2 * row] + view.x;
      const y = view.scale * this.points[2 * row + 1] + view.y;
      if (x < 0 || y < 0 || x > this.plane.width || y > this.plane.height) continue;
      tried += 1;
      if (tried > MOST_NAMED) return;
      const text = shortened(this.space.compared[row]);
      const wide = at.measureText(text).width;
      const own = `${Math.floor(x / 10)} ${Math.floor(y / 10)}`;
      const tries = [[x + radius + 4, y], [x - radius - 4 - wide, y], [x - wide / 2, y - radius - 9], [x - wide / 2, y + radius + 10]];
      const place = tries.find(([left, middle]) => left > 2 && left + wide < this.plane.width - 2 && !cellsOf(left, middle, wide).some((cell) => cell !== own && taken.has(cell)));
      if (place === undefined && !first.has(row)) continue;
      const [left, middle] = place ?? tries[0];
      cellsOf(left, middle, wide).forEach((cell) => taken.add(cell));
      at.strokeText(text, left, middle);
      at.fillText(text, left, middle);
      written += 1;
      if (written >= 150) return;
    }
  }
}

/** @param {string} text */
function shortened(text) {
  return text.length > 26 ? `${text.slice(0, 25)}…` : text;
}

/**
 * The view of the map with its filters.
 * @param {Zoo} zoo
 * @param {ShownSpace} space
 * @param {(hash: string) => void} go
 */
export function mapView(zoo, space, go) {
  const map = new TaskMap(zoo, space, { go, tall: true });
  const kinds = [...new Set(map.kinds)].sort((one, other) => kindNumber(one) - kindNumber(other));
  const toggle = (/** @type {string} */ kind) => {
    const box = /** @type {HTMLInputElement} */ (h("input", { type: "checkbox", checked: true, onchange: () => {
      if (box.checked) map.hidden.delete(kind);
      else map.hidden.add(kind);
      map.refilter();
    } }));
    return h("label", { class: "toggle" }, box, kindMark(kind), kindInWords(kind), chip(String(map.kinds.filter((one) => one === kind).length), "count"));
  };
  const search = /** @type {HTMLInputElement} */ (h("input", { type: "search", placeholder: "Find on the map", "aria-label": "Find on the map", oninput: () => {
    map.found = search.value;
    map.refilter();
  } }));
  const element = h("section", {},
    h("h1", {}, "Map of the tasks"),
    h("p", { class: "lead" }, `Each point is a task of ${space.name}. Near neighbours are drawn together and joined by a line where their score stands out of what unrelated tasks reach; how far apart the others lie says little. Hollow marks did not beat their baseline.`),
    h("div", { class: "controls" }, spaceSelect(zoo, space, "map", go),
      select("Colours", [["kind", "by kind"], ["group", "by group"]], "kind", (value) => {
        map.byGroup = value === "group";
        map.refilter();
      }), search),
    h("div", { class: "controls" }, h("fieldset", {}, h("legend", { class: "away" }, "Kinds that are shown"), kinds.map(toggle))),
    map.element);
  return { element, title: "Map", stop: () => map.plane.stop(), map };
}

/** @param {Zoo} zoo @param {ShownSpace} space @param {string} view @param {(hash: string) => void} go */
export function spaceSelect(zoo, space, view, go) {
  const options = zoo.spaces.map((one) => /** @type {[string, string]} */ ([one.name, `${one.name} (${one.entries.length})`]));
  return select("Space: base model and method", options, space.name, (value) => go(address(view, [], { space: value })));
}
