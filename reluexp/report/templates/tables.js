// Tables that can be sorted by their heads and filtered by words and by what a column says.
(() => {
  "use strict";
  const value = (row, column) => {
    const cell = row.cells[column];
    const raw = cell.dataset.sort ?? cell.textContent.trim();
    const number = raw === "" ? NaN : Number(raw);
    return Number.isNaN(number) && raw !== "Infinity" ? raw : number;
  };
  const compare = (a, b) => {
    const known = [a, b].map((v) => v !== "–" && v !== "");
    if (known[0] !== known[1]) return known[0] ? -1 : 1;
    if (typeof a === "number" && typeof b === "number") return a - b;
    return String(a).localeCompare(String(b), undefined, { numeric: true });
  };

  function sortable(table) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const down = head.getAttribute("aria-sort") === "descending";
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", down ? "ascending" : "descending");
        const body = table.tBodies[0];
        const rows = [...body.rows].sort((a, b) => {
          const order = compare(value(a, column), value(b, column));
          const missing = [a, b].some((row) => ["–", ""].includes(value(row, column)));
          return missing || down ? order : -order;
        });
        rows.forEach((row) => row.classList.remove("rule"));
        body.append(...rows);
      });
    });
  }

  function filterable(table) {
    const rows = [...table.tBodies[0].rows];
    const bar = document.createElement("div");
    bar.className = "controls";
    const count = document.createElement("output");
    const asked = new Map();
    const search = document.createElement("input");
    search.type = "search";
    const show = () => {
      let shown = 0;
      for (const row of rows) {
        const fits = [...asked].every(([column, wanted]) => !wanted || row.cells[column].textContent.trim() === wanted);
        const found = row.textContent.toLowerCase().includes(search.value.toLowerCase());
        row.hidden = !(fits && found);
        shown += !row.hidden;
      }
      count.textContent = `${shown} of ${rows.length} rows`;
    };
    const labelled = (text, control) => {
      const label = document.createElement("label");
      label.append(`${text} `, control);
      return label;
    };
    [...table.tHead.rows[0].cells].forEach((head, column) => {
      if (!head.classList.contains("word")) return;
      const values = [...new Set(rows.map((row) => row.cells[column].textContent.trim()))];
      if (values.length < 2 || values.length > 40) return;
      const select = document.createElement("select");
      select.append(new Option("all", ""), ...values.map((text) => new Option(text, text)));
      select.addEventListener("change", () => { asked.set(column, select.value); show(); });
      bar.append(labelled(head.textContent.trim(), select));
    });
    search.addEventListener("input", show);
    bar.append(labelled("find", search), count);
    table.closest(".wide").before(bar);
    show();
  }

  document.querySelectorAll("table[data-sortable]").forEach(sortable);
  document.querySelectorAll("table[data-filterable]").forEach(filterable);
})();
