// Chart of wealth over drawdown, on one time axis.

const GROSS = "gross", BAND = "band", SEEDS = "seeds";

function curveColour(curve, place) {
  if (place === 0) return shade("agent");
  return curve.name === "equal_weight" ? shade("rival") : seen(curve.colour);
}

function choices() {
  const [agent] = data.curves;
  const chips = data.curves.map((curve, k) => ({
    key: curve.name, label: curve.label, colour: curveColour(curve, k), last: curve.wealth.at(-1),
  }));
  if (data.band) {
    chips.splice(1, 0, { key: BAND, label: data.band.label, colour: clear(shade("agent"), 0.35) });
    chips.splice(2, 0, { key: SEEDS, label: "each seed", colour: clear(shade("agent"), 0.6) });
  }
  if (agent.grossWealth) {
    const last = agent.grossWealth.at(-1);
    chips.splice(1, 0, { key: GROSS, label: "before costs", colour: shade("gross"), last, dashed: true });
  }
  return chips;
}

function wealthFigure() {
  const x = data.dates;
  const traces = [];
  const line = (y, more, style) =>
    traces.push({ type: "scatter", mode: "lines", x, y, hoverinfo: "skip", ...more, line: { width: 1.5, ...style } });
  const blue = shade("agent");
  if (data.band && state.shown.has(BAND)) {
    line(data.band.low, {}, { width: 0 });
    line(data.band.high, { fill: "tonexty", fillcolor: clear(blue, 0.18) }, { width: 0 });
  }
  if (data.band && state.shown.has(SEEDS)) {
    for (const seed of data.band.seeds) line(seed.wealth, {}, { width: 0.8, color: clear(blue, 0.6) });
  }
  const [agent] = data.curves;
  // The agent is drawn last, over all others.
  data.curves.map((curve, k) => [curve, k]).reverse().forEach(([curve, k]) => {
    if (!state.shown.has(curve.name)) return;
    const style = { color: curveColour(curve, k), width: k === 0 ? 2.2 : 1.4 };
    const fall = curve.fall.map((f) => percent(f));
    const hovertemplate = "%{y:.3f} ×, drawdown %{customdata}";
    line(curve.wealth, { name: letters(curve.label, 28), customdata: fall, hovertemplate, hoverinfo: "all" }, style);
    const filled = k === 0 ? { fill: "tozeroy", fillcolor: clear(blue, 0.14) } : {};
    line(curve.fall, { yaxis: "y2", ...filled }, { ...style, width: k === 0 ? 1.4 : 1.1 });
  });
  if (agent.grossWealth && state.shown.has(GROSS)) {
    const more = { name: "before costs", hovertemplate: "%{y:.3f} ×", hoverinfo: "all" };
    line(agent.grossWealth, more, { color: shade("gross"), width: 1.3, dash: "dash" });
  }
  return {
    traces,
    layout: layout("tall", {
      xaxis: { anchor: "y2" },
      yaxis: axis({ domain: [0.36, 1], type: state.log ? "log" : "linear", ticksuffix: " ×", nticks: 7, tickformat: "~r",
        automargin: false }),
      yaxis2: axis({ domain: [0, 0.27], tickformat: ".0%", nticks: 4, rangemode: "tozero", automargin: false }),
      annotations: [title(`Wealth, start = 1${state.log ? ", log scale" : ""}`, 1), title("Drawdown from the peak", 0.27)],
    }),
  };
}

function wealthRows() {
  const [agent] = data.curves;
  const columns = data.curves.flatMap((c) => [[`${c.label}, wealth`, c.wealth], [`${c.label}, drawdown`, c.fall]]);
  if (agent.grossWealth) columns.push(["Agent before costs, wealth", agent.grossWealth]);
  if (data.band) {
    columns.push(["Band, low", data.band.low], ["Band, high", data.band.high]);
    for (const seed of data.band.seeds) columns.push([`Seed ${seed.seed}, wealth`, seed.wealth]);
  }
  return [["date", ...columns.map(([name]) => name)], ...data.dates.map((d, k) => [d, ...columns.map(([, y]) => y[k])])];
}

// The first few curves can be chosen at once, the rest after one more step.
const FIRST = 6;

function further(buttons) {
  const rest = buttons.slice(FIRST).filter((button) => button.getAttribute("aria-pressed") === "false");
  if (rest.length < 2 || state.allCurves) return [];
  for (const button of rest) button.hidden = true;
  const more = element("button", `${rest.length} more curves`, { type: "button", class: "more", "aria-expanded": "false" });
  more.addEventListener("click", () => {
    state.allCurves = true;
    for (const button of rest) button.hidden = false;
    rest[0].focus();
    more.remove();
  });
  return [more];
}

function drawChips() {
  const buttons = choices().map(({ key, label, colour, last, dashed }) => {
    const swatch = element("span", "", { class: dashed ? "swatch dashed" : "swatch", "aria-hidden": "true" });
    swatch.style.setProperty("--colour", colour);
    const end = known(last) ? element("span", `${number(last)} ×`, { class: "end" }) : "";
    const pressed = state.shown.has(key);
    const button = element("button", [swatch, label, end], { type: "button", "aria-pressed": pressed, "data-curve": key });
    button.addEventListener("click", () => {
      if (!state.shown.delete(key)) state.shown.add(key);
      button.setAttribute("aria-pressed", state.shown.has(key));
      drawWealth();
    });
    return button;
  });
  document.getElementById("curves").replaceChildren(...buttons, ...further(buttons));
}
