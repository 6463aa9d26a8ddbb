// Search: tasks by name, alias and title, as one types; a combobox as the ARIA practices describe it.
import { h } from "./dom.js";
import { kindMark } from "./marks.js";
import { address } from "./router.js";
import { fold, kindInWords } from "./zoo.js";

/** @import { Zoo } from "./zoo.js" */

const MOST_SHOWN = 12;

/**
 * Tasks that fit what was typed, best first: names, then aliases, then titles; beginnings before middles.
 * @param {Zoo} zoo
 * @param {string} typed
 * @returns {{task: string, alias: string}[]}
 */
export function findTasks(zoo, typed) {
  const wanted = fold(typed.trim());
  if (wanted === "") return [];
  const found = [];
  for (const [task, { aliases, title, kind, dataset }] of zoo.tasks) {
    const alias = aliases.find((one) => fold(one) === wanted) ?? aliases.find((one) => fold(one).includes(wanted)) ?? "";
    const ranks = [fold(task) === wanted, fold(alias) === wanted, fold(task).startsWith(wanted), fold(task).includes(wanted), alias !== "",
      fold(title).includes(wanted), fold(dataset).includes(wanted) || fold(kind) === wanted];
    const rank = ranks.indexOf(true);
    if (rank >= 0) found.push({ task, alias: fold(task).includes(wanted) ? "" : alias, rank });
  }
  return found.sort((one, other) => one.rank - other.rank || (one.task < other.task ? -1 : 1));
}

/**
 * @param {Zoo} zoo
 * @param {{id: string, label: string, placeholder: string, chosen: (task: string) => void, value?: string}} how
 */
export function searchBox(zoo, { id, label, placeholder, chosen, value = "" }) {
  /** @type {string[]} */ let shown = [];
  let active = -1;
  const list = h("ul", { class: "found", id: `${id}-found`, role: "listbox", "aria-label": "Tasks found", hidden: true });
  const told = h("p", { class: "away", "aria-live": "polite" });
  const input = /** @type {HTMLInputElement} */ (h("input", {
    id, type: "search", role: "combobox", placeholder, autocomplete: "off", spellcheck: "false", value, "aria-label": label, "aria-autocomplete": "list",
    "aria-expanded": "false", "aria-controls": `${id}-found`, oninput: update, onfocus: update, onkeydown: key,
    onblur: () => setTimeout(close, 150),
  }));

  function update() {
    const found = findTasks(zoo, input.value);
    shown = found.slice(0, MOST_SHOWN).map(({ task }) => task);
    active = shown.length > 0 ? 0 : -1;
    list.replaceChildren(...found.slice(0, MOST_SHOWN).map(({ task, alias }, at) => option(task, alias, at)));
    list.hidden = shown.length === 0;
    if (found.length > MOST_SHOWN) list.append(h("li", { class: "more", role: "presentation" }, `and ${found.length - MOST_SHOWN} more`));
    told.textContent = input.value.trim() === "" ? "" : found.length === 0 ? "No task is called so." : `${found.length} tasks`;
    mark();
  }

  /** @param {string} task @param {string} alias @param {number} at */
  function option(task, alias, at) {
    const { title, kind } = zoo.task(task);
    return h("li", { id: `${id}-${at}`, role: "option", "aria-selected": "false", onpointerdown: (/** @type {Event} */ event) => {
      event.preventDefault();
      choose(task);
    } }, h("span", { class: "first" }, kindMark(kind), h("strong", {}, h("bdi", {}, task)), alias && h("span", { class: "quiet" }, ` also ${alias}`)), h("span", { class: "quiet title" }, title || kindInWords(kind)));
  }

  /** @param {KeyboardEvent} event */
  function key(event) {
    if (event.key === "Escape") {
      close();
      return;
    }
    if (event.key === "Enter" && active >= 0) {
      event.preventDefault();
      choose(shown[active]);
    } else if ((event.key === "ArrowDown" || event.key === "ArrowUp") && shown.length > 0) {
      event.preventDefault();
      active = (active + (event.key === "ArrowDown" ? 1 : shown.length - 1)) % shown.length;
      mark();
    }
  }

  function mark() {
    input.setAttribute("aria-expanded", String(!list.hidden));
    [...list.querySelectorAll("[role=option]")].forEach((one, at) => {
      one.setAttribute("aria-selected", String(at === active));
      if (at === active) one.scrollIntoView({ block: "nearest" });
    });
    if (active >= 0 && !list.hidden) input.setAttribute("aria-activedescendant", `${id}-${active}`);
    else input.removeAttribute("aria-activedescendant");
  }

  function close() {
    list.hidden = true;
    mark();
  }

  /** @param {string} task */
  function choose(task) {
    close();
    input.value = "";
    input.blur();
    chosen(task);
  }

  return { element: h("div", { class: "search" }, input, list, told), input };
}

/** The address of a task in the space where it is first found. @param {Zoo} zoo @param {string} task @param {string | null} [space] */
export function taskAddress(zoo, task, space = null) {
  const first = zoo.spacesOf(task)[0]?.name ?? null;
  return address("task", [task], { space: space === null || space === first ? null : space });
}
