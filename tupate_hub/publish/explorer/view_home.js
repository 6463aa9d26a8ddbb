// The first page: what this is, a question to ask, an adapter to drop, and the map.
import { h } from "./dom.js";
import { grouped } from "./numbers.js";
import { forecastOf } from "./ranking.js";
import { address } from "./router.js";
import { searchBox, taskAddress } from "./search.js";
import { dropBox } from "./view_drop.js";
import { TaskMap } from "./view_map.js";
import { kindMark, kindNumber } from "./marks.js";
import { kindInWords } from "./zoo.js";

/** @import { ShownSpace, Zoo } from "./zoo.js" */

/**
 * @param {Zoo} zoo
 * @param {ShownSpace | null} space
 * @param {(hash: string) => void} go
 * @param {(files: {path: string, blob: Blob}[]) => void} dropped
 */
export function homeView(zoo, space, go, dropped) {
  if (space === null) return { element: h("section", {}, h("h1", {}, "An empty registry"), h("p", {}, "It has no task yet.")), title: "", stop: () => {} };
  const search = searchBox(zoo, { id: "home-search", label: "Find a task by name, alias or title", placeholder: `${example(space)}, or one of its aliases …`, chosen: (task) => go(taskAddress(zoo, task)) });
  const map = new TaskMap(zoo, space, { go });
  const kinds = [...new Set(map.kinds)].sort((one, other) => kindNumber(one) - kindNumber(other));
  const element = h("section", { class: "home" },
    h("div", { class: "hero" },
      h("h1", {}, "Which task should I start from?"),
      h("p", { class: "lead" }, "Tasks compared by what tuning on them changed in a model. Ask for a task, or drop an adapter of yours: its neighbours are the likely starts."),
      search.element,
      h("p", { class: "try" }, "Try ", examples(space).flatMap((task, at) => [at > 0 ? ", " : "", h("a", { href: taskAddress(zoo, task) }, h("bdi", {}, task))])),
      dropBox(dropped)),
    h("div", { class: "preview" }, map.element, h("p", { class: "legendline" }, kinds.map((kind) => h("span", {}, kindMark(kind), " ", kindInWords(kind))), h("a", { href: address("map") }, "larger"))),
    figures(zoo, space), spacesTable(zoo));
  return { element, title: "", stop: () => map.plane.stop() };
}

/** A task with the nearest neighbour of all. @param {ShownSpace} space */
function example(space) {
  return examples(space)[0] ?? "sst2";
}

/** Tasks of the highest-scoring pairs, one of each. @param {ShownSpace} space @returns {string[]} */
function examples(space) {
  /** @type {[number, number][]} */
  const best = space.compared.map((_, row) => [space.best(row, 1)[0]?.[1] ?? -1, row]);
  return best.sort((one, other) => other[0] - one[0] || one[1] - other[1]).filter((_, at) => at % 2 === 0).slice(0, 4).map(([, row]) => space.compared[row]);
}

/** @param {Zoo} zoo @param {ShownSpace} space */
function figures(zoo, space) {
  const forecast = forecastOf(space);
  const told = [
    [grouped(zoo.tasks.size), "tasks"],
    [grouped(zoo.spaces.reduce((sum, one) => sum + one.entries.length, 0)), `embeddings in ${zoo.spaces.length === 1 ? "1 space" : `${zoo.spaces.length} spaces`}`],
    ...(forecast === null ? [] : [[`${(100 * forecast.helped).toFixed(0)} %`, `of ${forecast.targets} targets did better from the first pick than from nothing`]]),
    ...(space.noise === null ? [] : [[space.noise.upper.toFixed(2), "is what 95 % of unrelated pairs score at most"]]),
  ];
  return h("div", { class: "bignumbers" }, told.map(([figure, words]) => h("div", {}, h("strong", {}, figure), h("span", {}, words))), h("p", {}, h("a", { href: address("trust") }, "How far to trust this")));
}

/** @param {Zoo} zoo */
function spacesTable(zoo) {
  const ordered = [...zoo.spaces].sort((one, other) => Number(other.name === zoo.defaultSpace) - Number(one.name === zoo.defaultSpace) || other.entries.length - one.entries.length);
  return h("section", {}, h("h2", {}, "Spaces"), h("p", { class: "quiet" }, "A space is a base model and a method. Embeddings of one space compare; those of two do not."),
    h("ul", { class: "spacecards" }, ordered.map((space) => h("li", {}, h("a", { href: address("map", [], { space: space.name }) }, h("strong", {}, space.method), h("span", { class: "quiet" }, ` on ${space.base}`)), h("span", {}, space.entries.length === 1 ? "1 task" : `${grouped(space.entries.length)}${space.total > space.entries.length ? ` of ${grouped(space.total)}` : ""} tasks`, space.name === zoo.defaultSpace ? ", the default" : "")))));
}
