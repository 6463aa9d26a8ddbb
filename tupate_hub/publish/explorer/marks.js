// Marks: the small pictures of the page: score bars, layers, blocks, and the colours that kinds and scores have.
import { h, svg, themed } from "./dom.js";
import { fixed, signed } from "./numbers.js";
import { kindOf, layerOf, summedBy } from "./zoo.js";

/** Kinds in the order in which they get colours (Okabe and Ito's, told apart by colour-blind readers too). */
export const KINDS = ["classification", "extractive_qa", "multiple_choice", "token_classification", "regression"];
const SHAPES = ["circle", "square", "diamond", "triangle", "cross", "ring"];

/** @param {string} kind */
export function kindNumber(kind) {
  const at = KINDS.indexOf(kind);
  return at < 0 ? KINDS.length : at;
}

/** @param {string} kind */
export function kindColour(kind) {
  return themed(`--kind-${kindNumber(kind)}`);
}

/**
 * The outline of a kind's mark, so that colour alone never tells.
 * @param {CanvasRenderingContext2D} at
 * @param {string} kind
 * @param {number} x
 * @param {number} y
 * @param {number} r
 */
export function tracePoint(at, kind, x, y, r) {
  const shape = SHAPES[kindNumber(kind)];
  if (shape === "square") at.rect(x - r * 0.9, y - r * 0.9, r * 1.8, r * 1.8);
  else if (shape === "diamond") polygon(at, [[x, y - r * 1.25], [x + r * 1.25, y], [x, y + r * 1.25], [x - r * 1.25, y]]);
  else if (shape === "triangle") polygon(at, [[x, y - r * 1.2], [x + r * 1.15, y + r * 0.85], [x - r * 1.15, y + r * 0.85]]);
  else if (shape === "cross") {
    at.rect(x - r * 1.1, y - r * 0.45, r * 2.2, r * 0.9);
    at.rect(x - r * 0.45, y - r * 1.1, r * 0.9, r * 2.2);
  } else {
    at.moveTo(x + r, y);
    at.arc(x, y, r, 0, 2 * Math.PI);
  }
}

/** @param {CanvasRenderingContext2D} at @param {number[][]} points */
function polygon(at, points) {
  points.forEach(([x, y], index) => (index ? at.lineTo(x, y) : at.moveTo(x, y)));
  at.closePath();
}

/** A kind's mark in the page's text. @param {string} kind */
export function kindMark(kind) {
  const number = kindNumber(kind);
  const outline = {
    circle: "M10 6a4 4 0 1 1-8 0a4 4 0 1 1 8 0z", square: "M2.4 2.4h7.2v7.2h-7.2z", diamond: "M6 1L11 6L6 11L1 6z",
    triangle: "M6 1.2L10.8 9.4H1.2z", cross: "M4.2 1.5h3.6v2.7h2.7v3.6h-2.7v2.7h-3.6v-2.7h-2.7v-3.6h2.7z", ring: "M10 6a4 4 0 1 1-8 0a4 4 0 1 1 8 0z",
  }[SHAPES[number]];
  return svg("svg", { class: `mark kind-${number}`, viewBox: "0 0 12 12", width: 12, height: 12, "aria-hidden": "true" }, svg("path", { d: outline ?? "" }));
}

/**
 * A score on a line from 0 to the largest one shown, with what unrelated tasks reach as a grey band.
 * @param {number} score
 * @param {number} most
 * @param {{upper: number} | null} noise
 */
export function scoreBar(score, most, noise) {
  const wide = (/** @type {number} */ value) => Math.max(0, Math.min(100, (100 * value) / Math.max(most, 1e-6)));
  const covered = noise !== null && score <= noise.upper;
  return svg(
    "svg",
    { class: `scorebar ${covered ? "covered" : ""}`, viewBox: "0 0 100 10", preserveAspectRatio: "none", "aria-hidden": "true" },
    svg("rect", { class: "track", x: 0, y: 3, width: 100, height: 4, rx: 1 }),
    noise && svg("rect", { class: "noise", x: 0, y: 1, width: wide(noise.upper), height: 8 }),
    svg("rect", { class: "value", x: 0, y: 3, width: wide(score), height: 4, rx: 1 }),
  );
}

/**
 * What each layer adds to a score, as a small bar chart.
 * @param {string[]} blocks
 * @param {number[] | Float64Array | null} parts
 */
export function layerBars(blocks, parts) {
  if (parts === null || blocks.length === 0) return null;
  const layers = summedBy(blocks, [...parts], layerOf);
  const peak = Math.max(...layers.map(([, value]) => Math.abs(value)), 1e-9);
  const width = Math.min(9, 84 / layers.length);
  const said = layers.map(([layer, value]) => `${layer} ${signed(value, 3)}`).join(", ");
  return svg(
    "svg",
    { class: "layers", viewBox: `0 0 ${width * layers.length} 26`, width: width * layers.length, height: 26, role: "img", "aria-label": `By layer: ${said}` },
    svg("title", {}, `What each layer adds: ${said}`),
    svg("line", { x1: 0, x2: width * layers.length, y1: 22, y2: 22, class: "axis" }),
    layers.map(([, value], at) => {
      const tall = (Math.abs(value) / peak) * (value < 0 ? 4 : 21);
      return svg("rect", { class: value < 0 ? "minus" : "plus", x: at * width + 0.75, y: value < 0 ? 22 : 22 - tall, width: Math.max(0.5, width - 1.5), height: tall });
    }),
  );
}

/**
 * Layers down, places across: what each block adds, as a table that is its own picture.
 * @param {string[]} blocks
 * @param {number[] | Float64Array} parts
 * @param {number} score
 */
export function blockTable(blocks, parts, score) {
  const layers = [...new Set(blocks.map(layerOf))];
  const kinds = [...new Set(blocks.map(kindOf))];
  const cells = new Map(blocks.map((block, at) => [`${layerOf(block)}\n${kindOf(block)}`, parts[at]]));
  const peak = Math.max(...[...cells.values()].map(Math.abs), 1e-9);
  const byLayer = new Map(summedBy(blocks, [...parts], layerOf));
  const byKind = new Map(summedBy(blocks, [...parts], kindOf));
  const cell = (/** @type {number | undefined} */ value) => {
    if (value === undefined) return h("td", {}, "–");
    return h("td", { class: `heat heat-${Math.round((9 * Math.abs(value)) / peak)}${value < 0 ? " minus" : ""}` }, signed(value, 4));
  };
  return h(
    "div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "What each block adds" },
    h(
      "table", { class: "blocks" },
      h("caption", {}, "What each block adds to the score"),
      h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "layer"), kinds.map((kind) => h("th", { scope: "col" }, kind)), h("th", { scope: "col" }, "total"))),
      h("tbody", {}, layers.map((layer) => h("tr", {}, h("th", { scope: "row" }, layer), kinds.map((kind) => cell(cells.get(`${layer}\n${kind}`))), h("td", { class: "total" }, signed(byLayer.get(layer) ?? 0, 4))))),
      h("tfoot", {}, h("tr", {}, h("th", { scope: "row" }, "total"), kinds.map((kind) => h("td", { class: "total" }, signed(byKind.get(kind) ?? 0, 4))), h("td", { class: "total" }, signed(score, 4)))),
    ),
  );
}

/**
 * A run's score between its baseline and the best there can be.
 * @param {import("./zoo.js").Entry} entry
 */
export function scoreGauge(entry) {
  if (entry.score === null) return h("p", { class: "quiet" }, "No score is known of this run.");
  const low = Math.min(0, entry.score, entry.baseline ?? 0);
  const place = (/** @type {number} */ value) => Math.max(0, Math.min(100, (100 * (value - low)) / (1 - low)));
  const base = entry.baseline;
  return h(
    "div", { class: "gauge" },
    h("div", { class: "figures" }, h("strong", {}, fixed(entry.score)), " ", entry.metric.replaceAll("_", " "), base === null ? "" : h("span", { class: "quiet" }, ` baseline ${fixed(base)}${entry.rule ? ` (${entry.rule})` : ""}`)),
    svg(
      "svg", { viewBox: "0 0 100 8", preserveAspectRatio: "none", "aria-hidden": "true" },
      svg("rect", { class: "track", x: 0, y: 2, width: 100, height: 4 }),
      base !== null && svg("rect", { class: "base", x: 0, y: 2, width: place(base), height: 4 }),
      base !== null && svg("rect", { class: "value", x: Math.min(place(base), place(entry.score)), y: 2, width: Math.abs(place(entry.score) - place(base)), height: 4 }),
      svg("rect", { class: "needle", x: Math.max(0, place(entry.score) - 0.4), y: 0, width: 0.8, height: 8 }),
    ),
  );
}
