// Neighbours: a ranking as a list that explains itself: score, noise, percentile, notes, layers and what is expected.
import { chip, h } from "./dom.js";
import { kindMark, layerBars, scoreBar } from "./marks.js";
import { fixed, percent, signed } from "./numbers.js";
import { byGain, MEANING, sentences, startOf } from "./ranking.js";
import { address } from "./router.js";
import { taskAddress } from "./search.js";
import { kindInWords } from "./zoo.js";

/** @import { Neighbour } from "./ranking.js" */
/** @import { ShownSpace, Zoo } from "./zoo.js" */

const FIRST_SHOWN = 10;

/**
 * @param {Zoo} zoo
 * @param {ShownSpace} space
 * @param {Neighbour[]} listed By score.
 * @param {{compareWith: string | null, blocks: string[]}} how A task of the space to compare the neighbours with.
 */
export function neighbourList(zoo, space, listed, { compareWith, blocks }) {
  let gain = false;
  let shown = FIRST_SHOWN;
  const most = Math.max(...listed.map((one) => one.score), space.noise?.upper ?? 0, 1e-6);
  const list = h("ol", { class: "neighbours" });
  const more = h("button", { type: "button", class: "plain", onclick: () => {
    shown = shown === FIRST_SHOWN ? 40 : shown + 200;
    fill();
  } }, "");

  function fill() {
    const ordered = gain ? byGain(listed) : listed;
    list.replaceChildren(...ordered.slice(0, shown).map((one) => row(zoo, space, one, most, compareWith, blocks)));
    more.hidden = shown >= ordered.length;
    more.textContent = `Show more of ${ordered.length}`;
  }

  /** @param {string} text @param {boolean} value @param {string} title */
  const tab = (text, value, title) => h("button", { type: "button", "aria-pressed": String(gain === value), title, onclick: (/** @type {Event} */ event) => {
    gain = value;
    for (const one of /** @type {Element} */ (event.currentTarget).parentElement?.children ?? []) one.setAttribute("aria-pressed", String(one === event.currentTarget));
    fill();
  } }, text);
  fill();
  const tabs = space.gain === null ? null : h("div", { class: "tabs", role: "group", "aria-label": "Order" },
    tab("by similarity", false, "The order of tupate-hub similar"), tab("by expected gain", true, "The order of tupate-hub similar --rank-by gain"));
  return h("div", {}, tabs, list, more);
}

/**
 * @param {Zoo} zoo
 * @param {ShownSpace} space
 * @param {Neighbour} one
 * @param {number} most
 * @param {string | null} compareWith
 * @param {string[]} blocks
 */
function row(zoo, space, one, most, compareWith, blocks) {
  const { title, kind } = zoo.task(one.task);
  const gain = one.expected === null ? null : h("span", { class: `gain ${one.expected.points > 0 ? "up" : "down"}`, title: `80 % interval ${signed(one.expected.low)} to ${signed(one.expected.high)} points; it helps with probability ${one.expected.chance.toFixed(2)}` }, signed(one.expected.points), h("small", {}, " points expected"));
  return h("li", { class: one.notes.includes("within noise") ? "quieter" : "", "data-score": one.score },
    h("span", { class: "rank" }, String(one.rank)),
    h("div", { class: "who" },
      h("a", { href: taskAddress(zoo, one.task, space.name), class: "task" }, h("bdi", {}, one.task)),
      h("span", { class: "quiet title" }, kindMark(kind), " ", title || kindInWords(kind)),
      one.notes.length > 0 && h("span", { class: "notes" }, one.notes.map((note) => chip(note, `note-${note.replaceAll(" ", "-")}`, MEANING[note])))),
    h("div", { class: "how" },
      h("span", { class: "score" }, h("strong", {}, fixed(one.score)), one.percentile === null ? null : h("small", { title: "Per cent of all pairs of the space that score lower" }, ` above ${percent(one.percentile)} %`)),
      scoreBar(one.score, most, space.noise)),
    h("div", { class: "why" }, layerBars(blocks, one.parts)),
    h("div", { class: "what" }, gain, compareWith !== null && h("a", { class: "small", href: address("compare", [compareWith, one.task], { space: space.name }), "aria-label": `Compare ${compareWith} with ${one.task}` }, "compare")));
}

/** Where to start, in a box above the list. @param {Zoo} zoo @param {ShownSpace} space @param {Neighbour[]} listed */
export function advice(zoo, space, listed) {
  const told = sentences(zoo, space, listed);
  if (told.length === 0) return null;
  const start = space.gain === null ? null : startOf(zoo, listed);
  const head = space.gain === null ? null : h("p", { class: "start" }, start === null ? "Start from nothing" : ["Start from ", h("a", { href: taskAddress(zoo, start.task, space.name) }, h("bdi", {}, start.task))]);
  return h("aside", { class: "advice", "aria-label": "What measured transfer supports" }, head, told.map((sentence) => h("p", {}, sentence)), h("p", {}, h("a", { href: address("trust", [], { space: space.name }) }, "How far to trust this")));
}
