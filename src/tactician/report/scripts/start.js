// Unpacks the page's data and the chart library, draws, and listens.

const LETTERS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%&()*+-;,=>?@^_`{|}~";

// Base 85 as Python writes it, with "," for "<": five letters for four bytes, fewer for the last ones.
function bytesOf(text) {
  const values = new Uint8Array(128);
  for (let k = 0; k < LETTERS.length; k += 1) values[LETTERS.charCodeAt(k)] = k;
  const whole = text.padEnd(5 * Math.ceil(text.length / 5), LETTERS.at(-1));
  const bytes = new DataView(new ArrayBuffer((whole.length / 5) * 4));
  for (let k = 0; 5 * k < whole.length; k += 1) {
    let word = 0;
    for (let j = 5 * k; j < 5 * k + 5; j += 1) word = 85 * word + values[whole.charCodeAt(j)];
    bytes.setUint32(4 * k, word);
  }
  return new Uint8Array(bytes.buffer, 0, Math.floor((text.length * 4) / 5));
}

async function unpacked(id) {
  const bytes = bytesOf(document.getElementById(id).textContent);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).text();
}

const SETTINGS = { displayModeBar: false, responsive: true, doubleClick: false, showTips: false };
const charts = () => ["wealth-chart", "timeline-chart"].map((id) => document.getElementById(id));

function draw(id, { traces, layout: how }) {
  return Plotly.react(document.getElementById(id), traces, how, SETTINGS);
}
const drawWealth = () => draw("wealth-chart", wealthFigure());
const drawTimeline = () => draw("timeline-chart", timelineFigure());

function drawAll() {
  drawChips();
  drawLegends();
  drawWhy();
  readout(state.day);
  document.getElementById("day").value = data.decided[state.day];
  return Promise.all([drawWealth(), drawTimeline()]);
}

function choose(day) {
  if (day === undefined) return;
  state.day = day;
  document.getElementById("day").value = data.decided[day];
  readout(day);
  drawWhy();
  for (const chart of charts()) Plotly.relayout(chart, { shapes: [marker()] });
}

function zoom(range) {
  state.range = range;
  const axisNow = { range: range ?? wholeRange(), ...ticks(range) };
  const change = Object.fromEntries(Object.entries(axisNow).map(([name, value]) => [`xaxis.${name}`, value]));
  for (const chart of charts()) Plotly.relayout(chart, change);
  markRange();
}

// The last so many days; null is all of them.
const RANGES = [["All", null], ["3 y", 1096], ["1 y", 366], ["3 m", 92]];

function spanOf(days) {
  if (days === null) return null;
  const [, end] = wholeRange();
  return [new Date(Date.parse(`${end}Z`) - days * DAY).toISOString().slice(0, 19), end];
}

function markRange() {
  for (const button of document.querySelectorAll("[data-days]")) {
    const span = spanOf(button.dataset.days === "" ? null : Number(button.dataset.days));
    button.setAttribute("aria-pressed", JSON.stringify(span) === JSON.stringify(state.range));
  }
}

function offerRanges() {
  const whole = (Date.parse(data.dates.at(-1)) - Date.parse(data.dates[0])) / DAY;
  const offered = RANGES.filter(([, days]) => days === null || days < whole);
  for (const group of document.querySelectorAll("[data-ranges]")) {
    if (offered.length < 2) group.remove();
    group.append(...offered.map(([label, days]) => {
      const button = element("button", label, { type: "button", "data-days": days ?? "" });
      button.addEventListener("click", () => zoom(spanOf(days)));
      return button;
    }));
  }
  markRange();
}

function listenToControls() {
  const rows = { wealth: wealthRows, timeline: timelineRows, why: whyRows };
  for (const button of document.querySelectorAll("[data-download]")) {
    button.addEventListener("click", () => download(button.dataset.download, rows[button.dataset.download]()));
  }
  for (const button of document.querySelectorAll("[data-step]")) {
    button.addEventListener("click", () => choose(tradeFrom(state.day, Number(button.dataset.step))));
  }
  const scales = [...document.querySelectorAll("[data-scale]")];
  for (const button of scales) {
    button.addEventListener("click", () => {
      state.log = button.dataset.scale === "log";
      for (const other of scales) other.setAttribute("aria-pressed", other === button);
      drawWealth();
    });
  }
  document.getElementById("day").addEventListener("change", ({ target }) => target.value && choose(sessionOn(target.value)));
}

function listenToCharts() {
  const pointed = ({ points }) => data.index.get(String(points[0].x).slice(0, 10));
  for (const chart of charts()) {
    chart.on("plotly_click", (event) => choose(pointed(event)));
    chart.on("plotly_hover", (event) => readout(pointed(event) ?? state.day));
    chart.on("plotly_unhover", () => readout(state.day));
    chart.on("plotly_doubleclick", () => zoom(null));
    chart.on("plotly_relayout", (event) => {
      // Only a reader's own zoom has both ends; what `zoom` sets itself has not.
      if (event["xaxis.range[0]"]) zoom([event["xaxis.range[0]"], event["xaxis.range[1]"]]);
    });
  }
}

function followTheReader() {
  darkScheme.addEventListener("change", drawAll);
  const print = (on) => () => {
    document.documentElement.toggleAttribute("data-printing", on);
    drawAll();
  };
  addEventListener("beforeprint", print(true));
  addEventListener("afterprint", print(false));
  let wasNarrow = narrow();
  addEventListener("resize", () => {
    if (narrow() !== wasNarrow) drawAll();
    wasNarrow = narrow();
  });
}

async function start() {
  document.documentElement.classList.add("scripted");
  for (const table of document.querySelectorAll("table[data-csv]")) offerDownload(table);
  for (const table of document.querySelectorAll("table.sortable")) makeSortable(table);
  try {
    prepare(JSON.parse(await unpacked("chart-data")));
    const library = document.createElement("script");
    library.textContent = await unpacked("chart-library");
    document.head.append(library);
    await drawAll();
    offerRanges();
    listenToControls();
    listenToCharts();
    followTheReader();
    document.documentElement.classList.add("drawn");
  } catch (problem) {
    document.documentElement.classList.remove("scripted");
    document.getElementById("chart-problem").hidden = false;
    console.error(problem);
  }
}

start();
