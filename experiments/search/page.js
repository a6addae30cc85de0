"use strict";
const MOST_BYTES = 20e6;
const byId = (id) => document.getElementById(id);
const drop = byId("drop"), file = byId("file"), query = byId("query");
const status = byId("status"), list = byId("neighbours");
let asked = 0;

function say(words, wrong = false) {
  status.textContent = words;
  status.className = wrong ? "wrong" : "";
}

function element(kind, text) {
  const made = document.createElement(kind);
  made.textContent = text;
  return made;
}

function show(neighbour, rank) {
  const item = document.createElement("li");
  const image = document.createElement("img");
  image.src = `/image/${neighbour.row}`;
  image.alt = `Number ${rank}: ${neighbour.label ?? neighbour.path}`;
  item.append(image);
  if (neighbour.label !== null) item.append(element("strong", neighbour.label));
  item.append(element("span", `cosine ${neighbour.similarity.toFixed(3)}`));
  item.append(element("span", neighbour.path));
  list.append(item);
}

async function search(image) {
  const turn = ++asked;
  list.replaceChildren();
  URL.revokeObjectURL(query.src);
  query.src = URL.createObjectURL(image);
  query.alt = `Your image, ${image.name}`;
  query.hidden = false;
  if (image.size > MOST_BYTES) return say("The file is larger than 20 MB.", true);
  say("Searching …");
  try {
    const type = image.type || "application/octet-stream";
    const answer = await fetch("/search", {
      method: "POST", body: image, headers: {"Content-Type": type},
    });
    const found = await answer.json();
    if (turn !== asked) return;
    if (!answer.ok) return say(`Not searched: ${found.error}.`, true);
    say(`The ${found.neighbours.length} most similar images, nearest first`);
    found.neighbours.forEach((each, i) => show(each, i + 1));
  } catch (error) {
    if (turn === asked) say(`The server does not answer (${error.message}).`, true);
  }
}

file.addEventListener("change", () => file.files.length && search(file.files[0]));
for (const name of ["dragenter", "dragover", "dragleave", "drop"]) {
  document.addEventListener(name, (event) => {
    event.preventDefault();
    drop.classList.toggle("over", name === "dragenter" || name === "dragover");
    if (name === "drop" && event.dataTransfer.files.length) search(event.dataTransfer.files[0]);
  });
}
document.addEventListener("paste", (event) => {
  if (event.clipboardData.files.length) search(event.clipboardData.files[0]);
});
fetch("/about").then((answer) => answer.json()).then((about) => {
  const classes = about.classes ? ` of ${about.classes.toLocaleString("en")} classes` : "";
  byId("about").textContent =
    `${about.images.toLocaleString("en")} images${classes}, compared by what a network learnt`;
});
