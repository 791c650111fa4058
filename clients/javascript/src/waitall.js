/**
 * Waiting for the end of many tasks with few requests: a page of all that are open tells whether it is worth to read
 * how the tasks have ended, a hundred at once.
 */

import { DeadlinePassed } from "./errors.js";
import { Patience } from "./http.js";
import { Deadline, sleep, TERMINAL } from "./waiting.js";

const FEW = 8; // tasks left: each is waited for by its own request
const LONG_WAIT_S = 20;
const PAGE = 100;
// Between two looks, more each time: 60 calls a minute are the usual limit. A look is two of them; reading how all stand
// is one for each hundred.
const PAUSE_MS = 1000;
const MOST_PAUSE_MS = 4000;
const READ_PAUSE_MS = 2000; // for each page of what is read
const ENOUGH = 10; // times as many rows as tasks: the rest is asked for one by one, so full of others' is the list
const OPEN = ["pending", "queued", "assigned", "running"];

/**
 * The tasks as they ended, in the order of their ids. Throws DeadlinePassed, and TaskNotFound for an unknown id.
 * @param {import("./client.js").Client} client
 * @param {string[]} taskIds
 * @param {object} [options]
 * @param {number} [options.timeoutMs]
 * @param {(task: object, done: number, total: number) => void} [options.onProgress] called once a task, at its end
 * @param {AbortSignal} [options.signal]
 * @param {(outage: object) => void} [options.onDisconnect]
 */
export async function waitAll(client, taskIds, { timeoutMs, onProgress, signal, onDisconnect } = {}) {
  const deadline = new Deadline(timeoutMs);
  const patience = new Patience(deadline.at, onDisconnect);
  const round = new Round(client, taskIds, { deadline, onProgress, signal, patience });
  while (round.open.size > 0) {
    if (round.deadline.passed) {
      const message = `${round.open.size} of ${round.total} tasks have not ended`;
      throw new DeadlinePassed(message, [...round.open]);
    }
    await (round.open.size <= FEW ? round.waitForFew() : round.lookAtMany());
  }
  return taskIds.map((id) => round.ended.get(id));
}

class Round {
  #oldest = null; // when the oldest task seen was created, and the newest
  #newest = null;
  #looks = 0;
  #readAt = 0;

  constructor(client, taskIds, { deadline, onProgress, signal, patience }) {
    this.client = client;
    this.open = new Set(taskIds);
    this.total = this.open.size;
    this.ended = new Map();
    this.deadline = deadline;
    this.onProgress = onProgress;
    this.signal = signal;
    this.patience = patience;
  }

  async waitForFew() {
    await Promise.all([...this.open].map((id) => this.#ask(id, LONG_WAIT_S)));
  }

  /** See whether more than a few are open; if so, wait for the newest of them for a moment. */
  async lookAtMany() {
    this.#looks += 1;
    const next = performance.now() + Math.min(MOST_PAUSE_MS, PAUSE_MS * this.#looks);
    await this.#learnWhen();
    const { found, isAll } = await this.#stillOpen();
    if ((isAll && found.size <= FEW) || performance.now() >= this.#readAt) {
      await this.#read(found);
      this.#readLater();
    }
    const leftMs = () => Math.min(next - performance.now(), this.deadline.leftMs);
    if (this.open.size > FEW && leftMs() > 0) {
      const [newest] = found.size > 0 ? found : this.open;
      await this.#ask(newest, leftMs() / 1000);
      await sleep(Math.max(0, leftMs()), this.signal);
    }
  }

  /** The ids begin with the time, so the smallest and the largest tell when all were created. */
  async #learnWhen() {
    if (this.#oldest !== null) {
      return;
    }
    const ids = [...this.open].sort();
    for (const id of [ids[0], ids.at(-1)]) {
      await this.#ask(id, 0);
    }
    this.#readLater();
  }

  #readLater() {
    this.#readAt = performance.now() + READ_PAUSE_MS * Math.ceil(this.open.size / PAGE);
  }

  /** Which are open, newest first, and whether these are all: a page, and more only where others' tasks fill it. */
  async #stillOpen() {
    const found = new Set();
    let rows = 0;
    for await (const task of this.#list({ status: OPEN })) {
      rows += 1;
      if (this.open.has(task.task_id)) {
        found.add(task.task_id);
      }
      if ((found.size > 0 && rows >= PAGE) || rows > ENOUGH * this.open.size || this.deadline.passed) {
        return { found, isAll: false };
      }
    }
    return { found, isAll: true };
  }

  /** How they stand, but for those that are known to be open. */
  async #read(open) {
    const missing = new Set([...this.open].filter((id) => !open.has(id)));
    const enough = ENOUGH * missing.size;
    let rows = 0;
    for await (const task of missing.size > 0 ? this.#list({}) : []) {
      if (rows > enough || this.deadline.passed) {
        break; // a long list must not outlast the wait
      }
      rows += 1;
      missing.delete(task.task_id);
      this.#note(task);
      if (missing.size === 0) {
        break; // before another page is asked for
      }
    }
    for (const id of missing) {
      if (this.deadline.passed) {
        return;
      }
      await this.#ask(id, 0); // created at another time than those known so far: the next look reaches there
    }
  }

  #list(filters) {
    // The second bound is not included; times have microseconds, those of JavaScript milliseconds.
    const before = new Date(Date.parse(this.#newest) + 1).toISOString();
    const span = { created_after: this.#oldest, created_before: before };
    return this.client.tasks({ ...filters, ...span }, { signal: this.signal, patience: this.patience });
  }

  async #ask(id, seconds) {
    const most = Math.min(seconds, this.deadline.leftMs / 1000);
    const task = await this.client.settle(id, most, this.signal, this.patience);
    if (this.#oldest === null || task.created_at < this.#oldest) {
      this.#oldest = task.created_at;
    }
    if (this.#newest === null || task.created_at > this.#newest) {
      this.#newest = task.created_at;
    }
    this.#note(task);
  }

  #note(task) {
    if (TERMINAL.has(task.status) && this.open.delete(task.task_id)) {
      this.ended.set(task.task_id, task);
      this.onProgress?.(task, this.ended.size, this.total);
    }
  }
}
