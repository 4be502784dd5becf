"use strict";
// Figures and dates as text, and text as files.

const MISSING = "not available";
const known = (x) => typeof x === "number" && Number.isFinite(x);

function fixed(x, digits, sign = false) {
  const text = Math.abs(x).toLocaleString("en-GB", { minimumFractionDigits: digits, maximumFractionDigits: digits });
  const zero = !/[1-9]/.test(text);
  return (zero ? "" : x < 0 ? "\u2212" : sign ? "+" : "") + text;
}

const number = (x, digits = 2, sign = false) => (known(x) ? fixed(x, digits, sign) : MISSING);
const percent = (x, digits = 1, sign = false) => (known(x) ? `${fixed(100 * x, digits, sign)}\u00a0%` : MISSING);
const basisPoints = (x) => (known(x) ? `${fixed(1e4 * x, 1)}\u00a0bp` : MISSING);

const longDay = (iso) =>
  new Date(`${iso}T00:00:00Z`).toLocaleDateString("en-GB", {
    weekday: "short", day: "numeric", month: "short", year: "numeric", timeZone: "UTC",
  });

// plotly.js reads a little HTML in its texts. A name out of a user's file is to be read letter by letter.
function letters(text, most = 40) {
  const cut = text.length > most ? `${text.slice(0, most - 1)}…` : text;
  return cut.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll("$", "&#36;");
}

function element(tag, content = "", attributes = {}) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...[content].flat());
  return made;
}

function csv(rows) {
  const field = (x) => {
    if (x === null || x === undefined) return "";
    if (typeof x === "number") return String(x);
    // A spreadsheet runs a text that begins like a formula.
    const text = /^[=+@\-\t\r]/.test(x) && Number.isNaN(Number(x)) ? `'${x}` : x;
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  return rows.map((row) => row.map(field).join(",")).join("\r\n") + "\r\n";
}

function download(name, rows) {
  const address = URL.createObjectURL(new Blob([csv(rows)], { type: "text/csv" }));
  element("a", "", { href: address, download: `${name}.csv` }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}
