// Classes by videos, as a table: colours for whoever looks, numbers for whoever reads or listens.

const ROWS_AT_ONCE = 25;
const COLUMNS_AT_ONCE = 12;

function bestOf(video) {
  return video.scores.reduce((best, [, score]) => Math.max(best, score), -1);
}

function scoreCell(score) {
  if (score === undefined) {
    return element("td", { class: "without" }, element("span", { "aria-hidden": "true" }, "·"), hidden("none"));
  }
  return element("td", { class: `step-${stepOf(score)}` }, score.toFixed(0));
}

function drawHeatMap(facts, showVideo) {
  const place = document.getElementById("heat-table");
  if (!place) return;
  const scoresOf = new Map(facts.videos.map((one) => [one, new Map(one.scores)]));
  const videos = facts.videos.filter((one) => one.scores.length);
  const state = { column: "best", descending: true, rows: ROWS_AT_ONCE, first: 0, filter: "" };
  const valueOf = (video) => state.column === "best" ? bestOf(video) : scoresOf.get(video).get(state.column) ?? -1;
  const compare = (a, b) => {
    const order = state.column === "video" ? (a.id < b.id ? -1 : 1) : valueOf(a) - valueOf(b);
    return (state.descending ? -order : order) || (a.id < b.id ? -1 : 1);
  };
  const sortBy = (column) => {
    state.descending = state.column === column ? !state.descending : column !== "video";
    state.column = column;
    draw();
    place.querySelector(`button[data-column="${column}"]`).focus();
  };
  // A very long name is cut off here, and whole for a pointer, for a screen reader and above.
  const head = (column, label, title = null) => element(
    "th",
    { scope: "col", "aria-sort": state.column === column ? (state.descending ? "descending" : "ascending") : null },
    element("button", { type: "button", "data-column": column, title, click: () => sortBy(column) }, label,
      element("span", { class: "arrow", "aria-hidden": "true" },
        state.column === column ? (state.descending ? " ▼" : " ▲") : "")),
  );
  const page = (by) => { state.first += by; draw(); };
  const draw = () => {
    const wanted = facts.classes.map((one, number) => ({ one, number }))
      .filter(({ one }) => one.name.toLowerCase().includes(state.filter));
    const columns = wanted.slice(state.first, state.first + COLUMNS_AT_ONCE);
    const rows = videos.toSorted(compare).slice(0, state.rows);
    place.replaceChildren(
      element("div", { class: "scroll", role: "region", "aria-label": "Scores of videos by class", tabindex: 0 },
        element("table", { class: "heat" },
          element("caption", { class: "visually-hidden" }, "Scores of videos by class; the buttons in its head sort it"),
          element("thead", {}, element("tr", {}, head("video", "video"), head("best", "best"),
            ...columns.map(({ one, number }) => head(number, named(one.name), one.name)))),
          element("tbody", {}, ...rows.map((video) => element("tr", {},
            element("th", { scope: "row" },
              element("button", { type: "button", click: () => showVideo(video.id, true) }, video.id)),
            scoreCell(bestOf(video)),
            ...columns.map(({ number }) => scoreCell(scoresOf.get(video).get(number)))))))),
      element("p", { class: "controls" },
        element("span", { role: "status" },
          `${rows.length} of ${amount(videos.length, "video")}, ` +
          (wanted.length > COLUMNS_AT_ONCE
            ? `classes ${state.first + 1} to ${state.first + columns.length} of ${wanted.length}. `
            : `${wanted.length === 1 ? "1 class" : `${wanted.length} classes`}. `)),
        rows.length < videos.length
          ? element("button", { type: "button", click: () => { state.rows += ROWS_AT_ONCE; draw(); } }, "More videos") : null,
        wanted.length > COLUMNS_AT_ONCE
          ? element("button", { type: "button", disabled: state.first === 0, click: () => page(-COLUMNS_AT_ONCE) },
            "Previous classes") : null,
        wanted.length > COLUMNS_AT_ONCE
          ? element("button", { type: "button", disabled: state.first + COLUMNS_AT_ONCE >= wanted.length,
            click: () => page(COLUMNS_AT_ONCE) }, "Next classes") : null),
    );
  };
  const controls = document.getElementById("heat-controls");
  if (facts.classes.length > COLUMNS_AT_ONCE) {
    const filter = element("input", {
      type: "search", input: () => { state.filter = filter.value.toLowerCase(); state.first = 0; draw(); },
    });
    controls.append(labelled("Class contains", filter));
  }
  controls.append(scaleOfColours());
  draw();
}

function scaleOfColours() {
  return element("p", { class: "legend scale" }, "Score ",
    ...Array.from({ length: 10 }, (_, step) =>
      element("span", { class: `swatch step-${step}` }, String(step * 10))), " to 100");
}
