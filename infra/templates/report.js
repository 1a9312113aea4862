"use strict";
// Sort a table by a column, filter its rows, enlarge a picture. The page is whole without this.
(() => {
  const make = (tag, set) => Object.assign(document.createElement(tag), set);

  const valueOf = (row, column) => {
    const cell = row.cells[column], value = cell.dataset.value ?? cell.textContent.trim();
    return value === "" || value === "–" ? null : isNaN(value) ? value.toLowerCase() : Number(value);
  };
  const compare = (a, b) =>
    typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), undefined, {numeric: true});

  for (const table of document.querySelectorAll("table[data-sortable]")) {
    const body = table.tBodies[0];
    [...table.tHead.rows[0].cells].forEach((head, column) => {
      const button = make("button", {type: "button", className: "sort"});
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const rows = [...body.rows], known = rows.filter(row => valueOf(row, column) !== null);
        const numbers = known.every(row => typeof valueOf(row, column) === "number");
        const before = head.getAttribute("aria-sort");
        const down = before ? before === "ascending" : numbers; // the highest number first, names from a on
        known.sort((a, b) => (down ? -1 : 1) * compare(valueOf(a, column), valueOf(b, column)));
        body.append(...known, ...rows.filter(row => !known.includes(row)));
        for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
      });
    });
    if (table.dataset.filter && body.rows.length > 5) {
      const field = make("input", {type: "search", className: "filter", placeholder: table.dataset.filter});
      field.setAttribute("aria-label", table.dataset.filter);
      const count = make("span", {className: "muted"});
      count.setAttribute("role", "status");
      field.addEventListener("input", () => {
        const words = field.value.toLowerCase().split(/\s+/);
        let shown = 0;
        for (const row of body.rows) {
          const text = row.textContent.toLowerCase();
          row.hidden = !words.every(word => text.includes(word));
          shown += !row.hidden;
        }
        count.textContent = field.value ? ` ${shown} of ${body.rows.length}` : "";
      });
      const line = make("p", {className: "filter-line"});
      line.append(field, count);
      table.closest(".scroll").before(line);
    }
  }

  const dialog = make("dialog", {className: "large"}), close = make("button", {type: "button", textContent: "Close"});
  const large = make("img"), words = make("p");
  close.addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", event => event.target === dialog && dialog.close());
  dialog.append(large, words, close);
  document.body.append(dialog);
  for (const image of document.querySelectorAll("figure img")) {
    const button = make("button", {type: "button", className: "enlarge", title: "Enlarge"});
    image.replaceWith(button);
    button.append(image);
    button.addEventListener("click", () => {
      large.src = image.src;
      words.textContent = large.alt = image.alt;
      dialog.showModal();
    });
  }
})();
