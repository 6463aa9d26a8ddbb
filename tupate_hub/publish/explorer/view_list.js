// The list: every embedding as a row of a table that sorts and filters.
import { chip, h, select } from "./dom.js";
import { kindMark } from "./marks.js";
import { fixed, grouped, signed } from "./numbers.js";
import { MEANING } from "./ranking.js";
import { taskAddress } from "./search.js";
import { fold, kindInWords } from "./zoo.js";

/** @import { Entry, ShownSpace, Zoo } from "./zoo.js" */

const A_PAGE = 150;

/**
 * @typedef {{task: string, space: ShownSpace, entry: Entry, kind: string, title: string, size: number | null,
 *   above: number | null, nearest: string, nearness: number | null, text: string}} Row
 * @typedef {{label: string, value: (row: Row) => string | number | null, cell: (row: Row) => any, number?: boolean}} Column
 */

/**
 * @param {Zoo} zoo
 * @param {string | null} wanted A space.
 */
export function listView(zoo, wanted) {
  const rows = zoo.spaces.flatMap((space) => space.entries.map((entry) => rowOf(zoo, space, entry)));
  const state = { space: wanted ?? zoo.first?.name ?? "", method: "", kind: "", text: "", by: 0, down: false, shown: A_PAGE };
  const columns = columnsOf(zoo);
  const body = h("tbody", {});
  const told = h("p", { class: "quiet", role: "status" });
  const more = h("button", { type: "button", class: "plain", onclick: () => {
    state.shown += 1000;
    fill();
  } }, "Show more rows");
  const heads = columns.map(({ label, number }, at) => h("th", { scope: "col", class: number ? "number" : null }, h("button", { type: "button", onclick: () => {
    state.down = state.by === at ? !state.down : Boolean(number);
    state.by = at;
    fill();
  } }, label)));

  function fill() {
    const text = fold(state.text);
    const kept = rows.filter((row) => (!state.space || row.space.name === state.space) && (!state.method || row.space.method === state.method) && (!state.kind || row.kind === state.kind) && (!text || row.text.includes(text)));
    const { value } = columns[state.by];
    const sign = state.down ? -1 : 1;
    kept.sort((one, other) => ordered(value(one), value(other), sign) || (one.task < other.task ? -1 : 1));
    heads.forEach((head, at) => head.setAttribute("aria-sort", at !== state.by ? "none" : state.down ? "descending" : "ascending"));
    body.replaceChildren(...kept.slice(0, state.shown).map((row) => h("tr", {}, columns.map(({ cell, number }, at) => h(at === 0 ? "th" : "td", { class: number ? "number" : null, scope: at === 0 ? "row" : null }, cell(row))))));
    told.textContent = kept.length === 1 ? "1 embedding" : `${kept.length} embeddings`;
    more.hidden = kept.length <= state.shown;
  }

  /** @param {"space" | "method" | "kind"} field @param {string} label @param {string[]} values @param {(value: string) => string} words */
  const filter = (field, label, values, words = (value) => value) => select(label, [["", "all"], ...values.map((value) => /** @type {[string, string]} */ ([value, words(value)]))], state[field], (value) => {
    state[field] = value;
    fill();
  });
  const search = /** @type {HTMLInputElement} */ (h("input", { type: "search", placeholder: "Filter by name, alias or title", "aria-label": "Filter by name, alias or title", oninput: () => {
    state.text = search.value;
    fill();
  } }));
  fill();
  const element = h("section", {}, h("h1", {}, "All embeddings"),
    h("div", { class: "controls" }, search, filter("space", "Space", zoo.spaces.map((space) => space.name)), filter("method", "Method", [...new Set(zoo.spaces.map((space) => space.method))]), filter("kind", "Kind", [...new Set(rows.map((row) => row.kind))], kindInWords)),
    told,
    h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "All embeddings" }, h("table", { class: "list" }, h("caption", { class: "away" }, "Embeddings of this registry; the buttons in the head sort them"), h("thead", {}, h("tr", {}, heads)), body)), more);
  return { element, title: "List", stop: () => {} };
}

/** Unknown values come last, whichever way. @param {string | number | null} one @param {string | number | null} other @param {number} sign */
function ordered(one, other, sign) {
  if (one === null || other === null) return Number(one === null) - Number(other === null);
  return one < other ? -sign : one > other ? sign : 0;
}

/** @param {Zoo} zoo @param {ShownSpace} space @param {Entry} entry @returns {Row} */
function rowOf(zoo, space, entry) {
  const { kind, title, trainSize, aliases } = zoo.task(entry.task);
  const row = space.rowOf.get(entry.task);
  let nearest = "";
  /** @type {number | null} */ let nearness = null;
  for (const [other, score] of row === undefined ? [] : space.best(row, 1)) [nearest, nearness] = [space.compared[other], score];
  const above = entry.score === null || entry.baseline === null ? null : entry.score - entry.baseline;
  const text = fold([entry.task, title, ...aliases].join("\n"));
  return { task: entry.task, space, entry, kind, title, size: trainSize, above, nearest, nearness, text };
}

/** @param {Zoo} zoo @returns {Column[]} */
function columnsOf(zoo) {
  return [
    { label: "task", value: (row) => row.task, cell: (row) => [h("a", { href: taskAddress(zoo, row.task, row.space.name) }, h("bdi", {}, row.task)), " ", row.entry.flags.map((flag) => chip(flag, `note-${flag}`, MEANING[flag] ?? ""))] },
    { label: "what it asks", value: (row) => row.title, cell: (row) => h("span", { class: "clip" }, row.title) },
    { label: "kind", value: (row) => row.kind, cell: (row) => h("span", { class: "nowrap" }, kindMark(row.kind), " ", kindInWords(row.kind)) },
    { label: "method", value: (row) => row.space.method, cell: (row) => h("span", { title: row.space.name }, row.space.method) },
    { label: "score", number: true, value: (row) => row.entry.score, cell: (row) => (row.entry.score === null ? "–" : h("span", { title: row.entry.metric }, fixed(row.entry.score))) },
    { label: "above baseline", number: true, value: (row) => row.above, cell: (row) => (row.above === null ? "–" : signed(row.above, 3)) },
    { label: "examples", number: true, value: (row) => row.size, cell: (row) => grouped(row.size) },
    { label: "strength", number: true, value: (row) => row.entry.strength, cell: (row) => (row.entry.strength === null ? "–" : signed(row.entry.strength, 2)) },
    { label: "nearest", value: (row) => row.nearest || null, cell: (row) => (row.nearest ? h("a", { href: taskAddress(zoo, row.nearest, row.space.name) }, h("bdi", {}, row.nearest)) : "–") },
    { label: "at", number: true, value: (row) => row.nearness, cell: (row) => (row.nearness === null ? "–" : fixed(row.nearness)) },
  ];
}
