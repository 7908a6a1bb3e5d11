// Lines of the last five minutes, of one or several series with the same unit.

import { element, say, shape } from "./dom.js";

export const SPAN_SECONDS = 300;

const WIDTH = 480;
const HEIGHT = 140;
const LEFT = 56;
const BOTTOM = 18;
const COLORS = 6;

export class Chart {
  #holder;
  #name;
  #format;
  #svg = shape("svg", { class: "chart", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img" });
  #legend = element("ul", { class: "legend" });
  #series = new Map();
  #points = [];
  #scales = [];

  /** `format` turns a value into a text with its unit. */
  constructor(holder, name, format) {
    this.#holder = holder;
    this.#name = name;
    this.#format = format;
    holder.append(this.#svg, this.#legend);
    new ResizeObserver(() => this.#draw()).observe(holder);
  }

  /** Adds what was measured at a time, as pairs of series and value; null is nothing. */
  add(time, values) {
    this.#points.push([time, new Map(values)]);
    while (this.#points.length > 0 && this.#points[0][0] < time - SPAN_SECONDS) this.#points.shift();
    for (const [name] of values) this.#entry(name);
    this.#draw();
  }

  #entry(name) {
    let entry = this.#series.get(name);
    if (entry) return entry;
    const color = `s${this.#series.size % COLORS}`;
    const value = element("span");
    entry = { color, value, lines: [] };
    this.#series.set(name, entry);
    const key = element("span", { class: `key ${color}`, "aria-hidden": "true" });
    this.#legend.append(element("li", {}, key, `${name} `, value));
    return entry;
  }

  #draw() {
    const last = this.#points.at(-1);
    if (!last) return;
    // One unit of the picture is one pixel, so that text and lines keep their shape.
    const width = Math.max(this.#holder.clientWidth, LEFT * 2);
    this.#svg.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    const end = last[0];
    const highest = Math.max(...this.#points.flatMap(([, values]) => [...values.values()].filter((value) => value != null)), 0);
    const top = niceCeiling(highest);
    const x = (time) => LEFT + ((time - end + SPAN_SECONDS) / SPAN_SECONDS) * (width - LEFT - 2);
    const y = (value) => 8 + (1 - value / top) * (HEIGHT - BOTTOM - 8);
    this.#drawScales(width, top, x, y);
    const described = [];
    for (const [name, entry] of this.#series) {
      const value = last[1].get(name);
      const text = this.#format(value);
      say(entry.value, text);
      described.push(`${name} ${text}`);
      entry.lines.forEach((line) => line.remove());
      entry.lines = segments(this.#points, name).map((points) => {
        const places = points.map(([time, value]) => `${x(time).toFixed(1)},${y(value).toFixed(1)}`);
        return shape("polyline", { class: entry.color, points: places.join(" ") });
      });
      this.#svg.append(...entry.lines);
    }
    this.#svg.setAttribute("aria-label", `${this.#name}, now: ${described.join(", ")}`);
  }

  #drawScales(width, top, x, y) {
    this.#scales.forEach((scale) => scale.remove());
    this.#scales = [0, top / 2, top].flatMap((value) => [
      shape("line", { class: "rule", x1: LEFT, x2: width, y1: y(value), y2: y(value) }),
      shape("text", { class: "scale", x: LEFT - 8, y: y(value) + 4, "text-anchor": "end" }, this.#format(value)),
    ]);
    const end = this.#points.at(-1)[0];
    for (const [back, text, anchor] of [[SPAN_SECONDS, "5 min ago", "start"], [SPAN_SECONDS / 2, "2.5 min", "middle"], [0, "now", "end"]]) {
      this.#scales.push(shape("text", { class: "scale", x: x(end - back), y: HEIGHT - 2, "text-anchor": anchor }, text));
    }
    this.#svg.prepend(...this.#scales);
  }
}

/** The pieces of a series without gaps, each at least a short line. */
function segments(points, name) {
  const pieces = [];
  let piece = [];
  for (const [time, values] of points) {
    const value = values.get(name);
    const isGap = piece.length > 0 && time - piece.at(-1)[0] > 5;
    if (value == null || isGap) {
      if (piece.length > 1) pieces.push(piece);
      piece = [];
    }
    if (value != null) piece.push([time, value]);
  }
  if (piece.length > 1) pieces.push(piece);
  return pieces;
}

/** The next of 1, 2, 5, 10, 20 … that is not lower. */
function niceCeiling(value) {
  if (value <= 0) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].find((step) => step * power >= value) * power;
}
