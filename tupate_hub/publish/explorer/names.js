// Names: one name for one place in a model, and one spelling for one base model. The tables are those of the readers.
/**
 * @typedef {{roots: string, heads: string[], taskHeads: string[], read: string[], refused: Record<string, string>,
 *   refusedOptions: Record<string, string>, refusedStarts: string[], modelId: string, legacyOrganisations: string[],
 *   quantised: string, mirrors: string[], byName: Record<string, string>, widths: Record<string, number>}} Tables
 */

/** @type {Map<string, RegExp>} */
const compiled = new Map();

/** The canonical name of a module. @param {Tables} tables @param {string} module */
export function blockName(tables, module) {
  const pattern = compiled.get(tables.roots) ?? new RegExp(`^${tables.roots}`);
  compiled.set(tables.roots, pattern);
  const root = pattern.exec(module)?.[0] ?? "";
  return module.slice(root.length).replaceAll(".base_layer", "").replaceAll(".original_module", "");
}

/** @param {Tables} tables @param {string} key */
export function isHead(tables, key) {
  return tables.heads.includes(blockName(tables, key).split(".")[0]);
}

/** @param {Tables} tables @param {string} key */
export function isTaskHead(tables, key) {
  return tables.taskHeads.includes(blockName(tables, key).split(".")[0]);
}

/** A base model's id in one spelling; null where what is written names no model. @param {Tables} tables @param {any} written */
export function normalisedBase(tables, written) {
  if (typeof written !== "string" || !new RegExp(`^(?:${tables.modelId})$`).test(written)) return null;
  const [organisation, name] = parted(written);
  return originalOf(tables, tables.legacyOrganisations.includes(organisation) ? name : written);
}

/** @param {Tables} tables @param {string} base */
export function originalOf(tables, base) {
  const [owner, name] = parted(base);
  if (Object.hasOwn(tables.widths, base) || (owner !== "" && !tables.mirrors.includes(owner))) return base;
  const known = foldedModel(name.replace(new RegExp(tables.quantised, "i"), ""));
  return Object.hasOwn(tables.byName, known) ? tables.byName[known] : base;
}

/** @param {string} name */
function foldedModel(name) {
  return name.toLowerCase().replace(/[^a-z0-9]/g, "").replace(/^meta|hf$/g, "");
}

/** @param {string} id @returns {[string, string]} */
function parted(id) {
  const at = id.lastIndexOf("/");
  return at < 0 ? ["", id] : [id.slice(0, at), id.slice(at + 1)];
}

/** Names with their numbers in numeric order, as the command line lists blocks. @param {string} one @param {string} other */
export function naturally(one, other) {
  const first = one.split(/(\d+)/);
  const second = other.split(/(\d+)/);
  for (let at = 0; at < Math.min(first.length, second.length); at += 1) {
    if (first[at] === second[at]) continue;
    const digits = [first[at], second[at]].map((piece) => piece.replace(/^0+/, ""));
    if (at % 2 === 1 && digits[0].length !== digits[1].length) return digits[0].length - digits[1].length;
    if (at % 2 === 1 && digits[0] !== digits[1]) return digits[0] < digits[1] ? -1 : 1;
    if (at % 2 === 0) return first[at] < second[at] ? -1 : 1;
  }
  return first.length - second.length;
}
