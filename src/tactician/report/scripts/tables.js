// Tables can be sorted by their heads and saved as CSV.

const bare = (cell) => cell.textContent.replace(/\s+/g, " ").trim();

function tableRows(table) {
  return [...table.rows].map((row) => [...row.cells].map((cell) => cell.dataset.value ?? bare(cell)));
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
