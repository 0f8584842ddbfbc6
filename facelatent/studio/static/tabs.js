// The open faces, one tab each, and the faces in the photo of the one that is shown.

import * as api from "./api.js";

const place = document.getElementById("faces");
const persons = document.getElementById("persons");
const tabs = new Map();

const title = (state) => (state.number > 1 ? `${state.name} · face ${state.number}` : state.name);

function button(properties, work) {
  const made = Object.assign(document.createElement("button"), { type: "button", ...properties });
  made.addEventListener("click", work);
  return made;
}

// Tabs are changed in place: a focus on one stays while inversions go on.
export function show(states, current, working, onOpen, onClose) {
  for (const [id, tab] of tabs) {
    if (states.some((state) => state.id === id)) continue;
    tab.box.remove();
    tabs.delete(id);
  }
  for (const state of states) {
    if (!tabs.has(state.id)) tabs.set(state.id, makeTab(state.id, onOpen, onClose));
    const { box, name, close } = tabs.get(state.id);
    name.textContent = name.title = title(state);
    name.setAttribute("aria-pressed", state.id === current);
    close.setAttribute("aria-label", `Close ${title(state)}`);
    box.classList.toggle("working", working(state));
  }
}

function makeTab(id, onOpen, onClose) {
  const box = Object.assign(document.createElement("span"), { className: "tab" });
  const name = button({}, () => onOpen(id));
  const close = button({ textContent: "×", className: "close" }, () => onClose(id));
  box.append(name, close);
  place.append(box);
  return { box, name, close };
}

let shown = "";

// Which of the faces in its photo this is; the others can be chosen.
export async function showPeople(state, onChoose) {
  const key = `${state.id} ${state.in_photo}`;
  if (key === shown) return;
  shown = key;
  document.getElementById("people").hidden = state.in_photo < 2;
  const numbers = Array.from({ length: state.in_photo > 1 ? state.in_photo : 0 }, (_, index) => index + 1);
  const pictures = await Promise.all(numbers.map((number) => api.thumbnail(state.id, number)));
  if (key !== shown) return;
  persons.replaceChildren(...numbers.map((number) => makePerson(state, number, pictures[number - 1], onChoose)));
}

function makePerson(state, number, picture, onChoose) {
  const image = Object.assign(document.createElement("img"), { alt: "", src: URL.createObjectURL(picture) });
  image.addEventListener("load", () => URL.revokeObjectURL(image.src));
  const person = button({ className: "person", title: `Edit face ${number}` }, () => onChoose(number));
  person.setAttribute("aria-label", `Face ${number} of ${state.in_photo}`);
  person.setAttribute("aria-pressed", number === state.number);
  person.append(image);
  return person;
}
