/** The clients: the specification's, and all of the API. */

import { DeadlinePassed } from "./errors.js";
import { Http, parsed } from "./http.js";
import { frames } from "./stream.js";
import { batches, newKey } from "./submissions.js";
import { Deadline, sleep } from "./waiting.js";
import { waitAll } from "./waitall.js";

const PAGE_SIZE = 100; // the most a page holds
const LONG_WAIT_S = 20; // what every kind of server grants
const LEAST_PAUSE_MS = 500; // after a server that did not wait: it may have no thread to spare
const FOLLOW_PAUSES_S = [1, 2, 4]; // between two looks at the output of a task that prints nothing

/**
 * All of the REST API and its events. Objects come as the API sends them. Every call takes a `signal`, is repeated
 * where that is safe, and throws a RetireClusterError; index.d.ts has each.
 */
export class Client {
  #http;

  /**
   * @param {string} baseUrl the server's address, with or without /api/v1
   * @param {object} [options] apiKey, timeoutMs, retries, longestPauseMs, fetch: see index.d.ts
   */
  constructor(baseUrl, options = {}) {
    this.#http = new Http(baseUrl, options);
    this.baseUrl = this.#http.baseUrl;
    this.headers = this.#http.headers;
  }

  // --- tasks ---------------------------------------------------------------------------------------------------

  /** Submit a task; sent again under the same Idempotency-Key if the answer is lost, it runs once. */
  async submit(taskType, payload = {}, { idempotencyKey = newKey(), wait, signal, ...more } = {}) {
    const body = { task_type: taskType, payload, ...more };
    const headers = { "Idempotency-Key": idempotencyKey };
    const data = await this.#data("POST", "/tasks", { body, headers, wait, signal });
    return data.task;
  }

  /** What would become of a task like this: which devices fit, and why the others do not. */
  dryRun(taskType, payload = {}, { signal, ...more } = {}) {
    const body = { task_type: taskType, payload, ...more };
    const headers = { "Idempotency-Key": newKey() }; // nothing is stored: it may be repeated
    return this.#data("POST", "/tasks", { body, headers, query: { dry_run: true }, signal });
  }

  /**
   * Submit tasks in batches of up to 1000, each batch all or nothing. An error tells in `submitted` what the batches
   * before have submitted.
   */
  async submitMany(tasks, { signal } = {}) {
    const submitted = [];
    for (const batch of batches(tasks)) {
      const headers = { "Idempotency-Key": newKey() };
      try {
        const data = await this.#data("POST", "/tasks/batch", { body: { tasks: batch }, headers, signal });
        submitted.push(...data.tasks);
      } catch (error) {
        if (Array.isArray(error?.submitted)) {
          error.submitted = submitted;
        }
        throw error;
      }
    }
    return submitted;
  }

  /** Wait for the end of a task. Throws DeadlinePassed. */
  async wait(taskId, { timeoutMs, signal } = {}) {
    const deadline = new Deadline(timeoutMs);
    for (;;) {
      const task = await this.settle(taskId, Math.min(LONG_WAIT_S, deadline.leftMs / 1000), signal);
      if (task.is_terminal) {
        return task;
      }
      if (deadline.passed) {
        throw new DeadlinePassed(`the task ${taskId} is ${task.status}`, [taskId]);
      }
    }
  }

  /** Submit, wait and return the result; `more` is as for submit(). Throws DeadlinePassed. */
  async run(taskType, payload = {}, { timeoutMs, signal, ...more } = {}) {
    const task = await this.submit(taskType, payload, { signal, ...more });
    await this.wait(task.task_id, { timeoutMs, signal });
    return this.result(task.task_id, { signal });
  }

  /** Wait for the end of many tasks, with few requests. Throws DeadlinePassed. */
  waitAll(taskIds, options = {}) {
    return waitAll(this, [...taskIds], options);
  }

  /** The task's status once it has ended, or after so many seconds: even from a server that does not wait. */
  async settle(taskId, seconds, signal) {
    const began = performance.now();
    const task = await this.status(taskId, { wait: seconds, signal });
    const spent = performance.now() - began;
    if (!task.is_terminal && spent < 1000 * seconds) {
      await sleep(Math.min(LEAST_PAUSE_MS, 1000 * seconds - spent), signal);
    }
    return task;
  }

  tasks(filters = {}, { signal } = {}) {
    return this.#byCursor("/tasks", filters, signal);
  }

  task(taskId, { signal } = {}) {
    return this.#data("GET", path`/tasks/${taskId}`, { signal });
  }

  status(taskId, { wait, signal } = {}) {
    return this.#data("GET", path`/tasks/${taskId}/status`, { wait, signal });
  }

  /** The result of a task that ended. Throws ResultNotReady; with `wait` only after so many seconds, at most 60. */
  result(taskId, { wait, signal } = {}) {
    return this.#data("GET", path`/tasks/${taskId}/result`, { wait, signal });
  }

  cancel(taskId, { signal } = {}) {
    return this.#data("POST", path`/tasks/${taskId}/cancel`, { signal });
  }

  retry(taskId, { signal } = {}) {
    return this.#data("POST", path`/tasks/${taskId}/retry`, { signal });
  }

  explain(taskId, { signal } = {}) {
    return this.#data("GET", path`/tasks/${taskId}/explain`, { signal });
  }

  /** What the task printed, piece by piece; with `follow` also what it will print, until it ends. */
  async *logs(taskId, { offset = 0, follow = false, signal } = {}) {
    let next = offset;
    let silent = 0;
    for (;;) {
      const page = await this.#data("GET", path`/tasks/${taskId}/logs`, { query: { offset: next }, signal });
      yield* page.chunks;
      const isNew = page.next_offset > next;
      next = page.next_offset;
      if (page.is_complete || (!isNew && !follow)) {
        return;
      }
      silent = isNew ? 0 : silent + 1;
      if (!isNew) {
        await this.settle(taskId, FOLLOW_PAUSES_S[Math.min(silent, FOLLOW_PAUSES_S.length) - 1], signal);
      }
    }
  }

  types({ signal } = {}) {
    return this.#data("GET", "/tasks/types", { signal });
  }

  statistics({ signal } = {}) {
    return this.#data("GET", "/tasks/statistics", { signal });
  }

  // --- devices -------------------------------------------------------------------------------------------------

  devices(filters = {}, { signal } = {}) {
    return this.#byNumber("/devices", filters, "device_id", signal);
  }

  device(deviceId, { signal } = {}) {
    return this.#data("GET", path`/devices/${deviceId}`, { signal });
  }

  deviceStatus(deviceId, { signal } = {}) {
    return this.#data("GET", path`/devices/${deviceId}/status`, { signal });
  }

  deviceMetrics(deviceId, { hours, signal } = {}) {
    return this.#data("GET", path`/devices/${deviceId}/metrics`, { query: { hours }, signal });
  }

  devicesSummary({ signal } = {}) {
    return this.#data("GET", "/devices/summary", { signal });
  }

  ping(deviceId, { signal } = {}) {
    return this.#data("POST", path`/devices/${deviceId}/ping`, { signal });
  }

  cordon(deviceId, { reason, signal } = {}) {
    return this.#data("POST", path`/devices/${deviceId}/cordon`, { body: { reason }, signal });
  }

  drain(deviceId, { reason, deadlineSeconds, signal } = {}) {
    const body = { reason, deadline_seconds: deadlineSeconds };
    return this.#data("POST", path`/devices/${deviceId}/drain`, { body, signal });
  }

  uncordon(deviceId, { reason, signal } = {}) {
    return this.#data("POST", path`/devices/${deviceId}/uncordon`, { body: { reason }, signal });
  }

  remove(deviceId, { signal } = {}) {
    return this.#data("DELETE", path`/devices/${deviceId}`, { signal });
  }

  // --- cluster and configuration -------------------------------------------------------------------------------

  index({ signal } = {}) {
    return this.#data("GET", "", { signal });
  }

  /** `/health`, whether or not all is well. */
  health({ signal } = {}) {
    const read = (response, text) => parsed(text);
    return this.#http.once(`${this.#http.root}/health`, { method: "GET" }, { signal, read });
  }

  clusterStatus({ signal } = {}) {
    return this.#data("GET", "/cluster/status", { signal });
  }

  metrics({ signal } = {}) {
    return this.#data("GET", "/cluster/metrics", { signal });
  }

  clusterConfig({ signal } = {}) {
    return this.#data("GET", "/cluster/config", { signal });
  }

  config({ signal } = {}) {
    return this.#data("GET", "/config", { signal });
  }

  /** A section of the configuration, with the ETag that a change of just this state takes. */
  async configSection(section, { signal } = {}) {
    return sectionOf(await this.#http.call("GET", path`/config/${section}`, { signal }));
  }

  /** Change some values of a section. Throws PreconditionFailed if it has changed since `ifMatch` was read. */
  async changeConfig(section, values, { ifMatch, signal } = {}) {
    const headers = ifMatch === undefined ? {} : { "If-Match": ifMatch };
    return sectionOf(await this.#http.call("PUT", path`/config/${section}`, { body: values, headers, signal }));
  }

  resetConfig({ signal } = {}) {
    return this.#data("POST", "/config/reset", { signal });
  }

  // --- keys, join tokens, audit trail --------------------------------------------------------------------------

  keys({ signal } = {}) {
    return this.#byNumber("/keys", {}, "id", signal);
  }

  key(keyId, { signal } = {}) {
    return this.#data("GET", path`/keys/${keyId}`, { signal });
  }

  createKey(body, { signal } = {}) {
    return this.#data("POST", "/keys", { body, signal });
  }

  revokeKey(keyId, { own, signal } = {}) {
    return this.#data("DELETE", path`/keys/${keyId}`, { query: { own }, signal });
  }

  joinTokens({ signal } = {}) {
    return this.#byNumber("/join-tokens", {}, "id", signal);
  }

  joinToken(tokenId, { signal } = {}) {
    return this.#data("GET", path`/join-tokens/${tokenId}`, { signal });
  }

  createJoinToken(body, { signal } = {}) {
    return this.#data("POST", "/join-tokens", { body, signal });
  }

  revokeJoinToken(tokenId, { signal } = {}) {
    return this.#data("DELETE", path`/join-tokens/${tokenId}`, { signal });
  }

  audit(filters = {}, { signal } = {}) {
    return this.#byCursor("/audit", filters, signal);
  }

  /** Opens `/ws` once where no header can be sent; events() asks for its own. */
  wsTicket({ signal } = {}) {
    return this.#data("POST", "/ws-tickets", { signal });
  }

  // --- events --------------------------------------------------------------------------------------------------

  /** The cluster's events, across outages: see stream.js and docs/reference/events.md. */
  events(options = {}) {
    return frames(this.#http, options);
  }

  async #data(method, place, options) {
    return (await this.#http.call(method, place, options)).data;
  }

  async *#byCursor(place, filters, signal) {
    let cursor = "";
    while (cursor !== null) {
      const query = { page_size: PAGE_SIZE, ...filters, cursor };
      const { data, pagination } = await this.#http.call("GET", place, { query, signal });
      yield* data;
      cursor = pagination.next_cursor ?? null;
    }
  }

  /** Pages by number; what a new row pushed from one page to the next comes once. */
  async *#byNumber(place, filters, id, signal) {
    const seen = new Set();
    for (let page = 1, more = true; more; page += 1) {
      const query = { page_size: PAGE_SIZE, ...filters, page };
      const { data, pagination } = await this.#http.call("GET", place, { query, signal });
      for (const row of data) {
        if (!seen.has(row[id])) {
          seen.add(row[id]);
          yield row;
        }
      }
      more = pagination.has_next;
    }
  }
}

/** The client of the API's specification, and everything else beside it. */
export class RetireClusterAPI extends Client {
  /**
   * @param {string} baseUrl
   * @param {string} [apiKey]
   * @param {object} [options] as Client's
   */
  constructor(baseUrl, apiKey, options = {}) {
    super(baseUrl, { ...options, apiKey });
  }

  /** The whole answer, also when it is an error. One request. */
  async getClusterStatus() {
    const response = await fetch(`${this.baseUrl}/cluster/status`, { headers: this.headers });
    return response.json();
  }

  /** The whole answer, also when it is an error. One request; `options` go into its body. */
  async submitTask(taskType, payload, options = {}) {
    const data = { task_type: taskType, payload, ...options };
    const init = { method: "POST", headers: this.headers, body: JSON.stringify(data) };
    const response = await fetch(`${this.baseUrl}/tasks`, init);
    return response.json();
  }
}

/** A path of the API; what is put in stays one part of it. Throws TypeError for what cannot be one. */
function path(texts, ...values) {
  return String.raw({ raw: texts }, ...values.map(pathPart));
}

function pathPart(value) {
  if (["", ".", ".."].includes(String(value))) {
    throw new TypeError(`${JSON.stringify(value)} is no id`);
  }
  return encodeURIComponent(value);
}

function sectionOf({ data, headers }) {
  return { values: data, etag: headers.get("ETag") };
}
