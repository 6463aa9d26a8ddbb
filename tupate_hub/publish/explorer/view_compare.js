// Two tasks, block by block.
import { chip, command, h, select, shell } from "./dom.js";
import { blockTable, kindMark, layerBars, scoreBar } from "./marks.js";
import { fixed, grouped, percent } from "./numbers.js";
import { askTask, MEANING, neighbours } from "./ranking.js";
import { address } from "./router.js";
import { taskAddress } from "./search.js";
import { options } from "./view_task.js";
import { kindInWords } from "./zoo.js";

/** @import { ShownSpace, Zoo } from "./zoo.js" */

/**
 * @param {Zoo} zoo
 * @param {string[]} written Up to two names or aliases.
 * @param {ShownSpace} space
 * @param {(hash: string) => void} go
 */
export function compareView(zoo, written, space, go) {
  const [first, second] = [written[0] ?? "", written[1] ?? ""].map((one) => zoo.named(one));
  const pick = (/** @type {string} */ label, /** @type {string | null} */ task, /** @type {(value: string) => string[]} */ parts) =>
    select(label, [/** @type {[string, string]} */ (["", "choose a task"]), ...space.compared.map((one) => /** @type {[string, string]} */ ([one, one]))], task ?? "", (value) => go(address("compare", parts(value), { space: space.name })));
  const spaces = select("Space", zoo.spaces.map((one) => [one.name, one.name]), space.name, (value) => go(address("compare", written, { space: value })));
  const controls = h("div", { class: "controls" }, pick("One task", first, (value) => [value, second ?? ""]), pick("with", second, (value) => [first ?? "", value]), spaces);
  const rows = [first, second].map((task) => (task === null ? undefined : space.rowOf.get(task)));
  const element = h("section", {}, h("h1", {}, "Compare two tasks"), controls);
  if (first === null || second === null || rows[0] === undefined || rows[1] === undefined) {
    element.append(h("p", { class: "lead" }, first !== null && second !== null ? `${rows[0] === undefined ? first : second} is not compared in ${space.name}.` : "Choose two tasks of one space: their score is the sum of what each block of the model adds."));
  } else if (first === second) element.append(h("p", { class: "lead" }, "A task compared with itself scores 1."));
  else element.append(compared(zoo, space, first, second, /** @type {[number, number]} */ (rows)));
  return { element, title: first && second ? `${first} and ${second}` : "Compare", stop: () => {} };
}

/**
 * @param {Zoo} zoo
 * @param {ShownSpace} space
 * @param {string} first
 * @param {string} second
 * @param {[number, number]} rows
 */
function compared(zoo, space, first, second, rows) {
  const among = (/** @type {string} */ task, /** @type {string} */ other) => neighbours(zoo, space, askTask(zoo, space, task)).find((one) => one.task === other);
  const found = among(first, second) ?? among(second, first);
  const explain = command(`tupate-hub explain ${shell(first)} ${shell(second)}${options(zoo, space)}`, "the same on the command line");
  if (found === undefined) {
    return h("div", {}, h("p", { class: "lead" }, "The page of so large a space has the nearest neighbours alone, and these two are none; the command line compares any two."), explain);
  }
  const most = Math.max(found.score, space.noise?.upper ?? 0, 0.1);
  const parts = space.contributions(...rows);
  return h("div", { class: "pair" },
    h("div", { class: "versus" }, card(zoo, space, first), h("div", { class: "between" },
      h("strong", { class: "big" }, fixed(found.score)), h("span", { class: "quiet" }, found.percentile === null ? "" : `above ${percent(found.percentile)} % of all pairs`),
      scoreBar(found.score, most, space.noise), space.noise && h("span", { class: "quiet" }, `unrelated tasks: up to ${fixed(space.noise.upper)}`),
      h("span", { class: "notes" }, found.notes.filter((note) => note !== "tie").map((note) => chip(note, `note-${note.replaceAll(" ", "-")}`, MEANING[note])))), card(zoo, space, second)),
    parts === null ? h("p", {}, "What each block adds is not part of this page for so large a space; the command line tells it:") : [h("div", { class: "bars" }, h("h2", {}, "By layer"), layerBars(space.blocks, parts)), blockTable(space.blocks, parts, found.score)],
    explain);
}

/** @param {Zoo} zoo @param {ShownSpace} space @param {string} task */
function card(zoo, space, task) {
  const { kind, title, trainSize } = zoo.task(task);
  const entry = space.byTask.get(task);
  return h("div", { class: "card" }, h("p", { class: "eyebrow" }, kindMark(kind), ` ${kindInWords(kind)}`), h("h2", {}, h("a", { href: taskAddress(zoo, task, space.name) }, h("bdi", {}, task))), h("p", {}, title),
    h("p", { class: "quiet" }, trainSize === null ? "" : `${grouped(trainSize)} examples`, entry?.score == null ? "" : ` · ${entry.metric.replaceAll("_", " ")} ${fixed(entry.score)}`));
}
