// From numbers to what plotly.js draws: traces, and panels on one step axis.
const LINES = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000"];
const DASHES = ["solid", "dash", "dot", "dashdot"];
const FONT = { family: 'system-ui, "Segoe UI", Roboto, sans-serif', size: 12, color: "#1a1a1a" };
const CONFIG = {
  displaylogo: false, showSendToCloud: false, showEditInChartStudio: false, showLink: false,
  plotlyServerURL: "", doubleClick: "reset", responsive: true,
  modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"],
};
/** A logarithmic y axis of a low panel: few enough numbers that they do not overlap. */
const LOG = { type: "log", nticks: 3 };
const HEIGHTS = { loss: 120, line: 130, gap: 34, top: 54, bottom: 44 };

let page = null; // what the page holds
const state = { run: 0, quantity: "", layer: 0, axis: "", colours: "all" };
let shown = null; // the picked quantity, unpacked

/** The scale of the picked quantity: that of all runs, or of this one. */
function scaleNow() {
  const own = page.runs[state.run].grids[state.quantity];
  return state.colours === "own" ? own.scale : page.quantities[state.quantity].scale;
}

/** The colours of a scale with a stretch of its own for each kind of no number. */
function colourScale(colours) {
  const to = (z) => (z - BOTTOM) / (1 - BOTTOM);
  const special = Object.values(SPECIAL).flatMap(([z, colour]) => [[to(z - 0.05), colour], [to(z + 0.05), colour]]);
  const steps = colours.map((colour, i) => [to(i / (colours.length - 1)), colour]);
  return [...special, [to(-0.05), colours[0]], ...steps];
}

function curveTraces(run) {
  return run.curves.flatMap((curve, i) => {
    const line = { color: LINES[i % LINES.length], width: 1.5 };
    const common = { x: curve.step, yaxis: "y", type: "scatter" };
    const band = curve.low === undefined ? [] : [
      { ...common, y: curve.low, mode: "lines", line: { width: 0 }, hoverinfo: "skip", showlegend: false },
      { ...common, y: curve.high, mode: "lines", line: { width: 0 }, fill: "tonexty",
        fillcolor: line.color + "40", hoverinfo: "skip", showlegend: false },
    ];
    const mode = curve.group === "evaluation" || curve.step.length < 40 ? "lines+markers" : "lines";
    return [...band, { ...common, y: curve.value, mode, line, marker: { size: 5 }, name: plain(curve.name),
      hovertemplate: "%{fullData.name}<br>step %{x:,d}<br>%{y:.4g}<extra></extra>" }];
  });
}

function mapTraces() {
  const scale = scaleNow();
  const place = placeOn(scale);
  const map = {
    type: "heatmap", x: shown.edges, y: shown.rows.map((_, row) => row), yaxis: "y2",
    z: shown.rows.map((row) => row.z), text: shown.rows.map((row) => row.text),
    hovertemplate: "%{text}<extra></extra>", zmin: BOTTOM, zmax: 1,
    colorscale: colourScale(scale.colours), showscale: false,
  };
  // The bar hangs on a trace without points, for the map's own colours hold more than the scale.
  const bar = {
    type: "scatter", mode: "markers", x: [null], y: [null], yaxis: "y2", showlegend: false, hoverinfo: "skip",
    marker: { cmin: 0, cmax: 1, color: [0], showscale: true,
      colorscale: scale.colours.map((colour, i) => [i / (scale.colours.length - 1), colour]),
      colorbar: { x: 1.01, xanchor: "left", thickness: 12, outlinewidth: 0, ticks: "outside", ticklen: 3,
        tickvals: scale.ticks.map(([value]) => place(value)), ticktext: scale.ticks.map(([, text]) => text),
        tickfont: { size: 11 }, xpad: 2, ypad: 0 } },
  };
  return [map, bar];
}

function layerTrace() {
  const isLog = scaleNow().kind === "log";
  const { value } = shown.rows[state.layer];
  const y = Array.from(value, (v) => Number.isFinite(v) && (v > 0 || !isLog) ? v : null);
  const x = Array.from(shown.count, (n, i) => n ? (shown.first[i] + shown.last[i]) / 2
    : (shown.edges[i] + shown.edges[i + 1]) / 2);
  const text = shown.rows[state.layer].text;
  return { type: "scatter", x, y, text, yaxis: "y3", mode: y.length < 60 ? "lines+markers" : "lines",
    line: { color: LINES[0], width: 1.2 }, marker: { size: 4 }, showlegend: false,
    hovertemplate: "%{text}<extra></extra>" };
}

/** Name as many rows as can be read. */
function rowTicks(from, to, height, isNarrow) {
  const last = shown.rows.length - 1;
  const [low, high] = [Math.max(Math.ceil(from), 0), Math.min(Math.floor(to), last)];
  const every = Math.max(Math.ceil(((high - low + 1) * 11.5) / height), 1);
  const tickvals = [];
  for (let row = low; row <= high; row += every) tickvals.push(row);
  const clip = (name) => isNarrow && name.length > 14 ? "…" + name.slice(-13) : name;
  return { tickvals, ticktext: tickvals.map((row) => plain(clip(shown.grid.short[row]))) };
}

function mapHeight() {
  const n = shown.rows.length;
  return Math.min(Math.max(n * Math.min(Math.max(480 / n, 12), 34), 90), 900);
}

function stepRange() {
  const run = page.runs[state.run];
  const ends = run.curves.flatMap(({ step }) => [step[0], step.at(-1)]);
  if (shown) ends.push(shown.edges[0], shown.edges.at(-1));
  const isLog = state.axis === "log";
  const low = Math.max(Math.min(...ends), isLog ? 0.5 : -Infinity);
  const high = Math.max(...ends, low + 1);
  return isLog ? [Math.log10(low), Math.log10(high)] : [low, high];
}

function isWide(curves) {
  const values = curves.flatMap(({ value }) => value).filter((v) => v !== null);
  const low = values.reduce((a, b) => Math.min(a, b), Infinity);
  return low > 0 && values.reduce((a, b) => Math.max(a, b), 0) > 50 * low;
}

/** Panels from the top: loss, map, one layer; all on one step axis. */
function layout() {
  const run = page.runs[state.run], isNarrow = at("plot").clientWidth < 640;
  const panels = [];
  if (run.curves.length) panels.push(["yaxis", HEIGHTS.loss, plain(run.curves[0].label)]);
  if (shown) {
    const { label } = page.quantities[state.quantity];
    panels.push(["yaxis2", mapHeight(), plain(label)]);
    panels.push(["yaxis3", HEIGHTS.line, `${plain(label)}, <b>${plain(shown.grid.names[state.layer])}</b>`]);
  }
  const inner = panels.reduce((sum, [, height]) => sum + height, 0) + HEIGHTS.gap * (panels.length - 1);
  // In a narrow window the legend stands in lines of its own, below the buttons.
  const top = HEIGHTS.top + (isNarrow && run.curves.length > 1 ? 14 * Math.ceil(run.curves.length / 2) : 0);
  const made = {
    height: inner + top + HEIGHTS.bottom, font: FONT, hovermode: "closest", dragmode: "zoom",
    margin: { l: leftMargin(isNarrow), r: shown ? (isNarrow ? 52 : 76) : 20, t: top, b: HEIGHTS.bottom },
    paper_bgcolor: "#fff", plot_bgcolor: "#fff", annotations: [], shapes: [],
    hoverlabel: { bgcolor: "#fff", bordercolor: "#5a5a5a", align: "left", font: FONT, namelength: -1 },
    legend: { orientation: "h", x: 1, xanchor: "right", y: 1 + (isNarrow ? 16 / inner : 0), yanchor: "bottom", font: { size: 11 } },
    showlegend: run.curves.length > 1,
    xaxis: { type: state.axis, range: stepRange(), title: { text: "step", standoff: 6 }, anchor: panelAxis(panels),
      showspikes: true, spikemode: "across", spikethickness: 1, spikedash: "dot", spikecolor: "#5a5a5a",
      spikesnap: "cursor", showgrid: false, zeroline: false, ticks: "outside", ticklen: 4, nticks: isNarrow ? 5 : 12,
      tickformat: ",~r", exponentformat: "none", ...(state.axis === "log" ? { dtick: 1 } : {}),
      uirevision: `${state.run} ${state.axis}` },
  };
  let place = inner;
  for (const [axis, height, title] of panels) {
    made[axis] = { domain: [Math.max((place - height) / inner, 0), place / inner], anchor: "x", ticks: "outside", ticklen: 3,
      gridcolor: "#ececec", zeroline: false, nticks: 5, tickfont: { size: 11 }, exponentformat: "none",
      uirevision: `${state.run} ${axis === "yaxis" ? "" : state.quantity + (axis === "yaxis3" ? state.layer : "")}` };
    made.annotations.push({ text: title, showarrow: false, xref: "paper", yref: "paper", x: 0, xanchor: "left",
      y: place / inner, yanchor: "bottom", align: "left", font: { size: 12.5 } });
    place -= height + HEIGHTS.gap;
  }
  if (made.yaxis && isWide(run.curves)) Object.assign(made.yaxis, LOG);
  if (shown) finishMap(made, isNarrow);
  return made;
}

function panelAxis(panels) {
  return panels.length ? panels.at(-1)[0].replace("axis", "") : "y";
}

function leftMargin(isNarrow) {
  const letters = shown ? Math.max(...shown.grid.short.map((name) => name.length), 7) : 7;
  return 18 + 6.4 * Math.min(letters, isNarrow ? 14 : 28);
}

function finishMap(made, isNarrow) {
  const n = shown.rows.length;
  Object.assign(made.yaxis2, { range: [-0.5, n - 0.5], showgrid: false, ticklen: 2,
    tickfont: { size: n > 25 ? 10 : 11 }, ...rowTicks(-0.5, n - 0.5, mapHeight(), isNarrow) });
  const { kind, low, high } = scaleNow();
  if (kind === "log") Object.assign(made.yaxis3, LOG);
  const sizes = [low, high].map(Math.abs).filter(Boolean);
  if (Math.min(...sizes) < 1e-3 || Math.max(...sizes) >= 1e4) made.yaxis3.exponentformat = "power";
  made.shapes = shown.grid.borders.map((border) => ({ type: "line", xref: "paper", x0: 0, x1: 1, yref: "y2",
    y0: border, y1: border, line: { color: "#fff", width: 1 } }));
}

function traces() {
  const map = shown ? [...mapTraces(), layerTrace()] : [];
  const { domain } = shown ? layout().yaxis2 : { domain: [0, 1] };
  if (shown) Object.assign(map[1].marker.colorbar, { y: (domain[0] + domain[1]) / 2, len: domain[1] - domain[0] });
  return [...curveTraces(page.runs[state.run]), ...map];
}
