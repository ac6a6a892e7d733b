// POSTs over time: in bars by what became of them, and added up beside what was planned and allowed.

const FATES = ["answered", "too early (429)", "refused or failed", "unknown fate", "under way"];
const FEWEST_BARS = 20; // so that a single one is no wall
const MARGIN = { left: 46, right: 12, top: 12, bottom: 24 };

function axes(width, height, stretch, count, most) {
  const x = (place) => MARGIN.left + (place / count) * (width - MARGIN.left - MARGIN.right);
  const steps = ticks(most, 4);
  const y = (value) => height - MARGIN.bottom - (value / steps.at(-1)) * (height - MARGIN.bottom - MARGIN.top);
  const times = Math.max(1, Math.min(5, Math.floor(width / 130), count));
  const drawn = [
    ...steps.flatMap((value) => [
      shape("line", { class: "grid", x1: MARGIN.left, x2: width - MARGIN.right, y1: y(value), y2: y(value) }),
      shape("text", { x: MARGIN.left - 6, y: y(value) + 4, "text-anchor": "end" }, value.toLocaleString("en", { notation: "compact" })),
    ]),
    ...Array.from({ length: times + 1 }, (_, number) => {
      const place = (count * number) / times;
      const shown = moment(stretch.begins + place * stretch.width);
      const anchor = number === 0 ? "start" : number === times ? "end" : "middle";
      const text = stretch.width * count > 2 * 86400 ? shown.slice(5, 16) : shown.slice(11, stretch.width < 60 ? 19 : 16);
      return shape("text", { x: x(place), y: height - 6, "text-anchor": anchor }, text);
    }),
  ];
  return { x, y, drawn };
}

function frame(width, height, label, ...children) {
  return shape("svg", { viewBox: `0 0 ${width} ${height}`, width: "100%", role: "img", "aria-label": label, class: "chart" },
    ...children);
}

function level(y, width, text, kind) {
  return [
    shape("line", { class: `level ${kind}`, x1: MARGIN.left, x2: width - MARGIN.right, y1: y, y2: y }),
    shape("text", { class: "level-text", x: MARGIN.left + 4, y: y - 4 }, text),
  ];
}

// What is told by colour is told by hatching too.
function hatching() {
  return shape("defs", {}, shape("pattern", { id: "hatch", width: 5, height: 5, patternUnits: "userSpaceOnUse" },
    shape("rect", { class: "hatch-ground", width: 5, height: 5 }), shape("path", { class: "hatch-line", d: "M-1 1L1 -1M0 5L5 0M4 6L6 4" })));
}

function totalOf(bar) {
  return bar.slice(1).reduce((sum, count) => sum + count, 0);
}

function barsPicture(width, stretch, count, pace) {
  const most = Math.max(...stretch.bars.map(totalOf));
  const allowed = pace.perSecond ? pace.perSecond * stretch.width : null;
  const isNear = allowed !== null && allowed <= 3 * most;
  const { x, y, drawn } = axes(width, 190, stretch, count, isNear ? Math.max(most, allowed) : most);
  const bars = stretch.bars.flatMap(([place, ...counts]) => {
    let below = 0;
    return counts.flatMap((number, fate) => {
      if (!number) return [];
      const top = y(below + number), bottom = y(below);
      below += number;
      const times = moment(stretch.begins + place * stretch.width);
      return [shape("rect", { class: `fate-${fate}`, x: x(place) + 0.5, y: top, height: bottom - top,
        width: Math.max(1, x(1) - x(0) - 1) }, shape("title", {}, `${times}: ${number} ${FATES[fate]}`))];
    });
  });
  const label = `POSTs ${every(stretch.width)}, ${amount(stretch.posts, "POST")} from ${moment(stretch.first)} ` +
    `to ${moment(stretch.last)}; at most ${most} in one bar`;
  return frame(width, 190, label, hatching(), ...drawn, ...bars,
    ...(isNear ? level(y(allowed), width, `allowed: ${allowed.toLocaleString("en")}`, "allowed") : []));
}

function sumPicture(width, stretch, count, pace) {
  const total = stretch.before + stretch.posts;
  const levels = [["planned", pace.planned], ["budget", pace.budget]].filter(([, value]) => value && value <= 4 * total);
  const { x, y, drawn } = axes(width, 190, stretch, count, Math.max(total, ...levels.map(([, value]) => value)));
  let sum = stretch.before;
  let path = `M${x(0)} ${y(sum)}`;
  for (const bar of stretch.bars) {
    path += `L${x(bar[0])} ${y(sum)}`;
    sum += totalOf(bar);
    path += `L${x(bar[0] + 1)} ${y(sum)}`;
  }
  const placeOf = (epoch) => (epoch - stretch.begins) / stretch.width;
  const ends = pace.perWindow === null ? null : pace.windowEnds;
  const turns = ends === null ? [] : [[ends - pace.windowSeconds, "window opens"], [ends, "window ends"]]
    .filter(([epoch]) => placeOf(epoch) > 0 && placeOf(epoch) < count);
  return frame(width, 190, `POSTs added up: ${stretch.before} before, ${total} at the end; ${pace.planned} planned`,
    ...drawn, shape("path", { class: "sum", d: path }),
    ...levels.flatMap(([name, value]) => level(y(value), width, `${name}: ${value.toLocaleString("en")}`, name)),
    ...turns.flatMap(([epoch, text]) => [
      shape("line", { class: "level window", x1: x(placeOf(epoch)), x2: x(placeOf(epoch)), y1: MARGIN.top, y2: 190 - MARGIN.bottom }),
      shape("text", { class: "level-text", x: x(placeOf(epoch)) + (placeOf(epoch) < count / 2 ? 4 : -4), y: MARGIN.top + 8,
        "text-anchor": placeOf(epoch) < count / 2 ? "start" : "end" }, text)]));
}

function paceInWords(stretch, pace) {
  const most = Math.max(...stretch.bars.map(totalOf));
  const lines = [`${amount(stretch.posts, "POST")} from ${moment(stretch.first)} to ${moment(stretch.last)}; ` +
    `at most ${amount(most, "POST")} in one bar.`];
  lines.push(pace.perSecond
    ? `Allowed: ${amount(pace.perSecond * stretch.width, "POST")} ${every(stretch.width)}.`
    : "The job does not limit the pace.");
  if (pace.perWindow !== null && pace.windowUsed !== null) {
    lines.push(`Quota: ${pace.windowUsed.toLocaleString("en")} of ${pace.perWindow.toLocaleString("en")} used in the newest window ` +
      `(${span(pace.windowSeconds)}), which ends ${moment(pace.windowEnds)}. Earlier windows are not recorded.`);
  } else {
    lines.push(pace.perWindow === null ? "No quota is known." : `Quota: ${pace.perWindow.toLocaleString("en")} POSTs in ${span(pace.windowSeconds)}.`);
  }
  return lines.map((line) => element("li", {}, line));
}

function drawPace(facts) {
  const place = document.getElementById("pace-picture");
  if (!place || !facts.stretches.length) return;
  let shown = facts.stretches[0], drawnWidth = 0;
  const draw = () => {
    const width = Math.max(300, Math.round(place.clientWidth));
    drawnWidth = width;
    const count = Math.max(FEWEST_BARS, Math.floor((shown.last - shown.begins) / shown.width) + 1);
    const seen = FATES.filter((_, fate) => shown.bars.some((bar) => bar[fate + 1]));
    place.replaceChildren(
      element("ul", { class: "words" }, ...paceInWords(shown, facts.pace)),
      element("p", { class: "legend" }, ...seen.flatMap((name) => [
        shape("svg", { class: "key", viewBox: "0 0 12 12", "aria-hidden": "true" },
          shape("rect", { class: `fate-${FATES.indexOf(name)}`, width: 12, height: 12 })), ` ${name}  `])),
      element("figure", {}, element("figcaption", {}, `POSTs ${every(shown.width)}`), barsPicture(width, shown, count, facts.pace)),
      element("figure", {}, element("figcaption", {}, "POSTs since the run began, added up"), sumPicture(width, shown, count, facts.pace)),
      numbersBehind("Numbers", () => table("POSTs over time", ["from (UTC)", ...FATES.map((name) => `${name}#`)],
        shown.bars.map(([bar, ...counts]) => [moment(shown.begins + bar * shown.width), ...counts.map(String)]))),
    );
  };
  if (facts.stretches.length > 1) {
    const options = facts.stretches.map((one, number) => [number, `${moment(one.first).slice(0, 16)}, ${amount(one.posts, "POST")}`]);
    document.getElementById("pace-controls").append(
      labelled("Stretch of work", choice(options, 0, (value) => { shown = facts.stretches[Number(value)]; draw(); })));
  }
  draw();
  new ResizeObserver(() => { if (Math.abs(place.clientWidth - drawnWidth) > 8 && place.clientWidth >= 300) draw(); }).observe(place);
}
