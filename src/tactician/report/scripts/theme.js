// Colours of the page for the charts, read from the style sheet, so that both change together.

const darkScheme = matchMedia("(prefers-color-scheme: dark)");
const printing = () => document.documentElement.hasAttribute("data-printing");
const dark = () => darkScheme.matches && !printing();

const shade = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

function mix(colour, other, share) {
  const parts = (c) => [1, 3, 5].map((k) => parseInt(c.slice(k, k + 2), 16));
  const [a, b] = [parts(colour), parts(other)];
  return "#" + a.map((x, k) => Math.round(x * (1 - share) + b[k] * share).toString(16).padStart(2, "0")).join("");
}

const seen = (colour) => (dark() ? mix(colour, "#ffffff", 0.2) : colour);
const tinted = (colour) => mix(seen(colour), shade("surface"), dark() ? 0.62 : 0.68);
const clear = (colour, strength) => colour + Math.round(255 * strength).toString(16).padStart(2, "0");

// Pixels of an A4 page between its margins; wealth and the verdict fit on the first.
const PRINT = { width: 690, low: 260, tall: 360, taller: 620 };
const narrow = () => !printing() && innerWidth < 600;

function axis(more = {}) {
  return {
    gridcolor: shade("line"), linecolor: shade("line"), zeroline: false, fixedrange: true, automargin: true,
    tickfont: { size: narrow() ? 10.5 : 12 }, ...more,
  };
}

// `size` is the class of the chart that says its height. Both charts have the same margins, so that the same date stands at the same place.
function layout(size, more) {
  return {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", showlegend: false, hovermode: "x unified",
    font: { family: shade("font"), size: 12.5, color: shade("muted") },
    margin: { l: narrow() ? 66 : 124, r: narrow() ? 6 : 14, t: 26, b: 38 },
    hoverlabel: { bgcolor: shade("surface"), bordercolor: shade("line"), font: { family: shade("font"), color: shade("ink"), size: 12 } },
    // A finger scrolls the page; a mouse zooms.
    dragmode: matchMedia("(pointer: coarse)").matches ? false : "zoom",
    shapes: [marker()],
    ...(printing() ? { width: PRINT.width, height: PRINT[size], autosize: false } : { autosize: true }),
    ...more,
    xaxis: axis({
      type: "date", range: state.range ?? wholeRange(), fixedrange: false, automargin: false, showgrid: false,
      showspikes: true, spikemode: "across", spikethickness: 1, spikedash: "solid", spikecolor: shade("muted"),
      spikesnap: "hovered data", hoverformat: "%a %-d %b %Y", nticks: narrow() ? 5 : 10, ...ticks(state.range), ...more.xaxis,
    }),
  };
}

// Sessions have no hours: over a few days each day has its tick.
function ticks(range) {
  const [first, last] = (range ?? wholeRange()).map((iso) => Date.parse(`${iso.replace(" ", "T")}Z`));
  return { tickmode: last - first < 8 * DAY ? "linear" : "auto", tick0: data.dates[0], dtick: DAY };
}

function marker() {
  const at = data.decided[state.day];
  return {
    type: "line", xref: "x", yref: "paper", x0: at, x1: at, y0: 0, y1: 1, layer: "above",
    line: { color: shade("ink"), width: 1, dash: "dot" },
  };
}

const title = (text, top) => ({
  text, xref: "paper", yref: "paper", x: 0, y: top, xanchor: "left", yanchor: "bottom", showarrow: false,
  font: { size: 12, color: shade("muted") },
});
