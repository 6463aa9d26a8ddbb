// Zoo: the registry that `data.js` defines, with what is looked up in it: names and aliases, scores, blocks.
import { bytesOf, cosinesOf, floatsOf } from "./numbers.js";

/**
 * @typedef {{title: string, aliases: string[], kind: string, taskClass: string, trainSize: number | null,
 *   metric: string, dataset: string, licence: string}} Task
 * @typedef {{task: string, file: string, bytes: number, sha256: string, score: number | null, baseline: number | null,
 *   metric: string, rule: string, flags: string[], repeats: number, strength: number | null,
 *   strengthError: number | null, strengthTargets: number | null, source: Record<string, any>}} Entry
 * @typedef {{median: number, upper: number, pairs: number}} Noise
 * @typedef {{regime: string, examples: number, steps: number, targets: number, constant: number, excess: number,
 *   strength: number, error: number, helped: number, gained: number, gained_low: number, gained_high: number,
 *   regrets: Record<string, number>, converged?: Converged | null}} Forecast
 * @typedef {{steps: number, targets: number, helped: number, gained: number, gained_low: number,
 *   gained_high: number}} Converged
 * @typedef {{affinity: number, strength: number, targets: number, kinds: Record<string, Record<string, number>>,
 *   forecasts: Forecast[]}} Gain
 * @typedef {{file: string, bytes: number}} Script
 * @typedef {{mean: number | null, low: number | null, high: number | null}} Summary
 * @typedef {{table: string, sources: number, predictors: {name: string, metrics: Record<string, Summary>}[],
 *   targets: {target: string, nothing: number | null, first: string, reached: number, best: string, most: number}[]}} Trust
 */

/** One space of the registry; numbers are unpacked when they are first asked for. */
export class ShownSpace {
  /**
   * @param {any} raw
   * @param {number} number
   */
  constructor(raw, number) {
    this.number = number;
    /** @type {string} */ this.name = raw.name;
    /** @type {string} */ this.base = raw.base;
    /** @type {string} */ this.method = raw.method;
    /** @type {Record<string, any>} */ this.settings = raw.settings;
    /** @type {Entry[]} */ this.entries = raw.entries;
    /** @type {number} How many embeddings it has; of a large space the page shows fewer. */ this.total = raw.total;
    /** @type {string[]} */ this.compared = raw.compared;
    /** @type {Record<string, string>} */ this.leftOut = raw.leftOut;
    /** @type {Noise | null} */ this.noise = raw.noise;
    /** @type {Gain | null} */ this.gain = raw.gain;
    /** @type {Trust | null} */ this.trust = raw.trust;
    /** @type {string[]} */ this.blocks = raw.blocks;
    /** @type {number[] | null} */ this.order = raw.order;
    /** @type {Script[]} */ this.factors = raw.factors;
    /** @type {boolean} Whether those are sketches, from which scores are estimated. */ this.sketched = raw.sketched;
    /** @type {string[]} What `pull --as` writes of it. */ this.forms = raw.forms;
    /** @type {Map<string, Entry>} */ this.byTask = new Map(this.entries.map((entry) => [entry.task, entry]));
    /** @type {Map<string, number>} */ this.rowOf = new Map(this.compared.map((task, row) => [task, row]));
    this.raw = raw;
    /** @type {Map<string, any>} */ this.unpacked = new Map();
  }

  /** @template T @param {string} name @param {() => T} make @returns {T} */
  once(name, make) {
    if (!this.unpacked.has(name)) this.unpacked.set(name, make());
    return this.unpacked.get(name);
  }

  /** @returns {Float32Array | null} Cosines of all pairs, row by row above the diagonal; null in a large space. */
  get pairs() {
    return this.once("pairs", () => (this.raw.pairs === null ? null : cosinesOf(this.raw.pairs)));
  }

  /** @returns {Float32Array | null} */
  get sortedPairs() {
    return this.once("sorted", () => (this.pairs === null ? null : Float32Array.from(this.pairs).sort()));
  }

  /** @returns {Float32Array} Places on the map, x and y of each compared task. */
  get map() {
    return this.once("map", () => floatsOf(this.raw.map));
  }

  /** @returns {Float32Array | null} Output changes of the compared tasks. */
  get changes() {
    return this.once("changes", () => (this.raw.changes === null ? null : floatsOf(this.raw.changes)));
  }

  /** @returns {Float32Array | null} Squared norms by block, (tasks, sizeBlocks). */
  get squares() {
    return this.once("squares", () => (this.raw.squares === null ? null : floatsOf(this.raw.squares)));
  }

  /** @returns {Int16Array | null} What each block adds to each pair, (pairs, blocks), times 2^15 - 1. */
  get parts() {
    return this.once("parts", () => (this.raw.parts === null ? null : new Int16Array(bytesOf(this.raw.parts).buffer)));
  }

  /** @returns {{count: number, rows: Uint32Array, scores: Float32Array, percentiles: Float32Array} | null} */
  get near() {
    return this.once("near", () => {
      const near = this.raw.near;
      if (near === null) return null;
      return {
        count: near.count,
        rows: new Uint32Array(bytesOf(near.rows).buffer),
        scores: floatsOf(near.scores),
        percentiles: floatsOf(near.percentiles),
      };
    });
  }

  /**
   * Where the pair of two different rows lies among the pairs.
   * @param {number} first
   * @param {number} second
   */
  pairAt(first, second) {
    const low = Math.min(first, second);
    const high = Math.max(first, second);
    return (low * (2 * this.compared.length - low - 1)) / 2 + high - low - 1;
  }

  /**
   * The score of two rows; null where a large space does not have it.
   * @param {number} first
   * @param {number} second
   * @returns {number | null}
   */
  score(first, second) {
    if (first === second) return 1;
    if (this.pairs !== null) return this.pairs[this.pairAt(first, second)];
    const near = this.near;
    if (near === null) return null;
    for (const [from, to] of [[first, second], [second, first]]) {
      const at = near.rows.subarray(from * near.count, (from + 1) * near.count).indexOf(to);
      if (at >= 0) return near.scores[from * near.count + at];
    }
    return null;
  }

  /**
   * The best neighbours of a row, nearest first; of a large space without looking at all pairs.
   * @param {number} row
   * @param {number} count
   * @returns {[number, number][]} Rows and scores.
   */
  best(row, count) {
    const near = this.near;
    if (near !== null) {
      return Array.from({ length: Math.min(count, near.count) }, (_, at) => [near.rows[row * near.count + at], near.scores[row * near.count + at]]);
    }
    /** @type {[number, number][]} */
    const best = [];
    for (let other = 0; other < this.compared.length; other += 1) {
      const score = other === row ? -Infinity : /** @type {number} */ (this.score(row, other));
      if (score > -Infinity && (best.length < count || score > best[best.length - 1][1])) {
        best.push([other, score]);
        best.sort((one, two) => two[1] - one[1]);
        best.length = Math.min(best.length, count);
      }
    }
    return best;
  }

  /**
   * What each block adds to the score of two rows, in the order of `blocks`; null where that is not known.
   * @param {number} first
   * @param {number} second
   * @returns {number[] | null}
   */
  contributions(first, second) {
    if (this.parts === null || first === second) return null;
    const start = this.pairAt(first, second) * this.blocks.length;
    return this.blocks.map((_, at) => /** @type {Int16Array} */ (this.parts)[start + at] / 32767);
  }

  /**
   * The shares of each side's squared norm in blocks that both have, for one row against all; null where not known.
   * @param {number} row
   * @returns {[number, number][] | null}
   */
  coverage(row) {
    const squares = this.squares;
    const width = this.raw.sizeBlocks;
    if (squares === null) return null;
    const own = squares.subarray(row * width, (row + 1) * width);
    const total = own.reduce((sum, value) => sum + value, 0);
    return this.compared.map((_, other) => {
      const theirs = squares.subarray(other * width, (other + 1) * width);
      let ofOwn = 0;
      let ofTheirs = 0;
      let all = 0;
      for (let block = 0; block < width; block += 1) {
        if (theirs[block] > 0) ofOwn += own[block];
        if (own[block] > 0) ofTheirs += theirs[block];
        all += theirs[block];
      }
      return [ofOwn / total, ofTheirs / all];
    });
  }
}

/** The whole registry. */
export class Zoo {
  /** @param {any} data */
  constructor(data) {
    this.data = data;
    /** @type {string} */ this.title = data.title;
    /** @type {string} */ this.version = data.version;
    /** @type {string} */ this.location = data.location;
    /** @type {boolean} */ this.hub = data.hub;
    /** @type {string} */ this.defaultSpace = data.defaultSpace;
    this.judging = data.judging;
    /** @type {Map<string, Task>} */ this.tasks = new Map(Object.entries(data.tasks));
    /** @type {ShownSpace[]} */ this.spaces = data.spaces.map((/** @type {any} */ raw, /** @type {number} */ at) => new ShownSpace(raw, at));
    /** @type {Map<string, string>} Folded names and aliases, with the name of the task. */ this.spelled = new Map();
    for (const [name, task] of this.tasks) for (const alias of task.aliases) this.spelled.set(fold(alias), name);
    for (const name of this.tasks.keys()) this.spelled.set(fold(name), name);
  }

  /** The default space, or the first. @returns {ShownSpace | null} */
  get first() {
    return this.space(this.defaultSpace) ?? this.spaces[0] ?? null;
  }

  /** @param {string} name @returns {ShownSpace | null} */
  space(name) {
    return this.spaces.find((space) => space.name === name) ?? null;
  }

  /** The spaces that have a task, the default one first. @param {string} task @returns {ShownSpace[]} */
  spacesOf(task) {
    const has = this.spaces.filter((space) => space.byTask.has(task));
    return has.sort((one, other) => Number(other.name === this.defaultSpace) - Number(one.name === this.defaultSpace));
  }

  /** The task of a name or alias; case, `-`, `_` and blanks do not matter. @param {string} written @returns {string | null} */
  named(written) {
    return this.spelled.get(fold(written)) ?? null;
  }

  /** @param {string} name @returns {Task} */
  task(name) {
    return this.tasks.get(name) ?? EMPTY;
  }
}

/** @type {Task} */
const EMPTY = { title: "", aliases: [], kind: "", taskClass: "", trainSize: null, metric: "", dataset: "", licence: "" };

/** A name as it is compared with others. @param {string} name */
export function fold(name) {
  return name.toLowerCase().replace(/[-_ ]/g, "");
}

/** The layer a block belongs to: its name up to and with the first number. @param {string} block */
export function layerOf(block) {
  return /^(?:[^.]+\.)*?\d+(?=\.|$)/.exec(block)?.[0] ?? block;
}

/** Which of a layer's places a block is. @param {string} block */
export function kindOf(block) {
  return block.slice(layerOf(block).length).replace(/^\.+/, "") || block;
}

/** A kind of task in words. @param {string} kind */
export function kindInWords(kind) {
  return kind === "" ? "kind not said" : kind.replaceAll("_", " ").replace("extractive qa", "extractive QA");
}

/**
 * Contributions of blocks summed over what `of` says of their names, in order.
 * @param {string[]} blocks
 * @param {number[]} values
 * @param {(block: string) => string} of
 * @returns {[string, number][]}
 */
export function summedBy(blocks, values, of) {
  /** @type {Map<string, number>} */
  const sums = new Map();
  blocks.forEach((block, at) => sums.set(of(block), (sums.get(of(block)) ?? 0) + values[at]));
  return [...sums];
}
