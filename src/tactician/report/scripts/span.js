// The range of dates that all charts of a page share.

const DAY = 86_400_000;

function wholeRange() {
  const half = DAY / 2;
  const at = (iso, by) => new Date(Date.parse(`${iso}T00:00:00Z`) + by).toISOString().slice(0, 19);
  return [at(data.decided[0], -half), at(data.dates.at(-1), half)];
}

const charts = () => [...document.querySelectorAll(".chart")];

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

// A reader's zoom in one chart is that of all.
function shareRange(chart) {
  chart.on("plotly_doubleclick", () => zoom(null));
  chart.on("plotly_relayout", (event) => {
    // Only a reader's own zoom has both ends; what `zoom` sets itself has not.
    if (event["xaxis.range[0]"]) zoom([event["xaxis.range[0]"], event["xaxis.range[1]"]]);
  });
}
