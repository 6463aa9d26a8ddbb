// Ranking: the neighbours of a task or of a dropped adapter, with the notes, percentiles and forecasts of the command line.
import { erf, percentile, signed } from "./numbers.js";

/** @import { Entry, Forecast, ShownSpace, Zoo } from "./zoo.js" */

/**
 * What is asked: a task of the space by its `row`, or an adapter from elsewhere, for which `scores` has each row's score.
 * @typedef {{row: number | null, name: string, scores: (number | null)[], coverage: [number, number][] | null,
 *   itself: string | null, change: number | null, leftOut: Record<string, string>,
 *   sameData: (entry: Entry) => boolean, parts: (row: number) => number[] | null, near: Map<number, number> | null}} Query
 * @typedef {{points: number, low: number, high: number, chance: number}} Expected
 * @typedef {{rank: number, task: string, row: number, score: number, percentile: number | null, notes: string[],
 *   parts: number[] | null, strength: number, strengthError: number | null, effect: number | null,
 *   expected: Expected | null}} Neighbour
 */

/**
 * @param {Zoo} zoo
 * @param {ShownSpace} space
 * @param {string} task
 * @returns {Query}
 */
export function askTask(zoo, space, task) {
  const row = space.rowOf.get(task) ?? null;
  const entry = space.byTask.get(task);
  const dataset = zoo.task(task).dataset;
  const near = row === null ? null : nearShares(space, row);
  const known = (/** @type {number} */ other) => near === null || near.has(other); // no gaps in a list of the nearest
  const scores = row === null ? [] : space.compared.map((_, other) => (known(other) ? space.score(row, other) : null));
  return {
    row,
    name: task,
    scores,
    coverage: row === null ? null : space.coverage(row),
    itself: task,
    change: row === null || space.changes === null ? null : space.changes[row],
    leftOut: space.leftOut,
    sameData: (other) =>
      ["sha256", "data_sha256"].some((name) => entry?.source[name] && entry.source[name] === other.source[name]) ||
      (dataset !== "" && dataset === zoo.task(other.task).dataset),
    parts: (other) => (row === null ? null : space.contributions(row, other)),
    near,
  };
}

/** @param {ShownSpace} space @param {number} row @returns {Map<number, number> | null} */
function nearShares(space, row) {
  const near = space.near;
  if (near === null) return null;
  const shares = new Map();
  for (let at = row * near.count; at < (row + 1) * near.count; at += 1) shares.set(near.rows[at], near.percentiles[at]);
  return shares;
}

/**
 * All neighbours of a query by score, equal scores in order of their names.
 * @param {Zoo} zoo
 * @param {ShownSpace} space
 * @param {Query} query
 * @returns {Neighbour[]}
 */
export function neighbours(zoo, space, query) {
  /** @type {{task: string, row: number, score: number}[]} */
  const rows = [];
  query.scores.forEach((score, row) => {
    const task = space.compared[row];
    if (score !== null && task !== query.itself && !(task in query.leftOut)) rows.push({ task, row, score });
  });
  rows.sort((one, other) => other.score - one.score || (one.task < other.task ? -1 : 1));
  const tie = zoo.judging.tie;
  const listed = rows.map((one, at) => {
    const tied =
      (at > 0 && Math.abs(rows[at - 1].score - one.score) < tie) ||
      (at + 1 < rows.length && Math.abs(rows[at + 1].score - one.score) < tie);
    const entry = /** @type {Entry} */ (space.byTask.get(one.task));
    return {
      ...one,
      rank: at + 1,
      percentile: shareOf(zoo, space, query, one.row, one.score),
      notes: notesOn(zoo, space, query, entry, one.row, one.score, tied),
      parts: query.parts(one.row),
      strength: entry.strength ?? 0,
      strengthError: entry.strengthError,
      effect: null,
      expected: null,
    };
  });
  return withGain(zoo, space, listed, query.itself === null ? "" : zoo.task(query.itself).kind);
}

/** @param {Zoo} zoo @param {ShownSpace} space @param {Query} query @param {number} row @param {number} score */
function shareOf(zoo, space, query, row, score) {
  if (query.near !== null) return query.near.get(row) ?? null;
  const pairs = space.sortedPairs;
  return pairs === null || pairs.length < 2 ? null : percentile(pairs, score, zoo.judging.rounding);
}

/**
 * The notes of `tupate_hub/search/notes.py`, in their order.
 * @param {Zoo} zoo
 * @param {ShownSpace} space
 * @param {Query} query
 * @param {Entry} entry
 * @param {number} row
 * @param {number} score
 * @param {boolean} tied
 */
function notesOn(zoo, space, query, entry, row, score, tied) {
  const { diverged, nearDuplicate, fewShared } = zoo.judging;
  const coverage = query.coverage?.[row];
  const holds = {
    "same data": query.sameData(entry),
    "near-duplicate": score >= nearDuplicate,
    diverged: space.changes !== null && !(space.changes[row] <= diverged),
    weak: entry.flags.includes("weak"),
    "few shared blocks": coverage !== undefined && Math.min(...coverage) < fewShared,
    "within noise": space.noise !== null && score <= space.noise.upper,
    tie: tied,
  };
  return Object.entries(holds).filter(([, true_]) => true_).map(([note]) => note);
}

/** What each note means. @type {Record<string, string>} */
export const MEANING = {
  "same data": "Tuned on the query's own data: a near copy, and no news.",
  "near-duplicate": "A score that two runs do not reach by chance.",
  diverged: "Its update changes outputs by more than ten times what inputs of variance one are.",
  weak: "Its own run did not beat its trivial baseline.",
  "few shared blocks": "Most of one side lies where the other has nothing.",
  "within noise": "Tasks of different kinds, which have nothing to do with each other, score as high.",
  tie: "The neighbour above or below scores the same within rounding.",
};

// --- by expected gain ------------------------------------------------------------------------------------------

/** The forecast of the longest runs, as the command line takes it. @param {ShownSpace} space @returns {Forecast | null} */
export function forecastOf(space) {
  const forecasts = space.gain?.forecasts ?? [];
  return forecasts.reduce((/** @type {Forecast | null} */ best, one) => (best === null || one.steps > best.steps ? one : best), null);
}

/**
 * @param {Zoo} zoo
 * @param {ShownSpace} space
 * @param {Neighbour[]} listed
 * @param {string} kind Of the target, "" where it is not known.
 * @returns {Neighbour[]}
 */
function withGain(zoo, space, listed, kind) {
  const { gain, noise } = space;
  if (gain === null || listed.length === 0) return listed;
  const forecast = forecastOf(space);
  const added = new Map(Object.entries(new Map(Object.entries(gain.kinds)).get(kind) ?? {}));
  const mean = listed.reduce((sum, one) => sum + one.score, 0) / listed.length;
  const spread = Math.sqrt(listed.reduce((sum, one) => sum + (one.score - mean) ** 2, 0) / listed.length);
  const joined = listed.map((one) => ({
    ...one,
    effect:
      gain.affinity * (spread > 1e-12 ? (one.score - mean) / spread : 0) +
      gain.strength * one.strength +
      (added.get(zoo.task(one.task).kind) ?? 0),
  }));
  if (forecast === null || noise === null) return joined;
  const ranked = byGain(joined);
  const promised = neverRising(ranked.map((one) => fitted(forecast, noise, one)));
  const ofRow = new Map(ranked.map((one, at) => [one.row, about(promised[at], forecast.error, zoo.judging.sigmas)]));
  return joined.map((one) => ({ ...one, expected: ofRow.get(one.row) ?? null }));
}

/**
 * The gain in points of a pick of this score and strength, whatever stands before it.
 * @param {Forecast} forecast
 * @param {import("./zoo.js").Noise} noise
 * @param {{score: number, strength: number}} pick
 */
function fitted(forecast, noise, { score, strength }) {
  const distance = (score - noise.median) / Math.max(noise.upper - noise.median, 1e-9);
  const excess = Math.log2(1 + Math.max(distance, 0));
  return forecast.constant + forecast.excess * excess + forecast.strength * strength;
}

/** The nearest numbers of which none is above one before it, by pooling. @param {number[]} values @returns {number[]} */
function neverRising(values) {
  /** @type {{total: number, count: number}[]} */
  const pools = [];
  for (const value of values) {
    let [total, count] = [value, 1];
    for (let last = pools.at(-1); last && last.total * count < total * last.count; last = pools.at(-1)) {
      [total, count] = [total + last.total, count + last.count];
      pools.pop();
    }
    pools.push({ total, count });
  }
  return pools.flatMap(({ total, count }) => Array(count).fill(total / count));
}

/**
 * Points with their 80 % interval, and the chance that they are above zero.
 * @param {number} points
 * @param {number} error
 * @param {number} sigmas Of the interval.
 * @returns {Expected}
 */
function about(points, error, sigmas) {
  const chance = 0.5 * (1 + erf(points / (Math.max(error, 1e-9) * Math.SQRT2)));
  return { points, low: points - sigmas * error, high: points + sigmas * error, chance };
}

/** @param {Neighbour[]} listed @returns {Neighbour[]} The neighbours by their expected effect, ranked anew. */
export function byGain(listed) {
  return [...listed]
    .sort((one, other) => (other.effect ?? 0) - (one.effect ?? 0) || (one.task < other.task ? -1 : 1))
    .map((one, at) => ({ ...one, rank: at + 1 }));
}

/** Which neighbour to start from; null where nothing is expected to help. @param {Zoo} zoo @param {Neighbour[]} listed */
export function startOf(zoo, listed) {
  const fit = byGain(listed).find((one) => !one.notes.some((note) => zoo.judging.unfit.includes(note))) ?? null;
  return fit === null || (fit.expected !== null && fit.expected.points <= 0) ? null : fit;
}

/**
 * What measured transfer supports, in the sentences of `similar --rank-by gain`.
 * @param {Zoo} zoo
 * @param {ShownSpace} space
 * @param {Neighbour[]} listed
 * @returns {string[]}
 */
export function sentences(zoo, space, listed) {
  const told = [];
  const forecast = forecastOf(space);
  if (forecast !== null && listed.length > 0) {
    const start = startOf(zoo, listed);
    const regime = `with ${forecast.examples} examples and ${forecast.steps} steps`;
    if (start === null) told.push(`Start from nothing: ${regime}, no task here is expected to do better.`);
    else if (start.expected !== null) {
      const { points, low, high, chance } = start.expected;
      told.push(
        `Starting from ${start.task} is expected to change the score by ${signed(points)} points ` +
          `(${signed(low)} to ${signed(high)}, 80 %) ${regime}; it helps with probability ${chance.toFixed(2)}.`,
      );
    }
    told.push(...measured(forecast));
  }
  if (space.noise !== null) {
    told.push(
      `Unrelated tasks, those of different kinds, score up to ${space.noise.upper.toFixed(3)} here ` +
        `(95 % of ${space.noise.pairs} pairs).`,
    );
  }
  return told;
}

/**
 * What first picks brought, against starting from nothing with as many steps and with all that it can use.
 * @param {Forecast} forecast
 * @returns {string[]}
 */
export function measured(forecast) {
  const told = [
    `Measured on ${forecast.targets} targets that the forecast had not seen: the first pick beat starting from ` +
    `nothing on ${(100 * forecast.helped).toFixed(0)}% of them, by ${signed(forecast.gained)} points on average ` +
    `(${signed(forecast.gained_low)} to ${signed(forecast.gained_high)}); trying the first three loses ` +
    `${forecast.regrets["3"].toFixed(1)} points against the best source.`,
  ];
  const longer = forecast.converged;
  if (longer) {
    told.push(
      `Against ${longer.steps} steps from nothing, such a first pick was ahead on ${(100 * longer.helped).toFixed(0)}% ` +
        `of ${longer.targets} targets, by ${signed(longer.gained)} points on average ` +
        `(${signed(longer.gained_low)} to ${signed(longer.gained_high)}).`,
    );
  }
  return told;
}
