/** Node's own WebSocket client against a server that says bytes, good and bad (RFC 6455). */

import assert from "node:assert/strict";
import { test } from "node:test";

import { FrameReader, NodeWebSocket } from "../src/node-websocket.js";
import { frame, goodbye, rawWebSockets, scripted, says, text } from "../testing/servers.js";

/** What a client hears of a server that says this: the texts, and how it ended. */
async function hears(t, ...pieces) {
  const server = await rawWebSockets(t, async (socket) => {
    for (const piece of pieces) {
      socket.write(piece);
      await new Promise((resolve) => setImmediate(resolve));
    }
  });
  return heard(new NodeWebSocket(server.ws));
}

function heard(socket) {
  const texts = [];
  socket.onmessage = (event) => texts.push(event.data);
  return new Promise((resolve) => {
    socket.onclose = ({ code, reason }) => resolve({ texts, code, reason });
  });
}

/** The frame of a client, unmasked. */
function unmasked(bytes) {
  assert.ok(bytes[1] & 0x80, "clients mask their frames");
  const mask = bytes.subarray(2, 6);
  return { first: bytes[0], payload: bytes.subarray(6, 6 + (bytes[1] & 0x7f)).map((byte, i) => byte ^ mask[i % 4]) };
}

function next(socket) {
  return new Promise((resolve) => socket.once("data", (bytes) => resolve(unmasked(bytes))));
}

test("texts of every length arrive, whole, in pieces and several at once", async (t) => {
  const long = "ü".repeat(40_000);
  const bytes = Buffer.from(long);
  const head = Buffer.alloc(10);
  head[0] = 0x81;
  head[1] = 127;
  head.writeBigUInt64BE(BigInt(bytes.length), 2);
  const medium = "m".repeat(300);
  const all = Buffer.concat([text("a"), text(""), text(medium), head, bytes, text("z"), goodbye(1000, "enough")]);

  const expected = { texts: ["a", "", medium, long, "z"], code: 1000, reason: "enough" };
  assert.deepEqual(await hears(t, all), expected);
  const pieces = Array.from({ length: Math.ceil(all.length / 7000) }, (_, i) => all.subarray(7000 * i, 7000 * (i + 1)));
  assert.deepEqual(await hears(t, ...pieces), expected);
});

test("frames are the same wherever the bytes are cut", () => {
  const all = Buffer.concat([text("a"), text("b".repeat(200)), goodbye(1000)]);
  const whole = [...new FrameReader().push(all)];
  for (let cut = 0; cut <= all.length; cut += 1) {
    const reader = new FrameReader();
    assert.deepEqual([...reader.push(all.subarray(0, cut)), ...reader.push(all.subarray(cut))], whole);
  }
  assert.equal(whole.length, 3);
});

test("fragments are joined, also in the middle of a character, and around a ping", async (t) => {
  const euro = Buffer.from("€");
  const pieces = [frame(0x01, euro.subarray(0, 1)), frame(0x89, "p"), frame(0x00, euro.subarray(1)), frame(0x80, "!")];
  assert.deepEqual((await hears(t, ...pieces, goodbye(1000))).texts, ["€!"]);
});

test("a ping is answered with its words, a goodbye with its code", async (t) => {
  let answers;
  const server = await rawWebSockets(t, async (socket) => {
    socket.write(frame(0x89, "hello"));
    const pong = await next(socket);
    socket.write(goodbye(4401, "gone"));
    answers = [pong, await next(socket)];
    socket.end();
  });
  const end = await heard(new NodeWebSocket(server.ws));

  assert.deepEqual({ code: end.code, reason: end.reason }, { code: 4401, reason: "gone" });
  while (answers === undefined) {
    await new Promise((resolve) => setImmediate(resolve));
  }
  assert.deepEqual(
    answers.map(({ first, payload }) => [first, payload.toString("latin1")]),
    [
      [0x8a, "hello"],
      [0x88, Buffer.from([4401 >> 8, 4401 & 0xff]).toString("latin1")],
    ],
  );
});

test("our goodbye is said, answered, and the end; what comes meanwhile is not told", async (t) => {
  let said;
  const server = await rawWebSockets(t, async (socket) => {
    socket.write(text("first"));
    said = await next(socket);
    socket.write(Buffer.concat([text("late"), goodbye(1000)]));
  });
  const socket = new NodeWebSocket(server.ws);
  const end = heard(socket);
  const take = socket.onmessage;
  socket.onmessage = (event) => {
    take(event);
    socket.close(1000, "bye");
  };

  assert.deepEqual(await end, { texts: ["first"], code: 1000, reason: "" });
  assert.deepEqual([said.first, said.payload.subarray(2).toString()], [0x88, "bye"]);
});

const VIOLATIONS = {
  "a masked frame": [Buffer.from([0x81, 0x80, 0, 0, 0, 0]), 1002],
  "a reserved bit": [frame(0xc1, "x"), 1002],
  "an unknown opcode": [frame(0x83, "x"), 1002],
  "a continuation of nothing": [frame(0x80, "x"), 1002],
  "a text within a text": [Buffer.concat([frame(0x01, "x"), text("y")]), 1002],
  "a ping in pieces": [frame(0x09, "x"), 1002],
  "a long ping": [frame(0x89, "x".repeat(126)), 1002],
  "half a close code": [frame(0x88, "x"), 1002],
  "bytes, not text": [frame(0x82, "x"), 1003],
  "a text that is no UTF-8": [frame(0x81, Buffer.from([0xc3, 0x28])), 1007],
  "a frame of 2 GiB": [Buffer.from([0x81, 127, 0, 0, 0, 0, 0x80, 0, 0, 0]), 1009],
};

for (const [name, [bytes, code]] of Object.entries(VIOLATIONS)) {
  test(`${name} ends the connection with ${code}, and the server is told`, async (t) => {
    let told;
    const server = await rawWebSockets(t, async (socket) => {
      told = next(socket);
      socket.write(bytes);
    });
    assert.equal((await heard(new NodeWebSocket(server.ws))).code, code);
    assert.equal((await told).payload.readUInt16BE(0), code);
  });
}

test("a connection that breaks off, that was never one, and nobody there are 1006", async (t) => {
  const breaking = await rawWebSockets(t, (socket) => socket.destroy());
  assert.equal((await heard(new NodeWebSocket(breaking.ws))).code, 1006);

  const refusing = await scripted(t, says(403, {}));
  const refused = await heard(new NodeWebSocket(refusing.url.replace("http", "ws")));
  assert.deepEqual([refused.code, refused.reason], [1006, "the server answered 403, not with a WebSocket"]);

  assert.equal((await heard(new NodeWebSocket("ws://127.0.0.1:1/"))).code, 1006);
});

test("an answer that proves nothing is no WebSocket", async (t) => {
  const { createServer } = await import("node:http");
  const server = createServer();
  server.on("upgrade", (request, socket) => {
    socket.write("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n");
    socket.write("Sec-WebSocket-Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n\r\n");
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.after(() => server.close());
  assert.equal((await heard(new NodeWebSocket(`ws://127.0.0.1:${server.address().port}/`))).code, 1006);
});

test("closed before it is open it ends at once", async () => {
  const socket = new NodeWebSocket("ws://127.0.0.1:1/");
  const end = heard(socket);
  socket.close();
  assert.equal((await end).code, 1006);
});
