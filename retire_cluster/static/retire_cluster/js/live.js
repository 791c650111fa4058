/* Keeps a page true: listens to /ws from where the page was drawn, and has its parts drawn anew.

   The page names its cursor, so nothing that happened between drawing and listening is missed. One request brings
   all parts; htmx puts them in place by their ids. */

const LEAST_MS = 400; // between two drawings
const REST = 9; // times as long as a drawing took: where much happens, pages take a tenth of the server's time at most
const SILENCE_MS = 40_000; // the server says something every 15 s
const LONGEST_MS = 15_000; // between two tries to connect, or two drawings
const LEAVING_MS = 10_000; // a form was sent: the page that answers it takes this one's place
const CLOSED_TO_US = new Set([4401, 4403]);

const { cursor, topics, task } = document.body.dataset;
const sign = document.getElementById("live");
const refresher = document.getElementById("refresh");

let since = cursor;
let socket = null;
let tries = 0;
let lostAt = null;
let ended = false;
let reached = null; // what had the focus in the part that is being drawn
let heardAt = 0;
let watch = 0;
let due = 0;
let drawing = false;
let again = false;
let drawnAt = 0;
let beganAt = 0;
let rest = LEAST_MS;
let settling = 0;
let sentAt = -LEAVING_MS;

function address() {
  const url = new URL("/ws", location.href);
  url.protocol = location.protocol === "https:" ? "wss:" : "ws:";
  if (task) url.searchParams.set("task_id", task);
  else url.searchParams.set("topics", topics);
  if (since) url.searchParams.set("since", since);
  return url;
}

function say(state, text) {
  sign.className = `live ${state}`;
  if (sign.textContent !== text) sign.textContent = text;
}

function clock(moment) {
  return moment.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit" });
}

function connect() {
  heardAt = Date.now();
  socket = new WebSocket(address());
  socket.onmessage = (message) => hear(JSON.parse(message.data));
  socket.onclose = (event) => lose(event.code);
}

function hear(frame) {
  heardAt = Date.now();
  tries = 0;
  lostAt = null;
  since = frame.cursor;
  say("ok", "Live");
  // What is printed comes on its own, see output.js; the pieces would draw the page a hundred times.
  document.dispatchEvent(new CustomEvent("cluster", { detail: frame }));
  if (["heartbeat", "resumed", "task.output"].includes(frame.type)) return;
  draw();
}

function lose(code) {
  lostAt ??= new Date();
  if (ended) return;
  if (CLOSED_TO_US.has(code)) {
    endSession();
    return;
  }
  say("stale", tries < 3 ? `Reconnecting since ${clock(lostAt)}` : `Stale since ${clock(lostAt)}`);
  const wait = Math.min(LONGEST_MS, 500 * 2 ** tries) * (0.5 + Math.random() / 2);
  tries += 1;
  setTimeout(connect, wait);
}

/* Draws soon; while a drawing is under way or was just now, once more afterwards. A hidden page waits until it is seen. */
function draw() {
  if (isLeaving()) return drawAgainIn(LEAVING_MS);
  if (drawing || document.hidden) {
    again = true;
    return;
  }
  if (due) return; // not put off by what comes meanwhile: on a busy cluster something always does
  due = setTimeout(() => {
    due = 0;
    if (isLeaving()) return drawAgainIn(LEAVING_MS);
    drawing = true;
    again = false;
    beganAt = Date.now();
    window.htmx.trigger(refresher, "refresh");
  }, Math.max(30, drawnAt + rest - Date.now()));
}

/* What was sent may end what the page is about: to draw that, or to reload, would break off the way to the answer. */
function isLeaving() {
  return performance.now() - sentAt < LEAVING_MS;
}

/* Figures that the server remembered may lack what happened last, and nothing else may happen for hours. */
function drawAgainIn(ms) {
  clearTimeout(settling);
  if (ms > 0) settling = setTimeout(settle, ms);
}

/* While the server is away there is nothing to be had: later. */
function settle() {
  if (socket?.readyState === WebSocket.OPEN) draw();
  else if (!ended) drawAgainIn(1_000);
}

/* What is gone is said by its own page; who may not look any more is told by the sign. */
function drawn(answer) {
  const { status } = answer;
  drawing = false;
  if (isLeaving()) return drawAgainIn(LEAVING_MS);
  if (status === 404) return location.reload();
  if (status === 401 || status === 403) return endSession();
  drawnAt = Date.now();
  rest = Math.min(LONGEST_MS, Math.max(LEAST_MS, REST * (drawnAt - beganAt)));
  if (again) draw();
  else drawAgainIn(Number(answer.getResponseHeader("X-Draw-Again")));
}

function endSession() {
  lostAt ??= new Date();
  ended = true;
  socket?.close();
  say("stale", `Stale since ${clock(lostAt)}: sign in again`);
}

/* What somebody is typing, has open or has reached with the keyboard is theirs: kept over a drawing. */
function keep(event) {
  const { target, fragment } = event.detail;
  if (target.dataset.hold !== undefined && (target.querySelector("details[open]") || target.contains(document.activeElement))) {
    event.detail.shouldSwap = false;
    return;
  }
  const fresh = fragment.querySelector(`#${CSS.escape(target.id)}`) ?? fragment;
  const [before, after] = [target, fresh].map((part) => [...part.querySelectorAll("details")]);
  const names = (list) => list.map((item) => item.querySelector("summary")?.textContent).join("\n");
  if (names(before) === names(after)) before.forEach((item, number) => (after[number].open = item.open));
  const held = document.activeElement;
  reached = target.contains(held) && !held.id ? { part: target.id, link: held.getAttribute("href") } : null;
}

/* htmx gives the focus back to what has an id; links in lists have none. */
function giveBack() {
  if (!reached?.link) return;
  const link = document.querySelector(`#${CSS.escape(reached.part)} [href="${CSS.escape(reached.link)}"]`);
  link?.focus({ preventScroll: true });
  reached = null;
}

function watchOver() {
  clearInterval(watch);
  watch = setInterval(() => {
    if (socket?.readyState === WebSocket.OPEN && Date.now() - heardAt > SILENCE_MS) socket.close();
  }, 5_000);
}

if (cursor && refresher && window.WebSocket) {
  document.body.addEventListener("htmx:afterRequest", (event) => event.target === refresher && drawn(event.detail.xhr));
  document.body.addEventListener("htmx:oobBeforeSwap", keep);
  document.body.addEventListener("htmx:oobAfterSwap", giveBack);
  window.addEventListener("submit", (event) => event.defaultPrevented || (sentAt = performance.now()));
  document.addEventListener("visibilitychange", () => !document.hidden && again && draw());
  window.addEventListener("online", () => socket?.readyState !== WebSocket.OPEN && socket?.close());
  say("", "Connecting");
  watchOver();
  connect();
  drawAgainIn(Number(document.body.dataset.again));
}
