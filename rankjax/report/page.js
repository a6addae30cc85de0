"use strict";
// Tables and pictures stand in the page without this, which sorts, filters, saves and
// enlarges them, and draws the map. Names of classes and files are text to it, never markup.

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

// All rows, which the page knows by their place in these arrays.
const data = JSON.parse(document.getElementById("rows").textContent);
const unpack = (name, Kind = Uint16Array) =>
  new Kind(Uint8Array.from(atob(data[name] ?? ""), (letter) => letter.charCodeAt(0)).buffer);
const rows = unpack("rows", Uint32Array);
const [labels, near, cosines] = ["labels", "near", "cosines"].map((name) => unpack(name));
const found = unpack("found", Uint8Array);
const places = new Map([...rows].map((row, i) => [String(row), i]));
const sheet = make("img", { src: data.sheet ?? "" });
const SIDE = 32;
const columns = Math.ceil(Math.sqrt(data.pictures ?? 0));
const path = (i) => (data.paths ? data.common + data.paths[i] : `row ${rows[i]}`);
const note = (i, ...more) => [...new Set([data.names[labels[i]], ...more, path(i)])].filter(Boolean).join(", ");

const verdict = (i) => ["", "finds its class first", "finds another class first"][found[i]];
const known = data.names.length < rows.length; // else each row is a class of its own

const large = new Map();
for (const img of document.querySelectorAll("[data-row] img"))
  large.set(places.get(img.parentElement.dataset.row), img.src);

function fromSheet(scene, i, x, y, side) {
  const [column, line] = [i % columns, Math.floor(i / columns)];
  scene.drawImage(sheet, column * SIDE, line * SIDE, SIDE, SIDE, x, y, side, side);
}

// The best picture of a row that there is: its file, what the page shows, or a small one.
function picture(i, file = true) {
  if (file && data.folder !== undefined) {
    // A path of another machine or scheme becomes one that begins in the folder.
    const url = path(i).startsWith("/") ? path(i).replace(/^\/+/, "/") : `${data.folder}/${path(i)}`;
    const img = make("img", { alt: note(i), src: url.split("/").map(encodeURIComponent).join("/") });
    img.onerror = () => img.replaceWith(picture(i, false));
    return img;
  }
  if (large.has(i)) return make("img", { alt: note(i), src: large.get(i) });
  if (!(i < data.pictures)) return make("bdi", { textContent: data.names[labels[i]] });
  const canvas = make("canvas", { width: SIDE, height: SIDE, role: "img", ariaLabel: note(i) });
  sheet.decode().then(() => fromSheet(canvas.getContext("2d"), i, 0, 0, SIDE));
  return canvas;
}

// The dialog shows a row and its nearest, from each of which one goes on; the address
// says which row, so that the browser's way back is the way back here.
const dialog = make("dialog", { ariaLabel: "Enlarged" });
document.body.append(dialog);
const enlarged = () => places.get(/^#row-(\d+)$/.exec(location.hash)?.[1]);
let opener, leaving;

function enlarge(i) {
  if (!dialog.open) opener = document.activeElement;
  history.pushState((history.state ?? 0) + 1, "", `#row-${rows[i]}`);
  show();
}

function leave() {
  if (leaving) return; // a second click would go back too far
  leaving = history.state;
  if (leaving) return history.go(-leaving);
  history.replaceState(null, "", "#");
  show();
}

function show() {
  const i = enlarged();
  if (i === undefined) return dialog.close();
  const k = near.length / rows.length;
  const strip = [...near.slice(i * k, (i + 1) * k)].map((j, rank) => {
    const same = labels[j] === labels[i];
    const frame = known ? (same ? "hit" : "miss") : "";
    const kind = known && (same ? "same class" : "another class");
    const cosine = (cosines[i * k + rank] / 1e4 - 1).toFixed(3);
    const inside = picture(j);
    const thumb = make("button", { className: `thumb ${frame}`, onclick: () => enlarge(j) }, inside);
    if (inside.tagName === "BDI") thumb.classList.add("named");
    thumb.title = `${rank + 1}: ${note(j, kind, `cosine ${cosine}`)}`;
    return make("figure", {}, thumb, make("figcaption", { textContent: cosine }));
  });
  const close = make("button", { textContent: "Close", onclick: leave });
  dialog.replaceChildren(
    make("div", { className: "large" }, picture(i)),
    make("p", { textContent: note(i, verdict(i)) }),
    ...(k ? [make("p", { className: "key", textContent: "Nearest of all, and cosines" })] : []),
    make("div", { className: "strip" }, ...strip),
    ...(history.state > 1 ? [make("button", { textContent: "Back", onclick: () => history.back() })] : []),
    close,
  );
  if (!dialog.open) dialog.showModal();
  close.focus();
}

dialog.onclose = () => {
  if (dialog.open) return; // the event is late, and another row has been enlarged since
  if (enlarged() !== undefined) leave();
  opener?.focus();
};
window.onpopstate = () => {
  leaving = null;
  show();
};

for (const thumb of document.querySelectorAll("[data-row]")) {
  const i = places.get(thumb.dataset.row);
  if (i === undefined) continue;
  Object.assign(thumb, { tabIndex: 0, role: "button", onclick: () => enlarge(i) });
  thumb.onkeydown = (event) => {
    if (event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault();
    enlarge(i);
  };
}

function atlas(figure) {
  const [x, y] = [unpack("x"), unpack("y")];
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const named = (name) => getComputedStyle(document.body).getPropertyValue(`--${name}`);
  const canvas = make("canvas", { tabIndex: 0, role: "application" });
  canvas.ariaLabel = "Map: arrow keys move it, plus and minus zoom, 0 shows all, Enter enlarges";
  const scene = canvas.getContext("2d");
  const byClass = [...x.keys()].sort((a, b) => labels[a] - labels[b]);
  const hues = data.names.map((_, label) => `hsl(${(label * 222.492) % 360} 72% ${label % 2 ? 58 : 42}%)`);
  let view = { x: 0.5, y: 0.5, zoom: 1 };
  let marked = -1;
  let picked = -1;
  let waiting = false;
  const shown = make("p", { className: "shown", role: "status" });
  const colours = make("select", { ariaLabel: "Colour", onchange: later }, make("option", { textContent: "colour by class" }));
  if (found.some(Boolean)) colours.append(make("option", { textContent: "by right or wrong" }));
  const options = make("datalist", { id: "names" }, ...[...new Set(data.names)].map((value) => make("option", { value })));
  const pick = make("input", { type: "search", placeholder: "pick a class", ariaLabel: "Class that is picked" });
  pick.setAttribute("list", "names");
  pick.oninput = () => {
    picked = data.names.indexOf(pick.value);
    later();
  };
  const button = (textContent, label, onclick) => make("button", { textContent, ariaLabel: label, onclick });
  const middle = () => [width / 2, height / 2];
  const tools = make("p", { className: "tools" }, colours, pick, options,
    button("+", "Zoom in", () => zoom(1.6, ...middle())),
    button("−", "Zoom out", () => zoom(1 / 1.6, ...middle())),
    button("all", "Show all", all));

  let [width, height] = [1, 1];
  const fill = 0.94;
  const across = (i) => ((x[i] / 65535 - view.x) * view.zoom * fill + 0.5) * width;
  const down = (i) => ((y[i] / 65535 - view.y) * view.zoom * fill + 0.5) * height;

  function later() {
    if (!waiting) requestAnimationFrame(draw);
    waiting = true;
  }

  function draw() {
    waiting = false;
    [width, height] = [canvas.clientWidth, canvas.clientHeight];
    const dots = devicePixelRatio;
    Object.assign(canvas, { width: width * dots, height: height * dots });
    canvas.style.touchAction = view.zoom > 1 ? "none" : "pan-y";
    scene.scale(dots, dots);
    const kinds = colours.selectedIndex ? ["grey", "hit", "miss"].map(named) : null;
    const colour = (i) => (kinds ? kinds[found[i]] : hues[labels[i]]);
    const alpha = (i) => (picked < 0 || labels[i] === picked ? 1 : 0.1);
    const inside = (i) => Math.abs(across(i) - width / 2) < width / 2 + 20 && Math.abs(down(i) - height / 2) < height / 2 + 20;
    const focus = marked < 0 ? picked : labels[marked];
    const seen = byClass.filter(inside);
    let before;
    for (const i of seen) {
      const radius = labels[i] === focus ? 4.5 : 2;
      scene.globalAlpha = alpha(i);
      if (colour(i) !== before) scene.fillStyle = before = colour(i); // which takes long
      scene.fillRect(across(i) - radius, down(i) - radius, 2 * radius, 2 * radius);
    }
    // Pictures where there is room, in the order of rows, which is one of each class first.
    const side = 34;
    const taken = new Map();
    const free = (i) => {
      const [left, top] = [Math.floor(across(i) / side), Math.floor(down(i) / side)];
      for (let a = left - 1; a <= left + 1; a++)
        for (let b = top - 1; b <= top + 1; b++) {
          const j = taken.get(`${a},${b}`);
          if (j !== undefined && Math.abs(across(i) - across(j)) < side && Math.abs(down(i) - down(j)) < side) return false;
        }
      taken.set(`${left},${top}`, i);
      return true;
    };
    const pictured = seen.filter((i) => i < data.pictures && alpha(i) === 1).sort((a, b) => a - b);
    for (const i of sheet.complete ? pictured : []) {
      if (!free(i)) continue;
      const [left, top] = [across(i) - 14, down(i) - 14];
      scene.lineWidth = labels[i] === focus ? 5 : 2;
      scene.globalAlpha = 1;
      scene.strokeStyle = colour(i);
      scene.strokeRect(left - 1, top - 1, 30, 30);
      fromSheet(scene, i, left, top, 28);
    }
    if (marked < 0) return;
    scene.globalAlpha = 1;
    scene.strokeStyle = named("ink");
    scene.lineWidth = 2;
    scene.strokeRect(across(marked) - 18, down(marked) - 18, 36, 36);
  }

  function mark(left, top, reach = 20) {
    let [best, least] = [-1, reach ** 2];
    for (let i = 0; i < x.length; i++) {
      const far = (across(i) - left) ** 2 + (down(i) - top) ** 2;
      if (far < least && (picked < 0 || labels[i] === picked)) [best, least] = [i, far];
    }
    if (best === marked) return;
    marked = best;
    canvas.style.cursor = best < 0 ? "grab" : "pointer";
    if (best >= 0) shown.replaceChildren(picture(best), make("span", { textContent: note(best, verdict(best)) }));
    later();
  }

  function move(left, top) {
    view.x = Math.min(1, Math.max(0, view.x - left / width / view.zoom / fill));
    view.y = Math.min(1, Math.max(0, view.y - top / height / view.zoom / fill));
    later();
  }

  // What lies at a place of the screen stays there.
  function zoom(factor, left, top) {
    const next = Math.min(400, Math.max(1, view.zoom * factor));
    const [dx, dy] = [left - width / 2, top - height / 2];
    move(-dx, -dy);
    view.zoom = next;
    move(dx, dy);
    if (next === 1) all();
  }

  function all() {
    view = { x: 0.5, y: 0.5, zoom: 1 };
    later();
  }

  const fingers = new Map();
  let moved = 0;
  canvas.onpointerdown = (event) => {
    if (!fingers.size) moved = 0;
    fingers.set(event.pointerId, event);
    canvas.setPointerCapture(event.pointerId);
  };
  canvas.onpointermove = (event) => {
    const before = fingers.get(event.pointerId);
    if (!before) return mark(event.offsetX, event.offsetY);
    const [left, top] = [event.offsetX - before.offsetX, event.offsetY - before.offsetY];
    moved += Math.hypot(left, top);
    const other = [...fingers.values()].find((one) => one.pointerId !== event.pointerId);
    if (other) {
      const apart = (one) => Math.hypot(one.offsetX - other.offsetX, one.offsetY - other.offsetY);
      zoom(apart(event) / Math.max(apart(before), 1), other.offsetX, other.offsetY);
    } else if (moved > 4) move(left, top);
    fingers.set(event.pointerId, event);
  };
  canvas.onpointerup = (event) => {
    fingers.delete(event.pointerId);
    if (moved > 4) return;
    const before = marked;
    mark(event.offsetX, event.offsetY);
    // A mouse has marked what it points at; a finger marks first, and then enlarges.
    if (marked >= 0 && marked === before) enlarge(marked);
  };
  canvas.onpointercancel = (event) => fingers.delete(event.pointerId);
  canvas.onwheel = (event) => {
    if (view.zoom === 1 && event.deltaY > 0) return; // the page scrolls on
    event.preventDefault();
    zoom(1.002 ** -event.deltaY, event.offsetX, event.offsetY);
  };
  canvas.onkeydown = (event) => {
    const step = { ArrowLeft: [40, 0], ArrowRight: [-40, 0], ArrowUp: [0, 40], ArrowDown: [0, -40] }[event.key];
    const factor = { "+": 1.6, "=": 1.6, "-": 1 / 1.6 }[event.key];
    if (event.key === "Enter" && marked >= 0) enlarge(marked);
    else if (event.key === "0") all();
    else if (step) move(...step);
    else if (factor) zoom(factor, ...middle());
    else return;
    event.preventDefault();
    if (step || factor) mark(...middle(), Infinity);
  };
  figure.replaceChildren(tools, canvas, shown);
  new ResizeObserver(later).observe(canvas);
  dark.onchange = later;
  sheet.onload = later;
}

if (data.x) atlas(document.querySelector("figure.map"));
show();
