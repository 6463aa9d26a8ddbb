// Trust: what was measured of these rankings, and what was not.
import { h, svg } from "./dom.js";
import { fixed, grouped, signed } from "./numbers.js";
import { forecastOf, measured } from "./ranking.js";
import { taskAddress } from "./search.js";
import { spaceSelect } from "./view_map.js";
import { kindInWords } from "./zoo.js";

/** @import { Forecast, ShownSpace, Trust, Zoo } from "./zoo.js" */

/**
 * @param {Zoo} zoo
 * @param {ShownSpace} space
 * @param {(hash: string) => void} go
 */
export function trustView(zoo, space, go) {
  const forecast = forecastOf(space);
  const element = h("section", { class: "trust" }, h("h1", {}, "How far to trust this"),
    h("div", { class: "controls" }, spaceSelect(zoo, space, "trust", go)),
    h("h2", {}, "Does following the ranking help?"),
    forecast === null
      ? h("p", { class: "lead" }, `No transfer was measured in ${space.name}: a near neighbour here is not yet known to be a good start.`)
      : [h("div", { class: "bignumbers" }, big(`${(100 * forecast.helped).toFixed(0)} %`, "of the targets did better from the first pick than from nothing"), big(signed(forecast.gained), `points on average (${signed(forecast.gained_low)} to ${signed(forecast.gained_high)})`), big(forecast.regrets["3"].toFixed(1), "points lost by trying only the first three sources")),
        h("p", {}, measured(forecast).join(" ")), regimes(space)],
    space.trust && [judged(space.trust), targets(zoo, space, space.trust)],
    h("h2", {}, "What is a high score?"), noise(space),
    h("h2", {}, "Are near tasks of one sort?"), agreement(zoo, space),
    h("h2", {}, "How good are the runs themselves?"), runs(space),
    h("h2", {}, "What these figures are not"),
    h("ul", {}, [
      "Similarity is of what tuning changed, not of texts or labels: tasks can be near without anything in common that a reader would name.",
      "Transfer was measured on the base model, method and budget named above; elsewhere it may come out differently.",
      "Scores of different spaces do not compare: what is high in one is low in another. That is what the percentile is for.",
      "Percentiles and the noise level are of this registry's own tasks; another registry has others.",
    ].map((text) => h("li", {}, text))));
  return { element, title: "How far to trust this", stop: () => {} };
}

/** @param {string} figure @param {string} words */
function big(figure, words) {
  return h("div", {}, h("strong", {}, figure), h("span", {}, words));
}

/** @param {ShownSpace} space */
function regimes(space) {
  const rows = (space.gain?.forecasts ?? []).map((/** @type {Forecast} */ one) => h("tr", {}, h("th", { scope: "row" }, `${one.examples} examples, ${one.steps} steps`), ...[
    String(one.targets), `${(100 * one.helped).toFixed(0)} %`, `${signed(one.gained)} (${signed(one.gained_low)} to ${signed(one.gained_high)})`, ...["1", "3", "5"].map((k) => (one.regrets[k] ?? NaN).toFixed(1))].map((text) => h("td", { class: "number" }, text))));
  return h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Measured transfer" }, h("table", {}, h("caption", {}, "Measured on targets that neither forecast nor strengths had seen; points are hundredths of the full score"),
    h("thead", {}, h("tr", {}, ["tuned with", "targets", "first pick helped", "points gained", "lost with 1", "with 3", "with 5"].map((label, at) => h("th", { scope: "col", class: at > 0 ? "number" : null }, label)))), h("tbody", {}, rows)));
}

/** What the predictors of a table are, in words. @type {Record<string, string>} */
const PREDICTORS = { update: "this page's ranking", random: "chance", "source-mean": "what helped other targets", "data-size": "the most data" };

/** @param {Trust} trust */
function judged(trust) {
  const told = (/** @type {import("./zoo.js").Summary} */ { mean, low, high }, /** @type {number} */ digits) =>
    mean === null ? "–" : `${mean.toFixed(digits)}${low === null || high === null ? "" : ` [${low.toFixed(digits)}, ${high.toFixed(digits)}]`}`;
  /** @type {[string, string, number][]} */
  const columns = [["ndcg_rank", "rank-NDCG", 3], ["rank_of_best", "rank of the best", 1], ["regret@1", "points lost with 1", 1], ["regret@3", "with 3", 1], ["regret@5", "with 5", 1]];
  const rows = trust.predictors.map(({ name, metrics }) => h("tr", {}, h("th", { scope: "row" }, PREDICTORS[name] ?? name), columns.map(([metric, , digits]) => h("td", { class: "number" }, told(metrics[metric], digits)))));
  return h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "How well the ranking orders sources" }, h("table", {},
    h("caption", {}, `How well the sources of ${trust.targets.length} targets are ordered, among ${trust.sources} sources at most; 1 is the ideal order. Means with 95 % intervals over targets; tupate-hub evaluate tells more`),
    h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "ordered by"), columns.map(([, label]) => h("th", { scope: "col", class: "number" }, label)))), h("tbody", {}, rows)));
}

/** @param {Zoo} zoo @param {ShownSpace} space @param {Trust} trust */
function targets(zoo, space, trust) {
  const link = (/** @type {string} */ task) => h("a", { href: taskAddress(zoo, task, space.name) }, h("bdi", {}, task));
  const rows = trust.targets.map(({ target, nothing, first, reached, best, most }) => {
    const better = nothing === null ? null : reached - nothing;
    return h("tr", {}, h("th", { scope: "row" }, link(target)), h("td", { class: "number" }, nothing === null ? "–" : fixed(nothing)), h("td", {}, link(first)), h("td", { class: "number" }, fixed(reached)),
      h("td", { class: `number gain ${better !== null && better > 0 ? "up" : "down"}` }, better === null ? "–" : signed(100 * better)), h("td", {}, link(best)), h("td", { class: "number" }, fixed(most)));
  });
  return h("details", {}, h("summary", {}, "Target by target"), h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Target by target" }, h("table", {},
    h("caption", {}, "Each target tuned from nothing, from the first of this page's ranking, and from the best of the measured sources; one seed"),
    h("thead", {}, h("tr", {}, ["target", "from nothing", "first pick", "from it", "points", "best source", "from it"].map((label, at) => h("th", { scope: "col", class: [1, 3, 4, 6].includes(at) ? "number" : null }, label)))), h("tbody", {}, rows))));
}

/** @param {ShownSpace} space */
function noise(space) {
  const pairs = space.sortedPairs;
  const told = space.noise === null
    ? h("p", {}, "The space holds too few pairs of tasks of different kinds to say how unrelated tasks score.")
    : h("p", {}, `Tasks of different kinds (a tagger and a regression, say) share the base model and the procedure and seldom more. Half of their ${grouped(space.noise.pairs)} pairs here score up to ${fixed(space.noise.median)}, and 95 % up to `, h("strong", {}, fixed(space.noise.upper)), ". What scores lower is within the noise.");
  return h("div", {}, told, pairs !== null && pairs.length >= 10 ? histogram(pairs, space.noise?.upper ?? null) : null);
}

/** @param {Float32Array} pairs Sorted. @param {number | null} upper */
function histogram(pairs, upper) {
  const low = Math.min(0, pairs[0]);
  const high = Math.max(pairs[pairs.length - 1], 0.05);
  const bins = new Array(60).fill(0);
  for (const score of pairs) bins[Math.min(59, Math.floor((60 * (score - low)) / (high - low)))] += 1;
  const tall = Math.max(...bins);
  const place = (/** @type {number} */ value) => (600 * (value - low)) / (high - low);
  return h("figure", {}, svg("svg", { class: "histogram", viewBox: "0 0 600 120", role: "img", "aria-label": `Histogram of the scores of ${pairs.length} pairs, from ${fixed(low, 2)} to ${fixed(high, 2)}` },
    upper !== null && svg("rect", { class: "noise", x: place(low), y: 0, width: place(upper), height: 100 }),
    bins.map((count, at) => svg("rect", { class: "bar", x: at * 10 + 1, y: 100 - (98 * Math.sqrt(count)) / Math.sqrt(tall), width: 8, height: (98 * Math.sqrt(count)) / Math.sqrt(tall) })),
    [0, 0.25, 0.5, 0.75, 1].map((share) => svg("text", { x: Math.min(582, Math.max(18, 600 * share)), y: 115, "text-anchor": "middle" }, fixed(low + share * (high - low), 2)))),
  h("figcaption", { class: "quiet" }, "Scores of all pairs; heights are square roots, so that single pairs show. The band is the noise."));
}

/** @param {Zoo} zoo @param {ShownSpace} space */
function agreement(zoo, space) {
  const known = space.compared.map((task) => zoo.task(task));
  const byClass = known.every((task) => task.taskClass !== "");
  const groups = known.map((task) => (byClass ? task.taskClass : task.kind));
  const count = groups.length;
  if (count < 5 || new Set(groups).size < 2 || groups.includes("") || (space.pairs === null && space.near === null)) return h("p", {}, "The space has too few tasks, or of one sort only, to say.");
  let same = 0;
  groups.forEach((group, row) => {
    const [nearest] = space.best(row, 1);
    if (nearest !== undefined && groups[nearest[0]] === group) same += 1;
  });
  /** @type {Map<string, number>} */
  const sizes = new Map();
  for (const group of groups) sizes.set(group, (sizes.get(group) ?? 0) + 1);
  const chance = [...sizes.values()].reduce((sum, size) => sum + size * (size - 1), 0) / (count * (count - 1));
  const kinds = [...new Set(known.map((task) => kindInWords(task.kind)))].join(", ");
  return h("p", {}, h("strong", {}, `${same} of ${count}`), ` nearest neighbours are of the task's own ${byClass ? "class" : "kind"} (${((100 * same) / count).toFixed(0)} %; by chance ${(100 * chance).toFixed(0)} %). Kinds here: ${kinds}.`);
}

/** @param {ShownSpace} space */
function runs(space) {
  const scored = space.entries.filter((entry) => entry.score !== null && entry.baseline !== null);
  const better = scored.filter((entry) => /** @type {number} */ (entry.score) > /** @type {number} */ (entry.baseline));
  const weak = space.entries.filter((entry) => entry.flags.includes("weak"));
  const repeated = space.entries.filter((entry) => entry.repeats > 0);
  return h("p", {}, `${scored.length} of ${space.entries.length} runs have a score and a baseline that needs no input; ${better.length} are above it. ${weak.length} do not beat it by more than one standard error and are marked weak: their neighbours mean little. ${repeated.length > 0 ? `${repeated.length} tasks were run again with other seeds.` : ""}`);
}
