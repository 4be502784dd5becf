// The judge's page: draws its charts, and listens.

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

function listenToControls() {
  offerDownloads({ wealth: wealthRows, timeline: timelineRows, why: whyRows });
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
    shareRange(chart);
  }
}

openPage(() => {
  listenToControls();
  listenToCharts();
});
