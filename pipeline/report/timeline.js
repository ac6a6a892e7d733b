// One video: its classes, and where in it they were found. A lane for each class and each option it was found by.

const STATES = {
  scored: "scored", no_match: "answered, but reaches no class's thresholds",
  failed: "failed: see Failures", open: "not answered yet",
};

function lanesOf(video) {
  const lanes = new Map();
  for (const clip of video.clips) {
    const key = `${clip[0]} ${clip[4]}`;
    if (!lanes.has(key)) lanes.set(key, []);
    lanes.get(key).push(clip);
  }
  const best = (clips) => Math.max(...clips.map((clip) => clip[3]));
  return [...lanes.values()].sort((a, b) => best(b) - best(a));
}

function laneRow(clips, length, facts) {
  const [number, , , , option] = clips[0];
  const best = clips.reduce((a, b) => (b[3] > a[3] ? b : a));
  const name = facts.classes[number].name;
  const told = `${name}, ${facts.options[option] ?? "option not kept"}: ${amount(clips.length, "clip")}, ` +
    `the best ${best[3]} at ${position(best[1])}`;
  const lane = shape("svg", { viewBox: "0 0 1000 20", preserveAspectRatio: "none", role: "img", "aria-label": told });
  for (const [, start, end, score, , prompt] of clips) {
    const x = Math.min(997, (1000 * start) / length);
    lane.append(shape("rect", {
      class: `step-${stepOf(score)}`, x, y: 1, height: 18, width: Math.max(3, (1000 * end) / length - x),
    }, shape("title", {}, `${position(start)} to ${position(end)}, score ${score}: ${facts.prompts[prompt] ?? "…"}`)));
  }
  return element("li", { class: "lane" },
    element("span", { class: "lane-name" }, named(name), " ",
      element("span", { class: "muted" }, facts.options[option] ?? "…")), lane);
}

function lanesWithAxis(video, facts) {
  const last = video.clips.reduce((latest, clip) => Math.max(latest, clip[2]), 0);
  const length = Math.max(video.seconds ?? 0, last, 1);
  return [
    element("ul", { class: "lanes" }, ...lanesOf(video).map((clips) => laneRow(clips, length, facts))),
    element("div", { class: "lane-axis", "aria-hidden": "true" }, element("span", {}, "time"),
      element("span", { class: "ticks" }, ...[0, 0.25, 0.5, 0.75, 1].map((share) => element("span", {}, position(share * length))))),
  ];
}

function clipsTable(video, facts) {
  return table(`Clips of ${video.id}`, ["from", "to", "class", "score#", "found in", "prompt"],
    video.clips.map(([number, start, end, score, option, prompt]) => [
      position(start), position(end), named(facts.classes[number].name), score.toFixed(2),
      named(facts.options[option] ?? "…"), named(facts.prompts[prompt] ?? "(not kept on this page)"),
    ]));
}

function scoresTable(video, facts) {
  const rows = video.scores.toSorted((a, b) => b[1] - a[1]).map(([number, score, ratio]) => [
    named(facts.classes[number].name), score.toFixed(2), `${(ratio * 100).toFixed(0)} %`,
    String(video.clips.filter((clip) => clip[0] === number).length)]);
  const heads = ["class", "score#", "share of time#", "clips#"];
  return table(`Classes of ${video.id}`, facts.hasClips ? heads : heads.slice(0, 3),
    facts.hasClips ? rows : rows.map((row) => row.slice(0, 3)));
}

function videoPicture(video, facts) {
  const known = video.seconds === null ? "duration unknown" : `${position(video.seconds)} long`;
  const parts = [element("h3", {}, element("code", {}, video.id), ` ${known}, ${STATES[video.state]}`)];
  if (video.scores.length) parts.push(scoresTable(video, facts));
  if (video.clips.length) parts.push(...lanesWithAxis(video, facts), scaleOfColours());
  if (video.clipsLeftOut) {
    parts.push(element("p", { class: "muted" },
      `${amount(video.clipsLeftOut, "weaker clip")} not on this page; clips.ndjson has all.`));
  }
  if (video.clips.length) parts.push(clipsTable(video, facts));
  if (video.scores.length && !facts.hasClips) {
    parts.push(element("p", { class: "nothing" }, "The job did not ask for clips (job.include_clips)."));
  }
  return parts;
}

// Returns what shows a video by its id, and on demand moves there.
function drawTimeline(facts) {
  const place = document.getElementById("timeline-picture");
  if (!place || !facts.videos.length) return () => {};
  const byId = new Map(facts.videos.map((one) => [one.id, one]));
  const list = element("datalist", { id: "video-ids" }, ...facts.videos.map((one) => element("option", { value: one.id })));
  const show = (id, move = false) => {
    const video = byId.get(id.trim());
    if (video) {
      search.value = video.id;
      place.replaceChildren(...videoPicture(video, facts));
    } else {
      place.replaceChildren(element("p", { class: "nothing" }, "This page does not hold the clips of ", named(id.trim().slice(0, 100)),
        ". If the run has such a video, make the page again with ", element("code", {}, "--video"), " and its id."));
    }
    if (move) {
      document.getElementById("timeline").scrollIntoView();
      search.focus({ preventScroll: true });
    }
  };
  const search = element("input", {
    type: "search", list: "video-ids", autocomplete: "off", spellcheck: "false", change: () => show(search.value),
  });
  const step = (by) => {
    const at = facts.videos.indexOf(byId.get(search.value.trim()));
    show(facts.videos[(at + by + facts.videos.length) % facts.videos.length].id);
  };
  document.getElementById("timeline-controls").append(
    labelled(`Video (${facts.videos.length.toLocaleString("en")} on this page)`, search), list,
    ...(facts.videos.length > 1 ? [[-1, "Previous video"], [1, "Next video"]] : []).map(([by, text]) =>
      element("button", { type: "button", click: () => step(by) }, text)),
  );
  show(facts.videos[0].id);
  return show;
}
