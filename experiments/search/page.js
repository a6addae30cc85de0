"use strict";
const MOST_BYTES = 20e6, MOST_FILES = 20;
const byId = (id) => document.getElementById(id);
const drop = byId("drop"), file = byId("file"), examples = byId("examples");
const status = byId("status"), sections = byId("queries"), controls = byId("controls");
const [k, least, label] = ["k", "least", "label"].map(byId);
let about, queries = []; // each a row of the index or a file, its section and what it found

function say(words, where = status, wrong = false) {
  where.textContent = words;
  where.classList.toggle("wrong", wrong);
}

function make(tag, properties, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

// An image of the index: a click on it searches from it.
function item({row, label, path, similarity}, alt) {
  const searched = make("a", {href: address([{row}]), title: "Search from this image"},
    make("img", {src: `/image/${row}`, alt: `${alt}: ${label ?? path}`}));
  searched.onclick = (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    show([{row}]);
  };
  const lines = [searched];
  if (label !== null) lines.push(make("strong", {textContent: label}));
  if (similarity !== undefined) lines.push(make("span", {textContent: `cosine ${similarity.toFixed(3)}`}));
  lines.push(make("span", {textContent: path}));
  const tools = make("span", {}, make("a", {href: `/large/${row}`, target: "_blank", textContent: "open"}));
  tools.append(make("button", {type: "button", textContent: "add", title: "Search from this image too",
    onclick: () => show([...queries, {row}])}));
  if (navigator.clipboard) { // which is there for this machine alone
    const copy = make("button", {type: "button", textContent: "copy path"});
    copy.onclick = () => navigator.clipboard.writeText(path).then(
      () => say(`Copied: ${path}`), (error) => say(`Not copied: ${error.message}.`, status, true));
    tools.append(copy);
  }
  return make("li", {}, ...lines, tools);
}

// The view as an address: the rows that are searched from, and the controls.
function address(list) {
  const words = new URLSearchParams();
  for (const {row} of list) if (row !== undefined) words.append("row", row);
  if (k.value !== String(about.k)) words.set("k", k.value);
  if (least.value !== String(about.least)) words.set("least", least.value);
  if (label.value) words.set("label", label.value);
  return `?${words}`;
}

// Shows queries, of which the last that is new has the focus; files have no address.
function show(list, restored = false) {
  if (!restored) history.pushState(null, "", address(list));
  say("");
  queries = list;
  const fresh = list.filter((query) => !query.section);
  fresh.forEach(search);
  sections.replaceChildren(...list.map((query) => query.section));
  controls.hidden = !list.length;
  if (!list.length || restored) examples.open = !list.length;
  if (!restored) (list.length ? fresh.at(-1)?.head : file)?.focus();
}

function fill({found, said, list}) {
  if (!found) return;
  const word = label.value.toLowerCase();
  const like = found.filter((each) =>
    each.similarity >= Number(least.value) && (each.label ?? "").toLowerCase().includes(word));
  const shown = like.slice(0, Math.max(1, Number(k.value)));
  list.replaceChildren(...shown.map((each, i) => item(each, `Number ${i + 1}`)));
  say(shown.length ? `The ${shown.length} most similar images, nearest first`
    : `None of the ${found.length} most similar images is like that`, said);
}

async function search(query) {
  const {row, image} = query;
  const name = (words) => {
    query.head.textContent = img.alt = query.section.ariaLabel = words;
    remove.ariaLabel = `Remove ${words}`;
  };
  const img = make("img", {src: image ? URL.createObjectURL(image) : `/image/${row}`});
  img.onload = () => image && URL.revokeObjectURL(img.src);
  const remove = make("button", {type: "button", textContent: "remove"});
  remove.onclick = () => {
    const rest = queries.filter((each) => each !== query);
    const next = rest[queries.indexOf(query)] ?? rest.at(-1);
    show(rest);
    next?.head.focus();
  };
  query.head = make("h2", {tabIndex: -1});
  query.said = make("p", {role: "status", textContent: "Searching …"});
  query.list = make("ol", {ariaLabel: "Most similar images"});
  query.section = make("section", {}, make("div", {}, img, query.head, remove), make("div", {}, query.said, query.list));
  name(image ? `Your image, ${image.name}` : `Image ${row}`);
  try {
    if (image?.size > MOST_BYTES) throw new Error("the file is larger than 20 MB");
    const type = image?.type || "application/octet-stream";
    const answer = await (image
      ? fetch("/search", {method: "POST", body: image, headers: {"Content-Type": type}})
      : fetch(`/near/${row}`));
    const content = await answer.json();
    if (!answer.ok) throw new Error(content.error);
    query.found = content.neighbours;
    if (content.query) name([content.query.label, content.query.path].filter(Boolean).join(", "));
    const labels = queries.flatMap(({found}) => found ?? []).map((each) => each.label);
    const named = [...new Set(labels)].filter((each) => each !== null);
    byId("of").hidden = !named.length;
    byId("labels").replaceChildren(...named.map((value) => make("option", {value})));
    fill(query);
  } catch (error) {
    say(error instanceof TypeError ? `The server does not answer (${error.message}).`
      : `Not searched: ${error.message}.`, query.said, true);
  }
}

async function upload(files) {
  if (!files.length) return;
  const images = [...files].slice(0, MOST_FILES).map((image) => ({image}));
  await ready;
  show(images);
  if (files.length > MOST_FILES) say(`The first ${MOST_FILES} of ${files.length} files:`);
}

function restore() {
  const words = new URLSearchParams(location.search);
  k.value = words.get("k") ?? about.k;
  least.value = words.get("least") ?? about.least;
  label.value = words.get("label") ?? "";
  show(words.getAll("row").map((row) => ({row})), true);
}

controls.oninput = () => {
  history.replaceState(null, "", address(queries));
  queries.forEach(fill);
};
controls.onsubmit = (event) => event.preventDefault();
window.onpopstate = restore;
file.onclick = () => { file.value = ""; }; // the same file may be chosen again
file.onchange = () => upload(file.files);
for (const name of ["dragenter", "dragover", "dragleave", "drop"]) {
  document.addEventListener(name, (event) => {
    event.preventDefault();
    drop.classList.toggle("over", name === "dragenter" || name === "dragover");
    if (name === "drop") upload(event.dataTransfer.files);
  });
}
document.addEventListener("paste", (event) => upload(event.clipboardData.files));
const ready = fetch("/about").then((answer) => answer.json()).then((answer) => {
  about = answer;
  k.max = Math.min(about.images, Math.max(100, about.k));
  const classes = about.classes ? ` of ${about.classes.toLocaleString("en")} classes` : "";
  byId("about").textContent =
    `${about.images.toLocaleString("en")} images${classes}, compared by what a network learnt`;
  restore();
  examples.querySelector("ol").append(...about.examples.map((each) => item(each, "Example")));
});
