// What the pickers, the buttons and the pointer do.
async function load() {
  page = JSON.parse(await inflate("gradscope-data"));
  const library = document.createElement("script");
  library.textContent = await inflate("gradscope-library");
  document.head.append(library);
}

function fillQuantities(run) {
  const known = Object.keys(page.quantities);
  const kept = known.filter((name) => run.grids[name]);
  if (!run.grids[state.quantity]) state.quantity = kept[0] ?? "";
  fill(at("quantity"), kept.map((name) => [name, `${page.quantities[name].label} (${name})`]), state.quantity);
}

/** Unpack what is picked, fill the pickers with what there is, and draw. */
async function pick() {
  const run = page.runs[state.run];
  fillQuantities(run);
  const before = shown?.grid.names[state.layer];
  shown = state.quantity ? unpack(run, state.quantity, scaleNow()) : null;
  if (shown) {
    state.layer = Math.max(shown.grid.names.indexOf(before), 0);
    fill(at("layer"), shown.grid.names.map((name, i) => [String(i), name]), String(state.layer));
  }
  if (!state.axis) state.axis = shown?.columns.is_log ? "log" : "linear";
  at("axis").value = state.axis;
  for (const part of document.querySelectorAll("[data-run]")) part.hidden = part.dataset.run !== String(state.run);
  for (const id of ["quantity", "colours", "layer"]) if (at(id)) at(id).parentElement.hidden = !shown;
  at("controls").hidden = !shown && !run.curves.length && page.runs.length < 2;
  explain();
  await draw();
}

function showSteps(first, last) {
  const pad = Math.max((last - first) * 0.05, 5);
  const ends = [Math.max(first - pad, 0.5), last + pad];
  Plotly.relayout(at("plot"), { "xaxis.range": state.axis === "log" ? ends.map(Math.log10) : ends });
  at("picture").scrollIntoView({ behavior: "smooth" });
}

function drawLosses() {
  const series = page.runs.map((run) => ({ run, curve: run.curves[0] })).filter(({ curve }) => curve);
  at("losses").parentElement.hidden = !series.length;
  if (!series.length) return Promise.resolve();
  const lines = series.map(({ run, curve }, i) => ({ type: "scatter", mode: curve.step.length < 40 ? "lines+markers" : "lines",
    x: curve.step, y: curve.value, name: plain(run.name), opacity: 0.85,
    line: { color: LINES[i % LINES.length], dash: DASHES[Math.floor(i / LINES.length) % DASHES.length], width: 1.3 },
    hovertemplate: "<b>%{fullData.name}</b><br>step %{x:,d}<br>%{y:.4g}<extra></extra>" }));
  return Plotly.newPlot(at("losses"), lines, {
    height: 300 + 19 * Math.ceil(lines.length / 2), font: FONT, hovermode: "closest", margin: { l: 62, r: 20, t: 30, b: 44 },
    hoverlabel: { bgcolor: "#fff", bordercolor: "#5a5a5a", align: "left", font: FONT }, showlegend: true,
    legend: { orientation: "h", y: -0.2, yanchor: "top" },
    annotations: [{ text: plain(series[0].curve.label), showarrow: false, xref: "paper", yref: "paper", x: 0, y: 1,
      xanchor: "left", yanchor: "bottom", font: { size: 12.5 } }],
    xaxis: { type: state.axis, title: { text: "step" }, tickformat: ",~r", showgrid: false, zeroline: false, ticks: "outside",
      ...(state.axis === "log" ? { dtick: 1 } : {}) },
    yaxis: { type: isWide(series.map(({ curve }) => curve)) ? "log" : "linear", exponentformat: "power", gridcolor: "#ececec",
      zeroline: false, nticks: 6 },
  }, CONFIG);
}

function listen() {
  at("run")?.addEventListener("change", (event) => { state.run = Number(event.target.value); pick(); });
  at("colours")?.addEventListener("change", (event) => { state.colours = event.target.value; pick(); });
  at("quantity").addEventListener("change", (event) => { state.quantity = event.target.value; pick(); });
  at("layer").addEventListener("change", (event) => { state.layer = Number(event.target.value); draw(); });
  at("axis").addEventListener("change", (event) => { state.axis = event.target.value; draw(); });
  at("reset").addEventListener("click", () => {
    Plotly.relayout(at("plot"), { "xaxis.range": stepRange(), ...(shown && { "yaxis2.range": [-0.5, shown.rows.length - 0.5] }) });
  });
  for (const button of document.querySelectorAll("[data-first]")) {
    button.addEventListener("click", () => showSteps(Number(button.dataset.first), Number(button.dataset.last)));
  }
  let wasNarrow = at("plot").clientWidth < 640;
  window.addEventListener("resize", () => {
    const isNarrow = at("plot").clientWidth < 640;
    if (isNarrow !== wasNarrow) draw();
    wasNarrow = isNarrow;
  });
}

async function main() {
  if (typeof DecompressionStream === "undefined") {
    complain("This browser is too old to draw the picture: it cannot unpack gzip (any browser of 2023 or later can).");
    return;
  }
  await load();
  await pick();
  if (at("losses")) await drawLosses();
  listen();
  document.body.dataset.ready = "yes";
}

main().catch((error) => {
  complain(`The picture could not be drawn: ${error.message}`);
  throw error;
});
