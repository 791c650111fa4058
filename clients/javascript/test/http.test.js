/** When a call is tried again, how long it waits, what it throws. */

import assert from "node:assert/strict";
import { test } from "node:test";

import * as sdk from "../src/index.js";
import { pauseMs, retryAfterMs } from "../src/http.js";
import { backoffMs } from "../src/waiting.js";
import { cutOff, fine, refusal, says, scripted, unusedAddress } from "../testing/servers.js";

const TASK = { task: { task_id: "t" } };

function client(url, options) {
  return new sdk.Client(url, options);
}

test("a read is tried again after a lost connection, a 502, a 503 and a 429", async (t) => {
  const busy = refusal(429, "RATE_LIMIT_EXCEEDED", { "Retry-After": "0" });
  const page = says(502, "<html>");
  const server = await scripted(t, cutOff, page, refusal(503, "SERVICE_UNAVAILABLE"), busy, fine({ a: 1 }));

  assert.deepEqual(await client(server.url).clusterStatus(), { a: 1 });

  assert.equal(server.requests.length, 5);
});

test("a submission is tried again under the key of its first try", async (t) => {
  const server = await scripted(t, cutOff, says(502, "<html>"), says(201, { status: "success", data: TASK }));

  await client(server.url).submit("echo");

  const keys = server.requests.map((request) => request.headers["idempotency-key"]);
  assert.equal(keys.length, 3);
  assert.equal(new Set(keys).size, 1);
  assert.match(keys[0], /^js-[0-9a-f]{32}$/);
});

test("two submissions have two keys", async (t) => {
  const server = await scripted(t, says(201, { status: "success", data: TASK }));

  await client(server.url).submit("echo");
  await client(server.url).submit("echo");

  assert.notEqual(server.requests[0].headers["idempotency-key"], server.requests[1].headers["idempotency-key"]);
});

test("another change is not tried again when it may have been made", async (t) => {
  for (const answer of [cutOff, says(502, "<html>")]) {
    const server = await scripted(t, answer, fine());
    await assert.rejects(client(server.url).cancel("t"), sdk.RetireClusterError);
    assert.equal(server.requests.length, 1);
  }
});

test("another change is tried again when it was certainly not made", async (t) => {
  const server = await scripted(t, refusal(503, "SERVICE_UNAVAILABLE"), fine({ status: "cancelled" }));
  assert.deepEqual(await client(server.url).cancel("t"), { status: "cancelled" });

  const nobody = await unusedAddress();
  let tries = 0;
  const unreachable = (...call) => {
    tries += 1;
    return tries === 1 ? fetch(nobody) : fetch(...call);
  };
  const second = await scripted(t, fine({ status: "cancelled" }));
  assert.deepEqual(await client(second.url, { fetch: unreachable }).cancel("t"), { status: "cancelled" });
  assert.equal(tries, 2);
});

test("an answer that stays away is an error after the last try", async (t) => {
  const server = await scripted(t, cutOff);
  await assert.rejects(client(server.url, { retries: 1 }).types(), (error) => {
    assert.ok(error instanceof sdk.ConnectionFailed);
    assert.equal(error.code, "CONNECTION_FAILED");
    assert.equal(error.status, 0);
    return true;
  });
  assert.equal(server.requests.length, 2);
});

test("without a server the error says why, and what to check", async () => {
  const nobody = await unusedAddress();
  const why = async (url, settings) =>
    client(url, { retries: 0, ...settings })
      .types()
      .then(assert.fail, (error) => error.message);
  const advice = "; check the address, and that retire-cluster-api runs there and listens on this network";
  assert.equal(await why(nobody), `cannot talk to ${nobody}: ECONNREFUSED${advice}`);
  // A port that fetch itself forbids: there is no code.
  assert.equal(await why("http://localhost:9"), `cannot talk to http://localhost:9: fetch failed (bad port)${advice}`);
  const distrustful = async () => {
    throw new TypeError("fetch failed", { cause: { code: "DEPTH_ZERO_SELF_SIGNED_CERT" } });
  };
  assert.match(await why(nobody, { fetch: distrustful }), /: DEPTH_ZERO_SELF_SIGNED_CERT; .*NODE_EXTRA_CA_CERTS/);
});

test("an answer that takes too long is a Timeout", async (t) => {
  const server = await scripted(t, () => {});
  await assert.rejects(client(server.url, { retries: 0, timeoutMs: 50 }).types(), sdk.Timeout);
});

test("a server that asks for a long pause gets no second try", async (t) => {
  const server = await scripted(t, refusal(429, "RATE_LIMIT_EXCEEDED", { "Retry-After": "3600" }));
  await assert.rejects(client(server.url).types(), (error) => {
    assert.ok(error instanceof sdk.RateLimited);
    assert.equal(error.retryAfterMs, 3_600_000);
    return true;
  });
  assert.equal(server.requests.length, 1);
});

test("a pause is as long as the server asks, if that is longer than the back-off", () => {
  assert.equal(pauseMs(0, 3000, () => 1), 3000);
  assert.equal(pauseMs(0, 1, () => 1), 250);
  assert.equal(pauseMs(9, undefined, () => 1), 10_000);
});

test("a signal ends a call, its pause, and a call not yet begun, with its reason", async (t) => {
  const silent = await scripted(t, () => {});
  const pausing = await scripted(t, refusal(503, "SERVICE_UNAVAILABLE", { "Retry-After": "50" }));
  for (const server of [silent, pausing]) {
    const controller = new AbortController();
    const call = client(server.url).types({ signal: controller.signal });
    while (server.requests.length === 0) {
      await new Promise((resolve) => setImmediate(resolve));
    }
    controller.abort(new Error("enough"));
    await assert.rejects(call, /enough/);
  }
  await assert.rejects(client(silent.url).types({ signal: AbortSignal.abort(new Error("before")) }), /before/);
  assert.equal(silent.requests.length, 1);
});

test("every error code has its class, with all the answer tells", async (t) => {
  for (const [code, Kind] of Object.entries(sdk.ERRORS_BY_CODE)) {
    const details = { field: "payload", reason: "must be an object", more: [1] };
    const body = { status: "error", message: "no", error_code: code, error_details: details, request_id: "r-1" };
    const server = await scripted(t, says(400, body));
    await assert.rejects(client(server.url).types(), (error) => {
      assert.equal(error.constructor, Kind);
      assert.equal(error.name, Kind.name);
      assert.ok(error instanceof sdk.ApiError);
      const { message, field, reason, requestId, status } = error;
      assert.deepEqual(
        { code: error.code, details: error.details, message, field, reason, requestId, status },
        { code, details, message: "no", field: "payload", reason: "must be an object", requestId: "r-1", status: 400 },
      );
      return true;
    });
  }
});

test("a code of a newer server is an ApiError", async (t) => {
  const server = await scripted(t, refusal(418, "TEAPOT"));
  await assert.rejects(client(server.url).types(), { constructor: sdk.ApiError, code: "TEAPOT", status: 418 });
});

test("what does not speak the API is told from it", async (t) => {
  for (const answer of [says(200, "hello"), says(200, { hello: 1 }), says(404, "<html>")]) {
    const server = await scripted(t, answer);
    await assert.rejects(client(server.url).types(), sdk.UnexpectedAnswer);
  }
});

test("a key follows no redirect", async (t) => {
  const other = await scripted(t, fine());
  const server = await scripted(t, says(302, {}, { Location: other.url }));
  await assert.rejects(client(server.url, { apiKey: "secret" }).types(), /redirects to http/);
  assert.equal(other.requests.length, 0);
});

test("an address is taken with or without /api/v1 and slashes; others are refused", () => {
  for (const given of ["http://h:1", "http://h:1/", "http://h:1/api/v1", "http://h:1/api/v1/"]) {
    assert.equal(client(given).baseUrl, "http://h:1/api/v1");
  }
  assert.equal(client("https://h/cluster").baseUrl, "https://h/cluster/api/v1");
  assert.throws(() => client("ftp://h"), TypeError);
  assert.throws(() => client("h"), TypeError);
});

test("an id cannot lead elsewhere", async (t) => {
  const server = await scripted(t, fine());
  await client(server.url).device("a/../b?c#d");
  assert.equal(server.requests[0].url, "/api/v1/devices/a%2F..%2Fb%3Fc%23d");
  assert.throws(() => client(server.url).device(".."), TypeError);
  assert.throws(() => client(server.url).remove(""), TypeError);
});

test("Retry-After is seconds or a date", () => {
  assert.equal(retryAfterMs("2"), 2000);
  assert.equal(retryAfterMs("Sun, 06 Nov 1994 08:49:37 GMT", Date.UTC(1994, 10, 6, 8, 49, 30)), 7000);
  assert.equal(retryAfterMs("Sun, 06 Nov 1994 08:49:37 GMT"), 0);
  assert.equal(retryAfterMs("soon"), undefined);
  assert.equal(retryAfterMs(null), undefined);
});

test("pauses double up to a limit, between half and all of it", () => {
  const pace = { firstMs: 100, mostMs: 1000 };
  assert.deepEqual([0, 1, 2, 9].map((failures) => backoffMs(failures, pace, () => 1)), [100, 200, 400, 1000]);
  assert.deepEqual([0, 9].map((failures) => backoffMs(failures, pace, () => 0)), [50, 500]);
});

test("batches hold 1000 tasks and less than the API's 8 MiB, in order; an error tells what went before", async (t) => {
  const answer = (count) => says(201, { status: "success", data: { tasks: Array(count).fill(TASK.task), count } });
  const server = await scripted(t, answer(1000), refusal(400, "VALIDATION_ERROR"));
  const small = Array.from({ length: 1001 }, () => ({ task_type: "echo", payload: {} }));
  await assert.rejects(client(server.url).submitMany(small), (error) => {
    assert.ok(error instanceof sdk.ValidationFailed);
    assert.equal(error.submitted.length, 1000);
    return true;
  });

  const large = await scripted(t, answer(28), answer(12));
  const payload = { text: "x".repeat(250 * 1024) };
  const made = await client(large.url).submitMany(Array.from({ length: 40 }, () => ({ task_type: "echo", payload })));
  assert.equal(made.length, 40);
  const sizes = large.requests.map((request) => Number(request.headers["content-length"]));
  assert.equal(sizes.length, 2);
  assert.ok(Math.max(...sizes) < 8 * 2 ** 20);
});
