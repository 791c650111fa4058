/** How the stream comes back: where it goes on, what ends it, what it does with a reader that is slow. */

import assert from "node:assert/strict";
import { test } from "node:test";

import * as sdk from "../src/index.js";
import { goodbye, rawWebSockets, refusal, says, scripted, text } from "../testing/servers.js";

const event = (seq, type = "task.running") => text(JSON.stringify({ type, seq, cursor: `e-${seq}`, data: {} }));

/** The frames of a stream until one has this number. */
async function upTo(seq, stream) {
  const found = [];
  for await (const frame of stream) {
    found.push(frame);
    if (frame.seq === seq) {
      break;
    }
  }
  return found.map((frame) => `${frame.type} ${frame.seq}`);
}

test("a new connection goes on behind the last frame, heartbeats included", async (t) => {
  const urls = [];
  const server = await rawWebSockets(t, (socket, url) => {
    urls.push(url);
    if (urls.length === 1) {
      socket.end(Buffer.concat([event(1, "snapshot"), event(2), event(5, "heartbeat")]));
    } else {
      socket.write(Buffer.concat([event(5, "resumed"), event(6)]));
    }
  });
  const outages = [];
  const client = new sdk.Client(server.url);
  const options = { topics: ["task", "device"], taskId: "t-1", onDisconnect: (outage) => outages.push(outage) };

  assert.deepEqual(await upTo(6, client.events(options)), ["snapshot 1", "task.running 2", "task.running 6"]);

  assert.deepEqual(urls, [
    "/ws?topics=task&topics=device&task_id=t-1",
    "/ws?topics=task&topics=device&task_id=t-1&since=e-5",
  ]);
  assert.equal(outages.length, 1);
  assert.equal(outages[0].failures, 1);
});

test("a loss that the server tells of is told", async (t) => {
  const server = await rawWebSockets(t, (socket) => {
    socket.write(Buffer.concat([event(8, "reset"), event(8, "snapshot"), event(9)]));
  });
  const seen = await upTo(9, new sdk.Client(server.url).events({ since: "old-1" }));
  assert.deepEqual(seen, ["reset 8", "snapshot 8", "task.running 9"]);
});

test("a reader that is slow loses nothing: the connection waits for it", async (t) => {
  const urls = [];
  let saidGoodbye;
  const goodbyeSaid = new Promise((resolve) => {
    saidGoodbye = resolve;
  });
  const server = await rawWebSockets(t, (socket, url) => {
    const since = Number(/since=e-(\d+)/.exec(url)?.[1] ?? 0);
    urls.push(url);
    socket.once("data", saidGoodbye);
    for (let seq = since + 1; seq <= Math.min(since + 6000, 9000); seq += 1) {
      socket.write(event(seq));
    }
  });
  const stream = new sdk.Client(server.url).events();
  assert.equal((await stream.next()).value.seq, 1);
  await goodbyeSaid;

  const seen = await upTo(9000, stream);

  assert.deepEqual(seen, Array.from({ length: 8999 }, (_, index) => `task.running ${index + 2}`));
  assert.deepEqual(urls, ["/ws", "/ws?since=e-5001"]);
});

test("who may not listen any more is told, and no new connection made", async (t) => {
  for (const [code, Kind] of [
    [4401, sdk.Unauthorized],
    [4403, sdk.Forbidden],
  ]) {
    let connections = 0;
    const server = await rawWebSockets(t, (socket) => {
      connections += 1;
      socket.end(Buffer.concat([event(1, "snapshot"), goodbye(code, "revoked")]));
    });
    await assert.rejects(upTo(2, new sdk.Client(server.url).events()), { constructor: Kind, message: "revoked" });
    assert.equal(connections, 1);
  }
});

test("a refused handshake is the error a plain request gets", async (t) => {
  const server = await scripted(t, refusal(400, "VALIDATION_ERROR"));
  await assert.rejects(upTo(1, new sdk.Client(server.url).events({ since: "?" })), sdk.ValidationFailed);
});

test("a server that opens no WebSocket is given up after a few tries", async (t) => {
  const server = await scripted(t, refusal(426, "UPGRADE_REQUIRED"));
  await assert.rejects(upTo(1, new sdk.Client(server.url).events()), { code: "UPGRADE_REQUIRED", message: /gunicorn/ });
});

test("with a key each connection has a ticket of its own, and the key is in no address", async (t) => {
  const urls = [];
  let tickets = 0;
  const answer = (request, response) => {
    assert.equal(request.headers["x-api-key"], "secret");
    assert.deepEqual([request.method, request.url], ["POST", "/api/v1/ws-tickets"]);
    tickets += 1;
    const ok = { status: "success", data: { ticket: `ticket-${tickets}` } };
    (tickets === 1 ? refusal(503, "SERVICE_UNAVAILABLE", { "Retry-After": "0" }) : says(201, ok))(request, response);
  };
  const connected = (socket, url) => {
    urls.push(url);
    socket.end(event(urls.length));
  };
  const server = await rawWebSockets(t, connected, answer);
  await upTo(2, new sdk.Client(server.url, { apiKey: "secret" }).events());
  assert.deepEqual(urls, ["/ws?ticket=ticket-2", "/ws?since=e-1&ticket=ticket-3"]);
});

test("a signal ends the stream, while it listens and while it pauses, with its reason", async (t) => {
  const controllers = [new AbortController(), new AbortController()];
  const server = await rawWebSockets(t, (socket) => socket.write(event(1, "snapshot")));
  const listening = new sdk.Client(server.url).events({ signal: controllers[0].signal });
  await listening.next();
  const waiting = listening.next();
  controllers[0].abort(new Error("enough"));
  await assert.rejects(waiting, /enough/);

  const away = new sdk.Client("http://127.0.0.1:1").events({
    signal: controllers[1].signal,
    onDisconnect: () => controllers[1].abort(new Error("no patience")),
  });
  await assert.rejects(away.next(), /no patience/);
});
