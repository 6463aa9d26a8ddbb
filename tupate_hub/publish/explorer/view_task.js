// A task: what it is, how well its run did, how to use it, and its neighbours.
import { chip, command, h, hubLink, name, shell } from "./dom.js";
import { kindMark, scoreGauge } from "./marks.js";
import { advice, neighbourList } from "./neighbours.js";
import { fixed, grouped, signed, sized } from "./numbers.js";
import { askTask, MEANING, neighbours } from "./ranking.js";
import { findTasks, taskAddress } from "./search.js";
import { kindInWords } from "./zoo.js";

/** @import { Entry, ShownSpace, Zoo } from "./zoo.js" */

/** Methods whose folder PEFT loads in one line; of others the folder's own README says how. */
const IN_ONE_LINE = ["lora", "ia3"];

/**
 * @param {Zoo} zoo
 * @param {string} written A name or an alias.
 * @param {string | null} wanted The space, where the address names one.
 */
export function taskView(zoo, written, wanted) {
  const task = zoo.named(written);
  if (task === null) return missing(zoo, written);
  const spaces = zoo.spacesOf(task);
  const space = spaces.find((one) => one.name === wanted) ?? spaces[0];
  const entry = /** @type {Entry} */ (space.byTask.get(task));
  const about = zoo.task(task);
  const query = askTask(zoo, space, task);
  const listed = neighbours(zoo, space, query);
  const diverged = query.change !== null && !(query.change <= zoo.judging.diverged);
  const element = h("article", { class: "taskpage" },
    h("header", {},
      h("p", { class: "eyebrow" }, kindMark(about.kind), ` ${kindInWords(about.kind)}`),
      h("h1", {}, name(task, "bdi")),
      h("p", { class: "lead" }, about.title),
      h("p", { class: "chips" }, entry.flags.map((flag) => chip(flag, `note-${flag}`, MEANING[flag] ?? "")), diverged && chip("diverged", "note-diverged", MEANING.diverged),
        about.aliases.length > 0 && h("span", { class: "quiet" }, "also called ", about.aliases.flatMap((alias, at) => [at > 0 ? ", " : "", name(alias)]))),
      spaces.length > 1 && h("nav", { class: "spaces", "aria-label": "Spaces that have this task" }, spaces.map((one) => h("a", { href: taskAddress(zoo, task, one.name), "aria-current": one === space ? "true" : null }, one.method)))),
    h("div", { class: "columns" },
      h("section", { class: "main" },
        h("h2", {}, "Neighbours"),
        query.row === null
          ? h("p", {}, `It compares with no other task of ${space.name}: ${space.leftOut[task] ?? "nothing is known of its pairs"}.`)
          : listed.length === 0
            ? h("p", {}, `It is alone in ${space.name}.`)
            : [advice(zoo, space, listed), neighbourList(zoo, space, listed, { compareWith: task, blocks: space.blocks })],
        leftOut(space)),
      h("div", { class: "side" }, useIt(zoo, space, task), facts(zoo, space, entry))));
  return { element, title: task, stop: () => {} };
}

/** @param {ShownSpace} space */
function leftOut(space) {
  const tasks = Object.entries(space.leftOut);
  if (tasks.length === 0) return null;
  return h("details", {}, h("summary", {}, `${tasks.length} tasks of the space do not compare`), h("ul", {}, tasks.map(([task, why]) => h("li", {}, name(task), `: ${why}`))));
}

/** @param {Zoo} zoo @param {string} written */
function missing(zoo, written) {
  const near = findTasks(zoo, written.slice(0, 4)).slice(0, 5);
  return { title: "Not found", stop: () => {}, element: h("section", {}, h("h1", {}, "No such task"), h("p", {}, "This registry has no task called ", name(written.slice(0, 200)), "."), near.length > 0 && h("p", {}, "Did you mean ", near.flatMap(({ task }, at) => [at > 0 ? ", " : "", h("a", { href: taskAddress(zoo, task) }, h("bdi", {}, task))]), "?")) };
}

/** Options that name space and registry, where the command would take others. @param {Zoo} zoo @param {ShownSpace} space */
export function options(zoo, space) {
  return (space.name === zoo.defaultSpace ? "" : ` --space ${shell(space.name)}`) + (zoo.location ? ` --registry ${shell(zoo.location)}` : "");
}

/** @param {Zoo} zoo @param {ShownSpace} space @param {string} task */
function useIt(zoo, space, task) {
  const said = shell(task);
  const more = options(zoo, space);
  const [form] = space.forms;
  const folder = `./${task}-${space.method}`;
  const model = zoo.judging.classes[zoo.task(task).kind] ?? zoo.judging.classes[""];
  const lines = [
    "from peft import PeftModel", `from transformers import ${model}`, "",
    `model = ${model}.from_pretrained(${JSON.stringify(space.base)})`, `model = PeftModel.from_pretrained(model, ${JSON.stringify(folder)})`,
  ].join("\n");
  const loads = form === "peft" && IN_ONE_LINE.includes(space.method);
  return h("section", { class: "use" }, h("h2", {}, "Use it"),
    command(`tupate-hub similar ${said}${more}`, "rank its neighbours"),
    command(`tupate-hub pull ${said}${form ? ` --as ${form} --to ${shell(folder)}` : ""}${more}`, "fetch its parameters"),
    command(`tupate-hub train DATA --start-from ${said}${more}`, "start your own task from it"),
    loads && [h("p", { class: "quiet" }, "and in Python, after the pull; the task head starts anew:"), command(lines, "load it with PEFT")],
    form && !loads && h("p", { class: "quiet" }, "The folder's README.md has the lines of Python that load it."),
    zoo.location === "DIR" && h("p", { class: "quiet" }, h("code", {}, "DIR"), " is the folder of this registry."));
}

/** @param {Zoo} zoo @param {ShownSpace} space @param {Entry} entry */
function facts(zoo, space, entry) {
  const task = zoo.task(entry.task);
  const source = entry.source;
  const number = (/** @type {any} */ value) => (typeof value === "number" ? grouped(value) : null);
  /** @type {[string, any][]} */
  const rows = [
    ["dataset", task.dataset ? hubLink(task.dataset, "datasets/") : null],
    ["data licence", task.licence || null],
    ["parameters' licence", source.licence || null],
    ["training examples", task.trainSize === null ? null : `${grouped(task.trainSize)} published${number(source.train_examples) ? `, ${number(source.train_examples)} used` : ""}`],
    ["validation examples", number(source.validation_examples)],
    ["base model", hubLink(space.base, "")],
    ["method", [space.method, settings(space)]],
    ["tuned for", number(source.steps) === null ? null : `${number(source.steps)} steps${typeof source.seconds === "number" ? `, ${Math.round(source.seconds)} s` : ""}`],
    ["other runs", entry.repeats > 0 ? `${entry.repeats} with other seeds, measured and not ranked` : null],
    ["strength", entry.strength === null ? null : `${signed(entry.strength, 2)}${entry.strengthError === null ? "" : ` ± ${fixed(entry.strengthError, 2)}`}: how much it helps whatever the target is, in standard deviations of a target's sources`],
    ["file", [h("code", { class: "path" }, entry.file), h("br"), `${sized(entry.bytes)}, sha256 `, h("code", { title: entry.sha256 }, `${entry.sha256.slice(0, 12)}…`)]],
  ];
  return h("section", { class: "facts" }, h("h2", {}, "The run"), scoreGauge(entry), h("dl", {}, rows.filter(([, value]) => value !== null).flatMap(([label, value]) => [h("dt", {}, label), h("dd", {}, value)])));
}

/** @param {ShownSpace} space */
function settings(space) {
  const told = Object.entries(space.settings).map(([key, value]) => `${key} ${Array.isArray(value) ? value.join(" ") : value}`);
  return told.length === 0 ? "" : h("span", { class: "quiet" }, ` ${told.join(", ")}`);
}

