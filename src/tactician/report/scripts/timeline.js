// Chart of what was chosen, when, at what price, and how surely: four panels on one time axis.

const MOST_ROWS = 12;
const PANELS = { strip: [0.93, 1], turnover: [0.78, 0.885], allocation: [0.4, 0.735], probabilities: [0, 0.355] };
const BANDS = ["strip", "turnover", "allocation", "probabilities"];

// Two shades for each regime, chosen and held, and one for a time before any choice.
function stripColours() {
  const { colours } = data.regimes;
  const shades = [shade("line"), ...colours.flatMap((c) => [seen(c), tinted(c)])];
  const n = shades.length;
  const scale = shades.flatMap((c, k) => [[k / n, c], [(k + 1) / n, c]]);
  const { chosen, hold } = data.regimes;
  const codes = data.regimes.inForce.map((r, k) => (r < 0 ? 0 : 1 + 2 * r + (chosen[k] === hold ? 1 : 0)));
  return { codes, scale, n };
}

function stripTrace() {
  const { codes, scale, n } = stripColours();
  return {
    type: "heatmap", x: data.decided, y: [0], z: [codes], zmin: -0.5, zmax: n - 0.5, colorscale: scale, showscale: false,
    customdata: [data.decided.map((_, k) => hoverWords(k))], hovertemplate: "%{customdata}<extra></extra>", yaxis: "y",
  };
}

function hoverWords(day) {
  const chance = chanceOf(day);
  return [
    letters(regimeWords(day), 60), `probability ${percent(chance)}`,
    `turnover ${percent(data.trading.turnover[day])} of the portfolio`, `cost ${basisPoints(data.trading.cost[day])}`,
  ].join("<br>");
}

const chanceOf = (day) => data.regimes.chance[day];

function turnoverTrace() {
  return {
    type: "scatter", mode: "lines", x: data.decided, y: data.trading.turnover, yaxis: "y2", hoverinfo: "none",
    line: { shape: "hvh", width: 1, color: shade("agent") }, fill: "tozeroy", fillcolor: clear(shade("agent"), 0.5),
  };
}

function allocationTraces() {
  const { names, colours, weights } = data.allocation;
  return names.map((name, k) => ({
    type: "scatter", mode: "lines", x: data.decided, y: weights[k], yaxis: "y3", stackgroup: "weights", name: letters(name),
    line: { width: 0, shape: "hvh", color: seen(colours[k]) }, fillcolor: clear(seen(colours[k]), 0.75), hoverinfo: "none",
  }));
}

const mean = (column) => column.reduce((sum, x) => sum + (x ?? 0), 0) / Math.max(column.length, 1);

function probabilityRows() {
  const { names, probabilities } = data.regimes;
  const order = names.map((_, k) => k).sort((a, b) => mean(probabilities[b]) - mean(probabilities[a]));
  const rows = order.slice(0, MOST_ROWS).map((k) => ({ name: names[k], colour: data.regimes.colours[k], z: probabilities[k] }));
  const rest = order.slice(MOST_ROWS);
  if (rest.length) {
    const z = data.decided.map((_, t) => rest.reduce((sum, k) => sum + (probabilities[k][t] ?? 0), 0));
    rows.push({ name: `${rest.length} others`, colour: null, z });
  }
  return rows;
}

function probabilityTrace(rows) {
  return {
    type: "heatmap", x: data.decided, y: rows.map((_, k) => k), z: rows.map((row) => row.z), yaxis: "y4", zmin: 0, zmax: 1,
    colorscale: [[0, shade("faint")], [0.5, mix(shade("faint"), shade("agent"), 0.62)], [1, shade("agent")]],
    showscale: false, hoverinfo: "none", ygap: 1,
  };
}

function timelineFigure() {
  const rows = probabilityRows();
  const label = ({ name, colour }) => {
    const swatch = colour ? `<span style="color:${seen(colour)}">■</span> ` : "";
    return swatch + letters(name, narrow() ? 8 : 14);
  };
  const panel = (name, more) => axis({ domain: PANELS[name], automargin: false, ...more });
  const plain = { showgrid: false, zeroline: false };
  const heads = {
    strip: "Regime chosen (strong) or held (pale)", turnover: "Turnover, share of the portfolio",
    allocation: "Allocation after the trade",
    probabilities: narrow() ? "Probability of each action" : "Probability of each action, pale 0 % to strong 100 %",
  };
  return {
    traces: [stripTrace(), turnoverTrace(), ...allocationTraces(), probabilityTrace(rows)],
    layout: layout("taller", {
      hovermode: "x", hoversubplots: "axis", hoverdistance: -1,
      xaxis: { anchor: "y4", hoverformat: "%a %-d %b %Y" },
      yaxis: panel("strip", { ...plain, showticklabels: false, ticks: "" }),
      yaxis2: panel("turnover", { tickformat: ".0%", nticks: 3, rangemode: "tozero" }),
      yaxis3: panel("allocation", { tickformat: ".0%", nticks: 5, range: [0, 1] }),
      yaxis4: panel("probabilities", { ...plain, ticks: "", autorange: "reversed", tickvals: rows.map((_, k) => k),
        ticktext: rows.map(label), tickfont: { size: narrow() ? 9 : 10.5 } }),
      annotations: BANDS.map((name) => title(heads[name], PANELS[name][1])),
    }),
  };
}

function drawLegends() {
  const entry = (name, colour, share) => {
    const swatch = element("span", "", { class: "swatch", "aria-hidden": "true" });
    swatch.style.setProperty("--colour", colour);
    return element("li", [swatch, element("span", name, { class: "name" }), element("span", share, { class: "end" })]);
  };
  const { names, colours, inForce: now } = data.regimes;
  const days = new Map();
  for (const k of now) days.set(k, (days.get(k) ?? 0) + 1);
  const regimes = [...days].sort((a, b) => b[1] - a[1]).map(([k, n]) =>
    entry(k < 0 ? "none yet" : names[k], k < 0 ? shade("line") : seen(colours[k]), percent(n / now.length)));
  document.getElementById("regimes-legend").replaceChildren(...regimes);
  const { allocation } = data;
  const assets = allocation.names.map((name, k) => entry(name, seen(allocation.colours[k]), percent(mean(allocation.weights[k]))));
  document.getElementById("assets-legend").replaceChildren(...assets);
}

// What is known of one day, in words.
function readout(day) {
  const { names, probabilities, chosen } = data.regimes;
  const { components, turnover, cost } = data.trading;
  const most = (labels, columns, skip, n) =>
    labels.map((label, k) => [label, columns[k][day], k]).filter(([, x, k]) => k !== skip && x > 0.0005)
      .sort((a, b) => b[1] - a[1]).slice(0, n).map(([label, x]) => `${label} ${percent(x, 0)}`).join(", ");
  const paid = Object.entries(components).map(([name, by]) => `${name} ${number(1e4 * by[day], 1)}`).join(", ");
  const last = day === data.decided.length - 1 ? "; the final sale into cash is in it" : "";
  const parts = [
    ["Regime", regimeWords(day)],
    ["Probability", `${percent(chanceOf(day))}; next ${most(names, probabilities, chosen[day], 2) || "none"}`],
    ["Turnover", `${percent(turnover[day])} of the portfolio${last}`],
    ["Cost", cost[day] > 0 ? `${percent(cost[day], 3)} of the portfolio (${basisPoints(cost[day])}: ${paid})` : percent(cost[day], 3)],
    ["Holds", most(data.allocation.names, data.allocation.weights, -1, 5) || MISSING],
  ];
  const list = parts.map(([name, words]) => element("div", [element("dt", name), element("dd", words)]));
  const head = element("p", longDay(data.decided[day]), { class: "day" });
  document.getElementById("readout").replaceChildren(head, element("dl", list));
}

function timelineRows() {
  const { regimes, allocation, trading } = data;
  const parts = Object.entries(trading.components);
  const head = ["date", "regime", "in force", "turnover", "cost", ...parts.map(([name]) => `cost: ${name}`),
    ...allocation.names.map((name) => `weight: ${name}`), ...regimes.names.map((name) => `probability: ${name}`)];
  const row = (d, k) => [d, regimes.names[regimes.chosen[k]], regimes.names[regimes.inForce[k]] ?? "",
    trading.turnover[k], trading.cost[k], ...parts.map(([, by]) => by[k]),
    ...allocation.weights.map((w) => w[k]), ...regimes.probabilities.map((p) => p[k])];
  return [head, ...data.decided.map(row)];
}
