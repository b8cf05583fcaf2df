// What the report and the live page do alike: draw the picture, explain it, follow clicks on it.
let look = (made) => made; // the live page changes colours here

function complain(text) {
  at("problem").textContent = text;
  at("problem").hidden = false;
}

function explain() {
  const legend = shown ? shown.seen : {};
  for (const kind of Object.keys(SPECIAL)) at(`key-${kind}`).hidden = !legend[kind];
  at("keys").hidden = !Object.values(legend).some(Boolean);
  if (!shown) return;
  const { formula, reduction, phase } = page.quantities[state.quantity];
  const scale = scaleNow();
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

async function draw() {
  const hasPanels = shown || page.runs[state.run].curves.length;
  at("plot").hidden = !hasPanels;
  if (!hasPanels) return;
  const isFirst = !at("plot").on;
  await Plotly.react(at("plot"), traces(), look(layout()), CONFIG);
  if (isFirst) listenToPlot();
}

function listenToPlot() {
  at("plot").on("plotly_click", ({ points: [point] }) => {
    if (point.data.type !== "heatmap") return;
    state.layer = point.pointNumber[0];
    at("layer").value = String(state.layer);
    draw();
  });
  at("plot").on("plotly_relayout", () => {
    const { yaxis2 } = at("plot").layout;
    if (!shown || !yaxis2) return;
    const ticks = rowTicks(yaxis2.range[0], yaxis2.range[1], mapHeight(), at("plot").clientWidth < 640);
    if (String(ticks.tickvals) === String(yaxis2.tickvals)) return;
    Plotly.relayout(at("plot"), { "yaxis2.tickvals": ticks.tickvals, "yaxis2.ticktext": ticks.ticktext });
  });
}
