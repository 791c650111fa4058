/** Results of many tasks: in order, each as soon as it is there, also after an outage. */

import assert from "node:assert/strict";
import { test } from "node:test";

import * as sdk from "../src/index.js";
import { cutOff, fine, refusal, scripted } from "../testing/servers.js";

const ended = (id) => ({ task_id: id, status: "success", result_data: { of: id } });
const result = (id) => fine(ended(id));
const several = (...ids) => fine({ results: ids.map(ended), open: [] });
const notYet = refusal(404, "RESULT_NOT_READY");

test("what has ended comes in one answer, in the order of the ids; the others are waited for one by one", async (t) => {
  const server = await scripted(t, several("c", "a"), notYet, cutOff, result("b"));
  const seen = [];
  for await (const found of new sdk.Client(server.url).results(["a", "b", "c"])) {
    seen.push([found.result_data.of, server.requests.length]);
  }
  assert.deepEqual(seen, [["a", 1], ["b", 4], ["c", 4]]);
  const [many, ...waited] = server.requests.map((request) => request.url);
  assert.match(many, /\/tasks\/results\?task_id=a%2Cb%2Cc$/);
  assert.ok(waited.every((url) => /\/tasks\/b\/result\?wait=20$/.test(url)));
});

test("what did not fit into an answer is asked for again, fifty at a time", async (t) => {
  const ids = Array.from({ length: 60 }, (_, number) => `t${number}`);
  const server = await scripted(t, several(...ids.slice(0, 10)), several(...ids.slice(10)), several());
  const seen = [];
  for await (const found of new sdk.Client(server.url).results(ids)) {
    seen.push(found.task_id);
  }
  assert.deepEqual(seen, ids);
  const asked = server.requests.map((request) => new URL(request.url, server.url).searchParams.get("task_id").split(","));
  assert.deepEqual(asked, [ids.slice(0, 50), ids.slice(10, 60)]);
});

test("while many are open a pause lies between two looks at them", async (t) => {
  const ids = Array.from({ length: 20 }, (_, number) => `t${number}`);
  const looks = [];
  const server = await scripted(t, (request, response) => {
    const url = new URL(request.url, "http://server");
    if (url.pathname.endsWith("/tasks/results")) {
      looks.push(performance.now());
      const [first, ...others] = url.searchParams.get("task_id").split(",");
      const [results, open] = looks.length > 2 ? [[first, ...others], []] : [[], [first, ...others]];
      fine({ results: results.map(ended), open })(request, response);
    } else {
      result(url.pathname.split("/").at(-2))(request, response);
    }
  });
  const seen = [];
  for await (const found of new sdk.Client(server.url).results(ids)) {
    seen.push(found.task_id);
  }
  assert.deepEqual(seen, ids);
  assert.equal(looks.length, 3);
  assert.ok(looks[1] - looks[0] > 900 && looks[2] - looks[1] > 900);
});

for (const refused of [refusal(400, "VALIDATION_ERROR"), refusal(404, "TASK_NOT_FOUND")]) {
  test("where many are not answered each is asked for by itself", async (t) => {
    const server = await scripted(t, refused, result("a"), result("b"), result("c"));
    const seen = [];
    for await (const found of new sdk.Client(server.url).results(["a", "b", "c"])) {
      seen.push(found.task_id);
    }
    assert.deepEqual(seen, ["a", "b", "c"]);
    assert.equal(server.requests.length, 4);
  });
}

test("the first task that has not ended in time is named", async (t) => {
  const server = await scripted(t, several("a"), notYet);
  const results = new sdk.Client(server.url).results(["a", "b"], { timeoutMs: 200 });
  assert.equal((await results.next()).value.task_id, "a");
  await assert.rejects(results.next(), (error) => {
    assert.ok(error instanceof sdk.DeadlinePassed);
    assert.deepEqual(error.open, ["b"]);
    return true;
  });
});
