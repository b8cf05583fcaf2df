"use strict";
// Beginning, news from the server, and keys.
let revision = -1, source = null, wasChanged = new Set();

const KEYS = [["/", "search"], ["j, k", "next, previous run"], ["Enter", "open the run"], ["x", "select or leave out the run"], ["Esc", "clear the selection"],
  ["l", "logarithmic axis"], ["d", "dark or light"], ["?", "this list"]];

function clearProblem() { at("problem").hidden = true; at("problem").textContent = ""; }

const followTable = follower(async () => {
  const answer = await ask("runs", { since: String(revision) });
  clearProblem();
  revision = answer.revision;
  const known = new Set(answer.keys);
  for (const key of [...rows.keys()]) if (!known.has(key)) { rows.delete(key); wasChanged.add(key); }
  for (const row of answer.rows) { rows.set(row.key, row); wasChanged.add(row.key); }
  const name = answer.folder.split(/[\\/]/).filter(Boolean).at(-1) ?? answer.folder;
  at("folder").textContent = name;
  at("folder").title = answer.folder;
  document.title = `${name} – gradscope view`;
  drawTable();
  const isConcerned = view.runs.some((key) => wasChanged.has(key));
  wasChanged = new Set();
  if (isConcerned) show();
  at("hint").hidden = rows.size === 0 || view.runs.some((key) => rows.has(key));
  document.body.dataset.ready = "yes";
});

function show() {
  const known = view.runs.filter((key) => rows.has(key));
  at("hint").hidden = rows.size === 0 || known.length > 0;
  at("single").hidden = known.length !== 1;
  at("many").hidden = known.length < 2;
  if (known.length === 1) {
    const row = rows.get(known[0]);
    at("title").textContent = `${row.name} · ${row.status} · ${row.is_blank ? "nothing is written yet" : `step ${whole(row.step ?? 0)}`}`;
    if (row.error) complain(`${row.name}: ${row.error}`); else if (!row.is_blank) followRun();
  }
  if (known.length > 1) {
    at("many-title").textContent = `${known.length} runs`;
    fillMany();
    followMany();
  }
}

function listenToServer() {
  source?.close();
  source = new EventSource("api/events");
  source.onmessage = () => followTable();
  source.onopen = () => { at("link").textContent = "following"; at("link").className = "soft on"; };
  source.onerror = () => {
    at("link").textContent = "not connected, trying again…";
    at("link").className = "soft";
    // Refused, as where too many listen: ask now and then instead.
    if (source.readyState === EventSource.CLOSED) setTimeout(() => { if (!document.hidden) { listenToServer(); followTable(); } }, 3000);
  };
}

function repaint() {
  paint();
  drawTable();
  show();
}

function move(by) {
  const at_ = visible.findIndex((row) => row.key === cursor);
  const next = visible[Math.min(Math.max(at_ + by, 0), visible.length - 1)];
  if (!next) return;
  cursor = next.key;
  drawTable();
  at("table").querySelector("tr.at")?.scrollIntoView({ block: "nearest" });
}

function onKey(event) {
  const { key, target } = event;
  if (key === "Escape" && target === at("search")) { target.blur(); return; }
  if (target.closest("input:not([type=checkbox]), select, dialog") || event.ctrlKey || event.metaKey || event.altKey) return;
  const does = {
    "/": () => at("search").focus(), "j": () => move(1), "k": () => move(-1), "ArrowDown": () => move(1), "ArrowUp": () => move(-1),
    "Enter": () => { if (cursor && target === document.body) pickRun(cursor); }, "x": () => { if (cursor) pickRun(cursor, { isMore: true }); },
    "Escape": () => pickRuns([]), "d": () => at("theme").click(), "?": () => at("help").click(),
    "l": () => { const box = at(at("many").hidden ? "axis" : "logy");
      if (box.type === "checkbox") box.click(); else { box.value = box.value === "log" ? "linear" : "log"; box.dispatchEvent(new Event("change")); } },
  }[key];
  if (!does || ((key === "ArrowDown" || key === "ArrowUp") && target !== document.body)) return;
  if (key !== "Enter") event.preventDefault();
  does();
}

function main() {
  readAddress();
  paint();
  at("search").value = view.search;
  at("keyboard").querySelector("tbody").append(...KEYS.map(([key, what]) => make("tr", {}, make("th", { textContent: key }), make("td", { textContent: what }))));
  listenToTable();
  listenToRun();
  listenToMany();
  at("theme").addEventListener("click", () => { view.theme = isDark() ? "light" : "dark"; writeAddress(); repaint(); });
  at("help").addEventListener("click", () => at("keyboard").showModal());
  document.addEventListener("keydown", onKey);
  const reread = () => { readAddress(); at("search").value = view.search; repaint(); };
  window.addEventListener("popstate", reread);
  // A browser opens few connections to one server: a tab that nobody sees leaves its own.
  document.addEventListener("visibilitychange", () => { if (document.hidden) source.close(); else listenToServer(); });
  followTable();
  listenToServer();
}

main();
