// The observations that moved the decision of one day, as bars on both sides of zero.

// Triples of entry, effect and what was seen, in standard deviations.
const decisionOf = (day) => data.why.entry[day].map((entry, k) => [entry, data.why.effect[day][k], data.why.seen[day][k]]);

function drawWhy() {
  const body = document.querySelector("#decision tbody");
  if (!body || !data.why) return;
  const decision = decisionOf(state.day);
  const most = Math.max(...decision.map(([, effect]) => Math.abs(effect ?? 0)), 1e-12);
  document.getElementById("why-day").textContent =
    `${longDay(data.decided[state.day])}: ${regimeWords(state.day)}, ${percent(chanceOf(state.day))}`;
  const rows = decision.map(([entry, effect, seenValue]) =>
    element("tr", [
      element("th", data.why.entries[entry], { scope: "row" }),
      element("td", known(effect) ? bar(effect / most) : "", { class: "bar", "aria-hidden": "true" }),
      element("td", number(effect, 3, true), { class: "figure" }),
      element("td", number(seenValue, 1, true), { class: "figure" }),
    ]));
  const none = element("tr", element("td", "No explanation is available for this session.", { colspan: "4" }));
  body.replaceChildren(...(rows.length ? rows : [none]));
}

function bar(share) {
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  const piece = (tag, attributes) => {
    const made = document.createElementNS(space, tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    svg.append(made);
  };
  const width = 49 * Math.abs(share);
  const x = share < 0 ? 50 - width : 50;
  piece("rect", { x: `${x}%`, width: `${width}%`, y: "20%", height: "60%", class: share < 0 ? "against" : "for" });
  piece("line", { x1: "50%", x2: "50%", y1: "0", y2: "100%", class: "zero" });
  return svg;
}

function whyRows() {
  const rows = data.decided.flatMap((_, k) =>
    decisionOf(k).map(([entry, effect, value]) =>
      [data.decided[k], data.regimes.names[data.regimes.chosen[k]], data.why.entries[entry], effect, value]));
  return [["date", "regime", "observation", "effect", "seen, standard deviations"], ...rows];
}
