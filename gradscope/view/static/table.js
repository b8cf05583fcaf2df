"use strict";
// The table of runs: search, sort, group, select.
const rows = new Map(); // key -> what the server said of the run
const FIXED = [["name", "run"], ["status", "status"], ["step", "step"], ["loss", "loss"], ["accuracy", "accuracy"],
  ["duration", "duration"], ["health", "health"]];
const MAX_SETTINGS = 10, MAX_PICKED = 100;
const WORST = { error: 0, warning: 1, note: 2, fine: 3, unknown: 4 };
let visible = [], cursor = "", anchor = "";
const kept = new Map(); // key -> the row on the page: one that is clicked on must not be replaced meanwhile

/** Settings that are not the same in all runs. */
function differing() {
  const seen = new Map();
  const readable = [...rows.values()].filter((row) => row.status !== "unreadable");
  for (const row of readable) {
    for (const [name, value] of Object.entries(row.settings)) {
      if (!seen.has(name)) seen.set(name, { values: new Set(), n: 0 });
      seen.get(name).values.add(JSON.stringify(value));
      seen.get(name).n += 1;
    }
  }
  return [...seen].filter(([, { values, n }]) => values.size > 1 || n < readable.length).map(([name]) => name);
}

function cellOf(row, column) {
  if (column.startsWith("set:")) return row.settings[column.slice(4)];
  return column === "health" ? WORST[row.health?.worst] : row[column];
}

function textOf(row, column) {
  if (column === "duration") return shownTime(row.duration);
  if (column === "accuracy") return row.accuracy === null || row.accuracy === undefined ? "–" : `${(100 * row.accuracy).toFixed(1)} %`;
  if (column === "step") return row.step === undefined ? "–" : whole(row.step);
  if (column === "health") return healthText(row.health);
  const value = cellOf(row, column);
  return typeof value === "number" ? shownNumber(value) : String(value ?? "–");
}

function healthText(health) {
  if (!health) return "";
  const counts = ["error", "warning", "note"].filter((kind) => health[kind]).map((kind) =>
    `${health[kind]} ${kind}${health[kind] > 1 ? "s" : ""}`);
  return counts.join(", ") || (health.worst === "fine" ? "no rule fired" : "unknown");
}

/** Turn the search into a test; a broken expression is looked for as it is. */
function searcher() {
  if (!view.search) return () => true;
  let pattern;
  try { pattern = new RegExp(view.search, "i"); } catch { pattern = null; }
  at("search").setCustomValidity(pattern ? "" : "not a regular expression: searched as plain text");
  const fits = (text) => pattern ? pattern.test(text) : text.toLowerCase().includes(view.search.toLowerCase());
  return (row) => fits(row.name) || fits(row.status) || Object.entries(row.settings).some(([k, v]) => fits(`${k}=${v}`));
}

function order(a, b) {
  const [column, isDown] = [view.sort.replace(/^-/, "") || "name", view.sort.startsWith("-")];
  const [x, y] = [cellOf(a, column), cellOf(b, column)];
  const isMissing = [x, y].map((v) => v === undefined || v === null);
  if (isMissing[0] || isMissing[1]) return isMissing[0] - isMissing[1];
  const way = typeof x === "number" && typeof y === "number" ? x - y
    : String(x).localeCompare(String(y), undefined, { numeric: true });
  return (isDown ? -way : way) || a.name.localeCompare(b.name, undefined, { numeric: true });
}

function drawTable() {
  const settings = differing();
  const columns = [...FIXED, ...settings.slice(0, MAX_SETTINGS).map((name) => [`set:${name}`, name])];
  drawPickers(settings);
  const heads = JSON.stringify([columns, columns.map(([column]) => isNumeric(column)), view.sort, rows.size > 0]);
  if (at("table").dataset.heads !== heads) {
    at("table").tHead.replaceChildren(make("tr", {}, make("th"), ...columns.map(headOf)));
    at("table").dataset.heads = heads;
    kept.clear();
  }
  const fits = searcher();
  visible = [...rows.values()].filter((row) => fits(row) && (!view.status || row.status === view.status)).sort(order);
  const made = [];
  for (const [group, members] of grouped(visible)) {
    if (group !== "") made.push(make("tr", { className: "group" }, make("td", { colSpan: columns.length + 1 }, `${group} (${members.length})`)));
    made.push(...members.map((row) => rowOf(row, columns)));
  }
  visible = [...grouped(visible).values()].flat();
  const body = at("table").tBodies[0];
  if (body.rows.length !== made.length || made.some((row, i) => row !== body.rows[i])) body.replaceChildren(...made);
  for (const key of kept.keys()) if (!rows.has(key)) kept.delete(key);
  at("count").textContent = `${visible.length === rows.size ? "" : `${visible.length} of `}${rows.size} run${rows.size === 1 ? "" : "s"}`
    + (view.runs.length ? `, ${view.runs.length} selected` : "")
    + (settings.length > MAX_SETTINGS ? `; ${settings.length - MAX_SETTINGS} more settings differ` : "");
  at("begin").hidden = rows.size > 0;
  at("table").parentElement.hidden = rows.size === 0;
}

function grouped(list) {
  if (!view.group) return new Map([["", list]]);
  const found = new Map();
  for (const row of list) {
    const name = `${view.group} = ${row.settings[view.group] ?? "–"}`;
    if (!found.has(name)) found.set(name, []);
    found.get(name).push(row);
  }
  return new Map([...found].sort(([a], [b]) => a.localeCompare(b, undefined, { numeric: true })));
}

function isNumeric(column) {
  return column !== "health" && [...rows.values()].some((row) => typeof cellOf(row, column) === "number");
}

function headOf([column, title]) {
  const isBy = view.sort.replace(/^-/, "") === column;
  const arrow = isBy ? (view.sort.startsWith("-") ? " ↓" : " ↑") : "";
  const head = make("th", { className: isNumeric(column) ? "number" : "", textContent: title + arrow, tabIndex: 0, scope: "col", title: `sort by ${title}` });
  head.setAttribute("aria-sort", !isBy ? "none" : view.sort.startsWith("-") ? "descending" : "ascending");
  const sort = () => { view.sort = isBy && !view.sort.startsWith("-") ? `-${column}` : column; writeAddress(); drawTable(); };
  head.addEventListener("click", sort);
  head.addEventListener("keydown", (event) => { if (event.key === "Enter") sort(); });
  return head;
}

/** The row of a run; made once, then only its texts change. */
function rowOf(row, columns) {
  const isPicked = view.runs.includes(row.key);
  if (!kept.has(row.key)) {
    const box = make("input", { type: "checkbox", tabIndex: -1 });
    box.setAttribute("aria-label", `select ${row.name}`);
    const made = make("tr", {}, make("td", {}, box), ...columns.map(() => make("td")));
    made.dataset.key = row.key;
    kept.set(row.key, made);
  }
  const made = kept.get(row.key);
  made.className = (isPicked ? "picked " : "") + (row.key === cursor ? "at" : "");
  made.cells[0].firstChild.checked = isPicked;
  columns.forEach(([column], i) => {
    const cell = made.cells[i + 1], text = textOf(row, column);
    if (cell.textContent !== text) cell.textContent = text;
    cell.className = classOf(row, column);
    if (column === "health") cell.title = row.health?.text ?? "";
    if (column === "name") cell.title = row.error ? `${row.name}\n${row.error}` : row.name;
  });
  return made;
}

function classOf(row, column) {
  if (column === "status") return `status ${/^[a-z]+$/.test(row.status) ? row.status : ""}`;
  if (column === "health") return row.health?.worst ?? "";
  return typeof cellOf(row, column) === "number" ? "number" : "";
}

function drawPickers(settings) {
  const statuses = [...new Set([...rows.values()].map((row) => row.status))].sort();
  if (view.status && !statuses.includes(view.status)) statuses.push(view.status);
  const groups = view.group && !settings.includes(view.group) ? [...settings, view.group] : settings;
  refill(at("status"), [["", "all"], ...statuses.map((name) => [name, name])], view.status);
  refill(at("group"), [["", "nothing"], ...groups.map((name) => [name, name])], view.group);
}

/** Fill a picker only when its choices changed: an open one would close. */
function refill(select, choices, chosen) {
  const mark = JSON.stringify(choices);
  if (select.dataset.mark !== mark) { fill(select, choices, chosen); select.dataset.mark = mark; }
  select.value = chosen;
}

function pickRun(key, { isMore = false, isRange = false } = {}) {
  if (isRange && anchor) {
    const [a, b] = [anchor, key].map((k) => visible.findIndex((row) => row.key === k)).sort((m, n) => m - n);
    view.runs = [...new Set([...view.runs, ...visible.slice(a, b + 1).map((row) => row.key)])];
  } else if (isMore) {
    view.runs = view.runs.includes(key) ? view.runs.filter((k) => k !== key) : [...view.runs, key];
  } else view.runs = [key];
  anchor = cursor = key;
  pickRuns(view.runs);
}

function pickRuns(keys) {
  view.runs = keys.slice(0, MAX_PICKED);
  view.hide = view.hide.filter((key) => view.runs.includes(key));
  writeAddress(true);
  drawTable();
  show();
}

function saveTable() {
  const settings = differing();
  const columns = [...FIXED.map(([column]) => column), ...settings.map((name) => `set:${name}`)];
  save("runs.csv", csv([columns.map((c) => c.replace(/^set:/, "")), ...visible.map((row) =>
    columns.map((c) => c === "health" ? row.health?.worst : cellOf(row, c)))]));
}

function listenToTable() {
  at("search").addEventListener("input", (event) => { view.search = event.target.value; writeAddress(); drawTable(); });
  at("status").addEventListener("change", (event) => { view.status = event.target.value; writeAddress(); drawTable(); });
  at("group").addEventListener("change", (event) => { view.group = event.target.value; writeAddress(); drawTable(); show(); });
  at("all").addEventListener("click", () => pickRuns(visible.map((row) => row.key)));
  at("none").addEventListener("click", () => pickRuns([]));
  at("csv-runs").addEventListener("click", saveTable);
  at("table").tBodies[0].addEventListener("click", (event) => {
    const key = event.target.closest("tr")?.dataset.key;
    if (!key) return;
    const isMore = event.target.type === "checkbox" || event.ctrlKey || event.metaKey;
    pickRun(key, { isMore, isRange: event.shiftKey });
  });
}
