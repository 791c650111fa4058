/** Servers of the tests' own: one that answers by a script, one that speaks raw WebSocket, a proxy that fails. */

import { createHash } from "node:crypto";
import http from "node:http";
import net from "node:net";

async function listening(server) {
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return server.address().port;
}

/** An address where nobody listens any more. */
export async function unusedAddress() {
  const server = net.createServer();
  const port = await listening(server);
  await new Promise((resolve) => server.close(resolve));
  return `http://127.0.0.1:${port}`;
}

/**
 * An HTTP server that gives each request the next answer of a list, and the last one ever after. An answer is a
 * function of request and response.
 */
export async function scripted(t, ...answers) {
  const requests = [];
  const server = http.createServer((request, response) => {
    const answer = answers[Math.min(requests.length, answers.length - 1)];
    requests.push({ method: request.method, url: request.url, headers: request.headers });
    answer(request, response);
  });
  const port = await listening(server);
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return { url: `http://127.0.0.1:${port}`, requests };
}

/** An answer of the API with these members. */
export function says(status, members, headers = {}) {
  return (request, response) => {
    response.writeHead(status, { "Content-Type": "application/json", ...headers });
    response.end(JSON.stringify(members));
  };
}

export const fine = (data = {}) => says(200, { status: "success", data });
export const refusal = (status, error_code, headers) =>
  says(status, { status: "error", message: "no", error_code, error_details: {}, request_id: "r" }, headers);
export const cutOff = (request) => request.socket.destroy();

/** The frame of a server: not masked. `first` is its first byte. */
export function frame(first, payload) {
  const bytes = Buffer.from(payload);
  const head = bytes.length < 126 ? [first, bytes.length] : [first, 126, bytes.length >> 8, bytes.length & 0xff];
  return Buffer.concat([Buffer.from(head), bytes]);
}

export const text = (words) => frame(0x81, words);
export const goodbye = (code, reason = "") =>
  frame(0x88, Buffer.concat([Buffer.from([code >> 8, code & 0xff]), Buffer.from(reason)]));

/**
 * A server whose WebSockets are handled by `connected(socket, url)` after the handshake. `refuse` answers the other
 * requests.
 */
export async function rawWebSockets(t, connected, refuse = refusal(426, "UPGRADE_REQUIRED")) {
  const server = http.createServer(refuse);
  const sockets = new Set();
  server.on("upgrade", (request, socket) => {
    const key = request.headers["sec-websocket-key"];
    const accept = createHash("sha1").update(`${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest("base64");
    sockets.add(socket);
    socket.on("error", () => socket.destroy());
    socket.write(
      `HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${accept}\r\n\r\n`,
    );
    connected(socket, request.url);
  });
  const port = await listening(server);
  t.after(() => {
    sockets.forEach((socket) => socket.destroy());
    server.close();
  });
  return { url: `http://127.0.0.1:${port}`, ws: `ws://127.0.0.1:${port}` };
}

/** A proxy in front of a server. It can swallow answers, cut what is open, and let nobody in. */
export async function failingProxy(t, target) {
  const { hostname, port } = new URL(target);
  const open = new Set();
  const proxy = { swallowed: 0, swallowNext: 0, closed: false };
  const server = net.createServer((inner) => {
    if (proxy.closed) {
      inner.destroy();
      return;
    }
    const outer = net.connect(Number(port), hostname);
    open.add(inner).add(outer);
    inner.on("error", () => outer.destroy());
    outer.on("error", () => inner.destroy());
    inner.on("close", () => outer.destroy());
    outer.on("close", () => inner.destroy());
    inner.pipe(outer);
    outer.on("data", (bytes) => {
      if (proxy.swallowNext > 0) {
        proxy.swallowNext -= 1;
        proxy.swallowed += 1;
        inner.destroy();
      } else {
        inner.write(bytes);
      }
    });
  });
  proxy.cut = () => open.forEach((socket) => socket.destroy());
  proxy.url = `http://127.0.0.1:${await listening(server)}`;
  t.after(() => {
    proxy.cut();
    server.close();
  });
  return proxy;
}
