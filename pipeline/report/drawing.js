// Makers of elements, and numbers as people read them. Text always becomes a text node: nothing parses HTML here.

const SVG = "http://www.w3.org/2000/svg";

function filled(made, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") made.addEventListener(name, value);
    else if (value !== null && value !== false) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null));
  return made;
}

function element(name, attributes = {}, ...children) {
  return filled(document.createElement(name), attributes, children);
}

function shape(name, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, name), attributes, children);
}

function hidden(text) {
  return element("span", { class: "visually-hidden" }, text);
}

// A name that somebody chose: its direction of writing must not spread to what stands beside it.
function named(text) {
  return element("bdi", { class: "name" }, text);
}

function labelled(text, control) {
  return element("label", { class: "control" }, element("span", {}, text), control);
}

function choice(options, chosen, onchange) {
  const made = element("select", { change: () => onchange(made.value) });
  for (const [value, text] of options) {
    made.append(element("option", { value, selected: String(value) === String(chosen) }, text));
  }
  return made;
}

function table(label, heads, rows) {
  const numeric = (place) => (heads[place].endsWith("#") ? "number" : null);
  return element(
    "div",
    { class: "scroll", role: "region", "aria-label": label, tabindex: 0 },
    element(
      "table",
      {},
      element("caption", { class: "visually-hidden" }, label),
      element("thead", {}, element("tr", {}, ...heads.map((head, place) =>
        element("th", { scope: "col", class: numeric(place) }, head.replace(/#$/, ""))))),
      element("tbody", {}, ...rows.map((row) => element("tr", {}, ...row.map((cell, place) => place === 0
        ? element("th", { scope: "row", class: numeric(place) }, cell)
        : element("td", { class: numeric(place) }, cell))))),
    ),
  );
}

// A table behind a line that opens it, made when that is done: a page has hundreds, and few are looked at.
function numbersBehind(summary, makeTable) {
  const details = element("details", { class: "numbers" }, element("summary", {}, summary));
  details.addEventListener("toggle", () => details.append(makeTable()), { once: true });
  return details;
}

function amount(count, one) {
  return `${count.toLocaleString("en")} ${one}${count === 1 ? "" : "s"}`;
}

function percent(part, whole) {
  return whole ? `${Math.round((100 * part) / whole)} %` : "0 %";
}

// The score's step on the scale of colours, 0 to 9.
function stepOf(score) {
  return Math.min(9, Math.max(0, Math.floor(score / 10)));
}

// Seconds of a video, as players show them: 4:05, 1:02:03.
function position(seconds) {
  const whole = Math.floor(seconds);
  const parts = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const shown = parts[0] ? parts : parts.slice(1);
  return shown.map((part, place) => (place ? String(part).padStart(2, "0") : part)).join(":");
}

// A moment in UTC: 2026-11-22 22:10:05.
function moment(epochSeconds) {
  return new Date(epochSeconds * 1000).toISOString().slice(0, 19).replace("T", " ");
}

// A length of time in one unit, for the widths of bars.
function span(seconds) {
  const [unit, name] = [[86400, "day"], [3600, "hour"], [60, "minute"]].find(([one]) => seconds % one === 0) ?? [1, "second"];
  return amount(seconds / unit, name);
}

// "Every second", "every 2 minutes".
function every(seconds) {
  return `every ${span(seconds).replace(/^1 /, "")}`;
}

// At most so many round numbers from 0 to the greatest; the last one reaches it.
function ticks(greatest, most) {
  if (greatest <= 0) return [0, 1];
  const unit = 10 ** Math.floor(Math.log10(greatest / most));
  const step = Math.max(1, unit * [1, 2, 5, 10].find((one) => greatest / (unit * one) <= most));
  return Array.from({ length: Math.ceil(greatest / step) + 1 }, (_, place) => place * step);
}
