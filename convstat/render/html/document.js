"use strict";

// What a cell is sorted by: its number where it has one, else its text.
function value(cell) {
  const text = cell ? cell.textContent.trim() : "";
  const digits = text.replace(/,/g, "").match(/^[^\w.]*[<>x+-]*\s*(\d+(?:\.\d+)?)/);
  if (!digits) return text;
  const number = parseFloat(digits[1]);
  return /^-/.test(text) ? -number : number;
}

function compare(one, other) {
  if (typeof one === typeof other) return one < other ? -1 : one > other ? 1 : 0;
  return typeof one === "number" ? -1 : 1;
}

// Headings become buttons; `sort` is told the column and its direction, or null for the order of the document.
function headings(table, sort) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const before = head.getAttribute("aria-sort");
      const numeric = head.classList.contains("r");
      const order = numeric ? ["descending", "ascending"] : ["ascending", "descending"];
      const next = before === null ? order[0] : before === order[0] ? order[1] : null;
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      if (next) head.setAttribute("aria-sort", next);
      sort(column, next === "descending" ? -1 : next === "ascending" ? 1 : 0);
    });
  });
}

function ordered(items, row, column, direction) {
  if (!direction) return items;
  const keyed = items.map((item, place) => ({ item, place, key: value(row(item).cells[column]) }));
  keyed.sort((a, b) => direction * compare(a.key, b.key) || a.place - b.place);
  return keyed.map((entry) => entry.item);
}

function plainTable(table) {
  const body = table.tBodies[0];
  const rows = [...body.rows];
  headings(table, (column, direction) => body.append(...ordered(rows, (row) => row, column, direction)));
}

function layerTable(table) {
  const body = table.tBodies[0];
  const top = [];
  const open = [];
  const nodes = [...body.rows].map((row) => {
    const node = { row, level: +row.dataset.l, inside: [], parent: null, folded: "f" in row.dataset };
    while (open.length && open[open.length - 1].level >= node.level) open.pop();
    node.parent = open[open.length - 1] || null;
    (node.parent ? node.parent.inside : top).push(node);
    if (row.classList.contains("block")) open.push(node);
    return node;
  });
  const isBlock = (node) => node.row.classList.contains("block");
  let column = 0, direction = 0, flat = false, words = "";

  function draw() {
    const order = [];
    if (flat || words) {
      const leaves = nodes.filter((node) => !isBlock(node) || (!flat && words));
      for (const node of ordered(leaves, (item) => item.row, column, direction)) {
        node.row.hidden = !!words && !node.row.textContent.toLowerCase().includes(words);
        order.push(node.row);
      }
      nodes.filter((node) => !leaves.includes(node)).forEach((node) => { node.row.hidden = true; order.push(node.row); });
    } else {
      const stack = ordered(top, (item) => item.row, column, direction).map((node) => [node, false]).reverse();
      while (stack.length) {
        const [node, hidden] = stack.pop();
        node.row.hidden = hidden;
        order.push(node.row);
        const inside = ordered(node.inside, (item) => item.row, column, direction);
        for (const child of [...inside].reverse()) stack.push([child, hidden || node.folded]);
      }
    }
    for (const node of nodes) {
      if (node.button) {
        node.button.textContent = node.folded ? "▸" : "▾";
        node.button.setAttribute("aria-expanded", String(!node.folded));
      }
    }
    body.append(...order);
  }

  for (const node of nodes.filter(isBlock)) {
    node.button = document.createElement("button");
    node.button.type = "button";
    node.button.className = "fold";
    node.button.setAttribute("aria-label", "fold or unfold");
    node.button.addEventListener("click", () => { node.folded = !node.folded; draw(); });
    node.row.cells[0].prepend(node.button);
  }
  headings(table, (chosen, way) => { column = chosen; direction = way; draw(); });

  const tools = document.createElement("div");
  tools.className = "tools";
  const action = (text, act) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = text;
    button.addEventListener("click", act);
    tools.append(button);
  };
  if (nodes.some(isBlock)) {
    action("unfold all", () => { nodes.forEach((node) => { node.folded = false; }); draw(); });
    action("fold all", () => { nodes.forEach((node) => { node.folded = isBlock(node); }); draw(); });
    const label = document.createElement("label");
    const box = document.createElement("input");
    box.type = "checkbox";
    box.addEventListener("change", () => { flat = box.checked; draw(); });
    label.append(box, " layers only");
    tools.append(label);
  }
  const search = document.createElement("input");
  search.type = "search";
  search.placeholder = "find a layer";
  search.setAttribute("aria-label", "find a layer");
  search.addEventListener("input", () => { words = search.value.trim().toLowerCase(); draw(); });
  tools.append(search);
  table.parentElement.before(tools);

  // A part of the drawing leads to its row.
  for (const part of table.closest("section").querySelectorAll(".icicle g")) {
    part.addEventListener("click", () => {
      const node = nodes.find((item) => item.row.id === part.dataset.row);
      if (!node) return;
      for (let block = node.parent; block; block = block.parent) block.folded = false;
      draw();
      table.querySelectorAll(".found").forEach((row) => row.classList.remove("found"));
      node.row.classList.add("found");
      node.row.scrollIntoView({ block: "center" });
    });
  }
  draw();
}

document.querySelectorAll("table.sortable").forEach(plainTable);
document.querySelectorAll("table.layers").forEach(layerTable);
document.documentElement.dataset.ready = "true";
