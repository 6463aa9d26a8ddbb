// Groups: which tasks of a space are joined, as lines of its map and as the colours of its groups.

/** @import { ShownSpace } from "./zoo.js" */

const MOST_LINKS = 6000;

/**
 * The two best neighbours of each task that stand out of the noise, each pair once.
 * @param {ShownSpace} space
 * @returns {[number, number, number][]} Rows and score.
 */
export function linksOf(space) {
  return space.once("links", () => {
    const count = space.compared.length;
    const least = space.noise?.upper ?? 0;
    /** @type {Map<number, [number, number, number]>} */
    const links = new Map();
    for (let row = 0; row < count && links.size < MOST_LINKS; row += 1) {
      for (const [other, score] of space.best(row, 2)) {
        if (score > least) links.set(Math.min(row, other) * count + Math.max(row, other), [row, other, score]);
      }
    }
    return [...links.values()];
  });
}

/**
 * Tasks that are near to each other, each among the other's best, make a group, which the tasks join whose nearest is in
 * it: the number of each row's group, largest first; rows that are alone have -1.
 * @param {ShownSpace} space
 */
export function groupsOf(space) {
  return space.once("groups", () => {
    const parent = space.compared.map((_, row) => row);
    const root = (/** @type {number} */ row) => {
      while (parent[row] !== row) [row, parent[row]] = [parent[row], parent[parent[row]]];
      return row;
    };
    const best = (/** @type {number} */ row) => space.best(row, 2).map(([other]) => other);
    for (const [first, second] of linksOf(space)) {
      if (best(first).includes(second) && best(second).includes(first)) parent[root(first)] = root(second);
    }
    const counted = () => {
      /** @type {Map<number, number>} */
      const sizes = new Map();
      space.compared.forEach((_, row) => sizes.set(root(row), (sizes.get(root(row)) ?? 0) + 1));
      return sizes;
    };
    const before = counted();
    const alone = (/** @type {number} */ row) => before.get(row) === 1;
    for (const row of new Set(linksOf(space).flatMap(([first, second]) => [first, second]))) {
      const [nearest] = best(row);
      if (alone(row) && !alone(nearest)) parent[row] = root(nearest);
    }
    const sizes = counted();
    const ordered = [...sizes].filter(([, size]) => size > 1).sort((one, two) => two[1] - one[1]).map(([at]) => at);
    const number = new Map(ordered.map((at, place) => [at, place]));
    return space.compared.map((_, row) => number.get(root(row)) ?? -1);
  });
}
