"use strict";
const MOST_BYTES = 20e6;
const byId = (id) => document.getElementById(id);
const drop = byId("drop"), file = byId("file"), query = byId("query");
const status = byId("status"), list = byId("neighbours"), controls = byId("controls");
const [k, least, label] = ["k", "least", "label"].map(byId);
let asked = 0, about, found = null;

function say(words, wrong = false) {
  status.textContent = words;
  status.className = wrong ? "wrong" : "";
}

function make(tag, properties, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

// An image of the index; a click on it searches from it.
function item({row, label, path, similarity}, alt) {
  const searched = make("a", {href: address(row), title: "Search from this image"},
    make("img", {src: `/image/${row}`, alt: `${alt}: ${label ?? path}`}));
  searched.onclick = (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    history.pushState(null, "", searched.href);
    restore();
  };
  const lines = [searched];
  if (label !== null) lines.push(make("strong", {textContent: label}));
  if (similarity === undefined) return make("li", {}, ...lines);
  lines.push(make("span", {textContent: `cosine ${similarity.toFixed(3)}`}), make("span", {textContent: path}));
  const tools = make("span", {}, make("a", {href: `/large/${row}`, target: "_blank", textContent: "open"}));
  if (navigator.clipboard) { // which is there for this machine alone
    const copy = make("button", {type: "button", textContent: "copy path"});
    copy.onclick = () => navigator.clipboard.writeText(path).then(
      () => say(`Copied: ${path}`), (error) => say(`Not copied: ${error.message}.`, true));
    tools.append(copy);
  }
  return make("li", {}, ...lines, tools);
}

// The view as an address: the row that is searched from, and the controls.
function address(row) {
  const words = new URLSearchParams();
  if (row !== null) words.set("row", row);
  if (k.value !== String(about.k)) words.set("k", k.value);
  if (least.value !== String(about.least)) words.set("least", least.value);
  if (label.value) words.set("label", label.value);
  return `?${words}`;
}

const row = () => new URLSearchParams(location.search).get("row");

function show() {
  controls.hidden = found === null;
  if (found === null) {
    list.replaceChildren(...about.examples.map((each) => item(each, "Example")));
    return say("Or search from one of these:");
  }
  const word = label.value.toLowerCase();
  const like = found.filter((each) =>
    each.similarity >= Number(least.value) && (each.label ?? "").toLowerCase().includes(word));
  const shown = like.slice(0, Math.max(1, Number(k.value)));
  list.replaceChildren(...shown.map((each, i) => item(each, `Number ${i + 1}`)));
  say(shown.length ? `The ${shown.length} most similar images, nearest first`
    : `None of the ${found.length} most similar images is like that`);
}

async function search(picture, alt, request) {
  const turn = ++asked;
  list.replaceChildren();
  URL.revokeObjectURL(query.src);
  query.src = picture;
  query.alt = alt;
  query.hidden = false;
  say("Searching …");
  try {
    const answer = await fetch(...request);
    const content = await answer.json();
    if (turn !== asked) return;
    if (!answer.ok) return say(`Not searched: ${content.error}.`, true);
    found = content.neighbours;
    const labels = [...new Set(found.map((each) => each.label))].filter((each) => each !== null);
    byId("of").hidden = !labels.length;
    byId("labels").replaceChildren(...labels.map((value) => make("option", {value})));
    if (content.query) query.alt = `${content.query.label ?? ""} ${content.query.path}`.trim();
    query.title = query.alt;
    show();
  } catch (error) {
    if (turn === asked) say(`The server does not answer (${error.message}).`, true);
  }
}

async function upload(image) {
  await ready;
  if (image.size > MOST_BYTES) return say("The file is larger than 20 MB.", true);
  history.pushState(null, "", address(null)); // an image of one's own has no address
  const type = image.type || "application/octet-stream";
  search(URL.createObjectURL(image), `Your image, ${image.name}`,
    ["/search", {method: "POST", body: image, headers: {"Content-Type": type}}]);
}

function restore() {
  const words = new URLSearchParams(location.search);
  k.value = words.get("k") ?? about.k;
  least.value = words.get("least") ?? about.least;
  label.value = words.get("label") ?? "";
  if (row() !== null) return search(`/image/${row()}`, "", [`/near/${row()}`]);
  asked++;
  found = null;
  query.hidden = true;
  show();
}

controls.oninput = () => {
  history.replaceState(null, "", address(row()));
  show();
};
controls.onsubmit = (event) => event.preventDefault();
window.onpopstate = restore;
file.addEventListener("change", () => file.files.length && upload(file.files[0]));
for (const name of ["dragenter", "dragover", "dragleave", "drop"]) {
  document.addEventListener(name, (event) => {
    event.preventDefault();
    drop.classList.toggle("over", name === "dragenter" || name === "dragover");
    if (name === "drop" && event.dataTransfer.files.length) upload(event.dataTransfer.files[0]);
  });
}
document.addEventListener("paste", (event) => {
  if (event.clipboardData.files.length) upload(event.clipboardData.files[0]);
});
const ready = fetch("/about").then((answer) => answer.json()).then((answer) => {
  about = answer;
  k.max = Math.min(about.images, Math.max(100, about.k));
  const classes = about.classes ? ` of ${about.classes.toLocaleString("en")} classes` : "";
  byId("about").textContent =
    `${about.images.toLocaleString("en")} images${classes}, compared by what a network learnt`;
  restore();
});
