"use strict";
// Unpacks the page's numbers, hands them to plotly.js, and does what the pickers ask for.
(async () => {
  const CODES = { missing: 0, zero: 1, infinite: 2, negativeInfinite: 3, first: 4 };
  // Colours below the scale for what is no number, each in the middle of its own stretch.
  const SPECIAL = { missing: [-0.3, "#d9d9d9"], zero: [-0.2, "#000000"], infinite: [-0.1, "#d55e00"] };
  const BOTTOM = -0.35;
  const LINES = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000"];
  const DASHES = ["solid", "dash", "dot", "dashdot"];
  const FONT = { family: 'system-ui, "Segoe UI", Roboto, sans-serif', size: 12, color: "#1a1a1a" };
  const CONFIG = {
    displaylogo: false, doubleClick: "reset", responsive: true,
    modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"],
  };
  const HEIGHTS = { loss: 120, line: 130, gap: 34, top: 54, bottom: 44 };

  const at = (id) => document.getElementById(id);
  const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const floats = (text) => new Float64Array(bytes(text).buffer);
  const whole = (number) => number.toLocaleString("en-US");
  const brief = (number) => String(Number(number.toPrecision(3)));
  // plotly.js reads a little HTML in texts; names are to be shown as they are.
  const plain = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
  const inflate = (id) => new Response(
    new Blob([bytes(at(id).textContent)]).stream().pipeThrough(new DecompressionStream("gzip"))).text();

  function complain(text) {
    at("problem").textContent = text;
    at("problem").hidden = false;
  }

  if (typeof DecompressionStream === "undefined") {
    complain("This browser is too old to draw the picture: it cannot unpack gzip (any browser of 2023 or later can).");
    return;
  }
  const page = JSON.parse(await inflate("gradscope-data"));
  const library = document.createElement("script");
  library.textContent = await inflate("gradscope-library");
  document.head.append(library);

  const state = { run: 0, quantity: "", layer: 0, axis: "" };
  let shown = null; // the picked quantity, unpacked

  /** Turn codes into numbers, places on the colour scale, and texts for the pointer. */
  function unpack(run, quantity) {
    const grid = run.grids[quantity];
    const columns = run.columns[grid.columns];
    const [first, last] = [floats(columns.first), floats(columns.last)];
    const count = new Int32Array(bytes(columns.count).buffer);
    const codes = new Uint16Array(bytes(grid.codes).buffer);
    const place = placeOn(page.quantities[quantity].scale);
    const steps = Array.from(count, (n, i) => n === 0 ? "no step recorded here"
      : n === 1 ? `step ${whole(first[i])}` : `steps ${whole(first[i])} to ${whole(last[i])}, mean of ${n}`);
    const seen = { missing: false, zero: false, infinite: false };
    const rows = grid.names.map((name, row) => {
      const own = codes.subarray(row * count.length, (row + 1) * count.length);
      return unpackRow(own, grid.low[row], grid.step[row], plain(name), steps, place, seen);
    });
    return { grid, columns, edges: floats(columns.edges), first, last, count, rows, seen };
  }

  function unpackRow(codes, low, step, name, steps, place, seen) {
    const value = new Float64Array(codes.length), z = new Float32Array(codes.length);
    const text = new Array(codes.length);
    codes.forEach((code, i) => {
      const level = (code - CODES.first) >> 1;
      const number = code === CODES.missing ? NaN : code === CODES.zero ? 0
        : code === CODES.infinite ? Infinity : code === CODES.negativeInfinite ? -Infinity
        : Math.exp(low + level * step) * (code & 1 ? -1 : 1);
      const kind = Number.isNaN(number) ? "missing" : !Number.isFinite(number) ? "infinite"
        : number === 0 && place.isLog ? "zero" : "";
      if (kind) seen[kind] = true;
      value[i] = number;
      z[i] = kind ? SPECIAL[kind][0] : Math.min(Math.max(place(number), 0), 1);
      const words = kind === "missing" ? "missing" : number === 0 ? "0 (exactly)"
        : kind === "infinite" ? (number > 0 ? "infinite" : "−infinite") : brief(number);
      text[i] = `<b>${name}</b><br>${steps[i]}<br>${words}`;
    });
    return { value, z, text };
  }

  /** Return the function from a value to its place on the colour bar, 0 to 1. */
  function placeOn(scale) {
    const bend = {
      log: Math.log,
      symlog: (x) => Math.abs(x) <= scale.threshold ? x / 0.9
        : Math.sign(x) * scale.threshold * (1 / 0.9 + Math.log10(Math.abs(x) / scale.threshold)),
    }[scale.kind] ?? ((x) => x);
    const [low, high] = [bend(scale.low), bend(scale.high)];
    return Object.assign((x) => (bend(x) - low) / (high - low), { isLog: scale.kind === "log" });
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
        hovertemplate: `${plain(curve.name)}<br>step %{x:,d}<br>%{y:.4g}<extra></extra>` }];
    });
  }

  function mapTraces() {
    const scale = page.quantities[state.quantity].scale;
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
    const isLog = page.quantities[state.quantity].scale.kind === "log";
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
    const made = {
      height: inner + HEIGHTS.top + HEIGHTS.bottom, font: FONT, hovermode: "closest", dragmode: "zoom",
      margin: { l: leftMargin(isNarrow), r: shown ? (isNarrow ? 52 : 76) : 20, t: HEIGHTS.top, b: HEIGHTS.bottom },
      paper_bgcolor: "#fff", plot_bgcolor: "#fff", annotations: [], shapes: [],
      hoverlabel: { bgcolor: "#fff", bordercolor: "#5a5a5a", align: "left", font: FONT, namelength: -1 },
      legend: { orientation: "h", x: 1, xanchor: "right", y: 1 + 18 / inner, yanchor: "bottom", font: { size: 11 } },
      showlegend: run.curves.length > 1,
      xaxis: { type: state.axis, range: stepRange(), title: { text: "step", standoff: 6 }, anchor: panelAxis(panels),
        showspikes: true, spikemode: "across", spikethickness: 1, spikedash: "dot", spikecolor: "#5a5a5a",
        spikesnap: "cursor", showgrid: false, zeroline: false, ticks: "outside", ticklen: 4, nticks: isNarrow ? 5 : 12,
        tickformat: ",~r", exponentformat: "none", ...(state.axis === "log" ? { dtick: 1 } : {}),
        uirevision: `${state.run} ${state.axis}` },
    };
    let top = inner;
    for (const [axis, height, title] of panels) {
      made[axis] = { domain: [Math.max((top - height) / inner, 0), top / inner], anchor: "x", ticks: "outside", ticklen: 3,
        gridcolor: "#ececec", zeroline: false, nticks: 5, tickfont: { size: 11 }, exponentformat: "power",
        uirevision: `${state.run} ${axis === "yaxis" ? "" : state.quantity + (axis === "yaxis3" ? state.layer : "")}` };
      made.annotations.push({ text: title, showarrow: false, xref: "paper", yref: "paper", x: 0, xanchor: "left",
        y: top / inner, yanchor: "bottom", align: "left", font: { size: 12.5 } });
      top -= height + HEIGHTS.gap;
    }
    if (made.yaxis && isWide(run.curves)) Object.assign(made.yaxis, { type: "log", dtick: "D2" });
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
    if (page.quantities[state.quantity].scale.kind === "log") made.yaxis3.type = "log";
    made.shapes = shown.grid.borders.map((border) => ({ type: "line", xref: "paper", x0: 0, x1: 1, yref: "y2",
      y0: border, y1: border, line: { color: "#fff", width: 1 } }));
  }

  function traces() {
    const map = shown ? [...mapTraces(), layerTrace()] : [];
    const { domain } = shown ? layout().yaxis2 : { domain: [0, 1] };
    if (shown) Object.assign(map[1].marker.colorbar, { y: (domain[0] + domain[1]) / 2, len: domain[1] - domain[0] });
    return [...curveTraces(page.runs[state.run]), ...map];
  }

  function explain() {
    const legend = shown ? shown.seen : {};
    for (const kind of Object.keys(SPECIAL)) at(`key-${kind}`).hidden = !legend[kind];
    at("keys").hidden = !Object.values(legend).some(Boolean);
    if (!shown) return;
    const { formula, reduction, phase, scale } = page.quantities[state.quantity];
    const { columns, grid } = shown;
    const mean = scale.kind === "log" ? "geometric means over what is positive" : "means";
    const parts = [
      `${state.quantity}${formula ? " = " + formula : ""}`,
      reduction && reduction !== "none" ? reduction : "", phase.replaceAll("_", " "),
      columns.merged > 1
        ? `columns are ${mean} of up to ${columns.merged} of ${whole(columns.n_steps)} recorded steps`
        : `every one of ${whole(columns.n_steps)} recorded steps is a column`,
      `values are shown with three digits, kept to within ${brief(Math.max(grid.precision * 100, 1e-4))} %`,
    ];
    if (scale.extend !== "neither") parts.push("some values lie beyond the colour bar");
    at("note").textContent = parts.filter(Boolean).join(" · ");
    at("description").textContent = grid.description ?? "";
  }

  function fill(select, names, chosen) {
    select.replaceChildren(...names.map(([value, text]) => new Option(text, value, false, value === chosen)));
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
    shown = state.quantity ? unpack(run, state.quantity) : null;
    if (shown) {
      state.layer = Math.max(shown.grid.names.indexOf(before), 0);
      fill(at("layer"), shown.grid.names.map((name, i) => [String(i), name]), String(state.layer));
    }
    if (!state.axis) state.axis = shown?.columns.is_log ? "log" : "linear";
    at("axis").value = state.axis;
    for (const part of document.querySelectorAll("[data-run]")) part.hidden = part.dataset.run !== String(state.run);
    for (const id of ["quantity", "layer"]) at(id).parentElement.hidden = !shown;
    at("controls").hidden = !shown && !run.curves.length && page.runs.length < 2;
    explain();
    await draw();
  }

  async function draw() {
    const hasPanels = shown || page.runs[state.run].curves.length;
    at("plot").hidden = !hasPanels;
    if (hasPanels) await Plotly.react(at("plot"), traces(), layout(), CONFIG);
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
      hovertemplate: `<b>${plain(run.name)}</b><br>step %{x:,d}<br>%{y:.4g}<extra></extra>` }));
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
    at("quantity").addEventListener("change", (event) => { state.quantity = event.target.value; pick(); });
    at("layer").addEventListener("change", (event) => { state.layer = Number(event.target.value); draw(); });
    at("axis").addEventListener("change", (event) => { state.axis = event.target.value; draw(); });
    at("reset").addEventListener("click", () => {
      Plotly.relayout(at("plot"), { "xaxis.range": stepRange(), ...(shown && { "yaxis2.range": [-0.5, shown.rows.length - 0.5] }) });
    });
    for (const button of document.querySelectorAll("[data-first]")) {
      button.addEventListener("click", () => showSteps(Number(button.dataset.first), Number(button.dataset.last)));
    }
    at("plot").on?.("plotly_click", ({ points: [point] }) => {
      if (point.data.type !== "heatmap") return;
      state.layer = point.pointNumber[0];
      at("layer").value = String(state.layer);
      draw();
    });
    at("plot").on?.("plotly_relayout", () => {
      const { yaxis2 } = at("plot").layout;
      if (!shown || !yaxis2) return;
      const ticks = rowTicks(yaxis2.range[0], yaxis2.range[1], mapHeight(), at("plot").clientWidth < 640);
      if (String(ticks.tickvals) === String(yaxis2.tickvals)) return;
      Plotly.relayout(at("plot"), { "yaxis2.tickvals": ticks.tickvals, "yaxis2.ticktext": ticks.ticktext });
    });
    let wasNarrow = at("plot").clientWidth < 640;
    window.addEventListener("resize", () => {
      const isNarrow = at("plot").clientWidth < 640;
      if (isNarrow !== wasNarrow) draw();
      wasNarrow = isNarrow;
    });
  }

  await pick();
  if (at("losses")) await drawLosses();
  listen();
  document.body.dataset.ready = "yes";
})().catch((error) => {
  const problem = document.getElementById("problem");
  problem.textContent = `The picture could not be drawn: ${error.message}`;
  problem.hidden = false;
  throw error;
});
