"use strict";
// One run: its map, its scalars, its health and its configuration, following the training.
const BY = ["weight", "param", "layer", "stage", "layer_type"];
let opened = ""; // the run whose map is drawn
let toldAt = 0, toldOf = "";

const followRun = follower(async () => {
  const key = view.runs.length === 1 ? view.runs[0] : "";
  if (!key || !rows.has(key)) return;
  const answer = await ask("map", { runs: key, quantity: view.quantity, by: view.by, columns: Math.round(at("single").clientWidth) });
  if (view.runs[0] !== key || view.runs.length !== 1) return;
  clearProblem();
  await drawRun(key, answer);
  const isEnded = rows.get(key).status !== "live";
  if (toldOf !== key + rows.get(key).status || performance.now() - toldAt > (isEnded ? 1e12 : 10000)) await tell(key);
});

async function drawRun(key, answer) {
  const isNew = opened !== key;
  page = answer;
  opened = key;
  Object.assign(state, { run: 0, quantity: Object.keys(answer.quantities)[0] ?? "", colours: "all" });
  shown = state.quantity ? unpack(answer.runs[0], state.quantity, scaleNow()) : null;
  refill(at("quantity"), answer.choices.map(([name, label]) => [name, `${label} (${name})`]), answer.quantity);
  refill(at("by"), BY.map((name) => [name, name.replace("_", " ")]), view.by || BY[0]);
  if (shown) {
    state.layer = Math.max(shown.grid.names.indexOf(view.layer), 0);
    refill(at("layer"), shown.grid.names.map((name, i) => [String(i), name]), String(state.layer));
  }
  state.axis = view.axis || (shown?.columns.is_log ? "log" : "linear");
  at("axis").value = state.axis;
  for (const id of ["quantity", "by", "layer"]) at(id).parentElement.hidden = !shown;
  if (isNew && at("plot").on) Plotly.purge(at("plot"));
  const isFirst = !at("plot").on;
  explain();
  await draw();
  if (isFirst && at("plot").on) {
    at("plot").on("plotly_click", () => { view.layer = shown?.grid.names[state.layer] ?? ""; writeAddress(); });
  }
  await drawScalars(answer.scalars);
  at("single").dataset.drawn = `${key} ${rows.get(key)?.revision ?? ""}`;
}

/** A constant stands in the middle between zero and twice itself. */
function levelRange(curves) {
  const values = curves.flatMap(({ value }) => value).filter((v) => v !== null);
  return values.length && values[0] > 0 && values.every((v) => v === values[0]) ? { range: [0, 2 * values[0]] } : {};
}

/** Accuracy, total norm and learning rate, one below the other. */
async function drawScalars(scalars) {
  const panels = [];
  for (const curve of scalars) {
    const kind = curve.name.endsWith("_accuracy") ? "accuracy" : curve.name;
    const known = panels.find((panel) => panel.kind === kind);
    if (known) known.curves.push(curve); else panels.push({ kind, title: kind === "accuracy" ? "accuracy" : curve.label, curves: [curve] });
  }
  at("scalars").hidden = !panels.length;
  if (!panels.length) return;
  const [height, gap] = [110, 36], inner = panels.length * height + (panels.length - 1) * gap;
  const made = { height: inner + 76, font: FONT, hovermode: "closest", margin: { l: leftMargin(false), r: 76, t: 30, b: 44 },
    paper_bgcolor: "#fff", plot_bgcolor: "#fff", annotations: [], showlegend: false, hoverlabel: { font: FONT },
    xaxis: { type: state.axis, title: { text: "step" }, showgrid: false, zeroline: false, ticks: "outside", uirevision: opened + state.axis,
      range: stepRange(), tickformat: ",~r", anchor: panels.length > 1 ? `y${panels.length}` : "y", ...(state.axis === "log" ? { dtick: 1 } : {}) } };
  const lines = panels.flatMap(({ curves, kind, title }, i) => {
    const axis = i ? `y${i + 1}` : "y", top = 1 - (i * (height + gap)) / inner;
    made[axis.replace("y", "yaxis")] = { domain: [Math.max(top - height / inner, 0), top], anchor: "x", gridcolor: "#ececec", zeroline: false,
      nticks: 4, exponentformat: "power", ...levelRange(curves), ...(kind !== "accuracy" && isWide(curves) ? LOG : { type: "linear" }), uirevision: opened };
    const names = curves.length < 2 ? "" : ": " + curves.map((curve, j) => `<span style="color:${lineColour(j)}">${plain(curve.name.replace("_accuracy", ""))}</span>`).join(", ");
    made.annotations.push({ text: plain(title) + names, showarrow: false, xref: "paper", yref: "paper", x: 0, y: top, xanchor: "left", yanchor: "bottom", font: { size: 12.5 } });
    return curves.map((curve, j) => ({ type: "scatter", x: curve.step, y: curve.value, yaxis: axis, name: plain(curve.name),
      mode: curve.group === "evaluation" ? "lines+markers" : "lines", marker: { size: 5 }, line: { color: lineColour(j), width: 1.4 },
      hovertemplate: "%{fullData.name}<br>step %{x:,d}<br>%{y:.4g}<extra></extra>" }));
  });
  await Plotly.react(at("scalars"), lines, look(made), CONFIG);
}

async function tell(key) {
  const story = await ask("about", { runs: key, at: String(rows.get(key).revision) });
  if (view.runs[0] !== key) return;
  [toldAt, toldOf] = [performance.now(), key + rows.get(key).status];
  const none = make("p", { textContent: "No rule fired. That is no proof of health: a rule is silent where what it reads was not recorded." });
  at("findings").replaceChildren(...(story.findings.length ? story.findings.map(findingOf) : [none]));
  const parts = [["Run", story.facts], ["Last values", Object.entries(story.metrics)], ["Optimizer, last values", story.hyperparameters],
    ["Settings", story.configuration], ["Recorded", story.recorded]];
  at("facts").replaceChildren(...parts.filter(([, pairs]) => pairs.length).map(([title, pairs]) => make("div", {}, make("h3", { textContent: title }),
    make("table", {}, make("tbody", {}, ...pairs.map(([name, value]) => make("tr", {}, make("th", { textContent: name, scope: "row" }), make("td", { textContent: value }))))))));
}

function findingOf(finding) {
  const made = make("li", { className: finding.severity }, make("strong", { textContent: `${finding.severity}: ${finding.rule} ` }));
  if (finding.first_step !== null) {
    const steps = finding.first_step === finding.last_step ? `step ${whole(finding.first_step)}` : `steps ${whole(finding.first_step)} to ${whole(finding.last_step)}`;
    const button = make("button", { type: "button", textContent: `show ${steps}` });
    button.addEventListener("click", () => zoom(finding.first_step, finding.last_step));
    made.append(button);
  }
  made.append(make("p", { textContent: finding.message }));
  if (finding.layers) made.append(make("p", { className: "soft", textContent: `In ${finding.layers}.` }));
  if (finding.advice) made.append(make("p", { textContent: `Try first: ${finding.advice}` }));
  return made;
}

function zoom(first, last) {
  const pad = Math.max((last - first) * 0.05, 5), ends = [Math.max(first - pad, 0.5), last + pad];
  Plotly.relayout(at("plot"), { "xaxis.range": state.axis === "log" ? ends.map(Math.log10) : ends });
  at("single").scrollIntoView({ behavior: "smooth" });
}

function saveRun() {
  if (!shown) return;
  const head = ["row", ...Array.from(shown.first, (first, i) => first === shown.last[i] ? `step ${first}` : `steps ${first} to ${shown.last[i]}`)];
  save(`${state.quantity}.csv`, csv([head, ...shown.rows.map((row, i) => [shown.grid.names[i], ...row.value])]));
}

function listenToRun() {
  at("quantity").addEventListener("change", (event) => { view.quantity = event.target.value; writeAddress(); followRun(); });
  at("by").addEventListener("change", (event) => { view.by = event.target.value; writeAddress(); followRun(); });
  at("axis").addEventListener("change", (event) => { view.axis = event.target.value; writeAddress(); followRun(); });
  at("layer").addEventListener("change", (event) => {
    state.layer = Number(event.target.value);
    view.layer = shown.grid.names[state.layer];
    writeAddress();
    draw();
  });
  at("reset").addEventListener("click", () => {
    Plotly.relayout(at("plot"), { "xaxis.range": stepRange(), ...(shown && { "yaxis2.range": [-0.5, shown.rows.length - 0.5] }) });
  });
  at("csv").addEventListener("click", saveRun);
  at("png").addEventListener("click", () => savePicture("plot", state.quantity || "run"));
}
