"use strict";

// tables: a heading sorts by its column; "-" is last either way
function compared(a, b) {
  const [x, y] = [parseFloat(a), parseFloat(b)];
  if (Number.isNaN(x) && Number.isNaN(y)) return a.localeCompare(b, "en", { numeric: true });
  return x - y;
}

function sort(table, column) {
  const heads = [...table.tHead.rows[0].cells];
  const down = heads[column].getAttribute("aria-sort") === "ascending";
  const cell = (row) => row.cells[column].textContent.trim();
  const rows = [...table.tBodies[0].rows];
  const known = rows.filter((row) => cell(row) !== "-");
  const unknown = rows.filter((row) => cell(row) === "-");
  known.sort((a, b) => (down ? -1 : 1) * compared(cell(a), cell(b)));
  table.tBodies[0].append(...known, ...unknown);
  heads.forEach((head) => head.removeAttribute("aria-sort"));
  heads[column].setAttribute("aria-sort", down ? "descending" : "ascending");
}

for (const table of document.querySelectorAll("table.sorted")) {
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    head.querySelector("button").addEventListener("click", () => sort(table, column));
  });
}

// sliders: one of the pictures at a time
for (const figure of document.querySelectorAll(".slider")) {
  const stops = [...figure.querySelectorAll(".stop")];
  const input = figure.querySelector("input");
  const show = () => {
    stops.forEach((stop, i) => { stop.hidden = i !== Number(input.value); });
    const label = stops[Number(input.value)].dataset.label;
    figure.querySelector("output").textContent = label;
    input.setAttribute("aria-valuetext", label);
  };
  stops.forEach((stop) => { stop.querySelector(".label").hidden = true; });
  figure.querySelector(".control").hidden = false;
  input.addEventListener("input", show);
  show();
}

// on paper everything is open, and sliders show where they begin and end
const folded = [];
addEventListener("beforeprint", () => {
  for (const one of document.querySelectorAll("details:not([open])")) {
    folded.push(one);
    one.open = true;
  }
  for (const figure of document.querySelectorAll(".slider")) {
    const stops = [...figure.querySelectorAll(".stop")];
    stops.forEach((stop, i) => {
      stop.hidden = i > 0 && i < stops.length - 1;
      stop.querySelector(".label").hidden = false;
    });
  }
});
addEventListener("afterprint", () => {
  folded.splice(0).forEach((one) => { one.open = false; });
  for (const figure of document.querySelectorAll(".slider")) {
    figure.querySelectorAll(".label").forEach((label) => { label.hidden = true; });
    figure.querySelector("input").dispatchEvent(new Event("input"));
  }
});
