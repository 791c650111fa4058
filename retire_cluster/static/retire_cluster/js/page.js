/* Comforts of every page: times in the reader's own zone and growing older, copying, choosing all of a list. */

const UNITS = [
  ["day", 86_400],
  ["hour", 3_600],
  ["minute", 60],
  ["second", 1],
];
const ages = new Intl.RelativeTimeFormat("en", { style: "short", numeric: "always" });

function age(moment) {
  const seconds = (moment - Date.now()) / 1000;
  if (Math.abs(seconds) < 5) return "just now";
  const [unit, size] = UNITS.find(([, most]) => Math.abs(seconds) >= most) ?? UNITS.at(-1);
  return ages.format(Math.trunc(seconds / size), unit).replace(".", "");
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
setInterval(tick, 10_000);
tick();
offerCopies();
