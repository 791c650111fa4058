/* Comforts of every page: times in the reader's own zone and growing older, copying, choosing all of a list, rows that
   begin at what is chosen. */

/* As the server says it: see words.py. */
function span(seconds) {
  if (seconds < 60) return `${Math.round(seconds)} s`;
  if (seconds < 3_600) return `${Math.floor(seconds / 60)} min`;
  const minutes = Math.floor(seconds / 60) % 60;
  if (seconds < 86_400) return `${Math.floor(seconds / 3_600)} h${minutes ? ` ${minutes} min` : ""}`;
  const days = Math.floor(seconds / 86_400);
  return days === 1 ? "1 day" : `${days} days`;
}

function age(moment) {
  const seconds = (Date.now() - moment) / 1000;
  if (seconds < -1) return `in ${span(-seconds)}`;
  return seconds < 5 ? "just now" : `${span(seconds)} ago`;
}

/* What goes on, and what is to come: by the second, whoever looks at it waits for it. */
function tickWhatGoesOn(root = document) {
  for (const item of root.querySelectorAll("time[data-since], time[data-due]")) {
    const moment = new Date(item.dateTime);
    const seconds = Math.floor((Date.now() - moment) / 1000);
    const left = seconds < 0 ? `in ${span(-seconds)}` : "in a moment";
    const text = "since" in item.dataset ? `for ${span(Math.max(0, seconds))}` : left;
    if (item.textContent !== text) item.textContent = text;
    item.title = moment.toLocaleString();
  }
}

function tick(root = document) {
  for (const item of root.querySelectorAll("time[data-ago]")) {
    const moment = new Date(item.dateTime);
    const text = age(moment);
    if (item.textContent !== text) item.textContent = text;
    item.title = moment.toLocaleString();
  }
  for (const item of root.querySelectorAll("time[data-clock]")) {
    const moment = new Date(item.dateTime);
    item.textContent = moment.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit" });
    item.title = moment.toLocaleString();
  }
}

/* A row of links that is wider than a phone begins at the chosen one; the page itself stays where it is. */
function showChosen(root = document) {
  for (const item of root.querySelectorAll(".top nav [aria-current], .chips [aria-current]")) {
    const [chosen, row] = [item, item.parentElement].map((part) => part.getBoundingClientRect());
    item.parentElement.scrollLeft += chosen.left + chosen.width / 2 - row.left - row.width / 2;
  }
}

function offerCopies() {
  if (!navigator.clipboard) return; // only on https and on this machine
  for (const button of document.querySelectorAll("button[data-copy]")) {
    button.hidden = false;
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent);
      button.textContent = "Copied";
      setTimeout(() => (button.textContent = "Copy"), 2_000);
    });
  }
}

document.addEventListener("change", (event) => {
  const name = event.target.dataset?.all;
  if (!name) return;
  for (const box of document.querySelectorAll(`input[type=checkbox][name="${name}"]`)) box.checked = event.target.checked;
});

document.addEventListener("keydown", (event) => {
  // A menu of one action closes as menus do.
  const open = event.key === "Escape" && document.activeElement?.closest("details.action[open]");
  if (open) {
    open.open = false;
    open.querySelector("summary").focus();
  }
});

// Before a part is in place, else its times would be seen as the server wrote them for a moment.
document.body.addEventListener("htmx:oobBeforeSwap", ({ detail: { fragment } }) => {
  tick(fragment);
  tickWhatGoesOn(fragment);
});
document.body.addEventListener("htmx:load", ({ detail: { elt } }) => {
  tick(elt);
  tickWhatGoesOn(elt);
  showChosen(elt);
});
// Filters take a phone's whole first screen; elsewhere there is room.
if (matchMedia("(min-width: 901px)").matches) document.querySelectorAll("details[data-wide]").forEach((item) => (item.open = true));
setInterval(tick, 10_000);
setInterval(tickWhatGoesOn, 1_000);
tick();
tickWhatGoesOn();
showChosen();
offerCopies();
