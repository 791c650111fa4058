/** Waiting for the end of many tasks with few requests: pages of the list tell of a hundred tasks at once. */

import { DeadlinePassed } from "./errors.js";
import { Patience } from "./http.js";
import { Deadline, sleep, TERMINAL } from "./waiting.js";

const FEW = 8; // tasks left: each is waited for by its own request
const LONG_WAIT_S = 20;
const SHORT_WAIT_S = 2; // between two looks at the list
const PAUSE_MS = 1000; // so many at least, even where tasks end one after the other: rate limits count each page

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
  #oldest = null; // when the oldest task seen was created

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

  /** Wait a moment for one of them, then read the list as far back as the oldest of them. */
  async lookAtMany() {
    const [first] = this.open;
    await this.#ask(first, SHORT_WAIT_S);
    const missing = new Set(this.open);
    const filters = { created_after: this.#oldest };
    for await (const task of this.client.tasks(filters, { signal: this.signal, patience: this.patience })) {
      if (this.deadline.passed) {
        return; // a long list must not outlast the wait
      }
      missing.delete(task.task_id);
      this.#note(task);
    }
    for (const id of missing) {
      if (this.deadline.passed) {
        return;
      }
      await this.#ask(id, 0); // older than those known so far: the next look reaches further back
    }
    if (this.open.size > FEW) {
      await sleep(Math.min(PAUSE_MS, this.deadline.leftMs), this.signal);
    }
  }

  async #ask(id, seconds) {
    const most = Math.min(seconds, this.deadline.leftMs / 1000);
    const task = await this.client.settle(id, most, this.signal, this.patience);
    if (this.#oldest === null || task.created_at < this.#oldest) {
      this.#oldest = task.created_at;
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
