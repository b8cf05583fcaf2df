"use strict";
// Several runs: curves with mean and band by group, one layer across runs, and the map of a difference.
let drawnCurves = null;
let namesOf = "", byLayer = [];

const nameOf = (key) => rows.get(key)?.name ?? key;
const colourOf = (key) => lineColour(view.runs.indexOf(key));
const isSeen = (key) => rows.has(key) && !view.hide.includes(key);

const followMany = follower(async () => {
  const keys = view.runs.filter((key) => rows.has(key) && !rows.get(key).is_blank);
  if (keys.length < 2) return;
  await fillNames(keys);
  const seen = keys.filter(isSeen);
  drawLegend(keys);
  if (seen.length) {
    const answer = await ask("curves", { runs: seen.join("."), name: view.name || "loss", layer: view.one, x: view.x, smooth: view.smooth,
      group: view.group, points: Math.round(at("many").clientWidth), at: revisionOf(seen) });
    clearProblem();
    await drawCurves(answer);
  } else { at("curves").hidden = true; }
  await drawDifference(seen);
  at("many").dataset.drawn = seen.join(".");
});

/** The group of a run is the server's, but a changed table must not be answered from its cache. */
const revisionOf = (keys) => String(Math.max(...keys.map((key) => rows.get(key).revision)));

async function fillNames(keys) {
  const mark = keys.join(".");
  if (namesOf !== mark || !byLayer.length) {
    byLayer = (await ask("names", { runs: mark, at: revisionOf(keys) })).choices;
    namesOf = mark;
  }
  const scalars = [...new Set(keys.flatMap((key) => rows.get(key).scalars))].filter((name) => name !== "wall_time").sort(
    (a, b) => (b.includes("loss") - a.includes("loss")) || (b.includes("accuracy") - a.includes("accuracy")) || a.localeCompare(b));
  refill(at("name"), [...scalars.map((name) => [name, name]), ...byLayer.map(([name, label]) => [name, `one layer: ${label} (${name})`])], view.name || "loss");
  refill(at("what"), byLayer.map(([name, label]) => [name, `${label} (${name})`]), view.what || byLayer[0]?.[0] || "");
}

function drawLegend(keys) {
  const scroll = at("legend").scrollTop;
  at("legend").replaceChildren(...keys.map((key) => {
    const swatch = make("span", { className: "swatch" });
    swatch.style.background = colourOf(key);
    const button = make("button", { type: "button", title: `${nameOf(key)}: click to hide, Alt-click to show alone` }, swatch, nameOf(key));
    button.setAttribute("aria-pressed", String(isSeen(key)));
    button.addEventListener("click", (event) => {
      if (event.altKey) view.hide = view.hide.length === keys.length - 1 && isSeen(key) ? [] : keys.filter((k) => k !== key);
      else view.hide = view.hide.includes(key) ? view.hide.filter((k) => k !== key) : [...view.hide, key];
      writeAddress();
      drawLegend(keys);
      followMany();
    });
    return button;
  }));
  at("legend").scrollTop = scroll;
}

function band(x, low, high, colour, axis = {}) {
  const common = { type: "scatter", x, mode: "lines", line: { width: 0 }, hoverinfo: "skip", showlegend: false, ...axis };
  return [{ ...common, y: low }, { ...common, y: high, fill: "tonexty", fillcolor: `${colour}33` }];
}

async function drawCurves(answer) {
  at("curves").hidden = !answer.series.length;
  drawnCurves = answer;
  at("layers").hidden = !answer.layers.length;
  if (answer.layers.length) refill(at("one-layer"), answer.layers.map((name) => [name, name]), view.one || answer.layers[0]);
  const isGrouped = answer.groups.length > 0;
  const unit = { epoch: "epoch", time: "seconds" }[view.x] ?? "step";
  const lines = answer.series.flatMap((one) => {
    const colour = isGrouped ? "#888888" : colourOf(one.key);
    const main = { type: "scatter", mode: one.x.length < 40 ? "lines+markers" : "lines", x: one.x, y: one.y, name: plain(nameOf(one.key)),
      opacity: isGrouped ? 0.3 : 0.9, line: { color: colour, width: isGrouped ? 0.8 : 1.5 }, marker: { size: 4 }, showlegend: false,
      hovertemplate: `<b>%{fullData.name}</b><br>${unit} %{x:,.6~g}<br>%{y:.4g}<extra></extra>` };
    return one.low && !isGrouped && answer.series.length <= 12 ? [...band(one.x, one.low, one.high, colour), main] : [main];
  });
  answer.groups.forEach((group, i) => {
    const colour = lineColour(i);
    lines.push(...band(group.x, group.low, group.high, colour), { type: "scatter", mode: "lines", x: group.x, y: group.y,
      name: `${plain(group.name)}, mean of ${group.n}`, line: { color: colour, width: 2.4 },
      hovertemplate: `<b>%{fullData.name}</b><br>${unit} %{x:,.6~g}<br>%{y:.4g}<extra></extra>` });
  });
  const title = plain(answer.label || answer.name) + (answer.layers.length ? `, <b>${plain(view.one || answer.layers[0])}</b>` : "");
  if (answer.series.length) await Plotly.react(at("curves"), lines, look({ height: 420, font: FONT, hovermode: "closest", paper_bgcolor: "#fff", plot_bgcolor: "#fff",
    margin: { l: 70, r: 20, t: isGrouped ? 54 : 34, b: 44 }, showlegend: isGrouped, legend: { orientation: "h", x: 1, xanchor: "right", y: 1, yanchor: "bottom" },
    hoverlabel: { bgcolor: "#fff", bordercolor: "#5a5a5a", align: "left", font: FONT, namelength: -1 },
    annotations: [{ text: title, showarrow: false, xref: "paper", yref: "paper", x: 0, y: 1, xanchor: "left", yanchor: "bottom", font: { size: 12.5 } }],
    xaxis: { type: view.logx ? "log" : "linear", title: { text: unit }, showgrid: false, zeroline: false, ticks: "outside", uirevision: view.x + view.logx },
    yaxis: { type: view.logy ? "log" : "linear", gridcolor: "#ececec", zeroline: false, exponentformat: "power", nticks: 7,
      uirevision: answer.name + view.one + view.logy } }), CONFIG);
  const reasons = Map.groupBy(Object.entries(answer.lacking), ([, why]) => why);
  const lacking = [...reasons].map(([why, runs]) => `${runs.length > 3 ? `${runs.length} runs: each` : runs.map(([key]) => nameOf(key)).join(", ")} ${why}`);
  at("lacking").textContent = [isGrouped ? "Bands: one standard deviation over the runs of a group." : "",
    lacking.length ? `Not drawn: ${lacking.slice(0, 4).join("; ")}${lacking.length > 4 ? ` and ${lacking.length - 4} more` : ""}.` : ""].join(" ");
}

async function drawDifference(seen) {
  const choices = seen.map((key) => [key, nameOf(key)]);
  const first = seen.includes(view.first) ? view.first : seen[0] ?? "";
  const second = seen.includes(view.second) && view.second !== first ? view.second : seen.find((key) => key !== first) ?? "";
  refill(at("first"), choices, first);
  refill(at("second"), choices, second);
  at("difference").hidden = !second || !byLayer.length;
  at("difference-note").textContent = second ? "" : "Two runs that are not hidden can be subtracted.";
  if (at("difference").hidden) return;
  let answer;
  try {
    answer = await ask("difference", { runs: `${first}.${second}`, quantity: at("what").value, columns: Math.round(at("many").clientWidth) });
  } catch (error) {
    at("difference").hidden = true;
    at("difference-note").textContent = error.message;
    return;
  }
  page = answer;
  opened = "";
  Object.assign(state, { run: 0, quantity: answer.quantity, layer: 0, colours: "all" });
  shown = unpack(answer.runs[0], state.quantity, scaleNow());
  state.axis = shown.columns.is_log ? "log" : "linear";
  const whole = layout();
  const height = mapHeight();
  const made = { ...whole, height: height + 98, yaxis2: { ...whole.yaxis2, domain: [0, 1] }, xaxis: { ...whole.xaxis, anchor: "y2" },
    annotations: [{ ...whole.annotations[0], y: 1 }] };
  for (const name of ["yaxis", "yaxis3"]) delete made[name];
  const [map, bar] = mapTraces();
  Object.assign(bar.marker.colorbar, { y: 0.5, len: 1 });
  await Plotly.react(at("difference"), [map, bar], look(made), CONFIG);
  at("difference-note").textContent = `${page.quantities[state.quantity].formula}. A is ${nameOf(first)}, B is ${nameOf(second)}; the steps and rows that both recorded.`;
}

function saveCurves() {
  if (!drawnCurves) return;
  const unit = view.x || "step", found = [["series", unit, drawnCurves.name, "low", "high"]];
  const add = (name, { x, y, low, high }) => x.forEach((place, i) => found.push([name, place, y[i], low?.[i], high?.[i]]));
  drawnCurves.series.forEach((one) => add(nameOf(one.key), one));
  drawnCurves.groups.forEach((group) => add(`${group.name}, mean of ${group.n}`, group));
  save(`${drawnCurves.name}.csv`, csv(found));
}

function fillMany() {
  at("x").value = view.x || "step";
  at("smooth").value = view.smooth || "0";
  at("logy").checked = view.logy === "1";
  at("logx").checked = view.logx === "1";
}

function listenToMany() {
  const bind = (id, key, read = (target) => target.value) => at(id).addEventListener("change", (event) => {
    view[key] = read(event.target);
    if (key === "name") view.one = "";
    writeAddress();
    followMany();
  });
  const tick = (target) => target.checked ? "1" : "";
  bind("name", "name"); bind("one-layer", "one"); bind("x", "x"); bind("smooth", "smooth"); bind("logy", "logy", tick); bind("logx", "logx", tick);
  bind("first", "first"); bind("second", "second"); bind("what", "what");
  at("many-csv").addEventListener("click", saveCurves);
  at("many-png").addEventListener("click", () => savePicture("curves", drawnCurves?.name || "curves"));
}
