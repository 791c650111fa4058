/** The client against a real server. */

import assert from "node:assert/strict";
import { test } from "node:test";

import * as sdk from "../src/index.js";
import { client, key, until, url } from "../testing/cluster.js";
import { failingProxy } from "../testing/servers.js";

const sdkClient = client();

/** Everything an async iterable holds. */
async function all(iterable) {
  const found = [];
  for await (const item of iterable) {
    found.push(item);
  }
  return found;
}

/** Which of the newest tasks a test has submitted: their metadata has its name. */
async function tasksOf(name) {
  const newest = [];
  for await (const task of sdkClient.tasks({ task_type: "echo", page_size: 5 })) {
    newest.push(task);
    if (newest.length === 5) {
      break;
    }
  }
  const details = await Promise.all(newest.map((task) => sdkClient.task(task.task_id)));
  return details.filter((task) => task.metadata.test === name);
}

test("a task is submitted, waited for and its result read", async () => {
  const task = await sdkClient.submit("echo", { n: 1 }, { priority: "high", requirements: { max_retries: 1 } });
  assert.equal(task.priority, "high");
  const end = await sdkClient.wait(task.task_id, { timeoutMs: 60_000 });
  assert.equal(end.status, "success");
  assert.deepEqual((await sdkClient.result(task.task_id)).result_data, { echo: { n: 1 } });
  const detail = await sdkClient.task(task.task_id);
  assert.equal(detail.requirements.max_retries, 1);

  const awaited = await sdkClient.submit("echo", { n: 2 }, { wait: 30 });
  assert.deepEqual([awaited.status, awaited.result], ["success", { echo: { n: 2 } }]);
});

test("more tasks than fit into a batch are submitted and waited for, each told once", async () => {
  const payloads = Array.from({ length: 1005 }, (_, n) => ({ task_type: "echo", payload: { n } }));
  const tasks = await sdkClient.submitMany(payloads);
  const ids = tasks.map((task) => task.task_id);
  const told = [];
  const onProgress = (task, done, total) => told.push([task.task_id, done, total]);

  const ended = await sdkClient.waitAll(ids, { timeoutMs: 90_000, onProgress });

  assert.deepEqual(ended.map((task) => task.task_id), ids);
  assert.ok(ended.every((task) => task.status === "success"));
  assert.deepEqual(new Set(told.map(([id]) => id)), new Set(ids));
  assert.deepEqual(told.map(([, done]) => done), ids.map((_, index) => index + 1));
  assert.equal(told[0][2], 1005);
  assert.deepEqual((await sdkClient.result(ids[1004])).result_data, { echo: { n: 1004 } });
});

test("a wait that is over names what has not ended; a cancel ends it; a retry runs it again", async () => {
  const task = await sdkClient.submit("sleep", { duration: 600 });
  for (const wait of [
    () => sdkClient.wait(task.task_id, { timeoutMs: 300 }),
    () => sdkClient.waitAll([task.task_id], { timeoutMs: 300 }),
  ]) {
    await assert.rejects(wait(), (error) => {
      assert.ok(error instanceof sdk.DeadlinePassed);
      assert.deepEqual(error.open, [task.task_id]);
      return true;
    });
  }
  await assert.rejects(sdkClient.result(task.task_id), sdk.ResultNotReady);
  await sdkClient.cancel(task.task_id);
  assert.equal((await sdkClient.wait(task.task_id, { timeoutMs: 60_000 })).status, "cancelled");
  assert.notEqual((await sdkClient.retry(task.task_id)).status, "cancelled");
  await assert.rejects(sdkClient.retry(task.task_id), sdk.Conflict);
  await sdkClient.cancel(task.task_id);
  await sdkClient.wait(task.task_id, { timeoutMs: 60_000 });
});

test("output is followed until the task ends, and read again from a place in it", async () => {
  const task = await sdkClient.submit("command", { command: "echo one; sleep 2; echo two" });
  const chunks = await all(sdkClient.logs(task.task_id, { follow: true }));
  assert.equal(chunks.map((chunk) => chunk.text).join(""), "one\ntwo\n");
  const rest = await all(sdkClient.logs(task.task_id, { offset: 4 }));
  assert.equal(rest.map((chunk) => chunk.text).join(""), "two\n");
});

test("a submission whose answer is cut off runs once", async (t) => {
  const proxy = await failingProxy(t, url);
  proxy.swallowNext = 1;
  const task = await client({ url: proxy.url }).submit("echo", {}, { metadata: { test: "cut" } });

  assert.equal(proxy.swallowed, 1);
  const found = await tasksOf("cut");
  assert.deepEqual(found.map((one) => one.task_id), [task.task_id]);
});

test("another change whose answer is cut off is not sent again", async (t) => {
  const proxy = await failingProxy(t, url);
  const task = await sdkClient.submit("sleep", { duration: 600 });
  proxy.swallowNext = 1;
  await assert.rejects(client({ url: proxy.url }).cancel(task.task_id), sdk.ConnectionFailed);
  assert.equal(proxy.swallowed, 1);
  assert.equal((await sdkClient.wait(task.task_id, { timeoutMs: 60_000 })).status, "cancelled");
});

test("a key of one's own makes two submissions one, and another body a mismatch", async () => {
  const idempotencyKey = `test-${process.pid}-${Date.now()}`;
  const first = await sdkClient.submit("echo", { n: 1 }, { idempotencyKey });
  const again = await sdkClient.submit("echo", { n: 1 }, { idempotencyKey });
  assert.equal(again.task_id, first.task_id);
  await assert.rejects(sdkClient.submit("echo", { n: 2 }, { idempotencyKey }), sdk.IdempotencyMismatch);
});

test("events go on over cut connections without a gap", { timeout: 60_000 }, async (t) => {
  const proxy = await failingProxy(t, url);
  const frames = [];
  const controller = new AbortController();
  const outages = [];
  const options = { signal: controller.signal, onDisconnect: (outage) => outages.push(outage) };
  const reading = (async () => {
    for await (const frame of client({ url: proxy.url }).events(options)) {
      frames.push(frame);
    }
  })();
  await until(() => frames.length > 0, "the snapshot");
  const ids = [];
  for (let round = 0; round < 3; round += 1) {
    const before = outages.length;
    ids.push((await sdkClient.submit("echo", {}, { wait: 30 })).task_id);
    proxy.closed = true;
    proxy.cut();
    ids.push((await sdkClient.submit("echo", {}, { wait: 30 })).task_id);
    await until(() => outages.length > before, "the outage to be noticed");
    proxy.closed = false;
  }
  const finished = () => new Set(frames.filter(({ type }) => type === "task.finished").map(({ data }) => data.task_id));
  await until(() => ids.every((id) => finished().has(id)), "the end of every task");
  controller.abort(new Error("seen all"));
  await assert.rejects(reading, /seen all/);

  assert.equal(frames[0].type, "snapshot");
  const numbers = frames.map((frame) => frame.seq);
  assert.deepEqual(numbers, numbers.map((_, index) => numbers[0] + index));
});

test("a page of events is read again from a cursor, by topic and by task", async () => {
  const events = sdkClient.events({ topics: ["task"] });
  const { cursor } = (await events.next()).value;
  await events.return();
  const task = await sdkClient.submit("echo", {}, { wait: 30 });
  const seen = [];
  for await (const frame of sdkClient.events({ since: cursor, taskId: task.task_id })) {
    seen.push(frame);
    if (frame.type === "task.finished") {
      break;
    }
  }
  assert.equal(seen[0].type, "task.submitted");
  assert.deepEqual(seen.at(-1).data.task_id, task.task_id);
});

test("who has no key is refused: calls and events alike", async () => {
  for (const stranger of [new sdk.Client(url), new sdk.Client(url, { apiKey: "wrong" })]) {
    await assert.rejects(stranger.config(), sdk.Unauthorized);
    await assert.rejects(stranger.events().next(), sdk.Unauthorized);
  }
});

test("a change of the configuration takes the state that was read, and no other", async () => {
  const { values, etag } = await sdkClient.configSection("heartbeat");
  const changed = await sdkClient.changeConfig("heartbeat", { interval: values.interval + 1 }, { ifMatch: etag });
  assert.equal(changed.values.interval, values.interval + 1);
  assert.notEqual(changed.etag, etag);
  await assert.rejects(sdkClient.changeConfig("heartbeat", { interval: 9 }, { ifMatch: etag }), sdk.PreconditionFailed);
  await sdkClient.resetConfig();
  assert.equal((await sdkClient.config()).heartbeat.interval, 60);
});

test("the specification's methods return the whole answer, also of an error", async () => {
  const api = new sdk.RetireClusterAPI(`${url}/api/v1`, key);
  assert.equal(api.baseUrl, `${url}/api/v1`);
  assert.equal((await api.getClusterStatus()).status, "success");
  const task = await api.submitTask("echo", { n: 1 }, { priority: "low" });
  assert.equal(task.data.task.priority, "low");
  assert.equal((await api.wait(task.data.task_id, { timeoutMs: 60_000 })).status, "success");
  const refused = await api.submitTask("no-such-type", {});
  assert.deepEqual([refused.status, refused.error_code], ["error", "VALIDATION_ERROR"]);
});
