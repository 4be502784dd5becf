// Unpacks the page's data and the chart library, draws, and follows the reader.

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

function draw(id, { traces, layout: how }) {
  return Plotly.react(document.getElementById(id), traces, how, SETTINGS);
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

// Each page brings `prepare`, `drawAll`, and what it listens to.
async function openPage(listen) {
  document.documentElement.classList.add("scripted");
  for (const table of document.querySelectorAll("table[data-csv]")) offerDownload(table);
  for (const table of document.querySelectorAll("table.sortable")) makeSortable(table);
  if (charts().length === 0) {
    document.documentElement.classList.add("drawn");
    return;
  }
  try {
    prepare(JSON.parse(await unpacked("chart-data")));
    const library = document.createElement("script");
    library.textContent = await unpacked("chart-library");
    document.head.append(library);
    await drawAll();
    offerRanges();
    listen();
    followTheReader();
    document.documentElement.classList.add("drawn");
  } catch (problem) {
    document.documentElement.classList.remove("scripted");
    document.getElementById("chart-problem").hidden = false;
    console.error(problem);
  }
}
