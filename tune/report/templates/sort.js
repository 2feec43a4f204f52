"use strict";
// A click on a heading sorts its table; another click turns the order round. Missing values come last.
for (const table of document.querySelectorAll("table")) {
  const body = table.tBodies[0];
  const value = (row, column) => row.cells[column].textContent.trim();
  const number = (text) => (text === "" ? NaN : Number(text.replaceAll(",", "").replace("\u2212", "-")));
  const missing = (text) => text === "" || text === "\u2013";
  table.querySelectorAll("thead th").forEach((heading, column) => {
    const button = document.createElement("button");
    button.append(...heading.childNodes);
    heading.append(button);
    button.addEventListener("click", () => {
      const turn = heading.getAttribute("aria-sort") === "ascending" ? -1 : 1;
      const rows = [...body.rows].map((row) => [value(row, column), row]);
      const numeric = rows.every(([text]) => missing(text) || !Number.isNaN(number(text)));
      const compare = (a, b) => (numeric ? number(a) - number(b) : a < b ? -1 : a > b ? 1 : 0);
      rows.sort(([a], [b]) => missing(a) - missing(b) || (missing(a) ? 0 : turn * compare(a, b)));
      body.append(...rows.map(([, row]) => row));
      table.querySelectorAll("thead th").forEach((other) => other.removeAttribute("aria-sort"));
      heading.setAttribute("aria-sort", turn > 0 ? "ascending" : "descending");
    });
  });
}
