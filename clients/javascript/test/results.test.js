/** Results of many tasks: in order, each as soon as it is there, also after an outage. */

import assert from "node:assert/strict";
import { test } from "node:test";

import * as sdk from "../src/index.js";
import { cutOff, fine, refusal, scripted } from "../testing/servers.js";

const result = (id) => fine({ task_id: id, status: "success", result_data: { of: id } });
const notYet = refusal(404, "RESULT_NOT_READY");

test("results come in the order of the ids, each waited for by a request of its own", async (t) => {
  const server = await scripted(t, result("a"), notYet, cutOff, result("b"));
  const seen = [];
  for await (const found of new sdk.Client(server.url).results(["a", "b"])) {
    seen.push([found.result_data.of, server.requests.length]);
  }
  assert.deepEqual(seen, [["a", 1], ["b", 4]]);
  assert.ok(server.requests.every((request) => request.url.includes("wait=20")));
});

test("the first task that has not ended in time is named", async (t) => {
  const server = await scripted(t, result("a"), notYet);
  const results = new sdk.Client(server.url).results(["a", "b"], { timeoutMs: 200 });
  assert.equal((await results.next()).value.task_id, "a");
  await assert.rejects(results.next(), (error) => {
    assert.ok(error instanceof sdk.DeadlinePassed);
    assert.deepEqual(error.open, ["b"]);
    return true;
  });
});
