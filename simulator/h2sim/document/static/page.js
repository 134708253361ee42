"use strict";
// Every page: the theme, tables that sort, one chosen thing that is marked wherever it stands.
const $ = (query, root = document) => root.querySelector(query), $$ = (query, root = document) => [...root.querySelectorAll(query)];
const DATA = JSON.parse($("#data").textContent), redraws = [];
const colour = name => getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim();
const whole = number => Math.round(number).toLocaleString("en-US");
function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) if (name in node && name !== "list") node[name] = value; else node.setAttribute(name, value);
  node.append(...children);
  return node;
}
document.documentElement.classList.add("js");

const theme = $("#theme"), darkness = matchMedia("(prefers-color-scheme: dark)");
theme.hidden = false;
theme.onclick = () => {
  const root = document.documentElement, dark = root.dataset.theme ? root.dataset.theme === "dark" : darkness.matches;
  root.dataset.theme = dark ? "light" : "dark";
  redraws.forEach(draw => draw());
};
darkness.addEventListener("change", () => redraws.forEach(draw => draw()));

// Sorting: by the value behind a cell, or its text; a number's column begins with the largest.
const worth = cell => {
  if (!cell) return NaN;
  const text = cell.dataset.v ?? cell.textContent.trim(), number = Number(text.replaceAll(",", "").replace(/[%x]$/, ""));
  return text === "" || text === "-" ? NaN : Number.isFinite(number) ? number : text;
};
function compared(a, b) {
  const gone = Number.isNaN(a) - Number.isNaN(b);
  if (gone || Number.isNaN(a)) return gone;
  return typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), "en", {numeric: true});
}
function sort(table, column, header) {
  const body = table.tBodies[0], rows = [...body.rows], number = rows.some(row => typeof worth(row.cells[column]) === "number");
  const down = header.ariaSort ? header.ariaSort === "ascending" : number;
  $$("th", table).forEach(each => each.removeAttribute("aria-sort"));
  header.setAttribute("aria-sort", down ? "descending" : "ascending");
  const keyed = rows.map((row, index) => [worth(row.cells[column]), index, row]);
  keyed.sort((a, b) => {
    const unknown = Number.isNaN(a[0]) || Number.isNaN(b[0]), order = compared(a[0], b[0]);
    return (unknown || !down ? order : -order) || a[1] - b[1];
  });
  body.append(...keyed.map(each => each[2]));
}
function sortable(table) {
  if (!table.tHead || table.tBodies[0].rows.length < 2) return;
  [...table.tHead.rows[0].cells].forEach((header, column) => {
    if (!header.textContent) return;
    const button = make("button", {type: "button"}, ...header.childNodes);
    button.onclick = () => sort(table, column, header);
    header.replaceChildren(button);
  });
}
$$("main table").forEach(sortable);

// Bytes that a page holds deflated, in base64.
async function inflate(text) {
  const bytes = Uint8Array.from(atob(text), c => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate-raw"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

// Choosing: what has the key is marked, and the details of it stand in the panel.
const panel = $("aside"), followers = [];
let describe = () => null;  // a script's own words on what is chosen, where it has some
let chosen = "";
function choose(key, where) {
  chosen = key === chosen && where === "click" ? "" : key;
  $$(".on").forEach(node => node.classList.remove("on"));
  if (chosen) $$(`[data-key="${CSS.escape(chosen)}"], [href="#${CSS.escape(chosen)}"]`).forEach(node => node.classList.add("on"));
  if (panel) fill(chosen);
  if (where !== "address") history.replaceState(null, "", chosen ? "#" + chosen : location.pathname + location.search);
  followers.forEach(follow => follow(chosen));
}
const unchosen = panel ? $(".chosen", panel).cloneNode(true) : null;
function fill(key) {
  const details = key && document.getElementById(key), inner = unchosen.cloneNode(true), words = key && describe(key);
  if (words) {
    inner.replaceChildren(...words);
  } else if (details) {
    inner.replaceChildren(make("h2", {}, $("summary", details).textContent));
    for (const node of [...details.children].slice(1)) inner.append(node.cloneNode(true));
    $$("[id]", inner).forEach(node => node.removeAttribute("id"));
    $$(".on", inner).forEach(node => node.classList.remove("on"));
  }
  $(".chosen", panel).replaceWith(inner);
  panel.classList.toggle("open", Boolean(words || details));
}
if (panel) {
  panel.hidden = false;
  $(".close", panel).onclick = () => { const from = chosen; choose("", "panel"); $(`tr[data-key="${CSS.escape(from)}"] a`)?.focus(); };
}
document.addEventListener("click", event => {
  if (event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
  const link = event.target.closest("a[href^='#']"), row = event.target.closest("tr[data-key], article[data-key]");
  const href = link?.getAttribute("href") ?? link?.href?.baseVal, key = href ? href.slice(1) : row?.dataset.key;
  if (!key || (link && !document.getElementById(key)?.matches("details"))) return;
  if (event.target.closest("button, summary, input")) return;
  event.preventDefault();
  choose(key, "click");
});
document.addEventListener("keydown", event => {
  if (event.key === "Escape") { if (chosen) choose("", "key"); return; }
  const step = {ArrowDown: 1, ArrowUp: -1}[event.key], row = document.activeElement?.closest?.("tr[data-key]");
  if (!step || !row) return;
  event.preventDefault();
  let next = row;
  do next = step > 0 ? next.nextElementSibling : next.previousElementSibling; while (next?.hidden);
  if (next?.dataset.key) { $("a", next).focus(); choose(next.dataset.key, "key"); }
});
addEventListener("hashchange", () => fromAddress());
function fromAddress() {
  const key = decodeURIComponent(location.hash.slice(1));
  if (key && document.getElementById(key)?.matches("details")) choose(key, "address");
}
// What is under the pointer, in pictures that scripts draw.
const tip = make("div", {id: "tip", hidden: true});
document.body.append(tip);
function say(event, text) {
  tip.hidden = !text;
  if (!text) return;
  tip.textContent = text;
  tip.style.left = Math.max(4, Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 8)) + "px";
  tip.style.top = Math.max(4, Math.min(event.clientY + 16, innerHeight - tip.offsetHeight - 8)) + "px";
}
// Rows of one kind alone.
$$("[data-filter]").forEach(node => {
  const table = $("table", document.getElementById(node.dataset.filter)), column = Number(node.dataset.column);
  const rows = [...table.tBodies[0].rows], kinds = [...new Set(rows.map(row => row.cells[column].textContent))];
  const choice = make("select", {}, make("option", {value: "", textContent: `all ${rows.length}`}),
    ...kinds.map(kind => make("option", {value: kind, textContent: `${kind} (${rows.filter(row => row.cells[column].textContent === kind).length})`})));
  choice.onchange = () => rows.forEach(row => { row.hidden = choice.value !== "" && row.cells[column].textContent !== choice.value; });
  node.append(make("label", {}, node.dataset.words + " ", choice));
  node.hidden = false;
});
fromAddress();
