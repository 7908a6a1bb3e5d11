// The picture of one hop of QoS 2: two parties, the four packets between them by the second, and what waits at the broker.

import { say, shape } from "./dom.js";
import { count, perSecond } from "./format.js";

const WIDTH = 400;
// Where the line of the other party is, from its edge, and that of the broker, which has what waits beside it.
const PARTY = 52;
const BROKER = 118;
const TOP = 30;
const STEP = 46;

const PACKETS = ["PUBLISH", "PUBREC", "PUBREL", "PUBCOMP"];

export class Hop {
  #svg = shape("svg", { class: "hop", viewBox: `0 0 ${WIDTH} 226`, role: "img" });
  #ends;
  #arrows;
  #waits;
  #name;

  /** `waits` are pairs: behind which packet something waits, and for what. The broker is at the right or at the left. */
  constructor(holder, name, parties, brokerIsRight, waits) {
    this.#name = name;
    this.#ends = brokerIsRight ? [PARTY, WIDTH - BROKER] : [BROKER, WIDTH - PARTY];
    parties.forEach((party, index) => {
      this.#svg.append(
        shape("text", { class: "party", x: this.#ends[index], y: 14, "text-anchor": "middle" }, party),
        shape("line", { class: "life", x1: this.#ends[index], x2: this.#ends[index], y1: 24, y2: 216 }),
      );
    });
    this.#arrows = PACKETS.map((packet, index) => this.#arrow(packet, index));
    this.#waits = waits.map(([behind, what]) => this.#wait(behind, what, brokerIsRight ? WIDTH - BROKER / 2 : BROKER / 2));
    holder.append(this.#svg);
  }

  /** Rates in the order of the packets, counts in the order of what waits. */
  show(rates, counts) {
    const described = PACKETS.map((packet, index) => {
      const { group, rate } = this.#arrows[index];
      const text = perSecond(rates?.[index]);
      say(rate, text);
      group.classList.toggle("moving", (rates?.[index] ?? 0) > 0);
      return `${packet} ${text}`;
    });
    this.#waits.forEach(({ number, what }, index) => {
      say(number, count(counts[index]));
      described.push(`${count(counts[index])} ${what}`);
    });
    this.#svg.setAttribute("aria-label", `${this.#name}: ${described.join(", ")}`);
  }

  #arrow(packet, index) {
    const goesRight = index % 2 === 0;
    const [left, right] = this.#ends;
    const y = TOP + index * STEP + 22;
    const [from, to] = goesRight ? [left + 4, right - 4] : [right - 4, left + 4];
    const back = goesRight ? -8 : 8;
    const rate = shape("tspan", { class: "rate", dx: 6 });
    const label = shape("text", { x: (left + right) / 2, y: y - 7, "text-anchor": "middle" }, packet, rate);
    const group = shape(
      "g",
      {},
      shape("line", { class: "arrow", x1: from, x2: to + back / 2, y1: y, y2: y }),
      shape("polygon", { class: "head", points: `${to},${y} ${to + back},${y - 4} ${to + back},${y + 4}` }),
      label,
    );
    this.#svg.append(group);
    return { group, rate };
  }

  #wait(behind, what, x) {
    const y = TOP + behind * STEP + 22 + STEP / 2;
    const number = shape("text", { class: "count", x, y: y - 2, "text-anchor": "middle" });
    const box = shape("rect", { class: "wait", x: x - 52, y: y - 19, width: 104, height: 40, rx: 6 });
    const of = shape("text", { class: "of", x, y: y + 14, "text-anchor": "middle" }, what);
    this.#svg.append(box, number, of);
    return { number, what };
  }
}
