"""What makes the page's tables sort and filter; the page is complete without it."""

SCRIPT = """
(function () {
  "use strict";
  var page = document.documentElement, filters = document.querySelector(".filters");
  page.classList.add("live");
  function value(row, column) { return row.cells[column].getAttribute("data-value"); }
  function order(a, b, down) {
    if (a === null || b === null) return (a === null) - (b === null);
    var x = Number(a), y = Number(b), both = a !== "" && b !== "" && !isNaN(x) && !isNaN(y);
    var found = both ? x - y : a.localeCompare(b);
    return down ? -found : found;
  }
  function sort(button) {
    var head = button.closest("th"), table = head.closest("table"), body = table.tBodies[0];
    var down = head.getAttribute("aria-sort") === "ascending", column = head.cellIndex;
    table.querySelectorAll("th[aria-sort]").forEach(function (one) { one.removeAttribute("aria-sort"); });
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    Array.from(body.rows).sort(function (a, b) { return order(value(a, column), value(b, column), down); })
      .forEach(function (row) { body.appendChild(row); });
  }
  document.querySelectorAll("th button").forEach(function (button) {
    button.addEventListener("click", function () { sort(button); });
  });
  function wanted(name) {
    var chosen = filters.querySelector("select[name=" + name + "]");
    return chosen && chosen.value !== "" ? [chosen.value] : null;
  }
  function filter() {
    var boxes = Array.from(filters.querySelectorAll("input[name=recipe]"));
    var keep = { network: wanted("network"), metric: wanted("metric"),
      recipe: boxes.filter(function (box) { return box.checked; }).map(function (box) { return box.value; }) };
    document.querySelectorAll("[data-recipe], [data-network], [data-metric]").forEach(function (one) {
      var shown = Object.keys(keep).every(function (name) {
        var own = one.getAttribute("data-" + name);
        return own === null || keep[name] === null || keep[name].indexOf(own) >= 0;
      });
      if (shown) one.removeAttribute("hidden"); else one.setAttribute("hidden", "");
    });
  }
  if (filters) { filters.addEventListener("change", filter); filter(); }
})();
"""
