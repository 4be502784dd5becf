// The page of an account: wealth beside the shadow backtest, and what trading cost beside what was expected.

const data = {};
const state = { day: 0, range: null };
const MARGIN = () => ({ l: narrow() ? 60 : 84, r: narrow() ? 6 : 14, t: 26, b: 38 });
// With a few sessions a line alone is hard to see.
const FEW = 8;

function prepare(document) {
  Object.assign(data, document, { decided: document.dates });
}

function line(name, x, y, colour, more = {}) {
  const { width = 1.6, dash = "solid", ...rest } = more;
  return {
    type: "scatter", mode: x.length < FEW ? "lines+markers" : "lines", name, x, y,
    line: { width, dash, color: colour }, marker: { size: 6, color: colour }, ...rest,
  };
}

function legend(id, entries) {
  const list = entries.map(({ name, colour, dash, end }) => {
    const swatch = element("span", "", { class: dash ? "swatch dashed" : "swatch", "aria-hidden": "true" });
    swatch.style.setProperty("--colour", colour);
    return element("li", [swatch, element("span", name), element("span", end, { class: "end" })]);
  });
  document.getElementById(id).replaceChildren(...list);
}

const adoptedMarks = () =>
  data.wealth.adopted_again.map((at) => ({
    type: "line", xref: "x", yref: "paper", x0: at, x1: at, y0: 0, y1: 1, layer: "below",
    line: { color: shade("warn"), width: 1, dash: "dot" },
  }));

function wealthFigure() {
  const { multiple, shadow, difference_bp: gap, before, after } = data.wealth;
  const [own, other] = [shade("agent"), shade("rival")];
  const told = before.map((x, k) => `value ${number(x)}, after the trades ${number(after[k])}`);
  const traces = [line("Account", data.dates, multiple, own,
    { width: 2.2, customdata: told, hovertemplate: "%{y:.4f} ×, %{customdata}" })];
  const top = shadow ? 0.4 : 0;
  const annotations = [title("Value before the trades, start = 1", 1)];
  const more = {};
  if (shadow) {
    const apart = gap.map((x) => `the account is ${number(x, 1, true)}\u00a0bp from it`);
    traces.unshift(line("Shadow backtest", data.dates, shadow, other,
      { dash: "dash", customdata: apart, hovertemplate: "%{y:.4f} ×, %{customdata}" }));
    traces.push(line("Difference", data.dates, gap, own,
      { width: 1.2, yaxis: "y2", fill: "tozeroy", fillcolor: clear(own, 0.14), hovertemplate: "%{y:+.2f} bp" }));
    annotations.push(title("Account over shadow, less one, in basis points", 0.27));
    more.yaxis2 = axis({ domain: [0, 0.27], nticks: 4, rangemode: "tozero", zeroline: true, zerolinecolor: shade("muted"),
      tickformat: "~g", automargin: false });
  }
  return {
    traces,
    layout: layout(shadow ? "tall" : "low", {
      margin: MARGIN(), shapes: adoptedMarks(), annotations, ...more, xaxis: { anchor: shadow ? "y2" : "y" },
      yaxis: axis({ domain: [top, 1], ticksuffix: " ×", nticks: 7, tickformat: ".4~f", automargin: false }),
    }),
  };
}

const capital = (name) => name[0].toUpperCase() + name.slice(1);

function costLines() {
  const { running, colours } = data;
  const parts = Object.entries(colours).map(([name, colour]) => ({ name: capital(name), y: running[name], colour: seen(colour), width: 1.2 }));
  return [
    ...parts,
    { name: "Expected", y: running.expected, colour: shade("rival"), dash: "dash" },
    { name: "All", y: running.total, colour: shade("agent"), width: 2.2 },
  ];
}

function costsFigure() {
  const x = data.running.sessions;
  return {
    traces: costLines().map(({ name, y, colour, ...style }) =>
      line(name, x, y, colour, { ...style, hovertemplate: "%{y:,.2f}" })),
    layout: layout("low", {
      margin: MARGIN(), shapes: [], annotations: [title("Shortfall so far, in currency; above zero is a cost", 1)],
      yaxis: axis({ nticks: 6, zeroline: true, zerolinecolor: shade("muted"), tickformat: ",~g", automargin: false }),
    }),
  };
}

const hasCosts = () => document.getElementById("costs-chart") !== null;

function drawAll() {
  const { multiple, shadow } = data.wealth;
  const end = (y) => number(y.at(-1), 4) + (known(y.at(-1)) ? " ×" : "");
  legend("wealth-legend", [
    { name: "Account", colour: shade("agent"), end: end(multiple) },
    ...(shadow ? [{ name: "Shadow backtest", colour: shade("rival"), dash: true, end: end(shadow) }] : []),
  ]);
  const drawn = [draw("wealth-chart", wealthFigure())];
  if (hasCosts()) {
    legend("costs-legend", costLines().map(({ y, ...entry }) => ({ ...entry, end: number(y.at(-1), 2, true) })));
    drawn.push(draw("costs-chart", costsFigure()));
  }
  return Promise.all(drawn);
}

function wealthRows() {
  const { before, after, multiple, shadow, difference_bp: gap } = data.wealth;
  const head = ["session", "value before trades", "value after trades", "multiple", "shadow multiple", "difference, bp"];
  return [head, ...data.dates.map((d, k) => [d, before[k], after[k], multiple[k], shadow?.[k], gap?.[k]])];
}

function costsRows() {
  const names = Object.keys(data.running);
  return [names, ...data.running.sessions.map((_, k) => names.map((name) => data.running[name][k]))];
}

openPage(() => {
  offerDownloads({ wealth: wealthRows, costs: costsRows });
  for (const chart of charts()) shareRange(chart);
});
