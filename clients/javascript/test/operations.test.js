/** Every operation of the API's description is reached by a method of the client. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { client, until, url } from "../testing/cluster.js";

const METHODS = ["get", "put", "post", "delete", "patch"];

async function operations() {
  const response = await fetch(`${url}/api/schema`, {
    headers: { Accept: "application/vnd.oai.openapi+json", "X-API-Key": process.env.RETIRE_CLUSTER_TEST_KEY },
  });
  assert.equal(response.status, 200);
  const { paths } = await response.json();
  return Object.entries(paths).flatMap(([path, item]) =>
    METHODS.filter((method) => method in item).map((method) => [method.toUpperCase(), path]),
  );
}

/** Whether a called path is that of an operation; one without a parameter comes first. */
function nameOf(known, method, called) {
  const fits = (path) => new RegExp(`^${path.replace(/\{[^}]+\}/g, "[^/]+")}$`).test(called);
  const found = known.filter(([one, path]) => one === method && fits(path));
  found.sort(([, a], [, b]) => a.split("{").length - b.split("{").length);
  return found[0]?.join(" ");
}

async function callEverything(sdk, deviceId) {
  const task = await sdk.submit("echo", {}, { wait: 30 });
  const [second] = await sdk.submitMany([{ task_type: "sleep", payload: { duration: 600 } }]);
  await sdk.dryRun("echo");
  await sdk.task(task.task_id);
  await sdk.status(task.task_id);
  await sdk.result(task.task_id);
  assert.equal((await sdk.results([task.task_id, second.task_id]).next()).value.task_id, task.task_id);
  await sdk.explain(task.task_id);
  assert.deepEqual((await sdk.run("echo", { n: 1 }, { timeoutMs: 60_000 })).result_data, { echo: { n: 1 } });
  await sdk.wsTicket();
  await sdk.logs(task.task_id).next();
  await sdk.cancel(second.task_id);
  await sdk.wait(second.task_id, { timeoutMs: 60_000 });
  await sdk.retry(second.task_id);
  await sdk.cancel(second.task_id);
  await sdk.tasks().next();
  await sdk.types();
  await sdk.statistics();
  for (const call of ["index", "clusterStatus", "metrics", "clusterConfig", "config", "devicesSummary"]) {
    await sdk[call]();
  }
  await sdk.changeConfig("scheduler", (await sdk.configSection("scheduler")).values);
  await sdk.resetConfig();
  const key = await sdk.createKey({ name: "sdk", scopes: ["read"] });
  await sdk.key(key.id);
  await sdk.revokeKey(key.id);
  await sdk.keys().next();
  const token = await sdk.createJoinToken({ name: "sdk" });
  await sdk.joinToken(token.id);
  await sdk.revokeJoinToken(token.id);
  await sdk.joinTokens().next();
  await sdk.audit().next();
  const events = sdk.events();
  await events.next();
  await events.return(); // an open connection keeps the process from ending
  await callDevice(sdk, deviceId);
}

async function callDevice(sdk, deviceId) {
  for (const call of ["device", "deviceStatus", "deviceMetrics", "ping"]) {
    await sdk[call](deviceId);
  }
  assert.equal((await sdk.cordon(deviceId, { reason: "a test" })).cordoned, true);
  assert.equal((await sdk.uncordon(deviceId)).cordoned, false);
  await sdk.drain(deviceId, { deadlineSeconds: 1 });
  await sdk.remove(deviceId);
}

test("every operation is reached, and each answers well", async () => {
  const called = new Set();
  const known = await operations();
  const recording = async (address, init) => {
    const response = await fetch(address, init);
    if (response.ok) {
      called.add(nameOf(known, init.method, new URL(address).pathname));
    }
    return response;
  };
  const sdk = client({ fetch: recording });
  const spare = () => sdk.devices({ tags: ["spare"], status: "online" }).next();
  const { value: device } = await until(async () => ((await spare()).done ? undefined : spare()), "a spare device");

  await callEverything(sdk, device.device_id);

  const missing = known.map((operation) => operation.join(" ")).filter((operation) => !called.has(operation));
  assert.deepEqual(missing, []);
  assert.ok(known.length >= 40);
});
