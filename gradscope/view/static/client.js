"use strict";
// What all parts of the live page use: the state in the address, questions to the server, texts, colours.
const LISTS = ["runs", "hide"];
const view = { runs: [], hide: [], search: "", status: "", group: "", sort: "", quantity: "", by: "", layer: "", axis: "",
  name: "", one: "", x: "", smooth: "", logy: "", logx: "", first: "", second: "", what: "", theme: "" };

function readAddress() {
  const given = new URLSearchParams(location.hash.slice(1));
  for (const key of Object.keys(view)) {
    const text = given.get(key) ?? "";
    view[key] = LISTS.includes(key) ? text.split(".").filter(Boolean) : text;
  }
}

/** Write the state into the address; a new selection can be gone back from. */
function writeAddress(isNew = false) {
  const kept = new URLSearchParams();
  for (const [key, value] of Object.entries(view)) {
    if (value.length) kept.set(key, Array.isArray(value) ? value.join(".") : value);
  }
  const address = `#${kept}`;
  if (address === location.hash || (address === "#" && !location.hash)) return;
  history[isNew ? "pushState" : "replaceState"](null, "", address === "#" ? location.pathname + location.search : address);
}

/** Ask the server; what it refuses becomes an error with its words. */
async function ask(kind, parameters, signal) {
  const kept = new URLSearchParams(Object.entries(parameters).filter(([, value]) => value !== "" && value !== undefined));
  const response = await fetch(`api/${kind}?${kept}`, { signal });
  const text = await response.text();
  let answer;
  try { answer = JSON.parse(text); } catch { throw new Error(text.slice(0, 200) || response.statusText); }
  if (answer.error) throw new Error(answer.error);
  return answer;
}

/** One question of a kind at a time: while it is under way, only the newest next one waits. */
function follower(work) {
  let isBusy = false, isWaiting = false, last = 0;
  return async function follow() {
    if (isBusy) { isWaiting = true; return; }
    isBusy = true;
    const begun = performance.now();
    try { await work(); } catch (error) { if (error.name !== "AbortError") complain(error.message); }
    last = performance.now() - begun;
    // A run that takes long to read is read less often.
    setTimeout(() => { isBusy = false; if (isWaiting) { isWaiting = false; follow(); } }, Math.min(2 * last, 5000));
  };
}

function make(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in made) made[name] = value; else made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

const shownNumber = (v, digits = 4) => v === null || v === undefined ? "–" : Number.isInteger(v) ? String(v)
  : Math.abs(v) >= 1e-3 && Math.abs(v) < 1e5 ? String(Number(v.toPrecision(digits))) : v.toExponential(2);
const shownTime = (s) => s === null || s === undefined ? "–" : s < 60 ? `${s.toFixed(s < 10 ? 1 : 0)} s`
  : s < 3600 ? `${Math.floor(s / 60)} min ${Math.floor(s % 60)} s` : `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;

function isDark() {
  return (view.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
}

/** A line of "#0072b2" can hardly be seen on black. */
const BRIGHTER = { "#000000": "#e6e6e6", "#0072b2": "#4aa3df" }, ON_WHITE = [...LINES];

function paint() {
  document.documentElement.dataset.theme = isDark() ? "dark" : "light";
  ON_WHITE.forEach((colour, i) => { LINES[i] = isDark() ? BRIGHTER[colour] ?? colour : colour; });
}

/** The report's layout in the colours of the theme. */
look = (made) => {
  if (!isDark()) return made;
  const [ink, page, line] = ["#e6e6e6", "#17191c", "#33363b"];
  Object.assign(made, { paper_bgcolor: page, plot_bgcolor: page, font: { ...made.font, color: ink } });
  made.hoverlabel = { ...made.hoverlabel, bgcolor: "#24272c", bordercolor: "#a4a4a4", font: { ...FONT, color: ink } };
  for (const name of Object.keys(made).filter((key) => /^[xy]axis/.test(key))) {
    Object.assign(made[name], { gridcolor: line, linecolor: "#70747a", tickcolor: "#70747a" });
  }
  return made;
};

const lineColour = (i) => LINES[i % LINES.length];

function save(name, text) {
  const link = make("a", { download: name, href: URL.createObjectURL(new Blob([text], { type: "text/csv" })) });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

/** Cells that a spreadsheet would run as a formula are kept as text. */
function csv(rows) {
  const cell = (value) => {
    if (value === null || value === undefined || Number.isNaN(value)) return "";
    if (typeof value === "number") return String(value);
    const text = /^[=+\-@\t\r]/.test(value) ? "'" + value : String(value);
    return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  return rows.map((row) => row.map(cell).join(",")).join("\n") + "\n";
}

function savePicture(id, name) {
  const { offsetWidth: width, offsetHeight: height } = at(id);
  return Plotly.downloadImage(at(id), { format: "png", filename: name, width, height, scale: 2 });
}
