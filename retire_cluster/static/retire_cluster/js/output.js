/* What a task prints, as it comes: reads on from where the page ends whenever the server says that there is more. */

const MOST = 2_000_000; // characters kept on the page; the beginning goes first
const MOST_FOUND = 1_000;

const pane = document.getElementById("output");
const note = document.getElementById("output-note");
const follow = document.getElementById("follow");
const find = document.getElementById("find");
const found = document.getElementById("found");

let offset = Number(pane.dataset.offset);
let reading = false;
let again = Boolean(pane.dataset.more);
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
      const answer = await fetch(`${pane.dataset.logs}?offset=${offset}&limit=500`, { headers: { Accept: "application/json" } });
      if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
      const { data } = await answer.json();
      data.chunks.forEach(add);
      again ||= data.next_offset > offset;
      offset = data.next_offset;
      if (pane.childElementCount) note.textContent = "";
      else if (data.is_complete) note.textContent = "It printed nothing.";
    } while (again);
  } catch (error) {
    note.textContent = `Output cannot be read: ${error.message}. It goes on when the connection is back.`;
  } finally {
    reading = false;
  }
}

function add(chunk) {
  if (chunk.left_out && pane.childElementCount) append("left-out", `\n… ${chunk.left_out} characters left out …\n`);
  append(chunk.stream, chunk.text);
  while (pane.textContent.length > MOST && pane.childElementCount > 1) pane.firstElementChild.remove();
  if (find.value) mark();
  if (follow.checked) pane.scrollTop = pane.scrollHeight;
}

function append(kind, text) {
  const piece = document.createElement("span");
  piece.className = kind;
  piece.textContent = text;
  pane.append(piece);
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
