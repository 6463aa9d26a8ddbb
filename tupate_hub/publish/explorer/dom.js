// Dom: elements made of texts. Strangers' words only ever become text nodes and attributes, never markup.

/** @typedef {Node | string | number | null | undefined | false | any[]} Child */

const SVG = "http://www.w3.org/2000/svg";

/**
 * An element with its attributes, listeners (`onclick`) and children.
 * @param {string} tag
 * @param {Record<string, any>} [props]
 * @param {...Child} children
 * @returns {HTMLElement}
 */
export function h(tag, props = {}, ...children) {
  return /** @type {HTMLElement} */ (filled(document.createElement(tag), props, children));
}

/**
 * The same for SVG.
 * @param {string} tag
 * @param {Record<string, any>} [props]
 * @param {...Child} children
 * @returns {SVGElement}
 */
export function svg(tag, props = {}, ...children) {
  return /** @type {SVGElement} */ (filled(document.createElementNS(SVG, tag), props, children));
}

/** @param {Element} element @param {Record<string, any>} props @param {Child[]} children */
function filled(element, props, children) {
  for (const [name, value] of Object.entries(props)) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false).map(asNode));
  return element;
}

/** @param {Child} child @returns {Node | string} */
function asNode(child) {
  return child instanceof Node ? child : String(child);
}

/** A name of a stranger's, of any script and length, kept apart from the text around it. @param {string} text @param {string} [tag] */
export function name(text, tag = "bdi") {
  return h(tag, { class: "name", title: text.length > 40 ? text.slice(0, 300) : null }, text);
}

/** A small mark: a kind, a note. @param {string} text @param {string} [kind] @param {string} [meaning] */
export function chip(text, kind = "", meaning = "") {
  return h("span", { class: `chip ${kind}`, title: meaning || null }, text);
}

/** A line to copy by a click. @param {string} text @param {string} label */
export function command(text, label) {
  const said = h("span", { class: "copied", "aria-live": "polite" });
  const button = h("button", { class: "copy", type: "button", "aria-label": `Copy: ${label}`, onclick: copy }, "Copy", said);

  async function copy() {
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      copyBySelection(text);
    }
    said.textContent = "Copied";
    setTimeout(() => (said.textContent = ""), 1500);
  }

  const oneLine = !text.includes("\n"); // it wraps between its words and nowhere else
  const words = oneLine ? text.split(" ").flatMap((word, at) => [at > 0 ? " " : "", h("span", { class: "word" }, word)]) : [text];
  return h("div", { class: `command ${oneLine ? "line" : ""}` }, h("pre", { tabindex: 0, role: "region", "aria-label": label }, h("code", {}, words)), button);
}

/** Where the clipboard is not to be had: a page that was opened from a file. @param {string} text */
function copyBySelection(text) {
  const area = /** @type {HTMLTextAreaElement} */ (h("textarea", { class: "away", "aria-hidden": "true" }));
  area.value = text;
  document.body.append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
}

/** A word as a shell takes it. @param {string} word */
export function shell(word) {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\"'\"'")}'`;
}

/** A page of the Hub, for a link that is followed by a click and never by the page. @param {string} id @param {string} kind */
export function hubPage(id, kind) {
  const plain = id.split(":")[0];
  if (!/^[\w.-]+(\/[\w.-]+)?$/.test(plain)) return null;
  return `https://huggingface.co/${kind}${plain}`;
}

/** @param {string} id @param {string} kind */
export function hubLink(id, kind) {
  const address = hubPage(id, kind);
  return address === null ? name(id) : h("a", { href: address, rel: "noreferrer noopener", target: "_blank" }, id);
}

/** A choice. @param {string} label @param {[string, string][]} options @param {string} chosen @param {(value: string) => void} changed */
export function select(label, options, chosen, changed) {
  const box = /** @type {HTMLSelectElement} */ (
    h("select", { onchange: () => changed(box.value) }, options.map(([value, text]) => h("option", { value, selected: value === chosen }, text)))
  );
  return h("label", { class: "field" }, h("span", {}, label), box);
}

/** Read a colour of the page's theme. @param {string} property */
export function themed(property) {
  return getComputedStyle(document.documentElement).getPropertyValue(property).trim();
}
