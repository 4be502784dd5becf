// What the charts show, out of what the page brings: wealth, falls from the peak, regimes in force, trades.

const data = {};
const state = {
  day: 0, range: null, log: false, allCurves: false, shown: new Set(["agent", "gross", "band", "equal_weight"]),
};

const TRADE = 0.001;

// After an unknown return nothing more is known of wealth.
function wealthOf(growth) {
  let sum = 0;
  return growth.map((g) => {
    sum = known(g) ? sum + g : NaN;
    return Number.isFinite(sum) ? Math.exp(sum) : null;
  });
}

function fallOf(wealth) {
  let peak = 1;
  return wealth.map((w) => {
    if (w === null) return null;
    peak = Math.max(peak, w);
    return w / peak - 1;
  });
}

// The regime whose portfolio is held: HOLD goes on with the one chosen last; before the first, nothing is in force.
function inForce({ chosen, hold }) {
  let now = -1;
  return chosen.map((regime) => (now = regime === hold ? now : regime));
}

function prepare(document) {
  Object.assign(data, document);
  data.index = new Map(data.decided.map((iso, k) => [iso, k]));
  for (const curve of data.curves) {
    curve.wealth = wealthOf(curve.growth);
    curve.fall = fallOf(curve.wealth);
  }
  const [agent] = data.curves;
  agent.grossWealth = agent.gross && wealthOf(agent.gross);
  data.regimes.inForce = inForce(data.regimes);
  data.trades = data.dates.flatMap((_, k) => (data.trading.turnover[k] >= TRADE ? [k] : []));
  // The largest trade is the day that a reader would ask about first. Entry and liquidation explain nothing.
  const inner = data.trades.filter((k) => k > 0 && k < data.dates.length - 1);
  const largest = (best, k) => (data.trading.turnover[k] > data.trading.turnover[best] ? k : best);
  state.day = inner.length ? inner.reduce(largest) : 0;
}

// The session on a day, or the last one before it.
function sessionOn(iso) {
  let low = 0, high = data.dates.length - 1;
  while (low < high) {
    const middle = Math.ceil((low + high) / 2);
    if (data.decided[middle] <= iso) low = middle;
    else high = middle - 1;
  }
  return low;
}

function tradeFrom(day, step) {
  return step > 0 ? data.trades.find((k) => k > day) : data.trades.findLast((k) => k < day);
}

function regimeWords(day) {
  const { names, chosen, hold } = data.regimes;
  const now = data.regimes.inForce[day];
  if (chosen[day] !== hold) return names[chosen[day]];
  return now < 0 ? `${names[hold]} (nothing chosen yet)` : `${names[hold]} (goes on with ${names[now]})`;
}
