"use strict";
// Tables sort by the column whose heading is pressed: by number where its cells hold numbers.
const UNITS = { k: 1e3, M: 1e6, G: 1e9, s: 1, min: 60, h: 3600, "%": 1 };
const numberOf = (cell) => {
  const found = /^([+−-]?\d[\d.]*(?:e[+-]?\d+)?)\s*(k|M|G|s|min|h|%)?(?![\w.])/.exec(cell.innerText.trim());
  return found ? Number(found[1].replace("−", "-")) * (UNITS[found[2]] ?? 1) : NaN;
};
const before = (a, b) => {
  const [x, y] = [numberOf(a), numberOf(b)];
  if (isNaN(x) || isNaN(y)) {
    return isNaN(x) - isNaN(y) || a.innerText.localeCompare(b.innerText, "en", { numeric: true });
  }
  return x - y;
};
for (const heading of document.querySelectorAll("table.sorts thead th")) {
  const button = document.createElement("button");
  button.type = "button";
  button.append(...heading.childNodes);
  const way = document.createElement("span");
  way.className = "way";
  button.firstChild ? button.firstChild.after(way) : button.append(way);
  heading.append(button);
  button.addEventListener("click", () => {
    const up = heading.getAttribute("aria-sort") === "descending";
    for (const other of heading.parentNode.children) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", up ? "ascending" : "descending");
    const body = heading.closest("table").tBodies[0];
    const at = heading.cellIndex;
    const missing = (row) => row.cells[at].innerText.trim() === "–";
    const rows = [...body.rows].sort((a, b) =>
      missing(a) - missing(b) || (up ? 1 : -1) * before(a.cells[at], b.cells[at]));
    body.append(...rows);
  });
}
// Entries of a legend hide and show their lines.
for (const button of document.querySelectorAll(".legend button")) {
  button.addEventListener("click", () => {
    const on = button.getAttribute("aria-pressed") === "false";
    button.setAttribute("aria-pressed", on);
    const lines = button.closest("figure").querySelectorAll(`[data-series="${button.dataset.entry}"]`);
    for (const line of lines) line.classList.toggle("off", !on);
  });
}
// The text of a point appears at once, also on touch; without scripts the browser shows its title.
const tip = document.getElementById("tip");
for (const mark of document.querySelectorAll(".mark")) {
  const title = mark.querySelector("title");
  const text = title.textContent;
  title.remove();
  mark.setAttribute("aria-label", text);
  const show = () => {
    const box = mark.querySelector("circle").getBoundingClientRect();
    tip.textContent = text;
    tip.hidden = false;
    tip.style.left = `${Math.max(4, Math.min(box.x + 14, innerWidth - tip.offsetWidth - 4))}px`;
    tip.style.top = `${Math.max(4, box.y - tip.offsetHeight - 6)}px`;
  };
  mark.addEventListener("pointerenter", show);
  mark.addEventListener("click", show);
  mark.addEventListener("pointerleave", () => { tip.hidden = true; });
}
// A printed page shows everything.
addEventListener("beforeprint", () => {
  for (const details of document.querySelectorAll("details")) details.open = true;
});
