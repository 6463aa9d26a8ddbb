// Sentences: what is wrong with a file, as the command line says it, and how Python writes a text or a shape in one.

/** A mistake of the visitor's: one sentence, and what to do next. */
export class Refusal extends Error {
  /**
   * @param {string} message
   * @param {string} [hint]
   */
  constructor(message, hint = "") {
    super(message);
    this.hint = hint;
  }
}

/**
 * A text between quotes, with what cannot be printed escaped: Python's repr.
 * @param {string} text
 */
export function quoted(text) {
  const quote = text.includes("'") && !text.includes('"') ? '"' : "'";
  let inside = "";
  for (const char of text) {
    if (char === quote || char === "\\") inside += `\\${char}`;
    else if (char === "\n") inside += "\\n";
    else if (char === "\r") inside += "\\r";
    else if (char === "\t") inside += "\\t";
    else if (/[\p{C}\p{Zl}\p{Zp}]|(?! )\p{Zs}/u.test(char)) inside += escaped(/** @type {number} */ (char.codePointAt(0)));
    else inside += char;
  }
  return quote + inside + quote;
}

/** @param {number} code */
function escaped(code) {
  if (code < 0x100) return `\\x${code.toString(16).padStart(2, "0")}`;
  if (code < 0x10000) return `\\u${code.toString(16).padStart(4, "0")}`;
  return `\\U${code.toString(16).padStart(8, "0")}`;
}

/** A shape as Python writes a tuple. @param {number[]} shape */
export function tuple(shape) {
  return shape.length === 1 ? `(${shape[0]},)` : `(${shape.join(", ")})`;
}

/** A value of a configuration in a message. @param {any} value */
export function short(value) {
  if (Array.isArray(value)) return "a list";
  if (value !== null && typeof value === "object") return "an object";
  const text = typeof value === "string" ? quoted(value) : value === null ? "None" : value === true ? "True" : value === false ? "False" : String(value);
  return text.length <= 80 ? text : `${text.slice(0, 77)}...`;
}

/** A few names. @param {string[]} names @param {number} [most] */
export function shortList(names, most = 3) {
  const more = names.length > most ? ` and ${names.length - most} more` : "";
  return names.slice(0, most).map(short).join(", ") + more;
}
