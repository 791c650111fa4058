/** What a submission sends: its Idempotency-Key, and batches no larger than the API takes. */

const MOST_TASKS = 1000;
const MOST_BYTES = 7 * 2 ** 20; // the API takes 8 MiB
const FRAME_BYTES = 1; // the comma between two tasks

/** A new Idempotency-Key. `crypto.randomUUID` would be shorter, and pages served by plain HTTP do not have it. */
export function newKey() {
  const bytes = globalThis.crypto.getRandomValues(new Uint8Array(16));
  return `js-${Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("")}`;
}

/**
 * Tasks in their order, in batches that fit into a call.
 * @param {Iterable<object>} tasks
 * @returns {Generator<object[]>}
 */
export function* batches(tasks) {
  const encoder = new TextEncoder();
  let batch = [];
  let bytes = 0;
  for (const task of tasks) {
    const size = encoder.encode(JSON.stringify(task)).length + FRAME_BYTES;
    if (batch.length === MOST_TASKS || (batch.length > 0 && bytes + size > MOST_BYTES)) {
      yield batch;
      batch = [];
      bytes = 0;
    }
    batch.push(task);
    bytes += size;
  }
  if (batch.length > 0) {
    yield batch;
  }
}
