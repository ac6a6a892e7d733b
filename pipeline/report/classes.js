// The distribution of each class's scores, as small pictures beside each other, and a cut that goes through all of them.

const BIN = 5; // points of score in a bar
const CARDS_AT_FIRST = 12;
const WIDTH = 250, HEIGHT = 120, LEFT = 36, BOTTOM = 18, TOP = 10;

function countFrom(one, cut) {
  return one.bins.slice(cut / BIN).reduce((sum, count) => sum + count, 0);
}

function histogram(one, threshold) {
  const most = Math.max(...one.bins, 1);
  const x = (score) => LEFT + (score / 100) * (WIDTH - LEFT - 6);
  const y = (count) => HEIGHT - BOTTOM - (count / most) * (HEIGHT - BOTTOM - TOP);
  const told = one.bins.flatMap((count, place) => (count ? [`${place * BIN} to ${place * BIN + BIN}: ${count}`] : []));
  const bars = one.bins.map((count, place) => shape("rect", {
    class: "bar", "data-from": place * BIN, x: x(place * BIN) + 0.5, y: y(count),
    width: x(BIN) - x(0) - 1, height: HEIGHT - BOTTOM - y(count),
  }));
  const cut = shape("line", { class: "cut", y1: TOP - 6, y2: HEIGHT - BOTTOM });
  const drawn = shape(
    "svg",
    {
      viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img",
      "aria-label": `Scores of ${one.name}, videos in each five points. ${told.join("; ") || "None"}.`,
    },
    shape("line", { class: "axis", x1: LEFT, x2: WIDTH - 6, y1: HEIGHT - BOTTOM, y2: HEIGHT - BOTTOM }),
    shape("text", { x: LEFT - 4, y: TOP + 5, "text-anchor": "end" }, most.toLocaleString("en", { notation: "compact" })),
    shape("text", { x: LEFT - 4, y: HEIGHT - BOTTOM, "text-anchor": "end" }, "0"),
    ...[0, 25, 50, 75, 100].map((score) =>
      shape("text", { x: x(score), y: HEIGHT - 4, "text-anchor": score === 100 ? "end" : "middle" }, String(score))),
    ...bars,
    shape("line", { class: "threshold", x1: x(threshold), x2: x(threshold), y1: TOP - 6, y2: HEIGHT - BOTTOM },
      shape("title", {}, `the job's min_video_score, ${threshold}`)),
    cut,
  );
  const moveCut = (score) => {
    cut.setAttribute("x1", x(score));
    cut.setAttribute("x2", x(score));
    for (const bar of bars) bar.classList.toggle("below", Number(bar.dataset.from) < score);
  };
  return [drawn, moveCut];
}

function classCard(one, threshold) {
  const [drawn, moveCut] = histogram(one, threshold);
  const kept = element("span", {});
  const card = element(
    "figure",
    { class: "card" },
    element("figcaption", {}, named(one.name), one.asked ? null : element("span", { class: "muted" }, " (not asked for)"),
      element("span", { class: "line" }, `${amount(one.videos, "video")}; `, kept)),
    drawn,
    numbersBehind("Numbers", () => table(`Scores of ${one.name}`, ["score", "videos#"],
      one.bins.map((count, place) => [`${place * BIN} to ${place * BIN + BIN}`, count.toLocaleString("en")]))),
  );
  const setCut = (cut) => {
    const count = countFrom(one, cut);
    kept.textContent = `${count.toLocaleString("en")} (${percent(count, one.videos)}) at ${cut}+`;
    moveCut(cut);
  };
  return { one, card, setCut };
}

function drawClasses(facts) {
  const place = document.getElementById("class-cards");
  if (!place) return;
  const made = new Map(); // class to card, made when it is first shown
  const state = { cut: Math.max(75, Math.ceil(facts.minVideoScore / BIN) * BIN), filter: "", order: "job", all: false };
  const orders = {
    job: () => 0,
    videos: (a, b) => b.videos - a.videos,
    kept: (a, b) => countFrom(b, state.cut) - countFrom(a, state.cut),
    name: (a, b) => a.name.localeCompare(b.name, "en"),
  };
  const draw = () => {
    const wanted = facts.classes.filter((one) => one.name.toLowerCase().includes(state.filter)).sort(orders[state.order]);
    const shown = state.all ? wanted : wanted.slice(0, CARDS_AT_FIRST);
    for (const one of shown) if (!made.has(one)) made.set(one, classCard(one, facts.minVideoScore));
    for (const one of shown) made.get(one).setCut(state.cut);
    place.replaceChildren(...shown.map((one) => made.get(one).card));
    if (!shown.length) place.append(element("p", { class: "nothing" }, "No class name contains that."));
    if (shown.length < wanted.length) {
      place.append(element("button", { type: "button", class: "more", click: () => { state.all = true; draw(); } },
        `Show all ${wanted.length.toLocaleString("en")} classes`));
    }
  };
  const output = element("span", {}, String(state.cut)); // no <output>: the label would be its, not the slider's
  const cut = element("input", {
    type: "range", min: 0, max: 95, step: BIN, value: state.cut,
    input: () => { state.cut = Number(cut.value); output.textContent = cut.value; draw(); },
  });
  const controls = [element("label", { class: "control" }, element("span", {}, "Cut at score ", output), cut)];
  if (facts.classes.length > 1) {
    controls.push(labelled("Order", choice(
      [["job", "as in the job"], ["videos", "most videos"], ["kept", "most videos at the cut or above"], ["name", "name"]],
      state.order, (value) => { state.order = value; draw(); })));
  }
  if (facts.classes.length > CARDS_AT_FIRST) {
    const filter = element("input", {
      type: "search", input: () => { state.filter = filter.value.toLowerCase(); draw(); },
    });
    controls.push(labelled("Class contains", filter));
  }
  const default_ = facts.minVideoScoreIsDefault ? " (the platform's default)" : "";
  document.getElementById("class-controls").append(...controls, element("p", { class: "legend" },
    element("span", { class: "key threshold-key" }), ` the job's threshold, ${facts.minVideoScore}${default_} `,
    element("span", { class: "key cut-key" }), " the cut. ", "Each chart has its own scale: the number at the top of its axis."));
  draw();
}
