/**
 * A WebSocket for Node before 22, which has none of its own: RFC 6455, the part that reads text. It has the members
 * of the browsers' WebSocket that stream.js uses. Browsers never load this file.
 */

import { createHash, randomBytes } from "node:crypto";
import http from "node:http";
import https from "node:https";

const GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"; // RFC 6455, 1.3
const MOST_BYTES = 16 * 2 ** 20; // of a message: thirty times the largest snapshot
const GOODBYE_MS = 5000; // how long the server may take to answer a close
const [CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG] = [0x0, 0x1, 0x2, 0x8, 0x9, 0xa];
const PROTOCOL_ERROR = 1002;
const NOT_TEXT = 1003;
const NO_CODE = 1005;
const BROKEN_OFF = 1006;
const NOT_UTF8 = 1007;
const TOO_BIG = 1009;

/** The server broke the protocol; `closeCode` is what to tell it. */
class Violation extends Error {
  constructor(closeCode, message) {
    super(message);
    this.closeCode = closeCode;
  }
}

/** Bytes to frames, without any I/O. */
export class FrameReader {
  #chunks = [];
  #length = 0;

  /**
   * The frames that are complete with these bytes. Throws Violation.
   * @param {Buffer} bytes
   * @returns {Generator<{final: boolean, opcode: number, payload: Buffer}>}
   */
  *push(bytes) {
    this.#chunks.push(bytes);
    this.#length += bytes.length;
    for (let frame = this.#frame(); frame !== undefined; frame = this.#frame()) {
      yield frame;
    }
  }

  #frame() {
    const size = this.#length >= 2 ? sizeOf(this.#peek(Math.min(10, this.#length))) : undefined;
    if (size === undefined || this.#length < size.head + size.payload) {
      return undefined;
    }
    const all = this.#peek(this.#length);
    const end = size.head + size.payload;
    this.#chunks = [all.subarray(end)];
    this.#length -= end;
    return { final: (all[0] & 0x80) !== 0, opcode: all[0] & 0x0f, payload: all.subarray(size.head, end) };
  }

  /** The first bytes in one piece. */
  #peek(count) {
    if (this.#chunks[0].length < count) {
      this.#chunks = [Buffer.concat(this.#chunks)];
    }
    return this.#chunks[0].subarray(0, count);
  }
}

/** Bytes of a frame's head and payload (RFC 6455, 5.2); undefined while too little of the head is there. */
function sizeOf(head) {
  if ((head[0] & 0x70) !== 0) {
    throw new Violation(PROTOCOL_ERROR, "reserved bits are set, and no extension was agreed on");
  }
  if ((head[1] & 0x80) !== 0) {
    throw new Violation(PROTOCOL_ERROR, "a server must not mask its frames");
  }
  const short = head[1] & 0x7f;
  const isControl = (head[0] & 0x08) !== 0;
  if (isControl && (short > 125 || (head[0] & 0x80) === 0)) {
    throw new Violation(PROTOCOL_ERROR, "a control frame is short and in one piece");
  }
  const more = { 126: 2, 127: 8 }[short] ?? 0;
  if (head.length < 2 + more) {
    return undefined;
  }
  const payload = more === 0 ? short : more === 2 ? head.readUInt16BE(2) : Number(head.readBigUInt64BE(2));
  if (payload > MOST_BYTES) {
    throw new Violation(TOO_BIG, `a frame of ${payload} bytes`);
  }
  return { head: 2 + more, payload };
}

/** Frames to texts: fragments are joined. */
class MessageReader {
  #parts = [];
  #length = 0;
  #open = false;

  /** The text that is complete with this frame, or undefined. Throws Violation. */
  add({ final, opcode, payload }) {
    if (opcode === BINARY) {
      throw new Violation(NOT_TEXT, "only text is understood here");
    }
    if (opcode !== (this.#open ? CONTINUATION : TEXT)) {
      throw new Violation(PROTOCOL_ERROR, `a frame of opcode ${opcode} in the wrong place`);
    }
    this.#parts.push(payload);
    this.#length += payload.length;
    this.#open = !final;
    if (this.#length > MOST_BYTES) {
      throw new Violation(TOO_BIG, `a message of more than ${MOST_BYTES} bytes`);
    }
    return final ? this.#take() : undefined;
  }

  #take() {
    const whole = Buffer.concat(this.#parts);
    this.#parts = [];
    this.#length = 0;
    return utf8(whole);
  }
}

function utf8(bytes) {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (error) {
    throw new Violation(NOT_UTF8, `a text is no UTF-8: ${error.message}`);
  }
}

/** A frame as a client sends it: masked. The payload of a control frame, at most 125 bytes. */
function controlFrame(opcode, payload) {
  const mask = randomBytes(4);
  const masked = payload.map((byte, index) => byte ^ mask[index % 4]);
  return Buffer.concat([Buffer.from([0x80 | opcode, 0x80 | payload.length]), mask, masked]);
}

export class NodeWebSocket {
  /** @type {((event: {data: string}) => void) | null} */
  onmessage = null;
  /** Called once, whatever ends the connection. @type {((event: {code: number, reason: string}) => void) | null} */
  onclose = null;

  #frames = new FrameReader();
  #messages = new MessageReader();
  #request;
  #socket = null;
  #closing = false; // our close frame is sent
  #ended = false; // onclose was called, or is about to be
  #goodbye = null;

  /** @param {string} url ws:// or wss:// */
  constructor(url) {
    const key = randomBytes(16).toString("base64");
    const headers = {
      Connection: "Upgrade",
      Upgrade: "websocket",
      "Sec-WebSocket-Key": key,
      "Sec-WebSocket-Version": "13",
    };
    const secure = url.startsWith("wss:");
    this.#request = (secure ? https : http).request(url.replace(/^ws/, "http"), { headers, agent: false });
    this.#request.on("upgrade", (response, socket, head) => this.#opened(response, socket, head, key));
    this.#request.on("response", (response) => {
      response.destroy();
      this.#end(BROKEN_OFF, `the server answered ${response.statusCode}, not with a WebSocket`);
    });
    this.#request.on("error", (error) => this.#end(BROKEN_OFF, error.message));
    this.#request.end();
  }

  /** Say goodbye; onclose is called when the server has answered, or has not for some seconds. */
  close(code = 1000, reason = "") {
    if (this.#socket === null) {
      this.#request.destroy();
      this.#end(BROKEN_OFF, "closed before it was open");
      return;
    }
    this.#sayGoodbye(code, reason);
  }

  #opened(response, socket, head, key) {
    this.#socket = socket;
    socket.on("error", (error) => this.#end(BROKEN_OFF, error.message));
    socket.on("close", () => this.#end(BROKEN_OFF, "the connection broke off"));
    const wanted = createHash("sha1").update(key + GUID).digest("base64");
    if (response.headers["sec-websocket-accept"] !== wanted || response.headers["sec-websocket-extensions"]) {
      this.#end(BROKEN_OFF, "the answer to the handshake is not that of a WebSocket");
      return;
    }
    socket.setNoDelay(true);
    socket.on("data", (bytes) => this.#take(bytes));
    this.#take(head);
  }

  #take(bytes) {
    try {
      for (const frame of this.#frames.push(bytes)) {
        if (this.#ended) {
          return;
        }
        this.#frame(frame);
      }
    } catch (error) {
      if (!(error instanceof Violation)) {
        throw error;
      }
      this.#sayGoodbye(error.closeCode, error.message);
      this.#end(error.closeCode, error.message);
    }
  }

  #frame(frame) {
    if (frame.opcode === PING) {
      this.#send(PONG, frame.payload);
    } else if (frame.opcode === CLOSE) {
      this.#closedByServer(frame.payload);
    } else if (frame.opcode !== PONG) {
      const text = this.#messages.add(frame);
      if (text !== undefined && !this.#closing) {
        this.onmessage?.({ data: text });
      }
    }
  }

  #closedByServer(payload) {
    if (payload.length === 1) {
      throw new Violation(PROTOCOL_ERROR, "half a close code");
    }
    const code = payload.length === 0 ? NO_CODE : payload.readUInt16BE(0);
    const reason = utf8(payload.subarray(2));
    if (!this.#closing) {
      this.#closing = true;
      this.#send(CLOSE, payload.subarray(0, 2));
    }
    this.#end(code, reason);
  }

  #sayGoodbye(code, reason) {
    if (this.#closing || this.#ended) {
      return;
    }
    this.#closing = true;
    const word = Buffer.from(reason).subarray(0, 100);
    this.#send(CLOSE, Buffer.concat([Buffer.from([code >> 8, code & 0xff]), word]));
    this.#goodbye = setTimeout(() => this.#end(BROKEN_OFF, "the server did not answer a close"), GOODBYE_MS);
  }

  #send(opcode, payload) {
    if (this.#socket.writable) {
      this.#socket.write(controlFrame(opcode, payload));
    }
  }

  /** Tell of the end, once, and let go of the socket when what was sent is out. */
  #end(code, reason) {
    if (this.#ended) {
      return;
    }
    this.#ended = true;
    clearTimeout(this.#goodbye);
    this.#socket?.destroySoon();
    queueMicrotask(() => this.onclose?.({ code, reason }));
  }
}
