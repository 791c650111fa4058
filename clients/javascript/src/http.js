/** Requests to the API: addresses, headers, time limits, and when to try again. */

import {
  ApiError,
  ConnectionFailed,
  ERRORS_BY_CODE,
  RetireClusterError,
  Timeout,
  UnexpectedAnswer,
} from "./errors.js";
import { backoffMs, sleep, timer } from "./waiting.js";

const SAFE = new Set(["GET", "HEAD"]);
const REFUSED_UNDONE = new Set([429, 503]); // the server says that it did nothing
const MAYBE_DONE = new Set([502, 504]); // a proxy lost the answer
// Failures before anything was sent. Browsers do not tell why a request failed.
const NEVER_ARRIVED = new Set([
  "EAI_AGAIN",
  "ECONNREFUSED",
  "EHOSTUNREACH",
  "ENETUNREACH",
  "ENOTFOUND",
  "UND_ERR_CONNECT_TIMEOUT",
]);
// What a proxy without the API's words means.
const KINDS_BY_STATUS = new Map([
  [413, "PAYLOAD_TOO_LARGE"],
  [429, "RATE_LIMIT_EXCEEDED"],
  [502, "SERVICE_UNAVAILABLE"],
  [503, "SERVICE_UNAVAILABLE"],
  [504, "SERVICE_UNAVAILABLE"],
]);
const MOST_BYTES = 64 * 2 ** 20; // of an answer, unpacked; a full page of output has 25 million at worst
const LONGEST_OUTAGE_MS = 600_000; // of a wait without a deadline: a restart, an update, a machine that boots
const CHECK_IT = "check the address, and that retire-cluster-api runs there and listens on this network";
const TRUST_IT = "start Node with NODE_EXTRA_CA_CERTS=FILE of the authority, and use the name that the certificate is for";
const PACE = { firstMs: 250, mostMs: 10_000 };

export class Http {
  /**
   * @param {string} baseUrl the server's address, with or without /api/v1
   * @param {object} [options]
   * @param {string} [options.apiKey]
   * @param {number} [options.timeoutMs] for one try of a call
   * @param {number} [options.retries] further tries of a call
   * @param {number} [options.longestPauseMs] a server that asks for a longer pause gets no further try
   * @param {typeof fetch} [options.fetch]
   */
  constructor(baseUrl, options = {}) {
    const { apiKey, timeoutMs = 30_000, retries = 5, longestPauseMs = 120_000 } = options;
    this.baseUrl = apiUrl(baseUrl);
    this.headers = { "Content-Type": "application/json" };
    if (apiKey) {
      if (!/^[\x20-\x7e]+$/.test(apiKey)) {
        throw new TypeError("apiKey holds characters no key has; was a line break copied with it?");
      }
      this.headers["X-API-Key"] = apiKey;
    }
    this.timeoutMs = timeoutMs;
    this.retries = retries;
    this.longestPauseMs = longestPauseMs;
    this.reached = false; // whether this API ever answered here
    this.fetch = options.fetch ?? ((...call) => globalThis.fetch(...call));
  }

  /** The server's address: what lies outside /api/v1 is below it. */
  get root() {
    return this.baseUrl.replace(/\/api\/v1$/, "");
  }

  /**
   * Call the API, again where that is safe. Throws a RetireClusterError, or the signal's reason.
   * @param {string} method
   * @param {string} path below /api/v1, its parts encoded
   * @param {object} [options]
   * @param {object} [options.query] undefined members are left out; a list is repeated
   * @param {unknown} [options.body]
   * @param {object} [options.headers]
   * @param {AbortSignal} [options.signal]
   * @param {number} [options.wait] seconds the server may take longer: its parameter `wait`
   * @param {boolean} [options.repeatable] sending it twice does what sending it once does
   * @param {Patience} [options.patience] to wait out an outage of a server that was there
   * @returns {Promise<{data: any, pagination: any, headers: Headers}>}
   */
  async call(method, path, options = {}) {
    const { query = {}, body, headers = {}, signal, wait, patience } = options;
    const url = this.baseUrl + path + queryText({ ...query, wait: wait && Number(wait.toFixed(3)) });
    const timeoutMs = this.timeoutMs + 1000 * (wait ?? 0);
    const repeatable = options.repeatable || SAFE.has(method) || "Idempotency-Key" in headers;
    const began = performance.now();
    const init = { method, headers, body: body === undefined ? undefined : JSON.stringify(body) };
    for (let failures = 0; ; failures += 1) {
      try {
        return await this.once(url, init, { timeoutMs, signal });
      } catch (error) {
        const pause = pauseMs(failures, error.retryAfterMs);
        const holdsOn = this.reached && patience?.lasts(began);
        if ((failures >= this.retries && !holdsOn) || pause > this.longestPauseMs || !mayRepeat(error, repeatable)) {
          throw error;
        }
        if (patience?.endsWithin(pause)) {
          throw error;
        }
        if (failures === this.retries) {
          patience.tell({ reason: error.message, failures: failures + 1, retryInMs: pause });
        }
        await sleep(pause, signal);
      }
    }
  }

  /**
   * One try. Throws a RetireClusterError, or the signal's reason.
   * @param {string} url
   * @param {RequestInit} init
   * @param {object} [options]
   * @param {number} [options.timeoutMs]
   * @param {AbortSignal} [options.signal]
   * @param {(response: Response, text: string) => any} [options.read] what to make of the answer
   */
  async once(url, init, { timeoutMs = this.timeoutMs, signal, read = readEnvelope } = {}) {
    signal?.throwIfAborted();
    const controller = new AbortController();
    const abort = () => controller.abort(signal.reason);
    signal?.addEventListener("abort", abort, { once: true });
    const limit = timer(() => {
      controller.abort(new Timeout(`no answer within ${timeoutMs / 1000} s`, { code: "TIMEOUT" }));
    }, timeoutMs);
    try {
      const headers = { ...this.headers, ...init.headers };
      // A key must not follow a redirect to somebody else.
      const given = { ...init, headers, redirect: "manual", signal: controller.signal };
      const response = await this.fetch(url, given);
      this.reached ||= response.status < 500;
      refuseRedirect(response);
      return read(response, await textOf(response));
    } catch (error) {
      if (controller.signal.aborted) {
        throw controller.signal.reason;
      }
      throw error instanceof RetireClusterError ? error : broken(url, error);
    } finally {
      clearTimeout(limit);
      signal?.removeEventListener("abort", abort);
    }
  }
}

/** How long a call of a wait outlasts a server that is away: to the wait's deadline, else ten minutes. */
export class Patience {
  /**
   * @param {number} until a moment of performance.now(), or Infinity
   * @param {(outage: object) => void} [onDisconnect]
   */
  constructor(until, onDisconnect) {
    this.until = until;
    this.tell = onDisconnect ?? (() => {});
  }

  lasts(began) {
    return performance.now() < (this.until === Infinity ? began + LONGEST_OUTAGE_MS : this.until);
  }

  endsWithin(ms) {
    return performance.now() + ms >= this.until;
  }
}

/** The API's address as a complete URL without a slash at its end. Throws TypeError. */
function apiUrl(text) {
  const url = new URL(text, globalThis.location?.href);
  if (!["http:", "https:"].includes(url.protocol)) {
    throw new TypeError(`the address of an API begins with http:// or https://, not ${url.protocol}`);
  }
  const path = url.pathname.replace(/\/+$/, "");
  return url.origin + (path.endsWith("/api/v1") ? path : `${path}/api/v1`);
}

/** `?a=1&b=2`, or nothing. */
export function queryText(query) {
  const pairs = Object.entries(query).flatMap(([name, value]) => [value].flat().map((one) => [name, one]));
  const text = new URLSearchParams(pairs.filter(([, value]) => value !== undefined)).toString();
  return text && `?${text}`;
}

/** A key must not follow a redirect to somebody else. */
function refuseRedirect(response) {
  if (response.type === "opaqueredirect" || (response.status >= 300 && response.status < 400)) {
    const to = response.headers.get("Location") ?? "another address";
    const facts = { code: "UNEXPECTED_ANSWER", status: response.status };
    throw new UnexpectedAnswer(`the server redirects to ${to}: give the client its final address`, facts);
  }
}

/** The whole text of an answer, however much it grows when it is unpacked. */
async function textOf(response) {
  const reader = response.body?.getReader?.();
  if (!reader) {
    return response.text();
  }
  const decoder = new TextDecoder();
  const texts = [];
  let bytes = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) {
      return texts.join("") + decoder.decode();
    }
    bytes += value.byteLength;
    if (bytes > MOST_BYTES) {
      reader.cancel().catch(() => {});
      throw unexpected(`the server answers with more than ${MOST_BYTES / 2 ** 20} MiB`, response.status);
    }
    texts.push(decoder.decode(value, { stream: true }));
  }
}

/** What is no answer of this API. */
export function unexpected(message, status = 0) {
  return new UnexpectedAnswer(message, { code: "UNEXPECTED_ANSWER", status });
}

/** What an answer of the API holds; throws the error it stands for. */
function readEnvelope(response, text) {
  const envelope = parsed(text);
  if (!response.ok) {
    throw errorOf(response.status, envelope, retryAfterMs(response.headers.get("Retry-After")));
  }
  if (envelope?.status !== "success") {
    throw errorOf(response.status, envelope);
  }
  if (envelope.data === undefined) {
    throw unexpected("the server answers without data", response.status);
  }
  return { data: envelope.data, pagination: envelope.pagination ?? {}, headers: response.headers };
}

/**
 * The error an error answer stands for.
 * @param {number} status
 * @param {object | undefined} envelope undefined where the answer is no JSON object: a proxy's page
 * @param {number} [retryAfterMs]
 */
function errorOf(status, envelope, retryAfterMs) {
  if (envelope?.status !== "error") {
    const message = `the server answered ${status}, not in the API's words`;
    const code = KINDS_BY_STATUS.get(status) ?? "UNEXPECTED_ANSWER";
    return new (ERRORS_BY_CODE[code] ?? UnexpectedAnswer)(message, { code, status, retryAfterMs });
  }
  const { error_code: code, message, error_details: details, request_id: requestId } = envelope;
  const Kind = Object.hasOwn(ERRORS_BY_CODE, code) ? ERRORS_BY_CODE[code] : ApiError;
  return new Kind(typeof message === "string" ? message : `the server answered ${status}`, {
    code: typeof code === "string" ? code : "",
    status,
    details: isObject(details) ? details : {},
    requestId: typeof requestId === "string" ? requestId : "",
    retryAfterMs,
  });
}

export function isObject(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** The JSON object in a text; undefined if there is none: a proxy's page. */
export function parsed(text) {
  try {
    const value = JSON.parse(text);
    return isObject(value) ? value : undefined;
  } catch (error) {
    if (error instanceof SyntaxError) {
      return undefined;
    }
    throw error;
  }
}

/** `Retry-After` in milliseconds: seconds or a date (RFC 9110, 10.2.3). */
export function retryAfterMs(text, now = Date.now()) {
  if (!text) {
    return undefined;
  }
  const ms = /^\d+$/.test(text.trim()) ? 1000 * Number(text) : Date.parse(text) - now;
  return Number.isNaN(ms) ? undefined : Math.max(0, ms);
}

/** The pause before the next try: the back-off, and no less than the server asks for. */
export function pauseMs(failures, askedMs = 0, random = Math.random) {
  return Math.max(backoffMs(failures, PACE, random), askedMs);
}

function broken(url, cause) {
  const codes = codesOf(cause);
  const why = [...new Set(codes)].join(", ") || hiddenWords(cause);
  const advice = codes.some(isOfCertificates) ? TRUST_IT : CHECK_IT;
  const error = new ConnectionFailed(`cannot talk to ${new URL(url).origin}: ${why}; ${advice}`, {
    code: "CONNECTION_FAILED",
    cause,
  });
  error.neverArrived = codes.length > 0 && codes.every((code) => NEVER_ARRIVED.has(code));
  return error;
}

/** The system's words for a failed fetch: of each address of the host that was tried. */
function codesOf(error) {
  const cause = error?.cause;
  return (cause?.errors ?? [cause]).map((one) => one?.code).filter((code) => typeof code === "string");
}

/** fetch says no more than that it failed; its cause says why, where there is one: browsers keep it to themselves. */
function hiddenWords(error) {
  const words = error?.message || String(error);
  return error?.cause?.message ? `${words} (${error.cause.message})` : words;
}

function isOfCertificates(code) {
  return code.includes("CERT") || code.includes("VERIFY");
}

function mayRepeat(error, repeatable) {
  if (error instanceof ConnectionFailed) {
    return repeatable || error.neverArrived === true;
  }
  return REFUSED_UNDONE.has(error?.status) || (repeatable && MAYBE_DONE.has(error?.status));
}
