// The last of the scripts: reads what is embedded in the page, and draws.

const facts = JSON.parse(document.getElementById("facts").textContent);
for (const share of document.querySelectorAll(".share")) share.style.flexGrow = share.dataset.number;
drawClasses(facts);
drawHeatMap(facts, drawTimeline(facts));
drawPace(facts);
