// Numbers as people read them: with their units, in as many digits as they are good for.

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const tenths = new Intl.NumberFormat("en", { minimumFractionDigits: 1, maximumFractionDigits: 1 });

export const NOTHING = "–";

export function count(value) {
  if (value == null) return NOTHING;
  return value < 1e7 ? whole.format(value) : `${scaled(value, 1e6)} M`;
}

/** By the second, without the unit. */
export function rate(value) {
  if (value == null) return NOTHING;
  return value > 0 && value < 10 ? tenths.format(value) : count(value);
}

export function perSecond(value) {
  return value == null ? NOTHING : `${rate(value)}/s`;
}

/** A number and its unit, apart. */
export function bytesParts(value) {
  if (value == null) return [NOTHING, ""];
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let power = 0;
  while (value >= 1024 && power < units.length - 1) {
    value /= 1024;
    power += 1;
  }
  return [power === 0 ? whole.format(value) : scaled(value, 1), units[power]];
}

export function bytes(value) {
  return bytesParts(value).join(" ").trim();
}

/** A time in seconds, in the unit that suits it. */
export function time(seconds) {
  if (seconds == null) return NOTHING;
  if (seconds === 0) return "0 µs";
  if (seconds < 1e-3) return `${scaled(seconds, 1e-6)} µs`;
  if (seconds < 1) return `${scaled(seconds, 1e-3)} ms`;
  return `${scaled(seconds, 1)} s`;
}

export function duration(seconds) {
  if (seconds == null) return NOTHING;
  const units = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];
  const first = units.findIndex(([, size]) => seconds >= size);
  if (first < 0) return "0 s";
  const [unit, size] = units[first];
  const large = Math.floor(seconds / size);
  if (unit === "s") return `${large} s`;
  const [smallUnit, smallSize] = units[first + 1];
  return `${large} ${unit} ${Math.floor((seconds % size) / smallSize)} ${smallUnit}`;
}

/** A moment in seconds since the Unix epoch, where the reader is. */
export function date(seconds) {
  return seconds == null ? NOTHING : new Date(seconds * 1000).toLocaleString();
}

/** Three digits that count. */
function scaled(value, unit) {
  const number = value / unit;
  const digits = number < 10 ? 2 : number < 100 ? 1 : 0;
  return new Intl.NumberFormat("en", { minimumFractionDigits: digits, maximumFractionDigits: digits }).format(number);
}
