// Dropping an adapter: the box that takes it, and the neighbours that the browser itself computes.
import { chip, command, h, name } from "./dom.js";
import { filesOf, filesOfHub } from "./dropping.js";
import { advice, neighbourList } from "./neighbours.js";
import { grouped, sized } from "./numbers.js";
import { MEANING } from "./ranking.js";
import { taskAddress } from "./search.js";

/** @import { Answer, ReadAdapter, Reader, Told } from "./dropping.js" */
/** @import { ShownSpace, Zoo } from "./zoo.js" */

/** @typedef {{files: {path: string, blob: Blob}[]}} Held What was dropped last, so that a base model can be said after it. */

/**
 * @param {Zoo} zoo
 * @param {Reader} reader
 * @param {Held} held
 */
export function dropView(zoo, reader, held) {
  const result = h("div", { class: "result", "aria-live": "polite" });
  const bases = [...new Set(zoo.spaces.map((space) => space.base))];
  /** @type {string | null} */ let base = null;
  let turn = 0;

  /** @param {() => Promise<{path: string, blob: Blob}[]> | {path: string, blob: Blob}[]} give */
  async function take(give) {
    turn += 1;
    const mine = turn;
    const shows = (/** @type {Node[]} */ ...nodes) => mine === turn && result.replaceChildren(...nodes); // the last drop counts
    shows(h("p", { class: "busy" }, "Reading …"));
    try {
      held.files = await give();
      await answer(shows);
    } catch (told) {
      shows(refusal(/** @type {Told} */ (told)));
    }
  }

  /** @param {(...nodes: Node[]) => void} shows */
  async function answer(shows) {
    if (held.files.length === 0) return;
    const adapter = await reader.read(held.files, base);
    const space = spaceFor(zoo, adapter);
    if (space.factors.length === 0) {
      throw { message: `${space.name} is too large for this page: dropping is not offered for it.`, hint: `tupate-hub similar ./FOLDER${zoo.location ? ` --registry ${zoo.location}` : ""}` };
    }
    const meter = h("progress", { max: 1, value: 0, "aria-label": "Embeddings of the space" });
    const total = space.factors.reduce((sum, { bytes }) => sum + bytes, 0);
    shows(h("p", { class: "busy" }, `Loading the ${space.compared.length} embeddings of ${space.name}, ${sized(total)}, once … `, meter));
    await reader.load(space, (share) => meter.setAttribute("value", String(share)));
    const found = await reader.compare(adapter, space);
    shows(...shown(zoo, space, adapter, found));
    /** @type {HTMLElement | null} */ (result.querySelector("h2"))?.focus();
  }

  /** @param {Told} told */
  function refusal(told) {
    const said = told.message ?? `This page failed: ${told}`;
    const asks = /names (?:a local|no) base model/.test(said);
    return h("div", { class: "refusal", role: "alert" }, h("p", {}, said), told.hint && h("p", { class: "quiet" }, h("code", {}, told.hint)), asks && chooser());
  }

  function chooser() {
    return h("p", {}, "It was tuned on ", bases.map((one) => h("button", { type: "button", class: "plain", onclick: () => {
      base = one;
      take(() => held.files);
    } }, one)));
  }

  const box = dropBox((files) => {
    base = null;
    take(() => files);
  });
  const element = h("section", { class: "droppage" }, h("h1", {}, "Drop your adapter"),
    h("p", { class: "lead" }, "Which tasks is it like? Your browser reads the file and compares it here: it never leaves this page."),
    box, zoo.hub && hubField((written) => {
      base = null;
      take(() => filesOfHub(written));
    }), result, h("details", {}, h("summary", {}, "What this page reads"), what(zoo)));
  if (held.files.length > 0) take(() => held.files);
  return { element, title: "Drop an adapter", stop: () => {}, take: (/** @type {{path: string, blob: Blob}[]} */ files) => take(() => files) };
}

/** A box that takes files by drop, click and keyboard. @param {(files: {path: string, blob: Blob}[]) => void} taken */
export function dropBox(taken) {
  const picked = (/** @type {Event} */ event) => {
    const input = /** @type {HTMLInputElement} */ (event.currentTarget);
    const files = [...(input.files ?? [])].map((file) => ({ path: file.webkitRelativePath || file.name, blob: file }));
    if (files.length > 0) taken(files);
    input.value = "";
  };
  const input = h("input", { type: "file", multiple: true, class: "away", id: "adapter-files", accept: ".safetensors,.json,.bin", onchange: picked });
  const folder = h("input", { type: "file", class: "away", id: "adapter-folder", webkitdirectory: true, onchange: picked });
  const box = h("div", { class: "dropbox",
    ondragover: (/** @type {DragEvent} */ event) => {
      event.preventDefault();
      box.classList.add("over");
    },
    ondragleave: () => box.classList.remove("over"),
    ondrop: async (/** @type {DragEvent} */ event) => {
      event.preventDefault();
      event.stopPropagation();
      box.classList.remove("over");
      if (event.dataTransfer) taken(await filesOf(event.dataTransfer));
    },
  }, h("p", { class: "big" }, "Drop ", h("code", {}, "adapter_model.safetensors"), " with ", h("code", {}, "adapter_config.json"), ", or their folder"),
    h("p", {}, input, h("label", { for: "adapter-files", class: "button" }, "Choose files"), " ", folder, h("label", { for: "adapter-folder", class: "button plain" }, "Choose a folder")));
  return box;
}

/** @param {(written: string) => void} asked */
function hubField(asked) {
  const input = /** @type {HTMLInputElement} */ (h("input", { type: "text", placeholder: "OWNER/NAME", "aria-label": "An adapter's id on the Hub", spellcheck: "false" }));
  return h("form", { class: "hub", onsubmit: (/** @type {Event} */ event) => {
    event.preventDefault();
    if (input.value.trim()) asked(input.value);
  } }, h("span", {}, "or name one on the Hub, which your browser then asks for it "), input, h("button", { type: "submit", class: "button" }, "Compare"));
}

/**
 * The registry's space of an adapter, or the command line's sentence that there is none.
 * @param {Zoo} zoo
 * @param {ReadAdapter} adapter
 * @returns {ShownSpace}
 */
function spaceFor(zoo, adapter) {
  const space = zoo.spaces.find((one) => one.base === adapter.base && one.method === adapter.method);
  if (space !== undefined) return space;
  const words = (/** @type {{base: string, method: string}} */ one) => `${one.method} on ${one.base}`;
  const near = zoo.spaces.filter((one) => one.base === adapter.base);
  const listed = (near.length > 0 ? near : [...zoo.spaces].sort((one, other) => alike(other.base, adapter.base) - alike(one.base, adapter.base))).slice(0, 3);
  const others = zoo.spaces.length > 3 ? ` and ${zoo.spaces.length - listed.length} other spaces` : "";
  throw { message: `The query is ${words(adapter)}; the zoo holds ${listed.map(words).join("; ") || "nothing"}${others}.`, hint: "tupate-hub spaces" };
}

/** How alike two names are: twice the matching pieces by both lengths (Ratcliff and Obershelp 1988). @param {string} one @param {string} other */
export function alike(one, other) {
  const [a, b] = [one.toLowerCase().slice(0, 200), other.toLowerCase().slice(0, 200)];
  return (2 * matching(a, b)) / Math.max(1, a.length + b.length);
}

/** How many letters the longest common piece has, and those before and behind it. @param {string} a @param {string} b @returns {number} */
function matching(a, b) {
  let [best, at, to] = [0, 0, 0];
  for (let i = 0; i < a.length; i += 1) {
    for (let j = 0; j < b.length; j += 1) {
      let size = 0;
      while (i + size < a.length && a[i + size] === b[j + size]) size += 1;
      if (size > best) [best, at, to] = [size, i, j];
    }
  }
  return best === 0 ? 0 : best + matching(a.slice(0, at), b.slice(0, to)) + matching(a.slice(at + best), b.slice(to + best));
}

/**
 * @param {Zoo} zoo
 * @param {ShownSpace} space
 * @param {ReadAdapter} adapter
 * @param {Answer} found
 */
function shown(zoo, space, adapter, found) {
  const out = Object.entries(found.leftOut);
  /** @type {(Node | "" | null)[]} */
  const told = [
    h("h2", { tabindex: -1 }, "Neighbours of ", name(adapter.name)),
    h("p", { class: "quiet" }, `Read as ${adapter.method} on ${adapter.base}: ${grouped(adapter.count)} blocks, ${grouped(adapter.numbers)} numbers. Compared with ${space.compared.length} tasks of ${space.name}, ${space.sketched ? "by sketches" : "exactly"}.`),
    space.sketched ? h("p", {}, "These scores are estimates, some .01 off, as the space is too large for this page. The command line compares exactly: ", h("code", {}, `tupate-hub similar ./FOLDER${zoo.location ? ` --registry ${zoo.location}` : ""}`)) : "",
    found.itself === null ? "" : h("p", {}, "It is here as ", h("a", { href: taskAddress(zoo, found.itself, space.name) }, h("bdi", {}, found.itself)), ", which is no neighbour of itself."),
    found.diverged ? h("p", {}, chip("diverged", "note-diverged", MEANING.diverged), " Its update is far too large to work.") : "",
    ...adapter.notes.map((note) => h("p", { class: "quiet" }, note)),
    found.shared ? "" : h("p", {}, "No block of it has a name that the space knows, so every score is 0: was it tuned on another model?"),
    advice(zoo, space, found.listed) ?? "",
    neighbourList(zoo, space, found.listed, { compareWith: null, blocks: found.blocks }),
    out.length === 0 ? "" : h("details", {}, h("summary", {}, `${out.length} tasks do not compare with it`), h("ul", {}, out.slice(0, 50).map(([task, why]) => h("li", {}, name(task), `: ${why}`)))),
  ];
  return told.filter((one) => one instanceof Node);
}

/** @param {Zoo} zoo */
function what(zoo) {
  const rows = zoo.spaces.map((space) => h("tr", {}, h("th", { scope: "row" }, space.name), h("td", { class: "number" }, grouped(space.compared.length)), h("td", {}, space.factors.length > 0 ? `${sized(space.factors.reduce((sum, { bytes }) => sum + bytes, 0))}${space.sketched ? " of sketches" : ""}` : "too large for this page: dropping is not offered")));
  return h("div", {},
    h("p", {}, "PEFT's LoRA (with rsLoRA, DoRA's low-rank part and fused projections), IA3, prompts and prefixes in safetensors; files of tuned biases; this project's own embedding files, as ", h("code", {}, "tupate-hub pull"), " makes them. Pickles, AdapterHub's and MLX's files are read by the command line:"),
    command(`tupate-hub similar ./FOLDER${zoo.location ? ` --registry ${zoo.location}` : ""}`, "compare on the command line"),
    h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Spaces" }, h("table", {}, h("caption", {}, "Spaces of this registry, and what is loaded when something of them is dropped"), h("thead", {}, h("tr", {}, ["space", "tasks", "embeddings"].map((label) => h("th", { scope: "col" }, label)))), h("tbody", {}, rows))));
}
