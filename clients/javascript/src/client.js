/** The clients: the specification's, and all of the API. */

import { DeadlinePassed, NotFound, ResultNotReady, ValidationFailed } from "./errors.js";
import { Http, isObject, parsed, Patience, unexpected } from "./http.js";
import { frames } from "./stream.js";
import { batches, newKey } from "./submissions.js";
import { Deadline, sleep, TERMINAL } from "./waiting.js";
import { waitAll } from "./waitall.js";

const PAGE_SIZE = 100; // the most a page holds
const RESULTS_AT_ONCE = 50; // the server takes 100; some proxies end a longer URL
const FEW = 8; // results to come: asking at once costs little
const LOOK_MS = 1000; // between two looks at many
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
    return object(data?.task);
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
        submitted.push(...list(data?.tasks, batch.length).map(object));
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
  async wait(taskId, { timeoutMs, signal, onDisconnect } = {}) {
    const deadline = new Deadline(timeoutMs);
    const patience = new Patience(deadline.at, onDisconnect);
    for (;;) {
      const task = await this.settle(taskId, Math.min(LONG_WAIT_S, deadline.leftMs / 1000), signal, patience);
      if (TERMINAL.has(task.status)) {
        return task;
      }
      if (deadline.passed) {
        throw new DeadlinePassed(`the task ${taskId} is ${task.status}`, [taskId]);
      }
    }
  }

  /** Submit, wait and return the result; `more` is as for submit(). Throws DeadlinePassed. */
  async run(taskType, payload = {}, { timeoutMs, signal, onDisconnect, ...more } = {}) {
    const task = await this.submit(taskType, payload, { signal, ...more });
    await this.wait(task.task_id, { timeoutMs, signal, onDisconnect });
    return this.result(task.task_id, { signal });
  }

  /** Wait for the end of many tasks, with few requests. Throws DeadlinePassed. */
  waitAll(taskIds, options = {}) {
    return waitAll(this, [...taskIds], options);
  }

  /**
   * Results in the order of the ids, each as soon as it is there: few requests read those of what has ended, and the
   * next task is waited for. Throws DeadlinePassed at the first task that has not ended in time.
   */
  async *results(taskIds, { timeoutMs, signal, onDisconnect } = {}) {
    const deadline = new Deadline(timeoutMs);
    const patience = new Patience(deadline.at, onDisconnect);
    const ids = [...taskIds];
    const there = new Map();
    let atOnce = true;
    let nextAt = 0;
    for (const [index, taskId] of ids.entries()) {
      const wanted = ids.slice(index, index + RESULTS_AT_ONCE).filter((id) => !there.has(id));
      if (atOnce && wanted.length > 1 && wanted[0] === taskId) {
        if (wanted.length > FEW) {
          await sleep(Math.min(nextAt - performance.now(), deadline.leftMs), signal);
        }
        const found = await this.#resultsThere(wanted, { signal, patience });
        atOnce = found !== null;
        // While some are open a look right after this one would find only a few more.
        nextAt = found?.open.length > 0 ? performance.now() + LOOK_MS : 0;
        found?.results.forEach((result) => there.set(result.task_id, result));
      }
      const result = there.get(taskId) ?? (await this.#resultInTime(taskId, { deadline, signal, patience }));
      there.delete(taskId);
      yield result;
    }
  }

  /** Results of those that have ended, as many as the server puts into an answer, and ids of those that have not. */
  async #resultsThere(taskIds, options) {
    try {
      const data = await this.#data("GET", "/tasks/results", { query: { task_id: taskIds.join(",") }, ...options });
      return { results: list(data?.results).map(object), open: list(data?.open) };
    } catch (error) {
      if (error instanceof ValidationFailed || error instanceof NotFound) {
        return null; // one is no id, and asked for by itself it is named; or the server is an older one
      }
      throw error;
    }
  }

  async #resultInTime(taskId, { deadline, signal, patience }) {
    for (;;) {
      const began = performance.now();
      const wait = Math.min(LONG_WAIT_S, deadline.leftMs / 1000);
      try {
        return await this.#data("GET", path`/tasks/${taskId}/result`, { wait, signal, patience });
      } catch (error) {
        if (!(error instanceof ResultNotReady)) {
          throw error;
        }
        if (deadline.passed) {
          throw new DeadlinePassed(`the task ${taskId} has not ended`, [taskId]);
        }
      }
      // Of a server that does not wait.
      const restMs = Math.min(LEAST_PAUSE_MS, deadline.leftMs) - (performance.now() - began);
      await sleep(Math.max(0, restMs), signal);
    }
  }

  /** The task's status once it has ended, or after so many seconds: even from a server that does not wait. */
  async settle(taskId, seconds, signal, patience) {
    const began = performance.now();
    const options = { wait: seconds, signal, patience };
    const task = object(await this.#data("GET", path`/tasks/${taskId}/status`, options));
    const spent = performance.now() - began;
    if (!TERMINAL.has(task.status) && spent < 1000 * seconds) {
      await sleep(Math.min(LEAST_PAUSE_MS, 1000 * seconds - spent), signal);
    }
    return task;
  }

  tasks(filters = {}, { signal, patience } = {}) {
    return this.#byCursor("/tasks", filters, signal, patience);
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
  async *logs(taskId, { offset = 0, follow = false, signal, onDisconnect } = {}) {
    const patience = follow ? new Patience(Infinity, onDisconnect) : undefined;
    let next = offset;
    let silent = 0;
    for (;;) {
      const options = { query: { offset: next }, signal, patience };
      const page = object(await this.#data("GET", path`/tasks/${taskId}/logs`, options));
      if (typeof page.next_offset !== "number") {
        throw unexpected("the output comes without its next offset");
      }
      yield* list(page.chunks).map(object);
      const isNew = page.next_offset > next;
      next = page.next_offset;
      if (page.is_complete || (!isNew && !follow)) {
        return;
      }
      silent = isNew ? 0 : silent + 1;
      if (!isNew) {
        await this.settle(taskId, FOLLOW_PAUSES_S[Math.min(silent, FOLLOW_PAUSES_S.length) - 1], signal, patience);
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
    return this.#data("POST", path`/devices/${deviceId}/ping`, { signal, repeatable: true });
  }

  cordon(deviceId, { reason, signal } = {}) {
    return this.#data("POST", path`/devices/${deviceId}/cordon`, { body: { reason }, signal, repeatable: true });
  }

  drain(deviceId, { reason, deadlineSeconds, signal } = {}) {
    const body = { reason, deadline_seconds: deadlineSeconds };
    return this.#data("POST", path`/devices/${deviceId}/drain`, { body, signal });
  }

  uncordon(deviceId, { reason, signal } = {}) {
    return this.#data("POST", path`/devices/${deviceId}/uncordon`, { body: { reason }, signal, repeatable: true });
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
    return this.#http.once(`${this.#http.root}/health`, { method: "GET" }, { signal, read: whole });
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
    const options = { body: values, headers, signal, repeatable: ifMatch === undefined };
    return sectionOf(await this.#http.call("PUT", path`/config/${section}`, options));
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
    return this.#data("DELETE", path`/keys/${keyId}`, { query: { own }, signal, repeatable: !own });
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
    return this.#data("DELETE", path`/join-tokens/${tokenId}`, { signal, repeatable: true });
  }

  audit(filters = {}, { signal } = {}) {
    return this.#byCursor("/audit", filters, signal);
  }

  /** Opens `/ws` once where no header can be sent; events() asks for its own. */
  wsTicket({ signal } = {}) {
    return this.#data("POST", "/ws-tickets", { signal, repeatable: true });
  }

  // --- events --------------------------------------------------------------------------------------------------

  /** The cluster's events, across outages: see stream.js and docs/reference/events.md. */
  events(options = {}) {
    return frames(this.#http, options);
  }

  async #data(method, place, options) {
    return (await this.#http.call(method, place, options)).data;
  }

  async *#byCursor(place, filters, signal, patience) {
    let cursor = "";
    while (cursor !== null) {
      const query = { page_size: PAGE_SIZE, ...filters, cursor };
      const { data, pagination } = await this.#http.call("GET", place, { query, signal, patience });
      yield* list(data).map(object);
      const next = pagination.next_cursor ?? null;
      if (next === cursor) {
        throw unexpected(`${place} answers with a page that follows itself`);
      }
      cursor = next;
    }
  }

  /** Pages by number; what a new row pushed from one page to the next comes once. */
  async *#byNumber(place, filters, id, signal) {
    const seen = new Set();
    for (let page = 1, more = true; more; page += 1) {
      const query = { page_size: PAGE_SIZE, ...filters, page };
      const { data, pagination } = await this.#http.call("GET", place, { query, signal });
      for (const row of list(data).map(object)) {
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
  #http;

  /**
   * @param {string} baseUrl
   * @param {string} [apiKey]
   * @param {object} [options] as Client's
   */
  constructor(baseUrl, apiKey, options = {}) {
    super(baseUrl, { ...options, apiKey });
    this.#http = new Http(baseUrl, { ...options, apiKey });
    this.#http.headers = this.headers;
  }

  /** The whole answer, also when it is an error. One request. */
  async getClusterStatus() {
    return this.#http.once(`${this.baseUrl}/cluster/status`, { method: "GET" }, { read: whole });
  }

  /** The whole answer, also when it is an error. One request; `options` go into its body. */
  async submitTask(taskType, payload, options = {}) {
    const data = { task_type: taskType, payload, ...options };
    const init = { method: "POST", body: JSON.stringify(data) };
    return this.#http.once(`${this.baseUrl}/tasks`, init, { read: whole });
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
  try {
    return encodeURIComponent(value);
  } catch {
    throw new TypeError("half a character is no id"); // a lone surrogate
  }
}

/** The whole answer, whatever its status. Throws UnexpectedAnswer. */
function whole(response, text) {
  const answer = parsed(text);
  if (answer === undefined) {
    throw unexpected(`the server answered ${response.status}, not in the API's words`, response.status);
  }
  return answer;
}

/** An object of an answer. Throws UnexpectedAnswer. */
function object(value) {
  if (!isObject(value)) {
    throw unexpected("the server answers with something that is no object");
  }
  return value;
}

/** A list of an answer, of so many members if that is known. Throws UnexpectedAnswer. */
function list(value, length = value?.length) {
  if (!Array.isArray(value) || value.length !== length) {
    throw unexpected("the server answers with something that is no such list");
  }
  return value;
}

function sectionOf({ data, headers }) {
  return { values: data, etag: headers.get("ETag") };
}
