// Dropping: an adapter goes to the worker, a space's embeddings follow, and a ranking comes back. No file leaves the page.
import { neighbours } from "./ranking.js";

/** @import { Neighbour } from "./ranking.js" */
/** @import { ShownSpace, Zoo } from "./zoo.js" */

/**
 * @typedef {{name: string, base: string, method: string, notes: string[], facts: Record<string, any>,
 *   task: string | null, sha256: string | null, count: number, numbers: number}} ReadAdapter
 * @typedef {{message: string, hint: string}} Told
 * @typedef {{listed: Neighbour[], blocks: string[], itself: string | null, diverged: boolean, shared: boolean,
 *   leftOut: Record<string, string>}} Answer
 */

/** The worker, started when it is first needed, and what it was given. */
export class Reader {
  /** @param {Zoo} zoo @param {Function} body */
  constructor(zoo, body) {
    this.zoo = zoo;
    this.body = body;
    this.asked = 0;
    /** @type {Worker | null} */ this.worker = null;
    /** @type {Map<number, {answer: (value: any) => void, refuse: (told: Told) => void}>} */ this.waiting = new Map();
    /** @type {Map<number, Promise<void>>} */ this.taken = new Map();
  }

  /** @param {string} kind @param {any} asked @returns {Promise<any>} */
  ask(kind, asked) {
    const worker = this.worker ?? this.start();
    this.asked += 1;
    const id = this.asked;
    return new Promise((answer, refuse) => {
      this.waiting.set(id, { answer, refuse });
      worker.postMessage({ id, kind, ...asked });
    });
  }

  /** From a Blob: a page that was opened from a file has no address that a worker could be loaded from. */
  start() {
    const source = new Blob([`"use strict";(${this.body.toString()})();`], { type: "text/javascript" });
    const worker = new Worker(URL.createObjectURL(source));
    worker.onmessage = ({ data: { id, answer, refusal } }) => {
      const waiting = this.waiting.get(id);
      this.waiting.delete(id);
      if (refusal) waiting?.refuse(refusal);
      else waiting?.answer(answer);
    };
    worker.onerror = (event) => {
      for (const { refuse } of this.waiting.values()) refuse({ message: `This page failed: ${event.message}`, hint: "" });
      this.waiting.clear();
    };
    this.worker = worker;
    return worker;
  }

  /** @param {{path: string, blob: Blob}[]} files @param {string | null} base @returns {Promise<ReadAdapter>} */
  read(files, base) {
    return this.ask("read", { tables: this.zoo.data.reading, files, base });
  }

  /** Load a space's scripts, once. @param {ShownSpace} space @param {(share: number) => void} told @returns {Promise<void>} */
  load(space, told) {
    const known = this.taken.get(space.number);
    if (known !== undefined) return known;
    const loading = this.loadScripts(space, told);
    this.taken.set(space.number, loading);
    loading.catch(() => this.taken.delete(space.number));
    return loading;
  }

  /** @param {ShownSpace} space @param {(share: number) => void} told */
  async loadScripts(space, told) {
    let done = 0;
    const taking = space.factors.map(async ({ file }) => {
      const rows = await loadScript(file);
      await this.ask("take", { space: space.number, rows });
      done += 1;
      told(done / space.factors.length);
    });
    await Promise.all(taking);
  }

  /**
   * The ranking of what was read, in its space.
   * @param {ReadAdapter} adapter
   * @param {ShownSpace} space
   * @returns {Promise<Answer>}
   */
  async compare(adapter, space) {
    const found = await this.ask("compare", { space: space.number, names: space.blocks });
    const itself = itselfOf(space, adapter);
    /** @type {Record<string, string>} */
    const leftOut = {};
    for (const [row, why] of Object.entries(found.leftOut)) leftOut[space.compared[Number(row)]] = /** @type {string} */ (why);
    const digests = [adapter.sha256 ?? adapter.facts.source?.sha256, adapter.facts.data?.sha256];
    const listed = neighbours(this.zoo, space, {
      row: null, name: adapter.name, scores: found.scores, coverage: found.coverage, itself, change: found.change, leftOut, near: null,
      sameData: (entry) => Boolean((digests[0] && digests[0] === entry.source.sha256) || (digests[1] && digests[1] === entry.source.data_sha256)),
      parts: (row) => found.parts[row],
    });
    return { listed, blocks: found.blocks, itself, diverged: !(found.change <= this.zoo.judging.diverged), shared: found.shared, leftOut };
  }
}

/** The task that was made of the very file, or is the very run: it is no neighbour. @param {ShownSpace} space @param {ReadAdapter} adapter */
function itselfOf(space, adapter) {
  const said = { ...adapter.facts.source, ...adapter.facts.training };
  const digest = adapter.sha256 ?? said.sha256;
  const same = space.entries.find(({ task, source }) => {
    if (digest) return digest === source.sha256;
    if (adapter.task !== task || !["seconds", "seed"].every((field) => field in said && field in source)) return false;
    return Object.keys(source).every((field) => !(field in said) || JSON.stringify(source[field]) === JSON.stringify(said[field]));
  });
  return same?.task ?? null;
}

/** @type {Map<string, any[]>} What scripts of factors handed over, by their files. */
const arrived = new Map();

/** What a script of factors hands over. @param {string} file @returns {Promise<any[]>} */
function loadScript(file) {
  /** @type {any} */ (window).tupateFactors = (/** @type {string} */ from, /** @type {any[]} */ rows) => arrived.set(from, rows);
  return new Promise((answer, refuse) => {
    const script = document.createElement("script");
    script.onload = () => {
      script.remove();
      answer(arrived.get(file) ?? []);
      arrived.delete(file);
    };
    script.onerror = () => refuse({ message: `${file} of this page is missing.`, hint: "build the page again: tupate-hub site" });
    script.src = file;
    document.head.append(script);
  });
}

/**
 * The files of a drop, folders gone into, each with its path.
 * @param {DataTransfer} transfer
 * @returns {Promise<{path: string, blob: Blob}[]>}
 */
export async function filesOf(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter((entry) => entry !== null && entry !== undefined);
  if (entries.length === 0) return [...transfer.files].map((file) => ({ path: file.name, blob: file }));
  /** @type {{path: string, blob: Blob}[]} */
  const found = [];
  for (const entry of entries) await gather(/** @type {FileSystemEntry} */ (entry), found, 0);
  return found;
}

const MOST_FILES = 200;
const MOST_DEEP = 3;

/** @param {FileSystemEntry} entry @param {{path: string, blob: Blob}[]} found @param {number} deep */
async function gather(entry, found, deep) {
  if (found.length >= MOST_FILES || deep > MOST_DEEP) return;
  if (entry.isFile) {
    const file = await new Promise((answer, refuse) => /** @type {FileSystemFileEntry} */ (entry).file(answer, refuse));
    found.push({ path: entry.fullPath.replace(/^\//, ""), blob: file });
    return;
  }
  const reader = /** @type {FileSystemDirectoryEntry} */ (entry).createReader();
  const inside = await new Promise((answer, refuse) => reader.readEntries(answer, refuse));
  for (const one of inside) await gather(one, found, deep + 1);
}

/**
 * An adapter of the Hub, asked for by this page's own address there.
 * @param {string} written
 * @returns {Promise<{path: string, blob: Blob}[]>}
 */
export async function filesOfHub(written) {
  const id = written.trim().replace(/^(?:https:\/\/huggingface\.co\/|hf:\/\/)/, "").replace(/\/+$/, "");
  if (!/^[\w.-]+\/[\w.-]+$/.test(id)) throw { message: `${written.slice(0, 100)} names no repository of the Hub.`, hint: "write it as OWNER/NAME" };
  const found = [];
  for (const file of ["adapter_config.json", "adapter_model.safetensors"]) {
    let response;
    try {
      response = await fetch(`https://huggingface.co/${id}/resolve/main/${file}`);
    } catch {
      throw { message: `The Hub could not be asked for ${id}.`, hint: "download the adapter and drop it" };
    }
    if (response.status === 401 || response.status === 404) {
      throw { message: `The Hub has no ${file} in ${id}, or does not show it.`, hint: `tupate-hub similar ${id}` };
    }
    if (!response.ok) throw { message: `The Hub answered with ${response.status} for ${file} of ${id}.`, hint: "retry" };
    found.push({ path: `${id.split("/")[1]}/${file}`, blob: await response.blob() });
  }
  return found;
}
