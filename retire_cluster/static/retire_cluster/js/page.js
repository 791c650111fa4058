/* Comforts of every page: times in the reader's own zone and growing older, copying, choosing all of a list. */

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

document.body.addEventListener("htmx:load", (event) => tick(event.detail.elt));
// Filters take a phone's whole first screen; elsewhere there is room.
if (matchMedia("(min-width: 901px)").matches) document.querySelectorAll("details[data-wide]").forEach((item) => (item.open = true));
document.querySelector(".top nav [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });
setInterval(tick, 10_000);
tick();
offerCopies();
