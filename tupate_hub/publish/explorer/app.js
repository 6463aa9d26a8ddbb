// App: the frame of the page, and one view in it at a time, by the address behind the #.
import { h } from "./dom.js";
import { filesOf, Reader } from "./dropping.js";
import { address, parseRoute } from "./router.js";
import { searchBox, taskAddress } from "./search.js";
import { compareView } from "./view_compare.js";
import { dropView } from "./view_drop.js";
import { heatmapView } from "./view_heatmap.js";
import { homeView } from "./view_home.js";
import { listView } from "./view_list.js";
import { mapView } from "./view_map.js";
import { taskView } from "./view_task.js";
import { trustView } from "./view_trust.js";
import { Zoo } from "./zoo.js";

/** @typedef {{element: HTMLElement, title: string, stop: () => void}} View */

const VIEWS = [["map", "Map"], ["heatmap", "Heatmap"], ["list", "List"], ["compare", "Compare"], ["drop", "Drop an adapter"], ["trust", "Trust"]];
const THEMES = ["auto", "light", "dark"];

/**
 * @param {any} data
 * @param {Function} worker The body of the worker.
 */
export function start(data, worker) {
  const zoo = new Zoo(data);
  const reader = new Reader(zoo, worker);
  /** @type {{files: {path: string, blob: Blob}[]}} */
  const held = { files: [] };
  const main = h("main", { id: "main", tabindex: -1 });
  const go = (/** @type {string} */ hash) => {
    if (location.hash === hash) show();
    else location.hash = hash;
  };
  /** @type {View | null} */ let current = null;

  /** @param {{path: string, blob: Blob}[]} files */
  function dropped(files) {
    held.files = files;
    go(address("drop"));
  }

  /** @returns {View} */
  function made() {
    const { view, parts, query } = parseRoute(location.hash);
    const asked = query.get("space");
    const space = (asked === null ? null : zoo.space(asked)) ?? zoo.first;
    if (space === null || view === "home") return homeView(zoo, space, go, dropped);
    if (view === "task") return taskView(zoo, parts.join("/"), asked);
    if (view === "compare") return compareView(zoo, parts, space, go);
    if (view === "map") return mapView(zoo, space, go);
    if (view === "heatmap") return heatmapView(zoo, space, go);
    if (view === "list") return listView(zoo, asked);
    if (view === "trust") return trustView(zoo, space, go);
    if (view === "drop") return dropView(zoo, reader, held);
    return { element: h("section", {}, h("h1", {}, "No such page"), h("p", {}, h("a", { href: "#/" }, "To the first page"))), title: "Not found", stop: () => {} };
  }

  function show() {
    current?.stop();
    current = made();
    main.replaceChildren(current.element);
    document.title = [current.title, zoo.title].filter(Boolean).join(" · ");
    const { view, query } = parseRoute(location.hash);
    const space = zoo.space(query.get("space") ?? "")?.name ?? null; // the views stay in the space that was chosen
    links.forEach((link, at) => {
      link.setAttribute("href", address(VIEWS[at][0], [], { space }));
      if (VIEWS[at][0] === view) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    });
  }

  const search = searchBox(zoo, { id: "search", label: "Find a task", placeholder: "Find a task   /", chosen: (task) => go(taskAddress(zoo, task)) });
  const links = VIEWS.map(([view, label]) => h("a", { href: address(view) }, label));
  const header = h("header", { class: "top" },
    h("a", { href: "#main", class: "skip", onclick: (/** @type {Event} */ event) => {
      event.preventDefault();
      main.focus();
    } }, "Skip to the content"),
    h("a", { href: "#/", class: "brand" }, h("span", { class: "dots", "aria-hidden": "true" }, h("i"), h("i"), h("i")), h("bdi", {}, zoo.title)),
    h("nav", { "aria-label": "Views" }, links),
    search.element, themeButton());
  document.body.replaceChildren(header, main, h("footer", {}, h("p", {}, `Made by tupate-hub ${zoo.version} from `, zoo.location === "" ? "the bundled zoo" : h("bdi", {}, zoo.location), ". This page asks no one for anything: what you type and drop stays in your browser."), zoo.hub && h("p", {}, "An adapter that you name by its Hub id is fetched from the Hub, when you ask for it.")));
  window.addEventListener("hashchange", () => {
    const chosen = main.contains(document.activeElement) ? labelOf(document.activeElement) : "";
    show();
    window.scrollTo(0, 0);
    const again = [...main.querySelectorAll("select")].find((box) => chosen !== "" && labelOf(box) === chosen);
    (again ?? main).focus({ preventScroll: true }); // who goes through a list by keys stays in it
  });
  window.addEventListener("dragover", (event) => event.preventDefault());
  window.addEventListener("drop", async (event) => {
    event.preventDefault();
    if (event.dataTransfer && event.dataTransfer.types.includes("Files")) dropped(await filesOf(event.dataTransfer));
  });
  window.addEventListener("keydown", (event) => {
    const typing = event.target instanceof Element && event.target.closest("input, select, textarea, canvas");
    if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey) {
      event.preventDefault();
      search.input.focus();
    }
  });
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", show);
  show();

  function themeButton() {
    let theme = remembered();
    const button = h("button", { type: "button", class: "theme", onclick: () => {
      theme = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
      remember(theme);
      paint();
      show();
    } });
    function paint() {
      document.documentElement.dataset.theme = theme;
      button.textContent = { auto: "◐", light: "☀", dark: "☾" }[theme] ?? "◐";
      button.setAttribute("aria-label", `Colours: ${theme}. Change`);
      button.title = `Colours: ${theme}`;
    }
    paint();
    return button;
  }
}

/** @param {Element | null} element @returns {string} What a choice is called; "" for anything else. */
function labelOf(element) {
  return element?.closest("label.field")?.firstChild?.textContent ?? "";
}

/** A page that was opened from a file may not be let remember anything. */
function remembered() {
  try {
    return THEMES.find((one) => one === localStorage.getItem("tupate-hub-theme")) ?? "auto";
  } catch {
    return "auto";
  }
}

/** @param {string} theme */
function remember(theme) {
  try {
    localStorage.setItem("tupate-hub-theme", theme);
  } catch {
    // then not
  }
}
