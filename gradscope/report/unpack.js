"use strict";
// From the codes in the page to numbers, places on a colour scale, and texts.
const CODES = { missing: 0, zero: 1, nonfinite: 2, other: 3, first: 4 };
// Colours below the scale for what is no number, each in the middle of its own stretch.
const SPECIAL = {
  other: [-0.4, "#ffffff"], missing: [-0.3, "#d9d9d9"], zero: [-0.2, "#000000"], nonfinite: [-0.1, "#e6007e"],
};
const WORDS = { missing: "missing", zero: "0 (exactly)", nonfinite: "non-finite", other: "another optimizer's step" };
const BOTTOM = -0.45;

const at = (id) => document.getElementById(id);
const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
const floats = (text) => new Float64Array(bytes(text).buffer);
const whole = (number) => number.toLocaleString("en-US");
const brief = (number) => String(Number(number.toPrecision(3)));
// plotly.js reads a little HTML in texts; names are to be shown as they are.
const plain = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
const inflate = (id) => new Response(
  new Blob([bytes(at(id).textContent)]).stream().pipeThrough(new DecompressionStream("gzip"))).text();

/** Turn codes into numbers, places on the colour scale, and texts for the pointer. */
function unpack(run, quantity, scale) {
  const grid = run.grids[quantity];
  const columns = run.columns[grid.columns];
  const [first, last] = [floats(columns.first), floats(columns.last)];
  const count = new Int32Array(bytes(columns.count).buffer);
  const codes = new Uint16Array(bytes(grid.codes).buffer);
  const place = placeOn(scale);
  const steps = Array.from(count, (n, i) => n === 0 ? "no step recorded here"
    : n === 1 ? `step ${whole(first[i])}` : `steps ${whole(first[i])} to ${whole(last[i])}, mean of ${n}`);
  const seen = { missing: false, zero: false, nonfinite: false, other: false };
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
    const number = code >= CODES.first ? Math.exp(low + level * step) * (code & 1 ? -1 : 1)
      : code === CODES.zero ? 0 : NaN;
    const kind = code >= CODES.first || (code === CODES.zero && !place.isLog) ? ""
      : Object.keys(WORDS).find((name) => CODES[name] === code);
    if (kind) seen[kind] = true;
    value[i] = number;
    z[i] = kind ? SPECIAL[kind][0] : Math.min(Math.max(place(number), 0), 1);
    const words = kind ? WORDS[kind] : number === 0 ? WORDS.zero : brief(number);
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
