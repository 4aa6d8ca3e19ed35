for (const table of document.querySelectorAll("table")) {
  const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0];
  heads.forEach((head, i) => head.querySelector("button").addEventListener("click", () => {
    const up = head.getAttribute("aria-sort") !== "ascending";
    heads.forEach(each => each.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    const key = row => { const cell = row.cells[i], n = parseFloat(cell.dataset.value); return isNaN(n) ? cell.textContent : n; };
    const isNumber = key => typeof key === "number";
    const order = (a, b) => isNumber(a) && isNumber(b) ? (up ? a - b : b - a)
      : isNumber(a) !== isNumber(b) ? isNumber(b) - isNumber(a)  // what has no number comes last either way
      : (up ? 1 : -1) * a.localeCompare(b);
    [...body.rows].sort((a, b) => order(key(a), key(b))).forEach(row => body.append(row));
  }));
}
const filter = document.getElementById("filter");
filter.addEventListener("input", () => {
  const wanted = filter.value.toLowerCase();
  let shown = 0;
  for (const row of document.querySelectorAll("table[data-arms] tbody tr")) {
    row.hidden = !row.cells[0].textContent.toLowerCase().includes(wanted);
    shown += !row.hidden && row.closest("table").id === "arms";
  }
  document.getElementById("count").textContent = wanted ? shown + " arms shown" : "";
});
const tell = new ResizeObserver(seen => seen.forEach(({target}) => {
  const isWider = target.scrollWidth > target.clientWidth;
  target.nextElementSibling.hidden = !isWider;
  isWider ? target.setAttribute("tabindex", "0") : target.removeAttribute("tabindex");  // arrow keys scroll it
}));
document.querySelectorAll(".scroll").forEach(each => tell.observe(each));
