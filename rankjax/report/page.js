"use strict";
// Tables and pictures stand in the page without this, which sorts, filters, saves and
// enlarges them. Names of classes and files are text to it, never markup.

const make = (tag, properties, ...children) => {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
};
const words = new Intl.Collator();
const number = (word) => Number(word.replaceAll(",", ""));

function sort(table, head) {
  const column = head.cellIndex;
  const rising = head.ariaSort !== "ascending";
  let keyed = [...table.tBodies[0].rows].map((row) => [row, row.cells[column].textContent]);
  let order = words.compare;
  if (keyed.every(([, word]) => !Number.isNaN(number(word)))) {
    keyed = keyed.map(([row, word]) => [row, number(word)]);
    order = (a, b) => a - b;
  }
  const rows = keyed.sort((one, two) => order(one[1], two[1])).map(([row]) => row);
  for (const other of table.tHead.rows[0].cells) other.ariaSort = null;
  head.ariaSort = rising ? "ascending" : "descending";
  const body = make("tbody", {});
  table.tBodies[0].replaceWith(body); // rows that change places in it take seconds
  body.append(...(rising ? rows : rows.reverse()));
}

function csv(table) {
  const quoted = (cell) => {
    const word = cell.textContent.trim();
    // A spreadsheet would compute what begins like a formula.
    const safe = /^[=+\-@\t\r]/.test(word) && Number.isNaN(number(word)) ? "'" + word : word;
    return `"${safe.replaceAll('"', '""')}"`;
  };
  const rows = [...table.rows].filter((row) => !row.hidden);
  return rows.map((row) => [...row.cells].map(quoted).join(",") + "\r\n").join("");
}

for (const table of document.querySelectorAll("table.long")) {
  for (const head of table.tHead.rows[0].cells) {
    const button = make("button", { onclick: () => sort(table, head) }, ...head.childNodes);
    head.append(button);
  }
  const rows = [...table.tBodies[0].rows];
  const count = make("output", {});
  const filter = make("input", { type: "search", placeholder: "filter" });
  filter.ariaLabel = "Show rows with these words";
  filter.oninput = () => {
    const word = filter.value.toLowerCase();
    for (const row of rows) row.hidden = !row.textContent.toLowerCase().includes(word);
    const shown = rows.filter((row) => !row.hidden).length;
    count.value = `${shown.toLocaleString("en")} of ${rows.length.toLocaleString("en")}`;
  };
  filter.oninput();
  const save = make("button", { textContent: "Save as CSV" });
  save.onclick = () => {
    const href = URL.createObjectURL(new Blob([csv(table)], { type: "text/csv" }));
    make("a", { href, download: "classes.csv" }).click();
    URL.revokeObjectURL(href);
  };
  table.parentElement.before(make("p", { className: "tools" }, filter, count, save));
}

const dialog = make("dialog", {});
dialog.ariaLabel = "Enlarged";
document.body.append(dialog);

function enlarge(thumb) {
  const group = [...(thumb.closest(".row") ?? thumb.closest("li")).querySelectorAll(".thumb")];
  const picture = thumb.querySelector("img");
  const strip = group.map((other) => opens(other.cloneNode(true), other));
  strip[group.indexOf(thumb)].ariaCurrent = "true";
  dialog.replaceChildren(
    ...(picture ? [make("img", { src: picture.src, alt: "" })] : []),
    make("p", { textContent: (picture ?? thumb).title }),
    make("div", { className: "strip" }, ...strip),
    make("button", { textContent: "Close", onclick: () => dialog.close() }),
  );
  dialog.onkeydown = (event) => {
    const next = group[group.indexOf(thumb) + ({ ArrowLeft: -1, ArrowRight: 1 }[event.key] ?? NaN)];
    if (next) enlarge(next);
  };
  dialog.onclose = () => thumb.focus();
  if (!dialog.open) dialog.showModal();
  strip[group.indexOf(thumb)].focus();
}

function opens(element, thumb) {
  Object.assign(element, { tabIndex: 0, role: "button", onclick: () => enlarge(thumb) });
  element.onkeydown = (event) => {
    if (event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault();
    enlarge(thumb);
  };
  return element;
}

document.querySelectorAll(".row .thumb, li > .thumb").forEach((thumb) => opens(thumb, thumb));
