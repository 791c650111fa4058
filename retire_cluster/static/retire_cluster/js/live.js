/* Keeps a page true: listens to /ws from where the page was drawn, and has its parts drawn anew.

   The page names its cursor, so nothing that happened between drawing and listening is missed. One request brings
   all parts; htmx puts them in place by their ids. */

const LEAST_MS = 400; // between two drawings
const REST = 9; // times as long as a drawing took: where much happens, pages take a tenth of the server's time at most
const SILENCE_MS = 40_000; // the server says something every 15 s
const LONGEST_MS = 15_000; // between two tries to connect, or two drawings
const CLOSED_TO_US = new Set([4401, 4403]);

const { cursor, topics, task } = document.body.dataset;
const sign = document.getElementById("live");
const refresher = document.getElementById("refresh");

let since = cursor;
let socket = null;
let tries = 0;
let lostAt = null;
let heardAt = 0;
let watch = 0;
let due = 0;
let drawing = false;
let again = false;
let drawnAt = 0;
let beganAt = 0;
let rest = LEAST_MS;

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
  if (CLOSED_TO_US.has(code)) {
    say("stale", `Stale since ${clock(lostAt)}: sign in again`);
    return;
  }
  say("stale", tries < 3 ? `Reconnecting since ${clock(lostAt)}` : `Stale since ${clock(lostAt)}`);
  const wait = Math.min(LONGEST_MS, 500 * 2 ** tries) * (0.5 + Math.random() / 2);
  tries += 1;
  setTimeout(connect, wait);
}

/* Draws soon; while a drawing is under way or was just now, once more afterwards. A hidden page waits until it is seen. */
function draw() {
  if (drawing || document.hidden) {
    again = true;
    return;
  }
  if (due) return; // not put off by what comes meanwhile: on a busy cluster something always does
  due = setTimeout(() => {
    due = 0;
    drawing = true;
    again = false;
    beganAt = Date.now();
    window.htmx.trigger(refresher, "refresh");
  }, Math.max(30, drawnAt + rest - Date.now()));
}

function drawn() {
  drawing = false;
  drawnAt = Date.now();
  rest = Math.min(LONGEST_MS, Math.max(LEAST_MS, REST * (drawnAt - beganAt)));
  if (again) draw();
}

/* What somebody is typing, has open or has scrolled is theirs: kept over a drawing. */
function keepOpen(event) {
  const fresh = event.detail.fragment ?? event.detail.target;
  if (!fresh?.querySelectorAll) return;
  for (const old of document.querySelectorAll("main details[open] > summary")) {
    const same = [...fresh.querySelectorAll("details:not([open]) > summary")].find(
      (item) => item.textContent === old.textContent,
    );
    if (same) same.parentElement.open = true;
  }
}

function watchOver() {
  clearInterval(watch);
  watch = setInterval(() => {
    if (socket?.readyState === WebSocket.OPEN && Date.now() - heardAt > SILENCE_MS) socket.close();
  }, 5_000);
}

if (cursor && refresher && window.WebSocket) {
  document.body.addEventListener("htmx:afterRequest", (event) => event.target === refresher && drawn());
  document.body.addEventListener("htmx:oobBeforeSwap", keepOpen);
  document.addEventListener("visibilitychange", () => !document.hidden && again && draw());
  window.addEventListener("online", () => socket?.readyState !== WebSocket.OPEN && socket?.close());
  say("", "Connecting");
  watchOver();
  connect();
}
