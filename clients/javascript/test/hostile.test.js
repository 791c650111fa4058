/** Servers that are broken or mean no good: each is an error of this package, and no key goes to somebody else. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { gzipSync } from "node:zlib";

import * as sdk from "../src/index.js";
import { backoffMs, sleep } from "../src/waiting.js";
import { cutOff, fine, rawWebSockets, refusal, says, scripted, text } from "../testing/servers.js";

const CREATED = "2026-11-28T10:00:00Z";
const task = (status, id = "t") => fine({ task_id: id, status, created_at: CREATED });
const client = (url, options) => new sdk.Client(url, { retries: 0, ...options });

test("a key follows no redirect from any method", async (t) => {
  const other = await scripted(t, fine());
  const server = await scripted(t, says(307, {}, { Location: other.url }));
  const api = new sdk.RetireClusterAPI(server.url, "secret", { retries: 0 });
  for (const name of ["getClusterStatus", "submitTask", "health", "types"]) {
    await assert.rejects(api[name]("echo", {}), sdk.UnexpectedAnswer);
  }
  await assert.rejects(api.events().next(), sdk.UnexpectedAnswer);
  assert.equal(other.requests.length, 0);
});

test("the specification's two methods use the client's fetch, its headers and its time limit", async (t) => {
  const silent = await scripted(t, () => {});
  const late = new sdk.RetireClusterAPI(silent.url, "secret", { timeoutMs: 50 });
  await assert.rejects(late.getClusterStatus(), sdk.Timeout);

  const server = await scripted(t, refusal(400, "VALIDATION_ERROR"));
  const api = new sdk.RetireClusterAPI(server.url, "secret");
  api.headers["X-Mine"] = "1";
  assert.equal((await api.submitTask("echo", {})).error_code, "VALIDATION_ERROR");
  assert.equal(server.requests[0].headers["x-api-key"], "secret");
  assert.equal(server.requests[0].headers["x-mine"], "1");
});

test("an error code that is a word of JavaScript's is an error like any other", async (t) => {
  for (const code of ["constructor", "__proto__", "toString", 7, null, ["VALIDATION_ERROR"]]) {
    const server = await scripted(t, says(400, { status: "error", message: { toString: 1 }, error_code: code, error_details: 5 }));
    await assert.rejects(client(server.url).types(), (error) => {
      assert.ok(error instanceof sdk.ApiError);
      assert.equal(error.message, "the server answered 400");
      assert.equal(error.field, "");
      return true;
    });
    assert.equal(server.requests.length, 1);
  }
});

test("what a proxy answers has the class of what it means", async (t) => {
  for (const [status, Kind] of [[413, sdk.PayloadTooLarge], [429, sdk.RateLimited], [502, sdk.Unavailable], [504, sdk.Unavailable]]) {
    const server = await scripted(t, says(status, "<html>"));
    await assert.rejects(client(server.url).types(), { constructor: Kind, status });
  }
});

test("answers of another shape are named, by every method that reads them", async (t) => {
  const calls = {
    submit: (api) => api.submit("echo"),
    submitMany: (api) => api.submitMany([{ task_type: "echo", payload: {} }]),
    wait: (api) => api.wait("t", { timeoutMs: 5000 }),
    waitAll: (api) => api.waitAll(["t"], { timeoutMs: 5000 }),
    logs: (api) => api.logs("t").next(),
    tasks: (api) => api.tasks().next(),
    devices: (api) => api.devices().next(),
  };
  for (const data of [null, 7, "x", [null], { task: null, tasks: [], chunks: 5 }]) {
    const server = await scripted(t, fine(data));
    for (const [name, call] of Object.entries(calls)) {
      if (name.startsWith("wait") && data?.tasks) {
        continue; // an object without a status is a task that has not ended
      }
      await assert.rejects(call(client(server.url)), sdk.UnexpectedAnswer, name);
    }
  }
  const none = await scripted(t, says(200, { status: "success" }));
  await assert.rejects(client(none.url).types(), sdk.UnexpectedAnswer);
});

test("of a batch that is answered with other than its tasks the batches before are told", async (t) => {
  const many = Array(1000).fill({ task_id: "t" });
  const server = await scripted(t, fine({ tasks: many }), fine({ tasks: many }));
  await assert.rejects(client(server.url).submitMany(Array(1001).fill({ task_type: "echo", payload: {} })), (error) => {
    assert.ok(error instanceof sdk.UnexpectedAnswer);
    assert.equal(error.submitted.length, 1000);
    return true;
  });
});

test("a page that follows itself ends the list", async (t) => {
  const server = await scripted(t, says(200, { status: "success", data: [{}], pagination: { next_cursor: "again" } }));
  await assert.rejects(async () => {
    for await (const row of client(server.url).tasks()) {
      assert.ok(row);
    }
  }, /follows itself/);
  assert.equal(server.requests.length, 2);
});

test("an answer that grows when it is unpacked ends at a limit", async (t) => {
  const bomb = gzipSync(Buffer.alloc(80 * 2 ** 20, " "));
  const server = await scripted(t, (request, response) => {
    response.writeHead(200, { "Content-Encoding": "gzip" });
    response.end(bomb);
  });
  await assert.rejects(client(server.url).types(), /more than 64 MiB/);
});

test("a time longer than timers take is no time at all for nobody", async (t) => {
  const server = await scripted(t, (request, response) => setTimeout(() => fine({ a: 1 })(request, response), 20));
  assert.deepEqual(await client(server.url, { timeoutMs: Infinity }).types(), { a: 1 });
  assert.deepEqual(await client(server.url, { timeoutMs: 2 ** 40 }).types(), { a: 1 });
  const controller = new AbortController();
  const pause = sleep(Infinity, controller.signal);
  setTimeout(() => controller.abort(new Error("enough")), 20);
  await assert.rejects(pause, /enough/);
});

test("a key with a line break is refused before it is in an error message", () => {
  assert.throws(() => client("http://h", { apiKey: "secret\n" }), (error) => {
    assert.ok(error instanceof TypeError);
    assert.ok(!error.message.includes("secret"));
    return true;
  });
});

test("half a character is no id, and no number no time", async () => {
  assert.throws(() => client("http://h").device("\ud800"), TypeError);
  await assert.rejects(client("http://h").wait("t", { timeoutMs: NaN }), TypeError);
});

test("changes that do the same when sent twice are tried again, others are not", async (t) => {
  const same = [
    (api) => api.ping("d"), (api) => api.cordon("d"), (api) => api.uncordon("d"), (api) => api.changeConfig("s", {}),
    (api) => api.revokeKey("k"), (api) => api.revokeJoinToken("k"), (api) => api.wsTicket(),
  ];
  const other = [
    (api) => api.cancel("t"), (api) => api.retry("t"), (api) => api.drain("d"), (api) => api.remove("d"), (api) => api.resetConfig(),
    (api) => api.changeConfig("s", {}, { ifMatch: "1" }), (api) => api.revokeKey("k", { own: true }), (api) => api.createKey({}),
  ];
  for (const [calls, requests] of [[same, 2], [other, 1]]) {
    for (const call of calls) {
      const server = await scripted(t, says(504, "<html>"), fine({}));
      await call(client(server.url, { retries: 1 })).catch((error) => assert.ok(error instanceof sdk.Unavailable));
      assert.equal(server.requests.length, requests, String(call));
    }
  }
});

// --- outages ------------------------------------------------------------------------------------------------------

const AWAY = [cutOff, says(502, "<html>"), refusal(503, "SERVICE_UNAVAILABLE"), cutOff];

test("a wait outlasts a server that restarts, and tells of it once", async (t) => {
  const ways = [
    (api, options) => api.wait("t", options),
    (api, options) => api.waitAll(["t"], options).then(([found]) => found),
  ];
  for (const wait of ways) {
    const server = await scripted(t, task("running"), ...AWAY, task("success"));
    const outages = [];
    const options = { timeoutMs: 600_000, onDisconnect: (outage) => outages.push(outage) };
    assert.equal((await wait(client(server.url), options)).status, "success");
    assert.equal(outages.length, 1);
    assert.equal(outages[0].failures, 1);
  }
});

test("a wait without a deadline, and followed output, outlast it too", async (t) => {
  const server = await scripted(t, task("running"), ...AWAY, task("success"));
  assert.equal((await client(server.url).wait("t")).status, "success");

  const page = (next, complete) => fine({ chunks: [{ text: String(next) }], next_offset: next, is_complete: complete });
  const printing = await scripted(t, page(1, false), ...AWAY, page(2, true));
  const found = [];
  for await (const chunk of client(printing.url).logs("t", { follow: true })) {
    found.push(chunk.text);
  }
  assert.deepEqual(found, ["1", "2"]);
});

test("a server that was never there is not waited for, nor by other calls one that is away", async (t) => {
  const never = await scripted(t, cutOff);
  await assert.rejects(client(never.url).wait("t", { timeoutMs: 600_000 }), sdk.ConnectionFailed);
  assert.equal(never.requests.length, 1);

  const away = await scripted(t, task("running"), cutOff);
  const api = client(away.url);
  await api.status("t");
  await assert.rejects(api.status("t"), sdk.ConnectionFailed);
  assert.equal(away.requests.length, 2);
});

test("an outage that outlasts the deadline is the error it is", async (t) => {
  const server = await scripted(t, task("running"), cutOff);
  await assert.rejects(client(server.url, { retries: 1000 }).wait("t", { timeoutMs: 700 }), sdk.ConnectionFailed);
});

// --- events -------------------------------------------------------------------------------------------------------

const event = (seq, type) => text(JSON.stringify({ type, seq, cursor: `e-${seq}`, data: {} }));

test("who loses the connection between reset and snapshot gets both again", async (t) => {
  const urls = [];
  const server = await rawWebSockets(t, (socket, url) => {
    urls.push(url);
    socket.end(urls.length === 1 ? event(8, "reset") : Buffer.concat([event(8, "reset"), event(8, "snapshot")]));
  });
  const seen = [];
  for await (const frame of client(server.url).events({ since: "old-1" })) {
    seen.push(frame.type);
    if (frame.type === "snapshot") {
      break;
    }
  }
  assert.deepEqual(seen, ["reset", "reset", "snapshot"]);
  assert.deepEqual(urls, ["/ws?since=old-1", "/ws?since=old-1"]);
});

test("what is no event loses no place in the stream", async (t) => {
  for (const junk of ["[]", "{}", "7", "null", "{", '{"type": "task.running"}', '{"cursor": "e-9"}']) {
    const urls = [];
    const server = await rawWebSockets(t, (socket, url) => {
      urls.push(url);
      socket.write(urls.length === 1 ? Buffer.concat([event(1, "snapshot"), text(junk)]) : event(2, "task.running"));
    });
    const seen = [];
    for await (const frame of client(server.url).events()) {
      seen.push(frame.seq);
      if (frame.seq === 2) {
        break;
      }
    }
    assert.deepEqual(seen, [1, 2]);
    assert.deepEqual(urls, ["/ws", "/ws?since=e-1"]);
  }
});

test("a server that ends each connection at once is asked less and less often", async (t) => {
  let connections = 0;
  const server = await rawWebSockets(t, (socket) => {
    connections += 1;
    socket.end(event(connections, "task.running"));
  });
  const failures = [];
  const stream = client(server.url).events({ onDisconnect: (outage) => failures.push(outage.failures) });
  for await (const frame of stream) {
    if (frame.seq === 4) {
      break;
    }
  }
  assert.deepEqual(failures, [1, 2, 3]);
  assert.ok(backoffMs(3, { firstMs: 250, mostMs: 15_000 }) > 250);
});

test("a ticket that is none is no reason to break", async (t) => {
  const outages = [];
  const server = await rawWebSockets(t, (socket) => socket.write(event(1, "snapshot")), fine(null));
  const stream = client(server.url, { apiKey: "secret" }).events({ onDisconnect: (outage) => outages.push(outage) });
  assert.equal((await stream.next()).value.seq, 1);
  await stream.return();
});
