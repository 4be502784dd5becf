// Tables can be sorted by their heads and saved as CSV.

const bare = (cell) => cell.textContent.replace(/\s+/g, " ").trim();

// A figure with an interval fills three columns.
function tableRows(table) {
  const rows = [...table.rows].map((row) => [...row.cells]);
  const wide = new Set(rows.flatMap((row) => row.flatMap((cell, k) => ("low" in cell.dataset ? [k] : []))));
  const values = (cell, k, head) => {
    const value = cell.dataset.value ?? bare(cell);
    if (!wide.has(k)) return [value];
    return head ? [value, `${value}: low`, `${value}: high`] : [value, cell.dataset.low ?? "", cell.dataset.high ?? ""];
  };
  return rows.map((row, line) => row.flatMap((cell, k) => values(cell, k, line === 0)));
}

function offerDownload(table) {
  const button = element("button", "CSV", { type: "button", class: "save", "aria-label": "Download this table as CSV" });
  button.addEventListener("click", () => download(table.dataset.csv, tableRows(table)));
  table.closest(".boxed").querySelector(".head").append(button);
}

function makeSortable(table) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = element("button", [...head.childNodes], { type: "button", class: "sort" });
    button.addEventListener("click", () => {
      const falling = head.getAttribute("aria-sort") ? head.getAttribute("aria-sort") === "ascending" : column > 0;
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", falling ? "descending" : "ascending");
      sortRows(table.tBodies[0], column, falling);
    });
    head.replaceChildren(button);
  });
}

// What has no value stays at the end, whichever way the rest is sorted.
function sortRows(body, column, falling) {
  const keyOf = (row) => {
    const cell = row.cells[column];
    if (row.classList.contains("unavailable")) return null;
    if (column === 0) return bare(cell);
    return cell?.dataset.value ? Number(cell.dataset.value) : null;
  };
  const order = (a, b) => (typeof a === "string" ? a.localeCompare(b) : a - b) * (falling ? -1 : 1);
  const rows = [...body.rows].map((row) => [keyOf(row), row]);
  rows.sort(([a], [b]) => (a === null || b === null ? (a === null) - (b === null) : order(a, b)));
  body.append(...rows.map(([, row]) => row));
}

// The data of charts, by the name on their button.
function offerDownloads(rows) {
  for (const button of document.querySelectorAll("[data-download]")) {
    button.addEventListener("click", () => download(button.dataset.download, rows[button.dataset.download]()));
  }
}
