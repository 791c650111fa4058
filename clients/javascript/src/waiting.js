/** Pauses: how long after a failure, and how to wait so that an AbortSignal ends it. */

const MOST_TIMER_MS = 2 ** 31 - 1; // what is beyond, timers take for nothing at all
export const TERMINAL = new Set(["success", "failed", "cancelled", "timeout"]);

/** setTimeout for times of any length: what is too long for a timer is as good as never. */
export function timer(act, ms) {
  return setTimeout(act, Math.min(ms, MOST_TIMER_MS));
}

/**
 * Milliseconds to wait before the next try: doubled with each failure, and spread so that clients of a server that
 * comes back do not come all at once.
 * @param {number} failures how many there were already, 0 for the first
 * @param {{firstMs: number, mostMs: number}} pace
 * @param {() => number} [random] from 0 to 1
 */
export function backoffMs(failures, { firstMs, mostMs }, random = Math.random) {
  const full = Math.min(mostMs, firstMs * 2 ** failures);
  return full * (0.5 + random() / 2);
}

/**
 * Resolve after a time. Rejects with the signal's reason as soon as it is aborted.
 * @param {number} ms
 * @param {AbortSignal} [signal]
 */
export function sleep(ms, signal) {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) {
      reject(signal.reason);
      return;
    }
    const abort = () => {
      clearTimeout(pause);
      reject(signal.reason);
    };
    const pause = timer(() => {
      signal?.removeEventListener("abort", abort);
      resolve();
    }, ms);
    signal?.addEventListener("abort", abort, { once: true });
  });
}

/** When a wait is over: a moment on the monotonic clock, or never. */
export class Deadline {
  /** @param {number} [timeoutMs] */
  constructor(timeoutMs = Infinity) {
    if (Number.isNaN(timeoutMs)) {
      throw new TypeError("timeoutMs is no number");
    }
    this.at = performance.now() + timeoutMs;
  }

  get leftMs() {
    return Math.max(0, this.at - performance.now());
  }

  get passed() {
    return this.leftMs === 0;
  }
}
