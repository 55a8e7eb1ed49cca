// Tables that can be sorted by every column and searched by their words.
"use strict";

(() => {
  const { h } = atlas;

  /**
   * A table in a box that scrolls sideways. `columns`: {name, value(row): what it is sorted by, cell(row): what is shown
   * (default: the value), number: whether it stands right}. `search(row)`: its words, where there is to be a search.
   */
  atlas.table = (caption, columns, rows, { search = null, sortable = true, start = null } = {}) => {
    const cellOf = (column, row) => (column.cell ? column.cell(row) : String(column.value(row) ?? "–"));
    const lines = rows.map((row) => ({
      row,
      words: search ? search(row).toLowerCase() : "",
      element: h("tr", {}, columns.map((column, i) =>
        h(i ? "td" : "th", { class: column.number ? "number" : null, scope: i ? null : "row" }, cellOf(column, row)))),
    }));
    const body = h("tbody", {}, lines.map((line) => line.element));
    let order = lines, wanted = "", field = null;
    const note = h("p", { class: "note", "aria-live": "polite" });
    const fill = () => {
      const shown = order.filter((line) => line.words.includes(wanted));
      body.replaceChildren(...shown.map((line) => line.element));
      if (search) note.textContent = wanted ? `${shown.length} of ${lines.length} shown` : "";
    };
    let sorted = null, falling = false;
    const heads = columns.map((column) => {
      const head = h("th", { scope: "col", class: column.number ? "number" : null });
      if (!sortable) {
        head.append(column.name);
        return head;
      }
      const arrow = h("span", { class: "arrow", "aria-hidden": "true" }, "");
      head.append(h("button", { type: "button", click: () => sort(column) }, column.name, arrow));
      return head;
    });
    function sort(column, first = null) {
      falling = first ?? (sorted === column ? !falling : Boolean(column.number));
      sorted = column;
      const sign = falling ? -1 : 1;
      order = [...lines].sort((a, b) => {
        const [x, y] = [column.value(a.row), column.value(b.row)];
        if (x === y) return 0;
        if (x === null || x === undefined) return 1; // what is missing stays below
        if (y === null || y === undefined) return -1;
        return sign * (typeof x === "number" ? x - y : String(x).localeCompare(String(y), "en", { numeric: true }));
      });
      heads.forEach((head, i) => {
        head.removeAttribute("aria-sort");
        if (columns[i] === column) head.setAttribute("aria-sort", falling ? "descending" : "ascending");
        const arrow = head.querySelector(".arrow");
        if (arrow) arrow.textContent = columns[i] === column ? (falling ? " ▼" : " ▲") : "";
      });
      fill();
    }
    if (start) sort(columns.find((column) => column.name === start.column), start.falling);
    const table = h("table", { class: "kept" }, h("caption", {}, caption), h("thead", {}, h("tr", {}, heads)), body);
    table.keep = { get: () => [columns.indexOf(sorted), falling, field?.value], set: ([column, down, typed]) => {
      if (field) find(field.value = typed);
      if (columns[column]) sort(columns[column], down);
    } };
    const box = atlas.scrolled(caption, table);
    if (!search) return [box];
    function find(typed) {
      wanted = typed.trim().toLowerCase();
      fill();
    }
    field = h("input", { type: "search", autocomplete: "off", spellcheck: "false", input: () => find(field.value) });
    return [h("p", {}, h("label", {}, "Search ", field)), note, box];
  };

  /** A list of pairs, name and value. */
  atlas.facts = (pairs) => h("dl", { class: "facts" }, pairs.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));
})();
