/** `/ws`: the cluster's events in order, over as many connections as it takes. */

import { ApiError, Forbidden, RetireClusterError, Unauthorized, UpgradeRequired } from "./errors.js";
import { parsed, queryText } from "./http.js";
import { backoffMs, sleep } from "./waiting.js";

const SILENCE_MS = 60_000; // the server says something every 15 s
const MOST_UNREAD = 5000; // frames; beyond, the connection waits for the reader: the server keeps 10,000 events
const MOST_REFUSALS = 5; // handshakes in a row that end without a reason
const STEADY_MS = 5000; // a connection that held for so long was no failure
const PACE = { firstMs: 250, mostMs: 15_000 };
const NO_NEWS = new Set(["heartbeat", "resumed"]); // they only carry the cursor on
const CLOSED_FOR_GOOD = { 4401: [Unauthorized, "UNAUTHORIZED", 401], 4403: [Forbidden, "FORBIDDEN", 403] };

/**
 * Every event from now on, or behind a cursor: first a `snapshot` (without `since`), then the events; where some are
 * lost for good a `reset`, and a `snapshot` again. Connects anew by itself, until the loop is left or the signal is
 * aborted. Throws an ApiError if the server refuses it, or the signal's reason.
 * @param {import("./http.js").Http} http
 * @param {object} [options]
 * @param {string[]} [options.topics]
 * @param {string} [options.taskId]
 * @param {string} [options.since] the `cursor` of the last frame seen
 * @param {AbortSignal} [options.signal]
 * @param {(outage: {reason: string, failures: number, retryInMs: number}) => void} [options.onDisconnect]
 */
export async function* frames(http, { topics, taskId, since, signal, onDisconnect } = {}) {
  let cursor = since;
  let failures = 0;
  let refusals = 0;
  for (;;) {
    const wanted = { topics, task_id: taskId, since: cursor };
    const connection = await connect(http, wanted, signal);
    try {
      for await (const frame of connection) {
        refusals = 0;
        // Behind a reset comes a snapshot: who loses the connection in between must get both again.
        cursor = frame.type === "reset" ? cursor : frame.cursor;
        if (!NO_NEWS.has(frame.type)) {
          yield frame;
        }
      }
    } finally {
      connection.close();
    }
    if (connection.paused) {
      continue; // all that was waiting is read
    }
    throwIfFinal(connection.closed);
    if (!connection.heard && connection.closed.code === 1006) {
      refusals = (await wasRefused(http, wanted, signal)) ? refusals + 1 : 0;
      throwIfNotServed(refusals);
    }
    failures = connection.lastedMs >= STEADY_MS ? 0 : failures;
    const retryInMs = Math.max(backoffMs(failures, PACE), connection.closed.retryAfterMs ?? 0);
    failures += 1;
    onDisconnect?.({ reason: connection.closed.reason || `code ${connection.closed.code}`, failures, retryInMs });
    await sleep(retryInMs, signal);
  }
}

/** A connection, which may still be on its way. Where a key is needed it gets a ticket: browsers send no headers. */
async function connect(http, wanted, signal) {
  signal?.throwIfAborted();
  let ticket;
  if (http.headers["X-API-Key"]) {
    try {
      ticket = (await http.once(`${http.baseUrl}/ws-tickets`, { method: "POST" }, { signal })).data?.ticket;
    } catch (error) {
      if (!isPassing(error)) {
        throw error;
      }
      return new Unconnected(error);
    }
  }
  const Socket = globalThis.WebSocket ?? (await import("./node-websocket.js")).NodeWebSocket;
  const address = http.root.replace(/^http/, "ws") + "/ws" + queryText({ ...wanted, ticket });
  return new Connection(new Socket(address), signal);
}

/** Whether it is worth another try: the way to the server, or the server, is broken right now. */
function isPassing(error) {
  return error instanceof RetireClusterError && (error.status === 0 || error.status === 429 || error.status >= 500);
}

/** A try that did not get as far as a socket. */
class Unconnected {
  paused = false;
  lastedMs = 0;
  heard = true; // there was an answer, or there is nobody to ask

  /** @param {RetireClusterError} error */
  constructor(error) {
    this.closed = { code: 1006, reason: error.message, retryAfterMs: error.retryAfterMs };
  }

  close() {}

  async *[Symbol.asyncIterator]() {}
}

/** One connection: its frames wait here until they are read. */
class Connection {
  paused = false; // closed by us, as too much waited
  heard = false;
  closed = null;
  lastedMs = 0;
  #began = performance.now();
  #socket;
  #signal;
  #waiting = [];
  #wake = () => {};
  #silence;
  #aborted = () => this.#wake();

  constructor(socket, signal) {
    this.#socket = socket;
    this.#signal = signal;
    socket.onmessage = (event) => this.#take(event.data);
    socket.onclose = (event) => this.#end(event.code, event.reason);
    // Node's own WebSocket tells of a refused handshake by this alone; elsewhere a close with 1006 follows.
    socket.onerror = () => this.#end(1006, "");
    signal?.addEventListener("abort", this.#aborted);
    this.#listen();
  }

  close() {
    clearTimeout(this.#silence);
    this.#signal?.removeEventListener("abort", this.#aborted);
    this.#socket.close();
  }

  async *[Symbol.asyncIterator]() {
    for (;;) {
      this.#signal?.throwIfAborted();
      if (this.#waiting.length > 0) {
        yield this.#waiting.shift();
      } else if (this.closed) {
        return;
      } else {
        await new Promise((resolve) => {
          this.#wake = resolve;
        });
      }
    }
  }

  #take(text) {
    if (this.closed) {
      return;
    }
    const frame = parsed(text);
    if (typeof frame?.type !== "string" || typeof frame.cursor !== "string") {
      this.#end(1006, "what the server says is no event");
      this.#socket.close();
      return;
    }
    this.#listen();
    this.heard = true;
    this.#waiting.push(frame);
    if (this.#waiting.length >= MOST_UNREAD) {
      this.paused = true;
      this.#end(1000, "");
      this.#socket.close();
    }
    this.#wake();
  }

  /** A dead line closes nothing: only its silence tells. */
  #listen() {
    clearTimeout(this.#silence);
    this.#silence = setTimeout(() => {
      this.#end(1006, `silent for ${SILENCE_MS / 1000} s`);
      this.#socket.close();
    }, SILENCE_MS);
  }

  #end(code, reason) {
    clearTimeout(this.#silence);
    this.lastedMs ||= performance.now() - this.#began;
    this.closed ??= { code, reason };
    this.#wake();
  }
}

function throwIfFinal({ code, reason }) {
  const [Kind, errorCode, status] = CLOSED_FOR_GOOD[code] ?? [];
  if (Kind) {
    throw new Kind(reason || "you may not listen any more", { code: errorCode, status });
  }
}

/**
 * Whether the server is there and yet no connection came about. Browsers hide the answer to a handshake, so a plain
 * request to the same address asks for it; throws the ApiError it is.
 */
async function wasRefused(http, wanted, signal) {
  try {
    await http.once(`${http.root}/ws${queryText(wanted)}`, { method: "GET" }, { signal });
  } catch (error) {
    if (error instanceof UpgradeRequired) {
      return true; // all but the upgrade was right
    }
    if (error instanceof ApiError && !isPassing(error)) {
      throw error;
    }
    if (!(error instanceof RetireClusterError)) {
      throw error;
    }
  }
  return false;
}

function throwIfNotServed(refusals) {
  if (refusals >= MOST_REFUSALS) {
    const message = "the server is there and opens no WebSocket: gunicorn serves none, and a proxy has to pass it on";
    throw new UpgradeRequired(message, { code: "UPGRADE_REQUIRED", status: 426 });
  }
}
