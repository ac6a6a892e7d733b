// Asks a local platform through the vendor's JavaScript SDK, as its guide shows, and tells as JSON what came back.
// Called with the base URLs of a sound and a troubled server, the index and the key: see shelf.py.
const { TwelveLabs } = require("twelvelabs-js");

const [sound, troubled, indexId, key] = process.argv.slice(2);
const delta = {
  options: ["visual"],
  classes: [{ name: "D", prompts: ["delta"] }],
  threshold: { minVideoScore: 1 },
};
const question = {
  options: ["visual", "conversation"],
  classes: [
    { name: "Baking", prompts: ["alpha"] },
    {
      name: "Words",
      prompts: ["beta", "gamma"],
      options: ["conversation", "text_in_video"],
      conversationOption: "exact_match",
    },
  ],
  conversationOption: "semantic",
  includeClips: true,
  showDetailedScore: true,
  pageLimit: 5,
  threshold: { minVideoScore: 10, minClipScore: 35, minDurationRatio: 0.01 },
};

function connect(url, apiKey = key) {
  process.env.TWELVELABS_BASE_URL = url;
  return new TwelveLabs({ apiKey });
}

// The ids on the page, and on all that follow it.
async function pages(page, idOf) {
  const found = [];
  for (let entries = page.data; entries; entries = await page.next()) {
    found.push(entries.map(idOf));
  }
  return found;
}

// An error by its class, its status, and the contract's code where it has one.
async function refusal(attempt) {
  try {
    return { answered: await attempt() };
  } catch (error) {
    return [error.constructor.name, error.status ?? null, error.status ? error.body.code ?? null : null];
  }
}

async function main() {
  const client = connect(sound);
  const [listed] = await client.index.list();
  const { data: [answer] } = await client.classify.videos({ videoIds: ["loaf"], options: ["visual"], classes: [question.classes[0]] });
  const videos = await client.index.video.list(indexId, { pageLimit: 50, sortBy: "filename" });
  const shown = await client.index.video.retrieve(indexId, "goal");
  const byIndex = await client.classify.index({ indexId, pageLimit: 5, ...delta });
  const second = await client.classify.byPageToken(byIndex.pageInfo.nextPageToken);
  const ailing = connect(troubled);
  const timed = (videoId) => ailing.classify.videos({ videoIds: [videoId], ...delta }, { timeout: 200 });
  const asked = (videoId) => ailing.classify.videos({ videoIds: [videoId], ...delta });

  return {
    index: [listed.id, listed.name, listed.videoCount, listed.totalDuration, listed.engines[0].options],
    indexAgain: (await client.index.retrieve(indexId)).name,
    indexPages: await pages(await client.index.listPagination({ pageLimit: 1 }), (one) => one.id),
    videos: videos.map((one) => one.id),
    filtered: [
      (await client.index.list({ name: "Shelf", id: indexId })).map((one) => one.id),
      (await client.index.list({ name: "Floor" })).map((one) => one.id),
      (await client.index.video.list(indexId, { duration: { gte: 50, lte: 90 } })).map((one) => one.id),
      (await client.index.video.list(indexId, { filename: "loaf.mp4" })).map((one) => one.id),
    ],
    video: [shown.id, shown.metadata.filename, shown.metadata.duration],
    videoPages: await pages(
      await client.index.video.listPagination(indexId, { pageLimit: 5, sortBy: "duration", sortOption: "asc" }),
      (one) => one.id,
    ),
    byVideos: (await client.classify.videos({ videoIds: ["goal", "loaf"], ...question })).data,
    byIndex: (await client.classify.index({ indexId, ...question })).data,
    bare: answer.classes[0],
    pagesByIndex: await pages(byIndex, (one) => one.videoId),
    second: second.data.map((one) => one.videoId),
    refusals: [
      await refusal(() => client.classify.index({ indexId, ...delta, pageLimit: 51 })),
      await refusal(() => client.index.list({ engineFamily: "marengo" })),
      await refusal(() => client.classify.byPageToken("none")),
      await refusal(() => connect(sound, "wrong").index.list()),
      await refusal(() => client.index.list({}, { headers: { "x-api-key": key, Origin: "https://evil.example" } })),
      await refusal(() => client.classify.videos({ videoIds: ["nope"], ...delta })),
      await refusal(() => client.classify.index({ indexId: "nope", ...delta })),
      await refusal(() => client.index.retrieve("nope")),
      await refusal(() => client.index.video.retrieve(indexId, "nope")),
      await refusal(() => client.index.delete(indexId)),
    ],
    failures: [
      await refusal(() => asked("v08")),
      await refusal(() => asked("v09")),
      await refusal(() => timed("v10")),
      await refusal(() => asked("v11")),
      await refusal(async () => (await asked("loaf")).data),
      await refusal(() => asked("loaf")),
    ],
  };
}

main().then((told) => process.stdout.write(JSON.stringify(told)));
