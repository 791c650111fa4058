/* What a task prints, as it comes: reads on from where the page ends whenever the server says that there is more. */

const MOST = 2_000_000; // characters kept on the page; the beginning goes first
const MOST_FOUND = 1_000;
const FULL = 500; // pieces in an answer after which there may be more

const pane = document.getElementById("output");
const note = document.getElementById("output-note");
const follow = document.getElementById("follow");
const find = document.getElementById("find");
const found = document.getElementById("found");

let offset = Number(pane.dataset.offset);
let attempt = Number(pane.dataset.attempt); // that printed last; 0 where none did
let length = pane.textContent.length;
let reading = false;
let again = Boolean(pane.dataset.more);
let tries = 0;
let marked = [];

async function read() {
  if (reading) {
    again = true;
    return;
  }
  reading = true;
  try {
    do {
      again = false;
      const answer = await fetch(`${pane.dataset.moreAt}?offset=${offset}`, { redirect: "error" });
      if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
      show(await answer.json());
    } while (again);
    tries = 0;
  } catch (error) {
    note.textContent = `Output cannot be read (${error.message}). It is tried again.`;
    setTimeout(read, Math.min(30_000, 1_000 * 2 ** tries));
    tries += 1;
  } finally {
    reading = false;
  }
}

/* All of an answer at once: the browser lays out the page once for it. */
function show(data) {
  const pieces = document.createDocumentFragment();
  for (const chunk of data.chunks) {
    if (chunk.attempt !== attempt && chunk.attempt > 1) pieces.append(piece("attempt", `Attempt ${chunk.attempt}`));
    attempt = chunk.attempt;
    if (chunk.left_out && length) pieces.append(piece("left-out", `\n… ${chunk.left_out} characters left out …\n`));
    pieces.append(piece(chunk.stream, chunk.text));
  }
  again ||= data.chunks.length >= FULL;
  offset = data.next_offset;
  pane.append(pieces);
  while (length > MOST && pane.childElementCount > 1) {
    length -= pane.firstElementChild.textContent.length;
    pane.firstElementChild.remove();
  }
  if (length) note.textContent = "";
  else if (data.is_complete) note.textContent = "It printed nothing.";
  if (find.value) mark();
  if (follow.checked) pane.scrollTop = pane.scrollHeight;
}

function piece(kind, text) {
  const found = document.createElement("span");
  found.className = kind;
  found.textContent = text;
  length += text.length;
  return found;
}

/* Found places are painted, not wrapped: the text stays as it is. */
function mark() {
  marked = [];
  const wanted = find.value.toLowerCase();
  if (wanted) {
    for (const piece of pane.children) {
      const text = piece.firstChild;
      const lower = piece.textContent.toLowerCase();
      for (let at = lower.indexOf(wanted); at >= 0 && marked.length < MOST_FOUND; at = lower.indexOf(wanted, at + wanted.length)) {
        const range = new Range();
        range.setStart(text, at);
        range.setEnd(text, Math.min(at + wanted.length, text.length));
        marked.push(range);
      }
    }
  }
  if (window.Highlight) CSS.highlights.set("found", new Highlight(...marked));
  found.textContent = wanted ? `${marked.length}${marked.length === MOST_FOUND ? " or more" : ""} found` : "";
}

function next() {
  if (!marked.length) return;
  follow.checked = false;
  const range = marked.shift();
  marked.push(range);
  pane.scrollTop += range.getBoundingClientRect().top - pane.getBoundingClientRect().top - pane.clientHeight / 2;
}

document.querySelector(".output-tools").hidden = false;
find.addEventListener("input", mark);
find.addEventListener("keydown", (event) => event.key === "Enter" && (event.preventDefault(), next()));
pane.addEventListener("wheel", () => {
  follow.checked = pane.scrollTop + pane.clientHeight >= pane.scrollHeight - 8;
});
document.addEventListener("cluster", ({ detail }) => {
  if (detail.type !== "heartbeat") read();
});
if (again || !pane.dataset.ended) read();
if (follow.checked) pane.scrollTop = pane.scrollHeight;
